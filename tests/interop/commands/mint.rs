//! `sekisho x509 mint` and `sekisho jwt mint`, verified by others.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::admin::Admin;
use crate::support::program::program;

fn said(openssl: &Path, arguments: &[&str]) -> String {
    let output = Command::new(openssl).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text} {output:?}");
    text
}

#[test]
fn openssl_verifies_what_was_minted() {
    let openssl = program!("openssl");
    let admin = Admin::start();
    let name = |file: &str| admin.world.name(file);
    let told = admin.json("x509 mint --id /batch --ttl 20m --dns b.a.example --write @batch");
    assert_eq!(told["spiffe_id"], "spiffe://a.example/batch");
    assert!(told.get("key").is_none(), "the key is in its file alone");
    admin
        .world
        .write("shown.pem", &admin.text("bundle show --format pem"));
    let bundles =
        ["batch/bundle.pem", "shown.pem"].map(|file| fs::read_to_string(name(file)).unwrap());
    assert_eq!(bundles[0], bundles[1]);
    said(
        &openssl,
        &[
            "verify",
            "-CAfile",
            &name("shown.pem"),
            &name("batch/svid.pem"),
        ],
    );
    let text = said(
        &openssl,
        &[
            "x509",
            "-in",
            &name("batch/svid.pem"),
            "-noout",
            "-text",
            "-pubkey",
        ],
    );
    assert!(
        text.contains("URI:spiffe://a.example/batch") && text.contains("DNS:b.a.example"),
        "{text}"
    );
    assert!(
        text.contains("CN = b.a.example") || text.contains("CN=b.a.example"),
        "{text}"
    );
    let key = said(
        &openssl,
        &["pkey", "-in", &name("batch/key.pem"), "-pubout"],
    );
    assert!(text.contains(&key), "the key of the certificate");
    let mode = |file: &str| fs::metadata(name(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("batch/key.pem"), mode("batch/svid.pem"), mode("batch")),
        (0o600, 0o644, 0o700)
    );
    // Another site's CA does not.
    let foreign = Command::new(&openssl)
        .args([
            "verify",
            "-CAfile",
            &name("b.example.pem"),
            &name("batch/svid.pem"),
        ])
        .output()
        .unwrap();
    assert!(!foreign.status.success());
}

#[test]
fn what_is_not_written_is_printed_and_who_may_not_be_is_refused() {
    let admin = Admin::start();
    let text = admin.text("x509 mint --id spiffe://a.example/w");
    for part in [
        "X509-SVID:\n-----BEGIN CERTIFICATE",
        "Private key:\n-----BEGIN PRIVATE KEY",
        "Root CAs:\n-----BEGIN CERTIFICATE",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let one = admin.json("x509 mint --id /w");
    assert!(
        one["key"]
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN PRIVATE KEY")
    );
    for id in ["/spire/server", "spiffe://b.example/w"] {
        let refused = admin.refused(&format!("x509 mint --id {id}"), 1);
        assert!(refused.contains("InvalidArgument"), "{refused}");
        admin.refused(&format!("jwt mint --id {id} --audience x"), 1);
    }
    let long = admin.run("x509 mint --id /w --ttl 3650d --write @w");
    assert!(long.status.success());
    let told = String::from_utf8(long.stderr).unwrap();
    assert!(told.contains("is good for"), "{told}");
    assert!(!admin.authority.said().contains("PRIVATE KEY"));
}

#[test]
fn a_token_says_who_for_whom_and_until_when() {
    let admin = Admin::start();
    let claims = |token: &str| -> Value {
        let body = token.trim().split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
    };
    let told = admin.json("jwt mint --id /w --audience a --audience b --ttl 10m");
    let read = claims(told["token"].as_str().unwrap());
    assert_eq!(read["sub"], "spiffe://a.example/w");
    assert_eq!(read["aud"], serde_json::json!(["a", "b"]));
    assert_eq!(read["exp"], told["expires_at"]);
    assert_eq!(
        read["exp"].as_i64().unwrap() - read["iat"].as_i64().unwrap(),
        600
    );
    let printed = admin.text("jwt mint --id /w --audience a");
    assert_eq!(claims(&printed)["aud"], serde_json::json!(["a"]));
    let written = admin.json("jwt mint --id /w --audience a --write @token");
    assert_eq!(written["token"], Value::Null);
    let file = admin.world.file("token");
    assert_eq!(
        claims(&fs::read_to_string(&file).unwrap())["sub"],
        "spiffe://a.example/w"
    );
    assert_eq!(
        fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let log = admin.authority.said();
    assert!(!log.contains(told["token"].as_str().unwrap()));
}
