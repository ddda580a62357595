//! AttestAgent: one conversation, at whose end stands an agent's SVID.

use std::{net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use sekisho_certs::{SpiffeId, tls};
use sekisho_spire_api::server::agent::{
    AttestAgentRequest, AttestAgentResponse, attest_agent_request, attest_agent_request::Step,
    attest_agent_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{of_token, status, to_svid};
use crate::{
    attest::{AttestError, Attested, Challenge, evidence, join_token, k8s_psat, x509pop},
    ca::{
        certificates,
        csr::Request as Csr,
        issue::{Issued, Leaf},
    },
    core::Core,
    store::{Certificate, Node},
};

/// How long an agent has for each of its messages.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest name of a kind of attestation: it stands in the log.
const KIND: usize = 64;
/// Most bytes of what an agent presents.
const PAYLOAD: usize = 256 * 1024;

/// The answers of one call.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<AttestAgentResponse, Status>> + Send>>;

/// Attests one agent.
pub(super) fn answers(
    core: Arc<Core>,
    from: String,
    address: Option<IpAddr>,
    requests: Streaming<AttestAgentRequest>,
) -> Answers {
    let (sender, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut talk = Talk {
            from,
            address,
            requests,
            sender,
        };
        let outcome = talk.attest(&core).await;
        if let Err(status) = &outcome {
            tracing::warn!(code = ?status.code(), reason = status.message(), "agent not attested");
        }
        // An agent that has gone gets no answer.
        let _ = talk.sender.send(outcome).await;
    });
    Box::pin(ReceiverStream::new(answers))
}

struct Talk {
    /// Who it is, as far as is known: for the audit log.
    from: String,
    /// From where.
    address: Option<IpAddr>,
    requests: Streaming<AttestAgentRequest>,
    sender: mpsc::Sender<Result<AttestAgentResponse, Status>>,
}

impl Talk {
    async fn next(&mut self) -> Result<Step, Status> {
        let message = tokio::time::timeout(PATIENCE, self.requests.message()).await;
        let message =
            message.map_err(|_| Status::deadline_exceeded("no message from the agent"))?;
        let step = message?.and_then(|message| message.step);
        step.ok_or_else(|| Status::invalid_argument("malformed param: missing step"))
    }

    async fn attest(&mut self, core: &Core) -> Result<AttestAgentResponse, Status> {
        let Step::Params(params) = self.next().await? else {
            return Err(Status::invalid_argument("malformed param: missing params"));
        };
        let attest_agent_request::Params { data, params } = params;
        let missing = |what| Status::invalid_argument(format!("malformed param: missing {what}"));
        let data = data.ok_or_else(|| missing("attestation data"))?;
        let csr = params.ok_or_else(|| missing("X509-SVID parameters"))?.csr;
        if data.r#type.is_empty() {
            return Err(missing("attestation data type"));
        }
        if data.r#type.len() > KIND {
            return Err(Status::invalid_argument(
                "malformed param: attestation data type is too long",
            ));
        }
        if data.payload.is_empty() {
            return Err(missing("attestation data payload"));
        }
        if data.payload.len() > PAYLOAD {
            return Err(Status::invalid_argument(
                "attestation data payload is too large",
            ));
        }
        if csr.is_empty() {
            return Err(missing("CSR"));
        }
        let parse = |csr: &[u8]| {
            Csr::parse(csr)
                .map_err(|error| Status::invalid_argument(format!("failed to parse CSR: {error}")))
        };
        if let (evidence::TYPE, Some(setting)) = (&*data.r#type, &core.settings.attestors.evidence)
        {
            // What is shown is bound to the key, which is therefore read first.
            let csr = parse(&csr)?;
            let attested = self.weigh(core, setting, &data.payload, &csr).await?;
            return core.admit(evidence::TYPE, attested, &csr).await;
        }
        let attested = self.prove(core, &data.r#type, &data.payload).await?;
        // As SPIRE does: a token is used up by then.
        core.admit(&data.r#type, attested, &parse(&csr)?).await
    }

    async fn weigh(
        &mut self,
        core: &Core,
        setting: &evidence::Setting,
        payload: &[u8],
        csr: &Csr,
    ) -> Result<Attested, Status> {
        let own = certificates(&core.ca.bundle().borrow());
        let with = evidence::With {
            setting,
            domain: &core.settings.domain,
            own: &own,
            algorithms: tls::provider().signature_verification_algorithms,
            store: &core.store,
            by: core.by(&self.from),
            address: self.address,
        };
        let attested = evidence::attest(payload, &csr.public_key, &with, self).await;
        attested.map_err(|error| error.status())
    }

    async fn prove(&mut self, core: &Core, kind: &str, payload: &[u8]) -> Result<Attested, Status> {
        let settings = &core.settings;
        let attestors = &settings.attestors;
        let attested = match (kind, &attestors.x509pop, &attestors.k8s_psat) {
            (join_token::TYPE, ..) if attestors.join_token => {
                let by = core.by(&self.from);
                join_token::attest(payload, &settings.domain, &core.store, by).await
            }
            (x509pop::TYPE, Some(mode), _) => {
                let own = certificates(&core.ca.bundle().borrow());
                let setting = x509pop::Setting {
                    mode,
                    domain: &settings.domain,
                    own: &own,
                    algorithms: tls::provider().signature_verification_algorithms,
                    now: core.now(),
                };
                x509pop::attest(payload, &setting, self).await
            }
            (k8s_psat::TYPE, _, Some(setting)) => {
                k8s_psat::attest(payload, setting, &settings.domain).await
            }
            (other, ..) => {
                return Err(Status::failed_precondition(format!(
                    "error getting node attestor: could not find node attestor type {other:?}"
                )));
            }
        };
        attested.map_err(|error| error.status())
    }
}

#[tonic::async_trait]
impl Challenge for Talk {
    async fn challenge(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, AttestError> {
        let gone = |what: &str| AttestError::Unavailable(what.into());
        let asked = AttestAgentResponse {
            step: Some(attest_agent_response::Step::Challenge(challenge)),
        };
        self.sender
            .send(Ok(asked))
            .await
            .map_err(|_| gone("the agent has gone"))?;
        match self.next().await {
            Ok(Step::ChallengeResponse(response)) => Ok(response),
            Ok(Step::Params(_)) => Err(AttestError::Invalid(
                "malformed param: missing challenge response".into(),
            )),
            Err(status) => Err(gone(status.message())),
        }
    }
}

impl Core {
    /// Signs an agent's SVID.
    pub(super) fn agent_svid(
        &self,
        id: &SpiffeId,
        csr: &Csr,
        ttl: Option<Duration>,
    ) -> Result<Issued, Status> {
        let leaf = Leaf {
            id,
            dns_names: &[],
            public_key: &csr.public_key,
            ttl: ttl.unwrap_or(self.settings.agent_ttl),
        };
        let issued = self.ca.x509().leaf(&leaf, self.now());
        issued.map_err(|error| status::ca("failed to sign agent SVID", &error.into()))
    }

    /// Lets a node in that has attested, in place of what was known of it.
    async fn admit(
        &self,
        kind: &str,
        attested: Attested,
        csr: &Csr,
    ) -> Result<AttestAgentResponse, Status> {
        let Attested {
            id,
            selectors,
            can_reattest,
            ttl,
            reattest_in,
            aliases,
        } = attested;
        let issued = self.agent_svid(&id, csr, ttl)?;
        let node = Node {
            id: id.clone(),
            attestation_type: kind.into(),
            selectors,
            active: Some(Certificate {
                serial: issued.serial.clone(),
                not_after: issued.not_after,
            }),
            next: None,
            can_reattest,
            reattest_at: reattest_in.map(|after| self.now() + after),
            svid_ttl: ttl,
            banned: false,
            version: String::new(),
        };
        let by = self.by(&id.to_string());
        let aliases = aliases.into_iter();
        let entries = aliases.map(|alias| of_token(id.clone(), alias)).collect();
        let admitted = self.store.attest_node(by, node, entries).await;
        let admitted = admitted.map_err(|error| status::store("failed to store agent", &error))?;
        if admitted.is_none() {
            return Err(Status::permission_denied(
                "failed to attest: agent is banned",
            ));
        }
        tracing::info!(%id, attestation = kind, "agent attested");
        let result = attest_agent_response::Result {
            svid: Some(to_svid(&id, &issued, "")),
            reattestable: can_reattest,
        };
        Ok(AttestAgentResponse {
            step: Some(attest_agent_response::Step::Result(result)),
        })
    }
}
