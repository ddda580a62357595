//! A web server for small federations: the files of a directory, and what members send to it.
//!
//! It needs no secret to serve, and what it serves is signed by others: plain HTTP is enough for all but
//! the wish that nobody sees which members a site asks for. With the host's key beside it, it hosts the
//! directory too; whoever breaks in can then hide what is new for a while, and forge nothing.

mod door;
mod files;
mod hosting;
mod reading;
#[cfg(test)]
mod slow;
mod submissions;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{self, HeaderValue},
};
use sekisho_certs::Clock;
use tokio::sync::watch;

use super::{key::Signer, repository::Repository, submit::SUBMISSIONS};
use files::FileBody;
use hosting::Hosting;
use submissions::Submissions;

pub use door::{Door, serve};

/// A directory that is served.
#[derive(Debug)]
pub struct Served {
    repository: Repository,
    clock: Arc<dyn Clock>,
    changed: Arc<watch::Sender<()>>,
    hosting: Option<Hosting>,
    submissions: Option<Submissions>,
}

impl Served {
    /// The files of a directory, and nothing else.
    #[must_use]
    pub fn new(repository: Repository, clock: Arc<dyn Clock>) -> Self {
        Self {
            repository,
            clock,
            changed: Arc::new(watch::Sender::new(())),
            hosting: None,
            submissions: None,
        }
    }

    /// The same, hosted by this key: at once after a change, and every so often.
    #[must_use]
    pub fn hosted(mut self, key: Arc<dyn Signer>, every: Duration) -> Self {
        self.hosting = Some(Hosting::new(
            self.repository.clone(),
            key,
            every,
            Arc::clone(&self.clock),
            Arc::clone(&self.changed),
        ));
        self
    }

    /// The same, which takes what members send.
    #[must_use]
    pub fn accepting(mut self) -> Self {
        self.submissions = Some(Submissions::new(
            self.repository.clone(),
            Arc::clone(&self.clock),
            Arc::clone(&self.changed),
        ));
        self
    }

    /// Hosts for as long as it is let; never, where it has no key.
    pub async fn host(&self) {
        match &self.hosting {
            Some(hosting) => hosting.run().await,
            None => std::future::pending().await,
        }
    }

    /// The answer to a request from an address.
    async fn answer<B>(&self, from: IpAddr, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let path = request.uri().path().to_owned();
        let is_submission = path.strip_prefix('/') == Some(SUBMISSIONS);
        match (&self.submissions, request.method()) {
            (Some(submissions), &Method::POST) if is_submission => {
                submissions.take(from, request.into_body()).await
            }
            (Some(_), _) if is_submission => not_allowed("POST"),
            (_, &Method::GET | &Method::HEAD) => files::answer(&self.repository, request).await,
            (None, _) if is_submission => text(StatusCode::NOT_FOUND, "not found\n"),
            _ => not_allowed("GET, HEAD"),
        }
    }
}

/// What is answered.
type Answer = Response<Answered>;

/// A file, or a few words.
#[derive(Debug)]
enum Answered {
    File(FileBody),
    Text(Full<Bytes>),
}

impl Body for Answered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::File(file) => Pin::new(file).poll_frame(cx),
            Self::Text(text) => {
                let polled = Pin::new(text).poll_frame(cx);
                polled.map_err(|never| match never {})
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::File(file) => file.is_end_stream(),
            Self::Text(text) => text.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::File(file) => file.size_hint(),
            Self::Text(text) => text.size_hint(),
        }
    }
}

fn answer_with(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Answered::Text(Full::new(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let strict = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, strict);
    // What is not there now may be there in a moment: the next root, say.
    let caching = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, caching);
    answer
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    let kind = "text/plain; charset=utf-8";
    answer_with(status, kind, Bytes::from_static(text.as_bytes()))
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    let allowed = HeaderValue::from_static(allowed);
    answer.headers_mut().insert(header::ALLOW, allowed);
    answer
}
