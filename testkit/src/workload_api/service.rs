//! The gRPC service, by hand: messages pass as bytes, so that they may be wrong.

use std::{convert::Infallible, sync::Arc};

use tokio::sync::watch;
use tokio_stream::{StreamExt as _, wrappers::WatchStream};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{BoxFuture, BoxStream, Bytes, Context, Poll, Service as TowerService, http},
    metadata::MetadataMap,
    server::{Grpc, ServerStreamingService},
};

/// What one call gets.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// A message, encoded.
    Message(Bytes),
    /// The end of the stream.
    Refusal(Code, &'static str),
}

/// What every call gets.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    pub(super) svids: Answer,
    pub(super) bundles: Answer,
}

/// `SpiffeWorkloadAPI`, two methods of it.
#[derive(Clone, Debug)]
pub(super) struct Service {
    answers: Arc<watch::Sender<Answers>>,
    calls: Arc<watch::Sender<u64>>,
}

impl Service {
    pub(super) const fn new(
        answers: Arc<watch::Sender<Answers>>,
        calls: Arc<watch::Sender<u64>>,
    ) -> Self {
        Self { answers, calls }
    }
}

impl TowerService<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.calls.send_modify(|calls| *calls += 1);
        let pick: fn(&Answers) -> Answer = match request.uri().path() {
            "/SpiffeWorkloadAPI/FetchX509SVID" => |answers| answers.svids.clone(),
            "/SpiffeWorkloadAPI/FetchX509Bundles" => |answers| answers.bundles.clone(),
            _ => |_| Answer::Refusal(Code::Unimplemented, "not made for tests"),
        };
        let method = Method {
            answers: self.answers.subscribe(),
            pick,
        };
        Box::pin(async move { Ok(Grpc::new(Raw).server_streaming(method, request).await) })
    }
}

struct Method {
    answers: watch::Receiver<Answers>,
    pick: fn(&Answers) -> Answer,
}

impl ServerStreamingService<Bytes> for Method {
    type Response = Bytes;
    type ResponseStream = BoxStream<Bytes>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (answers, pick) = (self.answers.clone(), self.pick);
        Box::pin(async move {
            check_header(request.metadata())?;
            if let Answer::Refusal(code, message) = pick(&answers.borrow()) {
                return Err(Status::new(code, message));
            }
            let answers = WatchStream::new(answers).map(move |answers| match pick(&answers) {
                Answer::Message(message) => Ok(message),
                Answer::Refusal(code, message) => Err(Status::new(code, message)),
            });
            let stream: Self::ResponseStream = Box::pin(answers);
            Ok(Response::new(stream))
        })
    }
}

/// Workload_Endpoint.md §3: once, and exactly so.
fn check_header(metadata: &MetadataMap) -> Result<(), Status> {
    let mut values = metadata.get_all("workload.spiffe.io").iter();
    match (values.next(), values.next()) {
        (Some(value), None) if value == "true" => Ok(()),
        _ => Err(Status::invalid_argument(
            "security header missing from request",
        )),
    }
}

/// Leaves messages as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut as _;
        target.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use prost::bytes::Buf as _;
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As recorded of SPIRE: missing, of another value and twice are all the same to it.
    #[test]
    fn the_header_must_be_there_once_and_exactly_so() {
        for (values, passes) in [
            (&[][..], false),
            (&["True"], false),
            (&["true", "true"], false),
            (&["true"], true),
        ] {
            let mut metadata = MetadataMap::new();
            for value in values {
                metadata.append("workload.spiffe.io", value.parse().unwrap());
            }
            let status = check_header(&metadata).map_err(|status| status.code());
            let expected = if passes {
                Ok(())
            } else {
                Err(Code::InvalidArgument)
            };
            assert_eq!(status, expected, "{values:?}");
        }
    }
}
