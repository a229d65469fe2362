//! What every kind of event looks like, for people and as JSON.

use std::time::Duration;

use super::*;
use crate::base::Timestamp;
use crate::base::id::*;
use crate::cli::output::json;
use crate::domain::Actor;
use crate::domain::actor::ActorKind;
use crate::domain::command::CommandOutcome;
use crate::domain::event::{EventKind, Origin, PlanItem};
use crate::domain::harness::PermissionMode;
use crate::domain::input::{Delivery, InputState};
use crate::domain::prompt::*;
use crate::domain::session::*;

fn actor() -> Actor {
    Actor {
        kind: ActorKind::Caller,
        id: "tok".into(),
        name: "ada".into(),
    }
}

fn answer() -> PromptAnswer {
    PromptAnswer {
        by: actor(),
        at: Timestamp::EPOCH,
        body: AnswerBody::Decision(Decision {
            allow: true,
            remember: Remember::Session,
            ..Decision::default()
        }),
    }
}

fn prompt() -> Prompt {
    Prompt {
        id: PromptId::from_bits(1),
        session_id: SessionId::from_bits(2),
        kind: PromptKind::Permission,
        request_key: "r".into(),
        call_id: String::new(),
        tool: "Bash".into(),
        input: Json::parse("x", "{\"command\":\"ls \\u202e\"}", 99).unwrap(),
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

fn text(text: &str) -> Vec<Block> {
    vec![Block::Text(text.to_owned())]
}

/// One of each kind, and how it reads.
fn table() -> Vec<(EventBody, &'static str)> {
    let input_id = InputId::from_bits(3);
    let turn_id = TurnId::from_bits(4);
    let prompt_id = PromptId::from_bits(1);
    let usage = Usage {
        input_tokens: 10,
        output_tokens: 5,
        cost_micro_usd: 12_300,
        ..Usage::default()
    };
    let many = (1..=20)
        .map(|n| n.to_string())
        .collect::<Vec<_>>()
        .join("\n");
    vec![
        (
            EventBody::SessionCreated {
                daemon_id: DaemonId::from_bits(5),
                harness: "demo".into(),
                cwd: "/srv".into(),
                resumed_from: None,
                forked_from: Some(SessionId::from_bits(0)),
            },
            "created: demo in /srv, branched off from ses_00000000000000000000000000",
        ),
        (
            EventBody::Started {
                provider_session_id: "p".into(),
                model: "m1".into(),
                cwd: "/srv".into(),
                tools: vec!["Bash".into()],
                pid: 7,
                version: "2.1".into(),
            },
            "ready: m1, version 2.1, 1 tools",
        ),
        (
            EventBody::LifecycleChanged {
                from: Lifecycle::Starting,
                to: Lifecycle::Running,
            },
            "lifecycle: starting → running",
        ),
        (
            EventBody::ActivityChanged {
                activity: Activity::AwaitingInput,
                source: ActivitySource::Protocol,
                confidence: 100,
            },
            "activity: waits for input",
        ),
        (
            EventBody::LinkChanged {
                attached: true,
                epoch: 2,
            },
            "link: the daemon is linked again",
        ),
        (
            EventBody::InputAccepted {
                input_id,
                text: "go\u{1b}[0m".into(),
                delivery: Delivery::Queue,
            },
            "input: go⟨1B⟩[0m",
        ),
        (
            EventBody::InputChanged {
                input_id,
                state: InputState::Rejected,
                text: String::new(),
                reason: "too late".into(),
            },
            "input: rejected: too late",
        ),
        (
            EventBody::Message {
                role: Role::Agent,
                blocks: vec![Block::Thinking("hm".into()), Block::Text("hello".into())],
                message_id: "m".into(),
                parent_call_id: String::new(),
            },
            "agent: (thinks) hm\nhello",
        ),
        (
            EventBody::ToolCall {
                call_id: "c".into(),
                tool: "Bash".into(),
                input: Some(Json::parse("x", "{\"command\":\"make\\ntest\"}", 99).unwrap()),
                content: None,
                parent_call_id: String::new(),
            },
            "tool: Bash make⏎test",
        ),
        (
            EventBody::ToolResult {
                call_id: "c".into(),
                blocks: text(&many),
                is_error: true,
            },
            "result: 1\n2\n3\n4\n5\n6\n7\n8\n… 12 more lines",
        ),
        (
            EventBody::TurnStarted {
                turn_id,
                input_ids: vec![input_id],
            },
            "turn: began",
        ),
        (
            EventBody::TurnEnded {
                turn_id,
                is_error: true,
                reason: "api_error".into(),
                text: "overloaded".into(),
                usage,
                duration: Duration::from_secs(61),
                input_ids: Vec::new(),
                api_status: 529,
            },
            "turn: api_error after 1m, 10 in, 5 out, $0.0123, API status 529: overloaded",
        ),
        (
            EventBody::PlanUpdated {
                items: [("a", "completed"), ("b", "in_progress"), ("c", "pending")]
                    .map(|(text, status)| PlanItem {
                        text: text.into(),
                        status: status.into(),
                    })
                    .to_vec(),
            },
            "plan: ☑ a\n▸ b\n☐ c",
        ),
        (
            EventBody::Output {
                text: "line".into(),
                continues: true,
            },
            "out: line↩",
        ),
        (
            EventBody::Stderr {
                text: "oops".into(),
                continues: false,
            },
            "err: oops",
        ),
        (
            EventBody::UsageUpdated {
                total: Usage::default(),
            },
            "usage: nothing yet",
        ),
        (
            EventBody::RateLimited {
                until: Some(Timestamp::EPOCH),
                message: "slow down".into(),
            },
            "limited: until 1970-01-01T00:00:00.000000Z: slow down",
        ),
        (
            EventBody::LimitExceeded {
                limit: "turns".into(),
                value: 5,
                allowed: 5,
                action: LimitAction::Suspend,
                budget_id: None,
            },
            "limit: turns: 5 of 5 allowed; the session is suspended",
        ),
        (
            EventBody::LimitLifted {
                budget_id: BudgetId::from_bits(1),
                reason: "a new day".into(),
            },
            "goes on: the budget bgt_00000000000000000000000001 no longer holds it: a new day",
        ),
        (
            EventBody::PromptRequested {
                prompt: Box::new(prompt()),
            },
            "asks: [prm_00000000000000000000000001] Bash ls ⟨202E⟩",
        ),
        (
            EventBody::PromptAnswered {
                prompt_id,
                answer: answer(),
            },
            "answered: allowed for the session (by ada)",
        ),
        (
            EventBody::PromptExpired { prompt_id },
            "expired: nobody answered in time",
        ),
        (
            EventBody::PromptWithdrawn {
                prompt_id,
                reason: "the turn was interrupted".into(),
            },
            "withdrawn: the turn was interrupted",
        ),
        (
            EventBody::PromptDelivered {
                prompt_id,
                delivery: AnswerDelivery::Undeliverable,
                reason: "it exited".into(),
            },
            "answer: the agent no longer asks: it exited",
        ),
        (
            EventBody::OptionsChanged {
                model: Some(String::new()),
                permission_mode: Some(PermissionMode::AutoSafe),
            },
            "options: the default model, permission mode auto_safe",
        ),
        (
            EventBody::CommandFailed {
                command_id: CommandId::from_bits(6),
                command: "interrupt".into(),
                outcome: CommandOutcome::Indeterminate,
                reason: "a crash fell between".into(),
            },
            "failed: interrupt indeterminate: a crash fell between",
        ),
        (
            EventBody::Notice {
                kind: "system".into(),
                text: "hi".into(),
            },
            "notice: system: hi",
        ),
        (
            EventBody::Gap {
                from_origin_seq: 3,
                to_origin_seq: 4,
                reason: "damaged".into(),
            },
            "gap: records 3 to 4 are missing: damaged",
        ),
        (
            EventBody::Ended {
                end: EndInfo {
                    reason: EndReason::Failed,
                    exit_code: Some(2),
                    signal: 0,
                    message: "it broke".into(),
                    stderr_tail: "bad\u{7}\n".into(),
                },
            },
            "ended: failed, exit code 2: it broke\nbad⟨07⟩",
        ),
    ]
}

fn event(body: EventBody) -> Event {
    let time = Timestamp::from_millis(1_795_235_696_123);
    let mut event = Event::new(SessionId::from_bits(2), Origin::Harness, time, body);
    event.seq = 12;
    event
}

#[test]
fn every_kind_reads_well() {
    let table = table();
    let kinds: Vec<EventKind> = table.iter().map(|(body, _)| body.kind()).collect();
    assert_eq!(kinds, EventKind::ALL, "one of each kind, in order");
    for (body, expected) in table {
        let words = words(&body);
        assert_eq!(format!("{}: {}", words.tag, words.text), expected);
    }
}

#[test]
fn every_kind_has_a_json_body_under_its_name() {
    for (body, _) in table() {
        let kind = body.kind().as_str();
        let value = json::event(&event(body));
        assert_eq!(value["type"], "event");
        assert_eq!(value["kind"], kind);
        assert_eq!(value["seq"], 12);
        assert_eq!(value["time"], "2026-11-21T04:34:56.123000Z");
        let body = value["body"].as_object().unwrap();
        assert!(!body.is_empty(), "{kind}");
        for name in body.keys() {
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
        }
    }
}

#[test]
fn json_says_it_in_words() {
    let (ended, _) = table().pop().unwrap();
    let value = json::event(&event(ended));
    assert_eq!(value["origin"], "harness");
    assert_eq!(value["body"]["end"]["reason"], "failed");
    assert_eq!(value["body"]["end"]["exit_code"], 2);
    let asked = json::event(&event(EventBody::PromptRequested {
        prompt: Box::new(prompt()),
    }));
    assert_eq!(asked["body"]["prompt"]["kind"], "permission");
    assert_eq!(asked["body"]["prompt"]["input"]["command"], "ls \u{202e}");
    let answered = json::event(&event(EventBody::PromptAnswered {
        prompt_id: PromptId::from_bits(1),
        answer: answer(),
    }));
    assert_eq!(
        answered["body"]["answer"]["decision"]["remember"],
        "session"
    );
    assert_eq!(answered["body"]["answer"]["by"]["name"], "ada");
}

#[test]
fn a_log_line_has_number_time_and_who() {
    let event = event(EventBody::Notice {
        kind: "k".into(),
        text: "a\nb".into(),
    })
    .by(actor());
    assert_eq!(
        log_line(&event, Style::new(false)),
        "   12 04:34:56 notice     k: a\n                          b (ada)"
    );
}

#[test]
fn large_content_shows_its_beginning_and_size() {
    let data = "x".repeat(5_000);
    let body = EventBody::ToolResult {
        call_id: "c".into(),
        blocks: vec![Block::Content(ContentRef::of(
            data.as_bytes(),
            "text/plain",
        ))],
        is_error: false,
    };
    let text = words(&body).text;
    assert!(text.contains("[4.9 KiB of text/plain, sha256 "), "{text}");
}
