//! A reader over HTTP/1.1: gRPC-Web and server-sent events.

use anyhow::{Context as _, Result, bail};
use axum::body::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use super::{Sink, Target, Transport, http2};
use crate::bench::bare::EVENTS;
use crate::bench::subject::Kind;

pub(super) async fn read(target: &Target, to: &mut Sink) -> Result<()> {
    let stream = target.address.connect("http/1.1").await?;
    let (mut send, connection) = hyper::client::conn::http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = send.send_request(request(target)?).await?;
    if response.status() != StatusCode::OK || response.headers().contains_key("grpc-status") {
        bail!("refused: {} {:?}", response.status(), response.headers());
    }
    let mut body = response.into_body();
    if target.kind == Kind::Bare {
        to.opened();
    }
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.context("reading")?.data_ref() {
            to.opened();
            to.feed(data);
        }
    }
    Ok(())
}

fn request(target: &Target) -> Result<Request<Full<Bytes>>> {
    let (request, body) = match (target.transport, target.kind) {
        (Transport::GrpcWeb, _) => {
            let request = Request::post(http2::path(target))
                .header("content-type", "application/grpc-web+proto")
                .header("x-grpc-web", "1");
            (request, http2::body(target))
        }
        (_, Kind::Baton) => {
            let path = format!("/api/sessions/{}/stream", target.session);
            (Request::get(path), Bytes::new())
        }
        (_, Kind::Bare | Kind::Node) => (Request::get(EVENTS), Bytes::new()),
    };
    let request = request.header("host", target.address.host());
    let request = match &target.bearer {
        Some(bearer) => request.header("authorization", bearer),
        None => request,
    };
    Ok(request.body(Full::new(body))?)
}
