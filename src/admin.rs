//! The admin address: `/live`, `/ready`, `/status`, `/connections`, `/metrics`. Read-only.

use std::{
    io,
    sync::{Arc, PoisonError},
    time::UNIX_EPOCH,
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use sekisho_proxy::{
    endpoint::spec::Backend,
    socket_file::{self, SocketFile},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{config::Admin, node::Shown};

/// The server of the admin address, where there is one.
#[derive(Debug, Default)]
pub(crate) struct AdminServer {
    running: Option<Box<Running>>,
}

/// A server at one address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    address: Admin,
    task: JoinHandle<()>,
    // Held for its Drop.
    _socket: Option<SocketFile>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address that is bound, or the wish to have none.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// It listens there already.
    Same,
    /// It will listen here, or nowhere.
    Other(Option<Box<Running>>),
}

impl AdminServer {
    /// Listens at `address` and nowhere else. Does nothing where that is so already.
    ///
    /// # Errors
    /// When it cannot be bound; what listened before goes on.
    pub(crate) fn listen(&mut self, address: Option<&Admin>, shown: &Arc<Shown>) -> io::Result<()> {
        let prepared = self.prepare(address, shown)?;
        self.replace(prepared);
        Ok(())
    }

    /// Puts what was prepared in place of what listens now.
    pub(crate) fn replace(&mut self, prepared: Prepared) {
        if let Prepared::Other(running) = prepared {
            self.running = running;
        }
    }

    /// Binds `address` beside what listens now.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub(crate) fn prepare(
        &self,
        address: Option<&Admin>,
        shown: &Arc<Shown>,
    ) -> io::Result<Prepared> {
        if self.running.as_ref().map(|running| &running.address) == address {
            return Ok(Prepared::Same);
        }
        let Some(address) = address else {
            return Ok(Prepared::Other(None));
        };
        let app = router(Arc::clone(shown));
        let (task, socket) = match address {
            Admin::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let app = app.layer(middleware::from_fn(check_host));
                (
                    tokio::spawn(serve(axum::serve(listener, app).into_future())),
                    None,
                )
            }
            Admin::Unix(path) => {
                let (listener, file) = socket_file::listen(path, 0o660)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                let task = tokio::spawn(serve(axum::serve(listener, app).into_future()));
                (task, Some(file))
            }
        };
        tracing::info!(%address, "admin address open");
        Ok(Prepared::Other(Some(Box::new(Running {
            address: address.clone(),
            task,
            _socket: socket,
        }))))
    }
}

async fn serve(server: impl Future<Output = io::Result<()>>) {
    if let Err(error) = server.await {
        tracing::error!(%error, "admin address closed");
    }
}

/// A page in a browser of this host must not reach the address under a name of its own (DNS
/// rebinding): only names of loopback are answered.
async fn check_host(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let loopback = name.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    if loopback {
        next.run(request).await
    } else {
        (
            StatusCode::MISDIRECTED_REQUEST,
            "the Host header must name loopback\n",
        )
            .into_response()
    }
}

fn router(shown: Arc<Shown>) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/status", get(status))
        .route("/connections", get(connections))
        .route("/metrics", get(metrics))
        .with_state(shown)
}

async fn ready(State(shown): State<Arc<Shown>>) -> Response {
    if shown.proxy.is_ready() {
        return "ready\n".into_response();
    }
    let mut text = String::from(if shown.proxy.is_draining() {
        "draining\n"
    } else {
        "not ready\n"
    });
    for endpoint in shown.proxy.endpoint_status() {
        if !endpoint.ready {
            let problem = endpoint.problem.unwrap_or_default();
            text.push_str(&format!("{}: {problem}\n", endpoint.name));
        }
    }
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn status(State(shown): State<Arc<Shown>>) -> Json<Value> {
    Json(document(&shown))
}

/// The document of `/status`.
fn document(shown: &Shown) -> Value {
    let about = shown
        .about
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let endpoints = shown.proxy.endpoint_status();
    let endpoints: Vec<Value> = endpoints
        .into_iter()
        .map(|endpoint| {
            let source = about.sources.get(&endpoint.name).cloned();
            let mut row = serde_json::to_value(&endpoint).unwrap_or_default();
            if let (Value::Object(row), Some(source)) = (&mut row, source) {
                row.insert("identity".into(), source.into());
            }
            row
        })
        .collect();
    let started = shown.started.duration_since(UNIX_EPOCH);
    json!({
        "site": about.site,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started": started.map_or(0, |since| since.as_secs()),
        "ready": shown.proxy.is_ready(),
        "draining": shown.proxy.is_draining(),
        "workers": shown.proxy.workers().loads(),
        "bulk_streams": shown.proxy.workers().bulk_loads(),
        "streams_moved": shown.proxy.workers().moved(),
        "buffers": {
            "held": shown.proxy.memory().held(),
            "most": shown.proxy.memory().most(),
        },
        "aead": aead(shown.proxy.aead()),
        "connections": shown.proxy.registry().len(),
        "reloads": {
            "applied": about.reloads.applied,
            "refused": about.reloads.refused,
            "problem": about.reloads.problem,
        },
        "federation": shown.proxy.federation_status(),
        "endpoints": endpoints,
    })
}

/// What protects records, and what each library did at start, in bytes per second.
fn aead(aead: sekisho_proxy::Aead) -> Value {
    let measured = |backend| json!(aead.measured.of(backend).round());
    json!({
        "chosen": aead.chosen.as_str(),
        "aws-lc": measured(Backend::AwsLc),
        "ring": measured(Backend::Ring),
    })
}

async fn connections(State(shown): State<Arc<Shown>>) -> Json<Value> {
    Json(json!({ "connections": shown.proxy.connection_status() }))
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shown.proxy.metrics_text()).into_response()
}
