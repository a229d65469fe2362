//! What the server itself does with assignments: for those who start agents, and for those who merge.

use crate::app::App;
use crate::base::id::{AgentId, AssignmentId, SessionId, TaskId, WorktreeId};
use crate::base::{Error, Result, Timestamp};
use crate::domain::task::{Assignment, MergeStatus};
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

    /// Gives a task to an agent, or finds that the agent has it. ALREADY_EXISTS: somebody else has it.
    pub(in crate::app) async fn take_task(
        &self,
        task: TaskId,
        agent: AgentId,
        by: &Actor,
    ) -> Result<Task> {
        self.change_own(task, by, |task, by, now| match task.living() {
            Some(living) if living.agent_id == agent => Ok(()),
            _ => task.assign(AssignmentId::generate(now), agent, "", None, by, now),
        })
        .await
    }

    /// Changes a task whose assignment an agent has. INVALID_STATE: the assignment is over.
    pub(in crate::app) async fn change_assignment(
        &self,
        task: TaskId,
        by: &Actor,
        change: impl FnMut(&mut Task, &Actor, Timestamp) -> Result<()>,
    ) -> Result<Task> {
        self.change_own(task, by, change).await
    }

    /// Another session works on a task under the same assignment. INVALID_STATE: the assignment is over.
    pub async fn link_assignment_session(
        &self,
        task: TaskId,
        assignment: AssignmentId,
        session: SessionId,
        by: &Actor,
    ) -> Result<Task> {
        self.change_own(task, by, |task, by, now| {
            task.link_session(assignment, session, by, now)
        })
        .await
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

    /// Takes a task back from who has it: it is open again, for anybody. INVALID_STATE: nobody has it.
    pub async fn release_assignment(&self, task: TaskId, reason: &str, by: &Actor) -> Result<Task> {
        crate::domain::task::note("reason", reason)?;
        self.change_own(task, by, |task, by, now| task.release(reason, by, now))
            .await
    }

    /// What became of a task's branch.
    pub async fn set_merge_status(
        &self,
        task: TaskId,
        to: MergeStatus,
        note: &str,
        by: &Actor,
    ) -> Result<Task> {
        crate::domain::task::note("note", note)?;
        self.change_own(task, by, |task, by, now| {
            task.set_merge_status(to, note, by, now);
            Ok(())
        })
        .await
    }

    /// Who has a task now.
    pub async fn assignment_of(&self, task: TaskId) -> Result<Option<Assignment>> {
        let task = self.task(task).await?;
        Ok(task.and_then(|task| task.living().cloned()))
    }
}
