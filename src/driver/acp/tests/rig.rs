//! A driver fed by hand.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::interpreter::AcpDriver;
use crate::base::Timestamp;
use crate::base::id::{CommandId, InputId, SessionId};
use crate::domain::command::{CommandBody, StartCommand};
use crate::domain::prompt::{AnswerBody, Decision, Prompt};
use crate::domain::session::Mode;
use crate::domain::{Actor, Command, EventBody, PermissionMode, PromptAnswer};
use crate::driver::{Action, Driver, Output, Place, Record, RecordBody, Write, WriteOutcome};

pub(super) const CONVERSATION: &str = "conv-1";

pub(super) fn place() -> Place {
    Place {
        session_id: SessionId::from_bits(7),
        origin_epoch: 3,
    }
}

pub(super) fn start() -> StartCommand {
    StartCommand {
        harness: "acp:test".to_owned(),
        cwd: "/srv/proj".to_owned(),
        model: String::new(),
        permission_mode: PermissionMode::Ask,
        mode: Mode::Headless,
        argv: Vec::new(),
        env_names: Vec::new(),
        provider_session_id: String::new(),
        fork: false,
        one_shot: false,
        replaces: None,
        instructions: String::new(),
        terminal: None,
    }
}

pub(super) fn record(seq: u64, body: RecordBody) -> Record {
    Record {
        seq,
        time: Timestamp::from_millis(1_795_240_000_000 + i64::try_from(seq).unwrap()),
        body,
    }
}

pub(super) fn stdout(line: impl Into<Vec<u8>>) -> RecordBody {
    RecordBody::Stdout {
        data: Bytes::from(line.into()),
        continues: false,
    }
}

/// A driver with the number of the next record and all that came out of it.
pub(super) struct Rig {
    pub(super) driver: AcpDriver,
    seq: u64,
    commands: u128,
    /// Whether the state is put away and taken out again after each record.
    pub(super) restarts: bool,
    /// Everything that the driver wrote and that was not looked at.
    pub(super) written: Vec<Value>,
    pub(super) events: Vec<EventBody>,
    pub(super) outputs: Vec<Output>,
}

impl Rig {
    pub(super) fn of(start: &StartCommand) -> Self {
        let mut rig = Rig {
            driver: AcpDriver::open(place(), start, None).unwrap(),
            seq: 0,
            commands: 100,
            restarts: true,
            written: Vec::new(),
            events: Vec::new(),
            outputs: Vec::new(),
        };
        let begun = rig.driver.begin();
        rig.feed(RecordBody::Spawned { pid: 42 });
        begun.into_iter().for_each(|write| rig.wrote(write));
        rig
    }

    /// One that is ready to take an input.
    pub(super) fn ready() -> Self {
        let mut rig = Rig::of(&start());
        rig.initialized(json!({"loadSession": true}));
        rig.answers("drv-session-1", json!({"sessionId": CONVERSATION}));
        rig.forget();
        rig
    }

    pub(super) fn initialized(&mut self, capabilities: Value) {
        self.answers(
            "drv-initialize",
            json!({"protocolVersion": 1, "agentCapabilities": capabilities}),
        );
    }

    /// Feeds a record, and the record of every write that it led to. The state is put away and taken out again
    /// after each, as by a daemon that is restarted all the time, unless `restarts` says otherwise.
    pub(super) fn feed(&mut self, body: RecordBody) {
        self.seq += 1;
        let outputs = self.driver.record(&record(self.seq, body));
        if self.restarts {
            let snapshot = self.driver.snapshot();
            self.driver = AcpDriver::open(place(), &start(), Some(&snapshot)).unwrap();
            assert_eq!(self.driver.snapshot(), snapshot);
        }
        let mut writes = Vec::new();
        for output in outputs {
            match &output {
                Output::Event(draft) => self.events.push(draft.body.clone()),
                Output::Write(write) => writes.push(write.clone()),
                _ => {}
            }
            self.outputs.push(output);
        }
        writes.into_iter().for_each(|write| self.wrote(write));
    }

    fn wrote(&mut self, write: Write) {
        self.wrote_with(write, WriteOutcome::Done);
    }

    pub(super) fn wrote_with(&mut self, write: Write, outcome: WriteOutcome) {
        for line in std::str::from_utf8(&write.data).unwrap().lines() {
            self.written.push(serde_json::from_str(line).unwrap());
        }
        self.feed(RecordBody::Written {
            id: write.id,
            note: write.note,
            outcome,
            reason: "why".to_owned(),
        });
    }

    pub(super) fn line(&mut self, line: &str) {
        self.feed(stdout(line));
    }

    pub(super) fn says(&mut self, value: Value) {
        self.line(&value.to_string());
    }

    pub(super) fn answers(&mut self, id: &str, result: Value) {
        self.says(json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    pub(super) fn fails(&mut self, id: &str, code: i64, message: &str) {
        let error = json!({"code": code, "message": message});
        self.says(json!({"jsonrpc": "2.0", "id": id, "error": error}));
    }

    pub(super) fn update(&mut self, update: Value) {
        self.says(json!({
            "jsonrpc": "2.0", "method": "session/update",
            "params": {"sessionId": CONVERSATION, "update": update},
        }));
    }

    pub(super) fn chunk(&mut self, kind: &str, text: &str) {
        self.update(json!({"sessionUpdate": kind, "content": {"type": "text", "text": text}}));
    }

    /// Asks for a permission with an option of every kind; gives the prompt.
    pub(super) fn asks(&mut self, id: u32, command: &str) -> Prompt {
        self.asks_with(
            id,
            command,
            json!([
                {"optionId": "y", "name": "Yes", "kind": "allow_once"},
                {"optionId": "Y", "name": "Always", "kind": "allow_always"},
                {"optionId": "n", "name": "No", "kind": "reject_once"},
                {"optionId": "N", "name": "Never", "kind": "reject_always"},
            ]),
        )
    }

    pub(super) fn asks_with(&mut self, id: u32, command: &str, options: Value) -> Prompt {
        self.says(json!({
            "jsonrpc": "2.0", "id": id, "method": "session/request_permission",
            "params": {
                "sessionId": CONVERSATION,
                "toolCall": {
                    "toolCallId": format!("call-{id}"), "kind": "execute", "title": command,
                    "rawInput": {"command": command},
                },
                "options": options,
            },
        }));
        self.prompts().pop().unwrap()
    }

    pub(super) fn prompts(&self) -> Vec<Prompt> {
        let prompts = self.events.iter().filter_map(|event| match event {
            EventBody::PromptRequested { prompt } => Some((**prompt).clone()),
            _ => None,
        });
        prompts.collect()
    }

    /// The id of the running prompt.
    pub(super) fn running(&self) -> String {
        let sent = self.written.iter().rev();
        let mut sent = sent.filter(|sent| sent["method"] == "session/prompt");
        sent.next().unwrap()["id"].as_str().unwrap().to_owned()
    }

    pub(super) fn ends(&mut self, reason: &str) {
        let id = self.running();
        self.answers(&id, json!({"stopReason": reason}));
    }

    /// Does what a command asks; gives what it wrote.
    pub(super) fn does(&mut self, body: CommandBody) -> crate::base::Result<Vec<Value>> {
        self.commands += 1;
        let command = Command {
            id: CommandId::from_bits(self.commands),
            session_id: place().session_id,
            deadline: None,
            body,
        };
        let before = self.written.len();
        match self.driver.command(&command)? {
            Action::Write(write) | Action::WriteAndWait(write) => self.wrote(write),
            Action::Nothing | Action::Stop { .. } => {}
        }
        Ok(self.written.split_off(before))
    }

    /// Sends an input; gives its id.
    pub(super) fn input(&mut self, text: &str) -> InputId {
        let input_id = InputId::from_bits(self.commands + 1_000);
        let body = CommandBody::Input {
            input_id,
            text: text.to_owned(),
            steer: false,
        };
        let written = self.does(body).unwrap();
        self.written.extend(written);
        input_id
    }

    pub(super) fn answer(
        &mut self,
        prompt: &Prompt,
        decision: Decision,
    ) -> crate::base::Result<Vec<Value>> {
        self.does(CommandBody::Answer {
            prompt_id: prompt.id,
            request_key: prompt.request_key.clone(),
            answer: PromptAnswer {
                by: Actor::server(),
                at: Timestamp::EPOCH,
                body: AnswerBody::Decision(decision),
            },
        })
    }

    pub(super) fn forget(&mut self) {
        self.events.clear();
        self.written.clear();
        self.outputs.clear();
    }

    pub(super) fn exits(&mut self, code: Option<i32>) {
        self.feed(RecordBody::Exited {
            code,
            signal: if code.is_some() { 0 } else { 9 },
            step: "none".to_owned(),
            message: String::new(),
        });
    }

    /// Events in a word or two each.
    pub(super) fn told(&self) -> Vec<String> {
        self.events.iter().filter_map(word).collect()
    }
}

pub(super) fn allow() -> Decision {
    Decision {
        allow: true,
        ..Decision::default()
    }
}

fn word(event: &EventBody) -> Option<String> {
    use crate::domain::Block;
    let text = |blocks: &[Block]| {
        let texts = blocks.iter().map(|block| match block {
            Block::Text(text) => text.clone(),
            Block::Thinking(text) => format!("({text})"),
            Block::Content(content) => format!("[{}]", content.media_type),
        });
        texts.collect::<Vec<_>>().join(" + ")
    };
    Some(
        match event {
            EventBody::Stderr { .. } => return None,
            EventBody::Started {
                provider_session_id,
                version,
                ..
            } => format!("started {provider_session_id} {version}"),
            EventBody::ActivityChanged { activity, .. } => format!("{activity:?}"),
            EventBody::InputChanged { state, reason, .. } => {
                format!("input {} {reason}", state.as_str())
            }
            EventBody::TurnStarted { .. } => "turn".to_owned(),
            EventBody::Message { role, blocks, .. } => format!("{role:?}: {}", text(blocks)),
            EventBody::ToolCall { tool, input, .. } => {
                let input = input.as_ref().map(|input| input.as_str().to_owned());
                format!("{tool} {}", input.unwrap_or_default())
            }
            EventBody::ToolResult {
                blocks, is_error, ..
            } => format!(
                "{} {}",
                if *is_error { "failed" } else { "done" },
                text(blocks)
            ),
            EventBody::TurnEnded {
                is_error,
                reason,
                text,
                ..
            } => format!("end {is_error} {reason} {text}"),
            EventBody::PlanUpdated { items } => format!("plan {}", items.len()),
            EventBody::PromptRequested { prompt } => format!("asks {}", prompt.summary),
            EventBody::PromptWithdrawn { reason, .. } => format!("withdrawn {reason}"),
            EventBody::Notice { kind, text } => format!("notice {kind} {text}"),
            other => other.kind().as_str().to_owned(),
        }
        .trim()
        .to_owned(),
    )
}
