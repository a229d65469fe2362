//! gRPC: one call publishes, one watches, one sends a stored log.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::response::Response;
use bytes::{BufMut as _, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request};
use serde::Deserialize;
use tokio_stream::wrappers::BroadcastStream;
use tonic::server::{ClientStreamingService, Grpc, NamedService, ServerStreamingService};
use tonic::{Status, Streaming};
use tower::Service;

use super::{BytesCodec, Hub};
use crate::bench::stamp;

/// Publishes every message of a stream; the answer is empty and comes at its end.
pub const PUBLISH: &str = "/bench.Bare/Publish";
/// Everything that is published from now on.
pub const WATCH: &str = "/bench.Bare/Watch";
/// A log of so many events, each a message, ready to be sent.
pub const REPLAY: &str = "/bench.Bare/Replay";

/// Bytes that one piece of a log has.
const PIECE_BYTES: usize = 64 * 1024;

pub fn routes(hub: Hub) -> Router {
    Router::new()
        .route_service(PUBLISH, Calls::new(hub.clone(), Call::Publish))
        .route_service(WATCH, Calls::new(hub, Call::Watch))
        .route(REPLAY, axum::routing::post(replay))
}

#[derive(Clone, Copy)]
enum Call {
    Publish,
    Watch,
}

/// One of the calls as a service.
#[derive(Clone)]
struct Calls {
    hub: Hub,
    call: Call,
}

impl Calls {
    fn new(hub: Hub, call: Call) -> Self {
        Calls { hub, call }
    }
}

impl NamedService for Calls {
    const NAME: &'static str = "bench.Bare";
}

impl Service<Request<Body>> for Calls {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let hub = self.hub.clone();
        let call = self.call;
        Box::pin(async move {
            let mut grpc = Grpc::new(BytesCodec);
            Ok(match call {
                Call::Publish => grpc.client_streaming(Publish(hub), request).await,
                Call::Watch => grpc.server_streaming(Watch(hub), request).await,
            })
        })
    }
}

struct Publish(Hub);

impl ClientStreamingService<Bytes> for Publish {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let hub = self.0.clone();
        Box::pin(async move {
            let mut messages = request.into_inner();
            while let Some(message) = messages.message().await? {
                hub.publish(message);
            }
            Ok(tonic::Response::new(Bytes::new()))
        })
    }
}

struct Watch(Hub);

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl ServerStreamingService<Bytes> for Watch {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = BoxFuture<'static, Result<tonic::Response<Messages>, Status>>;

    fn call(&mut self, _: tonic::Request<Bytes>) -> Self::Future {
        let messages = BroadcastStream::new(self.0.watch());
        let messages = messages.map(|message| message.map_err(|_| Status::data_loss("too slow")));
        Box::pin(async move { Ok(tonic::Response::new(Box::pin(messages) as Messages)) })
    }
}

#[derive(Deserialize)]
struct Log {
    events: u64,
    bytes: usize,
}

/// The frames of a log, made once and sent as they are.
async fn replay(Query(log): Query<Log>) -> Response {
    let mut pieces = Vec::new();
    let mut piece = BytesMut::new();
    for number in 0..log.events {
        let text = stamp::text(0, number, log.bytes);
        piece.put_u8(0);
        piece.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        piece.put_slice(text.as_bytes());
        if piece.len() >= PIECE_BYTES {
            pieces.push(piece.split().freeze());
        }
    }
    pieces.push(piece.freeze());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let pieces = stream::iter(
        pieces
            .into_iter()
            .map(|piece| Ok::<_, Infallible>(http_body::Frame::data(piece))),
    );
    let frames = pieces.chain(stream::iter([Ok(http_body::Frame::trailers(trailers))]));
    let mut response = Response::new(Body::new(http_body_util::StreamBody::new(frames)));
    let value = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}
