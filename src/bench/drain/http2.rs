//! A reader over gRPC: one connection, one stream.

use anyhow::{Context as _, Result, bail};
use axum::body::Bytes;
use bytes::{BufMut as _, BytesMut};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::{Sink, Target};
use crate::bench::bare::{REPLAY, WATCH};
use crate::bench::subject::Kind;
use crate::wire::v1;

/// How much may be under way to a reader: more than a saturated round has in flight.
const WINDOW: u32 = 1 << 20;

pub(super) async fn read(target: &Target, to: &mut Sink) -> Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", target.port)).await?;
    stream.set_nodelay(true)?;
    let (mut send, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(stream))
        .await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let path = match target.replays {
        Some((events, bytes)) => format!("{REPLAY}?events={events}&bytes={bytes}"),
        None => path(target).to_owned(),
    };
    let request = Request::post(format!("http://127.0.0.1:{}{path}", target.port))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let request = match &target.bearer {
        Some(bearer) => request.header("authorization", bearer),
        None => request,
    };
    let response = send
        .send_request(request.body(Full::new(body(target)))?)
        .await?;
    if response.status() != StatusCode::OK || response.headers().contains_key("grpc-status") {
        bail!("refused: {:?}", response.headers());
    }
    let mut body = response.into_body();
    // The bare server says nothing before there is something to say.
    if target.kind == Kind::Bare {
        to.opened();
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.context("reading")?;
        if let Some(data) = frame.data_ref() {
            to.opened();
            to.feed(data);
        } else if let Some(trailers) = frame.trailers_ref()
            && target.replays.is_none()
        {
            bail!("ended with {trailers:?}");
        }
    }
    match target.replays {
        // All was read; what it was is looked at later.
        Some(_) => std::future::pending().await,
        None => Ok(()),
    }
}

/// The call.
pub(super) fn path(target: &Target) -> &'static str {
    match target.kind {
        Kind::Baton => "/baton.v1.EventService/Watch",
        Kind::Bare | Kind::Node => WATCH,
    }
}

/// The call's one message, in its frame.
pub(super) fn body(target: &Target) -> Bytes {
    let message = match target.kind {
        Kind::Baton => {
            let scope = v1::scope::Scope::Session(v1::SessionScope {
                session_id: target.session.clone(),
                tail: target.tail,
                after_seq: target.after,
                ..Default::default()
            });
            let request = v1::WatchRequest {
                scopes: vec![v1::Scope { scope: Some(scope) }],
                ..Default::default()
            };
            request.encode_to_vec()
        }
        Kind::Bare | Kind::Node => Vec::new(),
    };
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}
