//! Server-sent events: of one session, and of an agent from session to session.

use baton::domain::EventBody;
use baton::wire::v1;
use serde_json::json;

use super::*;

fn is(name: &'static str) -> impl Fn(&Sent) -> bool {
    move |sent| sent.name == name
}

/// What an event says.
fn content(sent: &Sent) -> &str {
    sent.data["content"].as_str().unwrap_or_default()
}

/// All of a stream that ends by itself.
async fn whole(mut stream: Stream) -> Vec<Sent> {
    let mut all = Vec::new();
    while let Some(sent) = stream.next().await {
        all.push(sent);
    }
    all
}

#[tokio::test]
async fn every_kind_of_event_has_its_name_and_its_shape() {
    let baton = Baton::start().await;
    let session = baton
        .session(
            "demo",
            "say: hello\nstderr: odd\ntodo: x done|> at work\nrun: echo one",
        )
        .await;
    let asked = baton.prompt(&session.id).await;
    baton
        .decide(&asked, crate::support::sessions::allowed())
        .await;
    baton.turns(&session.id, 1).await;
    let path = format!("/api/sessions/{}/stream", session.id);
    let mut stream = Stream::open(&baton, &path, None).await.ok().unwrap();
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.headers["cache-control"], "no-store");
    let all = stream.until("the result", is("agent_result")).await;
    assert_eq!(all[0].name, "connected");
    assert_eq!(all[0].id, None);
    assert_eq!(
        fields(&all[0].data),
        ["sessionId", "agentId", "status", "timestamp"]
    );
    let mut last = 0;
    for sent in &all[1..] {
        let kind = sent.name.strip_prefix("agent_").unwrap();
        assert_eq!(sent.data["type"], kind);
        assert_eq!(sent.data["sessionId"], session.id.as_str());
        let id: u64 = sent.id.as_deref().unwrap().parse().unwrap();
        assert_eq!(sent.data["index"], id);
        assert!(id > last, "in order");
        last = id;
    }
    let one = |kind: &'static str| all.iter().find(|sent| sent.name == kind).expect(kind);
    assert!(content(one("agent_user")).starts_with("say: hello"));
    assert_eq!(content(one("agent_assistant")), "hello");
    let used = &one("agent_tool_use").data["tool"];
    assert_eq!(fields(used), ["id", "name", "input"]);
    let result = one("agent_tool_result");
    assert!(result.data["tool"]["id"].is_string());
    assert_eq!(result.data["isError"], false);
    let result = &one("agent_result").data;
    assert_eq!(
        (&result["subtype"], &result["isError"]),
        (&json!("success"), &json!(false))
    );
    assert!(result["durationMs"].is_u64() && result["totalCostUsd"].is_number());
    let subtypes: Vec<&str> = all
        .iter()
        .filter(|sent| sent.name == "agent_system")
        .map(|sent| sent.data["subtype"].as_str().unwrap())
        .collect();
    assert!(
        subtypes.contains(&"init") && subtypes.contains(&"prompt"),
        "{subtypes:?}"
    );

    // What a plain program writes is output.
    let shell = baton
        .create(baton.shell("echo working; echo oops >&2; exit 3"))
        .await;
    let path = format!("/api/sessions/{shell}/stream");
    let all = whole(Stream::open(&baton, &path, None).await.ok().unwrap()).await;
    let out: Vec<(&str, &str)> = all
        .iter()
        .filter(|sent| sent.name == "agent_output")
        .map(|sent| (content(sent), sent.data["stream"].as_str().unwrap()))
        .collect();
    assert!(out.contains(&("working", "stdout")), "{out:?}");
    assert!(out.contains(&("oops", "stderr")), "{out:?}");
    let exit = all.last().unwrap();
    assert_eq!(exit.name, "agent_exit");
    assert_eq!(
        (&exit.data["code"], &exit.data["signal"]),
        (&json!(3), &json!(null))
    );
    assert_eq!(exit.data["reason"], "failed");
}

#[tokio::test]
async fn a_sessions_stream_goes_on_after_the_last_id_and_ends_with_the_session() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "say: hello").await;
    baton.turns(&session.id, 1).await;
    baton.end(&session.id).await;
    let path = format!("/api/sessions/{}/stream", session.id);
    let all = whole(Stream::open(&baton, &path, None).await.ok().unwrap()).await;
    assert_eq!(all.last().unwrap().name, "agent_exit");
    let resume = async |id: &str| Stream::open(&baton, &path, Some(id)).await;
    let middle = all[2].id.clone().unwrap();
    for id in [middle.clone(), format!("{}:{middle}", session.id)] {
        let rest = whole(resume(&id).await.ok().unwrap()).await;
        assert_eq!(rest[1..], all[3..], "after {id}");
    }
    // Its end was read: a browser is told not to come back.
    let over = baton.events(&session.id).await.len();
    let refusal = async |id: &str| resume(id).await.err().expect("refused");
    assert_eq!(refusal(&over.to_string()).await.status, 204);
    refused(&refusal("x").await, 400, "INVALID_INPUT");
    refused(&refusal("-1").await, 400, "INVALID_INPUT");
    refused(
        &refusal("ses_01ARZ3NDEKTSV4RRFFQ69G5FAV:1").await,
        400,
        "INVALID_INPUT",
    );
    refused(&refusal("1000000").await, 416, "OUT_OF_RANGE");
    refused(
        &get(&baton, "/api/sessions/x/stream").await,
        404,
        "NOT_FOUND",
    );
}

/// Reads an agent's stream up to `stop`, broken off after every event and gone on with after the last id; what
/// came, without the greetings.
async fn in_pieces(baton: &Baton, agent: &str, stop: impl Fn(&Sent) -> bool) -> Vec<Sent> {
    let mut all: Vec<Sent> = Vec::new();
    loop {
        let last = all.last().and_then(|sent| sent.id.clone());
        let mut stream = Stream::of(baton, agent, last.as_deref()).await;
        // One event each time.
        let mut came = stream.until("an event", |sent| sent.id.is_some()).await;
        let sent = came.pop().unwrap();
        let done = stop(&sent);
        all.push(sent);
        if done {
            return all;
        }
    }
}

#[tokio::test]
async fn an_agents_stream_goes_on_without_gap_or_duplicate_also_across_a_resume() {
    let mut baton = Baton::start().await;
    let agent = agent(&baton, "Alice", json!({})).await;
    let first = start(&baton, &agent, json!({ "initialPrompt": "say: one" })).await;
    // Somebody who watches all the time.
    let mut watching = Stream::of(&baton, &agent, None).await;
    let mut seen = watching.until("the first turn", is("agent_result")).await;
    assert_eq!((seen[0].name.as_str(), &seen[0].id), ("connected", &None));
    assert_eq!(seen[0].data["sessionId"], first.as_str());
    assert_eq!(seen[0].data["agentId"], agent.as_str());
    let middle = seen[2].id.clone().unwrap();
    assert!(middle.starts_with(&format!("{first}:")), "{middle}");
    stop(&baton, &agent).await;
    seen.extend(watching.until("the exit", is("agent_exit")).await);
    // Who comes back after the exit waits for what is next.
    let end = seen.last().unwrap().id.clone().unwrap();
    let mut waiting = Stream::of(&baton, &agent, Some(&end)).await;
    let greeting = waiting.next().await.unwrap();
    assert_eq!(
        (greeting.name.as_str(), &greeting.data["status"]),
        ("connected", &json!("terminated"))
    );

    let path = format!("/api/agents/{agent}/resume");
    let got = post(&baton, &path, json!({ "resumePrompt": "say: two" })).await;
    let second = got.json()["session"]["id"].as_str().unwrap().to_owned();
    let came = waiting.until("the second turn", is("agent_result")).await;
    assert_eq!(came[0].name, "connected");
    assert_eq!(came[0].data["sessionId"], second.as_str());
    let rest = watching.until("the second turn", is("agent_result")).await;
    let real = |all: &[Sent]| -> Vec<Sent> {
        let real = all.iter().filter(|sent| sent.id.is_some());
        real.cloned().collect()
    };
    assert_eq!(real(&rest), real(&came));
    seen.extend(rest);
    let seen = real(&seen);
    for text in ["say: one", "say: two"] {
        let count = seen
            .iter()
            .filter(|sent| sent.name == "agent_user" && content(sent) == text);
        assert_eq!(count.count(), 1, "a prompt is there once: {text}");
    }
    // The same in pieces, of which each is a connection of its own, over the seam between the two sessions; and
    // a server that was killed meanwhile.
    let second_turn =
        |sent: &Sent| sent.name == "agent_result" && sent.data["sessionId"] == second.as_str();
    let from = seen
        .iter()
        .position(|sent| sent.id.as_deref() == Some(&middle))
        .unwrap();
    let mut stream = Stream::of(&baton, &agent, Some(&middle)).await;
    let after = stream.until("the second turn", second_turn).await;
    assert_eq!(real(&after), seen[from + 1..]);
    baton.kill_server();
    baton.start_server().await;
    let now = real(
        &Stream::of(&baton, &agent, Some(&middle))
            .await
            .until("the second turn", second_turn)
            .await,
    );
    assert_eq!(now, seen[from + 1..]);
    let last = seen.last().cloned().unwrap();
    let pieces = in_pieces(&baton, &agent, |sent| *sent == last).await;
    let of_second = |sent: &Sent| sent.data["sessionId"] == second.as_str();
    let begun = seen.iter().position(of_second).unwrap();
    // Without a place to go on from it begins with the session that runs.
    assert_eq!(pieces, seen[begun..]);
}

#[tokio::test]
async fn a_new_session_of_an_agent_comes_by_the_stream_that_is_open() {
    let baton = Baton::start().await;
    let agent = agent(&baton, "Bob", json!({})).await;
    let other = super::agent(&baton, "Eve", json!({})).await;
    let first = start(&baton, &agent, json!({ "initialPrompt": "say: one" })).await;
    baton.turns(&first, 1).await;
    let mut stream = Stream::of(&baton, &agent, None).await;
    for turn in 2..5 {
        stop(&baton, &agent).await;
        let exit = stream.until("the exit", is("agent_exit")).await;
        assert_eq!(exit.last().unwrap().data["reason"], "stopped");
        let body = json!({ "initialPrompt": format!("say: turn {turn}") });
        let session = start(&baton, &agent, body).await;
        let came = stream.until("its turn", is("agent_result")).await;
        assert_eq!(came[0].name, "connected");
        assert_eq!(came[0].data["sessionId"], session.as_str());
        // From its beginning.
        assert!(came[1].data["index"].as_u64().unwrap() < 6, "{:?}", came[1]);
        assert!(
            came.iter()
                .any(|sent| content(sent) == format!("turn {turn}"))
        );
    }
    let mine = baton.sessions_of(&agent).await;
    // A place in somebody else's session is none of this stream's.
    let session = start(&baton, &other, json!({ "initialPrompt": "say: hi" })).await;
    let path = format!("/api/agents/{agent}/stream");
    let got = Stream::open(&baton, &path, Some(&format!("{session}:1"))).await;
    refused(&got.err().unwrap(), 400, "INVALID_INPUT");
    for bad in ["7", "x", "ses_x:1", &format!("{first}:-1")] {
        let got = Stream::open(&baton, &path, Some(bad)).await;
        refused(&got.err().unwrap(), 400, "INVALID_INPUT");
    }
    let got = Stream::open(&baton, &path, Some(&format!("{first}:1000000"))).await;
    refused(&got.err().unwrap(), 416, "OUT_OF_RANGE");
    // Programs that cannot send the header.
    let mut stream = Stream::open(&baton, &format!("{path}?after={first}:3"), None)
        .await
        .ok()
        .unwrap();
    let came = stream.until("an event", |sent| sent.id.is_some()).await;
    assert_eq!(came.last().unwrap().data["sessionId"], first.as_str());

    // Of sessions that were deleted meanwhile, the later ones are left.
    let end = baton.events(&first).await.len();
    for gone in [&mine[1], &first] {
        baton
            .client()
            .delete_session(v1::DeleteSessionRequest {
                session_id: gone.clone(),
            })
            .await
            .unwrap();
    }
    let mut stream = Stream::of(&baton, &agent, Some(&format!("{first}:{end}"))).await;
    let came = stream.until("a session", is("connected")).await;
    assert_eq!(came.last().unwrap().data["sessionId"], mine[2].as_str());
    // And an agent that is deleted ends its stream with an error.
    stop(&baton, &agent).await;
    stream
        .until("the last turn", |sent| {
            sent.name == "agent_exit" && sent.data["sessionId"] == mine[3].as_str()
        })
        .await;
    assert_eq!(
        delete(&baton, &format!("/api/agents/{agent}")).await.status,
        200
    );
    let came = stream.until("the error", is("agent_error")).await;
    let error = came.last().unwrap();
    assert_eq!(
        (&error.id, &error.data["code"]),
        (&None, &json!("NOT_FOUND"))
    );
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn errors_come_by_the_stream_and_the_session_goes_on() {
    let baton = Baton::start().await;
    let agent = agent(&baton, "Carol", json!({ "limits": { "turns": 1 } })).await;
    let session = start(&baton, &agent, json!({ "initialPrompt": "say: one" })).await;
    let mut stream = Stream::of(&baton, &agent, None).await;
    let came = stream.until("an error", is("agent_error")).await;
    let error = came.last().unwrap();
    assert_eq!(error.data["subtype"], "limit_exceeded");
    assert!(error.id.as_deref().unwrap().starts_with(&session));
    let came = stream.until("the exit", is("agent_exit")).await;
    assert_eq!(came.last().unwrap().data["reason"], "limit");
    baton
        .wait_for(&session, "its end", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
}

impl Baton {
    /// The sessions of an agent, oldest first.
    async fn sessions_of(&self, agent: &str) -> Vec<String> {
        let listed = get(self, &format!("/api/sessions?agentId={agent}"))
            .await
            .json();
        let sessions = listed["sessions"].as_array().unwrap();
        let ids = sessions.iter().rev();
        ids.map(|it| it["id"].as_str().unwrap().to_owned())
            .collect()
    }
}
