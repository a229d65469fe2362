//! The lines of the stream-json protocol: what the host says, and the shape of what the agent says.

use std::io::{BufRead, Read};
use std::sync::mpsc::SyncSender;

use serde_json::{Value, json};

use super::agent::Event;

/// The longest line the agent reads. Longer ones are no line of this protocol.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Something the host said.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A message of a person.
    User(Message),
    /// A request about the session, to be answered by its id.
    Request {
        /// The id, whatever value the host chose.
        id: Value,
        /// The request.
        request: Value,
    },
    /// The answer to a request of the agent.
    Response(Value),
    /// Something without a meaning here; it is passed over, as the protocol asks.
    Other,
}

/// A message of a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The id the host gave it.
    pub uuid: Option<String>,
    /// Its text.
    pub text: String,
    /// Its content as it came.
    pub content: Value,
}

impl Incoming {
    /// What a line means.
    pub fn of(mut line: Value) -> Incoming {
        match line["type"].as_str() {
            Some("user") => {
                // Asked for, since to index what is no object would make it one or panic.
                let content = line
                    .get_mut("message")
                    .and_then(|message| message.get_mut("content"))
                    .map(Value::take)
                    .unwrap_or_default();
                match text_of(&content) {
                    Some(text) => Incoming::User(Message {
                        uuid: line["uuid"].as_str().map(str::to_owned),
                        text,
                        content,
                    }),
                    None => Incoming::Other,
                }
            }
            Some("control_request") => Incoming::Request {
                id: line["request_id"].take(),
                request: line["request"].take(),
            },
            Some("control_response") => Incoming::Response(line["response"].take()),
            _ => Incoming::Other,
        }
    }
}

/// The text of a message's content: a string, or the text blocks of a list.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(blocks) => Some(
            blocks
                .iter()
                .filter_map(|block| block["text"].as_str())
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        _ => None,
    }
}

/// Reads lines and passes them on until the input ends; runs in a thread of its own.
pub fn read(mut input: impl BufRead, events: SyncSender<Event>) {
    loop {
        let mut line = Vec::new();
        let event = match input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => Event::End,
            Ok(_) if line.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(_) => match serde_json::from_slice(&line) {
                Ok(value) => Event::Line(Incoming::of(value)),
                Err(_) => Event::Garbage {
                    chars: String::from_utf8_lossy(&line).trim_end().chars().count(),
                },
            },
        };
        let last = matches!(event, Event::End | Event::Garbage { .. });
        if events.send(event).is_err() || last {
            return;
        }
    }
}

/// `command_lifecycle`: what became of a message.
pub fn lifecycle(uuid: &str, state: &str) -> Value {
    json!({ "type": "command_lifecycle", "command_uuid": uuid, "state": state })
}

/// The echo of a message, when it is taken up.
pub fn replay(message: &Message) -> Value {
    let mut line = json!({
        "type": "user",
        "message": { "role": "user", "content": message.content },
        "parent_tool_use_id": null,
        "isReplay": true,
    });
    if let Some(uuid) = &message.uuid {
        line["uuid"] = json!(uuid);
    }
    line
}

/// The success of a request of the host.
pub fn success(id: &Value, body: Value) -> Value {
    json!({
        "type": "control_response",
        "response": { "subtype": "success", "request_id": id, "response": body },
    })
}

/// The failure of a request of the host.
pub fn refusal(id: &Value, code: &str, error: &str) -> Value {
    json!({
        "type": "control_response",
        "response": { "subtype": "error", "request_id": id, "error": error, "error_code": code },
    })
}

/// A request of the agent, withdrawn.
pub fn withdrawal(request_id: &str) -> Value {
    json!({ "type": "control_cancel_request", "request_id": request_id })
}

/// The list of tasks that run in the background.
pub fn background_tasks(tasks: &[Value]) -> Value {
    json!({ "type": "system", "subtype": "background_tasks_changed", "tasks": tasks })
}

/// A change of the permission mode.
pub fn mode_changed(mode: &str) -> Value {
    json!({ "type": "system", "subtype": "status", "status": null, "permissionMode": mode })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn content_is_text_or_blocks() {
        let text = |content: Value| match Incoming::of(
            json!({ "type": "user", "message": { "role": "user", "content": content } }),
        ) {
            Incoming::User(message) => Some(message.text),
            _ => None,
        };
        assert_eq!(text(json!("a")).as_deref(), Some("a"));
        let blocks = json!([{ "type": "text", "text": "a" }, { "type": "image" }, { "type": "text", "text": "b" }]);
        assert_eq!(text(blocks).as_deref(), Some("a\nb"));
        assert_eq!(text(json!(7)), None);
    }

    #[test]
    fn reading_stops_at_what_is_not_json() {
        let (events, inbox) = sync_channel(8);
        read(
            &b"{\"type\":\"keep_alive\"}\n\n[1]\nnot json\n{}\n"[..],
            events,
        );
        let read: Vec<Event> = inbox.iter().collect();
        assert!(matches!(
            read[..],
            [
                Event::Line(Incoming::Other),
                Event::Line(Incoming::Other),
                Event::Garbage { chars: 8 },
            ]
        ));
    }
}
