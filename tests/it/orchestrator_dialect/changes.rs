//! The WebSocket of changes, by channels.

use baton::base::Secret;
use baton::wire::v1;
use serde_json::{Value, json};

use super::*;
use crate::support::http::Ws;

async fn connect(baton: &Baton, token: &Secret) -> Ws {
    Ws::with(baton.address(), "/ws/events", token)
        .await
        .unwrap()
}

async fn subscribe(ws: &mut Ws, channels: Value) -> Value {
    ws.send(json!({ "type": "subscribe", "channels": channels }))
        .await;
    ws.until("subscribed").await
}

/// The next change that fits, with all others passed over.
async fn change(ws: &mut Ws, fits: impl Fn(&Value) -> bool) -> Value {
    loop {
        let frame = ws.until("event").await;
        assert_eq!(fields(&frame), ["type", "event"]);
        let event = &frame["event"];
        assert_eq!(
            fields(event),
            [
                "id",
                "elementId",
                "elementType",
                "eventType",
                "oldValue",
                "newValue"
            ]
        );
        if fits(event) {
            return event.clone();
        }
    }
}

fn is(kind: &'static str, id: &str) -> impl Fn(&Value) -> bool {
    move |event| event["elementType"] == kind && event["elementId"] == id
}

async fn task(baton: &Baton, title: &str) -> String {
    let made = post(baton, "/api/tasks", json!({ "title": title })).await;
    let made = made.json();
    made["task"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn who_listens_to_a_channel_is_told_of_its_records() {
    let baton = Baton::start().await;
    let mut ws = connect(&baton, &baton.admin()).await;
    ws.send(json!({ "type": "ping" })).await;
    assert_eq!(ws.next().await.unwrap(), json!({ "type": "pong" }));
    // What was before is not told, nor what is of another channel.
    task(&baton, "Early").await;
    assert_eq!(
        subscribe(&mut ws, json!(["tasks"])).await,
        json!({ "type": "subscribed", "channels": ["tasks"] })
    );
    let agent = agent(&baton, "Alice", json!({})).await;
    let door = task(&baton, "Mend the door").await;
    let told = change(&mut ws, |_| true).await;
    assert_eq!(
        (&told["elementId"], &told["elementType"], &told["eventType"]),
        (&json!(door), &json!("task"), &json!("updated"))
    );
    assert_eq!(told["oldValue"], Value::Null);
    assert_eq!(told["newValue"]["title"], "Mend the door");
    let before = told["id"].as_u64().unwrap();
    assert_eq!(
        delete(&baton, &format!("/api/tasks/{door}")).await.status,
        200
    );
    let told = change(&mut ws, |event| event["eventType"] == "deleted").await;
    assert_eq!(
        (&told["elementId"], &told["elementType"], &told["newValue"]),
        (&json!(door), &json!("task"), &Value::Null)
    );
    assert!(told["id"].as_u64().unwrap() > before);

    // What agents do, and what they ask.
    let channels = json!(["agents", "sessions", "inbox"]);
    let subscribed = subscribe(&mut ws, channels.clone()).await;
    assert_eq!(subscribed["channels"], channels);
    let session = start(&baton, &agent, json!({ "initialPrompt": "run: echo one" })).await;
    let prompt = baton.prompt(&session).await;
    let told = change(&mut ws, is("prompt", &prompt.id)).await;
    assert_eq!(
        (&told["newValue"]["state"], &told["newValue"]["sessionId"]),
        (&json!("pending"), &json!(session))
    );
    baton
        .decide(&prompt, crate::support::sessions::allowed())
        .await;
    change(&mut ws, |event| {
        is("prompt", &prompt.id)(event) && event["newValue"]["state"] == "answered"
    })
    .await;
    stop(&baton, &agent).await;
    change(&mut ws, |event| {
        is("session", &session)(event) && event["newValue"]["status"] == "terminated"
    })
    .await;
    change(&mut ws, |event| {
        is("agent", &agent)(event) && event["newValue"]["hasActiveSession"] == false
    })
    .await;

    // What is not listened to any more is not told.
    ws.send(json!({ "type": "unsubscribe", "channels": ["sessions", "agents", "inbox"] }))
        .await;
    assert_eq!(
        ws.until("unsubscribed").await["channels"],
        json!(["sessions", "agents", "inbox"])
    );
    let session = start(&baton, &agent, json!({ "initialPrompt": "say: two" })).await;
    baton.turns(&session, 1).await;
    let paint = task(&baton, "Paint it").await;
    let told = change(&mut ws, |_| true).await;
    assert_eq!(told["elementId"], paint.as_str());
    // Everything.
    subscribe(&mut ws, json!(["*"])).await;
    patch(
        &baton,
        &format!("/api/agents/{agent}"),
        json!({ "labels": { "team": "a" } }),
    )
    .await;
    change(&mut ws, |event| {
        is("agent", &agent)(event) && event["newValue"]["labels"]["team"] == "a"
    })
    .await;
}

#[tokio::test]
async fn who_comes_back_is_told_what_changed_meanwhile() {
    let mut baton = Baton::start().await;
    let mut ws = connect(&baton, &baton.admin()).await;
    subscribe(&mut ws, json!(["tasks"])).await;
    let first = task(&baton, "First").await;
    let told = change(&mut ws, is("task", &first)).await;
    let number = told["id"].clone();
    drop(ws);
    let mut meanwhile = Vec::new();
    for title in ["Second", "Third"] {
        meanwhile.push(task(&baton, title).await);
    }
    baton.kill_server();
    baton.start_server().await;
    let mut ws = connect(&baton, &baton.admin()).await;
    ws.send(json!({ "type": "subscribe", "channels": ["tasks"], "lastEventId": number }))
        .await;
    ws.until("subscribed").await;
    // That of the number itself comes once more.
    let mut came = Vec::new();
    while came.len() < 3 {
        let told = change(&mut ws, |_| true).await;
        came.push(told["elementId"].as_str().unwrap().to_owned());
    }
    meanwhile.insert(0, first);
    assert_eq!(came, meanwhile);
    for odd in [json!(-1), json!("x"), json!(1.5)] {
        ws.send(json!({ "type": "subscribe", "channels": ["tasks"], "lastEventId": odd }))
            .await;
        assert_eq!(ws.until("error").await["code"], "INVALID_INPUT");
    }
    ws.send(json!({ "type": "subscribe", "channels": ["tasks"], "lastEventId": 99_999_999 }))
        .await;
    assert_eq!(ws.until("error").await["code"], "OUT_OF_RANGE");
    // It still listens.
    let fourth = task(&baton, "Fourth").await;
    change(&mut ws, is("task", &fourth)).await;
}

#[tokio::test]
async fn what_a_channels_socket_does_not_understand_gets_an_error_and_changes_nothing() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let mut ws = connect(&baton, &baton.admin()).await;
    for (message, code) in [
        (json!([1]), "INVALID_INPUT"),
        (json!(null), "INVALID_INPUT"),
        (json!({}), "INVALID_INPUT"),
        (json!({ "type": 7 }), "INVALID_INPUT"),
        (json!({ "type": "listen" }), "UNKNOWN_METHOD"),
        (json!({ "type": "subscribe" }), "INVALID_INPUT"),
        (
            json!({ "type": "subscribe", "channels": "tasks" }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "subscribe", "channels": [1] }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "subscribe", "channels": vec!["tasks"; 51] }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "unsubscribe", "channels": null }),
            "INVALID_INPUT",
        ),
    ] {
        ws.send(message.clone()).await;
        let error = ws.until("error").await;
        assert_eq!(fields(&error), ["type", "code", "message"]);
        assert_eq!(error["code"], code, "{message}");
    }
    for text in ["{", "", "ping"] {
        ws.say(text).await;
        assert_eq!(ws.until("error").await["code"], "INVALID_INPUT", "{text:?}");
    }
    ws.say_bytes(b"{\"type\":\"ping\"}").await;
    assert_eq!(ws.until("error").await["code"], "INVALID_INPUT");
    // Of several channels, those that there are; the others are named.
    ws.send(json!({ "type": "subscribe", "channels": ["plans", "tasks", "inbox:el-1"] }))
        .await;
    let error = ws.until("error").await;
    let message = error["message"].as_str().unwrap();
    assert!(message.ends_with("plans, inbox:el-1"), "{message}");
    assert_eq!(ws.until("subscribed").await["channels"], json!(["tasks"]));
    let made = task(&baton, "It").await;
    change(&mut ws, is("task", &made)).await;

    let junk = Ws::with(baton.address(), "/ws/events", &Secret::new("junk")).await;
    let (status, body) = junk.err().unwrap();
    assert_eq!(
        (status, &body["error"]["code"]),
        (401, &json!("UNAUTHENTICATED"))
    );
    refused(&get(&baton, "/ws/events").await, 400, "INVALID_INPUT");
}

#[tokio::test]
async fn a_narrowed_token_is_told_of_its_own_records_and_a_revoked_one_of_none() {
    let baton = Baton::start().await;
    let (one, two) = (directory(&baton, "one"), directory(&baton, "two"));
    let own = agent(&baton, "Own", json!({ "workingDirectory": one })).await;
    let other = agent(&baton, "Other", json!({ "workingDirectory": two })).await;
    let token = narrowed(&baton, &one).await;
    let mut ws = connect(&baton, &token).await;
    subscribe(&mut ws, json!(["*"])).await;
    let made = async |directory: &str| {
        let body = json!({ "title": "It", "directory": directory });
        let made = post(&baton, "/api/tasks", body).await.json();
        made["task"]["id"].as_str().unwrap().to_owned()
    };
    // Theirs first, whole: what is told of it would be told before what follows.
    let theirs = start(&baton, &other, json!({ "initialPrompt": "run: echo x" })).await;
    let prompt = baton.prompt(&theirs).await;
    let task = made(&two).await;
    delete(&baton, &format!("/api/tasks/{task}")).await;
    stop(&baton, &other).await;
    let secrets = [&other, &theirs, &prompt.id, &task, &two];
    let mine = start(&baton, &own, json!({ "initialPrompt": "say: hi" })).await;
    let last = made(&one).await;
    let (mut session, mut task) = (false, false);
    while !(session && task) {
        let told = change(&mut ws, |_| true).await;
        session |= is("session", &mine)(&told);
        task |= is("task", &last)(&told);
        let text = told.to_string();
        for secret in secrets {
            assert!(!text.contains(secret.as_str()), "{secret}: {text}");
        }
    }
    // Its end ends the socket.
    let client = baton.client();
    let listed = client.list_tokens(v1::ListTokensRequest::default()).await;
    let id = listed
        .unwrap()
        .tokens
        .into_iter()
        .find(|it| it.name == "narrowed");
    client
        .revoke_token(v1::RevokeTokenRequest {
            token_id: id.unwrap().id,
        })
        .await
        .unwrap();
    while ws.next().await.is_some() {}
    assert_eq!(ws.closed, Some(1008));
}

#[tokio::test]
async fn who_does_not_read_holds_nobody_up_and_is_told_everything_later() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let mut lazy = connect(&baton, &baton.admin()).await;
    subscribe(&mut lazy, json!(["tasks"])).await;
    let mut ws = connect(&baton, &baton.admin()).await;
    subscribe(&mut ws, json!(["tasks"])).await;
    let long = "x".repeat(20_000);
    let mut all = Vec::new();
    for n in 0..200 {
        let body = json!({ "title": format!("{n}"), "description": long });
        let made = post(&baton, "/api/tasks", body).await.json();
        all.push(made["task"]["id"].as_str().unwrap().to_owned());
    }
    let last = all.last().unwrap();
    change(&mut ws, is("task", last)).await;
    let mut came = Vec::new();
    while came.last() != Some(last) {
        let told = change(&mut lazy, |_| true).await;
        came.push(told["elementId"].as_str().unwrap().to_owned());
    }
    came.dedup();
    assert_eq!(came, all);
}
