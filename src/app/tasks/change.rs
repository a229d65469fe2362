//! Changing tasks: each verb is one commit with the answer to its repeat.

use super::graph::judge_link;
use super::index::Reserved;
use super::{Effect, MAX_TASKS, TRIES, too_busy};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::app::idempotency::{Begin, Fresh, digest};
use crate::app::records;
use crate::app::sight::beyond;
use crate::app::tasks::ShownTask;
use crate::base::id::{AgentId, AssignmentId, TaskId, WorktreeId};
use crate::base::{Code, Error, Result, Timestamp};
use crate::domain::task::{self, Draft, On, Outcome, Status, Update};
use crate::domain::{Actor, Task};
use crate::store::{self, Expect, RecordOp};

use super::Kept;

/// Which task a caller means to change, and what it thought it was.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The task.
    pub id: TaskId,
    /// The revision that was read; `None` is any.
    pub revision: Option<u64>,
    /// Makes a repeat harmless; empty is none.
    pub request_id: &'a str,
}

/// Whether a request is new: what to do it with, or that it was done.
pub(super) enum Begun {
    /// Do it.
    Fresh(Fresh),
    /// It was done to this task.
    Done(TaskId),
}

impl App {
    /// Whether the caller has made this request before; `what` is all that it says.
    pub(super) async fn begin_task(
        &self,
        caller: &Caller,
        method: &str,
        request_id: &str,
        what: &str,
    ) -> Result<Begun> {
        let request = digest(what.as_bytes());
        match self
            .idempotency()
            .begin(caller, method, request_id, request)
            .await?
        {
            Begin::Fresh(fresh) => Ok(Begun::Fresh(fresh)),
            Begin::Repeat(answer) => {
                let id = std::str::from_utf8(&answer).map_err(Error::internal)?;
                Ok(Begun::Done(id.parse().map_err(Error::internal)?))
            }
        }
    }

    /// Makes a task.
    pub async fn create_task(
        &self,
        caller: &Caller,
        request_id: &str,
        draft: Draft,
    ) -> Result<ShownTask> {
        draft.check()?;
        if !caller.sees_tasks_of(&draft.directory) {
            return Err(beyond(
                caller,
                "makes tasks beneath projects on every daemon only; name a directory there",
            ));
        }
        let fresh = match self
            .begin_task(caller, "CreateTask", request_id, &format!("{draft:?}"))
            .await?
        {
            Begun::Done(id) => return self.get_task(caller, id).await,
            Begun::Fresh(fresh) => fresh,
        };
        let now = self.clock().now();
        let id = TaskId::generate(now);
        let links: Vec<On> = draft.dependencies.clone();
        let kept = self.tasks().keep(|index| {
            if index.entries.len() >= MAX_TASKS {
                return Err(Error::new(
                    Code::LimitExceeded,
                    format!("there are {MAX_TASKS} tasks already; delete some first"),
                ));
            }
            let mut all = Reserved::default();
            for (position, on) in links.iter().enumerate() {
                let at = format!("dependencies[{position}]");
                let one = judge_link(index, caller, &at, id, on, &all)?;
                all.waits.extend(one.waits);
                all.links.extend(one.links);
            }
            Ok(all)
        })?;
        let task = Task::new(id, draft, &caller.actor(), now);
        let mut ops = vec![records::put(records::task_key(id), &task, Expect::Absent)?];
        ops.extend(self.heard(None, &task)?);
        ops.extend(fresh.op(id.to_string().as_bytes()));
        let effects = vec![Effect::Put(Box::new(task.clone()))];
        let revision = self
            .tasks()
            .commit(ops, effects, Some(kept), Some(fresh))
            .await?
            .0
            .map_err(failure::from_store)?;
        Ok(self.shown_task(caller, task, revision))
    }

    /// Changes what needs no verb.
    pub async fn update_task(
        &self,
        caller: &Caller,
        target: Target<'_>,
        update: Update,
    ) -> Result<ShownTask> {
        update.check()?;
        let what = format!("{update:?}");
        self.verb(caller, "UpdateTask", target, &what, |task, by, now| {
            task.update(update.clone(), by, now)
        })
        .await
    }

    /// Gives a task to an agent. ALREADY_EXISTS: somebody has it.
    pub async fn assign_task(
        &self,
        caller: &Caller,
        target: Target<'_>,
        agent: AgentId,
        branch: &str,
        worktree: Option<WorktreeId>,
    ) -> Result<ShownTask> {
        task::branch("branch", branch)?;
        self.task_record(caller, target.id).await?;
        self.known_agent(caller, agent).await?;
        if let Some(worktree) = worktree {
            self.worktree_record(caller, worktree).await?;
        }
        let what = format!("{agent} {branch:?} {worktree:?}");
        self.verb(caller, "AssignTask", target, &what, |task, by, now| {
            let id = AssignmentId::generate(now);
            task.assign(id, agent, branch, worktree, by, now)
        })
        .await
    }

    /// Takes a task from who has it, for another agent or the ready queue.
    pub async fn hand_off_task(
        &self,
        caller: &Caller,
        target: Target<'_>,
        note: &str,
        agent: Option<AgentId>,
    ) -> Result<ShownTask> {
        task::note("note", note)?;
        self.task_record(caller, target.id).await?;
        if let Some(agent) = agent {
            self.known_agent(caller, agent).await?;
        }
        let what = format!("{note:?} {agent:?}");
        self.verb(caller, "HandOffTask", target, &what, |task, by, now| {
            let next = agent.map(|agent| (AssignmentId::generate(now), agent));
            task.hand_off(note, next, by, now)
        })
        .await
    }

    /// A task is done.
    pub async fn complete_task(
        &self,
        caller: &Caller,
        target: Target<'_>,
        summary: &str,
        outcome: Outcome,
    ) -> Result<ShownTask> {
        task::note("summary", summary)?;
        let what = format!("{summary:?} {outcome:?}");
        self.verb(caller, "CompleteTask", target, &what, |task, by, now| {
            task.complete(summary, outcome, by, now)
        })
        .await
    }

    /// Opens a task again.
    pub async fn reopen_task(
        &self,
        caller: &Caller,
        target: Target<'_>,
        note: &str,
        same_agent: bool,
    ) -> Result<ShownTask> {
        task::note("note", note)?;
        let what = format!("{note:?} {same_agent}");
        self.verb(caller, "ReopenTask", target, &what, |task, by, now| {
            let again = same_agent.then(|| AssignmentId::generate(now));
            task.reopen(note, again, by, now)
        })
        .await
    }

    /// One verb of a caller: once for each `request_id`.
    pub(super) async fn verb(
        &self,
        caller: &Caller,
        method: &str,
        target: Target<'_>,
        what: &str,
        change: impl FnMut(&mut Task, &Actor, Timestamp) -> Result<()>,
    ) -> Result<ShownTask> {
        let what = format!("{} {:?} {what}", target.id, target.revision);
        let fresh = match self
            .begin_task(caller, method, target.request_id, &what)
            .await?
        {
            Begun::Done(id) => return self.get_task(caller, id).await,
            Begun::Fresh(fresh) => fresh,
        };
        self.change_task(caller, target, None, fresh, change).await
    }

    /// Reads a task, changes it and commits; again, if something else was faster and the caller did not say
    /// which revision it means.
    pub(super) async fn change_task(
        &self,
        caller: &Caller,
        target: Target<'_>,
        kept: Option<Kept>,
        fresh: Fresh,
        mut change: impl FnMut(&mut Task, &Actor, Timestamp) -> Result<()>,
    ) -> Result<ShownTask> {
        let by = caller.actor();
        // They go into the job that commits, and are made out of nothing for another try: only the first
        // commit that is not too late takes them.
        let (mut kept, mut fresh) = (kept, Some(fresh));
        for _ in 0..TRIES {
            let (task, revision) = self.task_record(caller, target.id).await?;
            check_revision(target, revision)?;
            let (committed, back) = self
                .change_once(task, revision, &by, kept.take(), fresh.take(), &mut change)
                .await?;
            match committed {
                Some((task, revision)) => return Ok(self.shown_task(caller, task, revision)),
                None => (kept, fresh) = back,
            }
        }
        Err(too_busy(target.id))
    }

    /// The same for the server's own part, whoever sees the task. NOT_FOUND: there is none.
    pub(in crate::app) async fn change_own(
        &self,
        id: TaskId,
        by: &Actor,
        mut change: impl FnMut(&mut Task, &Actor, Timestamp) -> Result<()>,
    ) -> Result<Task> {
        for _ in 0..TRIES {
            let (task, revision) = self
                .tasks()
                .read(id)
                .await?
                .ok_or_else(|| Error::not_found("task", id))?;
            let (committed, _) = self
                .change_once(task, revision, by, None, None, &mut change)
                .await?;
            if let Some((task, _)) = committed {
                return Ok(task);
            }
        }
        Err(too_busy(id))
    }

    /// Changes a task as it was read. If something else was faster, nothing was done, and what was handed in
    /// comes back.
    async fn change_once(
        &self,
        mut task: Task,
        revision: u64,
        by: &Actor,
        kept: Option<Kept>,
        fresh: Option<Fresh>,
        change: &mut impl FnMut(&mut Task, &Actor, Timestamp) -> Result<()>,
    ) -> Result<(Option<(Task, u64)>, (Option<Kept>, Option<Fresh>))> {
        let now = self.clock().now();
        let before = (task.clone(), revision);
        change(&mut task, by, now)?;
        let answer = fresh
            .as_ref()
            .and_then(|fresh| fresh.op(task.id.to_string().as_bytes()));
        if task == before.0 && answer.is_none() {
            return Ok((Some(before), (kept, fresh)));
        }
        let key = records::task_key(task.id);
        let mut ops = vec![records::put(
            key.clone(),
            &task,
            Expect::Revision(revision),
        )?];
        ops.extend(turned(&before.0, &task));
        ops.extend(self.heard(Some(&before.0), &task)?);
        ops.extend(answer);
        let effects = vec![Effect::Put(Box::new(task.clone()))];
        let (outcome, back) = self.tasks().commit(ops, effects, kept, fresh).await?;
        match outcome {
            Ok(revision) => Ok((Some((task, revision)), (None, None))),
            Err(store::Error::Stale { key: stale, .. }) if stale == key => Ok((None, back)),
            Err(error) => Err(failure::from_store(error)),
        }
    }
}

/// STALE unless the record is as the caller read it.
pub(super) fn check_revision(target: Target<'_>, revision: u64) -> Result<()> {
    match target.revision {
        Some(wanted) if wanted != revision => Err(Error::new(
            Code::Stale,
            format!("{} changed since it was read; read it again", target.id),
        )),
        _ => Ok(()),
    }
}

/// The mark that tells those who watch that what waits for a task may stand otherwise.
fn turned(before: &Task, after: &Task) -> Option<RecordOp> {
    let is_closed = |task: &Task| task.status == Status::Closed;
    (is_closed(before) != is_closed(after))
        .then(|| records::mark(records::task_turned_key(after.id), after.status.as_str()))
}
