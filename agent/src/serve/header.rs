//! The header that keeps a browser, or whoever else is made to send a request, from the Workload API
//! (SPIFFE_Workload_Endpoint.md §3, §6).

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::{Layer, Service, layer::util};

use super::idle;

const NAME: &str = "workload.spiffe.io";
/// Calls that need it: SDS, health and reflection do not.
const CALLS: &str = "/SpiffeWorkloadAPI/";

/// Answers calls without the header in place of the service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Required;

/// The layers of a server with it.
pub(super) type Stack = util::Stack<Required, util::Stack<idle::Counted, util::Identity>>;

impl<S> Layer<S> for Required {
    type Service = Checked<S>;

    fn layer(&self, inner: S) -> Checked<S> {
        Checked(inner)
    }
}

/// A service behind [`Required`].
#[derive(Clone, Debug)]
pub(super) struct Checked<S>(S);

impl<S> Service<Request<Body>> for Checked<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut values = request.headers().get_all(NAME).iter();
        let there = values.next().is_some_and(|value| value == "true") && values.next().is_none();
        if request.uri().path().starts_with(CALLS) && !there {
            let status = Status::invalid_argument("security header missing from request");
            return Box::pin(async move { Ok(status.into_http()) });
        }
        Box::pin(self.0.call(request))
    }
}
