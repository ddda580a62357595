//! A kubelet's secure port, or an API server's, in this process.

mod cluster;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

pub use self::cluster::{Cluster, Pod, Token};
use crate::{Profile, TestCa, danger};

/// One question that was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How many there have been, this one included.
    pub count: usize,
    /// `GET` or `POST`.
    pub method: String,
    /// The path.
    pub path: String,
    /// What was posted.
    pub body: Vec<u8>,
}

/// Serves the name `localhost` to who has the token `s3cret` or a certificate.
#[derive(Debug)]
pub struct StandIn {
    folder: TempDir,
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl StandIn {
    /// Answers with what `answer` makes of each question: all of an answer of HTTP/1.1.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(answer: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Self {
        let ca = TestCa::new("cluster.example");
        let issued = ca.issue(
            &Profile::leaf("spiffe://cluster.example/kubelet").with_dns_names(["localhost"]),
        );
        let versions = &[&rustls::version::TLS13];
        let acceptor = TlsAcceptor::from(Arc::new(danger::server_config(&issued, versions)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stand_in = Self {
            folder: tempfile::tempdir().unwrap(),
            port,
            asked: Arc::default(),
        };
        stand_in.file("ca.pem", &ca.pem());
        stand_in.file("token", "s3cret\n");
        let (answer, count) = (Arc::new(answer), Arc::clone(&stand_in.asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    // Who does not believe us goes.
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: "));
                    let mut body = vec![0; length.map_or(0, |text| text.parse().unwrap())];
                    stream.read_exact(&mut body).await.unwrap();
                    let known = stream.get_ref().1.peer_certificates().is_some();
                    let text = if known || head.contains("\r\nauthorization: Bearer s3cret\r\n") {
                        let mut words = head.split(' ');
                        let mut word = || words.next().unwrap().to_owned();
                        answer(&Asked {
                            count: count.fetch_add(1, Ordering::Relaxed) + 1,
                            method: word(),
                            path: word(),
                            body,
                        })
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

    /// How many questions were asked by somebody known.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Where it listens, on `localhost`.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A folder with `ca.pem` and `token`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into that folder.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// An answer with this status and body.
#[must_use]
pub fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The answer 200 with this body.
#[must_use]
pub fn ok(body: &str) -> String {
    answer("200 OK", body)
}
