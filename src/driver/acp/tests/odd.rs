//! Lines nobody meant to write: nothing panics, nothing is ever allowed, and memory stays bounded.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::rig::*;
use crate::driver::Driver;
use crate::driver::pieces::MAX_LINE_BYTES;

/// How many cases a property tries; `BATON_TEST_ROUNDS` multiplies it.
fn cases(few: u32) -> ProptestConfig {
    let rounds = std::env::var("BATON_TEST_ROUNDS");
    let rounds = rounds.ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    ProptestConfig {
        cases: few.saturating_mul(rounds),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn feed(lines: impl IntoIterator<Item = Vec<u8>>) {
    let mut rig = Rig::ready();
    rig.input("go");
    for line in lines {
        rig.feed(stdout(line));
    }
    rig.exits(Some(0));
    for sent in &rig.written {
        let outcome = &sent["result"]["outcome"]["outcome"];
        assert_ne!(outcome, "selected", "nobody answered: {sent}");
    }
}

/// Any JSON value, a little deep, with the words of the protocol in it.
fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "allow_once",
        "allow_always",
        "reject_once",
        "text",
        "content",
        "diff",
        "terminal",
        "execute",
        "edit",
        "read",
        "completed",
        "failed",
        "in_progress",
        "model",
        "select",
        CONVERSATION,
        "conv-2",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        words.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let keys = prop::sample::select(vec![
            "type",
            "content",
            "text",
            "toolCallId",
            "rawInput",
            "rawOutput",
            "title",
            "name",
            "kind",
            "status",
            "locations",
            "path",
            "oldText",
            "newText",
            "optionId",
            "options",
            "entries",
            "messageId",
            "data",
            "mimeType",
            "terminalId",
            "configOptions",
            "category",
            "id",
            "currentValue",
            "value",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..6).prop_map(|fields| {
                let fields = fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                Value::Object(fields.collect())
            }),
        ]
    })
}

/// A message with its right words at their places, or nearly so.
fn any_message() -> impl Strategy<Value = Value> {
    let update = (
        prop::sample::select(vec![
            "agent_message_chunk", "agent_thought_chunk", "user_message_chunk", "tool_call", "tool_call_update", "plan",
            "available_commands_update", "current_mode_update", "config_option_update", "session_info_update",
            "usage_update", "compaction_update", "nonsense",
        ]),
        any_json(),
    )
        .prop_map(|(kind, body)| {
            let mut update = match body {
                Value::Object(fields) => fields,
                other => [("content".to_owned(), other)].into_iter().collect(),
            };
            update.insert("sessionUpdate".to_owned(), Value::from(kind));
            update.entry("toolCallId").or_insert_with(|| Value::from("call"));
            update.entry("title").or_insert_with(|| Value::from("t"));
            json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": CONVERSATION, "update": update}})
        });
    let request = (any_json(), any_json(), any_json()).prop_map(|(id, call, options)| {
        let mut call = match call {
            Value::Object(fields) => fields,
            _ => Default::default(),
        };
        call.insert("toolCallId".to_owned(), Value::from("call"));
        let options = match options {
            Value::Array(options) => options,
            _ => vec![json!({"optionId": "y", "name": "Yes", "kind": "allow_once"})],
        };
        json!({"jsonrpc": "2.0", "id": id, "method": "session/request_permission", "params": {
            "sessionId": CONVERSATION, "toolCall": call, "options": options,
        }})
    });
    let other = (
        any_json(),
        prop::sample::select(vec![
            "session/update",
            "session/request_permission",
            "fs/read_text_file",
            "$/cancel_request",
            "terminal/create",
            "x",
        ]),
        any_json(),
    )
        .prop_map(|(id, method, params)| json!({"id": id, "method": method, "params": params}));
    let answer = (
        prop::sample::select(vec![
            "drv-initialize",
            "drv-session-1",
            "drv-session-2",
            "drv-mode-1-0",
            "drv-model-1",
            "cmd_x",
            "x",
        ]),
        any_json(),
        any::<bool>(),
    )
        .prop_map(|(id, body, is_error)| match is_error {
            true => json!({"id": id, "error": body}),
            false => json!({"id": id, "result": body}),
        });
    prop_oneof![4 => update, 2 => request, 1 => other, 1 => answer, 1 => any_json()]
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn no_bytes_do_harm(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8)) {
        feed(lines);
    }

    #[test]
    fn no_message_does_harm(messages in prop::collection::vec(any_message(), 0..12)) {
        feed(messages.into_iter().map(|message| message.to_string().into_bytes()));
    }

    #[test]
    fn no_beginning_does_harm(first in any_json(), second in any_json(), messages in prop::collection::vec(any_message(), 0..4)) {
        let mut rig = Rig::of(&start());
        rig.answers("drv-initialize", first);
        rig.initialized(json!({}));
        rig.answers("drv-session-1", second);
        rig.input("go");
        for message in messages {
            rig.says(message);
        }
    }

    #[test]
    fn a_line_in_parts_is_the_line(cut in 0..400_usize) {
        let line = json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": CONVERSATION,
            "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "é".repeat(80)}}}});
        let bytes = line.to_string().into_bytes();
        let (now, later) = bytes.split_at(cut.min(bytes.len()));
        let mut rig = Rig::ready();
        rig.input("go");
        rig.feed(crate::driver::RecordBody::Stdout { data: now.to_vec().into(), continues: true });
        rig.feed(stdout(later));
        rig.ends("end_turn");
        let said = format!("Agent: {}", "é".repeat(80));
        prop_assert!(rig.told().contains(&said));
    }
}

#[test]
fn hostile_lines_are_kept_and_shown() {
    let mut rig = Rig::ready();
    rig.input("go");
    for line in [
        "no JSON",
        "[1,2]",
        "{}",
        r#"{"method":""}"#,
        r#"{"id":{"a":1},"method":"session/request_permission","params":{}}"#,
        r#"{"id":null,"method":"x"}"#,
        r#"{"id":1,"method":"session/request_permission"}"#,
        r#"{"method":"session/update","params":{"sessionId":"other","update":{"sessionUpdate":"plan","entries":[]}}}"#,
        r#"{"method":"session/update","params":{"sessionId":"conv-1","update":{"sessionUpdate":"from_the_future","x":1}}}"#,
        r#"{"id":"drv-prompt-of-another","result":{"stopReason":"end_turn"}}"#,
    ] {
        let before = rig.told().len();
        rig.line(line);
        let told = rig.told();
        let new = &told[before..];
        assert!(
            new.iter().any(|word| word.starts_with("notice")),
            "{line}: {new:?}"
        );
    }
    let future = rig
        .told()
        .into_iter()
        .find(|word| word.contains("from_the_future"));
    assert!(future.is_some());
    // Half an emoji, as a program splits it that counts in UTF-16.
    rig.line(r#"{"method":"session/update","params":{"sessionId":"conv-1","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"a\ud83d"}}}}"#);
    rig.ends("end_turn");
    assert!(
        rig.told().contains(&"Agent: a\u{fffd}".to_owned()),
        "{:#?}",
        rig.told()
    );
}

#[test]
fn a_line_too_long_is_kept_as_content_and_the_next_one_read() {
    let mut rig = Rig::ready();
    rig.input("go");
    rig.feed(stdout(vec![b'x'; MAX_LINE_BYTES + 1]));
    rig.chunk("agent_message_chunk", "after");
    rig.ends("end_turn");
    let told = rig.told();
    assert_eq!(
        told.iter()
            .filter(|word| word.starts_with("notice oversize_line"))
            .count(),
        2,
        "{told:#?}"
    );
    assert!(told.contains(&"Agent: after".to_owned()));
}

#[test]
fn a_flood_of_questions_and_calls_is_bounded() {
    let mut rig = Rig::ready();
    rig.restarts = false;
    rig.input("go");
    for id in 0..400 {
        rig.asks(id, "one");
    }
    let refused = rig
        .written
        .iter()
        .filter(|sent| sent["error"]["code"] == -32602)
        .count();
    assert_eq!(refused, 400 - super::super::state::MAX_OPEN);
    for n in 0..200 {
        rig.update(
            json!({"sessionUpdate": "tool_call", "toolCallId": format!("c{n}"), "title": "t",
            "rawInput": {"x": "y".repeat(60_000)}}),
        );
    }
    assert!(
        rig.driver.snapshot().len() < 8 * 1024 * 1024,
        "{}",
        rig.driver.snapshot().len()
    );
}
