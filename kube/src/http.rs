//! One HTTP/1.1 request over a connection of its own, its answer bounded.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

/// Why there is no answer. No part of a body is told.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The answer ends too early.
    #[error("the body breaks off")]
    Body,
    /// HTTP went wrong, or the connection.
    #[error("the exchange failed")]
    Exchange(#[from] hyper::Error),
    /// It would not be a request.
    #[error("the request cannot be written")]
    Request(#[from] ::http::Error),
    /// Another status than 200, or 201 after a POST.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// More than was asked for.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// GETs `path` and returns the body of a 200, at most `limit` bytes.
///
/// # Errors
/// Each of [`HttpError`]'s variants.
pub async fn get<S>(
    stream: S,
    host: &str,
    path: &str,
    authorization: Option<HeaderValue>,
    limit: usize,
) -> Result<Bytes, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let question = Question {
        host,
        path,
        authorization,
        json: None,
    };
    question.ask(stream, limit).await
}

/// One request.
pub(crate) struct Question<'a> {
    /// Whom it is for: host and port.
    pub(crate) host: &'a str,
    /// The path, as it is to be sent.
    pub(crate) path: &'a str,
    /// Who asks.
    pub(crate) authorization: Option<HeaderValue>,
    /// POSTs this JSON; `None`: GETs. It may hold a token.
    pub(crate) json: Option<Zeroizing<Vec<u8>>>,
}

impl Question<'_> {
    /// The body of the answer, at most `limit` bytes.
    pub(crate) async fn ask<S>(self, stream: S, limit: usize) -> Result<Bytes, HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await?;
        let mut request = Request::builder()
            .uri(self.path)
            .header(HOST, self.host)
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close");
        if let Some(authorization) = self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let created = self.json.is_some();
        let body = match self.json {
            Some(json) => {
                request = request
                    .method(Method::POST)
                    .header(CONTENT_TYPE, "application/json");
                Bytes::from_owner(json)
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(body))?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            if status != StatusCode::OK && !(created && status == StatusCode::CREATED) {
                return Err(HttpError::Status(status));
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
}
