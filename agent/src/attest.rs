//! Node attestation: this node proves to an authority which one it is.

pub mod evidence;
pub mod join_token;
pub mod k8s_psat;
pub mod x509pop;

use std::{fmt, path::PathBuf, sync::Arc};

use sekisho_certs::TrustDomain;
use sekisho_spire_api::{
    server::agent::{
        AgentX509svidParams, AttestAgentRequest, AttestAgentResponse,
        agent_client::AgentClient,
        attest_agent_request::{Params, Step as Request},
        attest_agent_response::Step as Response,
    },
    types::AttestationData,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};
use zeroize::Zeroizing;

use crate::{
    introducer::Introducer,
    svid::{self, Held, SignedError},
};
pub use evidence::Evidence;

/// Where a join token is.
#[derive(Clone)]
pub enum Token {
    /// In memory.
    Value(Zeroizing<String>),
    /// In a file, which is read for each attempt: a new one may have been put there.
    File(PathBuf),
    /// With whoever started the agent, who makes one for each attempt.
    Asked(Arc<dyn Introducer>),
}

/// How a node proves which one it is.
#[derive(Clone, Debug)]
pub enum NodeAttestor {
    /// By a token, which is good for one attempt.
    JoinToken(Token),
    /// By a certificate and its key.
    X509Pop {
        /// PEM: the leaf, then its intermediates.
        cert: PathBuf,
        /// PEM: PKCS#8, SEC1 or PKCS#1.
        key: PathBuf,
    },
    /// By a token of the agent's own pod.
    K8sPsat {
        /// The cluster, by the name that the authority knows it by.
        cluster: String,
        /// The file with the token, which is read for each attempt. [`k8s_psat::TOKEN`], unless said
        /// otherwise.
        token: PathBuf,
    },
    /// By several pieces together, at sekisho's own authority.
    Evidence(Vec<Evidence>),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("hidden"),
            Self::File(path) => path.fmt(f),
            Self::Asked(introducer) => introducer.fmt(f),
        }
    }
}

/// Why this node is not known to the authority.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// What is to be presented cannot be read or made.
    #[error("{kind}: {problem}")]
    Own {
        /// The kind of attestation.
        kind: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The authority says no. The same again would be refused again.
    #[error("the authority refuses: {} ({:?})", .0.message(), .0.code())]
    Refused(Status),
    /// The authority cannot say now.
    #[error("the authority fails: {} ({:?})", .0.message(), .0.code())]
    Failed(Status),
    /// It answers something else than the protocol has.
    #[error("the authority answers {0}")]
    Protocol(&'static str),
    /// A key or a signing request cannot be made.
    #[error(transparent)]
    Signed(#[from] SignedError),
}

impl AttestError {
    /// Whether the authority wants nothing to do with this node: it has been banned, or what it shows
    /// does not count any more (spire-api.md §3).
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code() == tonic::Code::PermissionDenied)
    }

    /// What a call of the attestation has ended with.
    fn of(status: Status) -> Self {
        use tonic::Code::{FailedPrecondition, InvalidArgument, PermissionDenied, Unimplemented};
        match status.code() {
            FailedPrecondition | InvalidArgument | PermissionDenied | Unimplemented => {
                Self::Refused(status)
            }
            _ => Self::Failed(status),
        }
    }
}

/// What attestation has brought.
#[derive(Debug)]
pub struct Attested {
    /// The agent's own certificate and key.
    pub held: Held,
    /// Whether it may attest again when this is over.
    pub reattestable: bool,
}

/// An attestation that has begun: challenges come, responses go.
#[derive(Debug)]
pub(crate) struct Talk {
    requests: mpsc::Sender<AttestAgentRequest>,
    answers: Streaming<AttestAgentResponse>,
}

impl Talk {
    async fn next(&mut self) -> Result<Response, AttestError> {
        let answer = self.answers.message().await.map_err(AttestError::of)?;
        let step = answer.and_then(|answer| answer.step);
        step.ok_or(AttestError::Protocol("nothing"))
    }

    /// Waits for a challenge.
    pub(crate) async fn challenge(&mut self) -> Result<Vec<u8>, AttestError> {
        match self.next().await? {
            Response::Challenge(challenge) => Ok(challenge),
            Response::Result(_) => Err(AttestError::Protocol("before it has asked for proof")),
        }
    }

    /// Answers it.
    pub(crate) async fn respond(&self, response: Vec<u8>) -> Result<(), AttestError> {
        let step = Some(Request::ChallengeResponse(response));
        // Where the authority has gone, the next answer says why.
        let _ = self.requests.send(AttestAgentRequest { step }).await;
        Ok(())
    }
}

/// Attests over `channel`, on which no certificate was shown, at the authority of `domain`.
///
/// # Errors
/// Each of [`AttestError`]'s variants.
pub async fn attest(
    channel: Channel,
    attestor: &NodeAttestor,
    domain: &TrustDomain,
) -> Result<Attested, AttestError> {
    let request = svid::Request::new(None)?;
    let (kind, payload) = match attestor {
        NodeAttestor::JoinToken(token) => (join_token::TYPE, join_token::payload(token).await?),
        NodeAttestor::X509Pop { cert, .. } => (x509pop::TYPE, x509pop::payload(cert)?),
        NodeAttestor::K8sPsat { cluster, token } => {
            (k8s_psat::TYPE, k8s_psat::payload(cluster, token)?)
        }
        NodeAttestor::Evidence(evidence) => (evidence::TYPE, evidence::payload(evidence)?),
    };
    let mut talk = begin(channel, kind, payload, &request).await?;
    match attestor {
        NodeAttestor::JoinToken(_) | NodeAttestor::K8sPsat { .. } => {}
        NodeAttestor::X509Pop { key, .. } => x509pop::prove(&mut talk, key).await?,
        NodeAttestor::Evidence(all) => {
            evidence::prove(&mut talk, all, &request.public_key(), domain.as_str()).await?;
        }
    }
    let Response::Result(result) = talk.next().await? else {
        return Err(AttestError::Protocol("with a challenge too many"));
    };
    let chain = result.svid.map(|svid| svid.cert_chain).unwrap_or_default();
    Ok(Attested {
        held: request.signed(chain),
        reattestable: result.reattestable,
    })
}

async fn begin(
    channel: Channel,
    kind: &str,
    payload: Vec<u8>,
    request: &svid::Request,
) -> Result<Talk, AttestError> {
    let params = Params {
        data: Some(AttestationData {
            r#type: kind.into(),
            payload,
        }),
        params: Some(AgentX509svidParams {
            csr: request.csr.clone(),
        }),
    };
    let (requests, stream) = mpsc::channel(1);
    let step = Some(Request::Params(params));
    // The receiver is in our hand.
    let _ = requests.send(AttestAgentRequest { step }).await;
    let mut client = AgentClient::new(channel);
    let answers = client.attest_agent(ReceiverStream::new(stream)).await;
    Ok(Talk {
        requests,
        answers: answers.map_err(AttestError::of)?.into_inner(),
    })
}
