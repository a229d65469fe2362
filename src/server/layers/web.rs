//! Outside of everything: gRPC-Web is made gRPC on its way in, and back on its way out.
//!
//! So every layer and every service sees gRPC only, and what they say, a refusal or the end of a stream
//! included, reaches a browser in the one form that it can read. Any other request passes untouched: the
//! translation would answer it with 400.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, ServiceExt as _, service_fn};

/// What the content types of gRPC-Web begin with.
const GRPC_WEB: &[u8] = b"application/grpc-web";

pub(super) async fn web(request: Request, next: Next) -> Response {
    let is_web = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(GRPC_WEB));
    if !is_web {
        return next.run(request).await;
    }
    let inner = service_fn(move |request: http::Request<tonic::body::Body>| {
        let next = next.clone();
        async move { Ok::<_, Infallible>(next.run(request.map(Body::new)).await) }
    });
    match GrpcWebLayer::new().layer(inner).oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}
