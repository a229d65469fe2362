//! Worktrees: by paths in URLs, with the real git.

use serde_json::{Value, json};

use super::*;
use crate::worktrees::{git, repository};

async fn worktree(baton: &Baton, path: &str) -> Got {
    get(baton, &format!("/api/worktrees/{}", encoded(path))).await
}

#[tokio::test]
async fn without_a_repository_worktrees_are_disabled() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let body = json!({ "agentName": "alice", "taskId": "t-1" });
    refused(&get(&baton, "/api/worktrees").await, 503, "NO_DAEMON");
    baton.start_daemon().await;
    refused(
        &get(&baton, "/api/worktrees").await,
        503,
        "WORKTREES_DISABLED",
    );
    refused(&worktree(&baton, "/x").await, 503, "WORKTREES_DISABLED");
    refused(
        &post(&baton, "/api/worktrees", body).await,
        503,
        "WORKTREES_DISABLED",
    );
    let got = delete(&baton, "/api/worktrees/x").await;
    refused(&got, 503, "WORKTREES_DISABLED");
}

#[tokio::test]
async fn a_worktree_is_made_looked_at_worked_in_and_removed() {
    let baton = Baton::start().await;
    let repo = repository(&baton.project());
    let listed = get(&baton, "/api/worktrees").await;
    assert_eq!(
        (listed.status, listed.json()),
        (200, json!({ "worktrees": [] }))
    );
    let body = json!({
        "agentName": "worker-alice", "taskId": "el-task123", "taskTitle": "Implement feature X",
        "baseBranch": "main",
    });
    let got = post(&baton, "/api/worktrees", body.clone()).await;
    let made = got.json();
    assert_eq!(got.status, 201, "{made}");
    assert_eq!(
        fields(&made),
        ["success", "worktree", "branch", "path", "branchCreated"]
    );
    assert_eq!(made["success"], true);
    assert_eq!(
        made["branch"],
        "agent/worker-alice/el-task123-implement-feature-x"
    );
    // The task's id is in the path, so that two titles that are alike do not meet.
    assert_eq!(
        made["path"],
        ".worktrees/worker-alice-el-task123-implement-feature-x/"
    );
    assert_eq!(made["branchCreated"], true);
    let info = &made["worktree"];
    let path = repo.join(".worktrees/worker-alice-el-task123-implement-feature-x");
    assert_eq!(info["path"], path.to_str().unwrap());
    assert_eq!(
        info["relativePath"],
        ".worktrees/worker-alice-el-task123-implement-feature-x"
    );
    assert_eq!(info["branch"], made["branch"]);
    assert_eq!(info["head"], git(&repo, &["rev-parse", "HEAD"]).as_str());
    assert_eq!(info["isMain"], false);
    assert_eq!(info["state"], "active");
    assert_eq!(info["agentName"], "worker-alice");
    assert_eq!(info["taskId"], "el-task123");
    assert!(info["createdAt"].is_string());
    assert!(path.join("first").is_file());
    let listed = get(&baton, "/api/worktrees").await.json();
    assert_eq!(listed["worktrees"].as_array().unwrap().len(), 1);

    // By its path, its path from the repository, with or without the slash at its end.
    let absolute = path.to_str().unwrap();
    for name in [
        absolute,
        &format!("{absolute}/"),
        made["path"].as_str().unwrap(),
        info["relativePath"].as_str().unwrap(),
    ] {
        let got = worktree(&baton, name).await;
        assert_eq!(got.status, 200, "{name}");
        assert_eq!(got.json()["worktree"]["id"], info["id"], "{name}");
    }
    let daemon = info["daemonId"].as_str().unwrap();
    let named = format!(
        "/api/worktrees?daemon={daemon}&repo={}",
        encoded(repo.to_str().unwrap())
    );
    assert_eq!(get(&baton, &named).await.json(), listed);
    let elsewhere = format!(
        "/api/worktrees?repo={}",
        encoded(repo.join("other").to_str().unwrap())
    );
    assert_eq!(
        get(&baton, &elsewhere).await.json(),
        json!({ "worktrees": [] })
    );

    // An agent works in it, by its name.
    let agent = agent(&baton, "Alice", json!({ "workingDirectory": null })).await;
    let session = start(
        &baton,
        &agent,
        json!({ "worktree": "worker-alice-el-task123-implement-feature-x", "initialPrompt": "say: hi" }),
    )
    .await;
    let shown = get(&baton, &format!("/api/sessions/{session}"))
        .await
        .json();
    assert_eq!(shown["session"]["workingDirectory"], absolute);
    assert_eq!(shown["session"]["worktree"], absolute);
    let seen = worktree(&baton, absolute).await.json();
    assert_eq!(seen["worktree"]["sessionIds"], json!([session]));
    let outside = json!({ "worktree": absolute, "workingDirectory": repo.to_str().unwrap() });
    let remove = format!("/api/worktrees/{}", encoded(absolute));
    refused(
        &delete(&baton, &format!("{remove}?force=true")).await,
        409,
        "INVALID_STATE",
    );
    stop(&baton, &agent).await;
    let got = post(&baton, &format!("/api/agents/{agent}/start"), outside).await;
    refused(&got, 400, "INVALID_INPUT");

    // Work is not thrown away, unless by force, and then it is kept.
    std::fs::write(path.join("work"), "much\n").unwrap();
    let message = refused(&delete(&baton, &remove).await, 409, "INVALID_STATE");
    assert!(
        message.contains("untracked") || message.contains("uncommitted"),
        "{message}"
    );
    assert!(path.join("work").is_file());
    let bad = delete(&baton, &format!("{remove}?force=perhaps")).await;
    refused(&bad, 400, "INVALID_INPUT");
    let got = delete(&baton, &format!("{remove}?force=true&deleteBranch=true")).await;
    let gone = got.json();
    assert_eq!(got.status, 200, "{gone}");
    assert_eq!(
        (&gone["success"], &gone["branchDeleted"]),
        (&json!(true), &json!(true))
    );
    let kept = gone["worktree"]["recoverRef"].as_str().unwrap();
    assert!(git(&repo, &["rev-parse", kept]).len() >= 40);
    assert!(!path.exists());
    let message = refused(&worktree(&baton, absolute).await, 404, "NOT_FOUND");
    assert_eq!(message, "Worktree not found");
    refused(&delete(&baton, &remove).await, 404, "NOT_FOUND");
    assert_eq!(
        get(&baton, "/api/worktrees").await.json(),
        json!({ "worktrees": [] })
    );
    let all = get(&baton, "/api/worktrees?all=true").await.json();
    assert_eq!(all["worktrees"][0]["state"], "archived");
}

#[tokio::test]
async fn a_worktree_begins_at_its_base_and_leaves_its_branch_unless_it_is_to_go_too() {
    let baton = Baton::start().await;
    let repo = repository(&baton.project());
    git(&repo, &["branch", "other"]);
    let other = git(&repo, &["rev-parse", "other"]);
    git(&repo, &["commit", "-q", "--allow-empty", "-m", "later"]);
    assert_ne!(git(&repo, &["rev-parse", "main"]), other);
    let make = async |task: &str, more: Value| {
        let mut body = json!({ "agentName": "alice", "taskId": task });
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let got = post(&baton, "/api/worktrees", body).await;
        let made = got.json();
        assert_eq!(got.status, 201, "{made}");
        made
    };
    // Without a title the branch and the directory have the task's id only.
    let made = make("t-1", json!({ "baseBranch": "other" })).await;
    assert_eq!(made["worktree"]["head"], other.as_str());
    assert_eq!(
        (&made["branch"], &made["path"]),
        (&json!("agent/alice/t-1"), &json!(".worktrees/alice-t-1/"))
    );
    // By its branch, its directory's name and its id.
    let id = made["worktree"]["id"].clone();
    for name in ["agent/alice/t-1", "alice-t-1", id.as_str().unwrap()] {
        let got = worktree(&baton, name).await;
        assert_eq!(got.json()["worktree"]["id"], id, "{name}");
    }
    let gone = delete(&baton, "/api/worktrees/alice-t-1").await.json();
    assert_eq!(
        (&gone["success"], &gone["branchDeleted"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(git(&repo, &["rev-parse", "agent/alice/t-1"]), other);
    // A branch that is there is used, and not said to be made.
    let made = make("t-2", json!({ "customBranch": "other" })).await;
    assert_eq!(
        (&made["branch"], &made["branchCreated"]),
        (&json!("other"), &json!(false))
    );
    delete(&baton, "/api/worktrees/alice-t-2").await;
    let made = make("t-3", json!({})).await;
    assert_eq!(made["branchCreated"], true);
    let path = "/api/worktrees/alice-t-3?deleteBranch=true";
    let gone = delete(&baton, path).await.json();
    assert_eq!(gone["branchDeleted"], true, "{gone}");
    assert_eq!(git(&repo, &["branch", "--list", "agent/alice/t-3"]), "");

    // An agent goes on where its conversation is, by the name of the worktree, and in no other.
    let there = make("t-4", json!({})).await;
    make("t-5", json!({})).await;
    let agent = agent(&baton, "Alice", json!({})).await;
    let begin = json!({ "worktree": "alice-t-4", "initialPrompt": "say: one" });
    let session = start(&baton, &agent, begin).await;
    baton.turns(&session, 1).await;
    stop(&baton, &agent).await;
    let path = format!("/api/agents/{agent}/resume");
    let got = post(&baton, &path, json!({ "worktree": "alice-t-5" })).await;
    refused(&got, 400, "INVALID_INPUT");
    let got = post(&baton, &path, json!({ "worktree": "alice-t-4" })).await;
    let resumed = got.json();
    assert_eq!(got.status, 201, "{resumed}");
    assert_eq!(resumed["session"]["worktree"], there["worktree"]["path"]);
}

#[tokio::test]
async fn a_branch_and_a_path_of_ones_own_stay_where_worktrees_lie() {
    let baton = Baton::start().await;
    let repo = repository(&baton.project());
    let body = |more: Value| {
        let mut body = json!({ "agentName": "alice", "taskId": "t-1" });
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    let before = git(&repo, &["for-each-ref"]);
    let long = "x".repeat(4_096);
    for (more, said) in [
        (json!({ "agentName": "" }), "agentName is required"),
        (json!({ "taskId": null }), "taskId is required"),
        (json!({ "agentName": "-evil" }), "agentName"),
        (json!({ "agentName": "аlice" }), "agentName"),
        (json!({ "agentName": long }), "agentName"),
        (json!({ "agentName": "a\u{0}b" }), "agentName"),
        (json!({ "taskId": "../x" }), "taskId"),
        (json!({ "taskId": "-x" }), "taskId"),
        (json!({ "customBranch": "-evil" }), "customBranch"),
        (json!({ "customBranch": "a/../b" }), "customBranch"),
        (json!({ "customBranch": "@{" }), "customBranch"),
        (json!({ "customBranch": "a\nb" }), "customBranch"),
        (json!({ "baseBranch": "--upload-pack=x" }), "baseBranch"),
        (json!({ "customPath": "../evil" }), "customPath"),
        (
            json!({ "customPath": ".worktrees/../../evil" }),
            "customPath",
        ),
        (json!({ "customPath": "/tmp/evil" }), "customPath"),
        (json!({ "customPath": ".worktrees/a/b" }), "customPath"),
        (json!({ "customPath": "." }), "customPath"),
        (json!({ "customPath": "a\u{0}b" }), "customPath"),
        (json!({ "customPath": "" }), "customPath is required"),
        (json!({ "customPath": "-evil" }), "customPath"),
        (json!({ "customPath": ".git" }), "customPath"),
        (json!({ "customPath": 7 }), "customPath must be a text"),
    ] {
        let got = post(&baton, "/api/worktrees", body(more.clone())).await;
        let message = refused(&got, 400, "INVALID_INPUT");
        assert!(message.starts_with(said), "{more}: {message}");
    }
    assert_eq!(git(&repo, &["for-each-ref"]), before);
    assert!(
        !repo.join(".worktrees").exists()
            || repo.join(".worktrees").read_dir().unwrap().next().is_none()
    );

    let more = json!({ "customBranch": "custom-branch", "customPath": ".worktrees/custom/" });
    let got = post(&baton, "/api/worktrees", body(more)).await;
    let made = got.json();
    assert_eq!(got.status, 201, "{made}");
    assert_eq!(
        (&made["branch"], &made["path"]),
        (&json!("custom-branch"), &json!(".worktrees/custom/"))
    );
    let inside = repo.join(".worktrees/custom");
    assert!(inside.join("first").is_file());

    // No path of a request leads anywhere but to a record: nothing is looked up, nothing is removed.
    let precious = baton.project().join("precious");
    std::fs::create_dir(&precious).unwrap();
    for odd in [
        "..",
        "../..",
        ".worktrees/../.worktrees/custom",
        ".worktrees/./custom",
        "./.worktrees/custom",
        "/",
        "/etc",
        repo.to_str().unwrap(),
        precious.to_str().unwrap(),
        &format!("{}/.", inside.display()),
        &format!("{}//", inside.display()),
        &format!("{}/../custom", inside.display()),
        "a\0b",
        ".worktrees/custom\0",
        "custom%2F..",
        "main",
        long.as_str(),
    ] {
        let path = format!("/api/worktrees/{}", encoded(odd));
        for got in [
            get(&baton, &path).await,
            delete(&baton, &format!("{path}?force=true")).await,
        ] {
            refused(&got, 404, "NOT_FOUND");
        }
    }
    for raw in ["/api/worktrees/%FF%FE", "/api/worktrees/%C3%28"] {
        refused(&get(&baton, raw).await, 400, "INVALID_INPUT");
    }
    for raw in ["/api/worktrees/a/b", "/api/worktrees//etc"] {
        refused(&get(&baton, raw).await, 404, "UNKNOWN_METHOD");
    }
    for query in [
        "?daemon=x",
        "?repo=relative",
        "?repo=/a%00b",
        "?daemon=dmn_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ] {
        let got = get(&baton, &format!("/api/worktrees{query}")).await;
        assert!(matches!(got.status, 400 | 404), "{query}: {}", got.status);
    }
    assert!(precious.is_dir() && inside.join("first").is_file());
}
