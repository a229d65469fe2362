//! The daemons' side of the server: `LinkService`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::base::id::DaemonId;
use crate::base::{Error, Result, Secret};
use crate::domain::link::{Down, Up};
use crate::relay::{Endpoint, Relay};
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
        let Endpoint { frames, down } = self.relay.open(daemon);
        let reader = tokio::spawn(read(request.into_inner(), frames));
        Ok(Response::new(DownStream {
            down,
            _reader: AbortOnDropHandle::new(reader),
        }))
    }
}

/// Takes what comes as soon as it comes. Its end, however it looks, drops `frames`: without Goodbye that
/// is a lost link.
async fn read(mut stream: Streaming<pb::ConnectRequest>, frames: mpsc::Sender<Result<Box<Up>>>) {
    loop {
        let frame = match stream.message().await {
            Ok(Some(message)) => {
                let transient = matches!(message.body, Some(Body::Transient(_)));
                match up_from_pb(message) {
                    // A transient is never owed: one that cannot be read is none.
                    Err(_) if transient => continue,
                    frame => frame.map(Box::new),
                }
            }
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(code = ?status.code(), "a daemon's stream broke");
                // A message too large or unreadable is the peer's doing; a broken connection ends the link as it is.
                let problem = match status.code() {
                    tonic::Code::OutOfRange => "is larger than the link allows",
                    tonic::Code::Internal if status.message().starts_with("failed to decode") => {
                        "is not one of the link's"
                    }
                    _ => return,
                };
                Err(Error::invalid("message", problem).caused_by(error_from_status(&status)))
            }
        };
        let over = frame.is_err();
        if frames.send(frame).await.is_err() || over {
            return;
        }
    }
}

/// Frames for the daemon. The reader is stopped with it: tonic drops it when the call ends.
pub struct DownStream {
    down: mpsc::Receiver<Result<Box<Down>>>,
    _reader: AbortOnDropHandle<()>,
}

impl Stream for DownStream {
    type Item = Result<pb::ConnectResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.down.poll_recv(cx).map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => Ok(down_to_pb(&frame)),
                Err(error) => Err(status_from_error(&error)),
            })
        })
    }
}
