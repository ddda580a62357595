//! Against a stand-in over TLS.

use sekisho_testkit::{
    TestCa,
    kube::{StandIn, ok},
};
use zeroize::Zeroizing;

use crate::{KubeError, KubeLogin, KubeServer, Material, http::HttpError};

const LIST: &str = r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":null}"#;

fn server(stand_in: &StandIn) -> KubeServer {
    let folder = stand_in.folder();
    KubeServer::kubelet()
        .at(stand_in.port())
        .with_ca(folder.join("ca.pem"))
        .with_login(KubeLogin::Token(folder.join("token").into()))
}

/// Whether the kubelet's list comes, and if so nothing else is asked.
async fn comes(server: &KubeServer) -> Result<(), KubeError> {
    server.get("/pods", LIST.len() + 1).await.map(drop)
}

#[tokio::test]
async fn only_the_clusters_kubelet_is_believed() {
    let stand_in = StandIn::start(|_| ok(LIST)).await;
    let server = server(&stand_in);
    comes(&server).await.unwrap();
    // The certificate is for this name; at 127.0.0.1 any name will do, and a given one must be it.
    comes(&server.clone().named("localhost")).await.unwrap();
    let named = comes(&server.clone().named("127.0.0.1")).await;
    assert!(matches!(named, Err(KubeError::Connect(..))), "{named:?}");

    let other = stand_in.file("other.pem", &TestCa::new("other.example").pem());
    let strange = server.with_ca(other);
    for server in [strange.clone(), strange.clone().named("localhost")] {
        let refused = comes(&server).await;
        assert!(
            matches!(refused, Err(KubeError::Connect(..))),
            "{refused:?}"
        );
    }
    comes(&strange.dangerously_without_verification())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_token_is_sent_anew_after_a_change_and_must_be_right() {
    let stand_in = StandIn::start(|_| ok(LIST)).await;
    let server = server(&stand_in);
    stand_in.file("token", "another");
    let error = comes(&server).await.unwrap_err();
    assert!(
        matches!(&error, KubeError::Http(HttpError::Status(status)) if *status == 401),
        "{error}"
    );
    stand_in.file("token", "s3cret\n");
    comes(&server).await.unwrap();
    let anonymous = server.with_login(KubeLogin::Anonymous);
    assert!(comes(&anonymous).await.is_err());
}

#[tokio::test]
async fn a_client_certificate_is_shown_in_place_of_a_token() {
    let stand_in = StandIn::start(|_| ok(LIST)).await;
    let issued = TestCa::new("clients.example").issue(&sekisho_testkit::Profile::leaf(""));
    let (certificate, key) = issued.write(stand_in.folder(), "client");
    let server = server(&stand_in).with_login(KubeLogin::Certificate {
        certificate: certificate.into(),
        key: key.clone().into(),
    });
    comes(&server).await.unwrap();
    std::fs::write(&key, "no key").unwrap();
    assert!(
        matches!(comes(&server).await, Err(KubeError::Pem(name, _)) if name == key.display().to_string())
    );
}

#[tokio::test]
async fn a_file_that_is_not_there_and_an_answer_too_long_are_errors() {
    let stand_in = StandIn::start(|_| ok(LIST)).await;
    let server = server(&stand_in);
    let short = server.get("/pods", LIST.len() - 1).await.unwrap_err();
    assert!(
        matches!(short, KubeError::Http(HttpError::TooLong(_))),
        "{short}"
    );
    let gone = server.with_ca("/nowhere/ca.pem");
    assert!(matches!(comes(&gone).await, Err(KubeError::File(..))));
}

#[test]
fn a_token_is_in_no_debug_text_and_goes_nowhere_without_tls() {
    let read_only = KubeServer::kubelet_read_only(10255).with_login(KubeLogin::Token("t".into()));
    assert!(!format!("{read_only:?}").contains("Token"));
    assert_eq!(
        KubeServer::api_server().to_string(),
        "kubernetes.default.svc:443"
    );
    assert_eq!(
        KubeServer::kubelet().named("::1").to_string(),
        "[::1]:10250"
    );
}

#[tokio::test]
async fn what_is_posted_arrives_below_the_prefix_and_201_is_an_answer() {
    let stand_in = StandIn::start(|asked| {
        let told = format!(
            "{} {} {}",
            asked.method,
            asked.path,
            String::from_utf8_lossy(&asked.body)
        );
        sekisho_testkit::kube::answer("201 Created", &told)
    })
    .await;
    let server = server(&stand_in).below("/k8s/clusters/c-1");
    let json = Zeroizing::new(b"{\"a\":1}".to_vec());
    let answer = server.post("/x", json, 1024).await.unwrap();
    assert_eq!(answer, "POST /k8s/clusters/c-1/x {\"a\":1}");
    // Nothing is created by a GET.
    let error = server.get("/x", 1024).await.unwrap_err();
    assert!(matches!(error, KubeError::Http(HttpError::Status(_))) && !error.is_not_found());
}

#[tokio::test]
async fn what_is_in_memory_does_as_well_as_a_file_and_is_in_no_debug_text() {
    let stand_in = StandIn::start(|_| ok(LIST)).await;
    let inline = |text: &str| Material::Inline(Zeroizing::new(text.as_bytes().to_vec()));
    let pem = std::fs::read_to_string(stand_in.folder().join("ca.pem")).unwrap();
    let server = server(&stand_in)
        .with_ca(inline(&pem))
        .with_login(KubeLogin::Token(inline("s3cret\n")));
    comes(&server).await.unwrap();
    assert!(!format!("{server:?}").contains("s3cret"));
    let two_lines = server.with_login(KubeLogin::Token(inline("a\r\nb")));
    assert!(matches!(comes(&two_lines).await, Err(KubeError::Token(_))));
}
