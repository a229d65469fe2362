//! The older relay's socket for daemons: one that knows no gRPC, with real agents, against the real server.

use baton::base::Secret;
use baton::domain::{EventBody, InputState};
use baton::wire::v1;
use http::Method;
use serde_json::{Value, json};

use crate::serving::bearer;
use crate::support::baton::{Baton, eventually};
use crate::support::http::{Ws, ask};
use crate::support::old_daemon::{OldDaemon, Style};

fn address(baton: &Baton) -> std::net::SocketAddr {
    baton.url().trim_start_matches("http://").parse().unwrap()
}

/// A machine becomes a daemon over plain HTTP.
async fn enroll(baton: &Baton, name: &str) -> Secret {
    let join = baton
        .client()
        .create_join_token(v1::CreateJoinTokenRequest::default())
        .await
        .unwrap();
    let join = bearer(&Secret::new(join.secret));
    let headers = [("authorization", join.as_str())];
    let body = json!({ "name": name, "nonce": "0123456789abcdef" }).to_string();
    let path = "/api/daemon/enroll";
    let got = ask(address(baton), Method::POST, path, &headers, body.clone()).await;
    assert_eq!(got.status, 201, "{:?}", got.json());
    // An answer that was lost is asked for again, and the credential before it is void.
    let again = ask(address(baton), Method::POST, path, &headers, body).await;
    assert_eq!(again.json()["client_id"], got.json()["client_id"]);
    let other = json!({ "name": "x", "nonce": "another-nonce-of-16" }).to_string();
    let spent = ask(address(baton), Method::POST, path, &headers, other).await;
    assert_eq!(spent.status, 401);
    Secret::new(again.json()["credential"].as_str().unwrap().to_owned())
}

async fn stage(style: Style) -> (Baton, OldDaemon) {
    let mut baton = Baton::new();
    baton.start_server().await;
    let credential = enroll(&baton, "old-laptop").await;
    let mut daemon = OldDaemon::new(&baton, credential, style);
    daemon.connect(Value::Null).await;
    is_connected(&baton, true).await;
    (baton, daemon)
}

async fn status(baton: &Baton) -> Value {
    let admin = bearer(&baton.admin());
    let headers = [("authorization", admin.as_str())];
    let path = "/api/daemon/status";
    ask(address(baton), Method::GET, path, &headers, String::new())
        .await
        .json()
}

async fn is_connected(baton: &Baton, connected: bool) {
    eventually("the daemon is (dis)connected", || async {
        (status(baton).await["connected"] == connected).then_some(())
    })
    .await;
}

async fn spawn(baton: &Baton, prompt: &str) -> String {
    let admin = bearer(&baton.admin());
    let headers = [("authorization", admin.as_str())];
    let body = json!({ "prompt": prompt, "cwd": baton.project() }).to_string();
    let path = "/api/sessions/spawn";
    let got = ask(address(baton), Method::POST, path, &headers, body).await;
    assert_eq!(got.status, 201, "{:?}", got.json());
    got.json()["session_id"].as_str().unwrap().to_owned()
}

async fn watch(baton: &Baton, session: &str) -> Ws {
    let path = format!("/api/sessions/{session}/ws");
    let mut ws = Ws::with(address(baton), &path, &baton.admin())
        .await
        .unwrap();
    ws.send(json!({ "type": "subscribe", "from_index": 0 }))
        .await;
    ws
}

/// What the agent said until its next `result`.
async fn turn(ws: &mut Ws) -> Vec<Value> {
    let mut parts = Vec::new();
    loop {
        let message = ws.until("message").await;
        parts.extend(message["messages"].as_array().unwrap().iter().cloned());
        if parts.iter().any(|part| part["type"] == "result") {
            return parts;
        }
    }
}

fn texts(parts: &[Value], kind: &str) -> Vec<String> {
    parts
        .iter()
        .filter(|part| part["type"] == kind)
        .filter_map(|part| part["message"]["content"][0]["text"].as_str())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn an_older_daemon_runs_a_session_from_its_start_to_its_end() {
    let (baton, mut daemon) = stage(Style::Control).await;
    let shown = status(&baton).await;
    let harnesses = shown["capabilities"]["spawnable_harnesses"]
        .as_array()
        .unwrap();
    assert_eq!(harnesses[0]["id"], "claude-code");
    assert_eq!(harnesses[0]["supports_permission_relay"], true);
    assert_eq!(harnesses[1]["available"], false);

    let session = spawn(&baton, "say: hello").await;
    let mut ws = watch(&baton, &session).await;
    let parts = turn(&mut ws).await;
    assert_eq!(texts(&parts, "assistant"), ["hello"]);
    // The daemon's echo of the prompt is not a second message.
    assert_eq!(texts(&parts, "user"), ["say: hello"]);
    assert_eq!(
        daemon.heard("start_session"),
        [json!({
            "type": "start_session", "session_id": session, "prompt": "say: hello",
            "cwd": baton.project(), "harness": "claude-code", "permission_mode": "relay",
        })]
    );

    ws.send(json!({ "type": "user_message", "content": "say: once more" }))
        .await;
    let parts = turn(&mut ws).await;
    assert_eq!(texts(&parts, "assistant"), ["once more"]);
    assert_eq!(
        daemon.heard("send_input"),
        [json!({ "type": "send_input", "session_id": session, "content": "say: once more" })]
    );

    // A permission in the agent's own form, allowed with a changed input, byte for byte.
    ws.send(json!({ "type": "user_message", "content": "run: echo one > out" }))
        .await;
    let asked = ws.until("permission_prompt").await;
    assert_eq!(asked["tool"], "Bash");
    ws.send(json!({
        "type": "control_response", "request_id": asked["request_id"], "allow": true,
        "updatedInput": { "command": "echo two > out", "description": "z first", "a": 1 },
    }))
    .await;
    turn(&mut ws).await;
    let written = std::fs::read_to_string(baton.project().join("out")).unwrap();
    assert_eq!(written, "two\n");
    let answer = daemon.heard("control_response").remove(0);
    assert_eq!(answer["session_id"], session);
    assert_eq!(answer["response"]["subtype"], "success");
    assert_eq!(answer["response"]["response"]["behavior"], "allow");

    // An interruption leaves the agent alive.
    ws.send(json!({ "type": "user_message", "content": "stream: 10000 20" }))
        .await;
    eventually("it works on it", || async {
        (daemon.heard("send_input").len() == 3).then_some(())
    })
    .await;
    ws.send(json!({ "type": "interrupt" })).await;
    let parts = turn(&mut ws).await;
    assert_eq!(parts.last().unwrap()["is_error"], true);
    assert_eq!(daemon.heard("interrupt_session").len(), 1);

    // What the daemon tells beside the transcript is kept.
    daemon.say(json!({
        "type": "session_diff", "session_id": session, "diff": "--- a\n+++ b\n", "modified_files": ["out"],
    }));
    let diff = ws.until("diff_update").await;
    assert_eq!(
        diff,
        json!({ "type": "diff_update", "diff": "--- a\n+++ b\n", "modified_files": ["out"] })
    );
    daemon.say(json!({
        "type": "session_metadata", "session_id": session, "branch": "main", "repo_url": "git@host:repo",
    }));
    baton
        .wait_for(
            &session,
            "the branch",
            |body| matches!(body, EventBody::Notice { kind, text } if kind == "session_metadata" && text.contains("main")),
        )
        .await;

    ws.send(json!({ "type": "end_session" })).await;
    let complete = ws.until("complete").await;
    assert_eq!(complete["reason"], "user_terminated");
    assert_eq!(complete["exit_code"], 0);

    // It is continued with its own conversation.
    let path = format!("/api/sessions/{session}/resume");
    let admin = bearer(&baton.admin());
    let headers = [("authorization", admin.as_str())];
    let body = json!({ "prompt": "say: back" }).to_string();
    let got = ask(address(&baton), Method::POST, &path, &headers, body).await;
    assert_eq!(got.status, 201, "{:?}", got.json());
    let next = got.json()["session_id"].as_str().unwrap().to_owned();
    let mut ws = watch(&baton, &next).await;
    assert_eq!(texts(&turn(&mut ws).await, "assistant"), ["back"]);
    let started = daemon.heard("start_session").pop().unwrap();
    assert!(
        started["resume_session_id"]
            .as_str()
            .is_some_and(|id| !id.is_empty())
    );
    daemon.cut();
    is_connected(&baton, false).await;
}

#[tokio::test]
async fn prompts_in_the_form_before_control_requests_are_prompts_like_any() {
    let (baton, daemon) = stage(Style::Legacy).await;
    let session = spawn(&baton, "run: echo yes > out").await;
    let mut ws = watch(&baton, &session).await;
    let asked = ws.until("permission_prompt").await;
    assert_eq!(
        (&asked["tool"], &asked["details"]["command"]),
        (&json!("Bash"), &json!("echo yes > out"))
    );
    ws.send(json!({
        "type": "permission_response", "request_id": asked["request_id"], "allow": true,
    }))
    .await;
    turn(&mut ws).await;
    assert_eq!(
        std::fs::read_to_string(baton.project().join("out")).unwrap(),
        "yes\n"
    );
    assert_eq!(daemon.heard("permission_response")[0]["allow"], true);

    ws.send(json!({ "type": "user_message", "content": "ask: Which colour?|red|blue" }))
        .await;
    let asked = ws.until("question_prompt").await;
    assert_eq!(asked["options"], json!(["red", "blue"]));
    ws.send(json!({
        "type": "question_response", "tool_use_id": asked["tool_use_id"], "answer": "blue",
    }))
    .await;
    turn(&mut ws).await;
    assert_eq!(daemon.heard("question_response")[0]["answer"], "blue");

    ws.send(json!({ "type": "user_message", "content": "run: echo no > out" }))
        .await;
    let asked = ws.until("permission_prompt").await;
    ws.send(json!({
        "type": "permission_response", "request_id": asked["request_id"], "allow": false,
    }))
    .await;
    turn(&mut ws).await;
    assert_eq!(daemon.heard("permission_response")[1]["allow"], false);
    assert_eq!(
        std::fs::read_to_string(baton.project().join("out")).unwrap(),
        "yes\n"
    );
}

#[tokio::test]
async fn what_waits_survives_the_connection_and_the_server() {
    let (mut baton, mut daemon) = stage(Style::Control).await;
    let session = spawn(&baton, "run: echo asked > out").await;
    let prompt = eventually("it asks", || async { baton.pending(&session).await.pop() }).await;
    daemon.cut();
    is_connected(&baton, false).await;
    let answer = v1::answer_prompt_request::Answer::Decision(v1::Decision {
        allow: true,
        ..Default::default()
    });
    baton
        .client()
        .answer_prompt(v1::AnswerPromptRequest {
            prompt_id: prompt.id.clone(),
            answer: Some(answer.clone()),
            ..Default::default()
        })
        .await
        .unwrap();
    daemon.connect(Value::Null).await;
    let mut ws = watch(&baton, &session).await;
    turn(&mut ws).await;
    assert_eq!(
        std::fs::read_to_string(baton.project().join("out")).unwrap(),
        "asked\n"
    );
    // That something may be missing is in the log.
    baton
        .wait_for(
            &session,
            "the daemon's return",
            |body| matches!(body, EventBody::Notice { kind, .. } if kind == "daemon_returned"),
        )
        .await;

    // The same over the end of the server, which then knows the session from its records only.
    ws.send(json!({ "type": "user_message", "content": "run: echo later > out" }))
        .await;
    let prompt = eventually("it asks again", || async {
        baton.pending(&session).await.pop()
    })
    .await;
    baton.kill_server();
    daemon.cut();
    baton.start_server().await;
    daemon.connect(Value::Null).await;
    is_connected(&baton, true).await;
    baton
        .client()
        .answer_prompt(v1::AnswerPromptRequest {
            prompt_id: prompt.id.clone(),
            answer: Some(answer),
            ..Default::default()
        })
        .await
        .unwrap();
    let mut ws = watch(&baton, &session).await;
    eventually("the command ran", || async {
        let out = std::fs::read_to_string(baton.project().join("out")).unwrap();
        (out == "later\n").then_some(())
    })
    .await;
    ws.send(json!({ "type": "user_message", "content": "say: still here" }))
        .await;
    let said = |parts: &[Value]| texts(parts, "assistant").contains(&"still here".to_owned());
    while !said(&turn(&mut ws).await) {}
    assert_eq!(daemon.heard("start_session").len(), 1, "started once");

    // Every number once, and none left out.
    let seqs: Vec<u64> = baton
        .events(&session)
        .await
        .iter()
        .map(|event| event.seq)
        .collect();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "{seqs:?}");
}

#[tokio::test]
async fn a_daemon_that_comes_back_without_an_agent_ends_its_session() {
    let (baton, mut daemon) = stage(Style::Control).await;
    let session = spawn(&baton, "say: hello").await;
    let mut ws = watch(&baton, &session).await;
    turn(&mut ws).await;
    daemon.cut();
    is_connected(&baton, false).await;
    daemon.connect(json!({ "active_sessions": [] })).await;
    let complete = ws.until("complete").await;
    assert_eq!(complete["reason"], "error");
    assert!(complete["error"].as_str().unwrap().contains("without"));
}

#[tokio::test]
async fn the_newest_connection_of_a_daemon_counts_and_a_stranger_has_no_say() {
    let (baton, mut daemon) = stage(Style::Control).await;
    let session = spawn(&baton, "say: hello").await;
    let mut ws = watch(&baton, &session).await;
    turn(&mut ws).await;

    let credential = enroll(&baton, "stranger").await;
    let mut stranger = OldDaemon::new(&baton, credential.clone(), Style::Control);
    stranger.connect(json!({ "client_id": "old-laptop" })).await;
    stranger.say(json!({ "type": "session_ended", "session_id": session, "exit_code": 0 }));
    let refused = eventually("it is refused", || async { stranger.heard("error").pop() }).await;
    assert_eq!(refused["code"], "NO_SESSION");
    assert_eq!(refused["session_id"], session);

    // What is wrong is said, with the id of the request, and changes nothing.
    daemon.say(json!({ "type": "control_request", "session_id": session, "request_id": "r1" }));
    daemon.say(json!({ "type": "sing", "request_id": "r2" }));
    daemon.say(json!({ "type": "session_output", "session_id": "spawn_1_x", "messages": [] }));
    daemon.say(json!([1]));
    let errors = eventually("it is told", || async {
        let errors = daemon.heard("error");
        (errors.len() == 4).then_some(errors)
    })
    .await;
    let codes: Vec<&str> = errors
        .iter()
        .map(|it| it["code"].as_str().unwrap())
        .collect();
    assert_eq!(
        codes,
        [
            "INVALID_INPUT",
            "UNKNOWN_METHOD",
            "NO_SESSION",
            "INVALID_INPUT"
        ]
    );
    assert_eq!(errors[0]["request_id"], "r1");
    daemon.say(json!({ "type": "ping" }));
    eventually("a pong", || async { daemon.heard("pong").pop() }).await;

    // The same daemon again: the older connection ends, and its end takes nothing from the newer one.
    let mut again = Ws::with(address(&baton), "/api/daemon/ws", daemon.credential())
        .await
        .unwrap();
    again.send(OldDaemon::hello()).await;
    assert!(daemon.is_closed().await.is_some());
    is_connected(&baton, true).await;
    ws.send(json!({ "type": "user_message", "content": "say: to the newest" }))
        .await;
    let input = again.until("send_input").await;
    assert_eq!(input["content"], "say: to the newest");

    // Who is no daemon does not get in at all; who does not introduce itself is sent away.
    let (status, body) = Ws::with(address(&baton), "/api/daemon/ws", &baton.admin())
        .await
        .err()
        .unwrap();
    assert_eq!((status, body["code"].as_str()), (403, Some("FORBIDDEN")));
    let mut silent = Ws::with(address(&baton), "/api/daemon/ws", &credential)
        .await
        .unwrap();
    let early = json!({ "type": "session_ended", "session_id": session });
    silent.send(early).await;
    assert_eq!(silent.until("error").await["code"], "INVALID_STATE");
    assert_eq!(silent.until("error").await["code"], "TIMEOUT");
}

#[tokio::test]
async fn what_an_older_daemon_cannot_do_is_refused_and_an_end_comes_even_if_it_is_not_told() {
    let (baton, daemon) = stage(Style::Control).await;
    let session = spawn(&baton, "say: hello").await;
    let mut ws = watch(&baton, &session).await;
    turn(&mut ws).await;
    let refused = baton
        .client()
        .set_session_options(v1::SetSessionOptionsRequest {
            session_id: session.clone(),
            model: Some("opus".to_owned()),
            ..Default::default()
        })
        .await;
    assert!(refused.is_err(), "its harness does not say that it can");
    let listed = baton
        .client()
        .list_directory(v1::ListDirectoryRequest {
            daemon_id: status(&baton).await["client_id"]
                .as_str()
                .unwrap()
                .to_owned(),
            ..Default::default()
        })
        .await;
    assert!(listed.unwrap_err().message().contains("cannot list"));
    assert!(daemon.heard("send_input").is_empty());

    // Its agent crashes.
    ws.send(json!({ "type": "user_message", "content": "crash: 3" }))
        .await;
    let complete = ws.until("complete").await;
    assert_eq!(
        (&complete["reason"], &complete["exit_code"]),
        (&json!("error"), &json!(3))
    );
    let inputs = baton.events(&session).await;
    assert!(
        !inputs.iter().any(|event| matches!(
            &event.body,
            EventBody::InputChanged {
                state: InputState::Rejected,
                ..
            }
        )),
        "it was taken"
    );
}
