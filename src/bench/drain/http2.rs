//! Readers over gRPC: those that are measured have a connection each, with one stream.

use anyhow::{Context as _, Result, bail};
use axum::body::Bytes;
use bytes::{BufMut as _, BytesMut};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio_util::task::AbortOnDropHandle;

use super::{Sink, Target};
use crate::bench::bare::{REPLAY, WATCH};
use crate::bench::stamp::Scan;
use crate::bench::subject::Kind;
use crate::wire::v1;

/// A connection, over which any number of calls are made.
pub struct Connection {
    send: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<hyper::Result<()>>,
}

impl Connection {
    /// Opens one to the server of a target, with its windows.
    pub async fn open(target: &Target) -> Result<Self> {
        let stream = target.address.connect("h2").await?;
        let (send, driver) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(target.window)
            .initial_connection_window_size(target.window)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Connection {
            send,
            _driver: AbortOnDropHandle::new(tokio::spawn(driver)),
        })
    }

    /// Makes the call of a target. Of what it is answered with only the head is read.
    pub async fn call(&mut self, target: &Target) -> Result<Incoming> {
        let path = match target.replays {
            Some((events, bytes)) => format!("{REPLAY}?events={events}&bytes={bytes}"),
            None => path(target).to_owned(),
        };
        let request = Request::post(format!("{}{path}", target.address.url()))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let request = match &target.bearer {
            Some(bearer) => request.header("authorization", bearer),
            None => request,
        };
        let request = request.body(Full::new(body(target)))?;
        let response = self.send.send_request(request).await?;
        if response.status() != StatusCode::OK || response.headers().contains_key("grpc-status") {
            bail!("refused: {:?}", response.headers());
        }
        Ok(response.into_body())
    }

    /// The same, and returns when the server follows. What comes after that waits until it is read.
    pub async fn follow(&mut self, target: &Target) -> Result<Incoming> {
        let mut body = self.call(target).await?;
        // The bare server says nothing before there is something to say.
        if target.kind == Kind::Baton {
            let first = body.frame().await.context("it ended at once")?;
            first.context("reading")?;
        }
        Ok(body)
    }

    /// Makes the call, and returns with the first event that it brings.
    pub async fn first(&mut self, target: &Target) -> Result<()> {
        let mut body = self.call(target).await?;
        let mut scan = Scan::new(None, false);
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame.context("reading")?.data_ref()
                && scan.feed(data) > 0
            {
                return Ok(());
            }
        }
        bail!("it ended without an event")
    }
}

pub(super) async fn read(target: &Target, to: &mut Sink) -> Result<()> {
    let mut connection = Connection::open(target).await?;
    let mut body = connection.call(target).await?;
    // The bare server says nothing before there is something to say.
    if target.kind == Kind::Bare {
        to.opened();
    }
    let mut messages = Messages::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("reading")?;
        if let Some(data) = frame.data_ref() {
            to.opened();
            to.messages(messages.begun(data));
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

/// Counts messages by their heads: five bytes, the last four of which say how long it is.
#[derive(Default)]
struct Messages {
    head: [u8; 5],
    /// How much of the head has come.
    of_head: usize,
    /// How much of the message has not come.
    left: usize,
}

impl Messages {
    /// How many begin in what has come.
    fn begun(&mut self, mut bytes: &[u8]) -> u64 {
        let mut count = 0;
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let taken = (self.head.len() - self.of_head).min(bytes.len());
            self.head[self.of_head..self.of_head + taken].copy_from_slice(&bytes[..taken]);
            self.of_head += taken;
            bytes = &bytes[taken..];
            if self.of_head == self.head.len() {
                let [_, length @ ..] = self.head;
                self.left = u32::from_be_bytes(length) as usize;
                self.of_head = 0;
                count += 1;
            }
        }
        count
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
                transients: target.live,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_wherever_the_bytes_are_cut() {
        let mut stream = Vec::new();
        for length in [0_u32, 1, 300, 7, 0, 70_000] {
            stream.push(0);
            stream.extend_from_slice(&length.to_be_bytes());
            stream.resize(stream.len() + length as usize, 1);
        }
        for size in (1..20).chain([1_000, 16_384, 100_000]) {
            let mut messages = Messages::default();
            let count: u64 = stream.chunks(size).map(|part| messages.begun(part)).sum();
            assert_eq!(count, 6, "in {size}s");
        }
    }
}
