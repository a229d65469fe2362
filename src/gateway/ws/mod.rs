//! WebSockets: what they have in common, and one file a dialect.
//!
//! A socket outlives the request it began with, so it has an owner of its own here: [`Sockets`] knows them
//! all, and ends them when the server does.

mod message;

mod outbox;

mod socket;

pub mod changes;

pub mod daemon;

pub mod orchestrator;

pub mod relay;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(in crate::gateway) use self::socket::Talk;
use crate::base::Error;

/// The largest message and frame that is taken of a person's program, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// What is read at once; small, since there are many sockets, and what comes from them is a line or two. A message of the
/// largest size takes 4,096 reads.
const READ_BUFFER_BYTES: usize = 256;
/// What is gathered before it is written.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;
/// The largest frame that can be written: an event of the largest size, every byte of it escaped.
const MAX_WRITE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How often a socket gives a sign of life, and how long it goes without one from its peer.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// A peer that neither says nor takes anything for so long is cut.
    pub dead_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            heartbeat: Duration::from_secs(30),
            dead_after: Duration::from_secs(60),
        }
    }
}

/// Whatever must live as long as a socket does: its place among the server's connections.
#[derive(Clone)]
pub struct Held(Arc<dyn Any + Send + Sync>);

impl Held {
    /// Holds on to `what`.
    pub fn new(what: impl Any + Send + Sync) -> Self {
        Held(Arc::new(what))
    }
}

/// All open sockets. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sockets {
    jobs: TaskTracker,
    closing: CancellationToken,
    timing: Timing,
}

impl Sockets {
    /// Asks every socket's peer to come back later, and returns when all are closed. None takes longer than
    /// its farewell's own deadline, however silent its peer.
    pub async fn close(&self) {
        self.closing.cancel();
        self.jobs.close();
        self.jobs.wait().await;
    }

    /// The answer that makes a request a socket, which takes messages of at most `max_message_bytes`, and on which `talk` is held until one of the two, `end` or the
    /// server ends it.
    pub(super) fn open<T: Talk>(
        &self,
        upgrade: WebSocketUpgrade,
        held: Option<Held>,
        end: impl Future<Output = Error> + Send + 'static,
        max_message_bytes: usize,
        talk: T,
    ) -> Response {
        let Sockets {
            jobs,
            closing,
            timing,
        } = self.clone();
        // Counted from now on, so that a shutdown between here and the first word is not missed.
        let counted = jobs.token();
        // It is handed on from one future to the next, and each would keep room for it.
        let talk = Box::new(talk);
        let end = Box::pin(end);
        upgrade
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
            .max_message_size(max_message_bytes)
            .max_frame_size(max_message_bytes)
            .on_upgrade(move |socket| async move {
                let run = socket::run(socket, talk, timing, end, closing);
                Box::pin(run).await;
                drop((held.map(|Held(held)| held), counted));
            })
    }
}
