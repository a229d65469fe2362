//! Events: what an agent said and did, in one flat form whatever program it is.

use serde_json::{Value, json};

use super::Shown;
use crate::domain::content::Block;
use crate::domain::event::Role;
use crate::domain::session::{EndInfo, Lifecycle};
use crate::domain::{Event, EventBody, Usage};
use crate::gateway::views::{iso, large};

/// An event with its type; `None` for what is not shown.
pub fn event(event: &Event) -> Option<(&'static str, Value)> {
    let (kind, mut it) = body(&event.body)?;
    it.put("sessionId", event.session_id.to_string())
        .put("index", event.seq)
        .put("timestamp", iso(event.time));
    Some((kind, it.done()))
}

fn exit(end: &EndInfo) -> Shown {
    let mut it = typed("exit", &end.message);
    it.put("code", json!(end.exit_code))
        .put("signal", json!(signal(end.signal)))
        .put("reason", end.reason.as_str())
        .text("stderr", &end.stderr_tail);
    it
}

/// A signal's name, as programs in JavaScript know it; `None` for none.
pub fn signal(number: i32) -> Option<String> {
    let name = match number {
        0 => return None,
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        other => return Some(format!("SIG{other}")),
    };
    Some(name.to_owned())
}

fn typed(kind: &'static str, content: &str) -> Shown {
    let mut it = Shown::default();
    it.put("type", kind).put("content", content);
    it
}

fn system(subtype: &str, content: &str) -> (&'static str, Shown) {
    let mut it = typed("system", content);
    it.put("subtype", subtype);
    ("system", it)
}

fn error(subtype: &str, content: &str) -> (&'static str, Shown) {
    let mut it = typed("error", content);
    it.put("subtype", subtype);
    ("error", it)
}

fn body(body: &EventBody) -> Option<(&'static str, Shown)> {
    Some(match body {
        EventBody::Started {
            provider_session_id,
            model,
            cwd,
            tools,
            pid,
            ..
        } => {
            let (kind, mut it) = system("init", "");
            it.text("claudeSessionId", provider_session_id)
                .text("providerSessionId", provider_session_id)
                .text("model", model)
                .text("workingDirectory", cwd)
                .put("tools", json!(tools))
                .some("pid", (*pid > 0).then_some(*pid));
            (kind, it)
        }
        EventBody::InputAccepted { input_id, text, .. } => {
            let mut it = typed("user", text);
            it.put("inputId", input_id.to_string());
            ("user", it)
        }
        EventBody::Message {
            role,
            blocks,
            message_id,
            parent_call_id,
        } => {
            let (text, thinking) = said(blocks);
            let (kind, mut it) = match role {
                Role::Agent => ("assistant", typed("assistant", &text)),
                Role::User => ("user", typed("user", &text)),
                Role::System => system("message", &text),
            };
            it.text("thinking", &thinking)
                .text("messageId", message_id)
                .text("parentToolUseId", parent_call_id);
            (kind, it)
        }
        EventBody::ToolCall {
            call_id,
            tool,
            input,
            content,
            parent_call_id,
        } => {
            let input = match (input, content) {
                (Some(input), _) => input.to_value(),
                (None, Some(content)) => json!(large(content)),
                (None, None) => json!({}),
            };
            let mut it = typed("tool_use", "");
            it.put(
                "tool",
                json!({ "id": call_id, "name": tool, "input": input }),
            )
            .text("parentToolUseId", parent_call_id);
            ("tool_use", it)
        }
        EventBody::ToolResult {
            call_id,
            blocks,
            is_error,
        } => {
            let mut it = typed("tool_result", &said(blocks).0);
            it.put("tool", json!({ "id": call_id }))
                .put("isError", *is_error);
            ("tool_result", it)
        }
        EventBody::TurnEnded {
            is_error,
            reason,
            text,
            usage,
            duration,
            ..
        } => {
            let subtype = match is_error {
                true => "error_during_execution",
                false => "success",
            };
            let mut it = typed("result", text);
            it.put("subtype", subtype)
                .put("isError", *is_error)
                .text("reason", reason)
                .put(
                    "durationMs",
                    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
                )
                .put("totalCostUsd", usage.cost_micro_usd as f64 / 1e6)
                .put("usage", consumed(usage));
            ("result", it)
        }
        EventBody::Output { text, .. } => {
            let mut it = typed("output", text);
            it.put("stream", "stdout");
            ("output", it)
        }
        EventBody::Stderr { text, .. } => {
            let mut it = typed("output", text);
            it.put("stream", "stderr");
            ("output", it)
        }
        EventBody::PlanUpdated { items } => {
            let (kind, mut it) = system("plan", "");
            let items: Vec<Value> = items
                .iter()
                .map(|item| json!({ "content": item.text, "status": item.status }))
                .collect();
            it.put("items", items);
            (kind, it)
        }
        EventBody::PromptRequested { prompt } => {
            let (kind, mut it) = system("prompt", super::asked(prompt));
            it.put("promptId", prompt.id.to_string())
                .text("toolName", &prompt.tool);
            (kind, it)
        }
        EventBody::LifecycleChanged {
            to: Lifecycle::Suspended,
            ..
        } => system("suspended", ""),
        EventBody::Notice { kind, text } => system(kind, text),
        EventBody::Gap {
            from_origin_seq,
            to_origin_seq,
            reason,
        } => {
            let (kind, mut it) = system("gap", reason);
            it.put("from", *from_origin_seq).put("to", *to_origin_seq);
            (kind, it)
        }
        EventBody::RateLimited { until, message } => {
            let (kind, mut it) = error("rate_limited", message);
            it.time("resetsAt", *until);
            (kind, it)
        }
        EventBody::LimitExceeded {
            limit,
            value,
            allowed,
            ..
        } => {
            let (kind, mut it) = error("limit_exceeded", &format!("the limit {limit} is reached"));
            it.put("limit", limit.as_str())
                .put("value", *value)
                .put("allowed", *allowed);
            (kind, it)
        }
        EventBody::CommandFailed {
            command, reason, ..
        } => {
            let (kind, mut it) = error("command_failed", reason);
            it.put("command", command.as_str());
            (kind, it)
        }
        EventBody::Ended { end } => ("exit", exit(end)),
        _ => return None,
    })
}

/// What was said, and what was thought, each as one text.
fn said(blocks: &[Block]) -> (String, String) {
    let mut texts = Vec::new();
    let mut thoughts = Vec::new();
    for block in blocks {
        match block {
            Block::Text(text) => texts.push(text.clone()),
            Block::Thinking(text) => thoughts.push(text.as_str()),
            // Its beginning and its end; the whole is had by GetContent.
            Block::Content(content) => texts.push(format!(
                "{}\n[… {} bytes of {} …]\n{}",
                content.head, content.size_bytes, content.media_type, content.tail
            )),
        }
    }
    (texts.join("\n"), thoughts.join("\n"))
}

fn consumed(usage: &Usage) -> Value {
    json!({
        "inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens,
        "cacheReadTokens": usage.cache_read_tokens, "cacheWriteTokens": usage.cache_write_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::base::id::SessionId;
    use crate::domain::event::Origin;

    #[test]
    fn a_line_of_output_is_as_the_text_has_it() {
        let body = EventBody::Output {
            text: "Working on task...".to_owned(),
            continues: false,
        };
        let id = SessionId::new(Timestamp::EPOCH, 1);
        let mut line = Event::new(id, Origin::Harness, Timestamp::EPOCH, body);
        line.seq = 2;
        let (kind, data) = event(&line).unwrap();
        assert_eq!(kind, "output");
        assert_eq!(
            data,
            json!({
                "type": "output", "content": "Working on task...", "stream": "stdout",
                "sessionId": id.to_string(), "index": 2, "timestamp": "1970-01-01T00:00:00.000Z",
            })
        );
    }

    #[test]
    fn an_exit_has_a_code_or_the_name_of_a_signal() {
        let mut end = EndInfo::because(crate::domain::EndReason::Completed, "done");
        end.exit_code = Some(0);
        let shown = exit(&end).done();
        assert_eq!(
            (&shown["code"], &shown["signal"]),
            (&json!(0), &Value::Null)
        );
        end.exit_code = None;
        end.signal = 15;
        let shown = exit(&end).done();
        assert_eq!(
            (&shown["code"], &shown["signal"]),
            (&Value::Null, &json!("SIGTERM"))
        );
    }
}
