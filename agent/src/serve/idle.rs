//! Connections without a call end after a while: each takes a place that others of its user want. A
//! stream of SVIDs is a call for as long as it lasts, however rarely something comes.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::door::Connection;

/// For so long a connection may have no call.
pub(super) const MOST: Duration = Duration::from_secs(300);

/// The calls of a connection.
#[derive(Debug)]
pub(super) struct Calls(Mutex<State>);

#[derive(Debug)]
struct State {
    open: usize,
    /// When the last one ended, or the connection began.
    since: Instant,
}

impl Calls {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            open: 0,
            since: Instant::now(),
        })))
    }

    /// One more, until what is returned is dropped.
    fn begin(self: &Arc<Self>) -> Call {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open += 1;
        Call(Arc::clone(self))
    }

    /// When the connection ends, as it looks now.
    fn end(&self) -> Instant {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.open {
            0 => state.since + MOST,
            _ => Instant::now() + MOST,
        }
    }
}

/// A call that goes on.
#[derive(Debug)]
struct Call(Arc<Calls>);

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.open -= 1;
        state.since = Instant::now();
    }
}

/// Says when a connection has had no call for too long.
#[derive(Debug)]
pub(super) struct Idle {
    calls: Arc<Calls>,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    pub(super) fn of(calls: Arc<Calls>) -> Self {
        Self {
            calls,
            timer: Box::pin(sleep(MOST)),
        }
    }

    /// Ready when that is so.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let end = self.calls.end();
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}

/// Counts the calls of each connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted;

impl<S> Layer<S> for Counted {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting(inner)
    }
}

/// A service behind [`Counted`].
#[derive(Clone, Debug)]
pub(super) struct Counting<S>(S);

impl<S> Service<Request<Body>> for Counting<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = request.extensions().get::<Connection>();
        let call = connection.map(|connection| connection.calls.begin());
        let answer = self.0.call(request);
        Box::pin(async move {
            Ok(answer
                .await?
                .map(|body| Body::new(Held { body, _call: call })))
        })
    }
}

/// A body that is part of a call until it is gone.
struct Held {
    body: Body,
    _call: Option<Call>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_it_has_had_no_call_for_too_long() {
        let start = Instant::now();
        let mut idle = Idle::of(Calls::new());
        poll_fn(|cx| idle.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), MOST.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn it_stays_while_a_call_lasts_and_some_time_after() {
        let calls = Calls::new();
        let mut idle = Idle::of(Arc::clone(&calls));
        let call = calls.begin();
        let long = tokio::time::timeout(10 * MOST, poll_fn(|cx| idle.poll(cx)));
        long.await.unwrap_err();
        drop(call);
        let ended = Instant::now();
        poll_fn(|cx| idle.poll(cx)).await;
        assert_eq!(ended.elapsed().as_secs(), MOST.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_lasts_as_long_as_the_body_of_its_answer() {
        let calls = Calls::new();
        let open = || calls.0.lock().unwrap().open;
        let answered = tower::service_fn(|_: Request<Body>| async {
            let body = http_body_util::Full::new(Bytes::from_static(b"x"));
            Ok::<_, std::convert::Infallible>(Response::new(Body::new(body)))
        });
        let mut service = Counted.layer(answered);
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(Connection {
            who: Arc::new(Err(crate::workload::PeerError::NotFound)),
            calls: Arc::clone(&calls),
        });
        let answer = service.call(request);
        assert_eq!(open(), 1);
        let answer = answer.await.unwrap();
        assert_eq!(open(), 1);
        drop(answer);
        assert_eq!(open(), 0);
    }
}
