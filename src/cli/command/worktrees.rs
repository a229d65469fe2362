//! `baton worktrees`: branches and checkouts of their own for agents and tasks.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::request_id;
use crate::cli::args::worktrees::{CreateArgs, MergeArgs};
use crate::cli::args::{Global, WorktreesAction, WorktreesArgs};
use crate::cli::connection::connect;
use crate::cli::exit::{DONE, FAILED};
use crate::cli::output::Out;
use crate::cli::output::json::time;
use crate::cli::output::style::{Tone, visible_line};
use crate::cli::output::table::Table;
use crate::cli::{resolve, value};
use crate::client::Client;
use crate::wire::field::required;
use crate::wire::time::duration_to_pb;
use crate::wire::v1;

/// How long the server may take: set-up and tests may take half an hour, and merges queue.
const PATIENCE: Duration = Duration::from_secs(3 * 3_600);

/// `baton worktrees`
pub async fn run(global: &Global, out: &Out, args: WorktreesArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?.with_deadline(PATIENCE);
    let none = WorktreesAction::List {
        all: false,
        daemon: None,
    };
    match args.action.unwrap_or(none) {
        WorktreesAction::List { all, daemon } => list(&client, out, all, daemon).await,
        WorktreesAction::Show { worktree } => {
            let worktree_id = resolve::worktree(&client, &worktree).await?.to_string();
            let response = client
                .get_worktree(v1::GetWorktreeRequest { worktree_id })
                .await?;
            show(out, response.worktree)
        }
        WorktreesAction::Create(args) => create(&client, out, *args).await,
        WorktreesAction::Diff { worktree, stat } => diff(&client, out, &worktree, stat).await,
        WorktreesAction::Merge(args) => merge(&client, out, *args).await,
        WorktreesAction::Delete {
            worktree,
            force,
            delete_branch,
        } => {
            let worktree_id = resolve::worktree(&client, &worktree).await?.to_string();
            let response = client
                .delete_worktree(v1::DeleteWorktreeRequest {
                    request_id: request_id(),
                    worktree_id,
                    force,
                    delete_branch,
                    ..Default::default()
                })
                .await?;
            let gone = required(response.worktree, "worktree")?;
            if !gone.recover_ref.is_empty() {
                let remark = format!("its work is kept: {}", visible_line(&gone.recover_ref));
                out.note(&remark);
            }
            out.show(&worktree_json(&gone), || format!("{} is gone", gone.id))?;
            Ok(DONE)
        }
        WorktreesAction::Prune {
            dry_run,
            daemon,
            repo,
            grace,
        } => {
            let repository = match repo {
                Some(repo) => directory(Some(repo))?,
                None => String::new(),
            };
            let request = v1::PruneWorktreesRequest {
                daemon_id: daemon_id(&client, daemon).await?,
                repository,
                dry_run,
                grace: grace.map(duration_to_pb),
            };
            prune(&client, out, request).await
        }
        WorktreesAction::Recover {
            recover_ref,
            repo,
            daemon,
            branch,
        } => {
            let daemon_id = daemon_id(&client, daemon).await?;
            let repository = directory(repo)?;
            match recover_ref {
                None => list_recoverable(&client, out, daemon_id, repository).await,
                Some(recover_ref) => {
                    let response = client
                        .recover_worktree(v1::RecoverWorktreeRequest {
                            request_id: request_id(),
                            daemon_id,
                            repository,
                            recover_ref,
                            branch: branch.unwrap_or_default(),
                        })
                        .await?;
                    show(out, response.worktree)
                }
            }
        }
    }
}

async fn daemon_id(client: &Client, typed: Option<String>) -> anyhow::Result<String> {
    Ok(match typed {
        Some(typed) => resolve::daemon(client, &typed).await?.to_string(),
        None => String::new(),
    })
}

fn directory(given: Option<PathBuf>) -> anyhow::Result<String> {
    let path = match given {
        Some(path) => std::path::absolute(path).context("finding the directory")?,
        None => std::env::current_dir().context("finding the working directory")?,
    };
    path.into_os_string()
        .into_string()
        .map_err(|_| crate::cli::exit::usage("the directory's path is not UTF-8"))
}

async fn list(client: &Client, out: &Out, all: bool, daemon: Option<String>) -> anyhow::Result<u8> {
    let daemon_id = daemon_id(client, daemon).await?;
    let mut table = Table::new(&[
        "ID", "STATE", "AGENT", "TASK", "BRANCH", "WORK", "SIZE", "PATH",
    ]);
    let mut page_token = String::new();
    let mut count = 0;
    loop {
        let page = client
            .list_worktrees(v1::ListWorktreesRequest {
                daemon_id: daemon_id.clone(),
                all,
                page_size: 500,
                page_token,
                ..Default::default()
            })
            .await?;
        for worktree in &page.worktrees {
            count += 1;
            if out.json {
                out.value(&worktree_json(worktree))?;
                continue;
            }
            let place = worktree.place.clone().unwrap_or_default();
            let size = worktree.look.as_ref().map_or(0, |look| look.size_bytes);
            table.row([
                (Tone::Name, resolve::short(&worktree.id).to_owned()),
                (tone(worktree.state()), state(worktree.state())),
                (Tone::Plain, visible_line(&worktree.agent_name)),
                (Tone::Plain, visible_line(&worktree.task_id)),
                (Tone::Plain, visible_line(&place.branch)),
                (Tone::Plain, work(worktree.look.as_ref())),
                (Tone::Dim, value::size(size)),
                (Tone::Dim, visible_line(&place.path)),
            ]);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if out.json {
        return Ok(DONE);
    }
    if count == 0 {
        out.note("there are no worktrees");
        return Ok(DONE);
    }
    out.line(&table.render(out.style, out.width))?;
    Ok(DONE)
}

fn tone(state: v1::WorktreeState) -> Tone {
    match state {
        v1::WorktreeState::Active => Tone::Good,
        v1::WorktreeState::Archived | v1::WorktreeState::Unspecified => Tone::Dim,
        _ => Tone::Warn,
    }
}

fn state(state: v1::WorktreeState) -> String {
    word(state.as_str_name(), "WORKTREE_STATE_")
}

fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

/// What is in a worktree and nowhere else.
fn work(look: Option<&v1::WorktreeLook>) -> String {
    let Some(look) = look else {
        return String::new();
    };
    let mut parts = Vec::new();
    for (count, what) in [
        (look.uncommitted, "uncommitted"),
        (look.untracked, "untracked"),
        (look.unmerged, "unmerged"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    if look.missing {
        parts.push("directory gone".to_owned());
    }
    match parts.is_empty() {
        true => "none".to_owned(),
        false => parts.join(", "),
    }
}

fn show(out: &Out, worktree: Option<v1::Worktree>) -> anyhow::Result<u8> {
    let worktree = required(worktree, "worktree")?;
    out.show(&worktree_json(&worktree), || {
        let place = worktree.place.clone().unwrap_or_default();
        let mut lines = vec![
            format!("{} {}", worktree.id, state(worktree.state())),
            format!("  path:   {}", visible_line(&place.path)),
            format!(
                "  branch: {} (from {}, for {})",
                visible_line(&place.branch),
                visible_line(&place.base),
                visible_line(&place.target)
            ),
            format!(
                "  agent:  {} {}",
                visible_line(&worktree.agent_name),
                visible_line(&worktree.task_id)
            ),
            format!("  work:   {}", work(worktree.look.as_ref())),
        ];
        if let Some(merged) = &worktree.merged {
            lines.push(format!(
                "  merged: {} into {}",
                visible_line(&merged.head),
                visible_line(&merged.target)
            ));
        }
        for session in &worktree.session_ids {
            lines.push(format!("  session {session}"));
        }
        if !worktree.failure.is_empty() {
            lines.push(format!("  failed: {}", visible_line(&worktree.failure)));
        }
        if !worktree.recover_ref.is_empty() {
            lines.push(format!("  kept:   {}", visible_line(&worktree.recover_ref)));
        }
        lines.join("\n")
    })?;
    Ok(DONE)
}

async fn create(client: &Client, out: &Out, args: CreateArgs) -> anyhow::Result<u8> {
    let text = Option::unwrap_or_default;
    let response = client
        .create_worktree(v1::CreateWorktreeRequest {
            request_id: request_id(),
            daemon_id: daemon_id(client, args.daemon).await?,
            repository: directory(args.repo)?,
            agent_name: args.agent,
            task: text(args.task),
            title: text(args.title),
            branch: text(args.branch),
            directory: text(args.directory),
            base: text(args.base),
            target: text(args.target),
            fetch: args.fetch,
            setup: args.setup,
            setup_time: args.setup_time.map(duration_to_pb),
            copy_files: args.copy_files,
        })
        .await?;
    show(out, response.worktree)
}

async fn diff(client: &Client, out: &Out, typed: &str, stat: bool) -> anyhow::Result<u8> {
    let worktree_id = resolve::worktree(client, typed).await?.to_string();
    let response = client
        .get_worktree_diff(v1::GetWorktreeDiffRequest {
            worktree_id,
            max_bytes: 1 << 20,
        })
        .await?;
    let diff = required(response.diff, "diff")?;
    let files = |file: &v1::FileChange| {
        json!({
            "path": file.path, "added": file.added, "removed": file.removed, "binary": file.binary,
        })
    };
    let shown = json!({
        "base_commit": diff.base_commit, "head": diff.head, "patch": diff.patch,
        "truncated": diff.truncated, "files": diff.files.iter().map(files).collect::<Vec<_>>(),
    });
    if out.json {
        out.value(&shown)?;
        return Ok(DONE);
    }
    if stat {
        for file in &diff.files {
            out.line(&format!(
                "+{} -{} {}",
                file.added,
                file.removed,
                visible_line(&file.path)
            ))?;
        }
    } else {
        for line in diff.patch.lines() {
            out.line(&visible_line(line))?;
        }
    }
    if diff.truncated {
        out.note("there is more than is shown");
    }
    Ok(DONE)
}

async fn merge(client: &Client, out: &Out, args: MergeArgs) -> anyhow::Result<u8> {
    let worktree_id = resolve::worktree(client, &args.worktree).await?.to_string();
    let strategy = match args.strategy.as_str() {
        "merge" => v1::MergeStrategy::Merge,
        "ff" => v1::MergeStrategy::FastForward,
        _ => v1::MergeStrategy::Squash,
    };
    let response = client
        .merge_worktree(v1::MergeWorktreeRequest {
            request_id: request_id(),
            worktree_id,
            strategy: strategy.into(),
            target: args.target.unwrap_or_default(),
            subject: args.subject.unwrap_or_default(),
            test: args.test,
            test_time: args.test_time.map(duration_to_pb),
            allow_uncommitted: args.allow_uncommitted,
            ..Default::default()
        })
        .await?;
    let report = required(response.report, "report")?;
    let verdict = word(report.verdict().as_str_name(), "MERGE_VERDICT_");
    let shown = json!({
        "verdict": verdict, "target": report.target, "commit": report.commit, "head": report.head,
        "conflicts": report.conflicts, "output": report.output,
        "worktree": response.worktree.as_ref().map(worktree_json),
    });
    out.show(&shown, || {
        let target = visible_line(&report.target);
        let mut lines = vec![match report.verdict() {
            v1::MergeVerdict::Merged => {
                format!("merged into {target} as {}", visible_line(&report.commit))
            }
            v1::MergeVerdict::Nothing => format!("{target} has it all"),
            v1::MergeVerdict::Conflict => format!("it does not fit; {target} is untouched"),
            v1::MergeVerdict::TestFailed => format!("the test failed; {target} is untouched"),
            v1::MergeVerdict::Unspecified => {
                "this version does not know what became of it".to_owned()
            }
        }];
        lines.extend(report.output.lines().map(visible_line));
        lines.join("\n")
    })?;
    Ok(match report.verdict() {
        v1::MergeVerdict::Merged | v1::MergeVerdict::Nothing => DONE,
        _ => FAILED,
    })
}

async fn prune(
    client: &Client,
    out: &Out,
    request: v1::PruneWorktreesRequest,
) -> anyhow::Result<u8> {
    let dry_run = request.dry_run;
    let response = client.prune_worktrees(request).await?;
    let mut failed = false;
    for one in &response.pruned {
        failed |= !one.failure.is_empty();
        let shown = json!({
            "worktree_id": one.worktree_id, "path": one.path, "reason": one.reason,
            "size_bytes": one.size_bytes, "removed": one.removed, "failure": one.failure,
        });
        out.show(&shown, || {
            let what = match (one.removed, dry_run) {
                (true, _) => "removed".to_owned(),
                (false, true) => "would be removed".to_owned(),
                (false, false) => format!("stays: {}", visible_line(&one.failure)),
            };
            format!(
                "{} {} {} ({})",
                resolve::short(&one.worktree_id),
                visible_line(&one.path),
                what,
                visible_line(&one.reason)
            )
        })?;
    }
    if response.pruned.is_empty() {
        out.note("there is nothing to prune");
    }
    Ok(if failed { FAILED } else { DONE })
}

async fn list_recoverable(
    client: &Client,
    out: &Out,
    daemon_id: String,
    repository: String,
) -> anyhow::Result<u8> {
    let response = client
        .list_recoverable(v1::ListRecoverableRequest {
            daemon_id,
            repository,
        })
        .await?;
    for found in &response.recoverable {
        let shown = json!({
            "recover_ref": found.recover_ref, "worktree_id": found.worktree_id,
            "commit": found.commit, "head": found.head, "branch": found.branch,
            "at": time(found.at),
        });
        out.show(&shown, || {
            format!(
                "{}  {}",
                visible_line(&found.recover_ref),
                visible_line(&found.branch)
            )
        })?;
    }
    if response.recoverable.is_empty() {
        out.note("nothing was kept in this repository");
    }
    Ok(DONE)
}

fn worktree_json(worktree: &v1::Worktree) -> Value {
    let place = worktree.place.clone().unwrap_or_default();
    let look = worktree.look.clone().unwrap_or_default();
    json!({
        "id": worktree.id, "daemon_id": worktree.daemon_id, "state": state(worktree.state()),
        "repository": place.repository, "path": place.path, "branch": place.branch,
        "branch_created": place.branch_created, "base": place.base,
        "base_commit": place.base_commit, "target": place.target,
        "agent_name": worktree.agent_name, "task_id": worktree.task_id, "title": worktree.title,
        "head": look.head, "size_bytes": look.size_bytes, "uncommitted": look.uncommitted,
        "untracked": look.untracked, "unmerged": look.unmerged, "missing": look.missing,
        "last_used": time(look.last_used), "looked_at": time(worktree.looked_at),
        "merged": worktree.merged.as_ref().map(|merged| json!({
            "target": merged.target, "commit": merged.commit, "head": merged.head,
            "at": time(merged.at),
        })),
        "session_ids": worktree.session_ids, "failure": worktree.failure,
        "recover_ref": worktree.recover_ref, "created_at": time(worktree.created_at),
        "updated_at": time(worktree.updated_at),
    })
}
