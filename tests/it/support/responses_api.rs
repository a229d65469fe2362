//! The same stand-in in the words of the OpenAI Responses API, for Codex.

use std::time::Duration;

use serde_json::{Value, json};

use super::model_script::Step;

/// A request of this API as one of the other: messages, calls and what tools said.
pub fn as_messages(body: &Value) -> Value {
    let empty = Vec::new();
    let input = body["input"].as_array().unwrap_or(&empty);
    let messages = input.iter().filter_map(|item| match item["type"].as_str() {
        Some("message") => {
            let texts = item["content"].as_array()?.iter();
            let texts = texts.filter_map(|part| part["text"].as_str());
            let blocks: Vec<Value> = texts
                .map(|text| json!({ "type": "text", "text": text }))
                .collect();
            Some(json!({ "role": item["role"], "content": blocks }))
        }
        Some("function_call" | "custom_tool_call") => {
            Some(json!({ "role": "assistant", "content": [] }))
        }
        Some("function_call_output" | "custom_tool_call_output") => Some(json!({
            "role": "user",
            "content": [{ "type": "tool_result", "tool_use_id": item["call_id"], "content": item["output"] }],
        })),
        _ => None,
    });
    json!({ "messages": messages.collect::<Vec<_>>() })
}

/// An answer as the events of a stream, each after a pause.
pub fn events(steps: Vec<Step>, mut id: impl FnMut(&str) -> String) -> Vec<(Duration, Value)> {
    let response = id("resp");
    let mut events = vec![(
        Duration::ZERO,
        json!({ "type": "response.created", "response": { "id": response } }),
    )];
    for (index, step) in steps.into_iter().enumerate() {
        let (pieces, pause) = match step {
            Step::Say(text) => (vec![text], Duration::ZERO),
            Step::Slow { chunks, pause_ms } => (
                (1..=chunks).map(|n| format!("chunk {n}. ")).collect(),
                Duration::from_millis(pause_ms),
            ),
            Step::Tool { name, input } => {
                let item = call(name, &input, &id("fc"), &id("call"));
                let done = json!({ "type": "response.output_item.done", "output_index": index, "item": item });
                events.push((Duration::ZERO, done));
                continue;
            }
            Step::Think(_) | Step::Fail { .. } | Step::Limit { .. } => continue,
        };
        let id = id("msg");
        let message = |text: &[String]| {
            let content: Vec<Value> = text
                .iter()
                .map(|text| json!({ "type": "output_text", "text": text }))
                .collect();
            json!({ "type": "message", "id": id, "role": "assistant", "content": content })
        };
        events.push((
            Duration::ZERO,
            json!({ "type": "response.output_item.added", "output_index": index, "item": message(&[]) }),
        ));
        for piece in &pieces {
            events.push((
                pause,
                json!({ "type": "response.output_text.delta", "item_id": id, "output_index": index,
                    "content_index": 0, "delta": piece }),
            ));
        }
        events.push((
            Duration::ZERO,
            json!({ "type": "response.output_item.done", "output_index": index, "item": message(&[pieces.concat()]) }),
        ));
    }
    events.push((
        Duration::ZERO,
        json!({ "type": "response.completed", "response": { "id": response, "usage": {
            "input_tokens": 20, "input_tokens_details": { "cached_tokens": 5 },
            "output_tokens": 3, "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": 23,
        } } }),
    ));
    events
}

/// A tool of Claude Code as the one of Codex that does the same. A command asks to leave the sandbox.
fn call(name: &str, input: &Value, id: &str, call_id: &str) -> Value {
    let text = |key: &str| input[key].as_str().unwrap_or_default();
    if name == "Write" {
        let (file, words) = (text("file_path"), text("content"));
        return json!({
            "type": "custom_tool_call", "id": id, "call_id": call_id, "name": "apply_patch",
            "input": format!("*** Begin Patch\n*** Add File: {file}\n+{words}\n*** End Patch\n"),
        });
    }
    let arguments = json!({
        "cmd": text("command"),
        "sandbox_permissions": "require_escalated",
        "justification": "May I run this?",
    });
    json!({
        "type": "function_call", "id": id, "call_id": call_id, "name": "exec_command",
        "arguments": arguments.to_string(),
    })
}
