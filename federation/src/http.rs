//! HTTP/1.1 for those who ask for a document: answers, and connections on which everything has a bound.

use std::{convert::Infallible, error::Error, io, pin::pin, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};

use crate::places::Place;

/// How long the head of a request may take, from its first byte or the end of the one before.
const HEAD: Duration = Duration::from_secs(10);
/// A connection that is older ends after the request that it is at, and at the latest a little later.
const OLDEST: Duration = Duration::from_secs(60);
const LAST: Duration = Duration::from_secs(5);
/// Most bytes of the head of a request, and most lines of it.
const MAX_HEAD: usize = 16 * 1024;
const MAX_LINES: usize = 64;
/// How long it waits when the system has no more connections.
const PAUSE: Duration = Duration::from_millis(100);

/// What is answered.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Waits a little after a connection that was not to be had.
pub(crate) async fn not_accepted(error: &io::Error) {
    tracing::warn!(%error, "connection not accepted");
    sleep(PAUSE).await;
}

/// Answers the requests of a connection, which has its place until then.
pub(crate) async fn answer<S, F, B>(
    stream: S,
    place: Place,
    to: impl Fn(Request<Incoming>) -> F + Send + Sync,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = to(request);
        async move {
            let answer = answer.await;
            let status = answer.status().as_u16();
            tracing::debug!(%method, path, status, "request");
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_LINES);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = match timeout(OLDEST, served.as_mut()).await {
        Ok(ended) => Ok(ended),
        Err(_) => {
            served.as_mut().graceful_shutdown();
            timeout(LAST, served).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(_) => tracing::debug!("connection ended: it is old"),
    }
    drop(place);
}

fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let strict = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, strict);
    answer
}

/// A document.
pub(crate) fn json(body: Bytes) -> Answer {
    with_type(StatusCode::OK, "application/json", body)
}

/// A word.
pub(crate) fn text(status: StatusCode, text: &'static str) -> Answer {
    let body = Bytes::from_static(text.as_bytes());
    with_type(status, "text/plain; charset=utf-8", body)
}

/// The answer to a method that is none of ours.
pub(crate) fn method_not_allowed() -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    let allowed = HeaderValue::from_static("GET, HEAD");
    answer.headers_mut().insert(header::ALLOW, allowed);
    answer
}
