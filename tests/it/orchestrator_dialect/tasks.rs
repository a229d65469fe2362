//! Tasks, as a board handles them.

use serde_json::{Value, json};

use super::*;

async fn task(baton: &Baton, body: Value) -> Value {
    let got = post(baton, "/api/tasks", body).await;
    let made = got.json();
    assert_eq!(got.status, 201, "{made}");
    assert_eq!(fields(&made), ["success", "task"]);
    made["task"].clone()
}

fn id(task: &Value) -> String {
    task["id"].as_str().unwrap().to_owned()
}

async fn titles(baton: &Baton, path: &str) -> Vec<String> {
    let got = get(baton, path).await;
    let shown = got.json();
    assert_eq!(got.status, 200, "{path}: {shown}");
    let tasks = shown["tasks"].as_array().unwrap();
    let titles = tasks.iter().map(|it| it["title"].as_str().unwrap());
    titles.map(str::to_owned).collect()
}

#[tokio::test]
async fn tasks_are_made_listed_changed_and_deleted() {
    let mut baton = Baton::new();
    baton.start_server().await;
    assert_eq!(
        get(&baton, "/api/tasks").await.json(),
        json!({ "tasks": [] })
    );
    let body = json!({
        "title": "Mend the door", "description": "It creaks.", "taskType": "bug", "priority": 2,
        "complexity": 1, "labels": { "house": "a" }, "scheduledFor": "2020-01-01T00:00:00Z",
        "requiredCapabilities": ["oil"], "preferredCapabilities": ["calm"],
        "acceptanceCriteria": "It is silent.", "skipReview": true,
        "attachments": [{ "name": "photo", "uri": "https://example.org/p" }, { "name": "note", "text": "x" }],
    });
    let door = task(&baton, body.clone()).await;
    for (field, value) in body.as_object().unwrap() {
        match field.as_str() {
            "scheduledFor" => assert_eq!(door[field], "2020-01-01T00:00:00.000Z"),
            _ => assert_eq!(&door[field], value, "{field}"),
        }
    }
    assert_eq!(
        (&door["status"], &door["assignee"]),
        (&json!("open"), &Value::Null)
    );
    let path = format!("/api/tasks/{}", id(&door));
    let got = get(&baton, &path).await;
    assert_eq!((got.status, &got.json()["task"]), (200, &door));
    let paint = task(&baton, json!({ "title": "Paint it", "priority": 1, "dependencies": [{ "type": "blocks", "taskId": door["id"] }] })).await;
    assert_eq!(
        (&paint["status"], &paint["blockedBy"]),
        (&json!("blocked"), &json!([door["id"]]))
    );
    task(
        &baton,
        json!({ "title": "Someday", "status": "backlog", "parentId": null }),
    )
    .await;
    task(
        &baton,
        json!({ "title": "A part", "parentId": paint["id"] }),
    )
    .await;

    for (query, expected) in [
        ("", vec!["A part", "Someday", "Paint it", "Mend the door"]),
        ("?status=open", vec!["A part", "Paint it", "Mend the door"]),
        ("?status=blocked", vec!["Paint it"]),
        (
            "?status=open,backlog&taskType=task",
            vec!["A part", "Someday", "Paint it"],
        ),
        ("?priority=1,2", vec!["Paint it", "Mend the door"]),
        ("?search=PAINT", vec!["Paint it"]),
        ("?assignee=nobody", vec![]),
        ("?unassigned=true&taskType=bug", vec!["Mend the door"]),
    ] {
        assert_eq!(
            titles(&baton, &format!("/api/tasks{query}")).await,
            expected,
            "{query}"
        );
    }
    let children = format!("/api/tasks?parentId={}", id(&paint));
    assert_eq!(titles(&baton, &children).await, ["A part"]);
    assert_eq!(
        titles(&baton, "/api/tasks/unassigned").await,
        ["A part", "Paint it", "Mend the door"]
    );
    // What the others wait for is as urgent as they are.
    assert_eq!(
        titles(&baton, "/api/tasks/ready").await,
        ["Mend the door", "A part"]
    );
    assert_eq!(
        titles(&baton, "/api/tasks/ready?capabilities=oil,x").await,
        ["Mend the door", "A part"]
    );
    let page = get(&baton, "/api/tasks?limit=3").await.json();
    let next = page["nextPageToken"].as_str().unwrap();
    assert_eq!(
        titles(&baton, &format!("/api/tasks?limit=3&pageToken={next}")).await,
        ["Mend the door"]
    );

    let changed = patch(
        &baton,
        &path,
        json!({ "title": "Oil the door", "priority": 5, "scheduledFor": null }),
    )
    .await;
    assert_eq!(changed.status, 200);
    let changed = changed.json()["task"].clone();
    assert_eq!(
        (&changed["title"], &changed["priority"]),
        (&json!("Oil the door"), &json!(5))
    );
    assert_eq!(
        (&changed["scheduledFor"], &changed["description"]),
        (&Value::Null, &json!("It creaks."))
    );
    let stale = json!({ "title": "x", "etag": door["etag"] });
    refused(&patch(&baton, &path, stale).await, 412, "STALE");
    refused(
        &patch(&baton, &path, json!({ "odd": 1 })).await,
        400,
        "INVALID_INPUT",
    );
    refused(
        &patch(&baton, &path, json!({ "status": "closed" })).await,
        409,
        "INVALID_STATE",
    );

    for (body, said) in [
        (json!({}), "title is required"),
        (json!({ "title": "  " }), "title is required"),
        (json!({ "title": "a\nb" }), "title"),
        (
            json!({ "title": "a", "taskType": "epic" }),
            "taskType must be",
        ),
        (json!({ "title": "a", "priority": 0 }), "priority is 0"),
        (
            json!({ "title": "a", "priority": 256 }),
            "priority is too large",
        ),
        (
            json!({ "title": "a", "status": "closed" }),
            "status is moved",
        ),
        (
            json!({ "title": "a", "scheduledFor": "soon" }),
            "scheduledFor must be",
        ),
        (
            json!({ "title": "a", "description": "x\u{0}" }),
            "description has a NUL",
        ),
        (json!({ "title": "a", "directory": "../x" }), "directory"),
        (json!({ "title": "a", "parentId": "x" }), "parentId"),
        (
            json!({ "title": "a", "dependencies": [{ "type": "odd", "taskId": door["id"] }] }),
            "type must be",
        ),
        (
            json!({ "title": "a", "attachments": [{ "name": "x", "uri": "javascript:alert(1)" }] }),
            "attachments[0].uri",
        ),
        (
            json!({ "title": "a", "attachments": [{ "name": "x" }] }),
            "attachments have either",
        ),
    ] {
        let got = post(&baton, "/api/tasks", body.clone()).await;
        let message = refused(&got, 400, "INVALID_INPUT");
        assert!(message.starts_with(said), "{body}: {message}");
    }
    for query in [
        "?status=odd",
        "?priority=6",
        "?priority=x",
        "?taskType=odd",
        "?unassigned=1&assignee=agt_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ] {
        refused(
            &get(&baton, &format!("/api/tasks{query}")).await,
            400,
            "INVALID_INPUT",
        );
    }
    refused(&delete(&baton, &path).await, 409, "INVALID_STATE");
    let gone = delete(&baton, &format!("{path}?force=true")).await;
    assert_eq!(
        (gone.status, gone.json()),
        (200, json!({ "success": true }))
    );
    for odd in [
        path.as_str(),
        "/api/tasks/x",
        "/api/tasks/%00",
        "/api/tasks/..",
    ] {
        refused(&get(&baton, odd).await, 404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn a_task_is_assigned_begun_handed_on_completed_and_opened_again() {
    let baton = Baton::start().await;
    let alice = agent(&baton, "Alice", json!({})).await;
    let bob = agent(&baton, "Bob", json!({})).await;
    let made = task(&baton, json!({ "title": "Mend the door" })).await;
    let path = |verb: &str| format!("/api/tasks/{}/{verb}", id(&made));
    let act = async |verb: &str, body: Value| {
        let got = post(&baton, &path(verb), body).await;
        let shown = got.json();
        assert_eq!(got.status, 200, "{verb}: {shown}");
        shown["task"].clone()
    };
    refused(
        &post(&baton, &path("start"), Value::Null).await,
        409,
        "INVALID_STATE",
    );
    refused(
        &post(&baton, &path("assign"), json!({})).await,
        400,
        "INVALID_INPUT",
    );
    refused(
        &post(&baton, &path("assign"), json!({ "agentId": "x" })).await,
        400,
        "INVALID_INPUT",
    );
    let unknown = json!({ "agentId": "agt_01ARZ3NDEKTSV4RRFFQ69G5FAV" });
    refused(
        &post(&baton, &path("assign"), unknown).await,
        404,
        "NOT_FOUND",
    );
    let assigned = act("assign", json!({ "agentId": alice, "branch": "b" })).await;
    assert_eq!(
        (&assigned["assignee"], &assigned["branch"]),
        (&json!(alice), &json!("b"))
    );
    assert_eq!(assigned["status"], "open");
    refused(
        &post(&baton, &path("assign"), json!({ "agentId": bob })).await,
        409,
        "ALREADY_EXISTS",
    );
    assert!(titles(&baton, "/api/tasks/unassigned").await.is_empty());
    assert_eq!(
        titles(&baton, &format!("/api/tasks?assignee={alice}")).await,
        ["Mend the door"]
    );
    assert_eq!(
        titles(&baton, &format!("/api/tasks/ready?assignee={alice}")).await,
        ["Mend the door"]
    );
    refused(
        &post(&baton, &path("start"), Value::Null).await,
        404,
        "NO_SESSION",
    );

    let session = start(&baton, &alice, json!({ "initialPrompt": "say: hi" })).await;
    let begun = act("start", Value::Null).await;
    assert_eq!(begun["status"], "in_progress");
    assert_eq!(begun["assignments"][0]["sessionIds"], json!([session]));
    let handed = act("handoff", json!({ "note": "half done", "agentId": bob })).await;
    assert_eq!(
        (&handed["status"], &handed["assignee"]),
        (&json!("open"), &json!(bob))
    );
    assert_eq!(handed["assignments"][0]["state"], "handed_off");
    assert_eq!(handed["assignments"][0]["note"], "half done");
    let back = act("handoff", json!({ "message": "nobody" })).await;
    assert_eq!(back["assignee"], Value::Null);
    act("assign", json!({ "agentId": alice })).await;
    act("start", Value::Null).await;
    refused(
        &post(&baton, &path("complete"), json!({ "outcome": "odd" })).await,
        400,
        "INVALID_INPUT",
    );
    let done = act("complete", json!({ "summary": "oiled" })).await;
    assert_eq!(
        (&done["status"], &done["summary"]),
        (&json!("review"), &json!("oiled"))
    );
    let again = act("reopen", json!({ "note": "it creaks", "sameAgent": true })).await;
    assert_eq!(again["assignee"], alice.as_str());
    act("start", Value::Null).await;
    let closed = act("complete", json!({ "outcome": "closed" })).await;
    assert_eq!(closed["status"], "closed");
    assert!(closed["closedAt"].is_string());
    let whats: Vec<&str> = closed["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["what"].as_str().unwrap())
        .collect();
    for what in [
        "created",
        "assigned",
        "started",
        "handed_off",
        "completed",
        "reopened",
    ] {
        assert!(whats.contains(&what), "{what}: {whats:?}");
    }
    let missing = "/api/tasks/tsk_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for verb in [
        "assign",
        "start",
        "complete",
        "reopen",
        "handoff",
        "dependencies",
    ] {
        let got = post(
            &baton,
            &format!("{missing}/{verb}"),
            json!({ "agentId": alice, "taskId": made["id"] }),
        )
        .await;
        assert_eq!(refused(&got, 404, "NOT_FOUND"), "Task not found");
    }
}

#[tokio::test]
async fn what_a_task_waits_for_is_added_and_taken_away_and_no_circle_is_made() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let one = task(&baton, json!({ "title": "one" })).await;
    let two = task(&baton, json!({ "title": "two" })).await;
    let path = |task: &Value, rest: &str| format!("/api/tasks/{}/dependencies{rest}", id(task));
    let got = post(
        &baton,
        &path(&two, ""),
        json!({ "type": "blocks", "taskId": one["id"] }),
    )
    .await;
    assert_eq!(
        (got.status, &got.json()["task"]["status"]),
        (201, &json!("blocked"))
    );
    let listed = get(&baton, &path(&two, "")).await.json();
    assert_eq!(fields(&listed), ["dependencies", "blockedBy"]);
    assert_eq!(listed["dependencies"][0]["taskId"], one["id"]);
    assert_eq!(listed["blockedBy"], json!([one["id"]]));
    let got = post(&baton, &path(&one, ""), json!({ "taskId": two["id"] })).await;
    let message = refused(&got, 409, "CYCLE");
    assert!(message.contains(one["id"].as_str().unwrap()), "{message}");
    for gate in [
        json!({ "gate": "approval", "name": "the boss" }),
        json!({ "gate": "timer", "until": "2999-01-01T00:00:00Z" }),
    ] {
        assert_eq!(post(&baton, &path(&one, ""), gate).await.status, 201);
    }
    assert!(titles(&baton, "/api/tasks/ready").await.is_empty());
    for bad in [
        json!({}),
        json!({ "gate": "odd" }),
        json!({ "gate": "approval" }),
        json!({ "gate": "timer", "until": "soon" }),
        json!({ "type": "odd", "taskId": two["id"] }),
        json!({ "taskId": "x" }),
    ] {
        refused(
            &post(&baton, &path(&one, ""), bad).await,
            400,
            "INVALID_INPUT",
        );
    }
    for gone in [
        "/approval?name=the%20boss",
        "/timer?until=2999-01-01T00:00:00Z",
    ] {
        let got = delete(&baton, &path(&one, gone)).await;
        assert_eq!(got.status, 200, "{gone}: {:?}", got.body);
    }
    assert_eq!(titles(&baton, "/api/tasks/ready").await, ["one"]);
    let got = delete(&baton, &path(&two, &format!("/{}", id(&one)))).await;
    assert_eq!(
        (got.status, &got.json()["task"]["status"]),
        (200, &json!("open"))
    );
    refused(&delete(&baton, &path(&two, "/x")).await, 404, "NOT_FOUND");
    refused(
        &delete(&baton, &path(&two, "/approval")).await,
        400,
        "INVALID_INPUT",
    );
}

#[tokio::test]
async fn tasks_are_dispatched_and_the_scheduler_is_controlled() {
    let baton = Baton::start().await;
    let cwd = baton.project().to_string_lossy().into_owned();
    let got = post(
        &baton,
        "/api/agents",
        json!({ "name": "Alice", "role": "worker", "harness": "demo", "directory": cwd }),
    )
    .await;
    let made = got.json();
    assert_eq!(got.status, 201, "{made}");
    let agent = made["agent"]["id"].as_str().unwrap().to_owned();
    let first = task(
        &baton,
        json!({ "title": "First", "description": "stream: 400 50" }),
    )
    .await;
    let path = format!("/api/tasks/{}/dispatch", id(&first));
    let got = post(&baton, &path, json!({})).await;
    let done = got.json();
    assert_eq!(got.status, 201, "{done}");
    assert_eq!(fields(&done), ["success", "task", "sessionId"]);
    assert_eq!(done["task"]["assignee"], agent.as_str());
    let session = done["sessionId"].as_str().unwrap().to_owned();
    // Again, by the agent's start: the same session.
    let path = format!("/api/agents/{agent}/start");
    let got = post(&baton, &path, json!({ "taskId": id(&first) })).await;
    assert_eq!(got.status, 201, "{}", got.json());
    assert_eq!(got.json()["session"]["id"], session.as_str());
    // A busy worker is not disturbed.
    let second = task(&baton, json!({ "title": "Second" })).await;
    let path = format!("/api/tasks/{}/dispatch", id(&second));
    let got = post(&baton, &path, json!({ "agentId": agent })).await;
    assert_eq!(
        (got.status, &got.json()["error"]["code"]),
        (409, &json!("SESSION_EXISTS"))
    );
    let got = post(&baton, &path, json!({ "agentId": "nobody" })).await;
    assert_eq!(
        (got.status, &got.json()["error"]["code"]),
        (400, &json!("INVALID_INPUT"))
    );

    let got = get(&baton, "/api/scheduler/status").await;
    let shown = got.json();
    assert_eq!(
        fields(&shown),
        [
            "isRunning",
            "paused",
            "reason",
            "changedBy",
            "changedAt",
            "lastPollAt",
            "runningAgents",
            "maxRunningAgents",
            "escalatedTaskIds"
        ]
    );
    assert_eq!((got.status, &shown["paused"]), (200, &json!(true)));
    assert_eq!(shown["runningAgents"], 1);
    let resumed = post(&baton, "/api/scheduler/resume", json!({}))
        .await
        .json();
    assert_eq!(resumed["isRunning"], true);
    let paused = post(&baton, "/api/scheduler/pause", json!({ "reason": "lunch" })).await;
    assert_eq!(
        (
            paused.json()["paused"].clone(),
            paused.json()["reason"].clone()
        ),
        (json!(true), json!("lunch"))
    );
    // Times are as everywhere here.
    assert_eq!(paused.json()["changedAt"].as_str().unwrap().len(), 24);
}
