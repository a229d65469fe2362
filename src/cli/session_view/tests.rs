//! What a person sees and what their lines do, step by step.

use super::*;
use crate::base::id::TurnId;
use crate::base::{Json, Timestamp};
use crate::cli::output::Out;
use crate::client::ServerAddress;
use crate::domain::actor::{Actor, ActorKind};
use crate::domain::event::{Origin, Transient, TransientBody};
use crate::domain::prompt::{AnswerBody, AnswerDelivery, Decision, PromptAnswer, PromptKind};
use crate::domain::{Block, Usage};

fn id() -> SessionId {
    SessionId::from_bits(7)
}

/// A client of a server that is not there: whatever is sent is refused.
fn nobody() -> Client {
    Client::lazy(ServerAddress::new("http://127.0.0.1:9")).unwrap()
}

fn event(seq: u64, body: EventBody) -> Followed {
    let mut event = Event::new(id(), Origin::Harness, Timestamp::EPOCH, body);
    event.seq = seq;
    Followed::Event(Box::new(event))
}

fn prompt() -> Prompt {
    Prompt {
        id: PromptId::from_bits(1),
        session_id: id(),
        kind: PromptKind::Permission,
        request_key: "r".into(),
        call_id: String::new(),
        tool: "Bash".into(),
        input: Json::parse("x", "{\"command\":\"ls\"}", 99).unwrap(),
        plan: String::new(),
        questions: Vec::new(),
        suggestions: Vec::new(),
        summary: String::new(),
        reason: String::new(),
        requested_at: Timestamp::EPOCH,
        expires_at: None,
        state: PromptState::Pending,
        answer: None,
        delivery: AnswerDelivery::None,
        note: String::new(),
        command_id: None,
        budget: None,
    }
}

fn asked(seq: u64) -> Followed {
    event(
        seq,
        EventBody::PromptRequested {
            prompt: Box::new(prompt()),
        },
    )
}

fn answered(seq: u64) -> Followed {
    let by = Actor {
        kind: ActorKind::Caller,
        id: String::new(),
        name: "bob".into(),
    };
    let body = AnswerBody::Decision(Decision {
        allow: true,
        ..Decision::default()
    });
    let answer = PromptAnswer {
        by,
        at: Timestamp::EPOCH,
        body,
    };
    event(
        seq,
        EventBody::PromptAnswered {
            prompt_id: PromptId::from_bits(1),
            answer,
        },
    )
}

fn message(seq: u64, text: &str) -> Followed {
    event(
        seq,
        EventBody::Message {
            role: Role::Agent,
            blocks: vec![Block::Text(text.into())],
            message_id: "m".into(),
            parent_call_id: String::new(),
        },
    )
}

fn delta(offset: u64, text: &str) -> Followed {
    Followed::Transient(Transient {
        session_id: id(),
        body: TransientBody::MessageDelta {
            message_id: "m".into(),
            block: 0,
            offset,
            text: text.into(),
            thinking: false,
        },
    })
}

fn turn_ended(seq: u64, is_error: bool) -> Followed {
    event(
        seq,
        EventBody::TurnEnded {
            turn_id: TurnId::from_bits(1),
            is_error,
            reason: "completed".into(),
            text: String::new(),
            usage: Usage::default(),
            duration: Duration::ZERO,
            input_ids: Vec::new(),
            api_status: 0,
        },
    )
}

fn idle(seq: u64) -> Followed {
    use crate::domain::session::ActivitySource;
    event(
        seq,
        EventBody::ActivityChanged {
            activity: Activity::AwaitingInput,
            source: ActivitySource::Protocol,
            confidence: 100,
        },
    )
}

fn ended(seq: u64, reason: EndReason) -> Followed {
    event(
        seq,
        EventBody::Ended {
            end: EndInfo::because(reason, ""),
        },
    )
}

/// Shows these steps, the past ending at `head`; what was seen, and the exit code if it ended.
fn show(json: bool, settings: Settings, head: u64, steps: Vec<Followed>) -> (String, Option<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _within = runtime.enter();
    let (client, (out, text)) = (nobody(), Out::memory(json));
    let mut view = View::new(&client, &out, id(), settings);
    let mut code = view.step(Followed::Started { first: 1, head }).unwrap();
    for step in steps {
        if code.is_some() {
            break;
        }
        code = view.step(step).unwrap();
    }
    let seen = text.lock().clone();
    (seen, code)
}

fn interactive() -> Settings {
    Settings {
        interactive: true,
        ..Settings::default()
    }
}

#[test]
fn live_text_and_its_message_are_shown_once() {
    let steps = vec![
        delta(0, "Hel"),
        delta(3, "lo"),
        message(1, "Hello!"),
        turn_ended(2, false),
    ];
    let (seen, _) = show(false, interactive(), 0, steps);
    assert_eq!(seen, "Hello!\n● turn completed after 0s\n");
}

#[test]
fn a_prompt_that_was_answered_in_the_past_is_not_asked() {
    let (seen, _) = show(
        false,
        interactive(),
        3,
        vec![asked(1), answered(2), message(3, "ok")],
    );
    assert!(!seen.contains("May the agent"), "{seen}");
    assert!(seen.contains("allowed (by bob)"), "{seen}");
}

#[test]
fn a_prompt_that_waits_is_asked_and_an_answer_from_elsewhere_is_shown() {
    let (seen, _) = show(false, interactive(), 1, vec![asked(1), answered(2)]);
    let asked = seen.find("May the agent use Bash?").unwrap();
    assert!(
        asked < seen.find("answered allowed (by bob)").unwrap(),
        "{seen}"
    );
}

#[test]
fn without_a_person_nothing_is_asked() {
    let (seen, _) = show(false, Settings::default(), 0, vec![asked(1)]);
    assert!(seen.contains("● asks [prm_"), "{seen}");
    assert!(!seen.contains("[a] allow"), "{seen}");
}

#[test]
fn an_answer_that_could_not_be_sent_is_asked_again() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let seen = runtime.block_on(async {
        let (client, (out, text)) = (nobody(), Out::memory(false));
        let mut view = View::new(&client, &out, id(), interactive());
        view.step(Followed::Started { first: 1, head: 0 }).unwrap();
        view.step(asked(1)).unwrap();
        view.typed("what?").await.unwrap();
        view.typed("a").await.unwrap();
        text.lock().clone()
    });
    assert_eq!(seen.matches("May the agent use Bash?").count(), 2, "{seen}");
    assert!(seen.contains("please type one of these"), "{seen}");
    assert!(seen.contains("cannot be reached"), "{seen}");
}

#[test]
fn the_end_of_the_session_is_the_exit_code() {
    let done = show(
        false,
        Settings::default(),
        0,
        vec![ended(1, EndReason::Completed)],
    );
    assert_eq!(done.1, Some(DONE));
    let failed = show(
        false,
        Settings::default(),
        0,
        vec![ended(1, EndReason::Crashed)],
    );
    assert_eq!(failed.1, Some(FAILED));
    // An end in the past that was taken back is none.
    let back = EventBody::LifecycleChanged {
        from: Lifecycle::Ended,
        to: Lifecycle::Running,
    };
    let steps = vec![
        ended(1, EndReason::Lost),
        event(2, back),
        message(3, "here"),
    ];
    assert_eq!(show(false, Settings::default(), 3, steps).1, None);
}

#[test]
fn without_a_person_it_ends_when_the_agent_is_idle() {
    let settings = || Settings {
        until_idle: true,
        ..Settings::default()
    };
    assert_eq!(
        show(false, settings(), 0, vec![turn_ended(1, false), idle(2)]).1,
        Some(DONE)
    );
    assert_eq!(
        show(false, settings(), 0, vec![idle(1), turn_ended(2, true)]).1,
        Some(FAILED)
    );
    assert_eq!(show(false, settings(), 0, vec![idle(1)]).1, None);
    assert_eq!(
        show(
            false,
            settings(),
            0,
            vec![asked(1), turn_ended(2, false), idle(3)]
        )
        .1,
        None
    );
}

#[test]
fn a_followed_log_shows_what_was_asked_for_and_sees_the_end() {
    let settings = |kinds| Settings {
        log: true,
        kinds,
        ..Settings::default()
    };
    let steps = || {
        vec![
            message(1, "a"),
            turn_ended(2, false),
            ended(3, EndReason::Completed),
        ]
    };
    let (seen, code) = show(false, settings(vec![EventKind::Message]), 2, steps());
    assert_eq!(code, Some(DONE));
    assert_eq!(seen, "    1 00:00:00 agent      a\n");
    // What is lost may be found: who follows the log waits for it.
    let lost = vec![ended(1, EndReason::Lost)];
    assert_eq!(show(false, settings(Vec::new()), 0, lost).1, None);
}

#[test]
fn json_is_one_object_a_line() {
    let steps = vec![
        delta(0, "x"),
        message(1, "two\nlines"),
        Followed::Truncated { oldest: 9 },
        Followed::Lost {
            error: Error::new(Code::Unavailable, "gone"),
            pause: Duration::ZERO,
        },
    ];
    let (seen, _) = show(true, Settings::default(), 0, steps);
    let types: Vec<String> = seen
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].to_string())
        .collect();
    assert_eq!(types, ["\"transient\"", "\"event\"", "\"truncated\""]);
}
