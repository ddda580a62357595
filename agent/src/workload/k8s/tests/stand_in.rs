//! A kubelet's secure port, in this process.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sekisho_testkit::{Profile, TestCa, danger};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::super::{KubeLogin, KubeServer};

pub(super) const PODS: &str = include_str!("../recorded/pods.json");

/// Serves the name `localhost` to who has the token `s3cret` or a certificate.
pub(super) struct StandIn {
    folder: TempDir,
    port: u16,
    pub(super) asked: Arc<AtomicUsize>,
}

impl StandIn {
    /// `answer` gets the number of the question, from 1, and its path.
    pub(super) async fn start(
        answer: impl Fn(usize, &str) -> String + Send + Sync + 'static,
    ) -> Self {
        let ca = TestCa::new("cluster.example");
        let issued = ca.issue(
            &Profile::leaf("spiffe://cluster.example/kubelet").with_dns_names(["localhost"]),
        );
        let versions = &[&rustls::version::TLS13];
        let acceptor = TlsAcceptor::from(Arc::new(danger::server_config(&issued, versions)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let stand_in = Self {
            folder: tempfile::tempdir().unwrap(),
            port,
            asked: Arc::clone(&asked),
        };
        stand_in.file("ca.pem", &ca.pem());
        stand_in.file("token", "s3cret\n");
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
                let asked = Arc::clone(&asked);
                tokio::spawn(async move {
                    // Who does not believe us goes.
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        request.push(stream.read_u8().await.unwrap());
                    }
                    let request = String::from_utf8(request).unwrap();
                    let known = stream.get_ref().1.peer_certificates().is_some();
                    let text = if known || request.contains("\r\nauthorization: Bearer s3cret\r\n")
                    {
                        let path = request.split(' ').nth(1).unwrap();
                        answer(asked.fetch_add(1, Ordering::Relaxed) + 1, path)
                    } else {
                        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".into()
                    };
                    let _ = stream.write_all(text.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        stand_in
    }

    pub(super) fn server(&self) -> KubeServer {
        KubeServer::kubelet()
            .at(self.port)
            .with_ca(self.folder().join("ca.pem"))
            .with_login(KubeLogin::Token(self.folder().join("token")))
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

pub(super) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A node on which nothing runs: Go writes an empty list as `null`.
pub(super) fn without_pods() -> String {
    r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":null}"#.into()
}
