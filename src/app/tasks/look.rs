//! Looking at tasks.

use super::index::Index;
use super::page::{Found, Place};
use super::{ReadyFilter, TaskFilter};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::dispatch::Candidate;
use crate::app::{failure, records};
use crate::base::id::{AgentId, TaskId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Error, Result, Timestamp};
use crate::domain::Task;
use crate::domain::task::{AssignmentState, Gate, On, Standing, Status};
use crate::store::Record;

/// The most tasks that are named as what blocks one.
const MAX_BLOCKED_BY: usize = 100;
/// The most tasks that are named as what makes one urgent.
const MAX_URGED_BY: usize = 20;
/// The most tasks that are looked through for what becomes of those that somebody has.
const MAX_HELD: usize = 10_000;
/// About how many bytes of tasks a page holds: what the tasks of a list may be is bounded, their sum is not.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// A task with what else is shown of it.
#[derive(Clone, Debug)]
pub struct ShownTask {
    /// The task, without dependencies on tasks that the caller does not see.
    pub task: Task,
    /// Revision of its record.
    pub revision: u64,
    /// What follows for it from the others.
    pub standing: Standing,
}

/// Why a task is ready, or not.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The task.
    pub shown: ShownTask,
    /// Whether it could be begun now.
    pub ready: bool,
    /// What keeps it, or how it stands.
    pub reasons: Vec<Reason>,
    /// What it has its effective priority from, the nearest first.
    pub urged_by: Vec<TaskId>,
    /// What is thought of the scheduler's agents for it; empty if it is not to be begun.
    pub candidates: Vec<Candidate>,
}

/// Something that says how a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What kind.
    pub kind: ReasonKind,
    /// For people.
    pub message: String,
    /// The other task.
    pub task_id: Option<TaskId>,
    /// The agent that has it.
    pub agent_id: Option<AgentId>,
    /// When it is over, where only time must pass.
    pub until: Option<Timestamp>,
}

/// Kinds of reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonKind {
    /// Nothing keeps it.
    Ready,
    /// Its status does.
    Status,
    /// Another task does.
    Blocked,
    /// A gate does.
    Gate,
    /// Its schedule does.
    Scheduled,
    /// An agent has it.
    Assigned,
    /// The scheduler does.
    Scheduler,
}

impl Reason {
    fn new(kind: ReasonKind, message: String) -> Self {
        Reason {
            kind,
            message,
            task_id: None,
            agent_id: None,
            until: None,
        }
    }
}

impl Index {
    /// Whether the caller sees a task that is in the index.
    pub(super) fn seen(&self, caller: &Caller, id: TaskId) -> bool {
        self.get(id)
            .is_some_and(|entry| caller.sees_tasks_of(&entry.directory))
    }

    /// A task's record as it is shown.
    pub(super) fn show(
        &self,
        caller: &Caller,
        mut task: Task,
        revision: u64,
        now: Timestamp,
    ) -> ShownTask {
        let blocked = self.is_blocked(&task, now);
        let blocked_by = match blocked {
            true => self
                .open_awaited(task.id)
                .filter(|id| self.seen(caller, *id))
                .take(MAX_BLOCKED_BY)
                .collect(),
            false => Vec::new(),
        };
        let effective_priority = self.get(task.id).map_or(task.priority, |e| e.effective);
        if caller.narrowing.is_some() {
            task.dependencies.retain(|dependency| match dependency.on {
                On::Task { id, .. } => self.seen(caller, id),
                On::Gate(_) => true,
            });
        }
        ShownTask {
            task,
            revision,
            standing: Standing {
                blocked,
                blocked_by,
                effective_priority,
            },
        }
    }
}

impl App {
    /// A task's record as it is shown.
    pub(crate) fn shown_task(&self, caller: &Caller, task: Task, revision: u64) -> ShownTask {
        self.tasks()
            .ask(|index, now| index.show(caller, task, revision, now))
    }

    /// A task's record with its revision. NOT_FOUND: there is none, or it is not the caller's to see.
    pub(super) async fn task_record(&self, caller: &Caller, id: TaskId) -> Result<(Task, u64)> {
        self.tasks()
            .read(id)
            .await?
            .filter(|(task, _)| caller.sees_tasks_of(&task.directory))
            .ok_or_else(|| Error::not_found("task", id))
    }

    /// One task, whoever asks; `None` if there is none.
    pub async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        Ok(self.tasks().read(id).await?.map(|(task, _)| task))
    }

    /// One task. NOT_FOUND: there is none, or it is not the caller's to see.
    pub async fn get_task(&self, caller: &Caller, id: TaskId) -> Result<ShownTask> {
        let (task, revision) = self.task_record(caller, id).await?;
        Ok(self.shown_task(caller, task, revision))
    }

    /// The tasks that wait for one and that the caller sees: oldest first, at most `MAX_BLOCKED_BY`.
    pub fn tasks_waiting(&self, caller: &Caller, id: TaskId) -> Vec<TaskId> {
        self.tasks().ask(|index, _| {
            let mut waiting: Vec<TaskId> = index
                .waiters(id)
                .filter(|id| index.seen(caller, *id))
                .collect();
            waiting.sort_unstable();
            waiting.dedup();
            waiting.truncate(MAX_BLOCKED_BY);
            waiting
        })
    }

    /// Tasks that the caller sees, newest first.
    pub async fn list_tasks(
        &self,
        caller: &Caller,
        filter: &TaskFilter,
        page: &PageRequest,
    ) -> Result<Page<ShownTask>> {
        filter.check()?;
        let before: Option<TaskId> = match &page.after {
            Some(id) => Some(id.parse()?),
            None => None,
        };
        let sees = |directory: &str| caller.sees_tasks_of(directory);
        let nothing = Found::default();
        let found = self.tasks().ask(|index, _| match filter.parent_id {
            // Whose children are not the caller's to see has none.
            Some(parent) if !index.seen(caller, parent) => nothing,
            _ => index.list(filter, sees, before, page.size),
        });
        let (items, cut) = self
            .read_page(caller, &found.ids, |task| filter.fits(task))
            .await?;
        let next = cut.map(|at| found.ids[at]).or(found.next);
        Ok(Page {
            items,
            next: next.map(|id| id.to_string()),
        })
    }

    /// Tasks that could be begun and that the caller sees: the most urgent first, then the oldest.
    pub async fn list_ready_tasks(
        &self,
        caller: &Caller,
        filter: &ReadyFilter,
        page: &PageRequest,
    ) -> Result<Page<ShownTask>> {
        filter.check()?;
        let from = Place::of(page)?;
        let sees = |directory: &str| caller.sees_tasks_of(directory);
        let (found, places) = self
            .tasks()
            .ask(|index, _| index.list_ready(filter, sees, from, page.size));
        let (items, cut) = self
            .read_page(caller, &found.ids, |task| filter.fits(task))
            .await?;
        let next = cut.map(|at| places[at]).or(found.next);
        Ok(Page {
            items,
            next: next.map(Place::key),
        })
    }

    /// The records of a page, without those that are gone by now or do not fit. If they are too much for one
    /// page: where among `ids` the last is that was taken.
    async fn read_page(
        &self,
        caller: &Caller,
        ids: &[TaskId],
        fits: impl Fn(&Task) -> bool,
    ) -> Result<(Vec<ShownTask>, Option<usize>)> {
        let mut records = Vec::with_capacity(ids.len());
        let mut bytes = 0;
        let mut cut = None;
        for (at, id) in ids.iter().enumerate() {
            if bytes > MAX_PAGE_BYTES {
                cut = at.checked_sub(1);
                break;
            }
            if let Some((task, revision)) = self.tasks().read(*id).await?
                && fits(&task)
            {
                bytes += weight(&task);
                records.push((task, revision));
            }
        }
        let items = self.tasks().ask(|index, now| {
            records
                .into_iter()
                .map(|(task, revision)| index.show(caller, task, revision, now))
                .collect()
        });
        Ok((items, cut))
    }

    /// What an agent could begin now, the most urgent first: what it has, then, if asked, what nobody has and
    /// needs nothing but its capabilities. At most `limit`, and at most [`crate::base::page::MAX_PAGE_SIZE`].
    pub async fn ready_tasks_for(
        &self,
        agent: AgentId,
        capabilities: &[String],
        unassigned: bool,
        limit: usize,
    ) -> Result<Vec<Task>> {
        let own = ReadyFilter {
            agent_id: Some(agent),
            ..ReadyFilter::default()
        };
        let free = ReadyFilter {
            unassigned: true,
            capabilities: Some(capabilities.to_vec()),
            ..ReadyFilter::default()
        };
        let limit = limit.min(crate::base::page::MAX_PAGE_SIZE);
        let mut tasks = Vec::new();
        for filter in [Some(own), unassigned.then_some(free)]
            .into_iter()
            .flatten()
        {
            let mut from = None;
            while tasks.len() < limit {
                let size = limit - tasks.len();
                let (found, _) = self
                    .tasks()
                    .ask(|index, _| index.list_ready(&filter, |_| true, from, size));
                for id in found.ids {
                    let task = self.task(id).await?;
                    tasks.extend(task.filter(|task| filter.fits(task)));
                }
                match found.next {
                    Some(next) => from = Some(next),
                    None => break,
                }
            }
        }
        Ok(tasks)
    }

    /// What an agent has and could go on with or begin now, the most urgent first; of what is equally urgent, what
    /// it has begun comes first. At most `limit`.
    pub async fn tasks_in_hand(
        &self,
        agent: AgentId,
        capabilities: &[String],
        limit: usize,
    ) -> Result<Vec<Task>> {
        let limit = limit.min(crate::base::page::MAX_PAGE_SIZE);
        let begun = TaskFilter {
            agent_id: Some(agent),
            statuses: vec![Status::InProgress],
            ..TaskFilter::default()
        };
        let begun = self
            .tasks()
            .ask(|index, _| index.list(&begun, |_| true, None, limit).ids);
        let mut tasks = Vec::new();
        for id in begun {
            tasks.extend(self.task(id).await?);
        }
        let ready = self
            .ready_tasks_for(agent, capabilities, false, limit)
            .await?;
        Ok(self.tasks().ask(|index, now| {
            let begun = tasks.into_iter().filter(|task| {
                let is_its = task.living().is_some_and(|living| living.agent_id == agent);
                is_its && !index.is_blocked(task, now) && task.wakes_at().is_none_or(|at| at <= now)
            });
            let mut all: Vec<(u8, bool, Task)> = begun
                .map(|task| (true, task))
                .chain(ready.into_iter().map(|task| (false, task)))
                .map(|(is_begun, task)| {
                    let effective = index.get(task.id).map_or(task.priority, |e| e.effective);
                    (effective, !is_begun, task)
                })
                .collect();
            all.sort_by_key(|(effective, fresh, task)| (*effective, *fresh, task.id));
            all.dedup_by_key(|(_, _, task)| task.id);
            all.truncate(limit);
            all.into_iter().map(|(_, _, task)| task).collect()
        }))
    }

    /// Tasks that somebody has, at most [`MAX_HELD`].
    pub(in crate::app) async fn held_tasks(&self) -> Result<Vec<Task>> {
        let ids: Vec<TaskId> = self.tasks().ask(|index, _| {
            let held = index.by_holder.iter().map(|(_, id)| *id);
            held.take(MAX_HELD).collect()
        });
        let mut tasks = Vec::with_capacity(ids.len());
        for id in ids {
            tasks.extend(self.task(id).await?);
        }
        Ok(tasks)
    }

    /// Records of tasks that are not closed, after a key, at most `limit`; as many keys as asked for, unless there
    /// are no more.
    pub(crate) async fn open_tasks(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        let mut after = match after.and_then(|key| key.strip_prefix(records::TASKS)) {
            Some(id) => Some(id.parse::<TaskId>().map_err(Error::internal)?),
            None => None,
        };
        let mut found = Vec::with_capacity(limit);
        while found.len() < limit {
            let room = limit - found.len();
            let ids = self.tasks().ask(|index, _| index.open_after(after, room));
            let Some(last) = ids.last() else { break };
            after = Some(*last);
            for id in &ids {
                // One that was deleted meanwhile is not there.
                let key = records::task_key(*id);
                found.extend(self.store().get(&key).await.map_err(failure::from_store)?);
            }
        }
        Ok(found)
    }

    /// Why a task is ready, or not. NOT_FOUND: there is none, or it is not the caller's to see.
    pub async fn explain_task(&self, caller: &Caller, id: TaskId) -> Result<Explanation> {
        let (task, revision) = self.task_record(caller, id).await?;
        let is_ready = self.tasks().ask(|index, _| index.is_ready(id));
        let (scheduler, candidates) = self.dispatch_view(caller, &task, is_ready).await?;
        Ok(self.tasks().ask(|index, now| {
            let ready = index.is_ready(id);
            let mut reasons = reasons(index, caller, &task, now);
            if ready {
                let text = match task.living() {
                    Some(holder) => format!("it could be begun now, by {}", holder.agent_id),
                    None => "it could be begun now".to_owned(),
                };
                reasons.insert(0, Reason::new(ReasonKind::Ready, text));
            }
            let scheduler = scheduler.into_iter();
            reasons.extend(scheduler.map(|text| Reason::new(ReasonKind::Scheduler, text)));
            let urged_by = index
                .urged_by(id, MAX_URGED_BY)
                .into_iter()
                .filter(|id| index.seen(caller, *id))
                .collect();
            Explanation {
                shown: index.show(caller, task, revision, now),
                ready,
                reasons,
                urged_by,
                candidates,
            }
        }))
    }
}

/// What keeps a task, or says how it stands.
fn reasons(index: &Index, caller: &Caller, task: &Task, now: Timestamp) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let status = match task.status {
        Status::Open | Status::InProgress => None,
        Status::Deferred => Some("it is deferred; move it to open"),
        Status::Backlog => Some("it is in the backlog; move it to open"),
        Status::Review => Some("it is in review; close it, or reopen it"),
        Status::Closed => Some("it is closed"),
    };
    reasons.extend(status.map(|text| Reason::new(ReasonKind::Status, text.to_owned())));
    if task.status == Status::Closed {
        return reasons;
    }
    if let Some(holder) = task.living() {
        let text = match holder.state {
            AssignmentState::Assigned => format!("{} has it and has not begun", holder.agent_id),
            _ => format!("{} works on it", holder.agent_id),
        };
        reasons.push(Reason {
            agent_id: Some(holder.agent_id),
            ..Reason::new(ReasonKind::Assigned, text)
        });
    }
    let mut hidden = 0;
    for other in index.open_awaited(task.id).take(MAX_BLOCKED_BY) {
        match index.get(other) {
            Some(entry) if caller.sees_tasks_of(&entry.directory) => reasons.push(Reason {
                task_id: Some(other),
                ..Reason::new(
                    ReasonKind::Blocked,
                    format!(
                        "it waits for {other} ({}), which is {}",
                        entry.title,
                        entry.status.as_str()
                    ),
                )
            }),
            _ => hidden += 1,
        }
    }
    if hidden > 0 {
        reasons.push(Reason::new(
            ReasonKind::Blocked,
            "it waits for tasks that you do not see".to_owned(),
        ));
    }
    for gate in task.closed_gates(now) {
        let (text, until) = match gate {
            Gate::Timer { until } => (format!("it waits until {until}"), Some(*until)),
            _ => (
                format!(
                    "it waits for {}; removing that dependency opens the gate",
                    gate.describe()
                ),
                None,
            ),
        };
        reasons.push(Reason {
            until,
            ..Reason::new(ReasonKind::Gate, text)
        });
    }
    if let Some(at) = task.scheduled_for.filter(|at| now < *at) {
        reasons.push(Reason {
            until: Some(at),
            ..Reason::new(
                ReasonKind::Scheduled,
                format!("it is not to be begun before {at}"),
            )
        });
    }
    reasons
}

/// About how many bytes a task takes in a list.
fn weight(task: &Task) -> usize {
    let labels = task.labels.iter().map(|(k, v)| k.len() + v.len() + 8);
    let words = task
        .required_capabilities
        .iter()
        .chain(&task.preferred_capabilities)
        .map(|word| word.len() + 4);
    let dependencies = task.dependencies.iter().map(|dependency| {
        let gate = match &dependency.on {
            On::Gate(gate) => gate.describe().len(),
            On::Task { .. } => 0,
        };
        gate + dependency.by.name.len() + 160
    });
    let sessions = task
        .living()
        .map_or(0, |living| 40 * living.session_ids.len());
    let fixed = 1_024 + task.title.len() + task.directory.len() + sessions;
    fixed + labels.chain(words).chain(dependencies).sum::<usize>()
}
