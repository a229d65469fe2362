//! What starts stewards by themselves.
//!
//! An event is a mark that is stored in the commit of the task that it happens to, so that none is lost and none is
//! heard that did not happen. The marks, and the times at which triggers have fired, are changed in the commit that
//! makes the steward's session: whatever dies in between, a steward is started once for what it is told of.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::app::access::Caller;
use crate::app::agents::{StartAgent, Triggered, new_session};
use crate::app::sessions::{Ask, joined};
use crate::app::{App, failure, records};
use crate::base::id::{AgentId, TaskId};
use crate::base::{Result, Timestamp};
use crate::domain::session::Mode;
use crate::domain::trigger::{EVENTS, Occasion, TaskEvent, Trigger, concerns};
use crate::domain::{Agent, Task};
use crate::store::{Commit, Expect, Record, RecordOp};

/// How many tasks a steward is told of at once; what is left, the next time.
const TOLD_AT_ONCE: usize = 100;
/// The least time between two starts because of events: what a steward does may be an event itself.
const BETWEEN: Duration = Duration::from_secs(60);
/// How long a session that a trigger has started may run, if the agent's limits say nothing.
const RUNTIME: Duration = Duration::from_secs(30 * 60);
/// Records read at once.
const CHUNK: usize = 500;

/// When the triggers of a steward have started it, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    at: BTreeMap<String, Timestamp>,
}

/// That something happened to a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    task: TaskId,
    event: TaskEvent,
    at: Timestamp,
}

/// How a trigger stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerState {
    /// The trigger.
    pub trigger: Trigger,
    /// When its time comes next, or came if it waits; `None` for events.
    pub next_at: Option<Timestamp>,
    /// When it started the steward last.
    pub fired_at: Option<Timestamp>,
    /// How many tasks it waits to tell of.
    pub tasks: usize,
    /// What keeps it from starting the steward.
    pub obstacle: Option<String>,
}

/// What a steward is to be started with.
#[derive(Default)]
struct Due {
    /// What it is told; empty if there is nothing to start it for.
    input: String,
    /// What is changed with it.
    ops: Vec<RecordOp>,
}

impl App {
    /// The marks for those that are to be told of a change of a task; `before` is `None` if it is made.
    pub(in crate::app) fn heard(
        &self,
        before: Option<&Task>,
        after: &Task,
    ) -> Result<Vec<RecordOp>> {
        let events = TaskEvent::of(before, after);
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let at = self.clock().now();
        let mut marks = Vec::new();
        for (steward, triggered) in self.agents().triggered() {
            for event in &events {
                if !triggered.hears(*event, after) {
                    continue;
                }
                let heard = Heard {
                    task: after.id,
                    event: *event,
                    at,
                };
                let key = records::heard_key(steward, after.id, *event);
                marks.push(records::put(key, &heard, Expect::Any)?);
            }
        }
        Ok(marks)
    }

    /// Starts the stewards whose triggers want that.
    pub(in crate::app) async fn pull_triggers(&self) -> Result<()> {
        for (steward, triggered) in self.agents().triggered() {
            let now = self.clock().now();
            let rests = self.dispatching().refusal(None, steward, now).is_some();
            if rests || self.active_session(steward).await?.is_some() {
                continue;
            }
            match self.pull(steward, &triggered, now).await {
                Ok(()) => self.dispatching().started(steward),
                Err(error) => {
                    tracing::info!(agent = %steward, ?error, "a steward could not be started");
                    self.dispatching().refused(None, steward, &error, now);
                }
            }
        }
        Ok(())
    }

    async fn pull(&self, id: AgentId, triggered: &Triggered, now: Timestamp) -> Result<()> {
        let due = self.due(id, triggered, now).await?;
        if due.ops.is_empty() {
            return Ok(());
        }
        if due.input.is_empty() {
            return self.change_records(due.ops).await;
        }
        let Some((agent, _)) = self.agent_record(id).await? else {
            return Ok(());
        };
        let start = StartAgent {
            input: due.input,
            mode: Some(Mode::Headless),
            ..StartAgent::default()
        };
        let mut new = new_session(&agent, start);
        new.one_shot = true;
        new.limits.runtime.get_or_insert(RUNTIME);
        let caller = Caller::scheduler();
        let ask = Ask {
            caller: &caller,
            method: "StartAgent",
            request_id: "",
            detail: String::new(),
            agent: Some(id),
        };
        let session = self.make_session_of(&ask, new, &due.ops).await?;
        tracing::info!(agent = %id, session = %session.id, "a steward is started by its triggers");
        Ok(())
    }

    /// What a steward is to be started for now.
    async fn due(&self, id: AgentId, triggered: &Triggered, now: Timestamp) -> Result<Due> {
        let (mut fired, revision) = self.fired(id).await?;
        let mut due = Due::default();
        let mut has_fired = false;
        for trigger in &triggered.triggers {
            if triggered
                .next(trigger, &fired)
                .is_some_and(|next| next <= now)
            {
                due.input = joined(std::mem::take(&mut due.input), &told_at(trigger));
                fired.at.insert(trigger.name(), now);
                has_fired = true;
            }
        }
        if let Some((told, settled)) = self.due_events(id, triggered, &fired, now).await? {
            due.ops = settled;
            if !told.is_empty() {
                due.input = joined(std::mem::take(&mut due.input), &told);
                fired.at.insert(EVENTS.to_owned(), now);
                has_fired = true;
            }
        }
        if has_fired {
            let names: Vec<String> = triggered.triggers.iter().map(Trigger::name).collect();
            fired.at.retain(|name, _| names.contains(name));
            let expect = revision.map_or(Expect::Absent, Expect::Revision);
            due.ops
                .push(records::put(records::fired_key(id), &fired, expect)?);
        }
        Ok(due)
    }

    /// What a steward is told of events, and the marks that are settled by that. `None`: it is too soon.
    async fn due_events(
        &self,
        id: AgentId,
        triggered: &Triggered,
        fired: &Fired,
        now: Timestamp,
    ) -> Result<Option<(String, Vec<RecordOp>)>> {
        let last = fired.at.get(EVENTS);
        if last.is_some_and(|last| now < last.saturating_add(BETWEEN)) {
            return Ok(None);
        }
        let heard = self.heard_marks(id, TOLD_AT_ONCE).await?;
        let mut settled = Vec::with_capacity(heard.len());
        let mut tasks = Vec::new();
        for (heard, record) in heard {
            settled.push(RecordOp {
                key: record.key,
                expect: Expect::Revision(record.revision),
                value: None,
            });
            if let Some(task) = self.task(heard.task).await? {
                tasks.push((heard.event, task));
            }
        }
        let mut told = String::new();
        for trigger in &triggered.triggers {
            let news: Vec<&(TaskEvent, Task)> = tasks
                .iter()
                .filter(|(event, task)| trigger.hears(*event, task))
                .collect();
            if let Some((event, _)) = news.first().copied() {
                let mut list = format!("{}:", event.heading());
                for (_, task) in news {
                    list.push('\n');
                    list.push_str(&line(task));
                }
                told = joined(told, &joined(trigger.input.clone(), &list));
            }
        }
        Ok(Some((told, settled)))
    }

    /// How the triggers of an agent stand.
    pub(in crate::app) async fn trigger_states(
        &self,
        caller: &Caller,
        agent: &Agent,
    ) -> Result<Vec<TriggerState>> {
        if agent.settings.triggers.is_empty() {
            return Ok(Vec::new());
        }
        let triggered = Triggered::of(agent);
        let (fired, _) = self.fired(agent.id).await?;
        let heard = self.heard_marks(agent.id, TOLD_AT_ONCE).await?;
        let refusal = self
            .dispatching()
            .refusal(None, agent.id, self.clock().now());
        let refused = refusal.map(|refusal| {
            format!(
                "it could not be started a moment ago ({}); that is tried again at {}",
                refusal.why, refusal.until
            )
        });
        let obstacle = match agent.settings.disabled {
            true => Some("the agent is disabled".to_owned()),
            false => self.scheduler_pause(caller).await?.or(refused),
        };
        let state = |trigger: &Trigger| TriggerState {
            next_at: triggered.next(trigger, &fired),
            fired_at: fired.at.get(&trigger.name()).copied(),
            tasks: match &trigger.on {
                Occasion::Cron(_) => 0,
                Occasion::Event(of) => {
                    let of_event = heard.iter().filter(|(heard, _)| heard.event == of.event);
                    of_event.count()
                }
            },
            obstacle: obstacle.clone(),
            trigger: trigger.clone(),
        };
        Ok(triggered.triggers.iter().map(state).collect())
    }

    /// Removes what stewards were to be told of that listen no more.
    pub(in crate::app) async fn forget_unheard(&self) -> Result<()> {
        let listening: Vec<String> = self
            .agents()
            .triggered()
            .into_iter()
            .map(|(id, _)| records::heard_prefix(id))
            .collect();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store()
                .scan(records::HEARD, after.as_deref(), CHUNK)
                .await
                .map_err(failure::from_store)?;
            let unheard = page.iter().filter(|record| {
                !listening
                    .iter()
                    .any(|prefix| record.key.starts_with(prefix))
            });
            let ops: Vec<RecordOp> = unheard
                .map(|record| records::remove(record.key.clone()))
                .collect();
            if !ops.is_empty() {
                self.change_records(ops).await?;
            }
            match page.last() {
                Some(last) if page.len() == CHUNK => after = Some(last.key.clone()),
                _ => return Ok(()),
            }
        }
    }

    async fn change_records(&self, ops: Vec<RecordOp>) -> Result<()> {
        let commit = Commit {
            ops,
            ..Commit::default()
        };
        let done = self.store().commit(commit).await;
        done.map(drop).map_err(failure::from_store)
    }

    async fn fired(&self, id: AgentId) -> Result<(Fired, Option<u64>)> {
        let found = records::get(self.store().as_ref(), &records::fired_key(id)).await?;
        Ok(match found {
            Some((fired, revision)) => (fired, Some(revision)),
            None => (Fired::default(), None),
        })
    }

    async fn heard_marks(&self, id: AgentId, limit: usize) -> Result<Vec<(Heard, Record)>> {
        let page = self
            .store()
            .scan(&records::heard_prefix(id), None, limit)
            .await
            .map_err(failure::from_store)?;
        page.into_iter()
            .map(|record| Ok((records::decode(&record)?, record)))
            .collect()
    }
}

impl Triggered {
    fn hears(&self, event: TaskEvent, task: &Task) -> bool {
        concerns(&self.directory, task)
            && self
                .triggers
                .iter()
                .any(|trigger| trigger.hears(event, task))
    }

    /// When a trigger's time comes, or came if it has not fired since.
    fn next(&self, trigger: &Trigger, fired: &Fired) -> Option<Timestamp> {
        let last = fired.at.get(&trigger.name()).copied();
        trigger.schedule()?.next(last.unwrap_or(self.since))
    }
}

/// What a steward is told when its time has come.
fn told_at(trigger: &Trigger) -> String {
    match trigger.input.as_str() {
        "" => format!("It is time for what you look after ({}).", trigger.name()),
        input => input.to_owned(),
    }
}

/// A task, in a line of a list.
fn line(task: &Task) -> String {
    let mut line = format!("- {} {}", task.id, task.title);
    let last = task.living().or(task.assignments.last());
    if let Some(last) = last {
        if !last.branch.is_empty() {
            line.push_str(&format!(", branch {}", last.branch));
        }
        if !last.escalation.is_empty() {
            line.push_str(&format!(" ({})", last.escalation));
        }
    }
    line
}

#[cfg(test)]
mod tests;
