//! By several pieces of evidence together (`sekisho_evidence`, docs/adr/0013-evidence.md): sekisho's own
//! authority weighs them by a policy. A SPIRE server does not know it.

use std::path::PathBuf;

pub use sekisho_spire_api::evidence::TYPE;
use sekisho_spire_api::evidence::{
    Asked, Binding, Kind, MOST_PIECES, Offer, Piece, Shown, VERSION, token_key, token_lookup,
};

use super::{AttestError, Talk, Token, join_token, k8s_psat, x509pop};

/// Something that this node can show.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// A token, which is never sent: it keys a proof, and is used up by that.
    JoinToken(Token),
    /// A certificate and its key.
    X509Pop {
        /// PEM: the leaf, then its intermediates.
        cert: PathBuf,
        /// PEM: PKCS#8, SEC1 or PKCS#1.
        key: PathBuf,
    },
    /// A token of the agent's own pod.
    K8sPsat {
        /// The cluster, by the name that the authority knows it by.
        cluster: String,
        /// Where the token is.
        token: PodToken,
    },
}

/// Where a token of the agent's own pod is.
#[derive(Clone, Debug)]
pub enum PodToken {
    /// In a file, which the kubelet keeps fresh. It is the same for every conversation, and the policy is
    /// told that it is not bound to this one.
    File(PathBuf),
    /// Issued for each conversation by the API server.
    Requested(k8s_psat::Api),
}

impl Evidence {
    const fn kind(&self) -> Kind {
        match self {
            Self::JoinToken(_) => Kind::JoinToken,
            Self::X509Pop { .. } => Kind::X509Pop,
            Self::K8sPsat { .. } => Kind::K8sPsat,
        }
    }
}

fn own(problem: impl ToString) -> AttestError {
    AttestError::Own {
        kind: TYPE,
        problem: problem.to_string(),
    }
}

/// What there is to show.
///
/// # Errors
/// Where there is nothing, or more than an authority takes.
pub fn payload(evidence: &[Evidence]) -> Result<Vec<u8>, AttestError> {
    if !(1..=MOST_PIECES).contains(&evidence.len()) {
        return Err(own(format_args!(
            "1 to {MOST_PIECES} pieces can be shown together"
        )));
    }
    let offer = Offer {
        version: VERSION,
        kinds: evidence.iter().map(Evidence::kind).collect(),
    };
    serde_json::to_vec(&offer).map_err(own)
}

/// Shows it, bound to this conversation and to `public_key`, which is to be certified
/// (SubjectPublicKeyInfo, DER).
///
/// # Errors
/// When a piece cannot be read or made.
pub(crate) async fn prove(
    talk: &mut Talk,
    evidence: &[Evidence],
    public_key: &[u8],
    domain: &str,
) -> Result<(), AttestError> {
    let challenge = talk.challenge().await?;
    let asked: Asked = serde_json::from_slice(&challenge)
        .map_err(|_| AttestError::Protocol("a challenge that cannot be read"))?;
    let binding = Binding::new(&asked.nonce, public_key, domain);
    let mut pieces = Vec::with_capacity(evidence.len());
    for one in evidence {
        pieces.push(piece(one, &binding).await?);
    }
    // What serde_json would say of it could quote a token.
    let shown = serde_json::to_vec(&Shown { evidence: pieces });
    let shown = shown.map_err(|_| own("cannot be written"))?;
    talk.respond(shown).await
}

async fn piece(evidence: &Evidence, binding: &Binding) -> Result<Piece, AttestError> {
    Ok(match evidence {
        Evidence::JoinToken(token) => {
            let token = join_token::read(token).await?;
            let token = token.trim();
            Piece::JoinToken {
                lookup: token_lookup(token),
                proof: binding.token_proof(&token_key(token)),
            }
        }
        Evidence::X509Pop { cert, key } => Piece::X509Pop {
            certificates: x509pop::chain(cert)?
                .into_iter()
                .map(|der| der.to_vec())
                .collect(),
            signature: x509pop::signature(key, &binding.message())?,
        },
        Evidence::K8sPsat { cluster, token } => Piece::K8sPsat {
            cluster: cluster.clone(),
            token: match token {
                PodToken::File(path) => k8s_psat::read(path)?.trim().to_owned().into(),
                PodToken::Requested(api) => {
                    k8s_psat::token_request(api, &binding.audience()).await?
                }
            },
        },
    })
}
