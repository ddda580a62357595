//! The SPIFFE Workload API, X.509 and JWT profiles (SPIFFE_Workload_API.md §5, §6), with SPIRE's codes
//! and words.

use std::sync::Arc;

use sekisho_certs::SpiffeId;
use sekisho_spire_api::workload::{
    JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse,
    ValidateJwtsvidRequest, ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse,
    X509svid, X509svidRequest, X509svidResponse, spiffe_workload_api_server::SpiffeWorkloadApi,
};
use tonic::{Request, Response, Status};

use super::{
    caller::{Callers, Selectors},
    validated,
    view::{Made, Messages, View, nobody, stream},
};
use crate::{
    bundle::Bundle,
    entry::Entry,
    jwt::{Tokens, jwks::jwks, validate::validate},
    state::State,
    svid::concatenated,
};

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    callers: Arc<Callers>,
    tokens: Arc<Tokens>,
}

impl Service {
    pub(super) const fn new(callers: Arc<Callers>, tokens: Arc<Tokens>) -> Self {
        Self { callers, tokens }
    }

    /// How a caller's view is taken, for its streams.
    fn views(
        &self,
        selectors: Selectors,
    ) -> impl FnMut(&State) -> Result<View, Status> + Send + 'static {
        let clock = Arc::clone(&self.callers.shared().clock);
        move |state| {
            let view = View::of(state, &selectors, clock.now(), true, &|_| true);
            if view.entries.is_empty() {
                return Err(nobody());
            }
            Ok(view)
        }
    }
}

fn every(_: &Entry) -> bool {
    true
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = Messages<X509svidResponse>;
    type FetchX509BundlesStream = Messages<X509BundlesResponse>;
    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let selectors = self.callers.attest(request.extensions()).await?;
        self.callers.state()?;
        let shared = self.callers.shared().clone();
        let wanted = shared.clone();
        let make = move |view: &View| {
            view.ask_for_missing(&wanted);
            if view.identities.is_empty() {
                return Made::Later;
            }
            Made::Message(x509_svids(view))
        };
        Ok(Response::new(stream(&shared, self.views(selectors), make)))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let selectors = self.callers.attest(request.extensions()).await?;
        self.callers.state()?;
        let mut views = self.views(selectors);
        let bundles = move |state: &State| views(state).map(only_bundles);
        let make = |view: &View| {
            Made::Message(X509BundlesResponse {
                crl: Vec::new(),
                bundles: view.by_id(Bundle::concatenated),
            })
        };
        let messages = stream(self.callers.shared(), bundles, make);
        Ok(Response::new(messages))
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        let asked = request.get_ref();
        // Empty texts are nobody.
        let audience: Vec<String> = {
            let audience = asked.audience.iter();
            audience.filter(|one| !one.is_empty()).cloned().collect()
        };
        if audience.is_empty() {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        let wanted = match asked.spiffe_id.as_str() {
            "" => None,
            text => Some(SpiffeId::new(text).map_err(|error| {
                let error = words(text, &error);
                Status::invalid_argument(format!("invalid requested SPIFFE ID: {error}"))
            })?),
        };
        let selectors = self.callers.attest(request.extensions()).await?;
        let state = self.callers.state()?;
        let now = self.callers.shared().clock.now();
        let view = View::of(&state, &selectors, now, true, &every);
        let wanted = wanted.map(|id| id.to_string());
        let entries = view.entries.iter();
        let entries: Vec<_> = entries
            .filter(|entry| wanted.as_ref().is_none_or(|id| *id == entry.spiffe_id))
            .collect();
        if entries.is_empty() {
            return Err(nobody());
        }
        let mut svids = Vec::with_capacity(entries.len());
        for entry in entries {
            let token = self.tokens.fetch(&state, entry, &audience).await;
            let token = token.map_err(|error| {
                Status::unavailable(format!("could not fetch JWT-SVID: {error}"))
            })?;
            svids.push(Jwtsvid {
                spiffe_id: entry.spiffe_id.clone(),
                svid: token.token.to_string(),
                hint: entry.hint.clone(),
            });
        }
        Ok(Response::new(JwtsvidResponse { svids }))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        let selectors = self.callers.attest(request.extensions()).await?;
        self.callers.state()?;
        let mut views = self.views(selectors);
        let bundles = move |state: &State| views(state).map(only_bundles);
        let make = |view: &View| {
            Made::Message(JwtBundlesResponse {
                bundles: view.by_id(jwks),
            })
        };
        let messages = stream(self.callers.shared(), bundles, make);
        Ok(Response::new(messages))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let asked = request.get_ref();
        if asked.audience.is_empty() {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        if asked.svid.is_empty() {
            return Err(Status::invalid_argument("svid must be specified"));
        }
        let selectors = self.callers.attest(request.extensions()).await?;
        let state = self.callers.state()?;
        let now = self.callers.shared().clock.now();
        let view = View::of(&state, &selectors, now, false, &every);
        let valid = validate(&asked.svid, &asked.audience, &view.bundles(), now);
        let valid = valid.map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(validated::answer(valid, &state.domain)))
    }
}

/// A stream of bundles does not begin again because an SVID was replaced.
fn only_bundles(mut view: View) -> View {
    view.identities.clear();
    view.entries.clear();
    view
}

fn x509_svids(view: &View) -> X509svidResponse {
    let own = view.own.as_ref();
    let own = own.map(|bundle| bundle.concatenated()).unwrap_or_default();
    let identities = view.identities.iter();
    let svids = identities.map(|(entry, signed)| X509svid {
        spiffe_id: entry.spiffe_id.clone(),
        x509_svid: concatenated(&signed.held.chain),
        x509_svid_key: signed.held.key.to_vec(),
        bundle: own.clone(),
        hint: entry.hint.clone(),
    });
    let federated = view.federated.iter();
    X509svidResponse {
        svids: svids.collect(),
        crl: Vec::new(),
        federated_bundles: federated
            .map(|(domain, bundle)| (format!("spiffe://{domain}"), bundle.concatenated()))
            .collect(),
    }
}

/// What is wrong with an ID, in go-spiffe's words where it has a word for it.
fn words(text: &str, error: &sekisho_certs::id::SpiffeIdError) -> String {
    if text.starts_with("spiffe://") {
        error.to_string()
    } else {
        "scheme is missing or invalid".into()
    }
}
