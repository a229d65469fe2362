//! Merging worktrees and removing them.

use super::operate::unfit;
use super::{ShownWorktree, look};
use crate::app::App;
use crate::app::access::Caller;
use crate::base::Result;
use crate::base::id::WorktreeId;
use crate::domain::worktree::{Delete, Kind, Merge, MergeReport, OrderBody, Outcome};

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
        let shown = look::shown(self, caller, done.worktree, done.revision).await?;
        Ok((shown, report))
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
