//! By a certificate and possession of its key (SPIRE's `x509pop`): both sides give a nonce, and the
//! key signs them together.

use std::path::Path;

use aws_lc_rs::{
    rand::{self, SystemRandom},
    rsa,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, RSA_PSS_SHA256,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use super::{AttestError, Talk};

/// Its name in the protocol.
pub const TYPE: &str = "x509pop";
/// Bytes of each nonce.
const NONCE: usize = 32;

fn own(problem: impl ToString) -> AttestError {
    AttestError::Own {
        kind: TYPE,
        problem: problem.to_string(),
    }
}

#[derive(Serialize)]
struct Payload {
    certificates: Vec<String>,
}

/// The certificates, leaf first.
///
/// # Errors
/// When the file cannot be read or has none in it.
pub fn payload(cert: &Path) -> Result<Vec<u8>, AttestError> {
    let chain = chain(cert)?;
    let certificates = chain.iter().map(|der| BASE64.encode(der)).collect();
    serde_json::to_vec(&Payload { certificates }).map_err(own)
}

/// The same as they are.
///
/// # Errors
/// As [`payload`].
pub fn chain(cert: &Path) -> Result<Vec<CertificateDer<'static>>, AttestError> {
    let problem = |error: &dyn std::fmt::Display| own(format!("{}: {error}", cert.display()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| problem(&error))?;
    if chain.is_empty() {
        return Err(problem(&"no certificate in it"));
    }
    Ok(chain)
}

/// A signature of the key in a file: ECDSA in DER, or RSA-PSS; with SHA-256.
///
/// # Errors
/// When the key cannot be read, or does not sign.
pub fn signature(key: &Path, message: &[u8]) -> Result<Vec<u8>, AttestError> {
    match Key::read(key, &ECDSA_P256_SHA256_ASN1_SIGNING)? {
        Key::Rsa(pair) => sign_rsa(&pair, message),
        Key::Ecdsa(Ecdsa(pair)) => {
            let signed = pair.sign(&SystemRandom::new(), message);
            let signed = signed.map_err(|_| own("cannot sign"))?;
            Ok(signed.as_ref().to_vec())
        }
    }
}

#[derive(Deserialize)]
struct Nonce {
    nonce: String,
}

#[derive(Deserialize)]
struct Asked {
    rsa_signature: Option<Nonce>,
    ecdsa_signature: Option<Nonce>,
}

/// Signs what the authority asks for.
///
/// # Errors
/// When the key cannot be read or is of another kind than the certificate.
pub(crate) async fn prove(talk: &mut Talk, key: &Path) -> Result<(), AttestError> {
    let challenge = talk.challenge().await?;
    let asked: Asked = serde_json::from_slice(&challenge)
        .map_err(|_| AttestError::Protocol("a challenge that cannot be read"))?;
    // The protocol has the two numbers of a signature apart.
    let key = Key::read(key, &ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let (Some(nonce), wants_rsa) = (match (asked.rsa_signature, asked.ecdsa_signature) {
        (Some(nonce), None) => (Some(nonce), true),
        (None, Some(nonce)) => (Some(nonce), false),
        _ => (None, false),
    }) else {
        return Err(AttestError::Protocol("a challenge for no kind of key"));
    };
    let theirs = BASE64
        .decode(&nonce.nonce)
        .ok()
        .filter(|nonce| nonce.len() == NONCE)
        .ok_or(AttestError::Protocol("a nonce that is not of 32 bytes"))?;
    let mut ours = [0; NONCE];
    rand::fill(&mut ours).map_err(|_| own("no random numbers"))?;
    let message = [theirs.as_slice(), &ours].concat();
    let answer = match (&key, wants_rsa) {
        (Key::Rsa(pair), true) => serde_json::json!({ "rsa_signature": {
            "nonce": BASE64.encode(ours), "signature": BASE64.encode(sign_rsa(pair, &message)?),
        }}),
        (Key::Ecdsa(pair), false) => {
            let (r, s) = pair.sign(&message)?;
            serde_json::json!({ "ecdsa_signature": {
                "nonce": BASE64.encode(ours), "r": BASE64.encode(r), "s": BASE64.encode(s),
            }})
        }
        _ => return Err(own("the key is of another kind than the certificate")),
    };
    talk.respond(answer.to_string().into_bytes()).await
}

fn sign_rsa(pair: &rsa::KeyPair, message: &[u8]) -> Result<Vec<u8>, AttestError> {
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = SystemRandom::new();
    let signed = pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature);
    signed.map_err(|_| own("cannot sign"))?;
    Ok(signature)
}

enum Key {
    Rsa(rsa::KeyPair),
    Ecdsa(Ecdsa),
}

struct Ecdsa(EcdsaKeyPair);

impl Ecdsa {
    fn sign(&self, message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), AttestError> {
        let signature = self
            .0
            .sign(&SystemRandom::new(), message)
            .map_err(|_| own("cannot sign"))?;
        let bytes = signature.as_ref();
        let (r, s) = bytes.split_at(bytes.len() / 2);
        Ok((r.to_vec(), s.to_vec()))
    }
}

impl Key {
    fn read(path: &Path, algorithm: &'static EcdsaSigningAlgorithm) -> Result<Self, AttestError> {
        let problem = |text: &dyn std::fmt::Display| own(format!("{}: {text}", path.display()));
        let key = PrivateKeyDer::from_pem_file(path).map_err(|error| problem(&error))?;
        if let PrivateKeyDer::Pkcs1(der) = &key {
            let pair = rsa::KeyPair::from_der(der.secret_pkcs1_der());
            return pair.map(Self::Rsa).map_err(|error| problem(&error));
        }
        let der = key.secret_der();
        if let Ok(pair) = rsa::KeyPair::from_pkcs8(der) {
            return Ok(Self::Rsa(pair));
        }
        // The protocol has SHA-256 for all curves, and our library that only for this one.
        let pair = match &key {
            PrivateKeyDer::Sec1(_) => EcdsaKeyPair::from_private_key_der(algorithm, der),
            _ => EcdsaKeyPair::from_pkcs8(algorithm, der),
        };
        pair.map(|pair| Self::Ecdsa(Ecdsa(pair)))
            .map_err(|_| problem(&"a P-256 or RSA key is expected"))
    }
}
