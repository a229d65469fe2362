//! One session of an older daemon: its messages as the standard input and output of its agent.
//!
//! The daemon hands on what its agent writes, line by line, so [the driver](crate::driver::claude) of the agent's
//! own protocol reads it, and what that driver writes becomes the daemon's messages. What those messages cannot
//! say is refused, and what the older daemon keeps to itself (that it has taken an interruption, for instance)
//! is put in its place once the message is in the socket.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::message::{Ended, Permission, Question};
use crate::base::id::{CommandId, InputId, SessionId};
use crate::base::{Error, Result, Timestamp};
use crate::domain::command::StartCommand;
use crate::domain::event::Origin;
use crate::domain::link::{Position, Record as LinkRecord, SessionReport};
use crate::domain::{Command, CommandBody, EndInfo, EndReason, EventBody, Prompt, Session};
use crate::driver::claude::ClaudeDriver;
use crate::driver::{
    Action, Driver as _, Gathered, Place, Record, RecordBody, Write, WriteOutcome, link_record,
};

/// How long a daemon may take to say that an agent it was told to end has ended. It closes the agent's input
/// and kills it after five seconds.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// What waits to be stored above which nothing more is read of the daemon: records and their bytes.
const MAX_KEPT: usize = 512;
const MAX_KEPT_BYTES: u64 = 4 << 20;
/// How many inputs are remembered until the agent's echo of them comes; the oldest is forgotten.
const MAX_ECHOES: usize = 64;
/// Before the ids of requests that came in the forms before control requests.
const QUESTION: &str = "legacy-question:";
const PERMISSION: &str = "legacy-permission:";

/// A message for the daemon, and what is to be done once it is in the socket.
pub(super) struct Order {
    /// The message; `None` if nothing needs to be said.
    pub said: Option<String>,
    /// What the driver would have written.
    pub write: Write,
    /// When the command is done.
    pub then: Then,
}

/// When a command is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// When its message is in the socket.
    Written,
    /// The same, and the driver is told so: it waits for a word of the agent that older daemons do not hand on.
    Confirmed,
    /// When the agent has ended.
    Ended,
}

/// A record that the link may ask for again.
pub(super) struct Kept {
    /// Its number.
    pub position: Position,
    /// The record.
    pub record: LinkRecord,
    /// What it refers to, by hash.
    pub content: Vec<(String, Bytes)>,
}

/// The session.
pub(super) struct Agent {
    id: SessionId,
    driver: ClaudeDriver,
    epoch: u64,
    seq: u64,
    /// How it is to be started, until the first input comes: the older daemons start an agent with its input.
    start: Option<StartCommand>,
    /// Not known to be stored, oldest first, and which of them is to be pushed next.
    kept: VecDeque<Kept>,
    next: Option<usize>,
    /// Inputs whose echo has not come.
    echoes: VecDeque<(InputId, String)>,
    /// Why it was told to end, and when that is taken for done.
    stopping: Option<(EndReason, String, Timestamp)>,
    /// The commands that end with it.
    pub stops: Vec<CommandId>,
    exited: bool,
}

impl Agent {
    /// One that is to be started with its first input; numbered in `epoch`.
    pub fn new(id: SessionId, epoch: u64, start: &StartCommand) -> Self {
        let place = Place {
            session_id: id,
            origin_epoch: epoch,
        };
        Agent {
            id,
            driver: ClaudeDriver::new(place, start),
            epoch,
            seq: 0,
            start: Some(start.clone()),
            kept: VecDeque::new(),
            next: None,
            echoes: VecDeque::new(),
            stopping: None,
            stops: Vec::new(),
            exited: false,
        }
    }

    /// One that was started before this server was, with what it asks.
    pub fn found(session: &Session, epoch: u64, asks: &[Prompt]) -> Self {
        let start = StartCommand {
            harness: session.harness.clone(),
            cwd: session.cwd.clone(),
            model: session.model.clone(),
            permission_mode: session.permission_mode,
            mode: session.mode,
            argv: Vec::new(),
            env_names: Vec::new(),
            provider_session_id: session.provider_session_id.clone(),
            fork: false,
            one_shot: false,
            replaces: None,
            terminal: None,
            instructions: String::new(),
        };
        let mut agent = Agent::new(session.id, epoch, &start);
        // Without a conversation and without a turn it has had no input yet.
        if !session.provider_session_id.is_empty() || session.turns > 0 || session.in_turn {
            agent.start = None;
        }
        for prompt in asks {
            agent.driver.reopen(prompt);
        }
        agent
    }

    /// Whether the daemon has been told to start it.
    pub fn is_started(&self) -> bool {
        self.start.is_none()
    }

    /// Whether its process is gone.
    pub fn has_exited(&self) -> bool {
        self.exited
    }

    /// Whether all that it said is stored, and it says nothing more.
    pub fn is_over(&self) -> bool {
        self.exited && self.kept.is_empty()
    }

    /// Whether more of it may be read.
    pub fn has_room(&self) -> bool {
        let bytes: u64 = self.kept.iter().map(|kept| kept.record.size_bytes).sum();
        self.kept.len() < MAX_KEPT && bytes < MAX_KEPT_BYTES
    }

    /// When its end is taken for done.
    pub fn stop_by(&self) -> Option<Timestamp> {
        let by = self.stopping.as_ref().map(|(_, _, by)| *by);
        by.filter(|_| !self.exited)
    }

    /// Where it is, for the link.
    pub fn report(&self) -> SessionReport {
        SessionReport {
            session_id: self.id,
            origin_epoch: self.epoch,
            last_origin_seq: self.seq,
            acked_origin_seq: 0,
            alive: !self.exited,
        }
    }

    // Up.

    /// Reads a record, numbers it, and keeps it until it is stored.
    pub fn read(&mut self, now: Timestamp, body: RecordBody) -> Gathered {
        self.seq += 1;
        let record = Record {
            seq: self.seq,
            time: now,
            body,
        };
        let origin = match &record.body {
            RecordBody::Stdout { .. } => Origin::Harness,
            _ => Origin::Daemon,
        };
        let gathered = Gathered::of(self.id, origin, now, self.driver.record(&record));
        self.keep(now, gathered)
    }

    /// Reads a line of the agent. The echo of an input, which the older daemons make themselves, is marked as
    /// one: the input is in the log already.
    pub fn line(&mut self, now: Timestamp, line: &RawValue) -> Gathered {
        let data = match self.echo_of(line.get()) {
            Some(id) => echo(id, line),
            None => line.get().to_owned(),
        };
        self.read(now, stdout(data))
    }

    fn echo_of(&mut self, line: &str) -> Option<InputId> {
        #[derive(Deserialize)]
        struct Line {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            parent_tool_use_id: Option<String>,
            #[serde(default, rename = "isReplay")]
            is_replay: bool,
            message: Value,
        }
        if self.echoes.is_empty() {
            return None;
        }
        let line: Line = serde_json::from_str(line).ok()?;
        if line.kind != "user" || line.parent_tool_use_id.is_some() || line.is_replay {
            return None;
        }
        let content = &line.message["content"];
        let text = match content {
            Value::String(text) => Some(text.as_str()),
            Value::Array(blocks) => match blocks.as_slice() {
                [block] => block["text"].as_str(),
                _ => None,
            },
            _ => None,
        }?;
        let at = self.echoes.iter().position(|(_, input)| input == text)?;
        self.echoes.remove(at).map(|(id, _)| id)
    }

    /// The agent's process is gone.
    pub fn ended(&mut self, now: Timestamp, ended: &Ended) -> Gathered {
        let said = ended.error.clone().unwrap_or_default();
        let failed = ended.exit_code.is_some_and(|code| code != 0) || !said.is_empty();
        let reason = match ended.reason.as_deref() {
            Some("user_terminated") => EndReason::Stopped,
            Some("timeout") => EndReason::Timeout,
            Some("error") => EndReason::Failed,
            _ if failed => EndReason::Failed,
            _ => EndReason::Completed,
        };
        let message = match (said.as_str(), ended.exit_code, reason) {
            ("", Some(code), EndReason::Failed) => {
                format!("the process ended with exit code {code}")
            }
            _ => said,
        };
        self.end(now, reason, ended.exit_code, message)
    }

    /// The agent is gone, for a reason that is not the process's own.
    pub fn end(
        &mut self,
        now: Timestamp,
        reason: EndReason,
        exit_code: Option<i32>,
        message: String,
    ) -> Gathered {
        let end = EndInfo {
            exit_code,
            ..EndInfo::because(reason, message.clone())
        };
        let end = match &self.stopping {
            Some((wanted, why, _)) => end.when_wanted(*wanted, why),
            None => end,
        };
        self.seq += 1;
        let crashed = matches!(reason, EndReason::Failed | EndReason::Crashed);
        let record = Record {
            seq: self.seq,
            time: now,
            body: RecordBody::Exited {
                code: exit_code.or((!crashed).then_some(0)),
                signal: 0,
                step: String::new(),
                message: match crashed {
                    true => message,
                    false => String::new(),
                },
            },
        };
        let outputs = self.driver.record(&record);
        let mut gathered = Gathered::of(self.id, Origin::Daemon, now, outputs);
        gathered.add(Origin::Daemon, EventBody::Ended { end });
        self.exited = true;
        self.keep(now, gathered)
    }

    fn keep(&mut self, now: Timestamp, mut gathered: Gathered) -> Gathered {
        // The link has its own copy; what is live is told apart by the events.
        let events = gathered.events.clone();
        let position = Position::new(self.epoch, self.seq);
        self.kept.push_back(Kept {
            position,
            record: link_record(self.seq, events, None, None, now),
            content: std::mem::take(&mut gathered.content),
        });
        gathered
    }

    /// The record to be pushed next.
    pub fn next(&self) -> Option<&Kept> {
        self.kept.get(self.next?)
    }

    /// The next record is the link's now.
    pub fn pushed(&mut self) {
        self.next = self.next.map(|next| next + 1);
    }

    /// Everything up to here is stored.
    pub fn stored(&mut self, through: Position) {
        while self
            .kept
            .front()
            .is_some_and(|kept| kept.position <= through)
        {
            self.kept.pop_front();
            self.next = self.next.map(|next| next.saturating_sub(1));
        }
    }

    /// What comes after this record is to be pushed again.
    pub fn rewind(&mut self, after: Position) {
        self.stored(after);
        self.next = Some(0);
    }

    /// The server has a younger numbering than this one: what it does not have is numbered anew.
    pub fn renumber(&mut self, stored: Position) {
        self.stored(stored);
        self.epoch = stored.origin_epoch + 1;
        self.seq = 0;
        for kept in &mut self.kept {
            self.seq += 1;
            kept.record.origin_seq = self.seq;
            kept.position = Position::new(self.epoch, self.seq);
        }
        self.next = Some(0);
    }

    // Down.

    /// Turns a command into a message. An error refuses it.
    pub fn obey(&mut self, now: Timestamp, command: &Command) -> Result<Order> {
        let id = self.id.to_string();
        match &command.body {
            CommandBody::Input { .. } if self.stopping.is_some() => {
                return Err(Error::state("the session is being ended"));
            }
            CommandBody::Options {
                model: Some(model), ..
            } => match &mut self.start {
                // Told when it is started.
                Some(start) => start.model.clone_from(model),
                None => {
                    return Err(Error::state(
                        "a daemon of the older relay cannot change the model of an agent that runs",
                    ));
                }
            },
            CommandBody::CancelInput { .. } => {
                return Err(Error::state(
                    "a daemon of the older relay cannot take an input back",
                ));
            }
            _ => {}
        }
        let (write, then) = match self.driver.command(command)? {
            Action::Write(write) => (write, Then::Written),
            Action::WriteAndWait(write) => (write, Then::Confirmed),
            Action::Stop { note, .. } => {
                let write = Write {
                    id: command.id.to_string(),
                    data: Bytes::new(),
                    close: false,
                    note,
                };
                (write, Then::Ended)
            }
            Action::Nothing => {
                return Err(Error::state("there is nothing to do"));
            }
        };
        let said = match &command.body {
            CommandBody::Input { input_id, text, .. } => {
                if self.echoes.len() >= MAX_ECHOES {
                    self.echoes.pop_front();
                }
                self.echoes.push_back((*input_id, text.clone()));
                Some(match self.start.take() {
                    Some(start) => begin(&id, &start, text),
                    None => json!({ "type": "send_input", "session_id": id, "content": text })
                        .to_string(),
                })
            }
            // Nothing runs yet.
            CommandBody::Interrupt if self.start.is_some() => None,
            CommandBody::Interrupt => {
                Some(json!({ "type": "interrupt_session", "session_id": id }).to_string())
            }
            CommandBody::Answer { .. } => self.written(&write.data),
            CommandBody::End {
                reason, message, ..
            } => {
                self.stops.push(command.id);
                self.stopping = Some((*reason, message.clone(), now.saturating_add(END_PATIENCE)));
                self.end_message()
            }
            CommandBody::Start(_)
            | CommandBody::Options { .. }
            | CommandBody::CancelInput { .. } => None,
        };
        Ok(Order { said, write, then })
    }

    /// The message that ends it; `None` if there is nothing to end.
    pub fn end_message(&self) -> Option<String> {
        let id = self.id.to_string();
        let running = self.start.is_none() && !self.exited;
        running.then(|| json!({ "type": "end_session", "session_id": id }).to_string())
    }

    /// Whether it was told to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// A line that the driver writes, as the daemon's message; `None` if older daemons have none for it.
    pub fn written(&self, line: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Line {
            #[serde(rename = "type")]
            kind: String,
            response: Box<RawValue>,
        }
        let id = self.id.to_string();
        let line: Line = serde_json::from_slice(line).ok()?;
        if line.kind != "control_response" {
            return None;
        }
        // Looked at as a value, handed on as it is: an input goes back byte for byte.
        let response: Value = serde_json::from_str(line.response.get()).ok()?;
        let key = response["request_id"].as_str()?;
        let body = &response["response"];
        if let Some(request) = key.strip_prefix(PERMISSION) {
            return Some(
                json!({
                    "type": "permission_response", "session_id": id, "request_id": request,
                    "allow": body["behavior"] == "allow",
                })
                .to_string(),
            );
        }
        if let Some(call) = key.strip_prefix(QUESTION) {
            let answers = body["updatedInput"]["answers"].as_object();
            let answer = answers
                .and_then(|answers| answers.values().next())
                .and_then(Value::as_str)
                .or_else(|| body["message"].as_str());
            return Some(
                json!({
                    "type": "question_response", "session_id": id, "tool_use_id": call,
                    "answer": answer.unwrap_or_default(),
                })
                .to_string(),
            );
        }
        let (id, key) = (Value::from(id), Value::from(key));
        let raw = line.response.get();
        Some(format!(
            r#"{{"type":"control_response","session_id":{id},"request_id":{key},"response":{raw}}}"#
        ))
    }

    /// What was said under a write's id is in the socket, or may be.
    pub fn was_written(
        &mut self,
        now: Timestamp,
        write: &Write,
        outcome: WriteOutcome,
        reason: &str,
    ) -> Gathered {
        let body = RecordBody::Written {
            id: write.id.clone(),
            note: write.note.clone(),
            outcome,
            reason: reason.to_owned(),
        };
        self.read(now, body)
    }
}

/// The agent's word that it has done what was asked under `id`.
pub(super) fn confirmation(id: &str) -> RecordBody {
    let line = json!({
        "type": "control_response",
        "response": { "subtype": "success", "request_id": id },
    });
    stdout(line.to_string())
}

/// A line of the agent.
pub(super) fn stdout(line: String) -> RecordBody {
    RecordBody::Stdout {
        data: Bytes::from(line),
        continues: false,
    }
}

/// A request of the agent as it would have written it.
pub(super) fn control(request_id: &str, request: &RawValue) -> String {
    let id = Value::from(request_id);
    let request = request.get();
    format!(r#"{{"type":"control_request","request_id":{id},"request":{request}}}"#)
}

/// A question in the form before control requests, as the agent would ask it now.
pub(super) fn question(asked: &Question) -> Result<String> {
    let options: Vec<Value> = asked
        .options
        .iter()
        .map(|label| json!({ "label": label, "description": "" }))
        .collect();
    let request = json!({
        "subtype": "can_use_tool",
        "tool_name": "AskUserQuestion",
        "tool_use_id": asked.tool_use_id,
        "input": { "questions": [{
            "question": asked.question, "header": "", "options": options, "multiSelect": false,
        }] },
    });
    let request = to_raw_value(&request).map_err(Error::internal)?;
    Ok(control(
        &format!("{QUESTION}{}", asked.tool_use_id),
        &request,
    ))
}

/// A permission in the form before control requests, as the agent would ask for it now.
pub(super) fn permission(asked: &Permission) -> Result<String> {
    let details = asked.details.as_ref();
    let request = json!({
        "subtype": "can_use_tool",
        "tool_name": asked.tool,
        "description": asked.description,
        "decision_reason": asked.description,
        "input": details.map_or_else(|| Ok(json!({})), serde_json::to_value).map_err(Error::internal)?,
    });
    let request = to_raw_value(&request).map_err(Error::internal)?;
    Ok(control(
        &format!("{PERMISSION}{}", asked.request_id),
        &request,
    ))
}

/// The message that starts an agent with its first input.
fn begin(id: &str, start: &StartCommand, prompt: &str) -> String {
    let mut message = json!({
        "type": "start_session",
        "session_id": id,
        "prompt": prompt,
        "cwd": start.cwd,
        "harness": start.harness,
        // The server answers by mode and rules: the agent is to ask about everything.
        "permission_mode": "relay",
    });
    if !start.model.is_empty() {
        message["model"] = start.model.as_str().into();
    }
    if !start.provider_session_id.is_empty() {
        message["resume_session_id"] = start.provider_session_id.as_str().into();
    }
    message.to_string()
}

/// An echo as the agent itself would mark it.
fn echo(id: InputId, line: &RawValue) -> String {
    let message = serde_json::from_str::<Value>(line.get()).unwrap_or_default();
    json!({
        "type": "user", "isReplay": true, "uuid": id.to_uuid(), "message": message["message"],
    })
    .to_string()
}
