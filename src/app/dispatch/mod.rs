//! Dispatch: which agent is given which task, and what becomes of it until it is done.
//!
//! Nothing is decided here that is not in a record: who has a task is its assignment, and which session works on it is
//! in the session, set in the commit that makes it. So whatever was half done when a server died is found as it was
//! and taken up where it stands. What is held in memory is who is being given something right now, and what was
//! refused a moment ago.
//!
//! The scheduler does what a person could do, by the same calls. On a new server it is paused: agents that begin by
//! themselves spend money, and somebody has to want that.

mod control;
mod crew;
mod follow;
mod give;
mod judge;
mod pass;

pub use control::{Scheduler, Switch};
pub use give::{Dispatch, Dispatched};
pub use judge::Candidate;
pub use pass::run;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::app::access::Caller;
use crate::base::id::{AgentId, DaemonId, TaskId};
use crate::base::{Error, Timestamp};
use crate::domain::Agent;

/// How long what was refused is left alone at first; each time twice as long.
const LEFT_ALONE: Duration = Duration::from_secs(10);
/// The longest that it is left alone.
const LEFT_ALONE_MAX: Duration = Duration::from_secs(15 * 60);
/// The most refusals that are remembered.
const MAX_REFUSALS: usize = 10_000;

/// How long a server that stops waits for what is being given out.
const STOPS_WITHIN: Duration = Duration::from_secs(2);

/// What the scheduler may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often it looks, if nothing wakes it before.
    pub every: Duration,
    /// Most of its agents that run at a time.
    pub max_running: usize,
    /// Most of them on one daemon.
    pub max_per_daemon: usize,
    /// How often a task is taken up again by itself.
    pub max_restarts: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            every: Duration::from_secs(5),
            max_running: 8,
            max_per_daemon: 8,
            max_restarts: 3,
        }
    }
}

/// What is under way.
#[derive(Debug)]
pub struct Dispatching {
    options: Options,
    /// Agents that are being given something, and the machine on which it will be, as far as that is known.
    giving: Mutex<HashMap<AgentId, Option<DaemonId>>>,
    /// Where in the ready queue the last look stopped, if it did not come to its end.
    looked_to: Mutex<Option<String>>,
    /// Of a task for an agent; without a task, of what a steward's triggers want.
    refusals: Mutex<HashMap<(Option<TaskId>, AgentId), Refusal>>,
    looked_at: Mutex<Option<Timestamp>>,
    jobs: TaskTracker,
    wake: watch::Sender<u64>,
}

/// That giving a task to an agent did not work.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) until: Timestamp,
    times: u32,
    pub(super) why: String,
}

/// An agent that is being given something; others leave it alone until this is dropped.
struct Giving {
    of: Arc<Dispatching>,
    agent: AgentId,
}

impl Drop for Giving {
    fn drop(&mut self) {
        self.of.giving.lock().remove(&self.agent);
        self.of.wake();
    }
}

impl Dispatching {
    /// Nothing is under way.
    pub fn new(options: Options) -> Self {
        Dispatching {
            options,
            giving: Mutex::default(),
            looked_to: Mutex::default(),
            refusals: Mutex::default(),
            looked_at: Mutex::default(),
            jobs: TaskTracker::new(),
            wake: watch::Sender::new(0),
        }
    }

    /// Lets the scheduler look at once.
    pub(super) fn wake(&self) {
        self.wake.send_modify(|count| *count += 1);
    }

    /// Waits for what is under way, after the last call was made; not for long, since a worktree may take its time,
    /// and what is left half done is taken up by the next server.
    pub async fn stop(&self) {
        self.jobs.close();
        if tokio::time::timeout(STOPS_WITHIN, self.jobs.wait())
            .await
            .is_err()
        {
            tracing::info!("tasks that are being given out are left to the next server");
        }
    }

    /// Keeps an agent for one who gives it something, on a machine if that is known; `None` if somebody does already.
    fn keep(self: &Arc<Self>, agent: AgentId, on: Option<DaemonId>) -> Option<Giving> {
        match self.giving.lock().entry(agent) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                free.insert(on);
                Some(Giving {
                    of: self.clone(),
                    agent,
                })
            }
        }
    }

    /// The machine of an agent that is being given something just now. `None`: it is not.
    fn being_given(&self, agent: AgentId) -> Option<Option<DaemonId>> {
        self.giving.lock().get(&agent).copied()
    }

    /// Keeps an agent, after whoever gives it something now.
    async fn keep_after_others(self: &Arc<Self>, agent: &Agent) -> Giving {
        let mut freed = self.wake.subscribe();
        loop {
            freed.mark_unchanged();
            if let Some(giving) = self.keep(agent.id, agent.settings.daemon_id) {
                return giving;
            }
            // The sender lives as long as this does.
            freed.changed().await.ok();
        }
    }

    /// Why a task is not given to an agent again just now, or a steward not started.
    pub(super) fn refusal(
        &self,
        task: impl Into<Option<TaskId>>,
        agent: AgentId,
        now: Timestamp,
    ) -> Option<Refusal> {
        let refusals = self.refusals.lock();
        refusals
            .get(&(task.into(), agent))
            .filter(|refusal| now < refusal.until)
            .cloned()
    }

    pub(super) fn refused(
        &self,
        task: impl Into<Option<TaskId>>,
        agent: AgentId,
        error: &Error,
        now: Timestamp,
    ) {
        let of = (task.into(), agent);
        let mut refusals = self.refusals.lock();
        if refusals.len() >= MAX_REFUSALS {
            // Those that are over first; if that is not enough, everything may be tried again.
            refusals.retain(|_, refusal| now < refusal.until);
            if refusals.len() >= MAX_REFUSALS {
                refusals.clear();
            }
        }
        let times = refusals.get(&of).map_or(0, |last| last.times) + 1;
        let longer = 2_u32.saturating_pow(times.saturating_sub(1).min(10));
        let pause = LEFT_ALONE.saturating_mul(longer).min(LEFT_ALONE_MAX);
        let refusal = Refusal {
            until: now.saturating_add(pause),
            times,
            why: error.message().to_owned(),
        };
        refusals.insert(of, refusal);
    }

    fn given(&self, task: TaskId) {
        self.refusals
            .lock()
            .retain(|(other, _), _| *other != Some(task));
    }

    pub(super) fn started(&self, steward: AgentId) {
        self.refusals.lock().remove(&(None, steward));
    }
}

impl Caller {
    /// The scheduler, which acts as the server itself.
    pub(in crate::app) fn scheduler() -> Self {
        Caller::server("scheduler")
    }
}
