//! A turn: from a message, or the end of a background task, to the result line.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::base::Timestamp;

use super::agent::{Agent, Flow, Stop, Task};
use super::control::{CAPABILITIES, version};
use super::ledger::{Ledger, Usage};
use super::protocol::{Message, lifecycle, replay};
use super::script::{self, Directive, EXPLANATION};
use super::tool::OpenCall;

/// How much of a long text goes into one piece of the stream.
const PIECE_BYTES: usize = 64 * 1024;
/// How often a failing request is tried again before the turn gives up.
const RETRIES: u32 = 2;

/// A turn that runs.
pub struct Turn {
    /// The messages it closes; the first started it.
    messages: Vec<Message>,
    /// What started it, if no message did.
    origin: Option<Value>,
    script: VecDeque<Directive>,
    /// Calls without a result.
    pub(super) calls: Vec<OpenCall>,
    /// Results of tools that were not spoken of yet.
    pub(super) tool_texts: Vec<String>,
    /// Calls that were refused.
    pub(super) denials: Vec<Value>,
    /// The message of the model that is being streamed.
    open: Option<ModelMessage>,
    /// How many messages of the model there were.
    count: u32,
    /// The text last said.
    said: String,
    failure: Option<Failure>,
    usage: Usage,
    read_bytes: usize,
    started: Timestamp,
}

struct ModelMessage {
    id: String,
    blocks: usize,
    written_bytes: usize,
    /// The text of the block that is being streamed.
    partial: Option<String>,
}

/// Why the model's endpoint gave no answer.
struct Failure {
    status: u16,
    text: String,
}

impl Turn {
    fn new(started: Timestamp, origin: Option<Value>) -> Turn {
        Turn {
            messages: Vec::new(),
            origin,
            script: VecDeque::new(),
            calls: Vec::new(),
            tool_texts: Vec::new(),
            denials: Vec::new(),
            open: None,
            count: 0,
            said: String::new(),
            failure: None,
            usage: Usage::default(),
            read_bytes: 0,
            started,
        }
    }

    fn add(&mut self, message: Message) {
        self.read_bytes += message.text.len();
        self.script.extend(script::directives(&message.text));
        self.messages.push(message);
    }

    fn uuids(&self) -> Vec<&str> {
        self.messages
            .iter()
            .filter_map(|message| message.uuid.as_deref())
            .collect()
    }
}

impl Agent {
    /// Plays a message.
    pub(super) fn user_turn(&mut self, message: Message) -> Flow {
        if let Some(uuid) = &message.uuid {
            self.say(lifecycle(uuid, "started"))?;
        }
        if message.text.trim() == "/clear" {
            return self.clear(message);
        }
        let mut turn = Turn::new(self.clock.now(), None);
        self.conversation.begin();
        self.conversation
            .heard(message.uuid.as_deref(), &message.text);
        self.save();
        self.say_init()?;
        turn.add(message.clone());
        self.say_requesting(&turn)?;
        self.say_replay(&message)?;
        self.play_to_end(turn)
    }

    /// Plays the end of a background task.
    pub(super) fn task_turn(&mut self, task: Task) -> Flow {
        let origin = json!({ "kind": "task-notification", "producer": "session-task" });
        let mut turn = Turn::new(self.clock.now(), Some(origin));
        self.conversation.begin();
        turn.script.push_back(Directive::Say(task.text));
        self.say_init()?;
        self.say_requesting(&turn)?;
        self.play_to_end(turn)
    }

    /// Forgets the conversation: what comes next belongs to another one.
    fn clear(&mut self, message: Message) -> Flow {
        let turn = Turn::new(self.clock.now(), None);
        let next = self.conversation.cleared();
        let reset = self.conversation.next_uuid();
        self.save();
        self.say(json!({
            "type": "conversation_reset",
            "new_conversation_id": reset,
            "trigger": "clear",
            "user_message_uuid": message.uuid,
        }))?;
        self.conversation = next;
        self.conversation.begin();
        self.conversation
            .heard(message.uuid.as_deref(), &message.text);
        self.ledger = Ledger::default();
        self.drop_tasks()?;
        self.say_init()?;
        self.say_replay(&message)?;
        let mut line = self.result(&turn, "success", false);
        line["result"] = json!("");
        line["local_command"] = json!("clear");
        line["user_message_uuids"] = json!(message.uuid.iter().collect::<Vec<_>>());
        self.say(line)?;
        self.save();
        match &message.uuid {
            Some(uuid) => self.say(lifecycle(uuid, "completed")),
            None => Ok(()),
        }
    }

    fn play_to_end(&mut self, mut turn: Turn) -> Flow {
        self.in_turn = true;
        self.interrupted = false;
        let played = self.play(&mut turn);
        self.in_turn = false;
        self.interrupted = false;
        match played {
            Ok(()) => self.complete(turn),
            Err(Stop::Interrupted) => self.abort(turn),
            Err(stop) => {
                // What was said last is kept for whoever resumes.
                self.save();
                Err(stop)
            }
        }
    }

    fn play(&mut self, turn: &mut Turn) -> Flow {
        while let Some(directive) = turn.script.pop_front() {
            self.pump()?;
            self.perform(turn, directive)?;
            if turn.failure.is_some() {
                return Ok(());
            }
            if turn.script.is_empty() && !turn.tool_texts.is_empty() {
                // The model always speaks last, so it tells what its tools told it.
                let told = format!("tool said: {}", turn.tool_texts.join(" | "));
                self.say_text(turn, [told], Duration::ZERO)?;
            }
        }
        self.close_message(turn, "end_turn")
    }

    fn perform(&mut self, turn: &mut Turn, directive: Directive) -> Flow {
        match directive {
            Directive::Say(text) => self.say_text(turn, [text], Duration::ZERO),
            Directive::Instructions => {
                let told = match self.instructions.as_str() {
                    "" => "I was told nothing beside my inputs.".to_owned(),
                    told => format!("I was told: {told}"),
                };
                self.say_text(turn, [told], Duration::ZERO)
            }
            Directive::Explain => self.say_text(
                turn,
                EXPLANATION.iter().map(|piece| (*piece).to_owned()),
                Duration::ZERO,
            ),
            Directive::Recall => {
                let earlier = self.conversation.recall();
                let told = if earlier.is_empty() {
                    "nothing was asked before".to_owned()
                } else {
                    format!("asked before: {}", earlier.join(" | "))
                };
                self.say_text(turn, [told], Duration::ZERO)
            }
            Directive::Stream { chunks, pause } => {
                let pieces = (1..=chunks).map(|chunk| format!("chunk {chunk}. "));
                self.say_text(turn, pieces, pause)
            }
            Directive::Big { bytes } => {
                let pieces = (0..bytes)
                    .step_by(PIECE_BYTES)
                    .map(|at| "x".repeat(PIECE_BYTES.min(bytes - at)));
                self.say_text(turn, pieces, Duration::ZERO)
            }
            Directive::Think(text) => self.think(turn, text),
            Directive::Tools(calls) => self.call_tools(turn, calls),
            Directive::Background { delay, text } => self.start_task(turn, delay, text),
            Directive::Limit { seconds } => self.limit(turn, seconds),
            Directive::Error { status } => self.fail(turn, status),
            Directive::Crash { code } => Err(Stop::Exit(code)),
            Directive::Hang => loop {
                std::thread::park();
            },
            Directive::Stderr(text) => {
                self.complain(&text);
                Ok(())
            }
            Directive::Odd => self.say(json!({
                "type": "demo_oddity",
                "subtype": "nobody_knows_this",
                "payload": { "deep": [1, { "deeper": null }] },
            })),
            Directive::Cost { micros } => {
                self.ledger.charge(&self.model, Usage::of_cost(micros));
                Ok(())
            }
        }
    }

    /// Takes the queued messages into the turn: this is a tool boundary. A command of the session waits
    /// for its own turn, and so does what was sent behind it.
    pub(super) fn take_in(&mut self, turn: &mut Turn) -> Flow {
        self.pump()?;
        while self
            .queue
            .front()
            .is_some_and(|message| message.text.trim() != "/clear")
        {
            let Some(message) = self.queue.pop_front() else {
                break;
            };
            self.conversation
                .heard(message.uuid.as_deref(), &message.text);
            self.say_replay(&message)?;
            if let Some(uuid) = &message.uuid {
                self.say(lifecycle(uuid, "started"))?;
            }
            turn.add(message);
        }
        Ok(())
    }

    /// Says a text in pieces, each after `pause`.
    fn say_text(
        &mut self,
        turn: &mut Turn,
        pieces: impl IntoIterator<Item = String>,
        pause: Duration,
    ) -> Flow {
        self.open_message(turn)?;
        turn.tool_texts.clear();
        self.start_block(turn, json!({ "type": "text", "text": "" }))?;
        let mut due = Instant::now();
        for piece in pieces {
            if pause.is_zero() {
                self.pump()?;
            } else {
                due += pause;
                self.wait_until(Some(due), |_| false)?;
            }
            self.say_delta(turn, json!({ "type": "text_delta", "text": piece }))?;
            if let Some(open) = &mut turn.open {
                open.partial.get_or_insert_default().push_str(&piece);
            }
        }
        let text = turn
            .open
            .as_mut()
            .and_then(|open| open.partial.take())
            .unwrap_or_default();
        self.say_block(turn, json!({ "type": "text", "text": text }), text.len())?;
        turn.said = text;
        Ok(())
    }

    fn think(&mut self, turn: &mut Turn, text: String) -> Flow {
        self.open_message(turn)?;
        self.start_block(
            turn,
            json!({ "type": "thinking", "thinking": "", "signature": "" }),
        )?;
        self.say_delta(turn, json!({ "type": "thinking_delta", "thinking": text }))?;
        self.say_delta(
            turn,
            json!({ "type": "signature_delta", "signature": "ZGVtbw==" }),
        )?;
        let length = text.len();
        let block = json!({ "type": "thinking", "thinking": text, "signature": "ZGVtbw==" });
        self.say_block(turn, block, length)
    }

    /// Says that a tool is called.
    pub(super) fn say_call(
        &mut self,
        turn: &mut Turn,
        id: &str,
        tool: &str,
        input: &Value,
    ) -> Flow {
        self.open_message(turn)?;
        self.start_block(
            turn,
            json!({ "type": "tool_use", "id": id, "name": tool, "input": {} }),
        )?;
        let text = input.to_string();
        self.say_delta(
            turn,
            json!({ "type": "input_json_delta", "partial_json": text }),
        )?;
        let block = json!({ "type": "tool_use", "id": id, "name": tool, "input": input });
        self.say_block(turn, block, text.len())
    }

    fn open_message(&mut self, turn: &mut Turn) -> Flow {
        if turn.open.is_some() {
            return Ok(());
        }
        if turn.count > 0 {
            self.say_requesting(turn)?;
        }
        let id = self.conversation.next_id("msg");
        turn.count += 1;
        turn.open = Some(ModelMessage {
            id: id.clone(),
            blocks: 0,
            written_bytes: 0,
            partial: None,
        });
        let message = self.model_message(&id, json!([]));
        self.say_stream(json!({ "type": "message_start", "message": message }))
    }

    /// Ends the message of the model that is being streamed, if there is one.
    pub(super) fn close_message(&mut self, turn: &mut Turn, reason: &str) -> Flow {
        let Some(open) = turn.open.take() else {
            return Ok(());
        };
        let usage = Usage::of_text(turn.read_bytes, open.written_bytes);
        self.ledger.charge(&self.model, usage);
        turn.usage.add(usage);
        self.say_stream(json!({
            "type": "message_delta",
            "delta": { "stop_reason": reason, "stop_sequence": null },
            "usage": usage.line(),
        }))?;
        self.say_stream(json!({ "type": "message_stop" }))
    }

    fn start_block(&mut self, turn: &Turn, block: Value) -> Flow {
        let index = turn.open.as_ref().map_or(0, |open| open.blocks);
        self.say_stream(
            json!({ "type": "content_block_start", "index": index, "content_block": block }),
        )
    }

    fn say_delta(&mut self, turn: &Turn, delta: Value) -> Flow {
        let index = turn.open.as_ref().map_or(0, |open| open.blocks);
        self.say_stream(json!({ "type": "content_block_delta", "index": index, "delta": delta }))
    }

    /// Sends a finished block, and that it is finished.
    fn say_block(&mut self, turn: &mut Turn, block: Value, bytes: usize) -> Flow {
        let line = self.assistant(turn, block);
        self.say(line)?;
        let Some(open) = &mut turn.open else {
            return Ok(());
        };
        let index = open.blocks;
        open.blocks += 1;
        open.written_bytes += bytes;
        self.say_stream(json!({ "type": "content_block_stop", "index": index }))
    }

    fn assistant(&self, turn: &Turn, block: Value) -> Value {
        let id = turn.open.as_ref().map_or("", |open| open.id.as_str());
        json!({
            "type": "assistant",
            "message": self.model_message(id, json!([block])),
            "parent_tool_use_id": null,
            "timestamp": self.timestamp(),
            "user_message_uuids": turn.uuids(),
        })
    }

    fn model_message(&self, id: &str, content: Value) -> Value {
        json!({
            "id": id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": Usage::default().line(),
        })
    }

    fn say_stream(&mut self, event: Value) -> Flow {
        self.say(json!({ "type": "stream_event", "event": event, "parent_tool_use_id": null }))
    }

    fn say_init(&mut self) -> Flow {
        self.say(json!({
            "type": "system",
            "subtype": "init",
            "cwd": self.cwd,
            "tools": ["AskUserQuestion", "Bash", "Edit", "ExitPlanMode", "Write"],
            "mcp_servers": [],
            "model": self.model,
            "permissionMode": self.permissions.mode(),
            "slash_commands": ["clear"],
            "apiKeySource": "none",
            "claude_code_version": version(),
            "output_style": "default",
            "agents": [],
            "skills": [],
            "plugins": [],
            "capabilities": CAPABILITIES,
            "original_cwd": self.cwd,
        }))
    }

    fn say_requesting(&mut self, turn: &Turn) -> Flow {
        self.say(json!({
            "type": "system",
            "subtype": "status",
            "status": "requesting",
            "user_message_uuids": turn.uuids(),
        }))
    }

    fn say_replay(&mut self, message: &Message) -> Flow {
        let mut line = replay(message);
        line["timestamp"] = self.timestamp();
        self.say(line)
    }

    fn limit(&mut self, turn: &mut Turn, seconds: u64) -> Flow {
        let resets = self
            .clock
            .now()
            .saturating_add(Duration::from_secs(seconds));
        self.say(json!({
            "type": "rate_limit_event",
            "rate_limit_info": {
                "status": "rejected",
                "resetsAt": resets.as_millis() / 1_000,
                "rateLimitType": "five_hour",
                "isUsingOverage": false,
            },
        }))?;
        let text = format!("API Error: Request rejected (429) · the limit ends at {resets}");
        self.fail_with(turn, 429, text)
    }

    fn fail(&mut self, turn: &mut Turn, status: u16) -> Flow {
        // The waits between the tries are left out: nobody wants to wait for a demo's failure.
        if matches!(status, 401 | 408 | 429 | 500..) {
            for attempt in 1..=RETRIES {
                self.pump()?;
                self.say(json!({
                    "type": "system",
                    "subtype": "api_retry",
                    "attempt": attempt,
                    "max_retries": RETRIES,
                    "retry_delay_ms": 0,
                    "error_status": status,
                    "error": error_name(status),
                }))?;
            }
        }
        self.fail_with(
            turn,
            status,
            format!("API Error: {status} demo says {status}"),
        )
    }

    fn fail_with(&mut self, turn: &mut Turn, status: u16, text: String) -> Flow {
        self.close_message(turn, "end_turn")?;
        let id = self.conversation.next_id("msg");
        turn.count += 1;
        let mut message = self.model_message(&id, json!([{ "type": "text", "text": text }]));
        message["model"] = json!("<synthetic>");
        message["stop_reason"] = json!("stop_sequence");
        self.say(json!({
            "type": "assistant",
            "message": message,
            "parent_tool_use_id": null,
            "timestamp": self.timestamp(),
            "error": error_name(status),
            "is_api_error_message": true,
            "api_error_status": status,
        }))?;
        turn.failure = Some(Failure { status, text });
        Ok(())
    }

    fn complete(&mut self, mut turn: Turn) -> Flow {
        let mut line = self.result(&turn, "success", turn.failure.is_some());
        match turn.failure.take() {
            Some(failure) => {
                line["result"] = json!(failure.text);
                line["terminal_reason"] = json!("api_error");
                line["api_error_status"] = json!(failure.status);
                self.conversation.said(&failure.text);
                self.end_turn(&turn, line, "cancelled")
            }
            None => {
                line["result"] = json!(turn.said);
                line["terminal_reason"] = json!("completed");
                line["api_error_status"] = Value::Null;
                self.conversation.said(&turn.said);
                self.end_turn(&turn, line, "completed")
            }
        }
    }

    fn abort(&mut self, mut turn: Turn) -> Flow {
        let in_tools = !turn.calls.is_empty();
        let partial = turn.open.as_mut().and_then(|open| open.partial.take());
        if let Some(partial) = partial.filter(|partial| !partial.is_empty()) {
            let block = json!({ "type": "text", "text": partial });
            let mut line = self.assistant(&turn, block);
            line["aborted"] = json!(true);
            self.say(line)?;
            self.conversation.said(&partial);
        }
        self.reject_calls(&mut turn)?;
        let (told, reason) = if in_tools {
            (
                "[Request interrupted by user for tool use]",
                "aborted_tools",
            )
        } else {
            ("[Request interrupted by user]", "aborted_streaming")
        };
        self.say(json!({
            "type": "user",
            "message": { "role": "user", "content": [{ "type": "text", "text": told }] },
            "parent_tool_use_id": null,
            "timestamp": self.timestamp(),
        }))?;
        self.close_message(&mut turn, "end_turn")?;
        let mut line = self.result(&turn, "error_during_execution", true);
        line["errors"] = json!([format!("the turn was interrupted ({reason})")]);
        line["terminal_reason"] = json!(reason);
        self.end_turn(&turn, line, "cancelled")
    }

    /// Sends the result of a turn between the ends of its messages, as Claude Code orders them: messages
    /// taken in on the way end before the result, the one that started the turn ends after it.
    fn end_turn(&mut self, turn: &Turn, mut line: Value, state: &str) -> Flow {
        line["user_message_uuids"] = json!(turn.uuids());
        for message in turn.messages.iter().skip(1) {
            if let Some(uuid) = &message.uuid {
                self.say(lifecycle(uuid, state))?;
            }
        }
        self.save();
        self.say(line)?;
        match turn
            .messages
            .first()
            .and_then(|message| message.uuid.as_deref())
        {
            Some(uuid) => self.say(lifecycle(uuid, state)),
            None => Ok(()),
        }
    }

    fn result(&mut self, turn: &Turn, subtype: &str, is_error: bool) -> Value {
        let took = self.clock.now().saturating_since(turn.started);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let index = self.results;
        self.results += 1;
        let mut line = json!({
            "type": "result",
            "subtype": subtype,
            "is_error": is_error,
            "num_turns": turn.count,
            "duration_ms": took_ms,
            "duration_api_ms": took_ms,
            "total_cost_usd": self.ledger.total_usd(),
            "usage": turn.usage.line(),
            "modelUsage": self.ledger.models(),
            "permission_denials": turn.denials,
            "result_index": index,
            // Claude Code gives 0 even where messages wait, so no driver can build on it.
            "queued_turn_count": 0,
        });
        if let Some(origin) = &turn.origin {
            line["origin"] = origin.clone();
        }
        line
    }
}

fn error_name(status: u16) -> &'static str {
    match status {
        401 | 403 => "authentication_failed",
        429 => "rate_limit",
        529 => "overloaded",
        500.. => "server_error",
        _ => "unknown",
    }
}
