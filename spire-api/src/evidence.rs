//! Node attestation by several pieces of evidence together, attestor type [`TYPE`]: an extension beside
//! SPIRE's attestors, over the same call (docs/adr/0013-evidence.md).
//!
//! ```text
//! agent ── params {type: sekisho_evidence, payload: Offer, csr} ──▶ authority
//! agent ◀── challenge: Asked {nonce} ────────────────────────────── authority
//! agent ── challenge_response: Shown {evidence: [Piece, …]} ──────▶ authority
//! agent ◀── result ──────────────────────────────────────────────── authority
//! ```
//! Each piece is bound to the nonce of this conversation, to the key that is to be certified and to the
//! trust domain, by [`Binding`]: what was shown once, or to somebody else, is worth nothing here.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Its name in the protocol.
pub const TYPE: &str = "sekisho_evidence";
/// The version of these messages.
pub const VERSION: u32 = 1;
/// Most pieces of one attestation.
pub const MOST_PIECES: usize = 8;
/// Most bytes of one message.
pub const MOST_BYTES: usize = 256 * 1024;
/// Bytes of a nonce, of a look-up and of a proof.
pub const LENGTH: usize = 32;

/// The kinds of evidence there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A token that an administrator has made: possession is proven, the token is never sent.
    #[serde(rename = "join_token")]
    JoinToken,
    /// A certificate, and a signature by its key.
    #[serde(rename = "x509pop")]
    X509Pop,
    /// A service account token of Kubernetes, issued for this conversation where the agent may ask for
    /// one.
    #[serde(rename = "k8s_psat")]
    K8sPsat,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JoinToken => "join_token",
            Self::X509Pop => "x509pop",
            Self::K8sPsat => "k8s_psat",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an agent has to show. The authority says no before anything is shown that it cannot use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// [`VERSION`].
    pub version: u32,
    /// One for each piece, in their order.
    pub kinds: Vec<Kind>,
}

/// What the authority asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// New for each conversation.
    #[serde(with = "fixed")]
    pub nonce: [u8; LENGTH],
}

/// What the agent shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// As offered.
    pub evidence: Vec<Piece>,
}

/// One piece.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Piece {
    /// See [`Kind::JoinToken`].
    #[serde(rename = "join_token")]
    JoinToken {
        /// By which the authority finds the token: [`token_lookup`].
        #[serde(with = "fixed")]
        lookup: [u8; LENGTH],
        /// [`Binding::token_proof`].
        #[serde(with = "fixed")]
        proof: [u8; LENGTH],
    },
    /// See [`Kind::X509Pop`].
    #[serde(rename = "x509pop")]
    X509Pop {
        /// DER, the leaf first.
        #[serde(with = "list")]
        certificates: Vec<Vec<u8>>,
        /// Over [`Binding::message`]: ECDSA in DER, or RSA-PSS; with SHA-256.
        #[serde(with = "bytes")]
        signature: Vec<u8>,
    },
    /// See [`Kind::K8sPsat`].
    #[serde(rename = "k8s_psat")]
    K8sPsat {
        /// The name of the cluster, as the authority knows it.
        cluster: String,
        /// For [`Binding::audience`], or for one that stays the same.
        #[serde(with = "secret")]
        token: Zeroizing<String>,
    },
}

impl Piece {
    /// Which kind it is of.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::JoinToken { .. } => Kind::JoinToken,
            Self::X509Pop { .. } => Kind::X509Pop,
            Self::K8sPsat { .. } => Kind::K8sPsat,
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({})", self.kind())
    }
}

/// By what a join token is found in an authority's store, which does not have the token itself.
#[must_use]
pub fn token_lookup(token: &str) -> [u8; LENGTH] {
    derived(&[b"sekisho join token lookup\0", token.as_bytes()])
}

/// The key of evidence that proves possession of a join token without showing it.
#[must_use]
pub fn token_key(token: &str) -> Zeroizing<[u8; LENGTH]> {
    Zeroizing::new(derived(&[
        b"sekisho join token evidence\0",
        token.as_bytes(),
    ]))
}

/// What ties evidence to one conversation: a hash of its nonce, of the key to be certified, and of the
/// trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding([u8; LENGTH]);

impl Binding {
    /// `public_key`: SubjectPublicKeyInfo, DER, of the signing request.
    #[must_use]
    pub fn new(nonce: &[u8; LENGTH], public_key: &[u8], domain: &str) -> Self {
        let key = derived(&[public_key]);
        let label = b"sekisho evidence 1\0";
        Self(derived(&[label, nonce, &key, domain.as_bytes()]))
    }

    /// The audience of a token that is issued for this conversation.
    #[must_use]
    pub fn audience(&self) -> String {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sekisho:{hex}")
    }

    /// What a certificate's key signs. SPIRE's `x509pop` signs 64 bytes, half of them given by the
    /// authority: this is of another length, so that neither passes for the other.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        [b"sekisho evidence 1 x509pop\0".as_slice(), &self.0].concat()
    }

    /// Proof of possession of a token: HMAC-SHA256 with [`token_key`].
    #[must_use]
    pub fn token_proof(&self, key: &[u8; LENGTH]) -> [u8; LENGTH] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let mut proof = [0; LENGTH];
        proof.copy_from_slice(hmac::sign(&key, &self.token_message()).as_ref());
        proof
    }

    /// Whether it is that proof; in constant time.
    #[must_use]
    pub fn proves_token(&self, key: &[u8; LENGTH], proof: &[u8; LENGTH]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::verify(&key, &self.token_message(), proof).is_ok()
    }

    fn token_message(&self) -> Vec<u8> {
        [b"sekisho evidence 1 join_token\0".as_slice(), &self.0].concat()
    }
}

/// SHA-256 of all parts. Only the last may be of any length.
fn derived(parts: &[&[u8]]) -> [u8; LENGTH] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; LENGTH];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Base64 in JSON.
mod bytes {
    use base64::Engine as _;

    use super::{BASE64, Deserialize};

    pub(super) fn serialize<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text).map_err(serde::de::Error::custom)
    }
}

/// The same of 32 bytes.
mod fixed {
    use super::{LENGTH, bytes};

    pub(super) fn serialize<S: serde::Serializer>(
        bytes: &[u8; LENGTH],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        bytes::serialize(bytes, to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<[u8; LENGTH], D::Error> {
        let bytes = bytes::deserialize(from)?;
        <[u8; LENGTH]>::try_from(bytes)
            .map_err(|_| serde::de::Error::custom("32 bytes are expected"))
    }
}

/// A list of them.
mod list {
    use base64::Engine as _;

    use super::{BASE64, Deserialize};

    pub(super) fn serialize<S: serde::Serializer>(
        all: &[Vec<u8>],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(all.iter().map(|bytes| BASE64.encode(bytes)))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let decoded = texts.iter().map(|text| BASE64.decode(text));
        decoded
            .collect::<Result<_, _>>()
            .map_err(serde::de::Error::custom)
    }
}

/// Text that is wiped.
mod secret {
    use super::{Deserialize, Zeroizing};

    pub(super) fn serialize<S: serde::Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(from).map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_changes_with_each_thing_it_ties_to() {
        let binding = |nonce, key: &[u8], domain| Binding::new(&[nonce; LENGTH], key, domain);
        let first = binding(1, b"key", "a.example");
        assert_eq!(first, binding(1, b"key", "a.example"));
        for other in [
            binding(2, b"key", "a.example"),
            binding(1, b"yek", "a.example"),
            binding(1, b"key", "b.example"),
        ] {
            assert_ne!(first, other);
            assert_ne!(first.audience(), other.audience());
            assert_ne!(first.message(), other.message());
            let key = token_key("token");
            assert!(first.proves_token(&key, &first.token_proof(&key)));
            assert!(!first.proves_token(&key, &other.token_proof(&key)));
        }
        // SPIRE's own proof of possession signs 64 bytes.
        assert_ne!(first.message().len(), 2 * LENGTH);
    }

    #[test]
    fn messages_are_read_as_they_are_written_and_others_refused() {
        let shown = Shown {
            evidence: vec![
                Piece::JoinToken {
                    lookup: token_lookup("t"),
                    proof: [7; LENGTH],
                },
                Piece::X509Pop {
                    certificates: vec![vec![1, 2], vec![3]],
                    signature: vec![4],
                },
                Piece::K8sPsat {
                    cluster: "campus".into(),
                    token: Zeroizing::new("secret".into()),
                },
            ],
        };
        let text = serde_json::to_string(&shown).unwrap();
        assert_eq!(serde_json::from_str::<Shown>(&text).unwrap(), shown);
        assert!(!format!("{shown:?}").contains("secret"));
        for wrong in [
            r#"{"evidence":[{"type":"tpm"}]}"#,
            r#"{"evidence":[{"type":"join_token","lookup":"AA==","proof":"AA=="}]}"#,
            r#"{"evidence":[{"type":"k8s_psat","cluster":"a","token":"b","extra":1}]}"#,
            r#"{"evidence":[],"more":1}"#,
        ] {
            assert!(serde_json::from_str::<Shown>(wrong).is_err(), "{wrong}");
        }
    }
}
