use std::{fs, process::Command};

use rcgen::PKCS_ECDSA_P256_SHA256;
use sekisho_certs::{Svid, TrustBundle, id};

use super::*;

fn domain() -> TrustDomain {
    id::parse_trust_domain("a.example").unwrap()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_800_000_000, 999)
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

fn root() -> X509Ca {
    X509Ca::self_signed(&domain(), key(), now(), DAY).unwrap()
}

fn leaf(ca: &X509Ca, dns_names: &[&str], ttl: Duration) -> (Issued, KeyPair) {
    let key = key();
    let names: Vec<_> = dns_names.iter().map(ToString::to_string).collect();
    let leaf = Leaf {
        id: &id::id_below(&domain(), "/w").unwrap(),
        dns_names: &names,
        public_key: &key.subject_public_key_info(),
        ttl,
    };
    (ca.leaf(&leaf, now()).unwrap(), key)
}

fn pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}

/// What OpenSSL says of a certificate.
fn shown(der: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.pem");
    fs::write(&file, pem(der)).unwrap();
    let openssl = Command::new("openssl")
        .args(["x509", "-noout", "-text", "-nameopt", "RFC2253", "-in"])
        .arg(&file)
        .output()
        .expect("openssl is needed: apt install openssl");
    assert!(openssl.status.success());
    String::from_utf8(openssl.stdout).unwrap()
}

/// Whether OpenSSL finds a path from the first of a chain to a root.
fn verified(chain: &[CertificateDer<'static>], root: &CertificateDer<'static>) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let write = |name, text: String| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file
    };
    let above: String = chain.iter().skip(1).map(|der| pem(der)).collect();
    let mut openssl = Command::new("openssl");
    openssl.args(["verify", "-x509_strict", "-attime", "1800000000", "-CAfile"]);
    openssl.arg(write("root.pem", pem(root)));
    if !above.is_empty() {
        openssl.arg("-untrusted").arg(write("above.pem", above));
    }
    openssl.arg(write("leaf.pem", pem(&chain[0])));
    openssl.output().unwrap().status.success()
}

#[test]
fn an_authority_looks_as_spires_does() {
    let ca = root();
    let text = shown(&ca.chain()[0]);
    let own = X509Certificate::from_der(&ca.chain()[0]).unwrap().1;
    let name = format!("serialNumber={},O=SPIFFE,C=US", own.serial);
    for line in [
        &format!("Issuer: {name}"),
        &format!("Subject: {name}"),
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n",
        "X509v3 Basic Constraints: critical\n                CA:TRUE\n",
        "URI:spiffe://a.example\n",
        "ecdsa-with-SHA256",
        "Not Before: Jan 15 07:59:50 2027 GMT",
        "Not After : Jan 16 08:00:00 2027 GMT",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert!(!text.contains("Authority Key Identifier"), "{text}");
    let id = text
        .split("Subject Key Identifier: ")
        .nth(1)
        .unwrap()
        .trim_start();
    let id = id.lines().next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(id, ca.id());
    TrustBundle::new(domain(), [ca.chain()[0].clone()]).unwrap();
}

#[test]
fn a_leaf_looks_as_spires_does_and_is_an_svid() {
    let ca = root();
    let (issued, key) = leaf(&ca, &["b.example", "a.example"], HOUR);
    assert_eq!(issued.chain.len(), 1, "the root is never sent");
    let text = shown(&issued.chain[0]);
    for line in [
        "Subject: CN=b.example,O=SPIRE,C=US\n",
        "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment, Key Agreement\n",
        "TLS Web Server Authentication, TLS Web Client Authentication\n",
        "X509v3 Basic Constraints: critical\n                CA:FALSE\n",
        "DNS:b.example, DNS:a.example, URI:spiffe://a.example/w\n",
        "X509v3 Subject Key Identifier:",
        "Not Before: Jan 15 07:59:50 2027 GMT",
        "Not After : Jan 15 09:00:00 2027 GMT",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    let above = text
        .split("Authority Key Identifier: ")
        .nth(1)
        .unwrap()
        .trim_start();
    let above = above
        .lines()
        .next()
        .unwrap()
        .replace(':', "")
        .to_lowercase();
    assert_eq!(above.trim_start_matches("keyid"), ca.id());
    let parsed = X509Certificate::from_der(&issued.chain[0]).unwrap().1;
    assert_eq!(parsed.serial.to_string(), issued.serial);
    let until = u64::try_from(parsed.validity().not_after.timestamp()).unwrap();
    assert_eq!(
        issued.not_after,
        SystemTime::UNIX_EPOCH + Duration::from_secs(until)
    );
    assert!(verified(&issued.chain, &ca.chain()[0]));
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Svid::new(issued.chain, key, &sekisho_certs::tls::provider()).unwrap();
}

#[test]
fn nothing_outlives_its_authority_and_an_expired_one_signs_nothing() {
    let ca = root();
    let (issued, _) = leaf(&ca, &[], 2 * DAY);
    assert_eq!(issued.not_after, ca.not_after());
    let key = key();
    let leaf = Leaf {
        id: &id::id_below(&domain(), "/w").unwrap(),
        dns_names: &[],
        public_key: &key.subject_public_key_info(),
        ttl: HOUR,
    };
    let error = ca.leaf(&leaf, ca.not_after()).unwrap_err();
    assert!(matches!(error, IssueError::Expired));
}

#[test]
fn an_authority_below_another_signs_what_the_root_vouches_for() {
    let root = root();
    let below = key();
    let spki = below.subject_public_key_info();
    let made = root.downstream(&domain(), &spki, 1, now(), HOUR).unwrap();
    let text = shown(&made.chain[0]);
    assert!(text.contains("OU=DOWNSTREAM-1,O=SPIFFE,C=US"), "{text}");
    assert!(text.contains("CA:TRUE"));
    let ca = X509Ca::restore(made.chain, below).unwrap();
    let (issued, _) = leaf(&ca, &[], DAY);
    assert_eq!(issued.chain.len(), 2);
    assert_eq!(issued.not_after, ca.not_after());
    assert!(verified(&issued.chain, &root.chain()[0]));
    assert!(!verified(&issued.chain, &self::root().chain()[0]));
}

#[test]
fn an_authority_below_one_of_openssl_keeps_its_name_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // A name in UTF-8 and one in printable letters, as other programs mix them.
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args([
            "-nodes",
            "-days",
            "1000",
            "-utf8",
            "-subj",
            "/C=JP/O=Tōkyō/CN=Root of the site",
        ])
        .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
        .arg("-keyout")
        .arg(at("key"))
        .arg("-out")
        .arg(at("cert"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let text = fs::read_to_string(at("cert")).unwrap();
    let der = CertificateDer::from(pem::parse(text).unwrap().into_contents());
    let key = KeyPair::from_pem(&fs::read_to_string(at("key")).unwrap()).unwrap();
    let root = X509Ca::restore(vec![der.clone()], key).unwrap();
    let (issued, _) = leaf(&root, &[], HOUR);
    let signed = X509Certificate::from_der(&issued.chain[0]).unwrap().1;
    let own = X509Certificate::from_der(&der).unwrap().1;
    assert_eq!(signed.issuer().as_raw(), own.subject().as_raw());
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let ca = root();
    let error = X509Ca::restore(ca.chain().to_vec(), key()).unwrap_err();
    assert!(matches!(error, IssueError::KeyMismatch));
    let error = X509Ca::restore(Vec::new(), key()).unwrap_err();
    assert!(matches!(error, IssueError::Unreadable));
}

#[test]
fn a_ca_by_the_name_of_its_issuer_has_not_signed_itself() {
    let params = |number: u64| {
        let mut params = authority_params(&domain()).unwrap();
        params.distinguished_name = named("SPIFFE").unwrap();
        params.serial_number = Some(number.into());
        params
    };
    let root_key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(params(1), root_key);
    let key = KeyPair::generate().unwrap();
    let certificate = params(2).signed_by(&key, &issuer).unwrap();
    let ca = X509Ca::restore(vec![certificate.der().clone()], key).unwrap();
    let id = id::parse_workload_id("spiffe://a.example/w").unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = Leaf {
        id: &id,
        dns_names: &[],
        public_key: &key.subject_public_key_info(),
        ttl: Duration::from_secs(60),
    };
    let issued = ca.leaf(&leaf, sekisho_testkit::clock::present()).unwrap();
    assert_eq!(issued.chain.len(), 2);
}
