//! One HTTP/1.1 request over a connection of its own, its answer bounded.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why there is no answer. No part of a body is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("the body breaks off")]
    Body,
    #[error("the exchange failed")]
    Exchange(#[from] hyper::Error),
    #[error("the request cannot be written")]
    Request(#[from] ::http::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// GETs `path` and returns the body of a 200, at most `limit` bytes.
pub(super) async fn get<S>(
    stream: S,
    host: &str,
    path: &str,
    authorization: Option<HeaderValue>,
    limit: usize,
) -> Result<Bytes, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close");
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(HttpError::Status(answer.status()));
        }
        match Limited::new(answer.into_body(), limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(HttpError::TooLong(limit)),
            Err(_) => Err(HttpError::Body),
        }
    };
    // The connection is driven here rather than by a task, so that it ends with the question.
    tokio::pin!(exchange, connection);
    tokio::select! {
        answer = &mut exchange => answer,
        driven = &mut connection => {
            driven?;
            exchange.await
        }
    }
}
