//! The interpreter of one session of an agent that speaks ACP.

use agent_client_protocol_schema::ProtocolVersion;
use agent_client_protocol_schema::v1::{
    CancelNotification, ClientCapabilities, Implementation, InitializeRequest, SessionConfigId,
    SessionConfigOptionValue, SessionConfigValueId, SessionId, SetSessionConfigOptionRequest,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::state::{Note, Phase, State};
use super::step::Step;
use super::turns::End;
use super::{answer, session};
use crate::base::{Code, Error, Result};
use crate::domain::command::StartCommand;
use crate::domain::{Command, CommandBody, EventBody, InputState};
use crate::driver::line::Object;
use crate::driver::pieces::{Lines, Piece};
use crate::driver::rpc::{self, Message};
use crate::driver::{Action, Driver, Output, Place, Record, RecordBody, Write, WriteOutcome};

/// The form of a snapshot; a later driver reads this one and older ones.
const SNAPSHOT_VERSION: u32 = 1;

/// Interprets what an agent writes, and writes what it is to read.
pub struct AcpDriver {
    place: Place,
    state: State,
    lines: Lines,
}

/// The first line of a snapshot; the bytes of an unfinished line follow.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u32,
    state: State,
}

impl AcpDriver {
    /// A driver at the start of a session, or going on from a snapshot.
    pub fn open(place: Place, start: &StartCommand, snapshot: Option<&[u8]>) -> Result<Self> {
        if let Some(snapshot) = snapshot {
            return AcpDriver::restore(place, snapshot);
        }
        let state = State {
            cwd: start.cwd.clone(),
            wanted_model: start.model.clone(),
            resumes: start.provider_session_id.clone(),
            conversation: start.provider_session_id.clone(),
            ..State::default()
        };
        Ok(AcpDriver {
            place,
            state,
            lines: Lines::default(),
        })
    }

    fn restore(place: Place, snapshot: &[u8]) -> Result<Self> {
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
        let lines = Lines {
            partial: snapshot[end + 1..].to_vec(),
            oversize: read.state.oversize,
        };
        Ok(AcpDriver {
            place,
            state: read.state,
            lines,
        })
    }

    /// The model's change as a request, under the command's id.
    fn model_request(&self, id: &str, model: &str) -> Result<Bytes> {
        let models = &self.state.models;
        if models.option.is_empty() {
            return Err(Error::state("the agent offers no choice of models"));
        }
        if !models.offered.iter().any(|offered| offered == model) {
            return Err(Error::invalid("model", session::not_offered(models, model)));
        }
        let params = SetSessionConfigOptionRequest::new(
            SessionId::new(self.state.conversation.clone()),
            SessionConfigId::new(models.option.clone()),
            SessionConfigOptionValue::value_id(SessionConfigValueId::new(model.to_owned())),
        );
        Ok(rpc::request(id, "session/set_config_option", &params))
    }

    fn cancel(&self) -> Bytes {
        let conversation = SessionId::new(self.state.conversation.clone());
        rpc::notification("session/cancel", &CancelNotification::new(conversation))
    }
}

impl Driver for AcpDriver {
    fn begin(&mut self) -> Vec<Write> {
        let params = InitializeRequest::new(ProtocolVersion::V1)
            .client_capabilities(ClientCapabilities::new())
            .client_info(Implementation::new("baton", env!("CARGO_PKG_VERSION")));
        vec![Write {
            id: session::INITIALIZE.to_owned(),
            data: rpc::request(session::INITIALIZE, "initialize", &params),
            close: false,
            note: Note::Own.encode(),
        }]
    }

    fn resync(&mut self, _generation: u64) -> Vec<Write> {
        // The runner kept the pipes, so no message was missed: what is open in the state is open with the agent.
        Vec::new()
    }

    fn record(&mut self, record: &Record) -> Vec<Output> {
        let mut step = Step::new(self.place, record, &mut self.state);
        match &record.body {
            RecordBody::Spawned { pid } => {
                step.state.pid = *pid;
                step.announce();
            }
            RecordBody::Stdout { data, continues } => {
                for piece in self.lines.push(data, *continues) {
                    step.piece(piece);
                }
            }
            RecordBody::Stderr { data, continues } => {
                let mut tail = std::mem::take(&mut step.state.stderr_tail);
                step.stderr(&mut tail, data, *continues);
                step.state.stderr_tail = tail;
            }
            // A session in a terminal has a driver of its own.
            RecordBody::Shown => {}
            RecordBody::Written {
                note,
                outcome,
                reason,
                ..
            } => step.written(note, *outcome, reason),
            RecordBody::Exited {
                code,
                signal,
                message,
                ..
            } => {
                self.lines
                    .finish()
                    .into_iter()
                    .for_each(|piece| step.piece(piece));
                let crashed = *signal != 0 || code.is_none() || !message.is_empty();
                step.exited(crashed);
            }
            RecordBody::Missing { from, to, reason } => {
                self.lines
                    .finish()
                    .into_iter()
                    .for_each(|piece| step.piece(piece));
                step.missing(*from, *to, reason);
            }
        }
        step.settle_activity();
        let out = step.out;
        self.state.oversize = self.lines.oversize;
        out
    }

    fn command(&mut self, command: &Command) -> Result<Action> {
        if self.state.exited {
            return Err(Error::new(Code::InvalidState, "the agent has ended"));
        }
        let write = |data: Bytes, note: Note| Write {
            id: command.id.to_string(),
            data,
            close: false,
            note: note.encode(),
        };
        Ok(match &command.body {
            CommandBody::Start(_) => {
                return Err(Error::state(
                    "a session is started once, and not by its driver",
                ));
            }
            CommandBody::Input { input_id, text, .. } => {
                if self.state.held.len() >= super::state::MAX_HELD {
                    return Err(Error::new(
                        Code::LimitExceeded,
                        "too many inputs wait for the agent",
                    ));
                }
                let note = Note::Input {
                    input_id: *input_id,
                    text: text.clone(),
                };
                // Nothing goes into the pipe yet: the record of this write brings the input back, and the agent
                // gets it when it is ready and idle.
                Action::Write(write(Bytes::new(), note))
            }
            CommandBody::Interrupt => {
                if self.state.turn.is_none() {
                    return Ok(Action::Nothing);
                }
                let mut data = self.cancel().to_vec();
                let open = self.state.open.iter().filter(|open| !open.doubtful);
                let request_keys: Vec<String> = open.map(|open| open.key.clone()).collect();
                for key in &request_keys {
                    data.extend_from_slice(&answer::cancelled(key));
                }
                Action::Write(write(data.into(), Note::Cancel { request_keys }))
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
                let mut data = answer::line(open, answer)?.to_vec();
                let cancels = answer::interrupts(answer);
                if cancels {
                    data.extend_from_slice(&self.cancel());
                }
                let note = Note::Answer {
                    prompt_id: *prompt_id,
                    request_key: request_key.clone(),
                    cancels,
                };
                Action::Write(write(data.into(), note))
            }
            CommandBody::End { force, .. } => Action::Stop {
                // An agent ends when its input does; the protocol has no other word for it.
                polite: Bytes::new(),
                force: *force,
                note: Note::Own.encode(),
            },
            CommandBody::Options {
                model,
                permission_mode,
            } => {
                let note = Note::Options {
                    permission_mode: *permission_mode,
                };
                match model.as_deref() {
                    // Modes are the server's: the agent goes on asking about everything.
                    None => Action::Write(write(Bytes::new(), note)),
                    Some("") => {
                        return Err(Error::invalid(
                            "model",
                            "must name one: this agent cannot be told to go back to its default",
                        ));
                    }
                    Some(model) => {
                        let data = self.model_request(&command.id.to_string(), model)?;
                        Action::WriteAndWait(write(data, note))
                    }
                }
            }
            CommandBody::CancelInput { .. } => {
                return Err(Error::state("the agent has already taken this input"));
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
        bytes.extend_from_slice(&self.lines.partial);
        bytes
    }
}

impl Step<'_> {
    fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Line(bytes) => self.line(&bytes),
            Piece::Oversize(bytes) => self.oversize(&bytes),
        }
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
        match rpc::read(&line) {
            None => self.notice("stdout", "a line that is no message of the protocol", text),
            Some(Message::Request { id, method, params }) => match method.as_str() {
                "session/request_permission" => self.permission(id, params, text),
                _ => {
                    let why = format!("Baton does not offer {method:?}");
                    self.write(rpc::error(id, rpc::METHOD_NOT_FOUND, &why));
                    self.notice(&method, &why, text);
                }
            },
            Some(Message::Notification { method, params }) => match method.as_str() {
                "session/update" => self.update(params, text),
                "$/cancel_request" => self.withdrawn_by_agent(params),
                _ => self.notice(&method, "", text),
            },
            Some(Message::Response { id, result }) => self.response(&id, result, text),
        }
    }

    /// A `Written` record.
    fn written(&mut self, note: &[u8], outcome: WriteOutcome, reason: &str) {
        let Some(note) = Note::decode(note) else {
            return;
        };
        match (note, outcome) {
            (Note::Input { input_id, text }, WriteOutcome::Done) => self.hold(input_id, text),
            (Note::Input { input_id, .. }, WriteOutcome::Unknown) => {
                let why = "the agent's runner ended before the agent got this";
                self.input_changed(input_id, InputState::Rejected, why);
            }
            (Note::Prompt { input_id }, outcome) => self.prompted(input_id, outcome, reason),
            (
                Note::Answer {
                    request_key,
                    cancels,
                    ..
                },
                WriteOutcome::Done,
            ) => {
                self.state.open.retain(|open| open.key != request_key);
                if cancels {
                    self.cancelled(&[]);
                }
            }
            (Note::Answer { request_key, .. }, WriteOutcome::Unknown) => {
                let open = self.state.open.iter_mut();
                for open in open.filter(|open| open.key == request_key) {
                    open.doubtful = true;
                }
            }
            (Note::Cancel { request_keys }, WriteOutcome::Done | WriteOutcome::Unknown) => {
                self.cancelled(&request_keys);
            }
            (
                Note::Options {
                    permission_mode: Some(mode),
                },
                WriteOutcome::Done,
            ) => self.event(EventBody::OptionsChanged {
                model: None,
                permission_mode: Some(mode),
            }),
            _ => {}
        }
    }

    /// Output is missing. An answer of the agent may have been in it, so nothing is waited for any longer.
    fn missing(&mut self, from: u64, to: u64, reason: &str) {
        self.flush();
        self.event(EventBody::Gap {
            from_origin_seq: from,
            to_origin_seq: to,
            reason: reason.to_owned(),
        });
        self.end_turn(End {
            is_error: true,
            reason: "output_missing".to_owned(),
            ..End::default()
        });
        match self.state.phase {
            Phase::Ready | Phase::Failed { .. } => self.next_input(),
            _ => self.fail(
                "what the agent answered at its start is lost; end this session and resume it",
            ),
        }
    }

    /// The agent is gone: nothing of it stays open.
    fn exited(&mut self, crashed: bool) {
        self.end_turn(End {
            is_error: true,
            reason: "harness_ended".to_owned(),
            crashed,
            ..End::default()
        });
        self.withdraw_all("the agent has ended");
        self.flush();
        self.reject_held("the agent ended before it took this");
        self.state.exited = true;
    }
}
