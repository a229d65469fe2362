//! A program in a terminal: what it shows is for people and is not read here.
//!
//! What it writes goes up beside the log, byte for byte; the log has its start and its end. Nothing of what it does
//! in between is known, so its activity is not known either.

use bytes::Bytes;

use super::{Action, Draft, Driver, Output, Record, RecordBody, Write};
use crate::base::{Code, Error};
use crate::domain::command::CommandBody;
use crate::domain::session::{Activity, ActivitySource};
use crate::domain::{Command, EventBody};

/// The interpreter of a session in a terminal.
pub struct TerminalDriver {
    cwd: String,
    model: String,
    conversation: String,
}

impl TerminalDriver {
    /// A driver of a program in `cwd`; `conversation` is how its harness will know the conversation, empty for a
    /// program without one.
    pub fn new(cwd: &str, model: &str, conversation: String) -> Self {
        TerminalDriver {
            cwd: cwd.to_owned(),
            model: model.to_owned(),
            conversation,
        }
    }
}

impl Driver for TerminalDriver {
    fn begin(&mut self) -> Vec<Write> {
        Vec::new()
    }

    fn resync(&mut self, _generation: u64) -> Vec<Write> {
        Vec::new()
    }

    fn record(&mut self, record: &Record) -> Vec<Output> {
        let RecordBody::Spawned { pid } = &record.body else {
            return Vec::new();
        };
        [
            EventBody::Started {
                provider_session_id: self.conversation.clone(),
                model: self.model.clone(),
                cwd: self.cwd.clone(),
                tools: Vec::new(),
                pid: *pid,
                version: String::new(),
            },
            EventBody::ActivityChanged {
                activity: Activity::Unknown,
                source: ActivitySource::Terminal,
                confidence: 0,
            },
        ]
        .into_iter()
        .map(|body| Output::Event(Box::new(Draft::new(body))))
        .collect()
    }

    fn command(&mut self, command: &Command) -> Result<Action, Error> {
        match &command.body {
            CommandBody::End { force, .. } => Ok(Action::Stop {
                polite: Bytes::new(),
                force: *force,
                note: Bytes::new(),
            }),
            other => Err(Error::new(
                Code::NotInteractive,
                format!(
                    "a program in a terminal does not take {}; type into its terminal",
                    other.name()
                ),
            )),
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }
}
