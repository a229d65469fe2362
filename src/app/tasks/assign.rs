//! What the server itself does with assignments: for those who start agents, and for those who merge.

use crate::app::App;
use crate::base::id::{AgentId, AssignmentId, SessionId, TaskId, WorktreeId};
use crate::base::{Error, Result};
use crate::domain::task::MergeStatus;
use crate::domain::{Actor, Task};

impl App {
    /// An agent begins a task in a session. One that nobody has is given to it; beginning again links the session.
    /// ALREADY_EXISTS: somebody else has it, `holder` says who. INVALID_STATE: it is not to be worked on.
    pub async fn start_assignment(
        &self,
        task: TaskId,
        agent: AgentId,
        session: SessionId,
        by: &Actor,
    ) -> Result<Task> {
        let found = self.agent_record(agent).await?;
        found.ok_or_else(|| Error::not_found("agent", agent))?;
        self.change_own(task, by, |task, by, now| {
            task.start(AssignmentId::generate(now), agent, session, by, now)
        })
        .await
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

    /// Says in which branch and worktree a task is worked on. INVALID_STATE: nobody has it.
    pub async fn set_assignment_place(
        &self,
        task: TaskId,
        branch: &str,
        worktree: Option<WorktreeId>,
        by: &Actor,
    ) -> Result<Task> {
        crate::domain::task::branch("branch", branch)?;
        self.change_own(task, by, |task, _, _| task.set_place(branch, worktree))
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
