//! Worktrees: the text's WorktreeInfo, and some more.

use serde_json::Value;

use super::Shown;
use crate::app::worktrees::ShownWorktree;
use crate::gateway::views::iso;

/// One worktree.
pub fn worktree(shown: &ShownWorktree) -> Value {
    let worktree = &shown.worktree;
    let (place, look) = (&worktree.place, &worktree.look);
    let mut it = Shown::default();
    it.put("path", place.path.as_str())
        .put("relativePath", worktree.relative_path())
        .put("branch", place.branch.as_str())
        .put("head", look.head.as_str())
        // The repository's own checkout is nobody's to make or remove, and is not listed.
        .put("isMain", false)
        .put("state", shown.state.as_str())
        .text("agentName", &worktree.agent_name)
        .text("taskId", &worktree.task_id)
        .put("createdAt", iso(worktree.created_at))
        .put("id", worktree.id.to_string())
        .put("daemonId", worktree.daemon_id.to_string())
        .put("repository", place.repository.as_str())
        .text("title", &worktree.title)
        .text("baseBranch", &place.base)
        .text("targetBranch", &place.target)
        .put("uncommitted", look.uncommitted)
        .put("untracked", look.untracked)
        .put("unmerged", look.unmerged)
        .put("sizeBytes", look.size_bytes)
        .put("missing", look.missing)
        .put("sessionIds", shown.session_ids.clone())
        .text("recoverRef", &worktree.recover_ref)
        .put("etag", shown.revision.to_string());
    it.done()
}
