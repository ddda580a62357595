//! A member whose bundle is fetched from its endpoint: as SPIRE's sites publish without being asked.

use std::{fs, net::SocketAddr, sync::Arc};

use sekisho_certs::tls;
use sekisho_federation::{
    endpoint::{Asked, Document, Documents, Found, serve},
    oidc::Certificate,
};
use sekisho_testkit::{Profile, TestCa};
use serde_json::json;
use tokio::{net::TcpListener, runtime::Runtime};

use super::keeper::Keeper;

/// The bundle of a site, at `/`.
struct Own(String);

impl Documents for Own {
    async fn find(&self, asked: Asked) -> Found {
        match asked {
            Asked::Own => Found::Document(Document::new(self.0.clone())),
            _ => Found::Nothing,
        }
    }
}

fn start(keeper: &Keeper, ca: &TestCa, runtime: &Runtime) -> SocketAddr {
    let bundle = ca.bundle("spire.example").with_hints(Some(7), None);
    let id = "spiffe://spire.example/spire/server";
    let profile = Profile::leaf(id).with_dns_names(["localhost"]);
    let (cert, key) = ca.issue(&profile).write(&keeper.file(""), "endpoint");
    let crypto = Arc::new(tls::provider());
    let certificate = Certificate::load(cert, key, Arc::clone(&crypto)).unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let own = Arc::new(Own(bundle.to_json().to_string()));
    runtime.spawn(serve(listener, Arc::new(certificate), false, own, crypto));
    address
}

#[test]
fn what_an_endpoint_tells_is_published_by_either_profile() {
    let keeper = Keeper::new(1);
    let ca = TestCa::new("spire.example");
    fs::write(keeper.file("ca.pem"), ca.pem()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let port = start(&keeper, &ca, &runtime).port();
    let endpoint = format!("--endpoint https://localhost:{port}/ --profile");
    let id = "--endpoint-id spiffe://spire.example/spire/server";
    let request = "member request --id spire.example --data @/member --out @/s.request";
    let spiffe = format!("{endpoint} https_spiffe {id} --endpoint-bundle @/ca.pem --advertise");
    // Nothing of it is guessed, and the ID is the one that was named.
    for (options, code, word) in [
        (format!("{endpoint} https_spiffe"), 2, "--endpoint-id"),
        (format!("{endpoint} https_web {id}"), 2, "https_spiffe"),
        (endpoint.replace(" --profile", ""), 2, "--profile"),
        (spiffe.replace("spire/server", "other"), 1, "localhost"),
        (format!("{endpoint} https_web"), 1, "localhost"),
    ] {
        let error = keeper.refused(&format!("{request} {options}"), code);
        assert!(error.contains(word), "{options}: {error}");
    }
    keeper.ok(&format!("{request} {spiffe}"));
    keeper.both("member admit @/s.request @/fed --yes");
    let shown = keeper.ok("member show spire.example @/fed");
    let descriptor = &shown["descriptor"];
    assert_eq!(descriptor["bundle"]["spiffe_sequence"], 7);
    let expected = json!([{
        "url": format!("https://localhost:{port}/"),
        "profile": "https_spiffe",
        "endpoint_spiffe_id": "spiffe://spire.example/spire/server",
    }]);
    assert_eq!(descriptor["endpoints"], expected);
    // By a certificate of the web, whose roots are those of the host.
    let line = format!("publish @/fed --data @/member {endpoint} https_web --json");
    let mut command = keeper.command(&line);
    let output = command
        .env("SSL_CERT_FILE", keeper.file("ca.pem"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&error);
    assert_eq!(said["published"], false, "it is the same: {error}");
}
