//! One connection, from the handshake to its end.
//!
//! It ends by itself, when it is too old, when nobody on it has shown a valid token for too long, or
//! when the server shuts down. In the last three cases it is asked first (GOAWAY, or `connection: close`),
//! streams that go on are then ended with a status that says "reconnect", and at last it is cut.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::drain::Drain;
use super::io::{Carrier, Io};
use super::options::Connections;
use super::tls::Tls;
use crate::base::{Woken, until};
use crate::gateway::ws::Held;

/// How much a peer may send on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same over all streams: far more, so that an unread stream does not stop its siblings, and so
/// that many small frames do not look like an attack to h2.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Streams a peer may have open at once.
const MAX_STREAMS: u32 = 256;
/// All headers of a request together.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// What is kept for a reader that does not read, a stream.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// A peer that was silent for so long is pinged, so that a dead one is noticed. A daemon's link says something every 30 s, and is
/// not pinged beside that; looking whether it did costs about as much as hearing it, so this is some times as long.
const PING_EVERY: Duration = Duration::from_secs(90);
/// How long a ping may go unanswered.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// With this many bytes the protocol is known, and its own timers watch over what follows.
const PREFACE_BYTES: u64 = 24;

/// What TLS says about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The protocol that was agreed on (`h2` or `http/1.1`).
    pub protocol: Option<String>,
    /// The name the peer asked for.
    pub server_name: Option<String>,
}

/// What a request's connection is; an extension of every request.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The other side. Never a reason to trust it.
    pub peer: SocketAddr,
    /// This side.
    pub local: SocketAddr,
    /// TLS; `None` on clear text.
    pub tls: Option<TlsInfo>,
    authenticated: Arc<AtomicBool>,
    ending: watch::Receiver<bool>,
    // Held as long as anything of the connection lives, an upgraded socket included.
    _permit: Arc<OwnedSemaphorePermit>,
}

impl ConnectionInfo {
    /// Notes that somebody on it has shown a valid token.
    pub fn note_authenticated(&self) {
        self.authenticated.store(true, Ordering::Relaxed);
    }

    /// Returns when what still runs on it should come to its end: it will be cut soon.
    pub async fn ending(&self) {
        let mut ending = self.ending.clone();
        // An error says that the connection is gone, which is an end too.
        let _ = ending.wait_for(|ending| *ending).await;
    }
}

/// What every connection of a listener needs.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) tls: Option<Tls>,
    pub(super) bounds: Connections,
    pub(super) drain: Drain,
}

/// hyper's tasks (one a stream over HTTP/2), owned by their connection.
#[derive(Clone, Default)]
struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let mut cut = Woken::new(self.cut.clone().cancelled_owned());
        self.tracker
            .spawn(async move { until(pin!(task), &mut cut).await.ok() });
    }
}

fn builder(tasks: Tasks, bounds: &Connections) -> auto::Builder<Tasks> {
    let mut builder = auto::Builder::new(tasks);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_timeout)
        .max_buf_size(64 * 1024);
    // hyper's own limits on resets (20 pending, 1,024 of its own making) stay as they are.
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    shared: Arc<Shared>,
) {
    // Small frames must not wait for each other. It fails only when the peer is gone already.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let began = Instant::now();
    let carrier = match &shared.tls {
        None => Carrier::Plain(stream),
        Some(tls) => {
            let accepted = tokio::select! {
                // Boxed: the handshake is over soon, and the connection's task would keep its room for good.
                accepted = Box::pin(tls.accept(stream)) => accepted,
                () = shared.drain.begun() => return,
            };
            match accepted {
                Ok(stream) => Carrier::Tls(Box::new(stream)),
                Err(problem) => {
                    tracing::debug!(%peer, %problem, "TLS handshake failed");
                    metrics::counter!("baton_tls_handshakes_failed_total").increment(1);
                    return;
                }
            }
        }
    };
    let io = Io::new(carrier);
    let received = io.received();
    let (ending, ending_seen) = watch::channel(false);
    let info = ConnectionInfo {
        peer,
        local,
        tls: io.tls(),
        authenticated: Arc::default(),
        ending: ending_seen,
        _permit: Arc::new(permit),
    };
    let authenticated = info.authenticated.clone();
    let tasks = Tasks::default();
    let requested = Arc::new(AtomicBool::new(false));
    let service = {
        let router = shared.router.clone();
        let requested = requested.clone();
        hyper::service::service_fn(move |mut request: Request<Incoming>| {
            requested.store(true, Ordering::Relaxed);
            if request.headers().contains_key(http::header::UPGRADE) {
                // What the request becomes keeps its place among the connections.
                request.extensions_mut().insert(Held::new(info.clone()));
            }
            request.extensions_mut().insert(info.clone());
            router.clone().oneshot(request)
        })
    };
    let builder = builder(tasks.clone(), &shared.bounds);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    tokio::pin!(connection);

    // Looked at when one of these rings, and not with each of the connection's frames.
    let mut due = Woken::new(grace(shared, began, received, requested, authenticated));
    let grace = match until(connection.as_mut(), &mut due).await {
        Ok(outcome) => return finish(peer, outcome),
        Err(Some(grace)) => grace,
        Err(None) => {
            tracing::debug!(%peer, "closed: no request came");
            return;
        }
    };

    connection.as_mut().graceful_shutdown();
    let half = Instant::now() + grace / 2;
    let end = Instant::now() + grace;
    for (deadline, tell) in [(half, true), (end, false)] {
        tokio::select! {
            outcome = connection.as_mut() => {
                finish(peer, outcome);
                return;
            }
            () = sleep_until(deadline) => {}
            // A shutdown in the meantime has its own, usually nearer, deadline; the listener keeps that.
        }
        if tell {
            ending.send_replace(true);
        }
    }
    tracing::debug!(%peer, "cut: it did not end in time");
    tasks.cut.cancel();
    tasks.tracker.close();
    tasks.tracker.wait().await;
}

/// Returns when the connection is to end, with how long that may take; `None` when it never began.
async fn grace(
    shared: Arc<Shared>,
    began: Instant,
    received: Arc<AtomicU64>,
    requested: Arc<AtomicBool>,
    authenticated: Arc<AtomicBool>,
) -> Option<Duration> {
    let bounds = &shared.bounds;
    let aged = sleep(jittered(bounds.max_age));
    let unknown = sleep_until(began + bounds.header_timeout);
    let stranger = sleep_until(began + bounds.unauthenticated);
    tokio::pin!(aged, unknown, stranger);
    let (mut watch_unknown, mut watch_stranger) = (true, true);
    loop {
        tokio::select! {
            () = &mut unknown, if watch_unknown => {
                watch_unknown = false;
                if received.load(Ordering::Relaxed) < PREFACE_BYTES && !requested.load(Ordering::Relaxed) {
                    return None;
                }
            }
            () = &mut stranger, if watch_stranger => {
                watch_stranger = false;
                if !authenticated.load(Ordering::Relaxed) {
                    return Some(bounds.age_grace);
                }
            }
            () = &mut aged => return Some(bounds.age_grace),
            () = shared.drain.begun() => return Some(shared.drain.deadline()),
        }
    }
}

fn finish(peer: SocketAddr, outcome: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    match outcome {
        Ok(()) => tracing::trace!(%peer, "connection ended"),
        Err(problem) => tracing::debug!(%peer, %problem, "connection failed"),
    }
}

/// The age give or take a tenth, so that connections made at once do not all come back at once.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::random_range(0.9..1.1))
}
