//! The bundle endpoint as OpenSSL and curl see it.

use std::{io::Write as _, path::Path, process::Command};

use sekisho_testkit::TestCa;
use serde_json::Value;

use crate::support::{
    Process, World, node::SEKISHO, openssl, ports, program::program, wait::until,
};

/// An authority with an endpoint at this address.
pub(super) fn authority(world: &World, endpoint: &str) -> Process {
    world.write(
        "authority.yaml",
        &format!(
            "site: a.example\nauthority: {{data: data, socket: api.sock}}\n\
             federation: {{endpoint: {{{endpoint}}}}}\n"
        ),
    );
    let mut command = Command::new(SEKISHO);
    command
        .args(["authority", "-c"])
        .arg(world.file("authority.yaml"));
    let process = Process::start(&mut command);
    process.wait_for("started");
    process
}

fn exported(world: &World, format: &str) -> Vec<u8> {
    let mut command = Command::new(SEKISHO);
    command.args(["bundle", "export", "--format", format, "--socket"]);
    let output = command.arg(world.file("api.sock")).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn openssl_verifies_the_endpoint_by_our_bundle_and_reads_it_by_both_versions() {
    let openssl = program!("openssl");
    let world = World::new();
    let address = ports::free();
    let _authority = authority(&world, &format!("listen: {address}"));
    let bundle = String::from_utf8(exported(&world, "pem")).unwrap();
    world.write("bundle.pem", &bundle);
    let expected: Value = serde_json::from_slice(&exported(&world, "spiffe")).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let file = world.name("bundle.pem");
        let more = [
            version,
            "-CAfile",
            &file,
            "-verify_return_error",
            "-quiet",
            "-verify_quiet",
        ];
        let mut client = openssl::client(&openssl, &world, address, None, &more);
        let mut input = client.input();
        input
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let (line, _) = client.line("the bundle", 0, |line| {
            line.starts_with('{').then(|| line.to_owned())
        });
        let got: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(got["spiffe_refresh_hint"], 300);
        assert_eq!(got["spiffe_sequence"], expected["spiffe_sequence"]);
        let keys = |document: &Value| document["keys"].as_array().unwrap().len();
        assert_eq!(keys(&got), keys(&expected));
    }
    // Anything older is refused.
    let mut old = openssl::client(&openssl, &world, address, None, &["-tls1_1"]);
    assert!(!old.ended().0.success());
    // Whose it is stands in the certificate.
    let mut client = openssl::client(&openssl, &world, address, None, &["-showcerts"]);
    let (_, said) = {
        drop(client.input());
        client.ended()
    };
    world.write("shown.pem", &said);
    let shown = Command::new(&openssl)
        .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
        .arg(world.file("shown.pem"))
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("URI:spiffe://a.example/spire/server"),
        "{shown}"
    );
}

fn curl(program: &Path, world: &World, url: &str, more: &[&str]) -> (String, String) {
    let output = Command::new(program)
        .args(["--silent", "--show-error", "--max-time", "30", "--cacert"])
        .arg(world.file("roots.pem"))
        .args([
            "--write-out",
            "%{http_code} %header{etag} %header{content-type}",
        ])
        .args(more)
        .args(["--output", &world.name("body"), url])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{url}: {told}");
    let body = std::fs::read_to_string(world.file("body")).unwrap_or_default();
    (String::from_utf8(output.stdout).unwrap(), body)
}

#[test]
fn curl_reads_a_web_endpoint_and_asks_again_by_its_tag() {
    let curl_program = program!("curl");
    let world = World::new();
    super::web(&world, &TestCa::new("web.example"));
    let address = ports::free();
    let listen = format!("listen: {address}, profile: https_web, cert: web.pem, key: web.key");
    let _authority = authority(&world, &listen);
    let url = format!("https://localhost:{}/", address.port());
    let curl = |url: &str, more: &[&str]| curl(&curl_program, &world, url, more);
    let (head, body) = curl(&url, &[]);
    let mut words = head.split(' ');
    assert_eq!(words.next(), Some("200"), "{head}");
    let tag = words.next().unwrap().to_owned();
    assert_eq!(words.next(), Some("application/json"));
    let document: Value = serde_json::from_str(&body).unwrap();
    for key in document["keys"].as_array().unwrap() {
        let usage = key["use"].as_str().unwrap();
        assert!(matches!(usage, "x509-svid" | "jwt-svid"), "{key}");
        // What SPIRE is strict about: one certificate, and none for a JWT key.
        let chain = key["x5c"].as_array().map_or(0, Vec::len);
        assert_eq!(
            (chain == 1, key["kid"].is_string()),
            (usage == "x509-svid", usage == "jwt-svid")
        );
    }
    let known = format!("If-None-Match: {tag}");
    let (head, _) = curl(&url, &["--header", &known]);
    assert!(head.starts_with(&format!("304 {tag}")), "{head}");
    let (head, _) = curl(&url, &["--request", "POST"]);
    assert!(head.starts_with("405"), "{head}");
    let (head, _) = curl(&format!("{url}federation/b.example"), &[]);
    assert!(head.starts_with("404"), "{head}");
    // A change is seen, and another authority's number is not: it survives its end.
    let mut command = Command::new(SEKISHO);
    command
        .args(["ca", "prepare", "--socket"])
        .arg(world.file("api.sock"));
    assert!(command.output().unwrap().status.success());
    until("the new CA at the endpoint", || {
        let (head, body) = curl(&url, &["--header", &known]);
        let new: Value = serde_json::from_str(&body).ok()?;
        let rises = new["spiffe_sequence"].as_u64() > document["spiffe_sequence"].as_u64();
        (head.starts_with("200") && rises).then_some(())
    });
}
