//! Envoy's secret discovery service, as SPIRE's agent has it, so that an Envoy configured for SPIRE
//! works unchanged; where SPIRE refuses names together that it answers alone, both are answered.

mod secrets;

use std::{collections::BTreeSet, sync::Arc};

use aws_lc_rs::rand;
use sekisho_certs::hex;
use sekisho_spire_api::envoy::{
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    },
    secret::secret_discovery_service_server::SecretDiscoveryService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    SdsNames,
    caller::{Callers, Selectors},
    view::{Messages, View},
};
use crate::run::Shared;
use secrets::Secrets;

/// More names in one request are a mistake.
const MOST_NAMES: usize = 1000;

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    callers: Arc<Callers>,
    names: SdsNames,
}

impl Service {
    pub(super) const fn new(callers: Arc<Callers>, names: SdsNames) -> Self {
        Self { callers, names }
    }

    async fn attest<T>(&self, request: &Request<T>) -> Result<Selectors, Status> {
        // Whatever it was: Envoy tries again.
        let attested = self.callers.attest(request.extensions()).await;
        attested.map_err(|status| Status::unavailable(status.message()))
    }
}

fn view(shared: &Shared, selectors: &Selectors) -> View {
    let state = Arc::clone(&shared.state.borrow());
    let view = View::of(&state, selectors, shared.clock.now(), false, &|_| true);
    view.ask_for_missing(shared);
    view
}

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type StreamSecretsStream = Messages<DiscoveryResponse>;
    type DeltaSecretsStream = Messages<DeltaDiscoveryResponse>;

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("Method is not implemented"))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let selectors = self.attest(&request).await?;
        self.callers.state()?;
        let (send, messages) = mpsc::channel(1);
        let talk = Talk {
            requests: request.into_inner(),
            send,
            shared: self.callers.shared().clone(),
            selectors,
            names: self.names.clone(),
            asked: None,
            seen: None,
            version: 0,
            nonce: String::new(),
        };
        tokio::spawn(talk.run());
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let selectors = self.attest(&request).await?;
        self.callers.state()?;
        let view = view(self.callers.shared(), &selectors);
        let asked = request.get_ref();
        let resources =
            Secrets::new(&view, &self.names, asked.node.as_ref()).answer(&names(asked)?)?;
        Ok(Response::new(DiscoveryResponse {
            type_url: asked.type_url.clone(),
            resources,
            ..Default::default()
        }))
    }
}

/// The names that are asked for, each once; none stands for everything.
fn names(request: &DiscoveryRequest) -> Result<BTreeSet<String>, Status> {
    if request.resource_names.len() > MOST_NAMES {
        return Err(Status::invalid_argument("more than 1000 names"));
    }
    let names = request.resource_names.iter();
    Ok(names.filter(|name| !name.is_empty()).cloned().collect())
}

/// One stream: what was asked last, and what was sent.
struct Talk {
    requests: Streaming<DiscoveryRequest>,
    send: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    shared: Shared,
    selectors: Selectors,
    names: SdsNames,
    asked: Option<DiscoveryRequest>,
    seen: Option<View>,
    version: u64,
    nonce: String,
}

impl Talk {
    async fn run(mut self) {
        if let Err(status) = self.talk().await {
            tracing::info!(code = ?status.code(), "{}", status.message());
            // Whoever has gone does not need to know.
            let _ = self.send.send(Err(status)).await;
        }
    }

    /// Until the caller has nothing more to say, or goes.
    async fn talk(&mut self) -> Result<(), Status> {
        let mut state = self.shared.state.clone();
        self.look();
        loop {
            let send_now = tokio::select! {
                request = self.requests.message() => match request? {
                    Some(request) => self.take(request)?,
                    None => return Ok(()),
                },
                changed = state.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.look() && self.asked.is_some()
                }
                () = self.send.closed() => return Ok(()),
            };
            if send_now && !self.answer().await? {
                return Ok(());
            }
        }
    }

    /// Looks at what the agent knows; whether the caller sees something new.
    fn look(&mut self) -> bool {
        let view = view(&self.shared, &self.selectors);
        if self.seen.as_ref() == Some(&view) {
            return false;
        }
        self.seen = Some(view);
        self.version += 1;
        true
    }

    /// Takes a request; whether it is to be answered now.
    fn take(&mut self, mut request: DiscoveryRequest) -> Result<bool, Status> {
        if let Some(detail) = &request.error_detail {
            tracing::error!(names = ?request.resource_names, "Envoy does not take secrets: {}", detail.message);
        }
        if !self.nonce.is_empty() && request.response_nonce != self.nonce {
            // An answer to something that was replaced meanwhile.
            return Ok(false);
        }
        // Envoy says who it is in the first request only.
        if request.node.is_none() {
            request.node = self.asked.as_ref().and_then(|before| before.node.clone());
        }
        let before = self.asked.as_ref().map(names).transpose()?;
        let now = names(&request)?;
        let news = before.is_none_or(|before| before != now);
        self.asked = Some(request);
        Ok(news)
    }

    /// Sends what was asked for; whether anybody takes it.
    async fn answer(&mut self) -> Result<bool, Status> {
        let (Some(asked), Some(view)) = (&self.asked, &self.seen) else {
            return Ok(true);
        };
        let names = names(asked)?;
        let resources = Secrets::new(view, &self.names, asked.node.as_ref()).answer(&names)?;
        let mut nonce = [0; 4];
        rand::fill(&mut nonce).map_err(|_| Status::internal("no random numbers"))?;
        self.nonce = hex(&nonce);
        let response = DiscoveryResponse {
            version_info: self.version.to_string(),
            resources,
            canary: false,
            type_url: asked.type_url.clone(),
            nonce: self.nonce.clone(),
        };
        Ok(self.send.send(Ok(response)).await.is_ok())
    }
}
