//! The older relay's socket for daemons that do not speak gRPC.
//!
//! Their messages have neither numbers nor acknowledgements, so what they say is numbered when it arrives, and
//! from there on it is a link like any other: the same relay, the same log, the same prompts. What is lost on
//! the way here is lost, which `docs/guides/relay-dialect.md` says.

mod agent;
mod bridge;
mod message;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::bridge::Bridge;
use self::message::Said;
use super::socket::{Frame, Talk as Talking};
use crate::app::App;
use crate::app::access::Caller;
use crate::base::id::DaemonId;
use crate::base::{Code, Error, Result};
use crate::domain::link::Up;
use crate::relay::DownFrames;

/// The largest message that is taken of a daemon, in bytes: a batch of its agent's lines.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// How long a daemon may take to introduce itself.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// How long a new socket waits for the one before it to let go.
const HANDOVER: Duration = Duration::from_secs(5);
/// How long nothing may have to be done.
const IDLE: Duration = Duration::from_secs(60);

/// The bridges of all daemons that came over a socket since the server started. Cheap to clone.
#[derive(Clone, Default)]
pub struct Bridges {
    slots: Arc<Mutex<HashMap<DaemonId, Arc<Slot>>>>,
}

/// The place of one daemon's bridge.
struct Slot {
    bridge: Arc<tokio::sync::Mutex<Option<Bridge>>>,
    /// Counts the daemon's sockets; the newest one counts.
    newest: watch::Sender<u64>,
}

impl Bridges {
    fn slot(&self, daemon: DaemonId) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        let slot = slots.entry(daemon).or_insert_with(|| {
            Arc::new(Slot {
                bridge: Arc::default(),
                newest: watch::Sender::new(0),
            })
        });
        slot.clone()
    }
}

/// The link behind a socket.
struct Link {
    /// What the bridge says to the relay.
    up: mpsc::Sender<Result<Box<Up>>>,
    /// What the relay says.
    down: DownFrames,
}

/// What is said on the socket of one daemon.
pub struct Talk {
    app: App,
    daemon: DaemonId,
    /// There as long as this socket is the daemon's newest.
    bridge: OwnedMutexGuard<Option<Bridge>>,
    newest: watch::Receiver<u64>,
    number: u64,
    /// There once the daemon has introduced itself.
    link: Option<Link>,
    hello_by: Instant,
}

impl Talk {
    /// Begins to talk with the daemon whose credential the caller has; an older socket of it ends.
    pub async fn open(app: App, bridges: &Bridges, caller: &Caller) -> Result<Self> {
        let daemon = caller.daemon()?;
        let slot = bridges.slot(daemon);
        let mut number = 0;
        slot.newest.send_modify(|count| {
            *count += 1;
            number = *count;
        });
        let newest = slot.newest.subscribe();
        let mut bridge = timeout(HANDOVER, slot.bridge.clone().lock_owned())
            .await
            .map_err(|_| {
                Error::new(
                    Code::Unavailable,
                    "this daemon's older connection does not end; try again",
                )
                .retry_after(HANDOVER)
            })?;
        if bridge.is_none() {
            *bridge = Some(Bridge::open(&app, caller, daemon).await?);
        }
        Ok(Talk {
            app,
            daemon,
            bridge,
            newest,
            number,
            link: None,
            hello_by: Instant::now() + HELLO_PATIENCE,
        })
    }

    /// The bridge, which is there for as long as this is.
    fn bridge(&mut self) -> Result<&mut Bridge> {
        self.bridge
            .as_mut()
            .ok_or_else(|| Error::internal("a daemon's socket lost its bridge"))
    }

    /// Moves the link until there is nothing to be done at once, and says what the daemon is to hear.
    /// `false`: the relay takes no more for now.
    fn settle(&mut self) -> Result<bool> {
        let now = self.app.clock().now();
        let (Some(link), Some(bridge)) = (&self.link, self.bridge.as_mut()) else {
            return Ok(true);
        };
        bridge.settle(now, &link.up)
    }

    /// Waits for one thing. Dropping the wait loses nothing.
    async fn wake(&mut self, is_full: bool) -> Result<()> {
        let now = self.app.clock().now();
        let deadline = self.bridge()?.next_deadline();
        let pause = deadline.map_or(IDLE, |at| at.saturating_since(now));
        let number = self.number;
        let Some(link) = &mut self.link else {
            tokio::select! {
                _ = self.newest.wait_for(|newest| *newest != number) => return Err(taken_over()),
                () = sleep_until(self.hello_by) => return Err(Error::new(
                    Code::Timeout,
                    "the daemon did not introduce itself: daemon_connected comes first",
                )),
            }
        };
        let frame = tokio::select! {
            biased;
            _ = self.newest.wait_for(|newest| *newest != number) => return Err(taken_over()),
            frame = link.down.recv() => Some(frame),
            room = link.up.reserve(), if is_full => {
                drop(room);
                None
            }
            () = sleep(pause) => None,
        };
        let now = self.app.clock().now();
        let bridge = self.bridge()?;
        match frame {
            Some(Some(Ok(frame))) => bridge.received(now, *frame),
            Some(Some(Err(error))) => return Err(error),
            Some(None) => {
                return Err(Error::new(
                    Code::Unavailable,
                    "the link is closed; connect again",
                ));
            }
            None => {}
        }
        bridge.tick(now);
        Ok(())
    }

    async fn obey(&mut self, text: &str) -> Result<Vec<Frame>> {
        let now = self.app.clock().now();
        let said = match message::read(text)? {
            Said::Ping => return Ok(vec![Frame::must(json!({ "type": "pong" }))]),
            Said::Connected(hello) if self.link.is_none() => {
                self.bridge()?.connected(now, *hello);
                let (up, down) = self.app.relay().open_queued(self.daemon);
                self.link = Some(Link { up, down });
                return Ok(Vec::new());
            }
            Said::Connected(hello) => {
                self.bridge()?.offers(hello.offer);
                return Ok(Vec::new());
            }
            Said::Of(..) if self.link.is_none() => {
                return Err(Error::state("daemon_connected comes first"));
            }
            Said::Of(session, said) => (session, said),
        };
        let (session, said) = said;
        self.bridge()?.hear(now, session, said)?;
        // What is not stored yet is bounded: the daemon waits until there is room.
        loop {
            let took_all = self.settle()?;
            if self.bridge()?.has_room(session) {
                return Ok(Vec::new());
            }
            self.wake(!took_all).await?;
        }
    }
}

fn taken_over() -> Error {
    Error::new(Code::Stale, "a newer connection of this daemon took over")
}

impl Talking for Talk {
    async fn next(&mut self) -> Result<Vec<Frame>> {
        loop {
            let took_all = self.settle()?;
            let said = self.bridge()?.take_said();
            if !said.is_empty() {
                return Ok(said.into_iter().map(Frame::text).collect());
            }
            self.wake(!took_all).await?;
        }
    }

    async fn hear(&mut self, text: &str) -> Vec<Frame> {
        match self.obey(text).await {
            Ok(frames) => frames,
            Err(error) => {
                if error.code() == Code::InternalError {
                    tracing::error!(?error, "a daemon's message failed within");
                }
                let mut said = self.error(&error);
                let message: Value = serde_json::from_str(text).unwrap_or_default();
                for (name, keys) in [
                    ("request_id", &["request_id", "tool_use_id", "id"][..]),
                    ("session_id", &["session_id"]),
                ] {
                    let found = keys.iter().find_map(|key| message[key].as_str());
                    if let Some(id) = found.filter(|id| id.len() <= 512) {
                        said[name] = id.into();
                    }
                }
                vec![Frame::must(said)]
            }
        }
    }

    /// The older daemons know none; the socket's own pings do.
    fn heartbeat(&self) -> Option<Value> {
        None
    }

    fn written(&mut self) {
        let now = self.app.clock().now();
        if let Some(bridge) = self.bridge.as_mut() {
            bridge.all_written(now);
        }
    }

    fn error(&self, error: &Error) -> Value {
        json!({ "type": "error", "code": error.code().as_str(), "message": error.message() })
    }

    fn is_over(&self) -> bool {
        false
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let now = self.app.clock().now();
        if let Some(bridge) = self.bridge.as_mut() {
            bridge.disconnected(now);
            if bridge.is_idle() {
                *self.bridge = None;
            }
        }
    }
}
