//! The real Claude Code driven through Baton: a server process, a daemon process, the CLI as its users
//! install it, and a stand-in for the model behind it.
//!
//! Only the model is not real. Where the CLI is missing these tests fail; they are never passed over.

use baton::domain::event::Role;
use baton::domain::prompt::AnswerDelivery;
use baton::domain::{Activity, Block, ContentRef, Event, EventBody, InputState};
use baton::wire::v1;
use serde_json::json;

use crate::support::baton::eventually;
use crate::support::claude::{Place, Talk, is_alive, said, turns};
use crate::support::sessions::{allowed, count, denied};

fn position(events: &[Event], what: &str, is: impl Fn(&EventBody) -> bool) -> usize {
    let found = events.iter().position(|event| is(&event.body));
    found.unwrap_or_else(|| panic!("no {what} in {events:#?}"))
}

/// The text of the chunks that `stream: COUNT …` asks for.
fn chunks(count: u32) -> String {
    (1..=count).map(|n| format!("chunk {n}. ")).collect()
}

#[tokio::test]
async fn a_turn_is_told_in_order_and_once() {
    let place = Place::new().await;
    let talk = place.session("say: hello there").await;
    let turn = talk.turn(1).await;
    assert!(!turn.is_error, "{turn:?}");
    assert_eq!((turn.text.as_str(), turn.inputs), ("hello there", 1));
    place
        .baton
        .wait_for(
            &talk.id,
            "the agent waits again",
            |body| matches!(body, EventBody::UsageUpdated { total } if total.input_tokens > 0),
        )
        .await;
    let events = eventually("the agent waits again", || async {
        let events = talk.events().await;
        matches!(
            events.last()?.body,
            EventBody::ActivityChanged {
                activity: Activity::AwaitingInput,
                ..
            }
        )
        .then_some(events)
    })
    .await;
    let order = [
        position(&events, "creation", |body| {
            matches!(body, EventBody::SessionCreated { .. })
        }),
        position(
            &events,
            "process",
            |body| matches!(body, EventBody::Started { pid, .. } if *pid > 0),
        ),
        position(&events, "a taken input", |body| {
            matches!(
                body,
                EventBody::InputChanged {
                    state: InputState::Applied,
                    ..
                }
            )
        }),
        position(&events, "turn", |body| {
            matches!(body, EventBody::TurnStarted { .. })
        }),
        position(&events, "message", |body| {
            matches!(
                body,
                EventBody::Message {
                    role: Role::Agent,
                    ..
                }
            )
        }),
        position(&events, "end", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        }),
    ];
    assert!(order.is_sorted(), "{order:?} {events:#?}");
    assert_eq!(said(&events), ["hello there"]);
    assert_eq!(
        count(&events, |body| matches!(
            body,
            EventBody::TurnStarted { .. }
        )),
        1
    );
    // What the agent told of itself is in the log and in the record.
    let told = events.iter().rev().find_map(|event| match &event.body {
        EventBody::Started {
            provider_session_id,
            version,
            tools,
            ..
        } => Some((provider_session_id.clone(), version.clone(), tools.clone())),
        _ => None,
    });
    let (conversation, version, tools) = told.unwrap();
    assert!(!version.is_empty() && tools.iter().any(|tool| tool == "Bash"));
    let record = talk.record().await;
    assert_eq!(record.provider_session_id, conversation);
    assert_eq!(record.turns, 1);
    let waiting: i32 = v1::Activity::AwaitingInput.into();
    assert_eq!(record.activity, waiting);
}

#[tokio::test]
async fn turns_follow_one_another_in_one_process_that_remembers() {
    let place = Place::new().await;
    let talk = place.session("say: apricot").await;
    assert_eq!(talk.turn(1).await.text, "apricot");
    let pid = talk.pid().await;
    talk.say("say: second").await;
    assert_eq!(talk.turn(2).await.text, "second");
    talk.say("say: third").await;
    assert_eq!(talk.turn(3).await.text, "third");
    assert_eq!(talk.pid().await, pid);
    assert_eq!(talk.said().await, ["apricot", "second", "third"]);
    let sent = place.last_request()["messages"].to_string();
    for word in ["say: apricot", "say: second", "say: third"] {
        assert!(sent.contains(word), "{word} in {sent}");
    }
}

#[tokio::test]
async fn an_allowed_tool_runs_and_a_denied_one_does_not() {
    let place = Place::new().await;
    let talk = place.session("run: mkfifo allowed").await;
    let prompt = talk.prompt().await;
    assert_eq!(prompt.tool, "Bash");
    assert!(prompt.summary.contains("mkfifo allowed"), "{prompt:?}");
    assert!(!place.file("allowed").exists(), "it waits for the answer");
    let asking: i32 = v1::Activity::AwaitingPrompt.into();
    eventually("the session shows that it asks", || async {
        (talk.record().await.activity == asking).then_some(())
    })
    .await;
    talk.decide(&prompt, allowed()).await;
    assert!(!talk.turn(1).await.is_error);
    assert!(place.file("allowed").exists());
    let events = talk.events().await;
    assert_eq!(
        count(&events, |body| matches!(
            body,
            EventBody::PromptDelivered {
                delivery: AnswerDelivery::Applied,
                ..
            }
        )),
        1,
        "{events:#?}"
    );
    talk.say("run: mkfifo denied").await;
    let prompt = talk.prompt().await;
    talk.decide(&prompt, denied("not on my machine")).await;
    let turn = talk.turn(2).await;
    assert!(!turn.is_error, "a denial does not end the turn: {turn:?}");
    assert!(turn.text.contains("not on my machine"), "{turn:?}");
    assert!(!place.file("denied").exists());
    let failed = talk.events().await;
    assert_eq!(
        count(&failed, |body| matches!(
            body,
            EventBody::ToolResult { is_error: true, .. }
        )),
        1
    );
}

#[tokio::test]
async fn a_tool_is_allowed_with_another_input() {
    let place = Place::new().await;
    let talk = place.session("run: mkfifo asked").await;
    let prompt = talk.prompt().await;
    let changed = json!({ "command": "mkfifo changed", "description": "Another" });
    talk.decide(
        &prompt,
        v1::Decision {
            updated_input: Some(v1::Json {
                text: changed.to_string(),
            }),
            ..allowed()
        },
    )
    .await;
    assert!(!talk.turn(1).await.is_error);
    assert!(place.file("changed").exists());
    assert!(!place.file("asked").exists());
}

#[tokio::test]
async fn several_questions_are_answered_at_once() {
    let place = Place::new().await;
    let talk = place
        .session("ask: Which colour?|red|green ;; Which sizes?*|S|M|L ;; Which name?|A|B")
        .await;
    let prompt = talk.prompt().await;
    let kind: i32 = v1::PromptKind::Question.into();
    assert_eq!(prompt.kind, kind);
    let several: Vec<bool> = prompt.questions.iter().map(|q| q.multi_select).collect();
    assert_eq!(several, [false, true, false]);
    let one = |question: &str, labels: &[&str], text: &str| v1::QuestionAnswer {
        question: question.to_owned(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        text: text.to_owned(),
    };
    talk.answer(
        &prompt,
        v1::answer_prompt_request::Answer::Answers(v1::QuestionAnswers {
            answers: vec![
                one("Which colour?", &["green"], ""),
                one("Which sizes?", &["S", "L"], ""),
                one("Which name?", &[], "none of them"),
            ],
        }),
    )
    .await;
    let turn = talk.turn(1).await;
    for told in [
        r#""Which colour?"="green""#,
        r#""Which sizes?"="S, L""#,
        r#""Which name?"="none of them""#,
    ] {
        assert!(turn.text.contains(told), "{told} in {turn:?}");
    }
}

#[tokio::test]
async fn an_interrupt_ends_the_turn_in_mid_stream_and_not_the_process() {
    let place = Place::new().await;
    let talk = place.session("stream: 2000 25").await;
    talk.streaming().await;
    let pid = talk.pid().await;
    place
        .baton
        .client()
        .interrupt_turn(v1::InterruptTurnRequest {
            session_id: talk.id.clone(),
            ..Default::default()
        })
        .await
        .unwrap();
    let turn = talk.turn(1).await;
    assert!(turn.is_error, "{turn:?}");
    assert_eq!(turn.reason, "aborted_streaming");
    talk.say("say: still here").await;
    let turn = talk.turn(2).await;
    assert_eq!(
        (turn.text.as_str(), turn.is_error),
        ("still here", false),
        "{turn:?}"
    );
    assert_eq!(talk.pid().await, pid);
    assert!(is_alive(pid));
}

#[tokio::test]
async fn a_conversation_is_continued_in_a_new_session_and_branched() {
    let place = Place::new().await;
    let client = place.baton.client();
    let old = place.session("say: apricot").await;
    old.turn(1).await;
    let conversation = old.record().await.provider_session_id;
    // A branch begins while the conversation goes on.
    let fork = place.talk(
        client
            .fork_session(v1::ForkSessionRequest {
                session_id: old.id.clone(),
                input: "say: branched".to_owned(),
                ..Default::default()
            })
            .await
            .unwrap()
            .session
            .unwrap(),
    );
    assert_eq!(fork.turn(1).await.text, "branched");
    let sent = place.last_request()["messages"].to_string();
    assert!(sent.contains("say: apricot"), "{sent}");
    let record = fork.record().await;
    assert_eq!(record.forked_from, old.id);
    assert_ne!(record.provider_session_id, conversation);
    old.end().await;
    let new = place.talk(
        client
            .resume_session(v1::ResumeSessionRequest {
                session_id: old.id.clone(),
                input: "say: continued".to_owned(),
                ..Default::default()
            })
            .await
            .unwrap()
            .session
            .unwrap(),
    );
    assert_ne!(new.id, old.id);
    assert_eq!(new.turn(1).await.text, "continued");
    let sent = place.last_request()["messages"].to_string();
    assert!(sent.contains("say: apricot"), "{sent}");
    assert!(
        !sent.contains("branched"),
        "a branch is not the tree: {sent}"
    );
    let record = new.record().await;
    assert_eq!(record.resumed_from, old.id);
    assert_eq!(record.provider_session_id, conversation);
    let old = old.record().await;
    assert_eq!(old.resumed_by, new.id);
    let ended: i32 = v1::Lifecycle::Ended.into();
    assert_eq!(old.lifecycle, ended);
}

#[tokio::test]
async fn an_error_of_the_model_ends_the_turn_and_not_the_session() {
    let place = Place::new().await;
    let talk = place.session("error: 400").await;
    let turn = talk.turn(1).await;
    // The harness calls this turn's subtype a success; what counts is that it says it is an error.
    assert!(turn.is_error, "{turn:?}");
    assert_eq!(
        (turn.api_status, turn.reason.as_str()),
        (400, "api_error"),
        "{turn:?}"
    );
    assert!(turn.text.contains("stub says 400"), "{turn:?}");
    talk.say("say: alive").await;
    let turn = talk.turn(2).await;
    assert_eq!((turn.text.as_str(), turn.is_error), ("alive", false));
}

#[tokio::test]
async fn a_rate_limit_is_told_with_its_end() {
    let place = Place::new().await;
    let talk = place.session("limit: 1").await;
    let turn = talk.turn(1).await;
    assert!(turn.is_error && turn.api_status == 429, "{turn:?}");
    let events = talk.events().await;
    let until = events.iter().find_map(|event| match &event.body {
        EventBody::RateLimited { until, .. } => *until,
        _ => None,
    });
    assert!(until.is_some(), "{events:#?}");
    talk.say("say: alive").await;
    assert_eq!(talk.turn(2).await.text, "alive");
}

#[tokio::test]
async fn large_output_is_kept_whole() {
    const SIZE: usize = 3_000_000;
    let place = Place::new().await;
    let talk = place.session(&format!("big: {SIZE}")).await;
    talk.turn(1).await;
    let events = talk.events().await;
    let reference = events
        .iter()
        .find_map(|event| match &event.body {
            EventBody::Message {
                role: Role::Agent,
                blocks,
                ..
            } => blocks.iter().find_map(|block| match block {
                Block::Content(reference) => Some(reference.clone()),
                _ => None,
            }),
            _ => None,
        })
        .expect("content");
    assert_eq!(reference.size_bytes, SIZE as u64);
    let whole = talk.content(&reference).await;
    assert!(whole == "x".repeat(SIZE).into_bytes(), "{}", whole.len());
    let same = ContentRef::of(&whole, &reference.media_type);
    assert_eq!(same.sha256, reference.sha256);
    // The log itself stays small.
    let largest = events
        .iter()
        .map(|event| baton::wire::encode_event(event).len())
        .max();
    assert!(largest < Some(256 * 1024), "{largest:?}");
}

/// Asserts that a turn which was disturbed is in the log as if it had not been, and that its process
/// takes another.
async fn undisturbed(talk: &Talk<'_>, pid: u32, text: &str) {
    let turn = talk.turn(1).await;
    assert!(!turn.is_error, "{turn:?}");
    talk.say("say: afterwards").await;
    assert_eq!(talk.turn(2).await.text, "afterwards");
    assert_eq!(talk.pid().await, pid);
    assert!(is_alive(pid));
    let events = talk.events().await;
    assert_eq!(said(&events), [text, "afterwards"]);
    for (what, expected, is) in [
        (
            "turns",
            2,
            (|body| matches!(body, EventBody::TurnStarted { .. })) as fn(&EventBody) -> bool,
        ),
        ("gaps", 0, |body| matches!(body, EventBody::Gap { .. })),
        ("ends", 0, |body| matches!(body, EventBody::Ended { .. })),
        ("taken inputs", 2, |body| {
            matches!(
                body,
                EventBody::InputChanged {
                    state: InputState::Applied,
                    ..
                }
            )
        }),
        ("failed commands", 0, |body| {
            matches!(body, EventBody::CommandFailed { .. })
        }),
    ] {
        assert_eq!(count(&events, is), expected, "{what}: {events:#?}");
    }
    // The model was asked once for each turn: nothing ran twice.
    let asked = talk
        .place
        .api
        .requests()
        .iter()
        .filter(|request| {
            let sent = request.body["messages"].to_string();
            request.path == "/v1/messages"
                && sent.contains("stream: ")
                && !sent.contains("afterwards")
        })
        .count();
    assert_eq!(asked, 1, "the first turn ran once");
}

#[tokio::test]
async fn a_server_killed_in_mid_stream_loses_nothing() {
    let mut place = Place::new().await;
    let id = place.session("stream: 120 50").await.id;
    let pid = {
        let talk = Talk {
            place: &place,
            id: id.clone(),
        };
        talk.streaming().await;
        assert!(turns(&talk.events().await).is_empty(), "in mid stream");
        talk.pid().await
    };
    place.baton.kill_server();
    place.baton.start_server().await;
    let talk = Talk { place: &place, id };
    assert!(turns(&talk.events().await).is_empty(), "in mid stream");
    undisturbed(&talk, pid, &chunks(120)).await;
}

#[tokio::test]
async fn a_daemon_killed_in_mid_stream_loses_nothing() {
    let mut place = Place::new().await;
    let id = place.session("stream: 160 50").await.id;
    let pid = {
        let talk = Talk {
            place: &place,
            id: id.clone(),
        };
        talk.streaming().await;
        assert!(turns(&talk.events().await).is_empty(), "in mid stream");
        talk.pid().await
    };
    place.baton.kill_daemon();
    assert!(is_alive(pid), "the agent outlives its daemon");
    place.baton.start_daemon().await;
    let talk = Talk { place: &place, id };
    undisturbed(&talk, pid, &chunks(160)).await;
}

#[tokio::test]
async fn a_server_and_a_daemon_killed_together_lose_nothing() {
    let mut place = Place::new().await;
    let id = place.session("stream: 120 50").await.id;
    let pid = {
        let talk = Talk {
            place: &place,
            id: id.clone(),
        };
        talk.streaming().await;
        assert!(turns(&talk.events().await).is_empty(), "in mid stream");
        talk.pid().await
    };
    // What the agent writes while nobody listens is kept by its runner.
    place.baton.kill_daemon();
    place.baton.kill_server();
    place.baton.start_server().await;
    place.baton.start_daemon().await;
    let talk = Talk { place: &place, id };
    undisturbed(&talk, pid, &chunks(120)).await;
}

#[tokio::test]
async fn a_prompt_is_answered_after_the_daemon_was_killed() {
    let mut place = Place::new().await;
    let id = place.session("run: mkfifo made").await.id;
    let before = Talk {
        place: &place,
        id: id.clone(),
    }
    .prompt()
    .await;
    place.baton.kill_daemon();
    place.baton.start_daemon().await;
    let talk = Talk { place: &place, id };
    let prompt = talk.prompt().await;
    assert_eq!(prompt.id, before.id, "the same prompt, not a second one");
    talk.decide(&prompt, allowed()).await;
    assert!(!talk.turn(1).await.is_error);
    assert!(place.file("made").exists());
    let asked = count(&talk.events().await, |body| {
        matches!(body, EventBody::PromptRequested { .. })
    });
    assert_eq!(asked, 1);
}
