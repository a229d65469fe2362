//! Notifications: what Codex says and does, item by item.

use serde_json::{Map, Value, json};

use super::state::Item;
use super::step::{Step, cut};
use super::turns::MAX_RESULT_BYTES;
use crate::base::Json;
use crate::domain::content::MAX_INLINE_TEXT_BYTES;
use crate::domain::event::{PlanItem, Role, TransientBody};
use crate::domain::{Block, EventBody};
use crate::driver::line::Object;

/// The longest id that is kept, in bytes.
const MAX_ID_BYTES: usize = 256;
/// The longest input that is kept until its item has ended, in bytes; of a longer one a request shows nothing.
const MAX_KEPT_INPUT_BYTES: usize = MAX_INLINE_TEXT_BYTES;
/// The longest plan list, and the longest entry, in bytes.
const MAX_PLAN_ITEMS: usize = 200;
const MAX_PLAN_TEXT_BYTES: usize = 1_000;
/// The most parts of a text that go out live.
const MAX_PARTS: u64 = 64;

impl Step<'_> {
    /// A notification.
    pub(super) fn told(&mut self, method: &str, params: &str, text: &str) {
        let params = Object::parse(params).unwrap_or_default();
        match method {
            "turn/started" => {
                self.tell_turn();
                let turn = params.object("turn").unwrap_or_default();
                self.named(&turn.text_or_empty("id"));
            }
            "turn/completed" => self.turn_completed(&params, text),
            "item/started" | "item/completed" => {
                let ended = method == "item/completed";
                match params.object("item") {
                    Some(item) => self.item(&item, ended, text),
                    None => self.notice(method, "an item without content", text),
                }
            }
            "item/agentMessage/delta" => self.delta(&params, None),
            "item/reasoning/summaryTextDelta" => {
                self.delta(&params, Some(params.number("summaryIndex").unwrap_or(0)));
            }
            "turn/plan/updated" => {
                let steps = params.objects("plan").unwrap_or_default();
                let steps = steps.iter().take(MAX_PLAN_ITEMS);
                let items = steps.map(|step| PlanItem {
                    text: cut(&step.text_or_empty("step"), MAX_PLAN_TEXT_BYTES),
                    status: match step.text_or_empty("status").as_str() {
                        "inProgress" => "in_progress",
                        "completed" => "completed",
                        _ => "pending",
                    }
                    .to_owned(),
                });
                let items = items.collect();
                self.event(EventBody::PlanUpdated { items });
            }
            "thread/tokenUsage/updated" => self.consumed(&params),
            "error" => {
                let error = params.object("error").unwrap_or_default();
                let says = error.text_or_empty("message");
                match params.flag("willRetry") {
                    true => self.progress(says),
                    // The end of the turn says it too, but not of every error is there one.
                    false => self.notice("error", &says, text),
                }
            }
            // What the events of Baton say already, or what is said again in items.
            "thread/started"
            | "thread/status/changed"
            | "thread/readState/changed"
            | "thread/settings/updated"
            | "serverRequest/resolved"
            | "turn/diff/updated"
            | "item/reasoning/summaryPartAdded"
            | "item/reasoning/textDelta"
            | "item/commandExecution/outputDelta"
            | "item/fileChange/outputDelta"
            | "item/fileChange/patchUpdated"
            | "item/plan/delta"
            | "remoteControl/status/changed"
            | "account/rateLimits/updated" => {}
            "configWarning" => self.notice(method, &params.text_or_empty("summary"), text),
            _ => self.notice(method, &params.text_or_empty("message"), text),
        }
    }

    /// Text while it is being written. `part` is the part of a thought.
    fn delta(&mut self, params: &Object<'_>, part: Option<u64>) {
        self.tell_turn();
        let id = cut(&params.text_or_empty("itemId"), MAX_ID_BYTES);
        let text = params.text_or_empty("delta");
        let block = part.unwrap_or(0);
        if text.is_empty() || block >= MAX_PARTS {
            return;
        }
        let live = &mut self.state.item(&id).live;
        let at = usize::try_from(block).unwrap_or(0);
        if live.len() <= at {
            live.resize(at + 1, 0);
        }
        let offset = live[at];
        live[at] = offset.saturating_add(text.len() as u64);
        self.transient(TransientBody::MessageDelta {
            message_id: id,
            block: u32::try_from(block).unwrap_or(0),
            offset,
            text,
            thinking: part.is_some(),
        });
    }

    /// An item that begins or has ended.
    fn item(&mut self, item: &Object<'_>, ended: bool, text: &str) {
        self.tell_turn();
        let id = cut(&item.text_or_empty("id"), MAX_ID_BYTES);
        let kind = item.text_or_empty("type");
        match kind.as_str() {
            "userMessage" => {}
            "agentMessage" | "plan" if ended => {
                let said = item.text_or_empty("text");
                if let Some(turn) = &mut self.state.turn {
                    turn.last_said = cut(&said, MAX_RESULT_BYTES);
                }
                self.said(id, said, false);
            }
            "reasoning" if ended => {
                let summary = item.texts("summary");
                let parts = match summary.is_empty() {
                    true => item.texts("content"),
                    false => summary,
                };
                self.said(id, parts.join("\n\n"), true);
            }
            "agentMessage" | "plan" | "reasoning" => {}
            _ => match tool_of(&kind, item) {
                Some((tool, input)) => {
                    self.call(&id, &tool, &input);
                    if ended {
                        self.result(&id, &kind, item);
                    }
                }
                None if ended => self.notice(&kind, "", text),
                None => {}
            },
        }
    }

    fn said(&mut self, message_id: String, text: String, thinking: bool) {
        self.state.items.retain(|item| item.id != message_id);
        if text.is_empty() {
            return;
        }
        let mut budget = Self::budget();
        let block = self.text_block(text, thinking, &mut budget);
        self.event(EventBody::Message {
            role: Role::Agent,
            blocks: vec![block],
            message_id,
            parent_call_id: String::new(),
        });
    }

    /// Tells a call once.
    fn call(&mut self, id: &str, tool: &str, input: &Value) {
        let known: &mut Item = self.state.item(id);
        if !known.tool.is_empty() {
            return;
        }
        let input = input.to_string();
        tool.clone_into(&mut known.tool);
        if input.len() <= MAX_KEPT_INPUT_BYTES {
            known.input.clone_from(&input);
        }
        let (inline, content) = match input.len() > MAX_INLINE_TEXT_BYTES {
            true => (
                None,
                Some(self.content(input.as_bytes(), "application/json")),
            ),
            false => (
                Some(Json::parse("input", input, MAX_INLINE_TEXT_BYTES).unwrap_or_default()),
                None,
            ),
        };
        self.event(EventBody::ToolCall {
            call_id: id.to_owned(),
            tool: tool.to_owned(),
            input: inline,
            content,
            parent_call_id: String::new(),
        });
    }

    fn result(&mut self, id: &str, kind: &str, item: &Object<'_>) {
        self.state.items.retain(|known| known.id != id);
        let status = item.text_or_empty("status");
        let mut is_error = matches!(status.as_str(), "failed" | "declined");
        let text = match kind {
            "commandExecution" => {
                let output = item.text_or_empty("aggregatedOutput");
                let code = item.float("exitCode").unwrap_or(0.0);
                is_error |= code != 0.0;
                match (status.as_str(), is_error && status != "declined") {
                    ("declined", _) => "it was declined and did not run".to_owned(),
                    (_, true) => format!("{output}\n(exit code {code})").trim().to_owned(),
                    _ => output,
                }
            }
            "fileChange" => changes(item)
                .iter()
                .map(|change| format!("{} {}\n{}\n", change.kind, change.path, change.diff))
                .collect(),
            _ => {
                let raw = item.raw("error").or_else(|| item.raw("result"));
                raw.unwrap_or_default().to_owned()
            }
        };
        let mut blocks: Vec<Block> = Vec::new();
        if !text.is_empty() {
            let mut budget = Self::budget();
            blocks.push(self.text_block(text, false, &mut budget));
        }
        self.event(EventBody::ToolResult {
            call_id: id.to_owned(),
            blocks,
            is_error,
        });
    }
}

/// The name and input of the tool that an item uses; `None` if it uses none that is known.
fn tool_of(kind: &str, item: &Object<'_>) -> Option<(String, Value)> {
    Some(match kind {
        "commandExecution" => (
            "Bash".to_owned(),
            command(&item.text_or_empty("command"), &item.text_or_empty("cwd")),
        ),
        "fileChange" => {
            let changes = changes(item);
            let mut input = Map::new();
            // A rule about paths knows what is meant only where one file is meant.
            if let [change] = &changes[..] {
                input.insert("file_path".to_owned(), Value::from(change.path.clone()));
            }
            let listed = changes.iter().map(
                |change| json!({"path": change.path, "kind": change.kind, "diff": change.diff}),
            );
            input.insert("changes".to_owned(), listed.collect());
            ("Edit".to_owned(), Value::Object(input))
        }
        "mcpToolCall" => {
            let fits = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
            let name = format!(
                "mcp__{}__{}",
                item.text_or_empty("server"),
                item.text_or_empty("tool")
            );
            let name = name.chars().map(|c| if fits(c) { c } else { '_' });
            let arguments = item.raw("arguments").unwrap_or("{}");
            let arguments = serde_json::from_str(arguments).unwrap_or_default();
            (cut(&name.collect::<String>(), MAX_ID_BYTES), arguments)
        }
        "webSearch" => (
            "WebSearch".to_owned(),
            json!({"query": item.text_or_empty("query")}),
        ),
        _ => return None,
    })
}

/// A command as rules know it: what the shell is given, where that is plain to see, else the whole.
pub(super) fn command(whole: &str, cwd: &str) -> Value {
    let given = [
        "/bin/bash -lc ",
        "bash -lc ",
        "/bin/sh -c ",
        "/bin/zsh -lc ",
        "/usr/bin/bash -lc ",
        "/usr/bin/zsh -lc ",
    ]
    .iter()
    .find_map(|shell| whole.strip_prefix(shell))
    .and_then(|given| match given.strip_prefix('\'') {
        Some(quoted) => quoted.strip_suffix('\'').filter(|it| !it.contains('\'')),
        // One bare word.
        None => Some(given).filter(|it| {
            it.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b))
        }),
    });
    json!({"command": given.unwrap_or(whole), "cwd": cwd})
}

struct Change {
    path: String,
    kind: String,
    diff: String,
}

fn changes(item: &Object<'_>) -> Vec<Change> {
    let changes = item.objects("changes").unwrap_or_default();
    let changes = changes.iter().map(|change| {
        let kind = change.object("kind").unwrap_or_default();
        Change {
            path: change.text_or_empty("path"),
            kind: kind.text_or_empty("type"),
            diff: change.text_or_empty("diff"),
        }
    });
    changes.collect()
}
