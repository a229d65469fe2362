//! The WebSocket: agents watched and led, in a terminal and without.

use baton::base::Secret;
use baton::wire::v1;
use serde_json::{Value, json};

use super::*;
use crate::support::http::Ws;

async fn connect(baton: &Baton, token: &Secret) -> Ws {
    Ws::with(baton.address(), "/ws", token).await.unwrap()
}

/// Sends a message that is refused; the code.
async fn error(ws: &mut Ws, message: Value) -> String {
    ws.send(message).await;
    let error = ws.until("error").await;
    assert_eq!(fields(&error), ["type", "error", "code"]);
    assert!(error["error"].is_string());
    error["code"].as_str().unwrap().to_owned()
}

async fn subscribe(ws: &mut Ws, agent: &str) -> Value {
    ws.send(json!({ "type": "subscribe", "agentId": agent }))
        .await;
    ws.until("subscribed").await
}

/// Reads what a terminal shows until `text` is there; all of it.
async fn shows(ws: &mut Ws, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        let data = ws.until("pty-data").await;
        assert_eq!(fields(&data), ["type", "data"]);
        all.push_str(data["data"].as_str().unwrap());
    }
    all
}

#[tokio::test]
async fn an_agent_is_watched_and_led_from_session_to_session() {
    let baton = Baton::start().await;
    let agent = agent(&baton, "Alice", json!({})).await;
    let mut ws = connect(&baton, &baton.admin()).await;
    ws.send(json!({ "type": "ping" })).await;
    assert_eq!(ws.next().await.unwrap(), json!({ "type": "pong" }));
    let subscribed = subscribe(&mut ws, &agent).await;
    assert_eq!(
        subscribed,
        json!({ "type": "subscribed", "agentId": agent, "hasSession": false, "isInteractive": false })
    );
    assert_eq!(
        error(&mut ws, json!({ "type": "input", "input": "x" })).await,
        "NO_SESSION"
    );

    let first = start(&baton, &agent, json!({ "initialPrompt": "say: one" })).await;
    let begun = ws.until("session-started").await;
    assert_eq!(
        begun,
        json!({ "type": "session-started", "agentId": agent, "sessionId": first, "isInteractive": false })
    );
    let event = async |ws: &mut Ws, kind: &str| loop {
        let frame = ws.until("event").await;
        assert_eq!(fields(&frame), ["type", "event"]);
        if frame["event"]["type"] == kind {
            return frame["event"].clone();
        }
    };
    assert_eq!(event(&mut ws, "assistant").await["content"], "one");
    event(&mut ws, "result").await;
    ws.send(json!({ "type": "input", "input": "say: two" }))
        .await;
    assert_eq!(event(&mut ws, "user").await["content"], "say: two");
    let said = event(&mut ws, "assistant").await;
    assert_eq!(said["content"], "two");
    assert_eq!(said["sessionId"], first.as_str());
    event(&mut ws, "result").await;

    // Who comes later is told what happens from then on; or all after an id.
    let mut late = connect(&baton, &baton.admin()).await;
    let subscribed = subscribe(&mut late, &agent).await;
    assert_eq!(
        (&subscribed["hasSession"], &subscribed["isInteractive"]),
        (&json!(true), &json!(false))
    );
    let mut again = connect(&baton, &baton.admin()).await;
    again
        .send(json!({ "type": "subscribe", "agentId": agent, "lastEventId": format!("{first}:0") }))
        .await;
    again.until("subscribed").await;
    assert_eq!(event(&mut again, "assistant").await["content"], "one");
    assert_eq!(event(&mut again, "assistant").await["content"], "two");
    ws.send(json!({ "type": "input", "input": "say: three" }))
        .await;
    assert_eq!(event(&mut late, "user").await["content"], "say: three");
    assert_eq!(event(&mut late, "assistant").await["content"], "three");
    event(&mut ws, "result").await;

    stop(&baton, &agent).await;
    let exit = ws.until("exit").await;
    assert_eq!(fields(&exit), ["type", "code", "signal", "reason"]);
    assert_eq!(exit["reason"], "stopped");
    let second = start(&baton, &agent, json!({ "initialPrompt": "say: four" })).await;
    assert_eq!(
        ws.until("session-started").await["sessionId"],
        second.as_str()
    );
    assert_eq!(event(&mut ws, "assistant").await["content"], "four");
    assert_eq!(
        late.until("session-started").await["sessionId"],
        second.as_str()
    );

    // One agent at a time: another takes its place.
    let other = super::agent(&baton, "Eve", json!({})).await;
    assert_eq!(subscribe(&mut ws, &other).await["hasSession"], false);
    let third = start(&baton, &other, json!({ "initialPrompt": "say: five" })).await;
    assert_eq!(
        ws.until("session-started").await["sessionId"],
        third.as_str()
    );
    // A plain program's exit has its code.
    let program = super::agent(
        &baton,
        "Prog",
        json!({ "provider": "command", "command": ["sh", "-c", "read line; echo got $line; exit 7"] }),
    )
    .await;
    start(&baton, &program, json!({})).await;
    subscribe(&mut ws, &program).await;
    ws.send(json!({ "type": "input", "input": "it" })).await;
    assert_eq!(event(&mut ws, "output").await["content"], "got it");
    let exit = ws.until("exit").await;
    assert_eq!((&exit["code"], &exit["signal"]), (&json!(7), &Value::Null));
}

#[tokio::test]
async fn an_agents_terminal_is_shown_typed_into_and_resized() {
    let baton = Baton::start().await;
    let agent = shell(&baton, "Dora").await;
    let mut ws = connect(&baton, &baton.admin()).await;
    assert_eq!(subscribe(&mut ws, &agent).await["hasSession"], false);
    let session = start(&baton, &agent, json!({ "interactive": true })).await;
    let begun = ws.until("session-started").await;
    assert_eq!(
        (&begun["sessionId"], &begun["isInteractive"]),
        (&json!(session), &json!(true))
    );
    baton.reaches(&session, v1::Lifecycle::Running).await;
    let type_in = async |ws: &mut Ws, keys: &str| {
        ws.send(json!({ "type": "input", "input": keys })).await;
    };
    type_in(
        &mut ws,
        "echo gr\u{fc}\u{1F980}n$((1+1)); printf '\\033[1m'\r",
    )
    .await;
    let shown = shows(&mut ws, "grü\u{1F980}n2").await;
    assert!(!shown.contains('\u{FFFD}'), "{shown}");
    ws.send(json!({ "type": "resize", "cols": 101, "rows": 33 }))
        .await;
    // Its size holds: it is the only viewer that has one.
    type_in(
        &mut ws,
        "while test \"$(stty size)\" != '33 101'; do :; done; echo re''sized\r",
    )
    .await;
    shows(&mut ws, "resized").await;

    // Another one is shown what was, and sees the same as it comes. Who may only look does not type.
    let viewer = token(&baton, v1::TokenScope::Viewer).await;
    let mut other = connect(&baton, &viewer).await;
    let subscribed = subscribe(&mut other, &agent).await;
    assert_eq!(
        (&subscribed["hasSession"], &subscribed["isInteractive"]),
        (&json!(true), &json!(true))
    );
    let shown = shows(&mut other, "resized").await;
    assert!(shown.contains("grü\u{1F980}n2"), "{shown}");
    for message in [
        json!({ "type": "input", "input": "exit\r" }),
        json!({ "type": "resize", "cols": 20, "rows": 5 }),
    ] {
        assert_eq!(error(&mut other, message).await, "FORBIDDEN");
    }
    for odd in [
        json!({ "type": "resize" }),
        json!({ "type": "resize", "cols": 0, "rows": 1 }),
        json!({ "type": "resize", "cols": 1001, "rows": 1 }),
        json!({ "type": "resize", "cols": -1, "rows": 1 }),
        json!({ "type": "resize", "cols": "80", "rows": 24 }),
        json!({ "type": "resize", "cols": 1e40, "rows": 24 }),
        json!({ "type": "input", "input": "x".repeat(70_000) }),
    ] {
        assert_eq!(error(&mut ws, odd).await, "INVALID_INPUT");
    }
    type_in(&mut ws, "stty size; echo still h''ere\r").await;
    let shown = shows(&mut ws, "still here").await;
    assert!(shown.contains("33 101"), "nothing has changed: {shown}");
    shows(&mut other, "still here").await;

    type_in(&mut ws, "exit 5\r").await;
    for ws in [&mut ws, &mut other] {
        let exit = ws.until("exit").await;
        assert_eq!((&exit["code"], &exit["signal"]), (&json!(5), &Value::Null));
    }
    // And the next one, from its beginning.
    let session = start(&baton, &agent, json!({})).await;
    assert_eq!(
        ws.until("session-started").await["sessionId"],
        session.as_str()
    );
    baton.reaches(&session, v1::Lifecycle::Running).await;
    type_in(&mut ws, "echo ag''ain\r").await;
    shows(&mut ws, "again").await;
    type_in(&mut ws, "kill -9 $$\r").await;
    let exit = ws.until("exit").await;
    assert_eq!(
        (&exit["code"], &exit["signal"]),
        (&Value::Null, &json!("SIGKILL"))
    );
}

#[tokio::test]
async fn what_is_not_understood_gets_an_error_and_changes_nothing() {
    let baton = Baton::start().await;
    let agent = agent(&baton, "Alice", json!({})).await;
    let session = start(&baton, &agent, json!({ "initialPrompt": "say: one" })).await;
    baton.turns(&session, 1).await;
    let before = baton.events(&session).await.len();
    let mut ws = connect(&baton, &baton.admin()).await;
    // Before anybody is subscribed to.
    for message in [
        json!({ "type": "input", "input": "x" }),
        json!({ "type": "resize", "cols": 80, "rows": 24 }),
    ] {
        assert_eq!(error(&mut ws, message).await, "INVALID_STATE");
    }
    for (message, code) in [
        (json!({ "type": "subscribe" }), "INVALID_INPUT"),
        (
            json!({ "type": "subscribe", "agentId": 7 }),
            "INVALID_INPUT",
        ),
        (json!({ "type": "subscribe", "agentId": "x" }), "NOT_FOUND"),
        (
            json!({ "type": "subscribe", "agentId": session }),
            "NOT_FOUND",
        ),
        (
            json!({ "type": "subscribe", "agentId": agent, "lastEventId": "x" }),
            "INVALID_INPUT",
        ),
        (
            json!({ "type": "subscribe", "agentId": agent, "lastEventId": format!("{session}:99999") }),
            "OUT_OF_RANGE",
        ),
    ] {
        assert_eq!(error(&mut ws, message.clone()).await, code, "{message}");
    }
    assert_eq!(subscribe(&mut ws, &agent).await["hasSession"], true);
    for (message, code) in [
        (json!([1]), "INVALID_INPUT"),
        (json!("text"), "INVALID_INPUT"),
        (json!(null), "INVALID_INPUT"),
        (json!({}), "INVALID_INPUT"),
        (json!({ "type": null }), "INVALID_INPUT"),
        (json!({ "type": "stop" }), "UNKNOWN_METHOD"),
        (json!({ "type": "Ping" }), "UNKNOWN_METHOD"),
        (json!({ "type": "input" }), "INVALID_INPUT"),
        (json!({ "type": "input", "input": "" }), "INVALID_INPUT"),
        (json!({ "type": "input", "input": ["x"] }), "INVALID_INPUT"),
        (
            json!({ "type": "resize", "cols": 80, "rows": 24 }),
            "NOT_INTERACTIVE",
        ),
    ] {
        assert_eq!(error(&mut ws, message.clone()).await, code, "{message}");
    }
    for text in ["{", "", "ping", "{\"type\":\"ping\"", "\u{0}"] {
        ws.say(text).await;
        assert_eq!(ws.until("error").await["code"], "INVALID_INPUT", "{text:?}");
    }
    ws.say_bytes(b"{\"type\":\"ping\"}").await;
    assert_eq!(ws.until("error").await["code"], "INVALID_INPUT");
    // It still listens, and nothing has happened.
    ws.send(json!({ "type": "ping" })).await;
    ws.until("pong").await;
    assert_eq!(baton.events(&session).await.len(), before);

    // Who may not come in at all.
    let junk = Ws::with(baton.address(), "/ws", &Secret::new("junk")).await;
    let (status, body) = junk.err().unwrap();
    assert_eq!(
        (status, &body["error"]["code"]),
        (401, &json!("UNAUTHENTICATED"))
    );
    refused(&get(&baton, "/ws").await, 400, "INVALID_INPUT");
    // Who watches an agent that is deleted is told, and may watch another.
    let other = super::agent(&baton, "Eve", json!({})).await;
    subscribe(&mut ws, &other).await;
    delete(&baton, &format!("/api/agents/{other}")).await;
    assert_eq!(ws.until("error").await["code"], "NOT_FOUND");
    assert_eq!(subscribe(&mut ws, &agent).await["hasSession"], true);
}

#[tokio::test]
async fn a_terminal_that_floods_holds_nobody_up_and_shows_its_end() {
    let baton = Baton::start().await;
    let agent = shell(&baton, "Flo").await;
    let session = start(&baton, &agent, json!({})).await;
    baton.reaches(&session, v1::Lifecycle::Running).await;
    // One that reads nothing, one that reads.
    let mut lazy = connect(&baton, &baton.admin()).await;
    subscribe(&mut lazy, &agent).await;
    let mut ws = connect(&baton, &baton.admin()).await;
    subscribe(&mut ws, &agent).await;
    let flood = "i=0; while test $i -lt 40000; do echo 0123456789012345678901234567890123456789 $i; i=$((i+1)); done; echo fin''ished\r";
    ws.send(json!({ "type": "input", "input": flood })).await;
    let mut tail = String::new();
    let mut bytes = 0;
    while !tail.contains("finished") {
        let data = ws.until("pty-data").await;
        let text = data["data"].as_str().unwrap();
        bytes += text.len();
        let from = tail.len().saturating_sub(100);
        tail = format!("{}{text}", tail.get(from..).unwrap_or_default());
    }
    assert!(bytes > 1_500_000, "{bytes}");
    // The other one gets there too, when it reads at last.
    let mut last = String::new();
    while !last.contains("finished") {
        let data = lazy.until("pty-data").await;
        let text = data["data"].as_str().unwrap();
        let from = last.len().saturating_sub(100);
        last = format!("{}{text}", last.get(from..).unwrap_or_default());
    }
}
