//! Pausing the scheduler, letting it work, and asking what it does.

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::app::access::Caller;
use crate::app::{failure, records};
use crate::base::id::TaskId;
use crate::base::{Result, Timestamp};
use crate::domain::{Actor, field};
use crate::store::{Commit, Expect};

/// The longest reason of a pause, in bytes.
const MAX_REASON_BYTES: usize = 1_000;
/// The most tasks that are named.
const MAX_ESCALATED: usize = 100;

/// Whether the scheduler works, and who said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Whether it is paused.
    pub paused: bool,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// The scheduler, as it is shown.
#[derive(Clone, Debug)]
pub struct Scheduler {
    /// Whether it is paused.
    pub paused: bool,
    /// Who said so; `None` if nobody has yet, and it is paused.
    pub switch: Option<Switch>,
    /// When it last looked.
    pub looked_at: Option<Timestamp>,
    /// How many of its agents run.
    pub running: usize,
    /// How many may.
    pub max_running: usize,
    /// Tasks at which a person must look.
    pub escalated: Vec<TaskId>,
}

impl App {
    /// What the scheduler does. FORBIDDEN for a narrowed caller.
    pub async fn get_scheduler(&self, caller: &Caller) -> Result<Scheduler> {
        caller.require_everything("the scheduler's state")?;
        let switch = self.scheduler_switch().await?;
        let looked_at = *self.dispatching().looked_at.lock();
        Ok(Scheduler {
            paused: switch.as_ref().is_none_or(|switch| switch.paused),
            switch,
            looked_at,
            running: self.crew().await?.running(),
            max_running: self.dispatching().options.max_running,
            escalated: self.escalated_tasks(MAX_ESCALATED).await?,
        })
    }

    /// Pauses the scheduler or lets it work. FORBIDDEN for a narrowed caller.
    pub async fn switch_scheduler(
        &self,
        caller: &Caller,
        paused: bool,
        reason: String,
    ) -> Result<Scheduler> {
        caller.require_everything("the scheduler's decisions")?;
        field::text("reason", &reason, MAX_REASON_BYTES)?;
        let switch = Switch {
            paused,
            reason,
            by: caller.actor(),
            at: self.clock().now(),
        };
        let op = records::put(records::SCHEDULER.to_owned(), &switch, Expect::Any)?;
        let commit = Commit {
            ops: vec![op],
            ..Commit::default()
        };
        let done = self.store().commit(commit).await;
        done.map_err(failure::from_store)?;
        self.dispatching().wake();
        self.get_scheduler(caller).await
    }

    pub(super) async fn scheduler_switch(&self) -> Result<Option<Switch>> {
        let found = records::get(self.store().as_ref(), records::SCHEDULER).await?;
        Ok(found.map(|(switch, _)| switch))
    }

    /// Whether the scheduler does nothing.
    pub(super) async fn scheduler_is_paused(&self) -> Result<bool> {
        let switch = self.scheduler_switch().await?;
        Ok(switch.is_none_or(|switch| switch.paused))
    }

    /// Why the scheduler does nothing; `None` if it works. Who paused it and why is not a narrowed caller's to see.
    pub(in crate::app) async fn scheduler_pause(&self, caller: &Caller) -> Result<Option<String>> {
        Ok(match self.scheduler_switch().await? {
            Some(switch) if !switch.paused => None,
            _ if caller.narrowing.is_some() => Some("the scheduler is paused".to_owned()),
            None => Some(
                "the scheduler is paused, as it is on a new server; `baton scheduler resume` lets it work"
                    .to_owned(),
            ),
            Some(switch) => {
                let why = match switch.reason.as_str() {
                    "" => String::new(),
                    why => format!(" ({why})"),
                };
                Some(format!(
                    "the scheduler was paused by {} at {}{why}",
                    switch.by.name, switch.at
                ))
            }
        })
    }
}
