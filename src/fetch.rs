//! Asking a running process over its admin address.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use crate::{
    cli::AdminArgs,
    config::{self, Admin},
};

/// Most bytes of an answer: 100,000 connections are about 50 MB.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// The admin address that the arguments name.
///
/// # Errors
/// When the configuration is wrong or has no `admin`.
pub(crate) fn address(args: &AdminArgs) -> anyhow::Result<Admin> {
    if let Some(text) = &args.admin {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Admin::Unix(PathBuf::from(path)));
        }
        return text
            .parse()
            .map(Admin::Tcp)
            .with_context(|| format!("{text:?} is neither ADDRESS:PORT nor unix:///PATH"));
    }
    let Some(path) = &args.config else {
        bail!("--admin or --config is needed");
    };
    let config = config::load(path, &config::environment)
        .map_err(|errors| anyhow::anyhow!("{}", errors.render(false)))?;
    config.admin.with_context(|| {
        format!(
            "{} has no `admin`: give the process one, for example `admin: 127.0.0.1:9901`",
            path.display()
        )
    })
}

/// GETs `path` and returns the body.
///
/// # Errors
/// When the process cannot be reached or does not answer with 200.
pub(crate) async fn get(address: &Admin, path: &str) -> anyhow::Result<Bytes> {
    let unreachable = || format!("no sekisho answers at {address}: is it running?");
    match address {
        Admin::Tcp(tcp) => {
            let stream = TcpStream::connect(tcp).await.with_context(unreachable)?;
            ask(TokioIo::new(stream), &tcp.to_string(), path).await
        }
        Admin::Unix(socket) => {
            let stream = UnixStream::connect(socket)
                .await
                .with_context(unreachable)?;
            ask(TokioIo::new(stream), "localhost", path).await
        }
    }
}

async fn ask<S>(stream: S, host: &str, path: &str) -> anyhow::Result<Bytes>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(hyper::header::HOST, host)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?
        .to_bytes();
    if !status.is_success() {
        bail!("{path}: {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}

/// [`get`] from a place that has no runtime, read as JSON.
///
/// # Errors
/// As [`get`], or when the answer is no JSON.
pub(crate) fn json(args: &AdminArgs, path: &str) -> anyhow::Result<serde_json::Value> {
    let address = address(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let body = runtime.block_on(get(&address, path))?;
    serde_json::from_slice(&body).context("the answer is not JSON")
}
