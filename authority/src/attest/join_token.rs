//! Attestation by a token that an administrator has made (SPIRE's `join_token`).

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use sekisho_certs::{TrustDomain, id};

use super::{AttestError, Attested};
use crate::store::{By, Store, Token};

/// Its name in the protocol.
pub const TYPE: &str = "join_token";
/// Longest token: its agent's ID has to hold it.
const MOST: usize = 1024;

fn derived(label: &[u8], token: &str) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(label);
    context.update(token.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// By what a token is found in the store, which does not have the token itself.
#[must_use]
pub fn lookup(token: &str) -> [u8; 32] {
    derived(b"sekisho join token lookup\0", token)
}

/// The key of evidence that proves possession of a token without showing it.
#[must_use]
pub fn evidence_key(token: &str) -> [u8; 32] {
    derived(b"sekisho join token evidence\0", token)
}

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
    let unknown = || {
        AttestError::Invalid(
            "failed to attest: join token does not exist or has already been used".into(),
        )
    };
    let now = by.at;
    let token = std::str::from_utf8(payload).map_err(|_| unknown())?;
    let taken = store.take_token(by, lookup(token)).await;
    let taken = taken.map_err(|error| AttestError::Unavailable(error.to_string()))?;
    let Token { expires_at, .. } = taken.ok_or_else(unknown)?;
    if expires_at < now {
        return Err(AttestError::Invalid("join token expired".into()));
    }
    Ok(Attested {
        id: agent_id(domain, token)?,
        selectors: BTreeSet::new(),
        can_reattest: false,
        ttl: None,
        reattest_in: None,
    })
}
