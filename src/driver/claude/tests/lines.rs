//! One kind of line at a time.

use bytes::Bytes;

use super::rig::*;
use crate::base::Timestamp;
use crate::base::id::InputId;
use crate::domain::content::{MAX_EVENT_BYTES, MAX_INLINE_TEXT_BYTES};
use crate::domain::event::{Role, TransientBody};
use crate::domain::session::Activity;
use crate::domain::{Block, CommandBody, EventBody};
use crate::driver::pieces::MAX_LINE_BYTES;
use crate::driver::{Output, RecordBody, WriteOutcome};

fn kinds(events: &[EventBody]) -> Vec<&'static str> {
    events.iter().map(|event| event.kind().as_str()).collect()
}

#[test]
fn every_kind_of_line_becomes_what_it_says() {
    for (line, expected) in [
        (
            r#"{"type":"system","subtype":"compact_boundary","compact_metadata":{}}"#,
            &["notice"][..],
        ),
        (r#"{"type":"system","subtype":"hook_started"}"#, &["notice"]),
        (
            r#"{"type":"system","subtype":"informational","content":"x"}"#,
            &["notice"],
        ),
        (
            r#"{"type":"system","subtype":"status","status":"compacting"}"#,
            &["notice"],
        ),
        (
            r#"{"type":"system","subtype":"status","status":"requesting"}"#,
            &[],
        ),
        (r#"{"type":"system","subtype":"thinking_tokens"}"#, &[]),
        (r#"{"type":"system","subtype":"no_such"}"#, &["notice"]),
        (r#"{"type":"system"}"#, &["notice"]),
        (r#"{"type":"no_such_type"}"#, &["notice"]),
        (r#"{"no":"type"}"#, &["notice"]),
        (r#"{"type":"keep_alive"}"#, &[]),
        (
            r#"{"type":"control_cancel_request","request_id":"unknown"}"#,
            &[],
        ),
        (
            r#"{"type":"control_response","response":{"subtype":"success","request_id":"x"}}"#,
            &[],
        ),
        (r#"{"type":"control_response"}"#, &["notice"]),
        (
            r#"{"type":"system","subtype":"api_retry","error_status":529,"error":"overloaded"}"#,
            &["notice"],
        ),
        (
            r#"{"type":"system","subtype":"api_retry","error_status":429,"retry_delay_ms":500}"#,
            &["rate_limited"],
        ),
        (
            r#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed_warning"}}"#,
            &["notice"],
        ),
        (
            r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795247200}}"#,
            &["rate_limited"],
        ),
        (
            r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","isUsingOverage":true}}"#,
            &["notice"],
        ),
        (
            r#"{"type":"command_lifecycle","command_uuid":"x","state":"started"}"#,
            &["notice"],
        ),
        (
            r#"{"type":"assistant","parent_tool_use_id":"t","message":{"content":[{"type":"text","text":"a"}]}}"#,
            &["message"],
        ),
        (
            r#"{"type":"assistant","parent_tool_use_id":"t","message":{"content":[{"type":"later_kind"}]}}"#,
            &["notice"],
        ),
        (
            r#"{"type":"assistant","parent_tool_use_id":"t","message":{"content":[{"type":"thinking","thinking":""}]}}"#,
            &[],
        ),
        (
            r#"{"type":"assistant","message":{"content":"x"}}"#,
            &["turn_started", "message", "activity_changed"],
        ),
        (
            r#"{"type":"user","message":{"content":"x"},"isSynthetic":true}"#,
            &["message"],
        ),
        (
            r#"{"type":"user","message":{"content":"x"},"isReplay":true}"#,
            &[],
        ),
        (
            r#"{"type":"user","isReplay":true,"message":{"content":"<local-command-stdout>x"}}"#,
            &["notice"],
        ),
        (
            r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":"r"}]}}"#,
            &["tool_result"],
        ),
        (
            r#"{"type":"system","subtype":"init","session_id":"s"}"#,
            &["started", "turn_started", "activity_changed"],
        ),
        (
            r#"{"type":"result","is_error":true,"errors":["No conversation found"]}"#,
            &[
                "turn_started",
                "turn_ended",
                "usage_updated",
                "activity_changed",
            ],
        ),
        ("plain text", &["notice"]),
        ("[1,2]", &["notice"]),
        ("  ", &[]),
    ] {
        let mut rig = Rig::new();
        let events = rig.events(line);
        assert_eq!(kinds(&events), expected, "{line}");
        for event in events {
            if let EventBody::Notice { kind, .. } = event {
                assert!(!kind.is_empty(), "{line}");
            }
        }
    }
}

#[test]
fn a_notice_keeps_what_was_written() {
    let line = r#"{"type":"system","subtype":"hook_response","outcome":"ok","n":1.50}"#;
    let outputs = Rig::new().line(line);
    let Output::Event(draft) = &outputs[0] else {
        panic!("{outputs:?}");
    };
    assert_eq!(draft.raw.as_ref().unwrap().as_str(), line);
}

#[test]
fn the_time_a_provider_names_is_told() {
    let mut rig = Rig::new();
    let line = r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795247200,"rateLimitType":"five_hour"}}"#;
    let until = |events: &[EventBody]| {
        events.iter().find_map(|event| match event {
            EventBody::RateLimited { until, .. } => Some(*until),
            _ => None,
        })
    };
    let at = Some(Some(Timestamp::from_millis(1_795_247_200_000)));
    assert_eq!(until(&rig.events(line)), at);
    let line = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":429,"result":"no"}"#;
    assert_eq!(until(&rig.events(line)), at, "the result repeats it");
    let line = r#"{"type":"result","is_error":true,"result":"usage limit reached|1795247200"}"#;
    assert_eq!(until(&Rig::new().events(line)), at);
    let line = r#"{"type":"result","is_error":false,"result":"limit reached|1795247200"}"#;
    assert_eq!(
        until(&Rig::new().events(line)),
        None,
        "an agent that talks of it"
    );
}

#[test]
fn an_error_is_believed_and_not_the_subtype() {
    let line = r#"{"is_error":true,"subtype":"success","api_error_status":529,"terminal_reason":"api_error","duration_ms":1500,"result":"API Error","type":"result"}"#;
    let events = Rig::new().events(line);
    assert!(events.iter().any(|event| matches!(event,
        EventBody::TurnEnded { is_error: true, reason, api_status: 529, duration, text, .. }
            if reason == "api_error" && duration.as_millis() == 1_500 && text == "API Error")));
}

#[test]
fn a_megabyte_of_text_arrives_whole_and_beside_the_event() {
    let text = "wörter ".repeat(150_000);
    let json = serde_json::to_string(&text).unwrap();
    for line in [
        format!(
            r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"t","content":{json}}}]}}}}"#
        ),
        format!(
            r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"t","content":[{{"type":"text","text":{json}}}]}}]}}}}"#
        ),
        format!(
            r#"{{"type":"assistant","message":{{"id":"m","content":[{{"type":"text","text":{json}}}]}}}}"#
        ),
    ] {
        let outputs = Rig::new().line(&line);
        let whole = outputs.iter().find_map(|output| match output {
            Output::Content(reference, data) => Some((reference, data)),
            _ => None,
        });
        let (reference, data) = whole.unwrap();
        assert_eq!(&data[..], text.as_bytes());
        let events = events(&outputs);
        assert!(events.iter().any(|event| matches!(event,
            EventBody::ToolResult { blocks, .. } | EventBody::Message { blocks, .. }
                if *blocks == [Block::Content(reference.clone())])));
        assert!(format!("{events:?}").len() < MAX_EVENT_BYTES);
    }
}

#[test]
fn many_blocks_stay_within_an_event() {
    let block = format!(
        r#"{{"type":"text","text":"{}"}}"#,
        "x".repeat(MAX_INLINE_TEXT_BYTES - 10)
    );
    let blocks = vec![block; 9].join(",");
    let line = format!(
        r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"t","content":[{blocks}]}}]}}}}"#
    );
    let events = Rig::new().events(&line);
    assert!(format!("{events:?}").len() < MAX_EVENT_BYTES);
    assert!(matches!(&events[0], EventBody::ToolResult { blocks, .. } if blocks.len() == 9));
}

#[test]
fn a_large_input_of_a_tool_is_beside_its_call() {
    let input = format!(r#"{{"content": "{}"}}"#, "y".repeat(200_000));
    let line = format!(
        r#"{{"type":"assistant","parent_tool_use_id":"p","message":{{"content":[{{"type":"tool_use","id":"c","name":"Write","input":{input}}}]}}}}"#
    );
    let outputs = Rig::new().line(&line);
    assert!(matches!(&outputs[0], Output::Content(_, data) if data == input.as_bytes()));
    assert!(events(&outputs).iter().any(|event| matches!(event,
        EventBody::ToolCall { input: None, content: Some(_), parent_call_id, .. } if parent_call_id == "p")));
}

#[test]
fn a_list_of_things_to_do_is_a_plan() {
    let line = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"c","name":"TodoWrite","input":{"todos":[{"content":"one","status":"in_progress"},{"content":"two","status":"odd"},7]}}]}}"#;
    let events = Rig::new().events(line);
    assert!(events.iter().any(|event| matches!(event,
        EventBody::PlanUpdated { items }
            if items.len() == 2 && items[0].status == "in_progress" && items[1].status == "pending")));
}

#[test]
fn text_is_live_while_it_is_written() {
    let mut rig = Rig::new();
    let mut deltas = Vec::new();
    for event in [
        r#"{"type":"message_start","message":{"id":"m1"}}"#,
        r#"{"type":"content_block_start","index":0}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_start","index":1}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"zwö"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"lf"}}"#,
        r#"{"type":"message_stop"}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"late"}}"#,
    ] {
        let line = format!(r#"{{"type":"stream_event","event":{event}}}"#);
        for output in rig.line(&line) {
            if let Output::Transient(TransientBody::MessageDelta {
                message_id,
                block,
                offset,
                text,
                thinking,
            }) = output
            {
                assert_eq!(message_id, "m1");
                deltas.push((block, offset, text, thinking));
            }
        }
    }
    let expected = [
        (0, 0, "hm", true),
        (1, 0, "zwö", false),
        (1, 4, "lf", false),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(block, offset, text, thinking)| (block, offset, text.to_owned(), thinking))
        .collect();
    assert_eq!(deltas, expected);
}

#[test]
fn what_the_harness_says_in_the_agents_place_is_not_the_agents() {
    let line = r#"{"type":"assistant","message":{"model":"<synthetic>","content":[{"type":"text","text":"API Error"}]}}"#;
    let events = Rig::new().events(line);
    assert!(events.iter().any(|event| matches!(
        event,
        EventBody::Message {
            role: Role::System,
            ..
        }
    )));
}

#[test]
fn a_line_beyond_the_bound_is_kept_piece_by_piece() {
    let mut rig = Rig::new();
    let part = Bytes::from(vec![b'x'; 3 * 1024 * 1024]);
    let mut kept = 0;
    let mut fed = 0;
    for n in 0..9 {
        fed += part.len();
        for output in rig.feed(RecordBody::Stdout {
            data: part.clone(),
            continues: n < 8,
        }) {
            if let Output::Content(_, data) = output {
                assert!(data.len() <= MAX_LINE_BYTES);
                kept += data.len();
            }
        }
    }
    assert_eq!(kept, fed);
    // The next line is read as ever.
    assert_eq!(
        kinds(&rig.events(r#"{"type":"user","message":{"content":"x"}}"#)),
        ["message"]
    );
}

#[test]
fn standard_error_is_text_even_when_it_is_not() {
    let mut rig = Rig::new();
    let mut feed = |data: &[u8], continues| {
        let data = Bytes::copy_from_slice(data);
        events(&rig.feed(RecordBody::Stderr { data, continues }))
    };
    let text = |events: &[EventBody]| match events {
        [EventBody::Stderr { text, continues }] => (text.clone(), *continues),
        other => panic!("{other:?}"),
    };
    assert_eq!(text(&feed(b"caf\xc3", true)), ("caf".to_owned(), true));
    assert_eq!(text(&feed(b"\xa9!", false)), ("é!".to_owned(), false));
    assert_eq!(text(&feed(b"\xff", false)), ("\u{fffd}".to_owned(), false));
    let pieces = feed(&vec![b'z'; MAX_INLINE_TEXT_BYTES * 2 + 1], false);
    assert_eq!(pieces.len(), 3);
}

#[test]
fn an_end_leaves_nothing_open() {
    let mut rig = Rig::new();
    rig.events(r#"{"type":"assistant","message":{"content":"x"}}"#);
    rig.ask("k");
    let events = events(&rig.exit(Some(1)));
    assert_eq!(kinds(&events), ["prompt_withdrawn", "turn_ended"]);
    assert!(rig.exit(Some(1)).is_empty());
}

#[test]
fn a_gap_is_told_and_cuts_the_line_before_it() {
    let mut rig = Rig::new();
    rig.feed(RecordBody::Stdout {
        data: Bytes::from_static(b"{\"type\":"),
        continues: true,
    });
    let gap = RecordBody::Missing {
        from: 3,
        to: 9,
        reason: "damaged".to_owned(),
    };
    assert_eq!(kinds(&events(&rig.feed(gap))), ["notice", "gap"]);
    assert_eq!(
        kinds(&rig.events(r#"{"type":"user","message":{"content":"x"}}"#)),
        ["message"]
    );
}

/// The activities among events, in order.
fn activities(events: &[EventBody]) -> Vec<Activity> {
    let activities = events.iter().filter_map(|event| match event {
        EventBody::ActivityChanged { activity, .. } => Some(*activity),
        _ => None,
    });
    activities.collect()
}

#[test]
fn it_does_not_wait_for_input_that_is_in_its_pipe() {
    let ready = r#"{"type":"control_response","response":{"subtype":"success","request_id":"drv-init-0","response":{},"pending_permission_requests":[]}}"#;
    let mut rig = Rig::new();
    let id = InputId::from_bits(9);
    let input = CommandBody::Input {
        input_id: id,
        text: "go".to_owned(),
        steer: false,
    };
    let write = write_of(rig.command(1, input).unwrap());
    let written = events(&rig.written(&write, WriteOutcome::Done));
    assert_eq!(activities(&written), [Activity::Working]);
    assert_eq!(activities(&rig.events(ready)), []);
    // One that tells no lifecycle of its inputs is idle again after its turn.
    let result = r#"{"type":"result","subtype":"success","is_error":false,"result":"x"}"#;
    assert_eq!(activities(&rig.events(result)), [Activity::AwaitingInput]);
}

#[test]
fn it_is_idle_once_it_has_answered() {
    let mut rig = Rig::new();
    let line = r#"{"type":"control_response","response":{"subtype":"success","request_id":"drv-init-0","response":{},"pending_permission_requests":[]}}"#;
    assert!(matches!(
        rig.events(line)[..],
        [EventBody::ActivityChanged {
            activity: Activity::AwaitingInput,
            confidence: 100,
            ..
        }]
    ));
}
