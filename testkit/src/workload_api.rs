//! A SPIFFE Workload API that answers what a test wants (SPIFFE_Workload_API.md §5), as SPIRE
//! does on the wire.

mod message;
mod service;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message as _;
use rustls_pki_types::CertificateDer;
use sekisho_certs::TrustBundle;
use tokio::{runtime::Runtime, sync::watch};
/// A gRPC status code.
pub use tonic::Code;
use tonic::codegen::Bytes;

use crate::ca::Issued;
use message::{X509Bundles, X509Svid, X509Svids};
use service::{Answer, Answers, Service};

const RECORDED_SVIDS: &str = include_str!("../recordings/FetchX509SVID.json");
const RECORDED_BUNDLES: &str = include_str!("../recordings/FetchX509Bundles.json");

/// One identity to publish.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Chain and key.
    pub issued: &'a Issued,
    /// The hint; empty for none.
    pub hint: &'a str,
}

/// A way in which an answer can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The message is not the protobuf it should be.
    Garbage,
    /// The key belongs to another certificate.
    KeyOfAnother,
    /// The message holds no SVID.
    NoSvid,
    /// An SVID comes without the bundle of its trust domain.
    WithoutBundle,
}

/// A Workload API on a Unix socket. Answers `Unavailable` until something is published. Every
/// stream gets each new answer at once.
#[derive(Debug)]
pub struct FakeWorkloadApi {
    socket: PathBuf,
    answers: Arc<watch::Sender<Answers>>,
    calls: Arc<watch::Sender<u64>>,
    /// Its own, so that stopping it ends connections as the end of a process does.
    runtime: Option<Runtime>,
}

impl Drop for FakeWorkloadApi {
    fn drop(&mut self) {
        self.stop();
    }
}

impl FakeWorkloadApi {
    /// Starts one at `socket`.
    ///
    /// # Panics
    /// When it cannot listen there.
    #[must_use]
    pub fn start(socket: impl Into<PathBuf>) -> Self {
        let waiting = Answer::Refusal(Code::Unavailable, "not ready");
        let mut api = Self {
            socket: socket.into(),
            answers: Arc::new(watch::Sender::new(Answers {
                svids: waiting.clone(),
                bundles: waiting,
            })),
            calls: Arc::default(),
            runtime: None,
        };
        api.restart();
        api
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// How many calls came, watched: a test waits for the client to come back.
    #[must_use]
    pub fn calls(&self) -> watch::Receiver<u64> {
        self.calls.subscribe()
    }

    /// Ends it as the end of a process would: connections are cut, the socket stays behind.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Starts it again at the same socket, with the last answer.
    ///
    /// # Panics
    /// When it cannot listen there.
    pub fn restart(&mut self) {
        self.stop();
        let _ = std::fs::remove_file(&self.socket);
        let listener = std::os::unix::net::UnixListener::bind(&self.socket).expect("listen");
        listener.set_nonblocking(true).expect("non-blocking");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let service = Service::new(Arc::clone(&self.answers), Arc::clone(&self.calls));
        runtime.spawn(async move {
            let listener = tokio::net::UnixListener::from_std(listener).expect("a listener");
            let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
            tonic::transport::Server::builder()
                .serve_with_incoming(service, incoming)
                .await
                .expect("serve");
        });
        self.runtime = Some(runtime);
    }

    /// Answers what a SPIRE 1.15.3 agent answered: three SVIDs of `hokkaido.example` with the
    /// hints `from-kyushu`, `from-osaka` and `to-tokyo`, and the bundle of `osaka.example`.
    ///
    /// # Panics
    /// Never: the recording is part of this crate.
    pub fn replay_spire(&self) {
        self.answers.send_replace(Answers {
            svids: Answer::Message(X509Svids::from_json(RECORDED_SVIDS).encode_to_vec().into()),
            bundles: Answer::Message(
                X509Bundles::from_json(RECORDED_BUNDLES)
                    .encode_to_vec()
                    .into(),
            ),
        });
    }

    /// Publishes these identities: all there are, in place of those before. `own` is the bundle
    /// of their trust domain.
    pub fn publish(&self, entries: &[Entry<'_>], own: &TrustBundle, federated: &[&TrustBundle]) {
        self.answer(svids(entries, own, federated), own, federated);
    }

    /// Publishes one answer that is wrong; the identities in it are otherwise as in
    /// [`FakeWorkloadApi::publish`].
    ///
    /// # Panics
    /// When `entries` are less than two.
    pub fn publish_malformed(&self, how: Malformed, entries: &[Entry<'_>], own: &TrustBundle) {
        let mut message = svids(entries, own, &[]);
        match how {
            Malformed::Garbage => {
                let garbage = Bytes::from_static(&[0xff; 7]);
                self.answers.send_modify(|answers| {
                    answers.svids = Answer::Message(garbage.clone());
                    answers.bundles = Answer::Message(garbage);
                });
                return;
            }
            Malformed::KeyOfAnother => {
                let key = message.svids[0].x509_svid_key.clone();
                message.svids[1].x509_svid_key = key;
            }
            Malformed::NoSvid => message.svids.clear(),
            Malformed::WithoutBundle => message.svids[1].bundle.clear(),
        }
        self.answer(message, own, &[]);
    }

    /// Says that there is no identity (any more), as SPIRE does.
    pub fn withdraw(&self) {
        self.refuse(Code::PermissionDenied, "no identity issued");
    }

    /// Ends every stream with this status, and every new call.
    pub fn refuse(&self, code: Code, message: &'static str) {
        let refusal = Answer::Refusal(code, message);
        self.answers.send_replace(Answers {
            svids: refusal.clone(),
            bundles: refusal,
        });
    }

    fn answer(&self, message: X509Svids, own: &TrustBundle, federated: &[&TrustBundle]) {
        let all = std::iter::once(own).chain(federated.iter().copied());
        let bundles = X509Bundles {
            crl: Vec::new(),
            bundles: all.map(named).collect(),
        };
        self.answers.send_replace(Answers {
            svids: Answer::Message(message.encode_to_vec().into()),
            bundles: Answer::Message(bundles.encode_to_vec().into()),
        });
    }
}

fn svids(entries: &[Entry<'_>], own: &TrustBundle, federated: &[&TrustBundle]) -> X509Svids {
    let svids = entries.iter().map(|entry| X509Svid {
        spiffe_id: entry.issued.svid().id().to_string(),
        x509_svid: joined(entry.issued.chain.iter()),
        x509_svid_key: entry.issued.key.secret_der().to_vec(),
        bundle: ders(own),
        hint: entry.hint.into(),
    });
    X509Svids {
        svids: svids.collect(),
        crl: Vec::new(),
        federated_bundles: federated
            .iter()
            .copied()
            .map(named)
            .collect::<HashMap<_, _>>(),
    }
}

fn named(bundle: &TrustBundle) -> (String, Vec<u8>) {
    (format!("spiffe://{}", bundle.trust_domain()), ders(bundle))
}

fn ders(bundle: &TrustBundle) -> Vec<u8> {
    joined(bundle.authorities().iter().map(|ca| ca.der()))
}

fn joined<'a>(ders: impl Iterator<Item = &'a CertificateDer<'static>>) -> Vec<u8> {
    ders.flat_map(|der| der.iter().copied()).collect()
}
