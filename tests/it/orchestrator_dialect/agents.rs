//! Agents: kept, started, stopped, continued and talked with.

use baton::base::Secret;
use baton::domain::EventBody;
use baton::wire::v1;
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use super::*;

/// The fields that the text requires of a session; `?` are those that may be absent.
fn is_session_record(session: &Value) {
    for field in [
        "id",
        "agentId",
        "agentRole",
        "status",
        "workingDirectory",
        "createdAt",
        "lastActivityAt",
    ] {
        assert!(session[field].is_string(), "{field}: {session}");
    }
    let words = [
        "starting",
        "running",
        "suspended",
        "terminating",
        "terminated",
    ];
    assert!(
        words.contains(&session["status"].as_str().unwrap()),
        "{session}"
    );
}

#[tokio::test]
async fn agents_are_made_listed_changed_and_deleted() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let empty = get(&baton, "/api/agents").await;
    assert_eq!((empty.status, empty.json()), (200, json!({ "agents": [] })));
    let body = json!({
        "name": "Alice", "role": "worker", "workerMode": "persistent", "provider": "demo",
        "capabilities": ["rust", "review"], "limits": { "turns": 3, "costUsd": 1.5 },
        "roleDefinition": { "systemPrompt": "Be brief.", "onStartup": "say: hi" },
        "labels": { "team": "a" }, "unknownField": [1, 2],
    });
    let made = post(&baton, "/api/agents", body.clone()).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    assert_eq!(fields(&made), ["success", "agent"]);
    let agent = &made["agent"];
    for (field, value) in body.as_object().unwrap() {
        match field.as_str() {
            "unknownField" => assert!(agent[field].is_null()),
            "roleDefinition" | "limits" => {
                for (inner, value) in value.as_object().unwrap() {
                    assert_eq!(&agent[field][inner], value, "{field}.{inner}");
                }
            }
            _ => assert_eq!(&agent[field], value, "{field}"),
        }
    }
    assert_eq!(agent["hasActiveSession"], false);
    let id = agent["id"].as_str().unwrap().to_owned();
    let path = format!("/api/agents/{id}");
    let got = get(&baton, &path).await;
    assert_eq!((got.status, &got.json()["agent"]), (200, agent));
    refused(
        &post(&baton, "/api/agents", body).await,
        409,
        "ALREADY_EXISTS",
    );
    super::agent(&baton, "Sue", json!({ "role": "steward" })).await;

    let names = async |query: &str| {
        let listed = get(&baton, &format!("/api/agents{query}")).await.json();
        let agents = listed["agents"].as_array().unwrap().clone();
        let names = agents
            .iter()
            .map(|it| it["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), listed["nextPageToken"].clone())
    };
    assert_eq!(
        names("").await,
        (vec!["Alice".into(), "Sue".into()], Value::Null)
    );
    assert_eq!(names("?role=worker").await.0, ["Alice"]);
    assert_eq!(names("?role=steward").await.0, ["Sue"]);
    assert!(names("?role=director").await.0.is_empty());
    let (first, next) = names("?limit=1").await;
    assert_eq!(first, ["Alice"]);
    let next = format!("?limit=1&pageToken={}", next.as_str().unwrap());
    assert_eq!(names(&next).await, (vec!["Sue".into()], Value::Null));
    for bad in [
        "?role=boss",
        "?limit=0",
        "?limit=x",
        "?pageToken=%25",
        "?role=worker&role=worker",
    ] {
        refused(
            &get(&baton, &format!("/api/agents{bad}")).await,
            400,
            "INVALID_INPUT",
        );
    }

    // What is not named stays; null takes away.
    let changed = patch(&baton, &path, json!({ "disabled": true, "labels": null })).await;
    assert_eq!(changed.status, 200);
    let changed = changed.json()["agent"].clone();
    assert_eq!(
        (&changed["disabled"], &changed["labels"]),
        (&json!(true), &json!({}))
    );
    assert_eq!(changed["capabilities"], json!(["rust", "review"]));
    let stale = patch(&baton, &path, json!({ "name": "A", "etag": agent["etag"] })).await;
    refused(&stale, 412, "STALE");
    refused(
        &patch(&baton, &path, json!({ "name": "sue" })).await,
        409,
        "ALREADY_EXISTS",
    );

    let removed = delete(&baton, &path).await;
    assert_eq!(
        (removed.status, removed.json()),
        (200, json!({ "success": true }))
    );
    for got in [get(&baton, &path).await, delete(&baton, &path).await] {
        assert_eq!(refused(&got, 404, "NOT_FOUND"), "Agent not found");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_in_the_words_of_the_request_and_changes_nothing() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let long = "x".repeat(4_096);
    for (body, said) in [
        (json!("{"), "body is not JSON"),
        (json!("[]"), "body must be a JSON object"),
        (json!({ "role": "worker" }), "name is required"),
        (json!({ "name": "a" }), "role is required"),
        (json!({ "name": "a", "role": "boss" }), "role must be"),
        (
            json!({ "name": 7, "role": "worker" }),
            "name must be a text",
        ),
        (
            json!({ "name": "-evil", "role": "worker" }),
            "name may only have",
        ),
        (
            json!({ "name": "..", "role": "worker" }),
            "name may only have",
        ),
        (json!({ "name": "a\u{0}b", "role": "worker" }), "name"),
        (json!({ "name": "аlice", "role": "worker" }), "name"),
        (json!({ "name": long, "role": "worker" }), "name"),
        (
            json!({ "name": "a", "role": "worker", "workingDirectory": "x/.." }),
            "workingDirectory",
        ),
        (
            json!({ "name": "a", "role": "director", "workerMode": "ephemeral" }),
            "workerMode is for workers",
        ),
        (
            json!({ "name": "a", "role": "worker", "workerMode": "eternal" }),
            "workerMode must be",
        ),
        (
            json!({ "name": "a", "role": "worker", "permissionMode": "all" }),
            "permissionMode must be",
        ),
        (
            json!({ "name": "a", "role": "worker", "daemonId": "x" }),
            "daemonId",
        ),
        (
            json!({ "name": "a", "role": "worker", "capabilities": "rust" }),
            "capabilities must be a list",
        ),
        (
            json!({ "name": "a", "role": "worker", "limits": { "turns": -1 } }),
            "turns must be",
        ),
        (
            json!({ "name": "a", "role": "worker", "limits": { "costUsd": "x" } }),
            "costUsd must be",
        ),
        (
            json!({ "name": "a", "role": "worker", "roleDefinition": "x" }),
            "roleDefinition must be",
        ),
        (
            json!({ "name": "a", "role": "worker", "command": ["sh"] }),
            "command goes with",
        ),
    ] {
        let got = post(&baton, "/api/agents", body.clone()).await;
        let message = refused(&got, 400, "INVALID_INPUT");
        assert!(message.starts_with(said), "{body}: {message}");
    }
    assert_eq!(
        get(&baton, "/api/agents").await.json(),
        json!({ "agents": [] })
    );
    for id in ["x", "..", "%00", "%FF", "agt_01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
        for rest in ["", "/status", "/stream"] {
            let got = get(&baton, &format!("/api/agents/{id}{rest}")).await;
            match id {
                "%FF" => refused(&got, 400, "INVALID_INPUT"),
                _ => {
                    let message = refused(&got, 404, "NOT_FOUND");
                    assert_eq!(message, "Agent not found");
                    message
                }
            };
        }
        for verb in ["start", "stop", "resume", "input", "interrupt"] {
            let path = format!("/api/agents/{id}/{verb}");
            let got = post(&baton, &path, json!({ "input": "x" })).await;
            match id {
                "%FF" => refused(&got, 400, "INVALID_INPUT"),
                _ => refused(&got, 404, "NOT_FOUND"),
            };
        }
    }
}

#[tokio::test]
async fn an_agent_is_started_once_stopped_and_continued() {
    let baton = Baton::start().await;
    let agent = agent(&baton, "Alice", json!({})).await;
    let path = |verb: &str| format!("/api/agents/{agent}/{verb}");
    let status = async || get(&baton, &path("status")).await.json();
    assert_eq!(
        status().await,
        json!({ "agentId": agent, "hasActiveSession": false, "activeSession": null, "recentHistory": [] })
    );
    // An idle agent is stopped already, and has nothing to be interrupted or continued.
    let got = post(
        &baton,
        &path("stop"),
        json!({ "graceful": false, "reason": "x" }),
    )
    .await;
    assert_eq!(got.status, 200);
    assert_eq!(
        got.json(),
        json!({ "success": true, "message": "No active session to stop" })
    );
    for verb in ["interrupt", "input"] {
        let got = post(&baton, &path(verb), json!({ "input": "hello" })).await;
        refused(&got, 404, "NO_SESSION");
    }
    refused(&get(&baton, &path("stream")).await, 404, "NO_SESSION");
    let got = post(&baton, &path("resume"), json!({})).await;
    refused(&got, 404, "NO_RESUMABLE_SESSION");

    // Of many starts at once one wins, and the others are told which.
    let begin = path("start");
    let starts = (0..8).map(|_| post(&baton, &begin, json!({ "initialPrompt": "say: one" })));
    let (won, lost): (Vec<_>, Vec<_>) = join_all(starts)
        .await
        .into_iter()
        .partition(|got| got.status == 201);
    assert_eq!((won.len(), lost.len()), (1, 7));
    let made = won[0].json();
    assert_eq!(fields(&made), ["success", "session"]);
    assert_eq!(made["success"], true);
    is_session_record(&made["session"]);
    let first = made["session"]["id"].as_str().unwrap().to_owned();
    assert_eq!(made["session"]["agentId"], agent.as_str());
    assert_eq!(made["session"]["agentRole"], "worker");
    assert_eq!(made["session"]["workerMode"], "ephemeral");
    for got in &lost {
        assert_eq!(got.status, 409);
        let body = got.json();
        assert_eq!(fields(&body), ["error", "existingSession"]);
        assert_eq!(body["error"]["code"], "SESSION_EXISTS");
        is_session_record(&body["existingSession"]);
        assert_eq!(body["existingSession"]["id"], first.as_str());
    }
    baton.turns(&first, 1).await;
    let shown = status().await;
    assert_eq!(
        fields(&shown),
        [
            "agentId",
            "hasActiveSession",
            "activeSession",
            "recentHistory"
        ]
    );
    assert_eq!(shown["hasActiveSession"], true);
    assert_eq!(shown["activeSession"]["id"], first.as_str());
    assert_eq!(shown["activeSession"]["status"], "running");
    assert!(shown["activeSession"]["pid"].as_u64().unwrap() > 1);
    assert_eq!(shown["recentHistory"], json!([]));

    // Input is accepted, and its answer comes by the stream.
    let got = post(
        &baton,
        &path("input"),
        json!({ "input": "say: two", "isUserMessage": true }),
    )
    .await;
    assert_eq!(got.status, 202);
    assert_eq!(got.json(), json!({ "success": true, "sessionId": first }));
    baton.turns(&first, 2).await;
    for bad in [
        json!({}),
        json!({ "input": "" }),
        json!({ "input": 7 }),
        json!({ "input": "x", "isUserMessage": 1 }),
    ] {
        let got = post(&baton, &path("input"), bad).await;
        refused(&got, 400, "INVALID_INPUT");
    }
    let got = post(&baton, &path("interrupt"), Value::Null).await;
    assert_eq!(
        (got.status, got.json()),
        (200, json!({ "success": true, "sessionId": first }))
    );
    let got = post(&baton, &path("resume"), json!({})).await;
    assert_eq!(got.status, 409);
    assert_eq!(got.json()["existingSession"]["id"], first.as_str());

    let got = post(&baton, &path("stop"), json!({ "reason": "User requested" })).await;
    assert_eq!(
        (got.status, got.json()),
        (200, json!({ "success": true, "sessionId": first }))
    );
    baton.reaches(&first, v1::Lifecycle::Ended).await;
    // What it did stays, with why it ended.
    let shown = status().await;
    assert_eq!(shown["activeSession"], Value::Null);
    let over = &shown["recentHistory"][0];
    assert_eq!(
        (&over["id"], &over["status"]),
        (&json!(first), &json!("terminated"))
    );
    let reason = over["terminationReason"].as_str().unwrap();
    assert!(reason.contains("User requested"), "{reason}");
    assert!(over["endedAt"].is_string() && over["startedAt"].is_string());
    let conversation = over["claudeSessionId"].as_str().unwrap().to_owned();
    assert_eq!(over["providerSessionId"], conversation.as_str());

    let got = post(
        &baton,
        &path("resume"),
        json!({ "claudeSessionId": "nothing" }),
    )
    .await;
    refused(&got, 404, "NO_RESUMABLE_SESSION");
    let both = json!({ "claudeSessionId": "a", "providerSessionId": "b" });
    refused(
        &post(&baton, &path("resume"), both).await,
        400,
        "INVALID_INPUT",
    );
    let body = json!({ "claudeSessionId": conversation, "resumePrompt": "recall:" });
    let got = post(&baton, &path("resume"), body).await;
    assert_eq!(got.status, 201);
    let resumed = got.json();
    assert_eq!(&fields(&resumed)[..2], ["success", "session"]);
    let second = resumed["session"]["id"].as_str().unwrap().to_owned();
    assert_eq!(resumed["session"]["resumedFrom"], first.as_str());
    let events = baton.turns(&second, 1).await;
    let recalled = events.iter().any(|event| {
        matches!(&event.body, EventBody::Message { blocks, .. } if format!("{blocks:?}").contains("two"))
    });
    assert!(recalled, "it is the same conversation");
}

#[tokio::test]
async fn who_may_only_look_and_what_may_not_be_started() {
    let baton = Baton::start().await;
    let agent = agent(&baton, "Bob", json!({})).await;
    let path = |verb: &str| format!("/api/agents/{agent}/{verb}");
    let viewer = token(&baton, v1::TokenScope::Viewer).await;
    let as_viewer = async |method: Method, path: &str| {
        call(
            &baton,
            &viewer,
            method,
            path,
            &json!({ "name": "x", "role": "worker" }),
        )
        .await
    };
    for verb in ["start", "stop", "resume", "input", "interrupt"] {
        refused(
            &as_viewer(Method::POST, &path(verb)).await,
            403,
            "FORBIDDEN",
        );
    }
    let own = format!("/api/agents/{agent}");
    for (method, path) in [
        (Method::POST, "/api/agents"),
        (Method::PATCH, own.as_str()),
        (Method::DELETE, own.as_str()),
        (Method::POST, "/api/worktrees"),
        (Method::POST, "/api/tasks"),
    ] {
        refused(&as_viewer(method, path).await, 403, "FORBIDDEN");
    }
    assert_eq!(as_viewer(Method::GET, &path("status")).await.status, 200);
    let nobody = Secret::new("junk");
    let got = call(&baton, &nobody, Method::GET, "/api/agents", &Value::Null).await;
    refused(&got, 401, "UNAUTHENTICATED");

    patch(&baton, &own, json!({ "disabled": true })).await;
    refused(
        &post(&baton, &path("start"), json!({})).await,
        409,
        "AGENT_DISABLED",
    );
    patch(&baton, &own, json!({ "disabled": false })).await;
    for (body, said) in [
        (json!({ "workingDirectory": "/" }), ""),
        (json!({ "workingDirectory": "a/../b" }), "workingDirectory"),
        (json!({ "worktree": "nothing" }), "there is no worktree"),
        (json!({ "worktree": "../.." }), "there is no worktree"),
        (json!({ "interactive": "yes" }), "interactive must be"),
        (json!({ "cols": 80 }), "rows is required"),
        (json!({ "cols": 80, "rows": 0 }), "terminal.rows"),
        (json!({ "cols": 1e30, "rows": 1 }), "cols must be"),
        (json!({ "initialPrompt": ["x"] }), "initialPrompt must be"),
        (
            json!({ "interactive": true, "initialPrompt": "x" }),
            "initialPrompt is for headless",
        ),
    ] {
        let got = post(&baton, &path("start"), body.clone()).await;
        assert!(
            matches!(got.status, 400 | 403 | 404 | 503),
            "{body}: {}",
            got.status
        );
        let shown = got.json();
        let message = shown["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(said), "{body}: {message}");
    }
    let sessions = get(&baton, "/api/sessions").await.json();
    assert_eq!(sessions, json!({ "sessions": [] }), "none of them began");

    // The later names of the same fields.
    let session = start(
        &baton,
        &agent,
        json!({ "initialMessage": "say: hi", "interactive": false }),
    )
    .await;
    baton.turns(&session, 1).await;
    // A repeat with the same name is the same start.
    stop(&baton, &agent).await;
    let named = json!({ "initialPrompt": "say: hi", "requestId": "once" });
    let one = start(&baton, &agent, named.clone()).await;
    assert_eq!(start(&baton, &agent, named).await, one);
    assert_ne!(one, session);
}

#[tokio::test]
async fn an_agent_in_a_terminal_is_typed_to_and_interrupted_by_its_key() {
    let baton = Baton::start().await;
    let agent = shell(&baton, "Dora").await;
    let session = start(&baton, &agent, json!({ "cols": 101, "rows": 33 })).await;
    let shown = get(&baton, &format!("/api/sessions/{session}"))
        .await
        .json();
    assert_eq!(shown["session"]["mode"], "interactive");
    baton.reaches(&session, v1::Lifecycle::Running).await;
    let mut view =
        crate::terminals::View::open(&baton.client(), crate::terminals::from(&session, 0))
            .await
            .unwrap();
    let path = format!("/api/agents/{agent}/input");
    let got = post(
        &baton,
        &path,
        json!({ "input": "stty size; echo so$((1+1))far" }),
    )
    .await;
    assert_eq!(got.status, 202, "{:?}", got.body);
    view.sees("33 101").await;
    view.sees("so2far").await;
    // What waits for a key gets the one that interrupts.
    let wait = "stty raw -echo; echo re''ady; dd bs=1 count=1 2>/dev/null | od -An -tx1; stty sane";
    post(&baton, &path, json!({ "input": wait })).await;
    view.sees("ready").await;
    let got = post(
        &baton,
        &format!("/api/agents/{agent}/interrupt"),
        Value::Null,
    )
    .await;
    assert_eq!(got.status, 200, "{:?}", got.body);
    view.sees(" 1b").await;
}

#[tokio::test]
async fn an_agent_that_is_at_work_is_stopped_by_force() {
    let baton = Baton::start().await;
    let agent = agent(&baton, "Alice", json!({})).await;
    let path = format!("/api/agents/{agent}/stop");
    for bad in [json!({ "graceful": "no" }), json!({ "reason": 7 })] {
        refused(&post(&baton, &path, bad).await, 400, "INVALID_INPUT");
    }
    // Longer than anybody waits.
    let at_work = json!({ "initialPrompt": "stream: 1000000 1000" });
    let session = start(&baton, &agent, at_work).await;
    baton.reaches(&session, v1::Lifecycle::Running).await;
    let body = json!({ "graceful": false, "reason": "User requested" });
    let got = post(&baton, &path, body).await;
    assert_eq!(
        (got.status, got.json()),
        (200, json!({ "success": true, "sessionId": session }))
    );
    baton.reaches(&session, v1::Lifecycle::Ended).await;
    let shown = get(&baton, &format!("/api/sessions/{session}"))
        .await
        .json();
    let over = &shown["session"];
    assert_eq!(over["status"], "terminated");
    let reason = over["terminationReason"].as_str().unwrap();
    assert!(
        reason.starts_with("stopped") && reason.contains("User requested"),
        "{reason}"
    );
}

#[tokio::test]
async fn what_is_ready_for_an_agent_comes_before_what_it_goes_on_with() {
    let baton = Baton::start().await;
    let agent = agent(&baton, "Alice", json!({})).await;
    let first = start(&baton, &agent, json!({ "initialPrompt": "say: one" })).await;
    baton.turns(&first, 1).await;
    stop(&baton, &agent).await;
    let path = format!("/api/agents/{agent}/resume");
    let resume = async |body: Value| {
        let got = post(&baton, &path, body).await;
        let shown = got.json();
        assert_eq!(got.status, 201, "{shown}");
        assert_eq!(fields(&shown), ["success", "session", "uwpCheck"]);
        let check = shown["uwpCheck"].clone();
        assert_eq!(
            fields(&check),
            ["checked", "hasReadyTasks", "tasks", "processFirst"]
        );
        let session = shown["session"]["id"].as_str().unwrap().to_owned();
        baton.turns(&session, 1).await;
        let said = baton
            .events(&session)
            .await
            .into_iter()
            .find_map(|event| match event.body {
                EventBody::InputAccepted { text, .. } => Some(text),
                _ => None,
            });
        stop(&baton, &agent).await;
        (check, said.unwrap())
    };
    // A conversation goes on where it is and nowhere else.
    let project = baton.project();
    let elsewhere = json!({ "workingDirectory": project.join("x").to_str().unwrap() });
    let message = refused(&post(&baton, &path, elsewhere).await, 400, "INVALID_INPUT");
    assert!(
        message.starts_with("workingDirectory is not where"),
        "{message}"
    );
    let there =
        json!({ "resumePrompt": "say: two", "workingDirectory": project.to_str().unwrap() });
    let (check, said) = resume(there).await;
    assert_eq!(
        check,
        json!({ "checked": true, "hasReadyTasks": false, "tasks": [], "processFirst": false })
    );
    assert_eq!(said, "say: two");
    let made = post(&baton, "/api/tasks", json!({ "title": "Mend the door" }))
        .await
        .json();
    let task = made["task"]["id"].as_str().unwrap().to_owned();
    post(
        &baton,
        &format!("/api/tasks/{task}/assign"),
        json!({ "agentId": agent }),
    )
    .await;
    let skip = json!({ "resumePrompt": "say: three", "checkReadyQueue": false });
    let (check, said) = resume(skip).await;
    assert_eq!(
        check,
        json!({ "checked": false, "hasReadyTasks": false, "tasks": [], "processFirst": false })
    );
    assert_eq!(said, "say: three");
    let (check, said) = resume(json!({ "resumePrompt": "say: four" })).await;
    assert_eq!(
        (&check["checked"], &check["hasReadyTasks"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(check["processFirst"], true);
    assert_eq!(check["tasks"][0]["id"], task.as_str());
    assert_eq!(check["tasks"][0]["title"], "Mend the door");
    let (before, after) = (
        said.find("Mend the door").unwrap(),
        said.find("say: four").unwrap(),
    );
    assert!(before < after, "{said}");
    let odd = json!({ "checkReadyQueue": "yes" });
    refused(&post(&baton, &path, odd).await, 400, "INVALID_INPUT");
}
