//! `spire.api.server.svid.v1`: what is signed, for agents, servers below and administrators.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sekisho_certs::SpiffeId;
use sekisho_spire_api::{
    server::svid::{
        BatchNewX509svidRequest, BatchNewX509svidResponse, MintJwtsvidRequest, MintJwtsvidResponse,
        MintX509svidRequest, MintX509svidResponse, NewDownstreamX509caRequest,
        NewDownstreamX509caResponse, NewJwtsvidRequest, NewJwtsvidResponse, NewX509svidParams,
        batch_new_x509svid_response, svid_server::Svid as Service,
    },
    types,
};
use tonic::{Code, Request, Response, Status};

use super::{status, wire};
use crate::{
    ca::{
        csr::{CsrError, Request as Csr},
        issue::{Issued, Leaf},
        jwt::Claims,
    },
    caller::Caller,
    core::Core,
    entry::{self, Entry},
    limit::Costly,
};

/// The service.
#[derive(Clone, Debug)]
pub struct SvidService {
    core: Arc<Core>,
    /// Authorities below, since the start: they are told apart by their names.
    downstream: Arc<AtomicU64>,
}

/// An X.509-SVID as it is told.
pub(super) fn to_svid(id: &SpiffeId, issued: &Issued, hint: &str) -> types::X509svid {
    types::X509svid {
        cert_chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
        id: wire::to_id(id),
        expires_at: wire::seconds(issued.not_after),
        hint: hint.into(),
    }
}

/// A lifetime that was asked for, or else the usual.
fn lifetime(asked: Duration, usual: Duration) -> Duration {
    if asked.is_zero() { usual } else { asked }
}

fn bad_csr(error: CsrError) -> Status {
    Status::invalid_argument(format!("failed to parse CSR: {error}"))
}

/// What a token is for: names that are not empty, of which there must be one.
fn audience(sent: Vec<String>) -> Result<Vec<String>, Status> {
    let named: Vec<_> = sent.into_iter().filter(|name| !name.is_empty()).collect();
    if named.is_empty() {
        return Err(Status::invalid_argument(
            "at least one audience is required",
        ));
    }
    Ok(named)
}

impl SvidService {
    /// On the state of an authority.
    #[must_use]
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            downstream: Arc::default(),
        }
    }

    async fn limit(&self, caller: &Caller, what: Costly, count: usize) -> Result<(), Status> {
        self.core.limits.wait(what, caller.address(), count).await
    }

    /// The entries that an agent may have, by their names.
    async fn entries(&self, caller: &Caller) -> Result<HashMap<String, Arc<Entry>>, Status> {
        let (entries, _) = self.core.authorized(caller).await?;
        Ok(entries
            .into_iter()
            .map(|entry| (entry.id.clone(), entry))
            .collect())
    }

    fn x509(&self, entry: &Entry, csr: &[u8]) -> Result<types::X509svid, Status> {
        let csr = Csr::parse(csr).map_err(bad_csr)?;
        let draft = &entry.draft;
        let leaf = Leaf {
            id: &draft.spiffe_id,
            dns_names: &draft.dns_names,
            public_key: &csr.public_key,
            ttl: lifetime(draft.x509_ttl, self.core.settings.x509_ttl),
        };
        let issued = self.core.ca.x509().leaf(&leaf, self.core.now());
        let issued =
            issued.map_err(|error| status::ca("failed to sign X509-SVID", &error.into()))?;
        Ok(to_svid(&draft.spiffe_id, &issued, &draft.hint))
    }

    fn jwt(
        &self,
        id: &SpiffeId,
        audience: &[String],
        ttl: Duration,
        with_id: bool,
        hint: &str,
    ) -> Result<types::Jwtsvid, Status> {
        let claims = Claims {
            id,
            audience,
            issuer: self.core.settings.jwt_issuer.as_deref(),
            with_id,
            ttl: lifetime(ttl, self.core.settings.jwt_ttl),
        };
        let token = self.core.ca.jwt().sign(&claims, self.core.now());
        let token = token.map_err(|error| {
            tracing::error!(%error, "failed to sign JWT-SVID");
            Status::internal(format!("failed to sign JWT-SVID: {error}"))
        })?;
        Ok(types::Jwtsvid {
            token: token.token.to_string(),
            id: wire::to_id(id),
            expires_at: wire::seconds(token.expires_at),
            issued_at: wire::seconds(token.issued_at),
            hint: hint.into(),
        })
    }
}

#[tonic::async_trait]
impl Service for SvidService {
    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let csr = Csr::parse(&request.csr).map_err(bad_csr)?;
        let [uri] = csr.uris.as_slice() else {
            return Err(Status::invalid_argument(
                "CSR URI SAN is required, and no more than one",
            ));
        };
        let domain = &self.core.settings.domain;
        let refused = |error| status::entry("CSR SPIFFE ID is invalid", &error);
        let id = entry::workload_id(uri, domain).map_err(refused)?;
        let names = entry::dns_names(csr.dns_names.clone())
            .map_err(|error| status::entry("CSR DNS name is invalid", &error))?;
        let asked = u64::try_from(request.ttl).unwrap_or_default();
        let leaf = Leaf {
            id: &id,
            dns_names: &names,
            public_key: &csr.public_key,
            ttl: lifetime(Duration::from_secs(asked), self.core.settings.x509_ttl),
        };
        let issued = self
            .core
            .ca
            .x509()
            .minted(&leaf, &csr.subject, self.core.now());
        let issued =
            issued.map_err(|error| status::ca("failed to sign X509-SVID", &error.into()))?;
        self.core.minted(&caller, "x509.mint", &id).await?;
        Ok(Response::new(MintX509svidResponse {
            svid: Some(to_svid(&id, &issued, "")),
        }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let domain = &self.core.settings.domain;
        let sent = wire::own_id("spiffe ID", request.id.as_ref(), domain);
        let id = sent.and_then(|id| entry::workload_id(&id.to_string(), domain));
        let id = id.map_err(|error| status::entry("invalid request", &error))?;
        let audience = audience(request.audience)?;
        let asked = Duration::from_secs(u64::try_from(request.ttl).unwrap_or_default());
        let svid = self.jwt(&id, &audience, asked, false, "")?;
        self.core.minted(&caller, "jwt.mint", &id).await?;
        Ok(Response::new(MintJwtsvidResponse { svid: Some(svid) }))
    }

    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let params = request.into_inner().params;
        if params.is_empty() {
            return Err(Status::invalid_argument("missing parameters"));
        }
        self.limit(&caller, Costly::X509, params.len()).await?;
        let entries = self.entries(&caller).await?;
        let one = |param: NewX509svidParams| {
            let svid = if param.entry_id.is_empty() {
                Err(Status::invalid_argument("missing entry ID"))
            } else {
                match entries.get(&param.entry_id) {
                    Some(entry) => self.x509(entry, &param.csr),
                    None => Err(Status::not_found("entry not found or not authorized")),
                }
            };
            match svid {
                Ok(svid) => batch_new_x509svid_response::Result {
                    status: status::ok(),
                    svid: Some(svid),
                },
                Err(refused) => batch_new_x509svid_response::Result {
                    status: status::of(&refused),
                    svid: None,
                },
            }
        };
        Ok(Response::new(BatchNewX509svidResponse {
            results: params.into_iter().map(one).collect(),
        }))
    }

    async fn new_jwtsvid(
        &self,
        request: Request<NewJwtsvidRequest>,
    ) -> Result<Response<NewJwtsvidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let audience = audience(request.audience)?;
        self.limit(&caller, Costly::Jwt, 1).await?;
        let entries = self.entries(&caller).await?;
        let entry = entries
            .get(&request.entry_id)
            .ok_or_else(|| Status::new(Code::NotFound, "entry not found or not authorized"))?;
        let draft = &entry.draft;
        let (id, with_id) = (&draft.spiffe_id, draft.jwt_id);
        let svid = self.jwt(id, &audience, draft.jwt_ttl, with_id, &draft.hint)?;
        Ok(Response::new(NewJwtsvidResponse { svid: Some(svid) }))
    }

    async fn new_downstream_x509ca(
        &self,
        request: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        let caller = Caller::of(&request)?;
        let entry = caller
            .downstream()
            .ok_or_else(|| Status::internal("caller has no downstream entry"))?;
        self.limit(&caller, Costly::X509, 1).await?;
        let request = request.into_inner();
        let csr = Csr::parse(&request.csr).map_err(bad_csr)?;
        let preferred =
            Duration::from_secs(u64::try_from(request.preferred_ttl).unwrap_or_default());
        let ttl = lifetime(
            preferred,
            lifetime(entry.draft.x509_ttl, self.core.ca.ttl()),
        );
        let number = self.downstream.fetch_add(1, Ordering::Relaxed) + 1;
        let domain = &self.core.settings.domain;
        let signer = self.core.ca.x509();
        let made = signer.downstream(domain, &csr.public_key, number, self.core.now(), ttl);
        let made =
            made.map_err(|error| status::ca("failed to sign downstream CA", &error.into()))?;
        self.core
            .minted(&caller, "ca.downstream", &entry.draft.spiffe_id)
            .await?;
        let bundle = Arc::clone(&self.core.ca.bundle().borrow());
        Ok(Response::new(NewDownstreamX509caResponse {
            ca_cert_chain: made.chain.iter().map(|der| der.to_vec()).collect(),
            x509_authorities: bundle.x509.iter().map(|own| own.der.clone()).collect(),
        }))
    }
}
