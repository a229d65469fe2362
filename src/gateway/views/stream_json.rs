//! Events in the shape of Claude Code's stream-json, whatever harness they come from.
//!
//! Every message carries `index`, the event's seq, so that a reader knows where it is. A message borrows what its event
//! has and is written from there: a replay writes one for every event, so that no tree of values is made of it first.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Large, large};
use crate::base::id::InputId;
use crate::domain::content::Block;
use crate::domain::event::{PlanItem, Role};
use crate::domain::{Event, EventBody, Usage};

/// An event as a message of the transcript: a JSON object, as serde writes it.
#[derive(Serialize)]
pub struct Message<'a> {
    #[serde(flatten)]
    body: Body<'a>,
    /// The event's seq.
    index: u64,
}

/// The event as a message; `None` for what the transcript does not show.
pub fn message(event: &Event) -> Option<Message<'_>> {
    let body = body(&event.body)?;
    let index = event.seq;
    Some(Message { body, index })
}

/// Messages by their type. A field that one of a type has and another has not is absent there, and not null.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Body<'a> {
    Assistant {
        message: Said<'a>,
        parent_tool_use_id: Option<&'a str>,
    },
    User {
        message: Said<'a>,
        parent_tool_use_id: Option<&'a str>,
    },
    /// What a person put in.
    #[serde(rename = "user")]
    Input {
        uuid: InputId,
        message: Said<'a>,
    },
    /// What a tool answered.
    #[serde(rename = "user")]
    Answer {
        message: Said<'a>,
    },
    Result {
        subtype: &'static str,
        is_error: bool,
        reason: &'a str,
        result: &'a str,
        duration_ms: u64,
        total_cost_usd: f64,
        usage: Consumed,
    },
    System(System<'a>),
}

/// Messages of the type `system` by their subtype.
#[derive(Serialize)]
#[serde(tag = "subtype", rename_all = "snake_case")]
enum System<'a> {
    Init {
        session_id: &'a str,
        model: &'a str,
        cwd: &'a str,
        tools: &'a [String],
    },
    Message {
        content: Blocks<'a>,
    },
    Stderr {
        text: &'a str,
    },
    Plan {
        items: Vec<Item<'a>>,
    },
    RateLimited {
        until: Option<String>,
        text: &'a str,
    },
    Gap {
        from: u64,
        to: u64,
        text: &'a str,
    },
    CommandFailed {
        command: &'a str,
        text: &'a str,
    },
    /// The subtype is the harness's own word.
    #[serde(untagged)]
    Notice {
        subtype: &'a str,
        text: &'a str,
    },
}

/// What somebody said.
#[derive(Serialize)]
struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    role: &'static str,
    content: Content<'a>,
}

impl<'a> Said<'a> {
    fn one(role: &'static str, part: Part<'a>) -> Self {
        Said {
            id: None,
            role,
            content: Content::One([part]),
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Blocks(Blocks<'a>),
    One([Part<'a>; 1]),
}

/// Blocks as the parts that they are shown as.
struct Blocks<'a>(&'a [Block]);

impl Serialize for Blocks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Part::of))
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text {
        text: &'a str,
    },
    Thinking {
        thinking: &'a str,
    },
    /// Readers that know text only see its beginning and its end.
    #[serde(rename = "text")]
    Large {
        text: String,
        content: Large<'a>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Input<'a>,
    },
    ToolResult {
        tool_use_id: &'a str,
        is_error: bool,
        content: Blocks<'a>,
    },
}

impl<'a> Part<'a> {
    fn of(block: &'a Block) -> Self {
        match block {
            Block::Text(text) => Part::Text { text },
            Block::Thinking(thinking) => Part::Thinking { thinking },
            Block::Content(content) => Part::Large {
                text: format!(
                    "{}\n[… {} bytes of {} …]\n{}",
                    content.head, content.size_bytes, content.media_type, content.tail
                ),
                content: large(content),
            },
        }
    }
}

/// What a tool is called with.
#[derive(Serialize)]
#[serde(untagged)]
enum Input<'a> {
    Text(&'a RawValue),
    Large(Large<'a>),
    Nothing {},
}

#[derive(Serialize)]
struct Item<'a> {
    content: &'a str,
    status: &'a str,
}

#[derive(Serialize)]
struct Consumed {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation_input_tokens: u64,
}

fn body(body: &EventBody) -> Option<Body<'_>> {
    Some(match body {
        EventBody::Started {
            provider_session_id,
            model,
            cwd,
            tools,
            ..
        } => Body::System(System::Init {
            session_id: provider_session_id,
            model,
            cwd,
            tools,
        }),
        EventBody::InputAccepted { input_id, text, .. } => Body::Input {
            uuid: *input_id,
            message: Said::one("user", Part::Text { text }),
        },
        EventBody::Message {
            role,
            blocks,
            message_id,
            parent_call_id,
        } => said(*role, blocks, message_id, parent_call_id),
        EventBody::ToolCall {
            call_id,
            tool,
            input,
            content,
            parent_call_id,
        } => {
            let part = Part::ToolUse {
                id: call_id,
                name: tool,
                input: match (input, content) {
                    (Some(input), _) => Input::Text(input.as_raw()),
                    (None, Some(content)) => Input::Large(large(content)),
                    (None, None) => Input::Nothing {},
                },
            };
            Body::Assistant {
                message: Said::one("assistant", part),
                parent_tool_use_id: parent(parent_call_id),
            }
        }
        EventBody::ToolResult {
            call_id,
            blocks,
            is_error,
        } => {
            let part = Part::ToolResult {
                tool_use_id: call_id,
                is_error: *is_error,
                content: Blocks(blocks),
            };
            let message = Said::one("user", part);
            Body::Answer { message }
        }
        EventBody::TurnEnded {
            is_error,
            reason,
            text,
            usage,
            duration,
            ..
        } => Body::Result {
            subtype: match is_error {
                true => "error_during_execution",
                false => "success",
            },
            is_error: *is_error,
            reason,
            result: text,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            total_cost_usd: usage.cost_micro_usd as f64 / 1e6,
            usage: consumed(usage),
        },
        EventBody::Output { text, .. } => Body::Assistant {
            message: Said::one("assistant", Part::Text { text }),
            parent_tool_use_id: None,
        },
        EventBody::Stderr { text, .. } => Body::System(System::Stderr { text }),
        EventBody::PlanUpdated { items } => {
            let items = items.iter().map(item).collect();
            Body::System(System::Plan { items })
        }
        EventBody::RateLimited { until, message } => Body::System(System::RateLimited {
            until: until.map(super::iso),
            text: message,
        }),
        EventBody::Notice { kind, text } => Body::System(System::Notice {
            subtype: kind,
            text,
        }),
        EventBody::Gap {
            from_origin_seq,
            to_origin_seq,
            reason,
        } => Body::System(System::Gap {
            from: *from_origin_seq,
            to: *to_origin_seq,
            text: reason,
        }),
        EventBody::CommandFailed {
            command, reason, ..
        } => Body::System(System::CommandFailed {
            command,
            text: reason,
        }),
        _ => return None,
    })
}

fn said<'a>(
    role: Role,
    blocks: &'a [Block],
    message_id: &'a str,
    parent_call_id: &'a str,
) -> Body<'a> {
    let blocks = Blocks(blocks);
    match role {
        Role::System => Body::System(System::Message { content: blocks }),
        Role::Agent => Body::Assistant {
            message: Said {
                id: Some(message_id),
                role: "assistant",
                content: Content::Blocks(blocks),
            },
            parent_tool_use_id: parent(parent_call_id),
        },
        Role::User => Body::User {
            message: Said {
                id: None,
                role: "user",
                content: Content::Blocks(blocks),
            },
            parent_tool_use_id: parent(parent_call_id),
        },
    }
}

fn parent(call_id: &str) -> Option<&str> {
    (!call_id.is_empty()).then_some(call_id)
}

fn item(item: &PlanItem) -> Item<'_> {
    Item {
        content: &item.text,
        status: &item.status,
    }
}

fn consumed(usage: &Usage) -> Consumed {
    Consumed {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cache_read_input_tokens: usage.cache_read_tokens,
        cache_creation_input_tokens: usage.cache_write_tokens,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::base::id::{CommandId, SessionId, TurnId};
    use crate::base::{Json, Timestamp};
    use crate::domain::command::CommandOutcome;
    use crate::domain::event::Origin;
    use crate::domain::{ContentRef, Delivery, EventKind};

    /// What a writer gets wrong: quotes, a backslash, control characters, what JavaScript takes for line ends, and
    /// characters of two to four bytes.
    const ODD: &str = "\"q\" \\ \u{0}\u{8}\t\r\n\u{1f}\u{7f} \u{2028} é → 🦀\u{10ffff}";

    fn odd() -> String {
        ODD.to_owned()
    }

    fn event(body: EventBody) -> Event {
        let id = SessionId::new(Timestamp::EPOCH, 1);
        let mut event = Event::new(id, Origin::Harness, Timestamp::EPOCH, body);
        event.seq = 7;
        event
    }

    /// The message as a reader reads it, from the text that is written.
    fn read(body: EventBody) -> Value {
        let event = event(body);
        let text = serde_json::to_string(&message(&event).unwrap()).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|problem| panic!("{problem}: {text}"))
    }

    fn reference() -> (ContentRef, Value) {
        let content = ContentRef {
            sha256: "ab".repeat(32),
            size_bytes: 70_000,
            media_type: "text/plain".to_owned(),
            head: odd(),
            tail: "end".to_owned(),
        };
        let shown = json!({
            "sha256": "ab".repeat(32), "size_bytes": 70_000, "media_type": "text/plain",
            "head": ODD, "tail": "end",
        });
        (content, shown)
    }

    fn said(role: Role, parent_call_id: &str) -> EventBody {
        EventBody::Message {
            role,
            blocks: vec![
                Block::Text(odd()),
                Block::Thinking(odd()),
                Block::Content(reference().0),
            ],
            message_id: "m\"1".to_owned(),
            parent_call_id: parent_call_id.to_owned(),
        }
    }

    fn parts() -> Value {
        let text = format!("{ODD}\n[… 70000 bytes of text/plain …]\nend");
        json!([
            { "type": "text", "text": ODD },
            { "type": "thinking", "thinking": ODD },
            { "type": "text", "text": text, "content": reference().1 },
        ])
    }

    fn call(input: Option<&str>, content: Option<ContentRef>, parent_call_id: &str) -> EventBody {
        EventBody::ToolCall {
            call_id: "c\"1".to_owned(),
            tool: odd(),
            input: input.map(|text| Json::parse("input", text, 1 << 20).unwrap()),
            content,
            parent_call_id: parent_call_id.to_owned(),
        }
    }

    fn called(input: Value, parent: Value) -> Value {
        json!({
            "type": "assistant",
            "message": { "role": "assistant", "content": [
                { "type": "tool_use", "id": "c\"1", "name": ODD, "input": input }
            ]},
            "parent_tool_use_id": parent,
            "index": 7,
        })
    }

    fn ended(is_error: bool, duration: Duration) -> EventBody {
        EventBody::TurnEnded {
            turn_id: TurnId::from_bits(1),
            is_error,
            reason: odd(),
            text: odd(),
            usage: Usage {
                input_tokens: u64::MAX,
                output_tokens: 2,
                cache_read_tokens: 3,
                cache_write_tokens: 4,
                cost_micro_usd: 1_234_567,
            },
            duration,
            input_ids: vec![InputId::from_bits(1)],
            api_status: 529,
        }
    }

    /// Every kind that has a message, and what is written of it.
    fn table() -> Vec<(EventBody, Value)> {
        let text =
            |role: &str| json!({ "role": role, "content": [{ "type": "text", "text": ODD }] });
        let usage = json!({
            "input_tokens": u64::MAX, "output_tokens": 2,
            "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4,
        });
        let input_id = InputId::from_bits(0x0123_4567);
        vec![
            (
                EventBody::Started {
                    provider_session_id: odd(),
                    model: "m".to_owned(),
                    cwd: "/a \"b\"".to_owned(),
                    tools: vec![odd(), "Bash".to_owned()],
                    pid: 9,
                    version: "1".to_owned(),
                },
                json!({
                    "type": "system", "subtype": "init", "session_id": ODD, "model": "m",
                    "cwd": "/a \"b\"", "tools": [ODD, "Bash"], "index": 7,
                }),
            ),
            (
                EventBody::InputAccepted {
                    input_id,
                    text: odd(),
                    delivery: Delivery::Queue,
                },
                json!({
                    "type": "user", "uuid": input_id.to_string(), "message": text("user"), "index": 7,
                }),
            ),
            (
                said(Role::Agent, ""),
                json!({
                    "type": "assistant",
                    "message": { "id": "m\"1", "role": "assistant", "content": parts() },
                    "parent_tool_use_id": null, "index": 7,
                }),
            ),
            (
                said(Role::User, ODD),
                json!({
                    "type": "user", "message": { "role": "user", "content": parts() },
                    "parent_tool_use_id": ODD, "index": 7,
                }),
            ),
            (
                said(Role::System, "c0"),
                json!({ "type": "system", "subtype": "message", "content": parts(), "index": 7 }),
            ),
            (
                call(Some(r#" { "command" : "ls" }"#), None, ""),
                called(json!({ "command": "ls" }), Value::Null),
            ),
            (
                call(None, Some(reference().0), "c0"),
                called(reference().1, json!("c0")),
            ),
            (call(None, None, ODD), called(json!({}), json!(ODD))),
            (
                EventBody::ToolResult {
                    call_id: odd(),
                    blocks: vec![Block::Text(odd()), Block::Content(reference().0)],
                    is_error: true,
                },
                json!({
                    "type": "user",
                    "message": { "role": "user", "content": [{
                        "type": "tool_result", "tool_use_id": ODD, "is_error": true,
                        "content": [parts()[0], parts()[2]],
                    }]},
                    "index": 7,
                }),
            ),
            (
                ended(false, Duration::from_micros(1_500_999)),
                json!({
                    "type": "result", "subtype": "success", "is_error": false, "reason": ODD, "result": ODD,
                    "duration_ms": 1_500, "total_cost_usd": 1.234567, "usage": usage, "index": 7,
                }),
            ),
            (
                ended(true, Duration::MAX),
                json!({
                    "type": "result", "subtype": "error_during_execution", "is_error": true, "reason": ODD,
                    "result": ODD, "duration_ms": u64::MAX, "total_cost_usd": 1.234567, "usage": usage,
                    "index": 7,
                }),
            ),
            (
                EventBody::PlanUpdated {
                    items: vec![PlanItem {
                        text: odd(),
                        status: "pending".to_owned(),
                    }],
                },
                json!({
                    "type": "system", "subtype": "plan",
                    "items": [{ "content": ODD, "status": "pending" }], "index": 7,
                }),
            ),
            (
                EventBody::Output {
                    text: odd(),
                    continues: true,
                },
                json!({
                    "type": "assistant", "message": text("assistant"), "parent_tool_use_id": null,
                    "index": 7,
                }),
            ),
            (
                EventBody::Stderr {
                    text: odd(),
                    continues: false,
                },
                json!({ "type": "system", "subtype": "stderr", "text": ODD, "index": 7 }),
            ),
            (
                EventBody::RateLimited {
                    until: Some(Timestamp::from_millis(1_700_000_000_123)),
                    message: odd(),
                },
                json!({
                    "type": "system", "subtype": "rate_limited", "until": "2023-11-14T22:13:20.123Z",
                    "text": ODD, "index": 7,
                }),
            ),
            (
                EventBody::RateLimited {
                    until: None,
                    message: String::new(),
                },
                json!({
                    "type": "system", "subtype": "rate_limited", "until": null, "text": "", "index": 7,
                }),
            ),
            (
                EventBody::CommandFailed {
                    command_id: CommandId::from_bits(1),
                    command: odd(),
                    outcome: CommandOutcome::Rejected,
                    reason: odd(),
                },
                json!({
                    "type": "system", "subtype": "command_failed", "command": ODD, "text": ODD, "index": 7,
                }),
            ),
            (
                EventBody::Notice {
                    kind: odd(),
                    text: odd(),
                },
                json!({ "type": "system", "subtype": ODD, "text": ODD, "index": 7 }),
            ),
            (
                EventBody::Gap {
                    from_origin_seq: 3,
                    to_origin_seq: u64::MAX,
                    reason: odd(),
                },
                json!({
                    "type": "system", "subtype": "gap", "from": 3, "to": u64::MAX, "text": ODD, "index": 7,
                }),
            ),
        ]
    }

    #[test]
    fn what_is_written_of_each_kind_is_json_and_has_its_shape() {
        for (body, expected) in table() {
            let kind = body.kind();
            assert_eq!(read(body), expected, "{kind:?}");
        }
    }

    #[test]
    fn every_kind_is_in_the_table_or_is_none_of_the_transcripts() {
        const SILENT: &[EventKind] = &[
            EventKind::SessionCreated,
            EventKind::LifecycleChanged,
            EventKind::ActivityChanged,
            EventKind::LinkChanged,
            EventKind::InputChanged,
            EventKind::TurnStarted,
            EventKind::UsageUpdated,
            EventKind::LimitExceeded,
            EventKind::LimitLifted,
            EventKind::PromptRequested,
            EventKind::PromptAnswered,
            EventKind::PromptExpired,
            EventKind::PromptWithdrawn,
            EventKind::PromptDelivered,
            EventKind::OptionsChanged,
            EventKind::Ended,
        ];
        let shown: Vec<EventKind> = table().iter().map(|(body, _)| body.kind()).collect();
        for kind in EventKind::ALL {
            assert_ne!(shown.contains(kind), SILENT.contains(kind), "{kind:?}");
        }
        let mut g = crate::wire::Gen::new(1);
        for kind in EventKind::ALL {
            let event = g.event(*kind);
            assert_eq!(message(&event).is_some(), shown.contains(kind), "{kind:?}");
        }
    }

    #[test]
    fn a_tools_input_is_written_as_it_came_unless_no_reader_can_follow_it() {
        let exact = "{\"big\": 12345678901234567890123,\n \"b\":1.0, \"s\":\"\\ud83e\\udd80\"}";
        let shown = event(call(Some(exact), None, ""));
        let text = serde_json::to_string(&message(&shown).unwrap()).unwrap();
        assert!(text.contains(&format!("\"input\":{exact}}}")), "{text}");
        for (input, expected) in [
            ("\"\\ud83e\\udd80 \\u0000\"", json!("🦀 \0")),
            ("[1e3]", json!([1000.0])),
            // Half a character, a number that is too large for one, and more levels than readers follow: one of them
            // would cost the whole message with all that is in it.
            ("\"\\ud83e\"", Value::Null),
            ("{\"\\udd80\":1}", Value::Null),
            ("1e999", Value::Null),
            (
                &format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)),
                Value::Null,
            ),
        ] {
            assert_eq!(
                read(call(Some(input), None, "")),
                called(expected, Value::Null),
                "{input:.20}"
            );
        }
    }
}
