//! A CA that was there before the store: with its key it becomes the authority that signs, so that
//! whoever knows its certificate goes on believing what is signed.

use std::sync::Arc;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sekisho_certs::Clock;

use super::{
    CaError, CaSettings, belongs,
    issue::{IssueError, X509Ca},
    keys::KeyFolder,
    load::first_x509,
};
use crate::store::{By, Kind, Store};

/// A certificate that a CA has made for itself, and its key.
#[derive(Debug)]
pub struct Given<'a> {
    /// DER.
    pub certificate: CertificateDer<'static>,
    /// PKCS#8; P-256.
    pub key: PrivatePkcs8KeyDer<'a>,
}

/// Takes it up where the store has no authority yet. Whether it is known there now: false where another
/// signs already.
///
/// # Errors
/// When it is the CA of another trust domain, the two do not belong together, the key is none of P-256, or
/// store or disk refuse; then nothing has changed but that the key may lie in the folder.
pub async fn adopt(
    given: Given<'_>,
    settings: &CaSettings,
    store: &Store,
    keys: &KeyFolder,
    clock: &Arc<dyn Clock>,
) -> Result<bool, CaError> {
    belongs(&given.certificate, &settings.domain)?;
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&given.key, &PKCS_ECDSA_P256_SHA256);
    let pair = pair.map_err(IssueError::from)?;
    let ca = X509Ca::restore(vec![given.certificate], pair)?;
    let known = store.authorities(Kind::X509).await?;
    if !known.is_empty() {
        return Ok(known.iter().any(|one| one.id == ca.id()));
    }
    let by = By {
        caller: "authority".into(),
        at: clock.now(),
    };
    first_x509((ca, Vec::new()), settings, store, keys, &by).await?;
    Ok(true)
}
