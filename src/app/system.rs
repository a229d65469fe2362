//! What the server tells about itself.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::access::Caller;
use crate::base::{Result, SharedClock, Timestamp};

/// What a server counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Daemons that are linked now.
    pub linked_daemons: u32,
    /// Sessions that have not ended.
    pub living_sessions: u32,
    /// Prompts that wait for an answer.
    pub pending_prompts: u32,
}

/// Who can count: the parts of `app` that hold the things.
pub trait Counting: Send + Sync + 'static {
    /// The counts now, of what the caller sees.
    fn counts<'a>(&'a self, caller: &'a Caller) -> BoxFuture<'a, Result<Counts>>;
}

/// What does not change while the server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Version of the program.
    pub version: String,
    /// What it can do, by name.
    pub capabilities: Vec<String>,
    /// The largest request in bytes.
    pub max_request_bytes: u64,
    /// The largest input in bytes.
    pub max_input_bytes: u64,
    /// The longest queue of inputs.
    pub max_queued_inputs: u32,
    /// The grace period of a lost link.
    pub grace: Duration,
    /// The oldest link protocol it speaks.
    pub link_protocol_min: u32,
    /// The newest link protocol it speaks.
    pub link_protocol_max: u32,
}

/// What the server tells about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// What does not change.
    pub about: About,
    /// The counts now.
    pub counts: Counts,
    /// How long it has run.
    pub uptime: Duration,
}

/// The server as it describes itself. Cheap to clone.
#[derive(Clone)]
pub struct System {
    inner: Arc<Inner>,
}

struct Inner {
    about: About,
    counting: Arc<dyn Counting>,
    metrics: Box<dyn Fn() -> String + Send + Sync>,
    clock: SharedClock,
    started: Timestamp,
}

impl System {
    /// A server that starts now. `metrics` renders them as Prometheus text.
    pub fn new(
        about: About,
        counting: Arc<dyn Counting>,
        metrics: impl Fn() -> String + Send + Sync + 'static,
        clock: SharedClock,
    ) -> Self {
        let started = clock.now();
        System {
            inner: Arc::new(Inner {
                about,
                counting,
                metrics: Box::new(metrics),
                clock,
                started,
            }),
        }
    }

    /// Version, capabilities, limits, counts of what the caller sees.
    pub async fn info(&self, caller: &Caller) -> Result<ServerInfo> {
        Ok(ServerInfo {
            about: self.inner.about.clone(),
            counts: self.inner.counting.counts(caller).await?,
            uptime: self.inner.clock.now().saturating_since(self.inner.started),
        })
    }

    /// The metrics as Prometheus text. FORBIDDEN for a narrowed caller: they count what everybody does.
    pub fn metrics(&self, caller: &Caller) -> Result<String> {
        caller.require_everything("metrics")?;
        Ok((self.inner.metrics)())
    }
}
