//! Attestation by a token that an administrator has made (SPIRE's `join_token`).

use sekisho_certs::{TrustDomain, id};

use super::{AttestError, Attested};
use crate::store::{By, Store, Token};
pub use sekisho_spire_api::evidence::{token_key, token_lookup};

/// Its name in the protocol.
pub const TYPE: &str = "join_token";
/// Longest token: its agent's ID has to hold it.
const MOST: usize = 1024;

/// The ID of the agent that comes by a token.
///
/// # Errors
/// When a SPIFFE ID cannot have it in its path.
pub fn agent_id(domain: &TrustDomain, token: &str) -> Result<sekisho_certs::SpiffeId, AttestError> {
    let path = format!("/spire/agent/{TYPE}/{token}");
    let made = (token.len() <= MOST && !token.contains('/')).then(|| id::id_below(domain, &path));
    match made {
        Some(Ok(id)) => Ok(id),
        _ => Err(AttestError::Invalid(
            "a join token has up to 1024 letters, digits, dots, dashes and underscores".into(),
        )),
    }
}

/// Lets in whoever has a token that is out. It is used up by this, whatever comes of it.
///
/// # Errors
/// When it is not known, has ended, or the store refuses.
pub async fn attest(
    payload: &[u8],
    domain: &TrustDomain,
    store: &Store,
    by: By,
) -> Result<Attested, AttestError> {
    let token = std::str::from_utf8(payload).map_err(|_| unknown())?;
    take(token_lookup(token), store, by).await?;
    Ok(Attested::once(agent_id(domain, token)?))
}

fn unknown() -> AttestError {
    AttestError::Invalid(
        "failed to attest: join token does not exist or has already been used".into(),
    )
}

/// Uses a token up, and says what was known of it.
///
/// # Errors
/// When it is not known, has ended, or the store refuses.
pub async fn take(lookup: [u8; 32], store: &Store, by: By) -> Result<Token, AttestError> {
    let now = by.at;
    let taken = store.take_token(by, lookup).await;
    let taken = taken.map_err(|error| AttestError::Unavailable(error.to_string()))?;
    let token = taken.ok_or_else(unknown)?;
    if token.expires_at < now {
        return Err(AttestError::Invalid("join token expired".into()));
    }
    Ok(token)
}
