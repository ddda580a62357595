//! Before any service: who calls, and whether they may.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::{caller::Connection, core::Core};

/// Puts a [`crate::caller::Caller`] into every request, or answers in place of the service.
#[derive(Clone, Debug)]
pub(super) struct Authorize(pub(super) Arc<Core>);

/// The layers of a server with it.
pub(super) type Stack = tower::layer::util::Stack<Authorize, tower::layer::util::Identity>;

impl<S> Layer<S> for Authorize {
    type Service = Authorized<S>;

    fn layer(&self, inner: S) -> Authorized<S> {
        Authorized {
            core: Arc::clone(&self.0),
            inner,
        }
    }
}

/// A service behind [`Authorize`].
#[derive(Clone, Debug)]
pub(super) struct Authorized<S> {
    core: Arc<Core>,
    inner: S,
}

impl<S> Service<Request<Body>> for Authorized<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let core = Arc::clone(&self.core);
        // The one that is ready is the one to be called (tower: "Service").
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            let connection = request.extensions().get::<Connection>().cloned();
            let caller = match connection {
                Some(connection) => core.identify(request.uri().path(), &connection).await,
                None => Err(Status::internal("connection is not known")),
            };
            match caller {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    inner.call(request).await
                }
                Err(status) => {
                    let method = request.uri().path();
                    tracing::info!(method, code = ?status.code(), "{}", status.message());
                    Ok(status.into_http())
                }
            }
        })
    }
}
