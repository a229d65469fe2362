//! Merging worktrees and removing them.

use super::operate::unfit;
use super::{ShownWorktree, look};
use crate::app::App;
use crate::app::access::Caller;
use crate::base::Result;
use crate::base::id::{TaskId, WorktreeId};
use crate::domain::Worktree;
use crate::domain::task::MergeStatus;
use crate::domain::worktree::{Delete, Kind, Merge, MergeReport, MergeVerdict, OrderBody, Outcome};

impl App {
    /// Merges a worktree's branch into its target.
    pub async fn merge_worktree(
        &self,
        caller: &Caller,
        request_id: &str,
        id: WorktreeId,
        etag: Option<u64>,
        merge: Merge,
    ) -> Result<(ShownWorktree, MergeReport)> {
        merge.check()?;
        let body = OrderBody::Merge(merge);
        let done = self
            .operate(
                caller,
                "MergeWorktree",
                request_id,
                id,
                etag,
                Kind::Merge,
                body,
            )
            .await?;
        let Outcome::Merged(report) = done.result? else {
            return Err(unfit());
        };
        self.tell_task(caller, &done.worktree, &report).await;
        let shown = look::shown(self, caller, done.worktree, done.revision).await?;
        Ok((shown, report))
    }

    /// Says at the task that was worked on in a worktree what became of its branch. That the merge is done stands,
    /// whether the task is still there or not.
    async fn tell_task(&self, caller: &Caller, worktree: &Worktree, report: &MergeReport) {
        let Ok(task) = TaskId::parse("task", &worktree.task_id) else {
            // Made for something else than a task of ours.
            return;
        };
        let to = match report.verdict {
            MergeVerdict::Merged | MergeVerdict::Nothing => MergeStatus::Merged,
            MergeVerdict::Conflict => MergeStatus::Conflict,
            MergeVerdict::TestFailed => MergeStatus::TestFailed,
        };
        let note = match report.commit.as_str() {
            "" => format!("into {}", report.target),
            commit => format!("into {} as {commit}", report.target),
        };
        let by = caller.actor();
        if let Err(error) = self.note_merge(task, worktree.id, to, &note, &by).await {
            tracing::debug!(%task, ?error, "a task is not told of its merge");
        }
    }

    /// Removes a worktree; whether its branch is gone too.
    pub async fn delete_worktree(
        &self,
        caller: &Caller,
        request_id: &str,
        id: WorktreeId,
        etag: Option<u64>,
        delete: Delete,
    ) -> Result<(ShownWorktree, bool)> {
        let body = OrderBody::Delete(delete);
        let done = self
            .operate(
                caller,
                "DeleteWorktree",
                request_id,
                id,
                etag,
                Kind::Delete,
                body,
            )
            .await?;
        let Outcome::Deleted(deleted) = done.result? else {
            return Err(unfit());
        };
        let shown = look::shown(self, caller, done.worktree, done.revision).await?;
        Ok((shown, deleted.branch_deleted))
    }
}
