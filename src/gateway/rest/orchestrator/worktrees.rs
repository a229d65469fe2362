//! Worktrees: of the repository that is meant when nobody says which, or of another one.
//!
//! A path in a request is compared with what the server has in its records, and never looked up anywhere.

use serde_json::{Value, json};

use super::all;
use super::call::{Answer, Call, Named, created, ok, renamed, sought};
use super::fields::{Asked, Fields, missing};
use crate::app::worktrees::{ShownWorktree, WorktreeFilter};
use crate::base::id::DaemonId;
use crate::base::{Error, Result};
use crate::domain::worktree::{Create, Delete};
use crate::gateway::views::orchestrator as view;

/// What worktrees lie in, where their repository has them.
const ROOT: &str = ".worktrees/";

pub(super) async fn list(call: Call, asked: Asked) -> Answer {
    let filter = WorktreeFilter {
        all: asked.flag("all")?,
        ..call.repository(&asked).await?
    };
    let Call { app, caller, .. } = &call;
    let found = all(async |page| app.list_worktrees(caller, &filter, &page).await).await?;
    let worktrees: Vec<Value> = found.iter().map(view::worktree).collect();
    ok(json!({ "worktrees": worktrees }))
}

pub(super) async fn get(call: Call, path: Named, asked: Asked) -> Answer {
    let found = call.worktree(&path, &asked).await?;
    let id = found.worktree.id;
    let shown = call.app.get_worktree(&call.caller, id).await?;
    ok(json!({ "worktree": view::worktree(&shown) }))
}

pub(super) async fn create(call: Call, query: Asked, asked: Fields) -> Answer {
    let text = |name: &str| Ok::<_, Error>(asked.text(name)?.unwrap_or_default().to_owned());
    let mut create = Create {
        agent_name: asked.required("agentName")?.to_owned(),
        task_id: asked.required("taskId")?.to_owned(),
        title: text("taskTitle")?,
        branch: text("customBranch")?,
        directory: match asked.text("customPath")? {
            Some(path) => directory(path)?.to_owned(),
            None => String::new(),
        },
        base: text("baseBranch")?,
        ..Create::default()
    };
    let meant = call.repository(&query).await?;
    create.repository = meant.repository;
    let request = asked.request_id()?;
    let made = call
        .app
        .create_worktree(&call.caller, request, meant.daemon_id, create)
        .await
        .map_err(|error| renamed(error, NAMES))?;
    let place = &made.worktree.place;
    created(json!({
        "success": true,
        "worktree": view::worktree(&made),
        "branch": place.branch,
        "path": format!("{}/", made.worktree.relative_path()),
        "branchCreated": place.branch_created,
    }))
}

/// What the fields of a worktree to be made are called here.
const NAMES: &[(&str, &str)] = &[
    ("agent_name", "agentName"),
    ("task", "taskId"),
    ("title", "taskTitle"),
    ("branch", "customBranch"),
    ("directory", "customPath"),
    ("base", "baseBranch"),
    ("repository", "repo"),
];

/// The directory that a path of one's own names: one beneath where worktrees lie, and nothing further up or down.
fn directory(path: &str) -> Result<&str> {
    let rest = path.strip_prefix("./").unwrap_or(path);
    let rest = rest.strip_prefix(ROOT).unwrap_or(rest);
    let name = rest.strip_suffix('/').unwrap_or(rest);
    if name.is_empty() {
        return Err(missing("customPath"));
    }
    if name.contains(['/', '\\', '\0']) || name == "." || name == ".." {
        return Err(Error::invalid(
            "customPath",
            "must be one directory beneath .worktrees/",
        ));
    }
    Ok(name)
}

pub(super) async fn delete(call: Call, path: Named, asked: Asked) -> Answer {
    let delete = Delete {
        force: asked.flag("force")?,
        delete_branch: asked.flag("deleteBranch")?,
    };
    let etag = asked.etag()?;
    let found = call.worktree(&path, &asked).await?;
    let (shown, branch_deleted) = call
        .app
        .delete_worktree(&call.caller, "", found.worktree.id, etag, delete)
        .await?;
    ok(json!({
        "success": true,
        "branchDeleted": branch_deleted,
        "worktree": view::worktree(&shown),
    }))
}

impl Call {
    /// The repository that `?daemon=&repo=` name, or that is meant without.
    async fn repository(&self, asked: &Asked) -> Result<WorktreeFilter> {
        let daemon = asked.text("daemon")?;
        let daemon = daemon.map(|id| DaemonId::parse("daemon", id)).transpose()?;
        let repository = asked.text("repo")?.map(str::to_owned);
        let (daemon, repository) = self
            .app
            .home_repository(&self.caller, daemon, repository)
            .await?;
        Ok(WorktreeFilter {
            daemon_id: Some(daemon),
            repository,
            all: false,
        })
    }

    /// The worktree that a path names.
    async fn worktree(&self, path: &Named, asked: &Asked) -> Result<ShownWorktree> {
        let filter = self.repository(asked).await?;
        let found = self.app.find_worktree(&self.caller, &filter, &path.0).await;
        sought("Worktree", found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_ones_own_is_one_directory() {
        for good in [
            ".worktrees/custom/",
            "./.worktrees/custom",
            "custom",
            "custom/",
        ] {
            assert_eq!(directory(good).unwrap(), "custom", "{good}");
        }
        for bad in [
            "",
            "/",
            "..",
            "../custom",
            ".worktrees/../custom",
            ".worktrees/a/b",
            "/etc",
            "a\\b",
            "a\0b",
            ".worktrees/",
        ] {
            assert!(directory(bad).is_err(), "{bad:?}");
        }
    }
}
