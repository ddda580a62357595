//! Attestation by a certificate and possession of its key (SPIRE's `x509pop`).

mod signature;

use std::{collections::BTreeSet, time::SystemTime};

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sekisho_certs::{TrustDomain, hex, id};
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{AttestError, Attested, Challenge, place};
use crate::entry::Selector;
use signature::Key;

/// Its name in the protocol.
pub const TYPE: &str = "x509pop";
/// Most certificates between the leaf and a root.
const INTERMEDIATES: usize = 4;
/// Bytes of each nonce.
const NONCE: usize = 32;

/// Whose certificates count, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Any certificate of these CAs, DER: the agent is named by its fingerprint.
    External {
        /// The CAs.
        roots: Vec<CertificateDer<'static>>,
    },
    /// SVIDs of our own trust domain below `/spire-exchange/`: the agent is named by the rest.
    Spiffe,
}

impl Mode {
    /// Any certificate of these CAs. `Err`: the place of the first that cannot be one.
    ///
    /// # Errors
    /// Where one cannot be used, or there is none: nobody could attest.
    pub fn external(roots: Vec<CertificateDer<'static>>) -> Result<Self, usize> {
        let unusable = |root: &CertificateDer<'_>| webpki::anchor_from_trusted_cert(root).is_err();
        match roots.iter().position(unusable) {
            Some(place) => Err(place),
            None if roots.is_empty() => Err(0),
            None => Ok(Self::External { roots }),
        }
    }
}

/// Base64 in JSON, as Go writes bytes.
mod bytes {
    use base64::Engine as _;

    use super::{BASE64, Deserialize};

    pub(super) fn serialize<S: serde::Serializer>(
        bytes: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
struct Payload {
    certificates: Vec<String>,
}

#[derive(Serialize)]
struct Nonce {
    #[serde(with = "bytes")]
    nonce: Vec<u8>,
}

#[derive(Serialize)]
struct Asked {
    rsa_signature: Option<Nonce>,
    ecdsa_signature: Option<Nonce>,
}

#[derive(Deserialize)]
struct Rsa {
    #[serde(with = "bytes")]
    nonce: Vec<u8>,
    #[serde(with = "bytes")]
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Ecdsa {
    #[serde(with = "bytes")]
    nonce: Vec<u8>,
    #[serde(with = "bytes")]
    r: Vec<u8>,
    #[serde(with = "bytes")]
    s: Vec<u8>,
}

#[derive(Deserialize)]
struct Answered {
    rsa_signature: Option<Rsa>,
    ecdsa_signature: Option<Ecdsa>,
}

/// Any purpose will do: these certificates were made for something else.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// What attestation needs of the authority.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Whose certificates count.
    pub mode: &'a Mode,
    /// Our trust domain.
    pub domain: &'a TrustDomain,
    /// Our own CAs, for [`Mode::Spiffe`].
    pub own: &'a [CertificateDer<'static>],
    /// Signatures that count.
    pub algorithms: WebPkiSupportedAlgorithms,
    /// What time it is.
    pub now: SystemTime,
}

fn invalid(text: impl std::fmt::Display) -> AttestError {
    AttestError::Invalid(format!("x509pop: {text}"))
}

fn denied(text: impl std::fmt::Display) -> AttestError {
    AttestError::Denied(format!("x509pop: {text}"))
}

/// Lets in whoever has the key of a certificate that counts.
///
/// # Errors
/// When what is presented cannot be read, does not count, or possession is not proven.
pub async fn attest(
    payload: &[u8],
    setting: &Setting<'_>,
    talk: &mut dyn Challenge,
) -> Result<Attested, AttestError> {
    let payload: Payload = serde_json::from_slice(payload)
        .map_err(|error| invalid(format_args!("failed to unmarshal data: {}", place(&error))))?;
    if payload.certificates.len() > INTERMEDIATES + 1 {
        return Err(invalid("too many certificates"));
    }
    let chain: Vec<CertificateDer<'static>> = payload
        .certificates
        .iter()
        .map(|text| BASE64.decode(text).map(CertificateDer::from))
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(format_args!("unable to parse certificates: {error}")))?;
    let verified = Verified::of(&chain, setting)?;
    prove(&verified.key()?, talk).await?;
    verified.attested(setting)
}

/// A chain whose path leads to a root that counts. Whoever shows it need not have the key.
struct Verified<'a> {
    der: &'a CertificateDer<'static>,
    leaf: X509Certificate<'a>,
    /// The certificates above the leaf, DER.
    issuers: Vec<Vec<u8>>,
}

impl<'a> Verified<'a> {
    fn of(
        chain: &'a [CertificateDer<'static>],
        setting: &Setting<'_>,
    ) -> Result<Self, AttestError> {
        let der = chain
            .first()
            .ok_or_else(|| invalid("no certificate to attest"))?;
        // What cannot be read is a mistake of whoever made it; what does not verify ends the agent.
        let leaf = parse(der)?;
        let issuers = verify(chain, setting)?;
        Ok(Self { der, leaf, issuers })
    }

    fn key(&self) -> Result<Key<'_>, AttestError> {
        Key::of(&self.leaf).map_err(invalid)
    }

    fn attested(&self, setting: &Setting<'_>) -> Result<Attested, AttestError> {
        Ok(Attested {
            selectors: selectors(&self.leaf, &self.issuers, setting.domain),
            ..Attested::again(agent_id(self.der, &self.leaf, setting)?)
        })
    }
}

/// What a certificate says whose key has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What attestation by it alone would find.
    pub attested: Attested,
    /// The common name of its subject.
    pub common_name: Option<String>,
    /// Its serial number, hexadecimal, even.
    pub serial: String,
    /// SHA-256 of its DER, hexadecimal.
    pub sha256: String,
    /// SHA-1 of the certificates above it, hexadecimal, as in its selectors.
    pub issuers: Vec<String>,
    /// URI names.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// The end of its validity, seconds since 1970.
    pub not_after: i64,
}

/// Verifies a chain, and that the key of its leaf has signed `message`.
///
/// # Errors
/// When what is shown cannot be read, does not count, or was signed by another key.
pub fn show(
    certificates: Vec<Vec<u8>>,
    signature: &[u8],
    message: &[u8],
    setting: &Setting<'_>,
) -> Result<Shown, AttestError> {
    if certificates.len() > INTERMEDIATES + 1 {
        return Err(invalid("too many certificates"));
    }
    let chain: Vec<_> = certificates.into_iter().map(CertificateDer::from).collect();
    let verified = Verified::of(&chain, setting)?;
    if !verified.key()?.has_signed(message, signature) {
        return Err(denied("the signature is not over this conversation"));
    }
    let leaf = &verified.leaf;
    let name = leaf.subject().iter_common_name().next();
    Ok(Shown {
        attested: verified.attested(setting)?,
        common_name: name.and_then(|name| name.as_str().ok()).map(str::to_owned),
        serial: serial(leaf),
        sha256: hex(digest::digest(&digest::SHA256, verified.der).as_ref()),
        issuers: verified.issuers.iter().map(|der| sha1_hex(der)).collect(),
        uris: uris(leaf).into_iter().map(str::to_owned).collect(),
        dns_names: dns_names(leaf),
        not_after: leaf.validity().not_after.timestamp(),
    })
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, AttestError> {
    let (rest, parsed) =
        X509Certificate::from_der(der).map_err(|_| invalid("unable to parse a certificate"))?;
    if rest.is_empty() {
        Ok(parsed)
    } else {
        Err(invalid("unable to parse a certificate"))
    }
}

/// Finds the path to a root that counts. Returns its certificates above the leaf, DER.
fn verify(
    chain: &[CertificateDer<'static>],
    setting: &Setting<'_>,
) -> Result<Vec<Vec<u8>>, AttestError> {
    let refused =
        |error: webpki::Error| denied(format_args!("certificate verification failed: {error}"));
    let roots = match setting.mode {
        Mode::External { roots } => roots,
        Mode::Spiffe => setting.own,
    };
    let anchors: Vec<TrustAnchor<'_>> = roots
        .iter()
        .filter_map(|root| webpki::anchor_from_trusted_cert(root).ok())
        .collect();
    let (leaf, between) = chain
        .split_first()
        .ok_or_else(|| invalid("no certificate"))?;
    let end = EndEntityCert::try_from(leaf).map_err(refused)?;
    let since = setting
        .now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = UnixTime::since_unix_epoch(since);
    let path = end
        .verify_for_usage(
            setting.algorithms.all,
            &anchors,
            between,
            now,
            AnyPurpose,
            None,
            None,
        )
        .map_err(refused)?;
    let usage = parse(leaf)?;
    let signs = usage
        .key_usage()
        .ok()
        .flatten()
        .is_some_and(|usage| usage.value.digital_signature());
    if !signs {
        return Err(denied("leaf certificate is not fit for digital signatures"));
    }
    let mut issuers: Vec<Vec<u8>> = path
        .intermediate_certificates()
        .map(|cert| cert.der().to_vec())
        .collect();
    let anchor = path.anchor();
    // The anchor is what is left of a certificate: which it was is told by subject and key.
    for root in roots {
        if webpki::anchor_from_trusted_cert(root).is_ok_and(|it| {
            it.subject == anchor.subject
                && it.subject_public_key_info == anchor.subject_public_key_info
        }) {
            issuers.push(root.to_vec());
            break;
        }
    }
    Ok(issuers)
}

/// Asks for a signature over both nonces, and verifies it.
async fn prove(key: &Key<'_>, talk: &mut dyn Challenge) -> Result<(), AttestError> {
    let mut nonce = vec![0; NONCE];
    rand::fill(&mut nonce).map_err(|_| AttestError::Unavailable("no random numbers".into()))?;
    let asked = || {
        Some(Nonce {
            nonce: nonce.clone(),
        })
    };
    let is_rsa = key.is_rsa();
    let challenge = Asked {
        rsa_signature: asked().filter(|_| is_rsa),
        ecdsa_signature: asked().filter(|_| !is_rsa),
    };
    let challenge = serde_json::to_vec(&challenge).map_err(invalid)?;
    let response = talk.challenge(challenge).await?;
    let response: Answered = serde_json::from_slice(&response).map_err(|error| {
        invalid(format_args!(
            "unable to unmarshal challenge response: {}",
            place(&error)
        ))
    })?;
    let wrong = || denied("challenge response verification failed");
    let (theirs, signed) = match (response.rsa_signature, response.ecdsa_signature) {
        (Some(rsa), None) if is_rsa => (rsa.nonce, rsa.signature),
        (None, Some(ecdsa)) if !is_rsa => {
            let signed = signature::der(&ecdsa.r, &ecdsa.s).ok_or_else(wrong)?;
            (ecdsa.nonce, signed)
        }
        _ => return Err(wrong()),
    };
    // Of another length, bytes could be moved from one nonce to the other.
    if theirs.len() != NONCE {
        return Err(wrong());
    }
    let good = key.has_signed(&[nonce, theirs].concat(), &signed);
    good.then_some(()).ok_or_else(wrong)
}

fn sha1_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
}

fn uris<'a>(leaf: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let names = leaf.subject_alternative_name().ok().flatten();
    let all = names.map(|names| names.value.general_names.iter());
    all.into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect()
}

fn dns_names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let names = leaf.subject_alternative_name().ok().flatten();
    let all = names.map(|names| names.value.general_names.iter());
    all.into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect()
}

/// Even: two digits for each byte, without the zero byte before a high bit.
fn serial(leaf: &X509Certificate<'_>) -> String {
    let serial = leaf.raw_serial();
    let bare = serial
        .strip_prefix(&[0])
        .filter(|rest| !rest.is_empty())
        .unwrap_or(serial);
    hex(bare)
}

fn agent_id(
    der: &CertificateDer<'_>,
    leaf: &X509Certificate<'_>,
    setting: &Setting<'_>,
) -> Result<sekisho_certs::SpiffeId, AttestError> {
    let rest = match setting.mode {
        Mode::External { .. } => sha1_hex(der),
        Mode::Spiffe => {
            let uris = uris(leaf);
            let [uri] = uris.as_slice() else {
                return Err(denied("valid SVID x509 cert not found"));
            };
            let own = format!("spiffe://{}/spire-exchange/", setting.domain);
            let rest = uri.strip_prefix(&own).ok_or_else(|| {
                denied("x509 cert doesnt match SVID exchange prefix: /spire-exchange/")
            })?;
            rest.to_owned()
        }
    };
    let path = format!("/spire/agent/{TYPE}/{rest}");
    id::id_below(setting.domain, &path).map_err(denied)
}

fn selectors(
    leaf: &X509Certificate<'_>,
    issuers: &[Vec<u8>],
    domain: &TrustDomain,
) -> BTreeSet<Selector> {
    let mut found = BTreeSet::new();
    let mut add = |value: String| {
        found.insert(Selector {
            kind: TYPE.into(),
            value,
        });
    };
    let name = leaf.subject().iter_common_name().next();
    if let Some(name) = name
        .and_then(|name| name.as_str().ok())
        .filter(|name| !name.is_empty())
    {
        add(format!("subject:cn:{name}"));
    }
    for issuer in issuers {
        add(format!("ca:fingerprint:{}", sha1_hex(issuer)));
    }
    add(format!("serialnumber:{}", serial(leaf)));
    for uri in uris(leaf) {
        // `x509pop://<trust domain>/<key>/<value>`.
        let own = format!("x509pop://{domain}/");
        if let Some((key, value)) = uri.strip_prefix(&own).and_then(|rest| rest.split_once('/')) {
            add(format!("san:{key}:{value}"));
        }
    }
    found
}

#[cfg(test)]
mod tests;
