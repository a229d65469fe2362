//! Sessions: listed with every filter, looked at after their end, and read.

use baton::wire::v1;
use http::Method;
use serde_json::{Value, json};

use super::*;

async fn ids(baton: &Baton, query: &str) -> Vec<String> {
    let got = get(baton, &format!("/api/sessions{query}")).await;
    let shown = got.json();
    assert_eq!(got.status, 200, "{query}: {shown}");
    let sessions = shown["sessions"].as_array().unwrap();
    let ids = sessions.iter().map(|it| it["id"].as_str().unwrap());
    ids.map(str::to_owned).collect()
}

#[tokio::test]
async fn sessions_are_listed_by_agent_role_status_and_whether_they_can_be_continued() {
    let baton = Baton::start().await;
    assert!(ids(&baton, "").await.is_empty());
    let worker = agent(&baton, "Will", json!({})).await;
    let steward = agent(&baton, "Sue", json!({ "role": "steward" })).await;
    let over = start(&baton, &worker, json!({ "initialPrompt": "say: one" })).await;
    baton.turns(&over, 1).await;
    stop(&baton, &worker).await;
    let running = start(&baton, &worker, json!({ "initialPrompt": "say: two" })).await;
    baton.turns(&running, 1).await;
    let upkeep = start(&baton, &steward, json!({ "initialPrompt": "say: three" })).await;
    baton.turns(&upkeep, 1).await;
    let nobodys = baton.session("demo", "say: four").await.id;
    baton.turns(&nobodys, 1).await;
    baton
        .client()
        .suspend_session(v1::SuspendSessionRequest {
            session_id: nobodys.clone(),
            ..Default::default()
        })
        .await
        .unwrap();
    baton.reaches(&nobodys, v1::Lifecycle::Suspended).await;

    // Newest first.
    assert_eq!(
        ids(&baton, "").await,
        [&nobodys[..], &upkeep, &running, &over]
    );
    for (query, expected) in [
        (format!("?agentId={worker}"), vec![&running, &over]),
        ("?agentId=nobody".to_owned(), vec![]),
        ("?role=worker".to_owned(), vec![&running, &over]),
        ("?role=steward".to_owned(), vec![&upkeep]),
        ("?role=director".to_owned(), vec![]),
        ("?status=running".to_owned(), vec![&upkeep, &running]),
        ("?status=terminated".to_owned(), vec![&over]),
        ("?status=suspended".to_owned(), vec![&nobodys]),
        ("?status=starting,terminating".to_owned(), vec![]),
        (
            "?status=starting,running,suspended,terminating,terminated".to_owned(),
            vec![&nobodys, &upkeep, &running, &over],
        ),
        ("?resumable=true".to_owned(), vec![&nobodys, &over]),
        (
            "?resumable=false".to_owned(),
            vec![&nobodys, &upkeep, &running, &over],
        ),
        (
            format!("?agentId={worker}&status=terminated&resumable=true&role=worker"),
            vec![&over],
        ),
    ] {
        let expected: Vec<String> = expected.into_iter().cloned().collect();
        assert_eq!(ids(&baton, &query).await, expected, "{query}");
    }
    let page = get(&baton, "/api/sessions?limit=3").await.json();
    assert_eq!(page["sessions"].as_array().unwrap().len(), 3);
    let next = page["nextPageToken"].as_str().unwrap();
    assert_eq!(
        ids(&baton, &format!("?limit=3&pageToken={next}")).await,
        [over.as_str()]
    );
    for bad in [
        "?status=odd",
        "?status=running,odd",
        "?role=boss",
        "?resumable=maybe",
        "?limit=-1",
    ] {
        refused(
            &get(&baton, &format!("/api/sessions{bad}")).await,
            400,
            "INVALID_INPUT",
        );
    }

    // Of nobody: the fields are there, and say so. It is kept after its end, and after the server's.
    let shown = get(&baton, &format!("/api/sessions/{nobodys}"))
        .await
        .json();
    assert_eq!(fields(&shown), ["session"]);
    assert_eq!(shown["session"]["agentId"], Value::Null);
    assert_eq!(shown["session"]["agentRole"], Value::Null);
    assert_eq!(shown["session"]["status"], "suspended");
    let shown = get(&baton, &format!("/api/sessions/{over}")).await.json();
    let session = &shown["session"];
    assert_eq!(
        fields(session),
        [
            "id",
            "claudeSessionId",
            "providerSessionId",
            "agentId",
            "agentRole",
            "workerMode",
            "status",
            "workingDirectory",
            "createdAt",
            "startedAt",
            "lastActivityAt",
            "endedAt",
            "terminationReason",
            "mode",
            "provider",
            "model",
            "title",
            "resumable",
            "pendingPrompts",
            "daemonId",
        ]
    );
    for time in ["createdAt", "startedAt", "lastActivityAt", "endedAt"] {
        assert_eq!(session[time].as_str().unwrap().len(), 24, "{time}");
    }
    for id in ["x", "..", "%00", "ses_01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
        for rest in ["", "/messages"] {
            let got = get(&baton, &format!("/api/sessions/{id}{rest}")).await;
            assert_eq!(refused(&got, 404, "NOT_FOUND"), "Session not found");
        }
    }
    // A worker has a mode; nobody else has.
    let path = format!("/api/sessions/{upkeep}");
    let shown = get(&baton, &path).await.json();
    let steward = &shown["session"];
    assert_eq!(steward["agentRole"], "steward");
    assert_eq!(steward["workerMode"], Value::Null);
    assert!(steward["pid"].as_u64().unwrap() > 1, "it lives");
    let got = call(&baton, &baton.admin(), Method::PUT, &path, &json!({})).await;
    refused(&got, 405, "UNKNOWN_METHOD");
    let got = get(&baton, "/api/sessions/%FF").await;
    refused(&got, 400, "INVALID_INPUT");
    // The relay's own paths keep the relay's shapes.
    let got = get(&baton, "/api/sessions/x/info").await.json();
    assert_eq!(fields(&got), ["error", "code"]);
}

#[tokio::test]
async fn the_messages_of_a_conversation_are_read_over_all_its_sessions() {
    let baton = Baton::start().await;
    let agent = agent(&baton, "Alice", json!({})).await;
    let first = start(&baton, &agent, json!({ "initialPrompt": "say: one" })).await;
    baton.turns(&first, 1).await;
    stop(&baton, &agent).await;
    let path = format!("/api/agents/{agent}/resume");
    let got = post(&baton, &path, json!({ "resumePrompt": "say: two" })).await;
    let second = got.json()["session"]["id"].as_str().unwrap().to_owned();
    baton.turns(&second, 1).await;

    let read = async |query: &str| {
        let got = get(&baton, &format!("/api/sessions/{second}/messages{query}")).await;
        let shown = got.json();
        assert_eq!(
            (got.status, fields(&shown)),
            (200, vec!["messages", "hasMore"])
        );
        let messages = shown["messages"].as_array().unwrap().clone();
        (messages, shown["hasMore"].as_bool().unwrap())
    };
    let (all, more) = read("").await;
    assert!(!more);
    let said = |messages: &[Value]| -> Vec<String> {
        let said = messages
            .iter()
            .filter(|it| it["type"] == "user" || it["type"] == "assistant");
        said.map(|it| it["content"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(said(&all), ["say: one", "one", "say: two", "two"]);
    for message in &all {
        let session = message["sessionId"].as_str().unwrap();
        assert_eq!(
            message["id"],
            format!("{session}:{}", message["index"]).as_str()
        );
    }
    // Page by page, after an id: the same, each once.
    let mut pages = Vec::new();
    loop {
        let after = pages
            .last()
            .map(|it: &Value| it["id"].as_str().unwrap().to_owned());
        let after = after.map(|id| format!("&after={id}")).unwrap_or_default();
        let (page, more) = read(&format!("?limit=2{after}")).await;
        pages.extend(page);
        if !more {
            break;
        }
    }
    assert_eq!(pages, all);
    // The stream goes on where the messages end.
    let last = all.last().unwrap()["id"].as_str().unwrap();
    let mut stream = Stream::of(&baton, &agent, Some(last)).await;
    post(
        &baton,
        &format!("/api/agents/{agent}/input"),
        json!({ "input": "say: three" }),
    )
    .await;
    let came = stream
        .until("an answer", |sent| sent.name == "agent_assistant")
        .await;
    let came: Vec<&str> = came
        .iter()
        .filter_map(|sent| sent.data["content"].as_str())
        .collect();
    assert!(
        came.contains(&"say: three") && !came.contains(&"say: two"),
        "{came:?}"
    );
    for bad in [
        "?after=x",
        "?after=ses_01ARZ3NDEKTSV4RRFFQ69G5FAV:1",
        "?limit=1001",
    ] {
        let got = get(&baton, &format!("/api/sessions/{second}/messages{bad}")).await;
        refused(&got, 400, "INVALID_INPUT");
    }
    let got = get(
        &baton,
        &format!("/api/sessions/{second}/messages?after={second}:1000000"),
    )
    .await;
    refused(&got, 416, "OUT_OF_RANGE");

    baton.turns(&second, 2).await;
    let latest =
        async |query: &str| get(&baton, &format!("/api/sessions/latest-messages{query}")).await;
    let query = format!("?sessionIds={first},{second},nothing,ses_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    let got = latest(&query).await;
    let shown = got.json();
    assert_eq!((got.status, fields(&shown)), (200, vec!["messages"]));
    assert_eq!(
        fields(&shown["messages"]),
        [first.as_str(), second.as_str()]
    );
    assert_eq!(shown["messages"][&second]["type"], "result");
    assert_eq!(shown["messages"][&second]["sessionId"], second.as_str());
    refused(&latest("").await, 400, "INVALID_INPUT");
    let many = vec![first.as_str(); 51].join(",");
    refused(
        &latest(&format!("?sessionIds={many}")).await,
        400,
        "INVALID_INPUT",
    );
    let many = vec![first.as_str(); 50].join(",");
    assert_eq!(latest(&format!("?sessionIds={many}")).await.status, 200);
}

#[tokio::test]
async fn all_agents_that_the_caller_sees_are_stopped_and_nobody_else() {
    let baton = Baton::start().await;
    let path = "/api/sessions/stop-all";
    let got = post(&baton, path, Value::Null).await;
    assert_eq!(
        (got.status, got.json()),
        (
            200,
            json!({
                "success": true, "stoppedCount": 0, "failedCount": 0, "results": [],
                "message": "No running sessions",
            })
        )
    );
    let (one, two) = (directory(&baton, "one"), directory(&baton, "two"));
    let at_work = json!({ "initialPrompt": "stream: 1000000 1000" });
    let mut all = Vec::new();
    for (name, place) in [("Alice", &one), ("Bob", &two), ("Eve", &two)] {
        let agent = agent(&baton, name, json!({ "workingDirectory": place })).await;
        let session = start(&baton, &agent, at_work.clone()).await;
        baton.reaches(&session, v1::Lifecycle::Running).await;
        all.push((agent, session));
    }
    let persons = baton.session("demo", "say: mine").await.id;
    baton.turns(&persons, 1).await;
    for bad in [
        json!({ "graceful": "no" }),
        json!({ "reason": 7 }),
        json!({ "reason": "x".repeat(2_000) }),
        json!("["),
    ] {
        refused(&post(&baton, path, bad).await, 400, "INVALID_INPUT");
    }
    let viewer = token(&baton, v1::TokenScope::Viewer).await;
    let got = call(&baton, &viewer, Method::POST, path, &json!({})).await;
    refused(&got, 403, "FORBIDDEN");

    // Who sees one directory stops who works there.
    let own = narrowed(&baton, &one).await;
    let body = json!({ "graceful": false, "reason": "lunch" });
    let got = call(&baton, &own, Method::POST, path, &body).await;
    let (agent, session) = &all[0];
    assert_eq!(
        (got.status, got.json()),
        (
            200,
            json!({
                "success": true, "stoppedCount": 1, "failedCount": 0,
                "results": [{ "sessionId": session, "agentId": agent, "success": true }],
            })
        )
    );
    baton.reaches(session, v1::Lifecycle::Ended).await;
    let shown = get(&baton, &format!("/api/sessions/{session}"))
        .await
        .json();
    let reason = shown["session"]["terminationReason"].as_str().unwrap();
    assert!(reason.contains("lunch"), "{reason}");
    let got = post(&baton, path, json!({ "graceful": false })).await;
    let stopped = got.json();
    assert_eq!(
        (&stopped["stoppedCount"], &stopped["success"]),
        (&json!(2), &json!(true))
    );
    let mut told: Vec<&str> = stopped["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["sessionId"].as_str().unwrap())
        .collect();
    told.sort_unstable();
    let mut others = [all[1].1.as_str(), all[2].1.as_str()];
    others.sort_unstable();
    assert_eq!(told, others);
    for session in others {
        baton.reaches(session, v1::Lifecycle::Ended).await;
    }
    // What no agent runs goes on.
    let shown = get(&baton, &format!("/api/sessions/{persons}"))
        .await
        .json();
    assert_eq!(shown["session"]["status"], "running");
}
