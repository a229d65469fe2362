//! Dials the server for ever and moves the link's frames.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};

use super::directory;
use super::git::Room;
use super::paths::{Identity, StateDir};
use super::policy::Policy;
use super::uplink::Uplink;
use crate::base::id::DaemonId;
use crate::base::{Code, Error, Result, Secret, Timestamp};
use crate::domain::link::{DaemonEvent, Found, Query, QueryBody, QueryResult};
use crate::wire::link::{MAX_LINK_MESSAGE_BYTES, down_from_pb, up_to_pb};
use crate::wire::link_v1::link_service_client::LinkServiceClient;
use crate::wire::link_v1::{ConnectRequest, ConnectResponse, EnrollRequest};
use crate::wire::status::error_from_status;
use crate::wire::unreachable::reason;
use crate::wire::v1::GetCallerRequest;
use crate::wire::v1::access_service_client::AccessServiceClient;

/// Most frames between the link and its transport; the link keeps the others.
const MAX_FRAMES: usize = 16;
/// Most look-ups at a time; more are refused.
const MAX_QUERIES: usize = 16;
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long the server may take to end the stream after a goodbye.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(3);
/// Small frames share a connection with large ones, so the windows are large and fixed.
const CONNECTION_WINDOW: u32 = 16 << 20;
const STREAM_WINDOW: u32 = 1 << 20;
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(10);

/// Where the server is and how it proves itself.
#[derive(Clone, Debug)]
pub struct ServerAddress {
    /// `http://host:port` or `https://host:port`.
    pub uri: String,
    /// A file with the certificates to trust instead of the machine's own.
    pub ca: Option<PathBuf>,
}

impl ServerAddress {
    /// A fresh channel; every attempt has its own, so that nothing of a broken one lingers.
    async fn dial(&self) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(self.uri.clone())
            .map_err(|error| Error::invalid("server", format!("is no address: {error}")))?
            .connect_timeout(CONNECT_PATIENCE)
            .tcp_nodelay(true)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_PATIENCE)
            .keep_alive_while_idle(true);
        let endpoint = if self.uri.starts_with("https://") {
            let tls = match &self.ca {
                None => ClientTlsConfig::new().with_native_roots(),
                Some(path) => {
                    let pem = std::fs::read(path).map_err(|error| {
                        Error::invalid("ca", format!("{} cannot be read: {error}", path.display()))
                    })?;
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
                }
            };
            endpoint
                .tls_config(tls)
                .map_err(|error| Error::invalid("ca", format!("cannot be used: {error}")))?
        } else {
            endpoint
        };
        endpoint.connect().await.map_err(|error| {
            Error::new(
                Code::Unavailable,
                format!(
                    "the server at {} cannot be reached: {}",
                    self.uri,
                    reason(&error)
                ),
            )
            .caused_by(error)
        })
    }
}

/// Becomes a daemon with a join token. Repeating it with the same token gives the same daemon, also when
/// an answer was lost.
pub async fn enroll(
    server: &ServerAddress,
    state: &StateDir,
    join_token: &Secret,
    name: &str,
    hostname: &str,
) -> Result<Identity> {
    let mut client = LinkServiceClient::new(server.dial().await?);
    let mut request = Request::new(EnrollRequest {
        name: name.to_owned(),
        hostname: hostname.to_owned(),
        nonce: state.enrolment_nonce()?.into(),
    });
    authorize(&mut request, join_token)?;
    request.set_timeout(CONNECT_PATIENCE);
    let answer = timeout(CONNECT_PATIENCE, client.enroll(request))
        .await
        .map_err(|_| Error::new(Code::Timeout, "the server did not answer the enrolment"))?
        .map_err(|status| match error_from_status(&status) {
            error if error.code() == Code::Unauthenticated => Error::new(
                Code::Forbidden,
                format!(
                    "the server at {} does not take the join token: it was used before, has expired or was \
                     revoked; `baton daemons join` where the server is prints a fresh command",
                    server.uri
                ),
            ),
            error => error,
        })?
        .into_inner();
    let identity = Identity {
        id: DaemonId::parse("daemon_id", &answer.daemon_id)?,
        name: answer.name,
    };
    state.enrolled(&identity, &Secret::new(answer.credential))?;
    Ok(identity)
}

/// Whether the server says that it does not take this credential. A server that cannot be asked has not said so.
pub async fn is_refused(server: &ServerAddress, credential: &Secret) -> bool {
    let asking = async {
        let mut client = AccessServiceClient::new(server.dial().await?);
        let mut request = Request::new(GetCallerRequest::default());
        authorize(&mut request, credential)?;
        request.set_timeout(CONNECT_PATIENCE);
        client
            .get_caller(request)
            .await
            .map_err(|status| error_from_status(&status))
    };
    match timeout(CONNECT_PATIENCE, asking).await {
        Ok(Err(error)) => error.code() == Code::Unauthenticated,
        Ok(Ok(_)) | Err(_) => false,
    }
}

fn authorize<T>(request: &mut Request<T>, token: &Secret) -> Result<()> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose())
        .parse()
        .map_err(|_| Error::invalid("token", "has characters that a token cannot have"))?;
    value.set_sensitive(true);
    request.metadata_mut().insert("authorization", value);
    Ok(())
}

/// The job that moves frames.
pub struct LinkJob {
    /// The link.
    pub uplink: Arc<Uplink>,
    /// Where to dial.
    pub server: ServerAddress,
    /// The daemon's credential.
    pub credential: Secret,
    /// For look-ups.
    pub policy: Arc<Policy>,
    /// The worktrees of this machine.
    pub worktrees: Arc<Room>,
    /// Takes what is for the sessions.
    pub events: mpsc::Sender<DaemonEvent>,
    /// Set to say goodbye and end; runners live on.
    pub shutdown: CancellationToken,
    /// Why there is no link, as it was said last; empty while there is one.
    pub said: Mutex<String>,
}

/// What is being looked up or done for the server.
#[derive(Default)]
struct Queries {
    lookups: JoinSet<()>,
    orders: JoinSet<()>,
}

/// What the link wants after its events.
enum Course {
    /// To go on.
    On,
    /// The stream dropped, and dialled again after the pause. Whether this side gave it up, so that what
    /// it said last is to be flushed.
    Dial(Duration, bool),
    /// Goodbye was said; the stream is to be flushed.
    Leave,
    /// Another process has taken over, or the server does not take this daemon's credential: to dial again
    /// would be in vain.
    Over(Error),
}

impl LinkJob {
    /// Dials and moves frames until the shutdown, or until a newer process of this daemon takes over.
    pub async fn run(self) -> Result<()> {
        let mut queries = Queries::default();
        loop {
            self.uplink.drive(|link| link.dial(self.uplink.now()));
            match self.stream(&mut queries).await? {
                None => return Ok(()),
                Some(pause) => {
                    tracing::debug!(?pause, "dialling again after a pause");
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.shutdown.cancelled() => return Ok(()),
                    }
                }
            }
        }
    }

    /// One stream from dialling to its end; `None` when it was ended on purpose.
    async fn stream(&self, queries: &mut Queries) -> Result<Option<Duration>> {
        let (frames, outgoing) = mpsc::channel::<ConnectRequest>(MAX_FRAMES);
        // Hello goes out before the server answers anything.
        self.flush(&frames);
        let opening = self.open(outgoing);
        tokio::pin!(opening);
        let mut incoming = None;
        let mut leaving = false;
        loop {
            // A full transport is asked again when it has room.
            let is_full = !self.flush(&frames);
            match self.events(queries).await? {
                Course::On => {}
                Course::Dial(pause, false) => return Ok(Some(pause)),
                Course::Over(error) => return Err(error),
                leaving @ (Course::Dial(_, true) | Course::Leave) => {
                    self.flush(&frames);
                    drop(frames);
                    last_words(&mut incoming).await;
                    return Ok(match leaving {
                        Course::Dial(pause, _) => Some(pause),
                        _ => None,
                    });
                }
            }
            let deadline = self.uplink.look(|link| link.next_deadline());
            let now = self.uplink.now();
            let wait = deadline.map_or(Duration::from_secs(60), |at| at.saturating_since(now));
            tokio::select! {
                opened = &mut opening, if incoming.is_none() => match opened {
                    Ok(stream) => incoming = Some(stream),
                    Err(error) => self.closed(Some(error)),
                },
                Some(frame) = next(&mut incoming) => match frame {
                    Ok(Some(frame)) => self.received(frame),
                    Ok(None) => self.closed(None),
                    Err(status) => self.closed(Some(error_from_status(&status))),
                },
                () = self.uplink.work() => {}
                room = frames.reserve(), if is_full => drop(room),
                () = sleep(wait) => self.uplink.drive(|link| link.tick(self.uplink.now())),
                () = self.shutdown.cancelled(), if !leaving => {
                    leaving = true;
                    self.uplink.drive(|link| link.goodbye("the daemon ends; its agents work on", false));
                }
            }
        }
    }

    async fn open(
        &self,
        outgoing: mpsc::Receiver<ConnectRequest>,
    ) -> Result<Streaming<ConnectResponse>> {
        let channel = self.server.dial().await?;
        let mut client = LinkServiceClient::new(channel)
            .max_decoding_message_size(MAX_LINK_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_LINK_MESSAGE_BYTES);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        authorize(&mut request, &self.credential)?;
        client
            .connect(request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| error_from_status(&status))
    }

    /// Hands frames to the transport while it has room; says whether all are out.
    fn flush(&self, frames: &mpsc::Sender<ConnectRequest>) -> bool {
        loop {
            let Ok(room) = frames.try_reserve() else {
                return false;
            };
            let now: Timestamp = self.uplink.now();
            match self.uplink.drive_quietly(|link| link.send(now)) {
                Some(frame) => room.send(up_to_pb(&frame)),
                None => return true,
            }
        }
    }

    fn received(&self, frame: ConnectResponse) {
        let now = self.uplink.now();
        match down_from_pb(frame) {
            Ok(frame) => self.uplink.drive(|link| link.received(now, frame)),
            // A newer server says something this daemon does not know; a command of that kind stays
            // without a result, which its deadline settles.
            Err(error) => tracing::warn!(%error, "a message of the server cannot be read"),
        }
    }

    fn closed(&self, error: Option<Error>) {
        if let Some(error) = &error {
            tracing::debug!(?error, "the link ended");
            // Once for each reason: it is dialled again for ever.
            let mut said = self.said.lock();
            let is_final = error.code() == Code::Unauthenticated;
            if !is_final && *said != error.message() {
                error.message().clone_into(&mut said);
                tracing::warn!(code = %error.code(), "there is no link; it is tried again: {}", error.message());
            }
        }
        let now = self.uplink.now();
        self.uplink.drive(|link| link.closed(now, error));
    }

    /// Acts on what happened: the link's own business here, the sessions' by the supervisor.
    async fn events(&self, queries: &mut Queries) -> Result<Course> {
        let mut course = Course::On;
        while queries.lookups.try_join_next().is_some() {}
        while queries.orders.try_join_next().is_some() {}
        while let Some(event) = self.uplink.drive_quietly(|link| link.event()) {
            match event {
                DaemonEvent::Linked { epoch } => {
                    self.said.lock().clear();
                    tracing::info!(epoch, "linked to the server");
                }
                DaemonEvent::Close { reason } => {
                    tracing::info!(reason, "the link is closed");
                    course = Course::Leave;
                }
                // The link itself would dial again.
                DaemonEvent::Reconnect { .. } if matches!(course, Course::Over(_)) => {}
                DaemonEvent::Reconnect { after } => {
                    course = Course::Dial(after, matches!(course, Course::Leave));
                }
                DaemonEvent::Superseded(error) => {
                    course = Course::Over(Error::new(
                        Code::Stale,
                        format!(
                            "another process runs as this daemon and has taken the link over, so this one ends: {}",
                            error.message()
                        ),
                    ));
                }
                DaemonEvent::Denied(error) if error.code() == Code::Unauthenticated => {
                    course = Course::Over(self.removed(&error));
                }
                DaemonEvent::Denied(error) => tracing::error!(
                    code = %error.code(),
                    "the server refuses this daemon ({}); its agents work on, and it asks again every now and then",
                    error.message()
                ),
                DaemonEvent::Draining { after, reason } => {
                    tracing::info!(?after, reason, "the server goes away for a while");
                }
                // A terminal is its session's, which the supervisor knows.
                DaemonEvent::Query(query) if !query.is_for_a_session() => {
                    self.query(query, queries);
                }
                other => {
                    if self.events.send(other).await.is_err() {
                        return Err(Error::internal("the supervisor has ended"));
                    }
                }
            }
        }
        Ok(course)
    }

    /// What a daemon says whose credential the server does not take. A credential that was revoked never
    /// comes back, so asking again would only hide from its owner that the machine is out of service.
    fn removed(&self, error: &Error) -> Error {
        Error::new(
            Code::Forbidden,
            format!(
                "the server at {} does not take this daemon's credential: the daemon was removed there, or the \
                 credential was revoked ({}). Its agents work on until they are done or have waited for a daemon \
                 for too long. To join again, run `baton daemons join` where the server is, and here the command \
                 that it prints",
                self.server.uri,
                error.message()
            ),
        )
    }

    fn query(&self, query: Query, queries: &mut Queries) {
        let (uplink, policy) = (self.uplink.clone(), self.policy.clone());
        // What takes minutes does not keep what takes moments from being done.
        let queries = match &query.body {
            QueryBody::ListDirectory(_) | QueryBody::Terminal { .. } => &mut queries.lookups,
            QueryBody::Worktree(_) => &mut queries.orders,
        };
        if queries.len() >= MAX_QUERIES {
            let busy = Error::new(
                Code::RateLimited,
                "too many look-ups on this machine at once",
            );
            let result = QueryResult {
                id: query.id,
                result: Err(busy),
            };
            return uplink.with(|link| link.query_result(result));
        }
        let worktrees = self.worktrees.clone();
        if let QueryBody::Worktree(order) = &query.body {
            worktrees.accept(order);
        }
        queries.spawn_blocking(move || {
            let result = match &query.body {
                QueryBody::ListDirectory(query) => match query.brief {
                    true => directory::find(&policy, &query.path),
                    false => directory::list(&policy, &query.path, query.hidden),
                }
                .map(Found::Directory),
                QueryBody::Worktree(order) => {
                    let answer = worktrees.handle(order);
                    answer.map(|answer| Found::Worktree(Box::new(answer)))
                }
                QueryBody::Terminal { .. } => {
                    Err(Error::internal("a terminal is asked within its session"))
                }
            };
            let result = QueryResult {
                id: query.id,
                result,
            };
            uplink.with(|link| link.query_result(result));
        });
    }
}

/// Lets the transport flush what was said: the server ends the stream when it has read it.
async fn last_words(incoming: &mut Option<Streaming<ConnectResponse>>) {
    if let Some(stream) = incoming {
        let ends = async { while let Ok(Some(_)) = stream.message().await {} };
        let _ = timeout(GOODBYE_PATIENCE, ends).await;
    }
}

/// The next frame; waits for ever while there is no stream.
async fn next(
    incoming: &mut Option<Streaming<ConnectResponse>>,
) -> Option<std::result::Result<Option<ConnectResponse>, Status>> {
    match incoming {
        Some(stream) => Some(stream.message().await),
        None => std::future::pending().await,
    }
}
