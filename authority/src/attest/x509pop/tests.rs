use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
        RsaPssSaltLength, RsaSignatureEncoding,
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    SignatureAlgorithm,
};
use sekisho_certs::tls;
use serde_json::{Value, json};

use super::*;

struct Ca {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn ca() -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let der = params.self_signed(&key).unwrap().der().clone();
    Ca {
        der,
        issuer: Issuer::new(params, key),
    }
}

struct Node {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

fn node(ca: &Ca, algorithm: &'static SignatureAlgorithm, uri: &str, signs: bool) -> Node {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "node-7");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    if signs {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    }
    let der = params.signed_by(&key, &ca.issuer).unwrap().der().clone();
    Node {
        chain: vec![der],
        key,
    }
}

static LIKE_GO: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);

/// How an agent answers.
enum Answer {
    Honest,
    /// With the longest salt, as Go signs.
    LikeGo,
    /// By another key.
    Other,
    /// With this in place of its nonce.
    Nonce(usize),
    /// As if the challenge had been another one.
    Replay,
    Text(&'static str),
}

struct Agent<'a> {
    node: &'a Node,
    answer: Answer,
}

#[tonic::async_trait]
impl Challenge for Agent<'_> {
    async fn challenge(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, AttestError> {
        let challenge: Value = serde_json::from_slice(&challenge).unwrap();
        let is_rsa = challenge["rsa_signature"].is_object();
        assert_ne!(is_rsa, challenge["ecdsa_signature"].is_object());
        let kind = if is_rsa {
            "rsa_signature"
        } else {
            "ecdsa_signature"
        };
        let mut theirs = BASE64
            .decode(challenge[kind]["nonce"].as_str().unwrap())
            .unwrap();
        assert_eq!(theirs.len(), NONCE);
        let mut own = vec![7; NONCE];
        let mut key = self.node.key.serialize_der();
        match self.answer {
            Answer::Honest | Answer::LikeGo => {}
            Answer::Other => {
                let algorithm = self.node.key.algorithm();
                key = KeyPair::generate_for(algorithm).unwrap().serialize_der();
            }
            Answer::Nonce(length) => own = vec![7; length],
            Answer::Replay => theirs = vec![9; NONCE],
            Answer::Text(text) => return Ok(text.into()),
        }
        let message = [theirs, own.clone()].concat();
        let random = SystemRandom::new();
        let signed = if is_rsa {
            let key = RsaKeyPair::from_pkcs8(&key).unwrap();
            let mut signature = vec![0; key.public_modulus_len()];
            let encoding: &dyn RsaEncoding = match self.answer {
                Answer::LikeGo => &LIKE_GO,
                _ => &RSA_PSS_SHA256,
            };
            key.sign(encoding, &random, &message, &mut signature)
                .unwrap();
            json!({ "nonce": BASE64.encode(own), "signature": BASE64.encode(signature) })
        } else {
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let key = EcdsaKeyPair::from_pkcs8(algorithm, &key).unwrap();
            let signature = key.sign(&random, &message).unwrap();
            let (r, s) = signature.as_ref().split_at(32);
            json!({ "nonce": BASE64.encode(own), "r": BASE64.encode(r), "s": BASE64.encode(s) })
        };
        Ok(serde_json::to_vec(&json!({ kind: signed })).unwrap())
    }
}

async fn attested(
    mode: &Mode,
    own: &[CertificateDer<'static>],
    node: &Node,
    answer: Answer,
) -> Result<Attested, AttestError> {
    let domain = id::parse_trust_domain("a.example").unwrap();
    let setting = Setting {
        mode,
        domain: &domain,
        own,
        algorithms: tls::provider().signature_verification_algorithms,
        now: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000),
    };
    let texts: Vec<_> = node.chain.iter().map(|der| BASE64.encode(der)).collect();
    let payload = serde_json::to_vec(&json!({ "certificates": texts })).unwrap();
    attest(&payload, &setting, &mut Agent { node, answer }).await
}

fn external(ca: &Ca) -> Mode {
    Mode::external(vec![ca.der.clone()]).unwrap()
}

#[test]
fn a_root_that_cannot_be_one_is_told() {
    let der = ca().der;
    assert_eq!(Mode::external(Vec::new()), Err(0));
    assert_eq!(
        Mode::external(vec![der, CertificateDer::from(vec![1])]),
        Err(1)
    );
}

#[tokio::test]
async fn whoever_has_the_key_comes_in_under_the_fingerprint() {
    let ca = ca();
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_RSA_SHA256] {
        let node = node(&ca, algorithm, "x509pop://a.example/rack/r1/u7", true);
        let found = attested(&external(&ca), &[], &node, Answer::Honest)
            .await
            .unwrap();
        let fingerprint = sha1_hex(&node.chain[0]);
        let expected = format!("spiffe://a.example/spire/agent/x509pop/{fingerprint}");
        assert_eq!(found.id.to_string(), expected);
        assert!(found.can_reattest);
        let text: Vec<_> = found.selectors.iter().map(ToString::to_string).collect();
        assert!(
            text.contains(&"x509pop:subject:cn:node-7".into()),
            "{text:?}"
        );
        assert!(text.contains(&format!("x509pop:ca:fingerprint:{}", sha1_hex(&ca.der))));
        assert!(text.contains(&"x509pop:san:rack:r1/u7".into()));
        let serial = text
            .iter()
            .find_map(|it| it.strip_prefix("x509pop:serialnumber:"))
            .unwrap();
        assert!(serial.len() % 2 == 0 && !serial.starts_with("00"));
    }
}

#[tokio::test]
async fn an_rsa_signature_as_go_makes_it_counts_too() {
    let ca = ca();
    let node = node(
        &ca,
        &rcgen::PKCS_RSA_SHA256,
        "x509pop://a.example/a/b",
        true,
    );
    attested(&external(&ca), &[], &node, Answer::LikeGo)
        .await
        .unwrap();
}

#[tokio::test]
async fn whoever_lacks_the_key_does_not() {
    let ca = ca();
    let node = node(
        &ca,
        &rcgen::PKCS_ECDSA_P256_SHA256,
        "x509pop://other/a/b",
        true,
    );
    for answer in [
        Answer::Other,
        Answer::Replay,
        Answer::Nonce(31),
        Answer::Nonce(33),
        Answer::Nonce(0),
        Answer::Text("{}"),
        Answer::Text(r#"{"rsa_signature":{"nonce":"","signature":""}}"#),
        Answer::Text(r#"{"ecdsa_signature":{"nonce":"","r":"AA==","s":"AA=="}}"#),
    ] {
        let error = attested(&external(&ca), &[], &node, answer)
            .await
            .unwrap_err();
        assert!(matches!(error, AttestError::Denied(_)), "{error}");
    }
    let error = attested(&external(&ca), &[], &node, Answer::Text("x"))
        .await
        .unwrap_err();
    assert!(matches!(error, AttestError::Invalid(_)));
}

#[tokio::test]
async fn certificates_that_do_not_count_are_refused_before_any_challenge() {
    let (own, other) = (ca(), ca());
    let never = || Answer::Text("never asked");
    let foreign = node(&other, &rcgen::PKCS_ECDSA_P256_SHA256, "spiffe://x/y", true);
    let error = attested(&external(&own), &[], &foreign, never())
        .await
        .unwrap_err();
    assert!(matches!(error, AttestError::Denied(_)), "{error}");
    let unfit = node(&own, &rcgen::PKCS_ECDSA_P256_SHA256, "spiffe://x/y", false);
    let error = attested(&external(&own), &[], &unfit, never())
        .await
        .unwrap_err();
    assert!(matches!(error, AttestError::Denied(_)), "{error}");
    let mut long = node(&own, &rcgen::PKCS_ECDSA_P256_SHA256, "spiffe://x/y", true);
    long.chain = vec![long.chain[0].clone(); INTERMEDIATES + 2];
    let error = attested(&external(&own), &[], &long, never())
        .await
        .unwrap_err();
    assert!(matches!(error, AttestError::Invalid(_)), "{error}");
    long.chain.clear();
    let error = attested(&external(&own), &[], &long, never())
        .await
        .unwrap_err();
    assert!(matches!(error, AttestError::Invalid(_)), "{error}");
}

#[tokio::test]
async fn in_spiffe_mode_our_own_svids_count_below_one_path() {
    let ca = ca();
    let good = "spiffe://a.example/spire-exchange/node/7";
    let node = |uri| node(&ca, &rcgen::PKCS_ECDSA_P256_SHA256, uri, true);
    let own = [ca.der.clone()];
    let found = attested(&Mode::Spiffe, &own, &node(good), Answer::Honest)
        .await
        .unwrap();
    assert_eq!(
        found.id.to_string(),
        "spiffe://a.example/spire/agent/x509pop/node/7"
    );
    for uri in [
        "spiffe://a.example/other/7",
        "spiffe://b.example/spire-exchange/7",
        "spiffe://a.example/spire-exchange/",
        "spiffe://a.example/spire-exchange/../server",
    ] {
        let error = attested(&Mode::Spiffe, &own, &node(uri), Answer::Honest)
            .await
            .unwrap_err();
        assert!(matches!(error, AttestError::Denied(_)), "{uri}: {error}");
    }
}

#[test]
fn a_signature_is_written_as_der_asks() {
    assert_eq!(
        signature::der(&[0, 0, 1], &[0x80]).unwrap(),
        [0x30, 7, 2, 1, 1, 2, 2, 0, 0x80]
    );
    let long = signature::der(&[1; 66], &[1; 66]).unwrap();
    assert_eq!(long[..5], [0x30, 0x81, 136, 2, 66]);
    assert_eq!(signature::der(&[1; 67], &[1]), None);
    assert_eq!(signature::der(&[0], &[1]), None);
}
