//! The daemons' side of the server: `LinkService`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _};
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::base::id::DaemonId;
use crate::base::{Error, Result, Secret};
use crate::domain::link::Up;
use crate::relay::{DownFrames, Relay};
use crate::wire::link::{MAX_LINK_MESSAGE_BYTES, down_to_pb, up_from_pb};
use crate::wire::link_v1 as pb;
use crate::wire::link_v1::connect_request::Body;
use crate::wire::link_v1::link_service_server::{LinkService, LinkServiceServer};
use crate::wire::status::{error_from_status, status_from_error};

/// The longest name of a daemon or host that is looked at, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// A machine that has become a daemon.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// Its id.
    pub daemon_id: DaemonId,
    /// Its name.
    pub name: String,
    /// Its bearer token from now on.
    pub credential: Secret,
}

/// Who may link. What the server's layers found out about the caller lies in the request's extensions.
pub trait Gate: Send + Sync + 'static {
    /// The daemon whose credential the caller has. `UNAUTHENTICATED`, or `FORBIDDEN` for other scopes.
    fn daemon(&self, extensions: &Extensions) -> Result<DaemonId>;

    /// Turns the caller's join token into a daemon's credential.
    fn enroll(
        &self,
        extensions: &Extensions,
        name: String,
        hostname: String,
        nonce: Vec<u8>,
    ) -> BoxFuture<'_, Result<Enrolled>>;
}

/// The service.
pub struct LinkRpc {
    relay: Relay,
    gate: Arc<dyn Gate>,
}

impl LinkRpc {
    /// The service over a relay, its message sizes set.
    pub fn service(relay: Relay, gate: Arc<dyn Gate>) -> LinkServiceServer<LinkRpc> {
        LinkServiceServer::new(LinkRpc { relay, gate })
            .max_decoding_message_size(MAX_LINK_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_LINK_MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl LinkService for LinkRpc {
    async fn enroll(
        &self,
        request: Request<pb::EnrollRequest>,
    ) -> Result<Response<pb::EnrollResponse>, Status> {
        let (_, extensions, body) = request.into_parts();
        if body.name.len() > MAX_NAME_BYTES || body.hostname.len() > MAX_NAME_BYTES {
            let field = match body.name.len() > MAX_NAME_BYTES {
                true => "name",
                false => "hostname",
            };
            let problem = format!("is longer than {MAX_NAME_BYTES} bytes");
            return Err(status_from_error(&Error::invalid(field, problem)));
        }
        let enrolled = self
            .gate
            .enroll(&extensions, body.name, body.hostname, body.nonce.to_vec())
            .await
            .map_err(|error| status_from_error(&error))?;
        Ok(Response::new(pb::EnrollResponse {
            daemon_id: enrolled.daemon_id.to_string(),
            credential: enrolled.credential.expose().to_owned(),
            name: enrolled.name,
        }))
    }

    type ConnectStream = DownStream;

    async fn connect(
        &self,
        request: Request<Streaming<pb::ConnectRequest>>,
    ) -> Result<Response<DownStream>, Status> {
        let daemon = self
            .gate
            .daemon(request.extensions())
            .map_err(|error| status_from_error(&error))?;
        let frames = UpStream(request.into_inner());
        let down = self.relay.open(daemon, frames.boxed());
        Ok(Response::new(DownStream(down)))
    }
}

/// Frames from the daemon. The connection's end is theirs too, however it looks: without Goodbye that is a lost link.
struct UpStream(Streaming<pb::ConnectRequest>);

impl Stream for UpStream {
    type Item = Result<Box<Up>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // What HTTP/2 has at hand is taken without end otherwise, and nobody else has a turn.
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        let frame = loop {
            match ready!(Pin::new(&mut self.0).poll_next(cx)) {
                Some(Ok(message)) => {
                    let transient = matches!(message.body, Some(Body::Transient(_)));
                    match up_from_pb(message) {
                        // A transient is never owed: one that cannot be read is none.
                        Err(_) if transient => {}
                        frame => break Some(frame.map(Box::new)),
                    }
                }
                Some(Err(status)) => break broken(&status).map(Err),
                None => break None,
            }
        };
        turn.made_progress();
        Poll::Ready(frame)
    }
}

/// Why a stream broke where that is the peer's doing; a broken connection ends the link as it is.
fn broken(status: &Status) -> Option<Error> {
    tracing::debug!(code = ?status.code(), "a daemon's stream broke");
    let problem = match status.code() {
        tonic::Code::OutOfRange => "is larger than the link allows",
        tonic::Code::Internal if status.message().starts_with("failed to decode") => {
            "is not one of the link's"
        }
        _ => return None,
    };
    Some(Error::invalid("message", problem).caused_by(error_from_status(status)))
}

/// Frames for the daemon.
pub struct DownStream(DownFrames);

impl Stream for DownStream {
    type Item = Result<pb::ConnectResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => Ok(down_to_pb(&frame)),
                Err(error) => Err(status_from_error(&error)),
            })
        })
    }
}
