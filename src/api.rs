//! Calls to a site's authority over the Unix socket of its administrators: ours, or a SPIRE server's.

use std::path::Path;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// A connection to the socket at `path`.
///
/// # Errors
/// When nobody listens there, or this user may not connect.
pub(crate) async fn connect(path: &Path) -> anyhow::Result<Channel> {
    let socket = path.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // SPIRE's server wants this name (spire-api.md §1).
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connect).await;
    channel.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        anyhow::anyhow!("{}: {cause}", path.display())
    })
}

/// What a call has ended with, as an error that says which call it was.
pub(crate) trait Answered<T> {
    /// The message.
    fn answered(self, call: &'static str) -> anyhow::Result<T>;
    /// The message; where the server has not found something, `missing` says how to find it.
    fn found(self, call: &'static str, missing: &'static str) -> anyhow::Result<T>;
}

impl<T> Answered<T> for Result<tonic::Response<T>, tonic::Status> {
    fn answered(self, call: &'static str) -> anyhow::Result<T> {
        self.found(call, "")
    }

    fn found(self, call: &'static str, missing: &'static str) -> anyhow::Result<T> {
        let told = |status: tonic::Status| {
            // What to do, where the code alone says it.
            let next = match status.code() {
                tonic::Code::Unimplemented => {
                    ": this server does not have that call (is it the socket of an authority? a SPIRE server has none of sekisho's own)"
                }
                tonic::Code::Unavailable => ": try again, or look at the authority's log",
                tonic::Code::NotFound => missing,
                _ => "",
            };
            anyhow::anyhow!("{} ({:?}){next}", status.message(), status.code())
        };
        self.map(tonic::Response::into_inner)
            .map_err(told)
            .context(call)
    }
}

/// RFC 7468.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let lines = (0..text.len()).step_by(64);
    let lines: Vec<&str> = lines
        .filter_map(|at| text.get(at..(at + 64).min(text.len())))
        .collect();
    let lines = lines.join("\n");
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}
