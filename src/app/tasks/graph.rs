//! What tasks wait for: adding and removing dependencies, and deleting what others depend on.

use std::time::Duration;

use super::change::{Begun, Target, check_revision};
use super::index::{Index, Reserved};
use super::{Effect, GoneTask, MAX_REFERRERS, PAGE, ShownTask, TRIES, too_busy};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::app::records;
use crate::base::id::TaskId;
use crate::base::{Code, Error, Result};
use crate::domain::Task;
use crate::domain::task::On;
use crate::store::{self, Commit, Expect, RecordOp};

/// How long a deleted task is remembered for those who watched it.
const GONE_KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);
/// The most tasks that an error names.
const MAX_NAMED: usize = 16;
/// The most bytes of records that one deletion changes; below what a commit takes.
const MAX_CHANGED_BYTES: usize = 12 << 20;

/// Whether a task may get a dependency: the other is there and seen, has not too many already, and nothing would
/// wait for itself. `so_far` are edges that will be there by then. `at` is the field it came from.
pub(super) fn judge_link(
    index: &Index,
    caller: &Caller,
    at: &str,
    from: TaskId,
    on: &On,
    so_far: &Reserved,
) -> Result<Reserved> {
    let On::Task { relation, id } = *on else {
        return Ok(Reserved::default());
    };
    if id == from && !relation.is_blocking() {
        return Err(Error::invalid(
            &format!("{at}.on_task_id"),
            "is the task itself",
        ));
    }
    if !index.stands(id) || !index.seen(caller, id) {
        return Err(Error::not_found("task", id));
    }
    if index.count_referrers(id) >= MAX_REFERRERS {
        return Err(Error::new(
            Code::LimitExceeded,
            format!("{MAX_REFERRERS} dependencies on {id} are there, the most there may be"),
        ));
    }
    let waits = relation.waits(from, id);
    if let Some((waiter, awaited)) = waits
        && let Some(circle) = index.cycle(waiter, awaited, &so_far.waits)
    {
        return Err(cycle(index, caller, from, &circle));
    }
    Ok(Reserved {
        waits: waits.into_iter().collect(),
        links: vec![(from, id)],
        deletes: None,
    })
}

fn cycle(index: &Index, caller: &Caller, from: TaskId, circle: &[TaskId]) -> Error {
    // The task itself may be one that is only being made.
    let seen = |id: &&TaskId| **id == from || index.seen(caller, **id);
    let named: Vec<String> = circle
        .iter()
        .filter(seen)
        .take(MAX_NAMED)
        .map(TaskId::to_string)
        .collect();
    let more = match circle.len() > named.len() {
        true => " and others",
        false => "",
    };
    Error::new(
        Code::Cycle,
        format!(
            "tasks would wait for each other in a circle: {}{more}; remove one of the dependencies between them",
            named.join(" waits for ")
        ),
    )
    .with("cycle", named.join(","))
    .with("cycle_length", circle.len())
}

impl App {
    /// Adds a dependency. CYCLE: something would wait for itself.
    pub async fn add_dependency(
        &self,
        caller: &Caller,
        target: Target<'_>,
        on: On,
    ) -> Result<ShownTask> {
        check(&on)?;
        self.task_record(caller, target.id).await?;
        let what = format!("{} {:?} {on:?}", target.id, target.revision);
        let fresh = match self
            .begin_task(caller, "AddDependency", target.request_id, &what)
            .await?
        {
            Begun::Done(id) => return self.get_task(caller, id).await,
            Begun::Fresh(fresh) => fresh,
        };
        let kept = self.tasks().keep(|index| {
            if index.is_going(target.id) {
                return Err(Error::not_found("task", target.id));
            }
            judge_link(index, caller, "on", target.id, &on, &Reserved::default())
        })?;
        self.change_task(caller, target, Some(kept), fresh, |task, by, now| {
            task.depend(on.clone(), by, now)
        })
        .await
    }

    /// Removes a dependency; opens a gate.
    pub async fn remove_dependency(
        &self,
        caller: &Caller,
        target: Target<'_>,
        on: On,
    ) -> Result<ShownTask> {
        check(&on)?;
        self.task_record(caller, target.id).await?;
        // To a narrowed caller, a dependency on what it does not see is not there.
        let is_seen = match on {
            On::Task { id, .. } if caller.narrowing.is_some() => {
                self.tasks().ask(|index, _| index.seen(caller, id))
            }
            _ => true,
        };
        let what = format!("{on:?}");
        self.verb(
            caller,
            "RemoveDependency",
            target,
            &what,
            |task, by, now| {
                if !is_seen {
                    return Err(Error::new(
                        Code::NotFound,
                        "the task has no such dependency",
                    ));
                }
                task.undepend(&on, by, now)
            },
        )
        .await
    }

    /// Deletes a task, with `force` also one that others depend on, together with these dependencies, or that an
    /// agent has.
    pub async fn delete_task(
        &self,
        caller: &Caller,
        target: Target<'_>,
        force: bool,
    ) -> Result<()> {
        let what = format!("{} {:?} {force}", target.id, target.revision);
        let fresh = match self
            .begin_task(caller, "DeleteTask", target.request_id, &what)
            .await?
        {
            Begun::Done(_) => return Ok(()),
            Begun::Fresh(fresh) => fresh,
        };
        let mut fresh = Some(fresh);
        for _ in 0..TRIES {
            let (task, revision) = self.task_record(caller, target.id).await?;
            check_revision(target, revision)?;
            if let Some(holder) = task.living()
                && !force
            {
                return Err(Error::state(format!(
                    "{} has the task; hand it off or complete it first, or force the deletion",
                    holder.agent_id
                ))
                .with("holder", holder.agent_id));
            }
            let mut referrers = Vec::new();
            let kept = self.tasks().keep(|index| {
                if index.is_going(target.id) {
                    return Err(Error::not_found("task", target.id));
                }
                referrers = index.referrers(target.id).into_iter().collect();
                may_delete(index, caller, &referrers, force)?;
                Ok(Reserved {
                    deletes: Some(target.id),
                    ..Reserved::default()
                })
            })?;
            let answer = fresh
                .as_ref()
                .and_then(|fresh| fresh.op(target.id.to_string().as_bytes()));
            let (mut ops, mut effects) = self.delete_ops(&task, revision)?;
            ops.extend(answer);
            let changed = self.without_links(caller, target.id, &referrers).await?;
            ops.extend(changed.0);
            effects.splice(..0, changed.1);
            let (outcome, back) = self
                .tasks()
                .commit(ops, effects, Some(kept), fresh.take())
                .await?;
            match outcome {
                Ok(_) => return Ok(()),
                // The task, or one that depends on it, was changed meanwhile.
                Err(store::Error::Stale { key, .. }) if key.starts_with(records::TASKS) => {
                    fresh = back.1;
                }
                Err(error) => return Err(failure::from_store(error)),
            }
        }
        Err(too_busy(target.id))
    }

    fn delete_ops(&self, task: &Task, revision: u64) -> Result<(Vec<RecordOp>, Vec<Effect>)> {
        let gone = GoneTask {
            id: task.id,
            directory: task.directory.clone(),
            at: self.clock().now(),
        };
        let ops = vec![
            RecordOp {
                key: records::task_key(task.id),
                expect: Expect::Revision(revision),
                value: None,
            },
            records::remove(records::task_turned_key(task.id)),
            records::put(records::gone_task_key(task.id), &gone, Expect::Any)?,
        ];
        Ok((ops, vec![Effect::Gone(task.id)]))
    }

    /// The changes that take all dependencies on a task from those that have one.
    async fn without_links(
        &self,
        caller: &Caller,
        id: TaskId,
        referrers: &[TaskId],
    ) -> Result<(Vec<RecordOp>, Vec<Effect>)> {
        let (by, now) = (caller.actor(), self.clock().now());
        let (mut ops, mut effects) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for referrer in referrers {
            let Some((mut task, revision)) = self.tasks().read(*referrer).await? else {
                continue;
            };
            let links: Vec<On> = task
                .dependencies
                .iter()
                .map(|dependency| dependency.on.clone())
                .filter(|on| matches!(on, On::Task { id: on, .. } if *on == id))
                .collect();
            if links.is_empty() {
                continue;
            }
            for on in &links {
                task.undepend(on, &by, now)?;
            }
            let op = records::put(
                records::task_key(task.id),
                &task,
                Expect::Revision(revision),
            )?;
            bytes += op.value.as_ref().map_or(0, bytes::Bytes::len);
            if bytes > MAX_CHANGED_BYTES {
                return Err(Error::new(
                    Code::LimitExceeded,
                    "so many large tasks depend on it that they cannot be changed at once; remove some of the dependencies first",
                ));
            }
            ops.push(op);
            effects.push(Effect::Put(Box::new(task)));
        }
        Ok((ops, effects))
    }

    /// Forgets the tasks that were deleted long enough ago. To be called from time to time.
    pub async fn forget_gone_tasks(&self) -> Result<usize> {
        let now = self.clock().now();
        let mut forgotten = 0;
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store()
                .scan(records::GONE_TASKS, after.as_deref(), PAGE)
                .await
                .map_err(failure::from_store)?;
            let mut ops = Vec::new();
            for record in &page {
                let gone: GoneTask = records::decode(record)?;
                if now.saturating_since(gone.at) >= GONE_KEPT_FOR {
                    ops.push(RecordOp {
                        key: record.key.clone(),
                        expect: Expect::Revision(record.revision),
                        value: None,
                    });
                }
            }
            if !ops.is_empty() {
                forgotten += ops.len();
                let commit = Commit {
                    ops,
                    ..Commit::default()
                };
                let done = self.store().commit(commit).await;
                done.map_err(failure::from_store)?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
                _ => return Ok(forgotten),
            }
        }
    }
}

/// Whether a task that these depend on may be deleted.
fn may_delete(index: &Index, caller: &Caller, referrers: &[TaskId], force: bool) -> Result<()> {
    if referrers.is_empty() {
        return Ok(());
    }
    if !force {
        let named: Vec<String> = referrers
            .iter()
            .filter(|id| index.seen(caller, **id))
            .take(MAX_NAMED)
            .map(TaskId::to_string)
            .collect();
        return Err(Error::state(
            "other tasks wait for it, are its children or refer to it; force the deletion to remove their dependencies on it",
        )
        .with("dependents", named.join(",")));
    }
    if referrers.iter().any(|id| !index.stands(*id)) {
        return Err(Error::new(
            Code::Stale,
            "tasks that depend on it are being changed just now; repeat it",
        ));
    }
    if referrers.iter().any(|id| !index.seen(caller, *id)) {
        return Err(Error::new(
            Code::Forbidden,
            "tasks depend on it that this token does not see, and so cannot change",
        ));
    }
    Ok(())
}

fn check(on: &On) -> Result<()> {
    match on {
        On::Gate(gate) => gate.check("on.gate"),
        On::Task { .. } => Ok(()),
    }
}
