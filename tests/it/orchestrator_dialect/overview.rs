//! The stream of all agents.

use std::collections::BTreeMap;

use baton::wire::v1;
use serde_json::json;

use super::*;

const PATH: &str = "/api/events/stream";

async fn open(baton: &Baton, last: Option<&str>) -> Stream {
    match Stream::open(baton, PATH, last).await {
        Ok(stream) => stream,
        Err(got) => panic!("{} {:?}", got.status, got.body),
    }
}

fn ends_turn_of(session: &str) -> impl Fn(&Sent) -> bool {
    move |sent| {
        sent.name == "session_event"
            && sent.data["type"] == "result"
            && sent.data["sessionId"] == session
    }
}

/// The places in the logs of what came, session by session; each of them once and in its order.
fn places(sent: &[Sent]) -> BTreeMap<String, Vec<u64>> {
    let mut places: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for sent in sent.iter().filter(|sent| sent.name == "session_event") {
        let session = sent.data["sessionId"].as_str().unwrap();
        let seqs = places.entry(session.to_owned()).or_default();
        let index = sent.data["index"].as_u64().unwrap();
        assert!(
            seqs.last().is_none_or(|last| *last < index),
            "{index} after {seqs:?}"
        );
        seqs.push(index);
    }
    places
}

#[tokio::test]
async fn all_agents_are_heard_on_one_stream_and_what_waits_for_a_person() {
    let baton = Baton::start().await;
    let alice = agent(&baton, "Alice", json!({})).await;
    let sue = agent(&baton, "Sue", json!({ "role": "steward" })).await;
    // What was before is not told.
    let before = start(&baton, &alice, json!({ "initialPrompt": "say: early" })).await;
    baton.turns(&before, 1).await;
    stop(&baton, &alice).await;
    let mut stream = open(&baton, None).await;
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    let hello = stream.next().await.unwrap();
    assert_eq!((hello.name.as_str(), &hello.id), ("connected", &None));
    assert_eq!(fields(&hello.data), ["timestamp", "category"]);
    assert_eq!(hello.data["category"], "all");

    let first = start(&baton, &alice, json!({ "initialPrompt": "say: one" })).await;
    let mut seen = stream.until("a turn", ends_turn_of(&first)).await;
    let second = start(&baton, &sue, json!({ "initialPrompt": "run: echo two" })).await;
    let persons = baton.session("demo", "say: mine").await.id;
    baton.turns(&persons, 1).await;
    let asked = stream
        .until("a question", |sent| sent.name == "notification")
        .await;
    let notification = asked.last().unwrap().data.clone();
    seen.extend(asked);
    let prompt = baton.prompt(&second).await;
    assert_eq!(
        fields(&notification),
        [
            "promptId",
            "sessionId",
            "kind",
            "state",
            "toolName",
            "summary",
            "requestedAt",
            "type",
            "title",
            "message",
            "agentId",
            "agentRole"
        ]
    );
    for (field, value) in [
        ("type", "prompt"),
        ("kind", "permission"),
        ("state", "pending"),
        ("promptId", &prompt.id),
        ("sessionId", &second),
        ("agentId", &sue),
        ("agentRole", "steward"),
    ] {
        assert_eq!(notification[field], value, "{field}");
    }
    baton
        .decide(&prompt, crate::support::sessions::allowed())
        .await;
    seen.extend(stream.until("a turn", ends_turn_of(&second)).await);
    let of = |session: &str, kind: &str| {
        let found = seen.iter().find(|sent| {
            sent.name == "session_event"
                && sent.data["sessionId"] == session
                && sent.data["type"] == kind
        });
        found.unwrap_or_else(|| panic!("no {kind}: {seen:?}"))
    };
    let said = &of(&first, "assistant").data;
    assert_eq!(
        (&said["content"], &said["agentId"], &said["agentRole"]),
        (&json!("one"), &json!(alice), &json!("worker"))
    );
    // Of a tool its name will do here.
    assert!(of(&second, "tool_use").data["tool"].is_string());
    assert!(of(&second, "tool_result").data["tool"].is_null());
    // Of each session everything that its own stream has, and of no other session anything.
    let told = places(&seen);
    assert_eq!(
        told.keys().map(String::as_str).collect::<Vec<_>>(),
        [first.as_str(), second.as_str()]
    );
    for session in [&first, &second] {
        let path = format!("/api/sessions/{session}/stream");
        let mut own = Stream::open(&baton, &path, None).await.ok().unwrap();
        let all = own
            .until("a turn", |sent| sent.name == "agent_result")
            .await;
        let all = all.iter().filter_map(|sent| sent.data["index"].as_u64());
        assert_eq!(told[session.as_str()], all.collect::<Vec<_>>());
    }

    // One kind only.
    let only = format!("{PATH}?category=notifications");
    let mut asks = Stream::open(&baton, &only, None).await.ok().unwrap();
    assert_eq!(asks.next().await.unwrap().data["category"], "notifications");
    post(
        &baton,
        &format!("/api/agents/{sue}/input"),
        json!({ "input": "run: echo three" }),
    )
    .await;
    let next = asks.next().await.unwrap();
    assert_eq!(next.name, "notification");
    // Who goes on from a question is not asked it again, but hears what comes.
    let mut later = open(&baton, next.id.as_deref()).await;
    assert_eq!(later.next().await.unwrap().name, "connected");
    let prompt = baton.prompt(&second).await;
    baton
        .decide(&prompt, crate::support::sessions::allowed())
        .await;
    let came = later.until("a turn", ends_turn_of(&second)).await;
    assert!(
        came.iter().all(|sent| sent.name == "session_event"),
        "{came:?}"
    );
    for bad in [
        "?category=odd",
        "?after=x",
        "?after=1.2.x",
        "?category=all&category=all",
    ] {
        refused(
            &get(&baton, &format!("{PATH}{bad}")).await,
            400,
            "INVALID_INPUT",
        );
    }
    let got = Stream::open(&baton, PATH, Some("99999999.1.")).await;
    refused(&got.err().unwrap(), 416, "OUT_OF_RANGE");
}

#[tokio::test]
async fn a_stream_of_all_agents_that_breaks_goes_on_without_a_gap_over_a_restart_too() {
    let mut baton = Baton::start().await;
    let mut agents = Vec::new();
    for name in ["Alice", "Bob", "Carol"] {
        agents.push(agent(&baton, name, json!({})).await);
    }
    let mut watching = open(&baton, None).await;
    let first = start(&baton, &agents[0], json!({ "initialPrompt": "say: one" })).await;
    let begun = watching.until("a turn", ends_turn_of(&first)).await;
    let mut last = begun.iter().rev().find_map(|sent| sent.id.clone()).unwrap();
    // While nobody listens: one goes on, one is stopped and begins anew, one begins and is over again.
    let input = json!({ "input": "say: more" });
    post(&baton, &format!("/api/agents/{}/input", agents[0]), input).await;
    baton.turns(&first, 2).await;
    let mut sessions = vec![first.clone()];
    for (agent, text) in [(1, "say: two"), (1, "say: three"), (2, "say: four")] {
        let agent = &agents[agent];
        let session = start(&baton, agent, json!({ "initialPrompt": text })).await;
        baton.turns(&session, 1).await;
        if text != "say: three" {
            stop(&baton, agent).await;
        }
        sessions.push(session);
    }
    // In pieces, each a connection of its own, with a server that is killed meanwhile.
    let whole = async |baton: &Baton, session: &str| {
        let path = format!("/api/sessions/{session}/messages");
        let shown = get(baton, &path).await.json();
        let messages = shown["messages"].as_array().unwrap().clone();
        messages.len()
    };
    let mut came = begun;
    let mut pieces = 0;
    loop {
        let mut stream = open(&baton, Some(&last)).await;
        let piece = stream.until("an id", |sent| sent.id.is_some()).await;
        last = piece.last().and_then(|sent| sent.id.clone()).unwrap();
        came.extend(piece);
        pieces += 1;
        if pieces == 2 {
            baton.kill_server();
            baton.start_server().await;
            baton.daemon_is_linked().await;
        }
        let told = places(&came);
        if sessions.iter().all(|session| told.contains_key(session))
            && came.iter().any(|sent| {
                sent.data["sessionId"] == sessions[3].as_str() && sent.data["type"] == "exit"
            })
        {
            break;
        }
    }
    assert!(pieces >= 4, "{pieces}");
    let told = places(&came);
    for session in [&sessions[1], &sessions[3]] {
        let messages = whole(&baton, session).await;
        // And the end, which is no message.
        assert_eq!(told[session.as_str()].len(), messages + 1, "{session}");
    }
    // And then what comes.
    let mut stream = open(&baton, Some(&last)).await;
    let input = json!({ "input": "say: last" });
    post(&baton, &format!("/api/agents/{}/input", agents[0]), input).await;
    came.extend(stream.until("a turn", ends_turn_of(&first)).await);
    baton.turns(&first, 3).await;
    let told = places(&came);
    for session in [&first, &sessions[2]] {
        assert_eq!(told[session.as_str()].len(), whole(&baton, session).await);
    }
    // A place that says nothing of a session which goes on: that something of it may be missing is said.
    let revision = last.split('.').next().unwrap();
    let nowhere = format!("{revision}.9999999999999999.");
    let mut stream = open(&baton, Some(&nowhere)).await;
    let gap = stream
        .until("a gap", |sent| {
            sent.name == "truncated" && sent.data["sessionId"] == first.as_str()
        })
        .await;
    let gap = gap.last().unwrap();
    assert_eq!(
        (fields(&gap.data), &gap.id),
        (vec!["sessionId", "oldest"], &None)
    );
    let ended = came.iter().filter(|sent| sent.name == "truncated").count();
    assert_eq!(ended, 0);
    assert_eq!(told.len(), 4);
    assert!(baton.events(&first).await.len() > 5);
    baton.reaches(&sessions[3], v1::Lifecycle::Ended).await;
}

#[tokio::test]
async fn a_narrowed_token_hears_of_its_own_agents_only() {
    let baton = Baton::start().await;
    let (one, two) = (directory(&baton, "one"), directory(&baton, "two"));
    let own = agent(&baton, "Own", json!({ "workingDirectory": one })).await;
    let other = agent(&baton, "Other", json!({ "workingDirectory": two })).await;
    let token = narrowed(&baton, &one).await;
    let mut stream = Stream::open_as(&baton, &token, PATH, None)
        .await
        .ok()
        .unwrap();
    let mut all = open(&baton, None).await;
    let theirs = start(
        &baton,
        &other,
        json!({ "initialPrompt": "run: echo secret" }),
    )
    .await;
    let prompt = baton.prompt(&theirs).await;
    baton
        .decide(&prompt, crate::support::sessions::allowed())
        .await;
    all.until("their turn", ends_turn_of(&theirs)).await;
    let mine = start(&baton, &own, json!({ "initialPrompt": "say: mine" })).await;
    let came = stream.until("its turn", ends_turn_of(&mine)).await;
    assert_eq!(came[0].name, "connected");
    for sent in &came[1..] {
        assert_eq!(sent.data["agentId"], own.as_str(), "{sent:?}");
        let id = sent.id.as_deref().unwrap_or_default();
        assert!(
            !id.contains(&theirs),
            "a place in a log that it does not see"
        );
    }
    // Nor from a place that somebody else was given.
    let last = all.until("its turn", ends_turn_of(&mine)).await;
    let last = last.iter().rev().find_map(|sent| sent.id.clone()).unwrap();
    let mut stream = Stream::open_as(&baton, &token, PATH, Some(&last))
        .await
        .ok()
        .unwrap();
    stop(&baton, &other).await;
    stop(&baton, &own).await;
    let came = stream
        .until("its exit", |sent| sent.data["type"] == "exit")
        .await;
    for sent in &came[1..] {
        assert_eq!(sent.data["agentId"], own.as_str(), "{sent:?}");
    }
}
