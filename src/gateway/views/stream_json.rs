//! Events in the shape of Claude Code's stream-json, whatever harness they come from.
//!
//! Every message carries `index`, the event's seq, so that a reader knows where it is.

use serde_json::{Map, Value, json};

use crate::domain::content::Block;
use crate::domain::event::Role;
use crate::domain::{Event, EventBody, Usage};

/// The event as a message; `None` for what the transcript does not show.
pub fn message(event: &Event) -> Option<Value> {
    let mut message = body(&event.body)?;
    message.insert("index".to_owned(), event.seq.into());
    Some(Value::Object(message))
}

fn body(body: &EventBody) -> Option<Map<String, Value>> {
    let value = match body {
        EventBody::Started {
            provider_session_id,
            model,
            cwd,
            tools,
            ..
        } => json!({
            "type": "system", "subtype": "init", "session_id": provider_session_id,
            "model": model, "cwd": cwd, "tools": tools,
        }),
        EventBody::InputAccepted { input_id, text, .. } => json!({
            "type": "user", "uuid": input_id.to_string(),
            "message": { "role": "user", "content": [{ "type": "text", "text": text }] },
        }),
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
            let input = match (input, content) {
                (Some(input), _) => input.to_value(),
                (None, Some(content)) => super::content(content),
                (None, None) => json!({}),
            };
            json!({
                "type": "assistant",
                "message": {
                    "role": "assistant",
                    "content": [{ "type": "tool_use", "id": call_id, "name": tool, "input": input }],
                },
                "parent_tool_use_id": parent(parent_call_id),
            })
        }
        EventBody::ToolResult {
            call_id,
            blocks,
            is_error,
        } => json!({
            "type": "user",
            "message": {
                "role": "user",
                "content": [{
                    "type": "tool_result", "tool_use_id": call_id, "is_error": is_error,
                    "content": blocks.iter().map(block).collect::<Vec<_>>(),
                }],
            },
        }),
        EventBody::TurnEnded {
            is_error,
            reason,
            text,
            usage,
            duration,
            ..
        } => json!({
            "type": "result",
            "subtype": if *is_error { "error_during_execution" } else { "success" },
            "is_error": is_error, "reason": reason, "result": text,
            "duration_ms": u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            "total_cost_usd": usage.cost_micro_usd as f64 / 1e6,
            "usage": consumed(usage),
        }),
        EventBody::Output { text, .. } => json!({
            "type": "assistant",
            "message": { "role": "assistant", "content": [{ "type": "text", "text": text }] },
            "parent_tool_use_id": null,
        }),
        EventBody::Stderr { text, .. } => system("stderr", json!({ "text": text })),
        EventBody::PlanUpdated { items } => {
            let items: Vec<Value> = items
                .iter()
                .map(|item| json!({ "content": item.text, "status": item.status }))
                .collect();
            system("plan", json!({ "items": items }))
        }
        EventBody::RateLimited { until, message } => system(
            "rate_limited",
            json!({ "until": until.map(super::iso), "text": message }),
        ),
        EventBody::Notice { kind, text } => system(kind, json!({ "text": text })),
        EventBody::Gap {
            from_origin_seq,
            to_origin_seq,
            reason,
        } => system(
            "gap",
            json!({ "from": from_origin_seq, "to": to_origin_seq, "text": reason }),
        ),
        EventBody::CommandFailed {
            command, reason, ..
        } => system(
            "command_failed",
            json!({ "command": command, "text": reason }),
        ),
        _ => return None,
    };
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

fn system(subtype: &str, mut more: Value) -> Value {
    more["type"] = "system".into();
    more["subtype"] = subtype.into();
    more
}

fn said(role: Role, blocks: &[Block], message_id: &str, parent_call_id: &str) -> Value {
    let content: Vec<Value> = blocks.iter().map(block).collect();
    match role {
        Role::System => system("message", json!({ "content": content })),
        Role::Agent => json!({
            "type": "assistant",
            "message": { "id": message_id, "role": "assistant", "content": content },
            "parent_tool_use_id": parent(parent_call_id),
        }),
        Role::User => json!({
            "type": "user",
            "message": { "role": "user", "content": content },
            "parent_tool_use_id": parent(parent_call_id),
        }),
    }
}

fn parent(call_id: &str) -> Value {
    if call_id.is_empty() {
        Value::Null
    } else {
        call_id.into()
    }
}

fn block(block: &Block) -> Value {
    match block {
        Block::Text(text) => json!({ "type": "text", "text": text }),
        Block::Thinking(text) => json!({ "type": "thinking", "thinking": text }),
        Block::Content(content) => {
            // Readers that know text only see its beginning and its end.
            let text = format!(
                "{}\n[… {} bytes of {} …]\n{}",
                content.head, content.size_bytes, content.media_type, content.tail
            );
            json!({ "type": "text", "text": text, "content": super::content(content) })
        }
    }
}

fn consumed(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::base::id::SessionId;
    use crate::domain::event::Origin;

    #[test]
    fn a_tools_call_is_the_agents() {
        let body = EventBody::ToolCall {
            call_id: "c1".to_owned(),
            tool: "Bash".to_owned(),
            input: Some(crate::base::Json::from_value(&json!({ "command": "ls" }))),
            content: None,
            parent_call_id: String::new(),
        };
        let id = SessionId::new(Timestamp::EPOCH, 1);
        let mut event = Event::new(id, Origin::Harness, Timestamp::EPOCH, body);
        event.seq = 7;
        let shown = message(&event).unwrap();
        assert_eq!(
            shown,
            json!({
                "type": "assistant",
                "message": { "role": "assistant", "content": [
                    { "type": "tool_use", "id": "c1", "name": "Bash", "input": { "command": "ls" } }
                ]},
                "parent_tool_use_id": null,
                "index": 7,
            })
        );
    }
}
