//! The relay's dialect against the real programs: a scenario for every message, and the shapes of its
//! answers, field by field.

use std::net::SocketAddr;

use baton::base::Secret;
use baton::domain::EventBody;
use baton::wire::v1;
use http::Method;
use serde_json::{Value, json};

use crate::serving::bearer;
use crate::support::baton::{Baton, eventually};
use crate::support::http::{Got, Ws, ask};

fn address(baton: &Baton) -> SocketAddr {
    baton.url().trim_start_matches("http://").parse().unwrap()
}

async fn call(baton: &Baton, token: &Secret, method: Method, path: &str, body: &Value) -> Got {
    let bearer = bearer(token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    ask(address(baton), method, path, &headers, body).await
}

async fn get(baton: &Baton, path: &str) -> Got {
    call(baton, &baton.admin(), Method::GET, path, &Value::Null).await
}

async fn post(baton: &Baton, path: &str, body: Value) -> Got {
    call(baton, &baton.admin(), Method::POST, path, &body).await
}

async fn token(baton: &Baton, scope: v1::TokenScope) -> Secret {
    let made = baton
        .client()
        .create_token(v1::CreateTokenRequest {
            name: scope.as_str_name().to_owned(),
            scope: scope.into(),
            ..Default::default()
        })
        .await;
    Secret::new(made.unwrap().secret)
}

/// The names of an object's fields, in their order.
fn fields(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

async fn connect(baton: &Baton, session: &str) -> Ws {
    let path = format!("/api/sessions/{session}/ws");
    Ws::with(address(baton), &path, &baton.admin())
        .await
        .unwrap()
}

async fn error(ws: &mut Ws, message: Value) -> (String, Value) {
    ws.send(message).await;
    let error = ws.until("error").await;
    let code = error["code"].as_str().unwrap().to_owned();
    (code, error)
}

#[tokio::test]
async fn a_session_is_started_listed_and_looked_at() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let cwd = baton.project().to_string_lossy().into_owned();
    let good = json!({ "prompt": "say: hello", "cwd": cwd, "harness": "demo" });

    let got = post(&baton, "/api/sessions/spawn", good.clone()).await;
    assert_eq!(got.status, 503);
    assert_eq!(
        got.json(),
        json!({ "error": "No daemon connected", "code": "NO_DAEMON" })
    );
    let got = get(&baton, "/api/daemon/status").await;
    assert_eq!(got.json(), json!({ "connected": false, "daemons": 0 }));

    baton.start_daemon().await;
    let got = get(&baton, "/api/daemon/status").await.json();
    assert_eq!(got["connected"], true);
    let harnesses = got["capabilities"]["spawnable_harnesses"]
        .as_array()
        .unwrap();
    let demo = harnesses.iter().find(|it| it["id"] == "demo").unwrap();
    assert_eq!(
        fields(demo),
        [
            "id",
            "name",
            "available",
            "supports_permission_relay",
            "supports_streaming"
        ]
    );
    assert_eq!(got["capabilities"]["can_spawn_sessions"], true);
    let got = get(&baton, "/api/daemon/list").await.json();
    assert_eq!(got["daemons"][0]["connected"], true);

    // What is wrong is told before anything is counted or begun.
    for (change, message) in [
        (json!({ "prompt": "  " }), "prompt is required"),
        (json!({ "prompt": null }), "prompt is required"),
        (json!({ "cwd": "" }), "cwd is required"),
        (
            json!({ "harness": "nothing" }),
            "Harness 'nothing' is not available",
        ),
        (json!({ "cwd": "/" }), "cwd is not beneath"),
        (
            json!({ "permission_mode": "always" }),
            "permission_mode must be",
        ),
        (json!({ "prompt": 7 }), "body is not what this takes"),
    ] {
        let mut body = good.clone();
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        let got = post(&baton, "/api/sessions/spawn", body).await;
        assert_eq!(got.status, 400, "{change}");
        let shown = got.json();
        assert_eq!(fields(&shown), ["error", "code"]);
        assert!(
            shown["error"].as_str().unwrap().starts_with(message),
            "{shown}"
        );
    }
    let viewer = token(&baton, v1::TokenScope::Viewer).await;
    let got = call(&baton, &viewer, Method::POST, "/api/sessions/spawn", &good).await;
    assert_eq!(
        (got.status, fields(&got.json())),
        (403, vec!["error", "code"])
    );
    let junk = Secret::new("junk");
    for path in [
        "/api/sessions/spawned",
        "/api/sessions/x/info",
        "/api/daemon/list",
    ] {
        let got = call(&baton, &junk, Method::GET, path, &Value::Null).await;
        assert_eq!(
            (got.status, fields(&got.json())),
            (401, vec!["error", "code"]),
            "{path}"
        );
    }

    let got = post(&baton, "/api/sessions/spawn", good.clone()).await;
    assert_eq!(got.status, 201);
    let made = got.json();
    assert_eq!(fields(&made), ["session_id", "status", "harness"]);
    assert_eq!(
        (&made["status"], &made["harness"]),
        (&json!("starting"), &json!("demo"))
    );
    let id = made["session_id"].as_str().unwrap().to_owned();
    baton
        .wait_for(&id, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;

    let listed = get(&baton, "/api/sessions/spawned").await.json();
    assert_eq!(fields(&listed), ["sessions"]);
    let one = &listed["sessions"][0];
    assert_eq!(
        fields(one),
        [
            "id",
            "status",
            "cwd",
            "harness",
            "created_at",
            "last_activity_at"
        ]
    );
    assert_eq!(one["id"], id.as_str());
    let path = format!("/api/sessions/{id}/info");
    let info = eventually("the agent waits", || async {
        let info = get(&baton, &path).await.json();
        (info["status"] == "waiting").then_some(info)
    })
    .await;
    assert_eq!(info["type"], "spawned");
    assert_eq!(info["cwd"], cwd.as_str());
    for field in ["created_at", "last_activity_at"] {
        // As JavaScript writes it.
        let text = info[field].as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
    }
    assert!(info["claude_session_id"].is_string());
    assert_eq!(
        (&info["error"], &info["ended_at"]),
        (&Value::Null, &Value::Null)
    );
    for missing in [
        "/api/sessions/x/info",
        "/api/sessions/ses_01ARZ3NDEKTSV4RRFFQ69G5FAV/info",
    ] {
        let got = get(&baton, missing).await;
        assert_eq!(got.status, 404);
        assert_eq!(
            got.json(),
            json!({ "error": "Session not found", "code": "NOT_FOUND" })
        );
    }

    // The sixth within a minute is too many.
    for _ in 0..4 {
        let got = post(&baton, "/api/sessions/spawn", good.clone()).await;
        assert_eq!(got.status, 201);
    }
    let got = post(&baton, "/api/sessions/spawn", good).await;
    assert_eq!(
        (got.status, &got.json()["code"]),
        (429, &json!("RATE_LIMITED"))
    );
    assert!(got.header("retry-after").parse::<u64>().unwrap() <= 60);
}

#[tokio::test]
async fn how_much_is_too_much_is_configured() {
    let mut baton = Baton::new().server_flags(&[
        "--set",
        "relay.starts_per_minute=1",
        "--set",
        "relay.inputs_per_minute=0",
    ]);
    baton.start_server().await;
    baton.start_daemon().await;
    let spawn = || async {
        let body = json!({ "prompt": "say: hello", "cwd": baton.project(), "harness": "demo" });
        post(&baton, "/api/sessions/spawn", body).await
    };
    assert_eq!(spawn().await.status, 201);
    let refused = spawn().await;
    assert_eq!(refused.status, 429);
    let message = refused.json()["error"].to_string();
    assert!(message.contains("at most 1 session"), "{message}");

    let session = baton.session("demo", "say: hello").await;
    let mut ws = connect(&baton, &session.id).await;
    for _ in 0..70 {
        ws.send(json!({ "type": "user_message", "content": "say: x" }))
            .await;
    }
    ws.send(json!({ "type": "ping" })).await;
    loop {
        let said = ws.next().await.unwrap();
        assert_ne!(said["code"], "RATE_LIMITED", "{said}");
        if said["type"] == "pong" {
            break;
        }
    }
}

#[tokio::test]
async fn a_browser_watches_types_interrupts_and_ends() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "say: hello").await;
    baton
        .wait_for(&session.id, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    let mut ws = connect(&baton, &session.id).await;
    let connected = ws.next().await.unwrap();
    assert_eq!(
        fields(&connected),
        [
            "type",
            "session_id",
            "status",
            "message_count",
            "last_index",
            "is_spawned",
            "claude_session_id"
        ]
    );
    assert_eq!(connected["type"], "connected");
    let head = connected["message_count"].as_u64().unwrap();
    assert!(head > 3 && connected["last_index"] == head);

    ws.send(json!({ "type": "ping" })).await;
    assert_eq!(ws.until("pong").await, json!({ "type": "pong" }));

    // Everything from the beginning, and then what comes, each once.
    ws.send(json!({ "type": "subscribe", "from_index": 0 }))
        .await;
    ws.send(json!({ "type": "user_message", "content": "say: again" }))
        .await;
    let mut indices = Vec::new();
    let mut results = 0;
    while results < 2 {
        let message = ws.until("message").await;
        assert_eq!(fields(&message), ["type", "messages"]);
        for part in message["messages"].as_array().unwrap() {
            indices.push(part["index"].as_u64().unwrap());
            results += usize::from(part["type"] == "result");
        }
    }
    assert!(indices.is_sorted_by(|a, b| a < b), "{indices:?}");
    let shown: Vec<u64> = baton
        .events(&session.id)
        .await
        .iter()
        .filter(|event| baton::gateway::views::stream_json::message(event).is_some())
        .map(|event| event.seq)
        .filter(|seq| seq <= indices.last().unwrap())
        .collect();
    assert_eq!(indices, shown, "neither gap nor duplicate");

    // An index in the middle gives what is after it.
    let mut later = connect(&baton, &session.id).await;
    let from = indices[1];
    later
        .send(json!({ "type": "subscribe", "from_index": from }))
        .await;
    let first = later.until("message").await;
    assert_eq!(first["messages"][0]["index"], indices[2]);

    ws.send(json!({ "type": "user_message", "content": "stream: 1000 50" }))
        .await;
    baton
        .wait_for(&session.id, "a third turn", |body| {
            matches!(body, EventBody::InputAccepted { text, .. } if text.starts_with("stream"))
        })
        .await;
    eventually("it works", || async {
        let info = get(&baton, &format!("/api/sessions/{}/info", session.id)).await;
        (info.json()["status"] == "running").then_some(())
    })
    .await;
    ws.send(json!({ "type": "interrupt" })).await;
    loop {
        let message = ws.until("message").await;
        let parts = message["messages"].as_array().unwrap();
        if parts
            .iter()
            .any(|part| part["type"] == "result" && part["is_error"] == true)
        {
            break;
        }
    }

    ws.send(json!({ "type": "end_session" })).await;
    let complete = ws.until("complete").await;
    assert_eq!(complete["reason"], "user_terminated");
    assert!(ws.next().await.is_none());
    assert_eq!(ws.closed, Some(1000));
    let path = format!("/api/sessions/{}/ws", session.id);
    let (status, body) = Ws::with(address(&baton), &path, &baton.admin())
        .await
        .err()
        .expect("it is over");
    assert_eq!((status, fields(&body)), (410, vec!["error", "code"]));
    let info = get(&baton, &format!("/api/sessions/{}/info", session.id))
        .await
        .json();
    assert_eq!(
        (&info["type"], &info["status"]),
        (&json!("archived"), &json!("ended"))
    );
    assert!(info["ended_at"].is_string());

    // And goes on in another one.
    let resume = format!("/api/sessions/{}/resume", session.id);
    let got = post(&baton, &resume, json!({ "prompt": "recall:" })).await;
    assert_eq!(got.status, 201);
    let next = got.json();
    assert_eq!(
        fields(&next),
        ["session_id", "status", "harness", "resumed_from"]
    );
    let again = post(&baton, &resume, Value::Null).await;
    assert_eq!(again.status, 409);
    let unknown = post(&baton, "/api/sessions/x/resume", Value::Null).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn a_permission_is_shown_to_who_joins_later_and_answered_once() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "run: echo one").await;
    eventually("it asks", || async {
        (!baton.pending(&session.id).await.is_empty()).then_some(())
    })
    .await;
    let mut first = connect(&baton, &session.id).await;
    let mut second = connect(&baton, &session.id).await;
    let asked = first.until("permission_prompt").await;
    assert_eq!(
        fields(&asked),
        ["type", "request_id", "tool", "description", "details"]
    );
    assert_eq!(asked["tool"], "Bash");
    assert_eq!(asked["details"]["command"], "echo one");
    assert_eq!(second.until("permission_prompt").await, asked);
    let id = asked["request_id"].clone();
    first
        .send(json!({ "type": "permission_response", "request_id": id, "allow": true }))
        .await;
    let resolved = second.until("prompt_resolved").await;
    assert_eq!(
        (&resolved["request_id"], &resolved["outcome"]),
        (&id, &json!("answered"))
    );
    let late = json!({ "type": "permission_response", "request_id": id, "allow": false });
    let (code, said) = error(&mut second, late).await;
    assert_eq!(
        (code.as_str(), &said["request_id"]),
        ("PROMPT_ANSWERED", &id)
    );
    loop {
        let message = first.until("message").await;
        let parts = message["messages"].as_array().unwrap();
        if parts.iter().any(|part| part["type"] == "result") {
            break;
        }
    }

    // A live one, denied with a word, in the newer form of the answer.
    first
        .send(json!({ "type": "user_message", "content": "run: echo two" }))
        .await;
    let asked = first.until("permission_prompt").await;
    first
        .send(json!({
            "type": "control_response", "request_id": asked["request_id"], "allow": false,
            "message": "not this one",
        }))
        .await;
    let answered = baton
        .wait_for(&session.id, "the deny", |body| {
            matches!(body, EventBody::PromptAnswered { answer, .. }
                if format!("{:?}", answer.body).contains("not this one"))
        })
        .await;
    assert!(answered.seq > 0);
}

#[tokio::test]
async fn questions_are_answered_by_label_by_text_and_all_at_once() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "ask: Which colour?|red|blue").await;
    let mut ws = connect(&baton, &session.id).await;
    let asked = ws.until("question_prompt").await;
    assert_eq!(
        fields(&asked),
        ["type", "tool_use_id", "question", "options", "questions"]
    );
    assert_eq!(asked["question"], "Which colour?");
    assert_eq!(asked["options"], json!(["red", "blue"]));
    let respond = |asked: &Value, answer: Value| {
        let mut message =
            json!({ "type": "question_response", "tool_use_id": asked["tool_use_id"] });
        for (key, value) in answer.as_object().unwrap() {
            message[key] = value.clone();
        }
        message
    };
    let given = async |what: &str| {
        baton
            .wait_for(&session.id, what, |body| {
                matches!(body, EventBody::PromptAnswered { answer, .. }
                    if format!("{:?}", answer.body).contains(what))
            })
            .await
    };
    let (code, _) = error(&mut ws, respond(&asked, json!({ "answer": 7 }))).await;
    assert_eq!(code, "INVALID_INPUT");
    ws.send(respond(&asked, json!({ "answer": "blue" }))).await;
    given("labels: [\"blue\"]").await;

    let two = "ask: Which shade?|light|dark ;; Which sizes?*|S|M|L";
    ws.send(json!({ "type": "user_message", "content": two }))
        .await;
    let asked = ws.until("question_prompt").await;
    assert_eq!(asked["questions"].as_array().unwrap().len(), 2);
    let all = json!({ "answers": { "Which shade?": "none of these", "Which sizes?": ["S", "L"] } });
    ws.send(respond(&asked, all)).await;
    given("text: \"none of these\"").await;
    given("labels: [\"S\", \"L\"]").await;
}

#[tokio::test]
async fn what_is_not_understood_is_an_error_with_its_id_and_changes_nothing() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "run: echo one").await;
    eventually("it asks", || async {
        (!baton.pending(&session.id).await.is_empty()).then_some(())
    })
    .await;
    let before = baton.events(&session.id).await.len();
    let mut ws = connect(&baton, &session.id).await;
    let prompt = ws.until("permission_prompt").await["request_id"].clone();
    for (message, expected) in [
        (json!({}), "INVALID_INPUT"),
        (json!({ "type": 7 }), "INVALID_INPUT"),
        (json!({ "type": "fly", "id": "r-1" }), "UNKNOWN_METHOD"),
        (
            json!({ "type": "subscribe", "from_index": -1 }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "subscribe", "from_index": 1.5 }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "subscribe", "from_index": 1_000_000 }),
            "OUT_OF_RANGE",
        ),
        (json!({ "type": "user_message" }), "INVALID_INPUT"),
        (
            json!({ "type": "user_message", "content": "" }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "user_message", "content": ["x"] }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "question_response", "answer": "x" }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "question_response", "tool_use_id": "none", "answer": "x" }),
            "NOT_FOUND",
        ),
        (
            json!({ "type": "permission_response", "allow": true }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "permission_response", "request_id": prompt }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "permission_response", "request_id": prompt, "allow": "yes" }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "control_response", "request_id": "prm_x", "allow": true }),
            "NOT_FOUND",
        ),
        (
            json!({ "type": "diff_comment", "file": "a.rs" }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "suggested_edit", "file": "a.rs", "old_content": "x" }),
            "INVALID_INPUT",
        ),
    ] {
        let (code, said) = error(&mut ws, message.clone()).await;
        assert_eq!(code, expected, "{message}");
        assert!(said["message"].is_string(), "{message}");
        for key in ["request_id", "tool_use_id", "id"] {
            if let Some(id) = message[key].as_str() {
                assert_eq!(said["request_id"], id, "{message}");
            }
        }
    }
    for text in ["", "nonsense", "[1]", "\"x\"", "{\"type\":\"ping\""] {
        ws.say(text).await;
        assert_eq!(ws.until("error").await["code"], "INVALID_INPUT", "{text}");
    }
    ws.say_bytes(b"\xff\x00").await;
    assert_eq!(ws.until("error").await["code"], "INVALID_INPUT");
    // Another session's prompt is none of this one's.
    let other = baton.session("demo", "say: x").await;
    let mut elsewhere = connect(&baton, &other.id).await;
    let foreign = json!({ "type": "permission_response", "request_id": prompt, "allow": true });
    assert_eq!(error(&mut elsewhere, foreign).await.0, "NOT_FOUND");
    // Who may look may not lead.
    let viewer = token(&baton, v1::TokenScope::Viewer).await;
    let path = format!("/api/sessions/{}/ws", session.id);
    let mut watching = Ws::with(address(&baton), &path, &viewer).await.unwrap();
    let allow = json!({ "type": "permission_response", "request_id": prompt, "allow": true });
    for message in [
        allow,
        json!({ "type": "user_message", "content": "say: x" }),
        json!({ "type": "interrupt" }),
        json!({ "type": "end_session" }),
    ] {
        assert_eq!(error(&mut watching, message).await.0, "FORBIDDEN");
    }
    assert_eq!(
        baton.events(&session.id).await.len(),
        before,
        "nothing happened"
    );

    for path in [
        "/api/sessions/x/ws",
        "/api/sessions/ses_01ARZ3NDEKTSV4RRFFQ69G5FAV/ws",
    ] {
        let (status, body) = Ws::with(address(&baton), path, &baton.admin())
            .await
            .err()
            .unwrap();
        assert_eq!((status, &body["code"]), (404, &json!("NOT_FOUND")));
    }
    let plain = get(&baton, &format!("/api/sessions/{}/ws", session.id)).await;
    assert_eq!(
        (plain.status, &plain.json()["code"]),
        (400, &json!("INVALID_INPUT"))
    );
    // Sixty inputs a minute, and no more.
    let mut limited = false;
    for _ in 0..61 {
        ws.send(json!({ "type": "user_message", "content": "say: x" }))
            .await;
    }
    ws.send(json!({ "type": "ping" })).await;
    loop {
        let said = ws.next().await.unwrap();
        limited |= said["code"] == "RATE_LIMITED";
        if said["type"] == "pong" {
            break;
        }
    }
    assert!(limited);
}

#[tokio::test]
async fn comments_and_edits_become_inputs_with_their_place() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "say: x").await;
    let mut ws = connect(&baton, &session.id).await;
    ws.send(json!({ "type": "diff_comment", "file": "src/a.rs", "line": 7, "content": "why?" }))
        .await;
    ws.send(json!({
        "type": "suggested_edit", "file": "src/b.rs", "old_content": "one", "new_content": "two"
    }))
    .await;
    for part in ["src/a.rs:7", "why?", "src/b.rs", "one\n\nwith:\n\ntwo"] {
        baton
            .wait_for(
                &session.id,
                part,
                |body| matches!(body, EventBody::InputAccepted { text, .. } if text.contains(part)),
            )
            .await;
    }
}

#[tokio::test]
async fn a_lost_daemon_is_told_at_once_and_fails_the_session_after_the_grace_period() {
    let mut baton = Baton::new().server_flags(&["--grace", "2s"]);
    baton.start_server().await;
    baton.start_daemon().await;
    let session = baton.session("demo", "say: x").await;
    baton
        .wait_for(&session.id, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    let mut ws = connect(&baton, &session.id).await;
    ws.until("connected").await;
    baton.kill_daemon();
    let lost = ws.until("daemon_disconnected").await;
    assert_eq!(
        fields(&lost),
        [
            "type",
            "session_id",
            "message",
            "can_resume",
            "claude_session_id"
        ]
    );
    assert_eq!(lost["message"], "Connection to daemon lost");
    assert_eq!(lost["session_id"], session.id.as_str());
    let complete = ws.until("complete").await;
    assert_eq!(
        complete,
        json!({ "type": "complete", "reason": "error", "error": "Daemon disconnected" })
    );
    let info = get(&baton, &format!("/api/sessions/{}/info", session.id))
        .await
        .json();
    assert_eq!(info["status"], "failed");
    assert_eq!(info["error"], "Daemon disconnected");
}
