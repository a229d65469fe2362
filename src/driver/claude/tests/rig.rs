//! A driver fed by hand, and recordings as records.

use bytes::Bytes;
use serde_json::Value;

use super::super::interpreter::ClaudeDriver;
use super::super::state::Note;
use crate::base::Timestamp;
use crate::base::id::{CommandId, InputId, PromptId, SessionId};
use crate::domain::command::{CommandBody, StartCommand};
use crate::domain::prompt::{AnswerBody, Decision, Prompt};
use crate::domain::session::Mode;
use crate::domain::{Actor, Command, CommandResult, EventBody, PermissionMode, PromptAnswer};
use crate::driver::{Action, Driver, Output, Place, Record, RecordBody, Write, WriteOutcome};

pub(super) fn place() -> Place {
    Place {
        session_id: SessionId::from_bits(7),
        origin_epoch: 3,
    }
}

pub(super) fn start() -> StartCommand {
    StartCommand {
        harness: "claude-code".to_owned(),
        cwd: "/home/dev/project".to_owned(),
        model: String::new(),
        permission_mode: PermissionMode::Ask,
        mode: Mode::Headless,
        argv: Vec::new(),
        env_names: Vec::new(),
        provider_session_id: String::new(),
        fork: false,
        one_shot: false,
        replaces: None,
        terminal: None,
        instructions: String::new(),
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

/// A driver and the number of the next record.
pub(super) struct Rig {
    pub(super) driver: ClaudeDriver,
    seq: u64,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::of(&start())
    }

    pub(super) fn of(start: &StartCommand) -> Self {
        Rig {
            driver: ClaudeDriver::new(place(), start),
            seq: 0,
        }
    }

    pub(super) fn feed(&mut self, body: RecordBody) -> Vec<Output> {
        self.seq += 1;
        self.driver.record(&record(self.seq, body))
    }

    pub(super) fn line(&mut self, line: &str) -> Vec<Output> {
        self.feed(stdout(line))
    }

    /// Feeds a line; gives the events.
    pub(super) fn events(&mut self, line: &str) -> Vec<EventBody> {
        events(&self.line(line))
    }

    pub(super) fn written(&mut self, write: &Write, outcome: WriteOutcome) -> Vec<Output> {
        self.feed(RecordBody::Written {
            id: write.id.clone(),
            note: write.note.clone(),
            outcome,
            reason: "why".to_owned(),
        })
    }

    pub(super) fn exit(&mut self, code: Option<i32>) -> Vec<Output> {
        self.feed(RecordBody::Exited {
            code,
            signal: if code.is_some() { 0 } else { 9 },
            step: "none".to_owned(),
            message: String::new(),
        })
    }

    pub(super) fn command(&mut self, n: u128, body: CommandBody) -> crate::base::Result<Action> {
        self.driver.command(&command(n, body))
    }

    /// Asks for the permission to run `true`; gives the prompt.
    pub(super) fn ask(&mut self, key: &str) -> Prompt {
        let line = format!(
            r#"{{"type":"control_request","request_id":"{key}","request":{{"subtype":"can_use_tool","tool_name":"Bash","input":{{"command":"true"}},"tool_use_id":"call-{key}"}}}}"#
        );
        let events = self.events(&line);
        prompts(&events).remove(0)
    }
}

pub(super) fn command_id(n: u128) -> CommandId {
    CommandId::from_bits(n)
}

pub(super) fn command(n: u128, body: CommandBody) -> Command {
    Command {
        id: command_id(n),
        session_id: place().session_id,
        deadline: None,
        body,
    }
}

pub(super) fn answer(prompt: &Prompt, body: AnswerBody) -> CommandBody {
    CommandBody::Answer {
        prompt_id: prompt.id,
        request_key: prompt.request_key.clone(),
        answer: PromptAnswer {
            by: Actor::server(),
            at: Timestamp::EPOCH,
            body,
        },
    }
}

pub(super) fn allow() -> AnswerBody {
    AnswerBody::Decision(Decision {
        allow: true,
        ..Decision::default()
    })
}

pub(super) fn events(outputs: &[Output]) -> Vec<EventBody> {
    let bodies = outputs.iter().filter_map(|output| match output {
        Output::Event(draft) => Some(draft.body.clone()),
        _ => None,
    });
    bodies.collect()
}

pub(super) fn prompts(events: &[EventBody]) -> Vec<Prompt> {
    let prompts = events.iter().filter_map(|event| match event {
        EventBody::PromptRequested { prompt } => Some((**prompt).clone()),
        _ => None,
    });
    prompts.collect()
}

pub(super) fn writes(outputs: &[Output]) -> Vec<String> {
    let writes = outputs.iter().filter_map(|output| match output {
        Output::Write(write) => Some(String::from_utf8(write.data.to_vec()).unwrap()),
        _ => None,
    });
    writes.collect()
}

pub(super) fn results(outputs: &[Output]) -> Vec<CommandResult> {
    let results = outputs.iter().filter_map(|output| match output {
        Output::Done(result) => Some(result.clone()),
        _ => None,
    });
    results.collect()
}

pub(super) fn write_of(action: Action) -> Write {
    match action {
        Action::Write(write) | Action::WriteAndWait(write) => write,
        other => panic!("not a write: {other:?}"),
    }
}

/// A recording: `in`, `out` or `err`, a space, and the line.
pub(super) const TURNS: &str = include_str!("../../../../tests/fixtures/claude/turns.txt");
pub(super) const PROMPTS: &str = include_str!("../../../../tests/fixtures/claude/prompts.txt");

/// The lines of a recording that the program wrote.
pub(super) fn said(recording: &str) -> Vec<&str> {
    let lines = recording.lines();
    lines.filter_map(|line| line.strip_prefix("out ")).collect()
}

/// A recording as the records a runner would have made of it.
pub(super) fn records(recording: &str) -> Vec<Record> {
    let mut bodies = vec![RecordBody::Spawned { pid: 42 }];
    for line in recording.lines() {
        let (way, text) = line.split_once(' ').unwrap();
        bodies.push(match way {
            "out" => stdout(text),
            "err" => RecordBody::Stderr {
                data: Bytes::copy_from_slice(text.as_bytes()),
                continues: false,
            },
            _ => {
                let (id, note) = note(&serde_json::from_str(text).unwrap());
                RecordBody::Written {
                    id,
                    note: note.encode(),
                    outcome: WriteOutcome::Done,
                    reason: String::new(),
                }
            }
        });
    }
    bodies.push(RecordBody::Exited {
        code: Some(0),
        signal: 0,
        step: "polite".to_owned(),
        message: String::new(),
    });
    let numbered = bodies.into_iter().zip(1..);
    numbered.map(|(body, seq)| record(seq, body)).collect()
}

/// What the driver would have noted with a line that was written.
fn note(line: &Value) -> (String, Note) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match line["type"].as_str() {
        Some("user") => {
            let note = match InputId::from_uuid(&text(&line["uuid"])) {
                Some(input_id) => Note::Input { input_id },
                None => Note::Own,
            };
            (command_id(1).to_string(), note)
        }
        Some("control_response") => (
            command_id(2).to_string(),
            Note::Answer {
                prompt_id: PromptId::from_bits(1),
                request_key: text(&line["response"]["request_id"]),
            },
        ),
        _ => {
            let request = &line["request"];
            let note = match request["subtype"].as_str() {
                Some("interrupt") => Note::Interrupt,
                Some("set_model") => Note::Options {
                    model: Some(text(&request["model"])),
                    permission_mode: None,
                },
                Some("cancel_async_message") => Note::Cancel {
                    input_id: InputId::from_uuid(&text(&request["message_uuid"])).unwrap(),
                },
                _ => Note::Own,
            };
            (text(&line["request_id"]), note)
        }
    }
}
