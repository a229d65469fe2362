//! Worktrees with the real server, daemon, command line and git. What git does and does not do is tested in
//! the daemon's room; here it is what gets through, and what is left when a process is killed.

use std::path::{Path, PathBuf};
use std::process::Command;

use baton::base::Code;
use baton::client::Client;
use baton::wire::v1;
use serde_json::Value;

use crate::support::baton::{Baton, PATIENCE, eventually};

/// Git as a person uses it.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let ran = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.org")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "git {args:?}: {said}");
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

/// A repository with one commit.
pub fn repository(dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    git(dir, &["init", "-q", "-b", "main"]);
    commit(dir, "first", "1\n");
    dir.canonicalize().unwrap()
}

fn commit(dir: &Path, file: &str, text: &str) {
    std::fs::write(dir.join(file), text).unwrap();
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-qm", file]);
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn wanted(repository: &Path, task: &str) -> v1::CreateWorktreeRequest {
    v1::CreateWorktreeRequest {
        repository: text(repository),
        agent_name: "alice".to_owned(),
        task: task.to_owned(),
        ..Default::default()
    }
}

async fn create(client: &Client, request: v1::CreateWorktreeRequest) -> (v1::Worktree, PathBuf) {
    let made = client.create_worktree(request).await.unwrap();
    let made = made.worktree.unwrap();
    let path = PathBuf::from(&made.place.as_ref().unwrap().path);
    (made, path)
}

async fn get(client: &Client, id: &str) -> v1::Worktree {
    let request = v1::GetWorktreeRequest {
        worktree_id: id.to_owned(),
    };
    client
        .get_worktree(request)
        .await
        .unwrap()
        .worktree
        .unwrap()
}

/// The command line: its exit code and the JSON it writes.
async fn cli(baton: &Baton, args: &[&str]) -> (i32, Vec<Value>) {
    let mut command = baton.cli(&["--json", "worktrees"]);
    command.args(args);
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap());
    let ran = ran.await.unwrap();
    let lines = String::from_utf8(ran.stdout).unwrap();
    let read = |line: &str| serde_json::from_str(line).unwrap();
    (
        ran.status.code().unwrap(),
        lines.lines().map(read).collect(),
    )
}

#[tokio::test]
async fn made_worked_in_merged_removed_and_recovered_by_the_command_line() {
    let baton = Baton::start().await;
    let repo = repository(&baton.project().join("repo"));
    let at = text(&repo);
    let (code, made) = cli(
        &baton,
        &[
            "create",
            "--agent",
            "Alice B",
            "--task",
            "t-1",
            "--title",
            "Fix it",
            "--repo",
            &at,
            "--",
            "sh",
            "-c",
            "echo set up > setup.log",
        ],
    )
    .await;
    assert_eq!(code, 0, "{made:?}");
    assert_eq!(made[0]["branch"], "agent/alice-b/t-1-fix-it");
    assert_eq!(made[0]["state"], "active");
    let id = made[0]["id"].as_str().unwrap().to_owned();
    let path = PathBuf::from(made[0]["path"].as_str().unwrap());
    assert_eq!(path, repo.join(".worktrees/alice-b-t-1-fix-it"));
    assert_eq!(
        std::fs::read_to_string(path.join("setup.log")).unwrap(),
        "set up\n"
    );
    std::fs::remove_file(path.join("setup.log")).unwrap();

    // Sessions run in it, and it is not removed beneath them.
    let session = baton
        .client()
        .create_session(v1::CreateSessionRequest {
            harness: "command".to_owned(),
            cwd: text(&path),
            argv: ["sh", "-c", "pwd > here; exec sleep 600"]
                .map(str::to_owned)
                .to_vec(),
            ..Default::default()
        })
        .await
        .unwrap()
        .session
        .unwrap();
    eventually("the session works there", || async {
        std::fs::read_to_string(path.join("here"))
            .ok()
            .filter(|here| here.trim() == text(&path))
    })
    .await;
    assert_eq!(
        get(&baton.client(), &id).await.session_ids,
        std::slice::from_ref(&session.id)
    );
    assert_eq!(cli(&baton, &["delete", &id, "--force"]).await.0, 4);
    let end = v1::EndSessionRequest {
        session_id: session.id.clone(),
        force: true,
        ..Default::default()
    };
    baton.client().end_session(end).await.unwrap();
    eventually("the session has ended", || async {
        get(&baton.client(), &id)
            .await
            .session_ids
            .is_empty()
            .then_some(())
    })
    .await;

    commit(&path, "here", "there\n");
    let (_, diff) = cli(&baton, &["diff", &id]).await;
    assert!(
        diff[0]["patch"].as_str().unwrap().contains("+there"),
        "{diff:?}"
    );
    let (code, report) = cli(&baton, &["merge", &id, "--", "grep", "nothing", "here"]).await;
    assert_eq!(
        (code, &report[0]["verdict"]),
        (1, &Value::from("test_failed"))
    );
    let (code, report) = cli(&baton, &["merge", &id, "--", "grep", "there", "here"]).await;
    assert_eq!((code, &report[0]["verdict"]), (0, &Value::from("merged")));
    assert_eq!(git(&repo, &["log", "-1", "--format=%s"]), "Fix it (t-1)");
    assert_eq!(git(&repo, &["status", "--porcelain"]), "");
    let (_, shown) = cli(&baton, &["show", &id]).await;
    assert_eq!(
        shown[0]["merged"]["commit"].as_str().unwrap(),
        git(&repo, &["rev-parse", "main"])
    );

    std::fs::write(path.join("precious"), "p\n").unwrap();
    assert_eq!(cli(&baton, &["delete", &id]).await.0, 4);
    let (code, gone) = cli(&baton, &["delete", &id, "--force", "--delete-branch"]).await;
    assert_eq!((code, &gone[0]["state"]), (0, &Value::from("archived")));
    assert!(!path.exists());
    assert!(cli(&baton, &["list"]).await.1.is_empty());
    assert_eq!(cli(&baton, &["list", "--all"]).await.1.len(), 1);
    let (_, kept) = cli(&baton, &["recover", "--repo", &at]).await;
    assert_eq!(kept[0]["recover_ref"], gone[0]["recover_ref"]);
    let reference = kept[0]["recover_ref"].as_str().unwrap();
    let (code, back) = cli(&baton, &["recover", reference, "--repo", &at]).await;
    assert_eq!(code, 0, "{back:?}");
    let back_path = PathBuf::from(back[0]["path"].as_str().unwrap());
    assert_eq!(
        std::fs::read_to_string(back_path.join("precious")).unwrap(),
        "p\n"
    );
    assert_eq!(back[0]["agent_name"], "Alice B");

    let (made, clean) = create(&baton.client(), wanted(&repo, "clean")).await;
    let (_, pruned) = cli(&baton, &["prune", "--dry-run", "--grace", "0s"]).await;
    assert_eq!(pruned.len(), 1);
    assert_eq!(pruned[0]["worktree_id"].as_str(), Some(made.id.as_str()));
    assert!(clean.exists());
    let (code, pruned) = cli(&baton, &["prune", "--grace", "0s"]).await;
    assert_eq!((code, &pruned[0]["removed"]), (0, &Value::from(true)));
    assert!(!clean.exists() && back_path.exists());
    assert_eq!(
        cli(&baton, &["show", "wkt_00000000000000000000000001"])
            .await
            .0,
        3
    );
}

#[tokio::test]
async fn requests_that_cannot_be_done_are_answered_by_what_they_are() {
    let mut baton = Baton::start().await;
    let client = baton.client();
    let repo = repository(&baton.project().join("repo"));
    let code = |request| async { client.create_worktree(request).await.unwrap_err().code() };
    assert_eq!(
        code(wanted(&baton.project(), "t")).await,
        Code::WorktreesDisabled
    );
    assert_eq!(code(wanted(Path::new("/etc"), "t")).await, Code::NoDaemon);
    let request = v1::CreateWorktreeRequest {
        request_id: "one".to_owned(),
        ..wanted(&repo, "t")
    };
    let (made, path) = create(&client, request.clone()).await;
    // The same request again is the same worktree; another one of that name is refused.
    assert_eq!(create(&client, request).await.0.id, made.id);
    assert_eq!(code(wanted(&repo, "t")).await, Code::AlreadyExists);
    let stale = v1::DeleteWorktreeRequest {
        worktree_id: made.id.clone(),
        etag: "1".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        client.delete_worktree(stale).await.unwrap_err().code(),
        Code::Stale
    );
    commit(&path, "first", "mine\n");
    commit(&repo, "first", "theirs\n");
    let merge = v1::MergeWorktreeRequest {
        worktree_id: made.id.clone(),
        ..Default::default()
    };
    let report = client
        .merge_worktree(merge.clone())
        .await
        .unwrap()
        .report
        .unwrap();
    assert_eq!(report.verdict(), v1::MergeVerdict::Conflict);
    assert_eq!(report.conflicts, ["first"]);
    let shown = get(&client, &made.id).await;
    assert_eq!(shown.state(), v1::WorktreeState::Active);
    assert_eq!(shown.look.unwrap().unmerged, 1);
    baton.kill_daemon();
    baton.daemon_is_away().await;
    // A merge that is refused is none that waits for the machine.
    let error = client.merge_worktree(merge).await.unwrap_err();
    assert_eq!(error.code(), Code::DaemonDisconnected);
    // What was seen last is shown still.
    assert_eq!(
        get(&client, &made.id).await.state(),
        v1::WorktreeState::Active
    );
}

#[tokio::test]
async fn commands_are_the_machine_s_own_to_allow() {
    let mut baton = Baton::start().await;
    let repo = repository(&baton.project().join("repo"));
    // The first daemon allows them; one beside it does not.
    let mut command = baton.command(&["daemon", "--server", &baton.url(), "--name", "strict"]);
    let join = baton
        .client()
        .create_join_token(Default::default())
        .await
        .unwrap();
    command
        .arg("--data-dir")
        .arg(baton.dir().join("strict"))
        .arg("--root")
        .arg(&repo)
        .env("BATON_JOIN_TOKEN", join.secret);
    baton.kill_daemon();
    let mut strict = command.spawn().unwrap();
    let client = baton.client();
    let request = v1::CreateWorktreeRequest {
        setup: vec!["true".to_owned()],
        ..wanted(&repo, "t")
    };
    let error = eventually("the strict daemon answers", || async {
        let error = client.create_worktree(request.clone()).await.unwrap_err();
        (!matches!(error.code(), Code::NoDaemon | Code::DaemonDisconnected)).then_some(error)
    })
    .await;
    let made = client.create_worktree(wanted(&repo, "t")).await;
    strict.kill().unwrap();
    strict.wait().unwrap();
    assert_eq!(error.code(), Code::Forbidden, "{error}");
    assert!(made.is_ok());
}

/// A command that says that it runs, and ends when it is told.
fn held(dir: &Path) -> Vec<String> {
    let script = format!(
        "touch {0}/runs; until [ -e {0}/go ]; do sleep 0.05; done",
        dir.display()
    );
    ["sh", "-c", &script].map(str::to_owned).to_vec()
}

async fn runs(dir: &Path) {
    let file = dir.join("runs");
    eventually("the command runs", || async { file.exists().then_some(()) }).await;
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_daemon_that_is_killed_in_the_middle_leaves_all_or_nothing() {
    let mut baton = Baton::start().await;
    let repo = repository(&baton.project().join("repo"));
    let signs = baton.dir().join("signs");
    std::fs::create_dir(&signs).unwrap();
    let client = baton.client();
    let request = v1::CreateWorktreeRequest {
        request_id: "create".to_owned(),
        setup: held(&signs),
        ..wanted(&repo, "t")
    };
    let making = tokio::spawn({
        let (client, request) = (client.clone(), request.clone());
        async move { client.create_worktree(request).await }
    });
    runs(&signs).await;
    baton.kill_daemon();
    let error = making.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::DaemonDisconnected);
    baton.start_daemon().await;
    // Asked again, it says what became of it, and nothing of it is left.
    let error = client.create_worktree(request).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert_eq!(git(&repo, &["worktree", "list"]).lines().count(), 1);
    assert_eq!(git(&repo, &["branch", "--format=%(refname:short)"]), "main");
    let all = v1::ListWorktreesRequest {
        all: true,
        ..Default::default()
    };
    let listed = client.list_worktrees(all).await.unwrap().worktrees;
    assert_eq!(listed[0].state(), v1::WorktreeState::Archived);

    let (made, path) = create(&client, wanted(&repo, "t")).await;
    commit(&path, "new", "n\n");
    let merge = v1::MergeWorktreeRequest {
        request_id: "merge".to_owned(),
        worktree_id: made.id.clone(),
        test: held(&signs),
        ..Default::default()
    };
    let merging = tokio::spawn({
        let (client, merge) = (client.clone(), merge.clone());
        async move { client.merge_worktree(merge).await }
    });
    runs(&signs).await;
    assert_eq!(
        get(&client, &made.id).await.state(),
        v1::WorktreeState::Merging
    );
    baton.kill_daemon();
    merging.await.unwrap().unwrap_err();
    baton.start_daemon().await;
    let error = client.merge_worktree(merge).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(!repo.join("new").exists());
    assert_eq!(git(&repo, &["worktree", "list"]).lines().count(), 2);
    assert_eq!(
        get(&client, &made.id).await.state(),
        v1::WorktreeState::Active
    );
    let again = v1::MergeWorktreeRequest {
        worktree_id: made.id.clone(),
        ..Default::default()
    };
    let report = client.merge_worktree(again).await.unwrap().report.unwrap();
    assert_eq!(report.verdict(), v1::MergeVerdict::Merged);
    std::fs::write(signs.join("go"), "").unwrap();
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_hears_what_came_of_it() {
    let mut baton = Baton::start().await;
    let repo = repository(&baton.project().join("repo"));
    let signs = baton.dir().join("signs");
    std::fs::create_dir(&signs).unwrap();
    let client = baton.client();
    let (made, path) = create(&client, wanted(&repo, "t")).await;
    commit(&path, "new", "n\n");
    let merge = v1::MergeWorktreeRequest {
        request_id: "merge".to_owned(),
        worktree_id: made.id.clone(),
        test: held(&signs),
        ..Default::default()
    };
    let merging = tokio::spawn({
        let (client, merge) = (client.clone(), merge.clone());
        async move { client.merge_worktree(merge).await }
    });
    runs(&signs).await;
    baton.kill_server();
    merging.await.unwrap().unwrap_err();
    std::fs::write(signs.join("go"), "").unwrap();
    baton.start_server().await;
    let client = baton.client();
    let shown = eventually("the merge is known", || async {
        let shown = get(&client, &made.id).await;
        shown.merged.is_some().then_some(shown)
    })
    .await;
    assert_eq!(shown.state(), v1::WorktreeState::Active);
    assert_eq!(
        shown.merged.unwrap().commit,
        git(&repo, &["rev-parse", "main"])
    );
    // The request, repeated, gets the answer that was missed, and merges nothing twice.
    let report = client.merge_worktree(merge).await.unwrap().report.unwrap();
    assert_eq!(report.verdict(), v1::MergeVerdict::Merged);
    assert_eq!(git(&repo, &["rev-list", "--count", "main"]), "2");
}

#[tokio::test]
async fn merges_asked_for_at_once_are_done_one_by_one() {
    let baton = Baton::start().await;
    let repo = repository(&baton.project().join("repo"));
    let client = baton.client();
    let mut ids = Vec::new();
    for number in 0..5 {
        let (made, path) = create(&client, wanted(&repo, &format!("t{number}"))).await;
        commit(&path, &format!("file{number}"), "x\n");
        ids.push(made.id);
    }
    let merges = ids.iter().map(|id| {
        client.merge_worktree(v1::MergeWorktreeRequest {
            worktree_id: id.clone(),
            ..Default::default()
        })
    });
    for merged in futures_util::future::join_all(merges).await {
        assert_eq!(
            merged.unwrap().report.unwrap().verdict(),
            v1::MergeVerdict::Merged
        );
    }
    let parents = git(&repo, &["log", "--format=%P", "main"]);
    assert_eq!(parents.lines().count(), 5, "{parents}");
    assert_eq!(git(&repo, &["rev-list", "--count", "main"]), "6");
    assert_eq!(git(&repo, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_watch_of_all_follows_worktrees() {
    let baton = Baton::start().await;
    let repo = repository(&baton.project().join("repo"));
    let client = baton.client();
    let (there, path) = create(&client, wanted(&repo, "t-1")).await;
    let (gone, _) = create(&client, wanted(&repo, "t-2")).await;
    let remove = |id: &str| v1::DeleteWorktreeRequest {
        worktree_id: id.to_owned(),
        ..Default::default()
    };
    client.delete_worktree(remove(&gone.id)).await.unwrap();
    let watch = v1::WatchRequest {
        scopes: vec![v1::Scope {
            scope: Some(v1::scope::Scope::All(v1::AllScope::default())),
        }],
        ..Default::default()
    };
    let mut stream = client.events().watch(watch).await.unwrap().into_inner();
    let mut seen: Vec<(String, v1::WorktreeState, u32)> = Vec::new();
    let state = |state: v1::WorktreeState, untracked| (there.id.clone(), state, untracked);
    let mut begun = false;
    while !seen
        .iter()
        .any(|(_, state, _)| *state == v1::WorktreeState::Archived)
    {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let message = next.unwrap_or_else(|_| panic!("waited in vain: {seen:?}"));
        match message.unwrap().unwrap().body {
            Some(v1::watch_response::Body::Changes(batch)) => {
                for change in batch.changes {
                    if let Some(v1::change::Record::Worktree(tree)) = change.record {
                        let untracked = tree.look.as_ref().map_or(0, |look| look.untracked);
                        seen.push((tree.id.clone(), tree.state(), untracked));
                    }
                }
            }
            // What there is has come, without what is archived; now it is looked at again, and removed.
            Some(v1::watch_response::Body::Progress(_)) if !begun => {
                assert_eq!(seen, [state(v1::WorktreeState::Active, 0)]);
                std::fs::write(path.join("new"), "1").unwrap();
                get(&client, &there.id).await;
                let remove = v1::DeleteWorktreeRequest {
                    force: true,
                    ..remove(&there.id)
                };
                client.delete_worktree(remove).await.unwrap();
                begun = true;
            }
            _ => {}
        }
    }
    assert!(seen.iter().all(|(id, _, _)| *id == there.id), "{seen:?}");
    assert_eq!(seen.last().unwrap().1, v1::WorktreeState::Archived);
}

#[tokio::test]
async fn what_can_go_without_loss_goes_by_itself_and_nothing_else() {
    let mut baton = Baton::new().daemon_flags(&["--worktree-grace", "0s"]);
    let slow = [("BATON_WORKTREES_PRUNE_EVERY", "none")];
    baton.spawn_server_with(&slow);
    baton.server_answers().await;
    baton.start_daemon().await;
    let client = baton.client();
    let repo = repository(&baton.project().join("app"));
    let (clean, clean_path) = create(&client, wanted(&repo, "clean")).await;
    let (dirty, dirty_path) = create(&client, wanted(&repo, "dirty")).await;
    std::fs::write(dirty_path.join("precious"), "p\n").unwrap();
    let (used, used_path) = create(&client, wanted(&repo, "used")).await;
    let request = v1::CreateSessionRequest {
        harness: "demo".to_owned(),
        input: "say: here".to_owned(),
        cwd: text(&used_path),
        ..Default::default()
    };
    let session = client.create_session(request).await.unwrap().session;
    baton.turns(&session.unwrap().id, 1).await;

    baton.kill_server();
    baton.spawn_server_with(&[("BATON_WORKTREES_PRUNE_EVERY", "200ms")]);
    baton.server_answers().await;
    baton.daemon_is_linked().await;
    let client = baton.client();
    eventually("the clean one is gone", || async {
        let now = get(&client, &clean.id).await;
        (now.state() == v1::WorktreeState::Archived).then_some(())
    })
    .await;
    assert!(!clean_path.exists());
    // It went on looking, and left the others.
    let (again, again_path) = create(&client, wanted(&repo, "again")).await;
    eventually("another is gone", || async {
        let now = get(&client, &again.id).await;
        (now.state() == v1::WorktreeState::Archived).then_some(())
    })
    .await;
    assert!(!again_path.exists() && dirty_path.join("precious").exists() && used_path.exists());
    for kept in [dirty.id, used.id] {
        assert_eq!(get(&client, &kept).await.state(), v1::WorktreeState::Active);
    }
}
