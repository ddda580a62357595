//! SPIRE's Delegated Identity API: a proxy that may do so asks for the identities of another process,
//! by its pid or its selectors, and for no others than those that are listed for it.

use std::{collections::BTreeSet, sync::Arc};

use sekisho_certs::{IdList, SpiffeId};
use sekisho_spire_api::{
    agent::delegated_identity::{
        FetchJwtsviDsRequest, FetchJwtsviDsResponse, SubscribeToJwtBundlesRequest,
        SubscribeToJwtBundlesResponse, SubscribeToX509BundlesRequest,
        SubscribeToX509BundlesResponse, SubscribeToX509sviDsRequest, SubscribeToX509sviDsResponse,
        X509svidWithKey, delegated_identity_server::DelegatedIdentity,
    },
    types,
};
use tonic::{Request, Response, Status};

use super::{
    caller::{Callers, Selectors},
    view::{Made, Messages, View, nobody, stream},
};
use crate::{
    bundle::Bundle,
    entry::Entry,
    jwt::{Tokens, jwks::jwks},
    selector::Selector,
    state::State,
    svid::Signed,
    workload::Peer,
};

/// Who may ask in another's name, and for whom.
#[derive(Clone, Debug, Default)]
pub struct Delegates(Arc<[(SpiffeId, IdList)]>);

impl Delegates {
    pub(super) fn new(all: Vec<(SpiffeId, IdList)>) -> Self {
        Self(all.into())
    }

    /// For whom a caller with these identities may ask.
    ///
    /// # Errors
    /// `PermissionDenied`, in SPIRE's words.
    pub(super) fn may(&self, state: &State, caller: &Selectors) -> Result<Vec<IdList>, Status> {
        let ids: BTreeSet<&str> = state
            .of(caller)
            .map(|one| one.entry.spiffe_id.as_str())
            .collect();
        if ids.is_empty() {
            return Err(nobody());
        }
        let lists = self.0.iter();
        let lists = lists.filter(|(id, _)| ids.contains(id.to_string().as_str()));
        let lists: Vec<IdList> = lists.map(|(_, list)| list.clone()).collect();
        if lists.is_empty() {
            let text = "caller not configured as an authorized delegate";
            return Err(Status::permission_denied(text));
        }
        Ok(lists)
    }
}

/// Whether an entry may be told to whoever has these lists.
fn told(entry: &Entry, lists: &[IdList]) -> bool {
    let id = entry.parsed_id();
    !entry.admin
        && !entry.downstream
        && id.is_ok_and(|id| lists.iter().any(|list| list.contains(&id)))
}

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    callers: Arc<Callers>,
    tokens: Arc<Tokens>,
    delegates: Delegates,
}

impl Service {
    pub(super) const fn new(
        callers: Arc<Callers>,
        tokens: Arc<Tokens>,
        delegates: Delegates,
    ) -> Self {
        Self {
            callers,
            tokens,
            delegates,
        }
    }

    /// Who calls, if that one is a delegate.
    async fn delegate<T>(&self, request: &Request<T>) -> Result<Selectors, Status> {
        let caller = self.callers.attest(request.extensions()).await?;
        self.delegates.may(&*self.callers.state()?, &caller)?;
        Ok(caller)
    }

    /// Whose identities are asked for.
    async fn asked(&self, selectors: &[types::Selector], pid: i32) -> Result<Selectors, Status> {
        if (pid != 0) != selectors.is_empty() {
            let text = "must provide either selectors or non-zero PID";
            return Err(Status::invalid_argument(text));
        }
        if pid == 0 {
            return parse(selectors).map(Arc::new);
        }
        let gone = |_| Status::not_found("there is no such process");
        let peer = Peer::of_pid(pid).map_err(gone)?;
        self.callers.attest_peer(&peer).await
    }

    /// Views of what `asked` may see, as far as `caller` may ask for it.
    fn views(
        &self,
        caller: Selectors,
        asked: Selectors,
    ) -> impl FnMut(&State) -> Result<View, Status> + Send + 'static {
        let (delegates, clock) = (
            self.delegates.clone(),
            Arc::clone(&self.callers.shared().clock),
        );
        move |state| {
            let lists = delegates.may(state, &caller)?;
            let keep = |entry: &Entry| told(entry, &lists);
            Ok(View::of(state, &asked, clock.now(), false, &keep))
        }
    }

    /// All bundles that the agent has.
    fn bundles<T: Send + 'static>(
        &self,
        caller: Selectors,
        make: impl Fn(&View) -> T + Send + 'static,
    ) -> Messages<T> {
        let delegates = self.delegates.clone();
        let view = move |state: &State| {
            delegates.may(state, &caller)?;
            Ok(View {
                identities: Vec::new(),
                entries: Vec::new(),
                domain: state.domain.to_string(),
                own: state.own_bundle().cloned(),
                federated: state.bundles.clone(),
            })
        };
        stream(self.callers.shared(), view, move |view| {
            Made::Message(make(view))
        })
    }
}

fn parse(selectors: &[types::Selector]) -> Result<BTreeSet<Selector>, Status> {
    let bad = |one: &types::Selector| {
        one.r#type.is_empty() || one.r#type.contains(':') || one.value.is_empty()
    };
    if selectors.iter().any(bad) {
        return Err(Status::invalid_argument(
            "could not parse provided selectors",
        ));
    }
    Ok(selectors.iter().cloned().map(Selector::from).collect())
}

fn wire_id(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain().to_string(),
        path: id.path().into(),
    }
}

fn seconds(time: std::time::SystemTime) -> i64 {
    let since = time.duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

fn with_key(entry: &Entry, signed: &Signed) -> X509svidWithKey {
    X509svidWithKey {
        x509_svid: Some(types::X509svid {
            cert_chain: signed.held.chain.clone(),
            id: Some(wire_id(&signed.id)),
            expires_at: seconds(signed.not_after),
            hint: entry.hint.clone(),
        }),
        x509_svid_key: signed.held.key.to_vec(),
    }
}

#[tonic::async_trait]
impl DelegatedIdentity for Service {
    type SubscribeToX509SVIDsStream = Messages<SubscribeToX509sviDsResponse>;
    type SubscribeToX509BundlesStream = Messages<SubscribeToX509BundlesResponse>;
    type SubscribeToJWTBundlesStream = Messages<SubscribeToJwtBundlesResponse>;

    async fn subscribe_to_x509svi_ds(
        &self,
        request: Request<SubscribeToX509sviDsRequest>,
    ) -> Result<Response<Self::SubscribeToX509SVIDsStream>, Status> {
        let caller = self.delegate(&request).await?;
        let message = request.get_ref();
        let asked = self.asked(&message.selectors, message.pid).await?;
        let shared = self.callers.shared().clone();
        let wanted = shared.clone();
        let make = move |view: &View| {
            view.ask_for_missing(&wanted);
            // What is there but not signed is on its way; nothing at all is an answer.
            if view.identities.is_empty() && !view.entries.is_empty() {
                return Made::Later;
            }
            let identities = view.identities.iter();
            let federates = view.federated.keys();
            Made::Message(SubscribeToX509sviDsResponse {
                x509_svids: identities
                    .map(|(entry, signed)| with_key(entry, signed))
                    .collect(),
                federates_with: federates
                    .map(|domain| format!("spiffe://{domain}"))
                    .collect(),
            })
        };
        let messages = stream(&shared, self.views(caller, asked), make);
        Ok(Response::new(messages))
    }

    async fn subscribe_to_x509_bundles(
        &self,
        request: Request<SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        let caller = self.delegate(&request).await?;
        let messages = self.bundles(caller, |view| SubscribeToX509BundlesResponse {
            ca_certificates: view.by_id(Bundle::concatenated),
        });
        Ok(Response::new(messages))
    }

    async fn fetch_jwtsvi_ds(
        &self,
        request: Request<FetchJwtsviDsRequest>,
    ) -> Result<Response<FetchJwtsviDsResponse>, Status> {
        if request.get_ref().audience.iter().all(String::is_empty) {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        let caller = self.delegate(&request).await?;
        let message = request.get_ref();
        let asked = self.asked(&message.selectors, message.pid).await?;
        let state = self.callers.state()?;
        let view = self.views(caller, asked)(&state)?;
        if view.entries.is_empty() {
            return Err(nobody());
        }
        let mut svids = Vec::with_capacity(view.entries.len());
        for entry in &view.entries {
            let audience = message.audience.iter().filter(|one| !one.is_empty());
            let audience: Vec<String> = audience.cloned().collect();
            let token = self.tokens.fetch(&state, entry, &audience).await;
            let token = token.map_err(|error| {
                Status::unavailable(format!("could not fetch JWT-SVID: {error}"))
            })?;
            let id = entry.parsed_id().ok();
            svids.push(types::Jwtsvid {
                token: token.token.to_string(),
                id: id.as_ref().map(wire_id),
                expires_at: seconds(token.expires_at),
                issued_at: seconds(token.issued_at),
                hint: entry.hint.clone(),
            });
        }
        Ok(Response::new(FetchJwtsviDsResponse { svids }))
    }

    async fn subscribe_to_jwt_bundles(
        &self,
        request: Request<SubscribeToJwtBundlesRequest>,
    ) -> Result<Response<Self::SubscribeToJWTBundlesStream>, Status> {
        let caller = self.delegate(&request).await?;
        let messages = self.bundles(caller, |view| SubscribeToJwtBundlesResponse {
            bundles: view.by_id(jwks),
        });
        Ok(Response::new(messages))
    }
}
