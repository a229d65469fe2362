//! The interpreter of one session of Claude Code, or of anything that speaks like it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::state::{Announced, Note, OpenRequest, State};
use super::step::Step;
use super::turns::End;
use super::usage::Ledger;
use super::{answer, control};
use crate::base::{Code, Error, Result};
use crate::domain::command::StartCommand;
use crate::domain::policy::SHOWN_IN_PART;
use crate::domain::{Command, CommandBody, EventBody, Prompt};
use crate::driver::line::Object;
use crate::driver::pieces::MAX_LINE_BYTES;
use crate::driver::{Action, Driver, Output, Place, Record, RecordBody, Write};

/// The form of a snapshot; a later driver reads this one and older ones.
const SNAPSHOT_VERSION: u32 = 1;

/// Interprets what Claude Code writes, and writes what it is to read.
pub struct ClaudeDriver {
    place: Place,
    state: State,
    /// The start of a line whose rest has not come.
    partial: Vec<u8>,
    /// What the agent is told beside its inputs, in its first greeting; one that goes on from a snapshot has been.
    instructions: String,
}

/// The first line of a snapshot; the bytes of an unfinished line follow.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u32,
    state: State,
}

impl ClaudeDriver {
    /// A driver at the start of a session, or going on from a snapshot.
    pub fn open(place: Place, start: &StartCommand, snapshot: Option<&[u8]>) -> Result<Self> {
        match snapshot {
            Some(snapshot) => ClaudeDriver::restore(place, snapshot),
            None => Ok(ClaudeDriver::new(place, start)),
        }
    }

    /// A driver at the start of a session.
    pub fn new(place: Place, start: &StartCommand) -> Self {
        let resumed = !start.provider_session_id.is_empty();
        let state = State {
            ledger: Ledger::new(resumed),
            announced: Announced {
                provider_session_id: match start.fork {
                    true => String::new(),
                    false => start.provider_session_id.clone(),
                },
                model: start.model.clone(),
                cwd: start.cwd.clone(),
                ..Announced::default()
            },
            ..State::default()
        };
        ClaudeDriver {
            place,
            state,
            partial: Vec::new(),
            instructions: start.instructions.clone(),
        }
    }

    /// A driver that goes on from a snapshot.
    pub(super) fn restore(place: Place, snapshot: &[u8]) -> Result<Self> {
        let broken = |problem: String| Error::internal(format!("a driver's snapshot: {problem}"));
        let end = snapshot
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or_else(|| broken("it has no first line".to_owned()))?;
        let read: Snapshot = serde_json::from_slice(&snapshot[..end])
            .map_err(|problem| broken(problem.to_string()))?;
        if read.version > SNAPSHOT_VERSION {
            return Err(broken(format!("its form {} is newer", read.version)));
        }
        Ok(ClaudeDriver {
            place,
            state: read.state,
            partial: snapshot[end + 1..].to_vec(),
            instructions: String::new(),
        })
    }

    /// Takes a prompt up again that was asked before this driver was, for a session whose earlier driver left no
    /// snapshot. One that shows its input in part only cannot be answered any more: the agent wants the whole back.
    pub fn reopen(&mut self, prompt: &Prompt) {
        let in_part = prompt.input.as_str().contains(SHOWN_IN_PART);
        if in_part || self.state.open_request(&prompt.request_key).is_some() {
            return;
        }
        self.state.open.push(OpenRequest {
            key: prompt.request_key.clone(),
            prompt_id: prompt.id,
            kind: prompt.kind,
            tool: prompt.tool.clone(),
            input: prompt.input.clone(),
            questions: prompt.questions.iter().map(|it| it.text.clone()).collect(),
            doubtful: false,
        });
    }

    fn greeting(&self) -> serde_json::Value {
        match self.instructions.as_str() {
            "" => json!({"subtype": "initialize"}),
            told => json!({"subtype": "initialize", "appendSystemPrompt": told}),
        }
    }

    fn initialize(&self, generation: impl std::fmt::Display) -> Write {
        let id = format!("{}{generation}", control::INITIALIZE);
        Write {
            data: control::request(&id, self.greeting()),
            id,
            close: false,
            note: Note::Own.encode(),
        }
    }
}

impl Driver for ClaudeDriver {
    fn begin(&mut self) -> Vec<Write> {
        vec![self.initialize(0)]
    }

    fn resync(&mut self, generation: u64) -> Vec<Write> {
        vec![self.initialize(format_args!("resync-{generation}"))]
    }

    fn record(&mut self, record: &Record) -> Vec<Output> {
        let mut step = Step::new(self.place, record, &mut self.state);
        match &record.body {
            RecordBody::Spawned { pid } => {
                step.state.pid = *pid;
                step.announce();
            }
            RecordBody::Stdout { data, continues } => {
                step.stdout(&mut self.partial, data, *continues);
            }
            RecordBody::Stderr { data, continues } => {
                let mut tail = std::mem::take(&mut step.state.stderr_tail);
                step.stderr(&mut tail, data, *continues);
                step.state.stderr_tail = tail;
            }
            RecordBody::Written {
                id,
                note,
                outcome,
                reason,
            } => step.written(id, note, *outcome, reason),
            RecordBody::Exited {
                code,
                signal,
                message,
                ..
            } => {
                step.end_line(&mut self.partial);
                let crashed = *signal != 0 || code.is_none() || !message.is_empty();
                step.exited(crashed);
            }
            // A session in a terminal has a driver of its own.
            RecordBody::Shown => {}
            RecordBody::Missing { from, to, reason } => {
                step.end_line(&mut self.partial);
                step.state.streams.clear();
                step.event(EventBody::Gap {
                    from_origin_seq: *from,
                    to_origin_seq: *to,
                    reason: reason.clone(),
                });
            }
        }
        step.settle_activity();
        step.out
    }

    fn command(&mut self, command: &Command) -> Result<Action> {
        if self.state.exited {
            return Err(Error::new(Code::InvalidState, "the agent has ended"));
        }
        let id = command.id.to_string();
        let write = |data: Bytes, note: Note| Write {
            id: id.clone(),
            data,
            close: false,
            note: note.encode(),
        };
        let ask = |request| control::request(&id, request);
        Ok(match &command.body {
            CommandBody::Start(_) => {
                return Err(Error::state(
                    "a session is started once, and not by its driver",
                ));
            }
            CommandBody::Input { input_id, text, .. } => Action::Write(write(
                control::input(*input_id, text),
                Note::Input {
                    input_id: *input_id,
                },
            )),
            CommandBody::Interrupt => {
                let request = ask(json!({"subtype": "interrupt"}));
                Action::WriteAndWait(write(request, Note::Interrupt))
            }
            CommandBody::Answer {
                prompt_id,
                request_key,
                answer,
            } => {
                let open = self
                    .state
                    .open_request(request_key)
                    .filter(|open| open.prompt_id == *prompt_id && !open.doubtful)
                    .ok_or_else(|| Error::state("the agent no longer asks this"))?;
                let note = Note::Answer {
                    prompt_id: *prompt_id,
                    request_key: request_key.clone(),
                };
                Action::Write(write(answer::line(open, answer)?, note))
            }
            CommandBody::End { force, message, .. } => Action::Stop {
                polite: match force {
                    true => Bytes::new(),
                    false => ask(json!({"subtype": "end_session", "reason": message})),
                },
                force: *force,
                note: Note::End.encode(),
            },
            CommandBody::Options {
                model,
                permission_mode,
            } => {
                let note = Note::Options {
                    model: model.clone(),
                    permission_mode: *permission_mode,
                };
                match model.as_deref() {
                    // Modes are the server's: the agent goes on asking about everything.
                    None => Action::Write(write(control::keep_alive(), note)),
                    Some("") => {
                        let request = ask(json!({"subtype": "set_model"}));
                        Action::WriteAndWait(write(request, note))
                    }
                    Some(model) => {
                        super::model::check_model(model)?;
                        let request = ask(json!({"subtype": "set_model", "model": model}));
                        Action::WriteAndWait(write(request, note))
                    }
                }
            }
            CommandBody::CancelInput { input_id } => {
                let request = ask(json!({
                    "subtype": "cancel_async_message",
                    "message_uuid": input_id.to_uuid(),
                }));
                let note = Note::Cancel {
                    input_id: *input_id,
                };
                Action::WriteAndWait(write(request, note))
            }
        })
    }

    fn snapshot(&self) -> Vec<u8> {
        let snapshot = Snapshot {
            version: SNAPSHOT_VERSION,
            state: self.state.clone(),
        };
        // The state has only types that JSON can say.
        let mut bytes = serde_json::to_vec(&snapshot).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.partial);
        bytes
    }
}

impl Step<'_> {
    /// A piece of standard output: lines are put together from their parts.
    fn stdout(&mut self, partial: &mut Vec<u8>, data: &Bytes, continues: bool) {
        if !continues && partial.is_empty() && !self.state.oversize {
            if data.len() <= MAX_LINE_BYTES {
                return self.line(data);
            }
            self.state.oversize = true;
        }
        for piece in data.chunks(MAX_LINE_BYTES) {
            if partial.len() + piece.len() > MAX_LINE_BYTES {
                self.state.oversize = true;
                self.oversize_piece(partial);
            }
            partial.extend_from_slice(piece);
        }
        if !continues {
            self.end_line(partial);
        }
    }

    /// The end of a line, or of the output.
    fn end_line(&mut self, partial: &mut Vec<u8>) {
        if std::mem::take(&mut self.state.oversize) {
            return self.oversize_piece(partial);
        }
        let line = std::mem::take(partial);
        self.line(&line);
    }

    fn oversize_piece(&mut self, partial: &mut Vec<u8>) {
        if partial.is_empty() {
            return;
        }
        let piece = std::mem::take(partial);
        self.oversize(&piece);
    }

    /// A whole line of standard output.
    fn line(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        let Some(line) = Object::parse(text) else {
            return self.notice("stdout", text, text);
        };
        let kind = line.text_or_empty("type");
        match kind.as_str() {
            "system" => self.system(&line, text),
            "assistant" => self.assistant(&line, text),
            "user" => self.user(&line, text),
            "stream_event" => self.stream_event(&line),
            "result" => self.result(&line, text),
            "command_lifecycle" => self.lifecycle(&line, text),
            "control_request" => self.control_request(&line, text),
            "control_cancel_request" => self.control_cancel(&line),
            "control_response" => self.control_response(&line, text),
            "rate_limit_event" => self.rate_limit_event(&line, text),
            "tool_progress" => {
                let tool = line.text_or_empty("tool_name");
                let seconds = line.number("elapsed_time_seconds").unwrap_or(0);
                self.progress(format!("{tool} ({seconds} s)"));
            }
            "keep_alive" => {}
            "conversation_reset" => {
                // The next `system/init` has the new conversation's id.
                self.state.ledger.reset();
                self.notice(&kind, "the conversation begins anew", text);
            }
            "" => self.notice("stdout", "a line without a type", text),
            _ => self.notice(&kind, &line.text_or_empty("message"), text),
        }
    }

    /// The harness is gone: nothing of it stays open.
    fn exited(&mut self, crashed: bool) {
        self.withdraw_all("the agent has ended");
        self.end_turn(
            End {
                is_error: true,
                reason: "harness_ended".to_owned(),
                ..End::default()
            },
            None,
        );
        self.drop_waiting();
        self.drop_inputs(crashed);
        self.state.streams.clear();
        self.state.exited = true;
    }
}
