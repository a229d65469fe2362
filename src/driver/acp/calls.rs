//! Calls of tools. An agent tells a call bit by bit (its input may come in pieces), the log has it once: when it
//! begins, as far as that can be told, and when it has ended.

use agent_client_protocol_schema::v1::{
    ToolCall, ToolCallContent, ToolCallStatus, ToolCallUpdate, ToolCallUpdateFields, ToolKind,
};

use super::diff::unified;
use super::state::Call;
use super::step::{Step, cut};
use super::tools;
use crate::base::Json;
use crate::domain::content::MAX_INLINE_TEXT_BYTES;
use crate::domain::{Block, EventBody};

/// The longest id, name and title that are kept, in bytes.
const MAX_NAME_BYTES: usize = 512;
/// The longest input that is kept until its call is told, in bytes. A longer one is told at once.
const MAX_KEPT_INPUT_BYTES: usize = MAX_INLINE_TEXT_BYTES;
/// The longest diff that is kept until its call has ended, in bytes.
pub(super) const MAX_DIFF_BYTES: usize = 32 * 1024;
/// The most paths that are kept of a call.
const MAX_PATHS: usize = 16;

impl Step<'_> {
    /// A `tool_call` update.
    pub(super) fn tool_call(&mut self, call: ToolCall) {
        self.flush();
        let fields = ToolCallUpdateFields::new()
            .kind(call.kind)
            .status(call.status)
            .title(call.title)
            .name(call.name)
            .content(call.content)
            .locations(call.locations)
            .raw_input(call.raw_input)
            .raw_output(call.raw_output);
        self.tool_call_update(ToolCallUpdate::new(call.tool_call_id, fields));
    }

    /// A `tool_call_update` update.
    pub(super) fn tool_call_update(&mut self, update: ToolCallUpdate) {
        let id = cut(&update.tool_call_id.0, MAX_NAME_BYTES);
        let status = update.fields.status;
        let title = self.merge(&id, &update.fields);
        match status {
            Some(ToolCallStatus::Completed | ToolCallStatus::Failed) => {
                self.tell_call(&id);
                self.tool_result(&id, update.fields, status == Some(ToolCallStatus::Failed));
                self.state.calls.retain(|call| call.id != id);
            }
            Some(ToolCallStatus::InProgress) => self.tell_call(&id),
            _ => {
                if let Some(title) = title {
                    self.progress(title);
                }
            }
        }
    }

    /// Notes what is new of a call; gives its title if that is new.
    pub(super) fn merge(&mut self, id: &str, fields: &ToolCallUpdateFields) -> Option<String> {
        let (call, gone) = self.state.call(id);
        if let Some(kind) = fields.kind {
            call.kind = tools::word(kind).to_owned();
        }
        if let Some(name) = &fields.name {
            call.name = cut(name, MAX_NAME_BYTES);
        }
        let mut title = None;
        if let Some(new) = fields.title.as_ref().filter(|new| **new != call.title) {
            call.title = cut(new, MAX_NAME_BYTES);
            title = Some(call.title.clone());
        }
        if let Some(input) = &fields.raw_input {
            call.input = input.to_string();
        }
        if let Some(locations) = fields.locations.as_ref().filter(|it| !it.is_empty()) {
            let paths = locations.iter().take(MAX_PATHS);
            call.paths = paths
                .map(|location| cut(&location.path.to_string_lossy(), 4_096))
                .collect();
        }
        let diff = diffs(fields.content.as_deref().unwrap_or_default());
        if !diff.is_empty() {
            call.diff = cut(&diff, MAX_DIFF_BYTES);
        }
        let is_large = call.input.len() > MAX_KEPT_INPUT_BYTES;
        if let Some(gone) = gone {
            self.tell(&gone);
        }
        if is_large {
            self.tell_call(id);
        }
        title
    }

    /// Tells a call, unless it is told already.
    pub(super) fn tell_call(&mut self, id: &str) {
        self.flush();
        let Some(call) = self.state.calls.iter_mut().find(|call| call.id == id) else {
            return;
        };
        let now = call.clone();
        call.is_told = true;
        if call.input.len() > MAX_KEPT_INPUT_BYTES {
            call.input.clear();
        }
        self.tell(&now);
    }

    /// Tells every call that is not told: its turn is over.
    pub(super) fn tell_calls(&mut self) {
        for call in std::mem::take(&mut self.state.calls) {
            self.tell(&call);
        }
    }

    fn tell(&mut self, call: &Call) {
        if call.is_told {
            return;
        }
        self.flush();
        let (tool, input) = tools::named(call);
        let input = input.to_string();
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
        let raw = serde_json::json!({
            "toolCallId": call.id,
            "title": call.title,
            "kind": call.kind,
            "name": call.name,
            "paths": call.paths,
        });
        self.event_with(
            EventBody::ToolCall {
                call_id: call.id.clone(),
                tool,
                input: inline,
                content,
                parent_call_id: String::new(),
            },
            Some(&raw.to_string()),
        );
    }

    fn tool_result(&mut self, id: &str, fields: ToolCallUpdateFields, is_error: bool) {
        let mut budget = Self::budget();
        let mut blocks: Vec<Block> = Vec::new();
        let content = fields.content.unwrap_or_default();
        let has_diff = content
            .iter()
            .any(|part| matches!(part, ToolCallContent::Diff(_)));
        for part in content {
            match part {
                ToolCallContent::Content(content) => {
                    blocks.push(self.block(content.content, &mut budget));
                }
                part => {
                    let text = diffs(std::slice::from_ref(&part));
                    if !text.is_empty() {
                        blocks.push(self.text_block(text, false, &mut budget));
                    }
                }
            }
        }
        if blocks.is_empty()
            && let Some(output) = fields.raw_output
        {
            let text = match output {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            blocks.push(self.text_block(text, false, &mut budget));
        }
        // What it changed was told when it was asked about.
        let known = self.state.calls.iter_mut().find(|call| call.id == id);
        let diff = known.map(|call| std::mem::take(&mut call.diff));
        if let Some(diff) = diff.filter(|diff| !diff.is_empty() && !has_diff && !is_error) {
            blocks.push(self.text_block(diff, false, &mut budget));
        }
        self.event(EventBody::ToolResult {
            call_id: id.to_owned(),
            blocks,
            is_error,
        });
    }
}

/// The diffs among these parts, one after the other. A terminal is the agent's own and is only named.
pub(super) fn diffs(content: &[ToolCallContent]) -> String {
    let mut text = String::new();
    for part in content {
        match part {
            ToolCallContent::Diff(diff) => {
                let path = diff.path.to_string_lossy();
                text.push_str(&unified(&path, diff.old_text.as_deref(), &diff.new_text));
            }
            ToolCallContent::Terminal(terminal) => {
                text.push_str(&format!("(terminal {})\n", terminal.terminal_id.0));
            }
            _ => {}
        }
    }
    text
}

/// The kind of a call as it was told.
pub(super) fn kind_of(word: &str) -> ToolKind {
    serde_json::from_value(serde_json::Value::from(word)).unwrap_or_default()
}
