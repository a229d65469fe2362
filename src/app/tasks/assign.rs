//! What the server itself does with assignments: for those who start agents, and for those who merge.

use super::ShownTask;
use crate::app::App;
use crate::app::access::Caller;
use crate::base::id::{AgentId, AssignmentId, SessionId, TaskId, WorktreeId};
use crate::base::{Error, Result};
use crate::domain::task::MergeStatus;
use crate::domain::{Actor, Task};

impl App {
    /// Whoever has a task has begun it, in the session that it runs. INVALID_STATE: nobody has it, or it is not to be
    /// worked on; NO_SESSION: who has it is idle.
    pub async fn start_task(&self, caller: &Caller, id: TaskId) -> Result<ShownTask> {
        let shown = self.get_task(caller, id).await?;
        let Some(holder) = shown.task.living() else {
            return Err(Error::state(
                "nobody has the task; assign it to an agent first",
            ));
        };
        let session = self.running_session(caller, holder.agent_id).await?;
        self.begin_assignment(id, holder.id, holder.agent_id, session, &caller.actor())
            .await?;
        self.get_task(caller, id).await
    }

    /// An agent begins, or goes on with, a task under an assignment that it has. INVALID_STATE: that assignment is
    /// over.
    pub async fn begin_assignment(
        &self,
        task: TaskId,
        assignment: AssignmentId,
        agent: AgentId,
        session: SessionId,
        by: &Actor,
    ) -> Result<Task> {
        self.change_own(task, by, |task, by, now| {
            task.begin(assignment, agent, session, by, now)
        })
        .await
    }

    /// Gives a task to an agent, or finds that the agent has it; which of the two. ALREADY_EXISTS: somebody else has it.
    pub(in crate::app) async fn take_task(
        &self,
        task: TaskId,
        agent: AgentId,
        by: &Actor,
    ) -> Result<(Task, bool)> {
        let mut is_new = false;
        let task = self
            .change_own(task, by, |task, by, now| {
                is_new = task.living().is_none_or(|living| living.agent_id != agent);
                match is_new {
                    true => task.assign(AssignmentId::generate(now), agent, "", None, by, now),
                    false => Ok(()),
                }
            })
            .await?;
        Ok((task, is_new))
    }

    /// Says in which branch and worktree a task is worked on under an assignment. INVALID_STATE: that is over.
    pub async fn set_assignment_place(
        &self,
        task: TaskId,
        assignment: AssignmentId,
        branch: &str,
        worktree: Option<WorktreeId>,
        by: &Actor,
    ) -> Result<Task> {
        crate::domain::task::branch("branch", branch)?;
        self.change_own(task, by, |task, _, _| {
            task.set_place(assignment, branch, worktree)
        })
        .await
    }

    /// Takes a task back from who has it under an assignment: it is open again, for anybody. INVALID_STATE: the
    /// assignment is over.
    pub async fn release_assignment(
        &self,
        task: TaskId,
        assignment: AssignmentId,
        reason: &str,
        by: &Actor,
    ) -> Result<Task> {
        crate::domain::task::note("reason", reason)?;
        self.change_own(task, by, |task, by, now| match task.living() {
            Some(living) if living.id == assignment => task.release(reason, by, now),
            _ => Err(Error::state(format!("the assignment {assignment} is over"))),
        })
        .await
    }

    /// What became of the branch in a worktree, for the task that was worked on there last, if there is one.
    pub(in crate::app) async fn note_merge(
        &self,
        task: TaskId,
        worktree: WorktreeId,
        to: MergeStatus,
        note: &str,
        by: &Actor,
    ) -> Result<Task> {
        self.change_own(task, by, |task, by, now| {
            let last = task.assignments.last().and_then(|last| last.worktree_id);
            if last == Some(worktree) && task.merge_status != to {
                task.set_merge_status(to, note, by, now);
            }
            Ok(())
        })
        .await
    }
}
