//! What the agent and its tools say: `assistant` and `user` lines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::state::Stage;
use super::step::{Step, cut};
use crate::base::Json;
use crate::base::id::InputId;
use crate::domain::content::MAX_INLINE_TEXT_BYTES;
use crate::domain::event::{PlanItem, Role};
use crate::domain::{Block, EventBody, InputState};
use crate::driver::line::{Object, string};

/// The largest structured result of a tool that is kept beside its text, in bytes.
const MAX_STRUCTURED_BYTES: usize = 16 * 1024;
/// The longest plan text that is remembered until the plan is asked about, in bytes.
pub(super) const MAX_PLAN_BYTES: usize = 64 * 1024;
/// The longest plan list.
const MAX_PLAN_ITEMS: usize = 200;

impl Step<'_> {
    /// An `assistant` line: one finished block of a message, or several.
    pub(super) fn assistant(&mut self, line: &Object<'_>, text: &str) {
        let parent = line.text_or_empty("parent_tool_use_id");
        if parent.is_empty() {
            self.turn(None);
        }
        let Some(message) = line.object("message") else {
            return self.notice("assistant", "a message without content", text);
        };
        // What the harness itself says in the agent's place, of a failed call for instance.
        let role = match message.text("model").as_deref() {
            Some("<synthetic>") => Role::System,
            _ => Role::Agent,
        };
        let mut said = Said::new(role, message.text_or_empty("id"), parent);
        let mut unknown = false;
        for block in message.objects("content").unwrap_or_default() {
            match block.text_or_empty("type").as_str() {
                "text" => said.push(self, block.text_or_empty("text"), false),
                "thinking" => said.push(self, block.text_or_empty("thinking"), true),
                "redacted_thinking" => {}
                "tool_use" | "server_tool_use" | "mcp_tool_use" => {
                    said.flush(self);
                    self.tool_call(&block, &said.parent);
                }
                kind if kind.ends_with("_tool_result") => {
                    said.flush(self);
                    self.tool_result(&block, None);
                }
                _ => unknown = true,
            }
        }
        if let Some(content) = message.text("content") {
            said.push(self, content, false);
        }
        said.flush(self);
        if unknown {
            self.notice("assistant", "a block of a kind that is not known", text);
        }
    }

    fn tool_call(&mut self, block: &Object<'_>, parent: &str) {
        let call_id = block.text_or_empty("id");
        let tool = block.text_or_empty("name");
        let input = block.raw("input").unwrap_or("{}");
        let (inline, content) = if input.len() > MAX_INLINE_TEXT_BYTES {
            (
                None,
                Some(self.content(input.as_bytes(), "application/json")),
            )
        } else {
            let json = Json::parse("input", input, MAX_INLINE_TEXT_BYTES).ok();
            (Some(json.unwrap_or_default()), None)
        };
        if let Some(input) = Object::parse(input) {
            self.remember_plan(&tool, &call_id, &input);
        }
        self.event(EventBody::ToolCall {
            call_id,
            tool: tool.clone(),
            input: inline,
            content,
            parent_call_id: parent.to_owned(),
        });
        if tool == "TodoWrite"
            && parent.is_empty()
            && let Some(items) = Object::parse(input).and_then(|input| todo_items(&input))
        {
            self.event(EventBody::PlanUpdated { items });
        }
    }

    /// A plan is asked about with an empty input: what it says is in the call, or in a plan file that
    /// the agent wrote before.
    fn remember_plan(&mut self, tool: &str, call_id: &str, input: &Object<'_>) {
        match tool {
            "ExitPlanMode" => {
                if let Some(plan) = input.text("plan") {
                    let plan = cut(&plan, MAX_PLAN_BYTES);
                    self.state.keep_plan(call_id.to_owned(), plan);
                }
            }
            "Write" => {
                let path = input.text_or_empty("file_path");
                if path.contains("/plans/") && path.ends_with(".md") {
                    self.state.plan_file = cut(&input.text_or_empty("content"), MAX_PLAN_BYTES);
                }
            }
            _ => {}
        }
    }

    /// A `user` line: results of tools, what the harness put in a person's place, or the echo of an input.
    pub(super) fn user(&mut self, line: &Object<'_>, text: &str) {
        if line.flag("isReplay") {
            return self.echo(line, text);
        }
        let Some(message) = line.object("message") else {
            return self.notice("user", "a message without content", text);
        };
        let structured = line
            .raw("tool_use_result")
            .filter(|raw| raw.starts_with('{') && raw.len() <= MAX_STRUCTURED_BYTES);
        let parent = line.text_or_empty("parent_tool_use_id");
        let mut said = Said::new(Role::User, line.text_or_empty("uuid"), parent);
        let mut unknown = false;
        for block in message.objects("content").unwrap_or_default() {
            match block.text_or_empty("type").as_str() {
                "tool_result" => {
                    said.flush(self);
                    self.tool_result(&block, structured);
                }
                "text" => said.push(self, block.text_or_empty("text"), false),
                "image" | "document" => {
                    let media = self.media(&block, &mut said.budget);
                    said.blocks.push(media);
                }
                _ => unknown = true,
            }
        }
        if let Some(content) = message.text("content") {
            said.push(self, content, false);
        }
        said.flush(self);
        if unknown {
            self.notice("user", "a block of a kind that is not known", text);
        }
    }

    /// The echo of an input: the input itself is already in the log, the echo only shows that the
    /// harness has it.
    fn echo(&mut self, line: &Object<'_>, text: &str) {
        let id = line.text("uuid").and_then(|uuid| InputId::from_uuid(&uuid));
        if let Some(id) = id
            && let Some(stage) = self.state.input(id).map(|known| known.stage)
        {
            match stage {
                Stage::Started => {}
                Stage::Written | Stage::Doubtful if self.state.turn.is_none() => {
                    // What begins a turn is told otherwise; an input that comes twice is only echoed.
                    self.state.follow(id, Stage::Started);
                    self.input_changed(id, InputState::Applied, "");
                }
                _ => self.started(id),
            }
            return;
        }
        let content = line
            .object("message")
            .and_then(|message| message.text("content"))
            .unwrap_or_default();
        if content.starts_with("<local-command-std") {
            self.notice("local_command", &content, text);
        }
    }

    fn tool_result(&mut self, block: &Object<'_>, structured: Option<&str>) {
        let mut budget = Self::budget();
        let mut blocks = Vec::new();
        match block.raw("content") {
            None => {}
            Some(content) => match string(content) {
                Some(text) => blocks.push(self.text_block(text, false, &mut budget)),
                None => {
                    let parts = block.array("content").unwrap_or_else(|| vec![content]);
                    for part in parts {
                        blocks.push(self.part(part, &mut budget));
                    }
                }
            },
        }
        self.event_with(
            EventBody::ToolResult {
                call_id: block.text_or_empty("tool_use_id"),
                blocks,
                is_error: block.flag("is_error"),
            },
            structured,
        );
    }

    /// A part of a tool's result: text, media, or what is shown as the JSON it is.
    fn part(&mut self, part: &str, budget: &mut usize) -> Block {
        let object = Object::parse(part).unwrap_or_default();
        match (object.text_or_empty("type").as_str(), object.text("text")) {
            ("text", Some(text)) => self.text_block(text, false, budget),
            ("image" | "document", _) => self.media(&object, budget),
            _ => self.text_block(part.to_owned(), false, budget),
        }
    }

    /// An image or document. Its bytes become content; one that is only named is shown as it is written.
    fn media(&mut self, block: &Object<'_>, budget: &mut usize) -> Block {
        let source = block.object("source").unwrap_or_default();
        if let Some(data) = source.text("data") {
            let media_type = source
                .text("media_type")
                .filter(|name| is_media_type(name))
                .unwrap_or_else(|| "application/octet-stream".to_owned());
            return match STANDARD.decode(data.as_bytes()) {
                Ok(bytes) => Block::Content(self.content(&bytes, &media_type)),
                Err(_) => Block::Content(self.content(data.as_bytes(), "text/plain")),
            };
        }
        let named = block.raw("source").unwrap_or("an image without data");
        self.text_block(named.to_owned(), false, budget)
    }

    /// The harness took an input: it is applied, and part of the turn.
    pub(super) fn started(&mut self, id: InputId) {
        self.state.follow(id, Stage::Started);
        self.input_changed(id, InputState::Applied, "");
        self.turn(Some(id));
    }
}

/// What somebody says, gathered until something else comes between.
struct Said {
    role: Role,
    message_id: String,
    parent: String,
    blocks: Vec<Block>,
    budget: usize,
}

impl Said {
    fn new(role: Role, message_id: String, parent: String) -> Self {
        Said {
            role,
            message_id,
            parent,
            blocks: Vec::new(),
            budget: Step::budget(),
        }
    }

    fn push(&mut self, step: &mut Step<'_>, text: String, thinking: bool) {
        if !text.is_empty() {
            self.blocks
                .push(step.text_block(text, thinking, &mut self.budget));
        }
    }

    fn flush(&mut self, step: &mut Step<'_>) {
        if self.blocks.is_empty() {
            return;
        }
        self.budget = Step::budget();
        step.event(EventBody::Message {
            role: self.role,
            blocks: std::mem::take(&mut self.blocks),
            message_id: self.message_id.clone(),
            parent_call_id: self.parent.clone(),
        });
    }
}

fn todo_items(input: &Object<'_>) -> Option<Vec<PlanItem>> {
    let todos = input.objects("todos")?;
    let items = todos.iter().take(MAX_PLAN_ITEMS).filter_map(|todo| {
        let status = todo.text_or_empty("status");
        let known = matches!(status.as_str(), "pending" | "in_progress" | "completed");
        Some(PlanItem {
            text: cut(&todo.text("content")?, 1_000),
            status: if known { status } else { "pending".to_owned() },
        })
    });
    Some(items.collect())
}

fn is_media_type(name: &str) -> bool {
    name.len() <= 100
        && name.contains('/')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/-+.".contains(&b))
}
