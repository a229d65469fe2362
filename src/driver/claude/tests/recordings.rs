//! Sessions of the real program (2.1.329) against a stub model, interpreted from end to end.

use super::super::interpreter::ClaudeDriver;
use super::rig::*;
use crate::domain::event::Role;
use crate::domain::prompt::PromptKind;
use crate::domain::session::Activity;
use crate::domain::{Block, CommandOutcome, EventBody, InputState};
use crate::driver::{Driver, Output, RecordBody};

fn run(recording: &str) -> Vec<Output> {
    let mut driver = ClaudeDriver::new(place(), &start());
    let records = records(recording);
    records.iter().flat_map(|r| driver.record(r)).collect()
}

struct Turn {
    inputs: usize,
    is_error: bool,
    reason: String,
    api_status: u32,
}

/// The turns in order, each begun once and ended once.
fn turns(events: &[EventBody]) -> Vec<Turn> {
    let mut open = None;
    let mut turns = Vec::new();
    for event in events {
        match event {
            EventBody::TurnStarted { turn_id, .. } => {
                assert_eq!(open.replace(*turn_id), None, "a turn within a turn");
            }
            EventBody::TurnEnded {
                turn_id,
                is_error,
                reason,
                input_ids,
                api_status,
                ..
            } => {
                assert_eq!(open.take(), Some(*turn_id));
                turns.push(Turn {
                    inputs: input_ids.len(),
                    is_error: *is_error,
                    reason: reason.clone(),
                    api_status: *api_status,
                });
            }
            _ => {}
        }
    }
    assert_eq!(open, None);
    turns
}

fn inputs(events: &[EventBody], wanted: InputState) -> usize {
    let changes = events
        .iter()
        .filter(|event| matches!(event, EventBody::InputChanged { state, .. } if *state == wanted));
    changes.count()
}

#[test]
fn inputs_and_turns_are_matched_whatever_joins_waits_or_is_taken_back() {
    let outputs = run(TURNS);
    let events = events(&outputs);
    let turns = turns(&events);
    // One input joined a turn while its tool was asked about, and both are answered by one result.
    assert_eq!(turns.iter().filter(|turn| turn.inputs == 2).count(), 1);
    assert!(turns.iter().all(|turn| turn.inputs >= 1));
    // One of two that were queued while text streamed was cancelled: taken back, and never applied.
    assert_eq!(inputs(&events, InputState::Withdrawn), 1);
    let sent = TURNS
        .lines()
        .filter(|l| l.starts_with(r#"in {"type":"user""#))
        .count();
    assert_eq!(inputs(&events, InputState::Applied), sent - 1);
    assert_eq!(inputs(&events, InputState::Rejected), 0);
    // An interruption ends its turn as an error, and the next goes on.
    let aborted = turns
        .iter()
        .position(|turn| turn.reason == "aborted_streaming")
        .unwrap();
    assert!(turns[aborted].is_error && !turns[aborted + 1].is_error);
    // What the harness calls a success is an error when it says it is one.
    let refused = turns.iter().find(|turn| turn.api_status == 429).unwrap();
    assert!(refused.is_error && refused.reason == "api_error");
    // Nothing is said twice: an input's text is in the log already.
    assert!(!events.iter().any(|event| matches!(event,
        EventBody::Message { role: Role::User, blocks, .. }
            if blocks.iter().any(|b| matches!(b, Block::Text(text) if text.starts_with("say:"))))));
}

#[test]
fn commands_end_as_the_harness_answers_them() {
    let results = results(&run(TURNS));
    let outcomes: Vec<_> = results.iter().map(|result| result.outcome).collect();
    use CommandOutcome::{Applied, Rejected};
    // Cancelled; not found; interrupted; a model that could not be checked.
    assert_eq!(outcomes, [Applied, Rejected, Applied, Rejected]);
    assert!(results[3].reason.contains("Unable to validate model"));
}

#[test]
fn a_limit_is_told_with_its_retry_and_at_the_end() {
    let events = events(&run(TURNS));
    let limits: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            EventBody::RateLimited { until, .. } => Some(until.is_some()),
            _ => None,
        })
        .collect();
    assert_eq!(limits, [true, false]);
}

#[test]
fn usage_adds_up_over_a_conversation_that_is_cleared() {
    let events = events(&run(TURNS));
    let ended = events.iter().filter_map(|event| match event {
        EventBody::TurnEnded { usage, .. } => Some(*usage),
        _ => None,
    });
    let sum = ended.fold(Default::default(), |a: crate::domain::Usage, b| a.plus(b));
    let last = events.iter().rev().find_map(|event| match event {
        EventBody::UsageUpdated { total } => Some(*total),
        _ => None,
    });
    assert_eq!(last, Some(sum));
    // Every call of the stub reads 100 tokens.
    assert!(sum.input_tokens >= 1_500 && sum.input_tokens % 100 == 0);
    assert!(sum.cost_micro_usd > 9_000);
}

#[test]
fn the_conversation_id_is_told_when_it_changes() {
    let events = events(&run(TURNS));
    let told: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            EventBody::Started {
                provider_session_id,
                pid: 42,
                ..
            } => Some(provider_session_id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 3, "spawned, first turn, cleared: {told:?}");
    assert!(told[0].is_empty() && told[1] != told[2]);
}

#[test]
fn several_prompts_of_every_kind_are_asked_and_closed() {
    let outputs = run(PROMPTS);
    let events = events(&outputs);
    let asked = prompts(&events);
    let kinds: Vec<_> = asked.iter().map(|prompt| prompt.kind).collect();
    use PromptKind::{Permission, Plan, Question};
    assert_eq!(
        kinds,
        [
            Permission, Permission, Plan, Question, Permission, Permission
        ]
    );
    assert_eq!(asked[0].summary, "Read: /etc/hostname");
    assert!(
        asked[0]
            .reason
            .contains("outside allowed working directories")
    );
    assert_eq!(asked[0].suggestions.len(), 1);
    // The request for a plan is empty; the plan was in the call.
    assert_eq!(asked[2].plan, "# my plan");
    assert_eq!(asked[2].input.as_str(), "{}");
    let question = &asked[3].questions[0];
    assert!(question.multi_select && question.options.len() == 2);
    // The one that was open when the turn was interrupted is withdrawn, the others were answered.
    let withdrawn: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            EventBody::PromptWithdrawn { prompt_id, .. } => Some(*prompt_id),
            _ => None,
        })
        .collect();
    assert_eq!(withdrawn, [asked[4].id]);
    let ids: std::collections::BTreeSet<_> = asked.iter().map(|prompt| prompt.id).collect();
    assert_eq!(ids.len(), asked.len());
    assert!(writes(&outputs).is_empty());
}

#[test]
fn a_session_is_idle_only_when_its_background_tasks_are() {
    let events = events(&run(PROMPTS));
    let turns = turns(&events);
    // A finished command and a finished sub-agent each began a turn that nobody asked for.
    assert_eq!(turns.iter().filter(|turn| turn.inputs == 0).count(), 2);
    let mut last = Activity::Unknown;
    let mut tasks = 0;
    for event in &events {
        match event {
            EventBody::Notice { kind, text } if kind == "background_tasks_changed" => {
                tasks = text.split(' ').next().unwrap().parse().unwrap();
            }
            EventBody::ActivityChanged { activity, .. } => {
                assert_ne!(*activity, last, "told only when it changes");
                last = *activity;
                if last == Activity::AwaitingInput {
                    assert_eq!(tasks, 0);
                }
            }
            EventBody::TurnStarted { input_ids, .. } if input_ids.is_empty() => {
                assert_eq!(last, Activity::Working, "no idle moment before the report");
            }
            _ => {}
        }
    }
    assert_eq!(last, Activity::AwaitingInput);
}

#[test]
fn sub_agents_and_images_are_kept_apart() {
    let outputs = run(PROMPTS);
    assert!(events(&outputs).iter().any(|event| matches!(event,
        EventBody::Message { parent_call_id, .. } if !parent_call_id.is_empty())));
    let images = outputs.iter().filter(|output| {
        matches!(output, Output::Content(reference, data)
            if reference.media_type == "image/png" && data.len() as u64 == reference.size_bytes)
    });
    assert_eq!(images.count(), 1);
}

/// A driver taken over after any record goes on exactly as the one before it would have.
#[test]
fn a_take_over_at_any_record_changes_nothing() {
    for recording in [TURNS, PROMPTS] {
        let records = records(recording);
        let whole = |mut driver: ClaudeDriver, from: usize| -> Vec<Vec<Output>> {
            let rest = records[from..].iter();
            rest.map(|record| driver.record(record)).collect()
        };
        let expected = whole(ClaudeDriver::new(place(), &start()), 0);
        let mut driver = ClaudeDriver::new(place(), &start());
        for (at, record) in records.iter().enumerate() {
            driver.record(record);
            let snapshot = driver.snapshot();
            let later = ClaudeDriver::restore(place(), &snapshot).unwrap();
            assert_eq!(later.snapshot(), snapshot);
            // Going on to the end from every record is quadratic; the next ones show it.
            let until = (at + 41).min(records.len());
            let mut later = later;
            for next in at + 1..until {
                assert_eq!(later.record(&records[next]), expected[next], "{at} {next}");
            }
        }
        for at in (0..records.len()).step_by(37) {
            let mut driver = ClaudeDriver::new(place(), &start());
            records[..at].iter().for_each(|record| {
                driver.record(record);
            });
            let later = ClaudeDriver::restore(place(), &driver.snapshot()).unwrap();
            assert_eq!(whole(later, at), expected[at..]);
        }
    }
}

/// Lines cut into parts anywhere, with a take-over between the parts, give the same.
#[test]
fn a_line_in_parts_is_the_same_line() {
    for (at, line) in said(PROMPTS).into_iter().enumerate() {
        let cut = (at * 31) % line.len();
        let mut whole = ClaudeDriver::new(place(), &start());
        let mut parts = ClaudeDriver::new(place(), &start());
        let expected = whole.record(&record(2, stdout(line)));
        let first = RecordBody::Stdout {
            data: bytes::Bytes::copy_from_slice(&line.as_bytes()[..cut]),
            continues: true,
        };
        assert!(parts.record(&record(1, first)).is_empty());
        let mut parts = ClaudeDriver::restore(place(), &parts.snapshot()).unwrap();
        let rest = stdout(&line.as_bytes()[cut..]);
        assert_eq!(parts.record(&record(2, rest)), expected, "{line}");
    }
}
