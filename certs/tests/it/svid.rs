//! SVIDs of our own: chain and key in every form that programs write them.

use std::{fs, sync::Arc};

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sekisho_certs::{
    Svid, SvidError, TrustBundle, VerifyError, source::watch_files, tls::provider,
};
use sekisho_testkit::{Issued, KeyKind, KeyUse, Profile, Site, program};

use crate::openssl::{configuration, openssl};

fn svid(issued: Issued) -> Result<Svid, SvidError> {
    Svid::new(issued.chain, issued.key, &provider())
}

#[test]
fn every_kind_of_key_makes_an_svid() {
    let site = Site::new("a.example");
    for kind in [KeyKind::EcP256, KeyKind::Ed25519, KeyKind::Rsa2048] {
        let issued = site.ca().issue_with(&site.leaf("/x"), kind);
        assert_eq!(svid(issued).unwrap().id(), &site.id("/x"));
    }
}

#[test]
fn keys_are_read_in_every_form_that_openssl_writes() {
    if !program::is_there("openssl", "openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let request = "[req]\ndistinguished_name = any\n";
    let profile = Profile::leaf("spiffe://a.example/x");
    let config = configuration(&profile) + request;
    fs::write(folder.path().join("leaf.conf"), config).unwrap();
    let forms: [(&str, &[&str]); 8] = [
        (
            "EC PRIVATE KEY",
            &["ecparam", "-genkey", "-name", "prime256v1"],
        ),
        (
            "EC PRIVATE KEY",
            &["ecparam", "-genkey", "-noout", "-name", "secp384r1"],
        ),
        (
            "PRIVATE KEY",
            &[
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ],
        ),
        (
            "PRIVATE KEY",
            &[
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-384",
            ],
        ),
        ("PRIVATE KEY", &["genpkey", "-algorithm", "ED25519"]),
        (
            "PRIVATE KEY",
            &[
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:3072",
            ],
        ),
        ("RSA PRIVATE KEY", &["genrsa", "-traditional", "2048"]),
        ("PRIVATE KEY", &["genrsa", "2048"]),
    ];
    for (label, arguments) in forms {
        // `genrsa` takes its options before the number of bits.
        let (command, options) = arguments.split_first().unwrap();
        let out = [&[*command, "-out", "x.key"], options].concat();
        openssl(folder.path(), &out);
        let text = fs::read_to_string(folder.path().join("x.key")).unwrap();
        assert!(text.contains(&format!("BEGIN {label}-")), "{arguments:?}");
        let certify = [
            "req",
            "-x509",
            "-new",
            "-key",
            "x.key",
            "-config",
            "leaf.conf",
            "-subj",
            "/CN=x",
            "-extensions",
            "extensions",
            "-out",
            "x.pem",
        ];
        openssl(folder.path(), &certify);
        let supply = read(folder.path());
        let id = supply.map(|svid| svid.id().to_string());
        assert_eq!(id.as_deref(), Ok("spiffe://a.example/x"), "{arguments:?}");
    }
}

/// What [`watch_files`] says of the files in `folder`.
fn read(folder: &std::path::Path) -> Result<Arc<Svid>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let (cert, key) = (folder.join("x.pem"), folder.join("x.key"));
    let supply = watch_files(cert, key, Arc::new(provider()))
        .borrow()
        .clone();
    match &supply.problem {
        None => Ok(Arc::clone(&supply.svids[0])),
        Some(problem) => Err(problem.to_string()),
    }
}

#[test]
fn the_key_of_another_certificate_is_refused() {
    let site = Site::new("a.example");
    for (one, other) in [
        (KeyKind::EcP256, KeyKind::EcP256),
        (KeyKind::EcP256, KeyKind::Ed25519),
        (KeyKind::Rsa2048, KeyKind::EcP256),
    ] {
        let mut issued = site.ca().issue_with(&site.leaf("/x"), one);
        issued.key = site.ca().issue_with(&site.leaf("/x"), other).key;
        assert_eq!(svid(issued).unwrap_err(), SvidError::KeyMismatch);
    }
}

#[test]
fn what_is_no_chain_or_key_is_refused() {
    let site = Site::new("a.example");
    let mut issued = site.svid("/x");
    issued.chain.clear();
    assert_eq!(svid(issued).unwrap_err(), SvidError::Empty);
    let mut issued = site.svid("/x");
    issued.key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(vec![0; 32]));
    assert_eq!(svid(issued).unwrap_err(), SvidError::UnusableKey);
    let mut issued = site.svid("/x");
    issued.chain.push(vec![0; 32].into());
    assert_eq!(svid(issued).unwrap_err(), SvidError::Intermediate(2));
}

#[test]
fn bytes_after_a_certificate_are_refused() {
    let site = Site::new("a.example");
    let mut issued = site.svid("/x");
    issued.chain[0] = [issued.chain[0].as_ref(), &[0]].concat().into();
    let error = svid(issued).unwrap_err();
    assert_eq!(error, SvidError::Leaf(VerifyError::Malformed(1)));
    let ca = [site.ca().der().as_ref(), &[0]].concat();
    assert!(TrustBundle::new(site.domain().clone(), [ca.into()]).is_err());
}

#[test]
fn a_leaf_that_no_peer_would_accept_is_refused() {
    let site = Site::new("a.example");
    let leaf = site.leaf("/x").with_key_usage([KeyUse::KeyEncipherment]);
    let error = svid(site.ca().issue(&leaf)).unwrap_err();
    assert!(matches!(error, SvidError::Leaf(VerifyError::KeyUsage(_))));
    let error = svid(site.ca().issue(&site.leaf("/x").with_uris([]))).unwrap_err();
    assert_eq!(error, SvidError::Leaf(VerifyError::NoSpiffeId));
}

#[test]
fn an_svid_ends_with_the_first_certificate_of_its_chain() {
    let site = Site::new("a.example");
    let middle = Profile::ca("a.example")
        .with_common_name("middle")
        .valid_between(-60, 60);
    let middle = site.ca().intermediate(&middle, KeyKind::EcP256);
    let svid = middle.issue(&site.leaf("/x")).svid();
    let minute = std::time::Duration::from_secs(60);
    let end = site.ca().present() + minute;
    assert_eq!(svid.not_after(), end);
    assert!(svid.is_valid_at(end));
    assert!(!svid.is_valid_at(end + minute / 60));
}

#[test]
fn the_key_is_not_shown() {
    let svid = Site::new("a.example").svid("/x").svid();
    let shown = format!("{svid:?}");
    assert!(shown.contains("spiffe://a.example/x"), "{shown}");
    assert!(!shown.contains("key"), "{shown}");
}
