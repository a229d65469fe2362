//! The orchestrator's socket: one agent at a time, watched and led from session to session.
//!
//! Of an agent that runs in a terminal, what the terminal shows is sent, and what comes is typed; of any other, its
//! events are sent, and what comes is an input. A message that is not understood changes nothing.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::message::{self, text};
use super::socket::{Frame, Talk as Talking};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::agents::{AgentItem, AgentReader, Begin};
use crate::app::pace::Pace;
use crate::app::terminals::{Item, Start, TerminalReader};
use crate::base::id::{AgentId, TerminalId};
use crate::base::{Code, Error, Result};
use crate::domain::session::{EndInfo, Mode};
use crate::domain::terminal::Size;
use crate::domain::{Delivery, Event, EventBody, Lifecycle, Scope, Session};
use crate::gateway::sse;
use crate::gateway::views::orchestrator as view;

/// How much of what a terminal has shown is shown to who comes later, in bytes.
const SCROLLBACK_BYTES: u64 = 256 * 1024;

/// What is said on one socket.
pub struct Talk {
    app: App,
    pace: Arc<Pace>,
    caller: Caller,
    watched: Option<Watched>,
}

/// The agent that is watched.
struct Watched {
    agent: AgentId,
    reader: AgentReader,
    /// Its session, or the last that it had.
    session: Option<Session>,
    /// A terminal that is still to be opened, and where.
    opening: Option<Start>,
    terminal: Option<Terminal>,
    /// Up to where its terminal was shown.
    shown: u64,
}

struct Terminal {
    reader: TerminalReader,
    text: Text,
}

impl Talk {
    /// Watches nobody yet.
    pub fn new(app: App, pace: Arc<Pace>, caller: Caller) -> Self {
        Talk {
            app,
            pace,
            caller,
            watched: None,
        }
    }

    async fn obey(&mut self, heard: &str) -> Result<Vec<Frame>> {
        let message = &message::object(heard)?;
        self.pace.message(&self.caller)?;
        match text(message, "type")? {
            "ping" => Ok(vec![Frame::must(json!({ "type": "pong" }))]),
            "subscribe" => self.subscribe(message).await,
            "input" => {
                self.caller.require(Scope::Operator)?;
                self.input(text(message, "input")?).await?;
                Ok(Vec::new())
            }
            "resize" => {
                self.caller.require(Scope::Operator)?;
                let side = |name: &str| {
                    let side = message.get(name).and_then(Value::as_u64);
                    side.and_then(|side| u32::try_from(side).ok())
                        .ok_or_else(|| Error::invalid(name, "must be a whole number"))
                };
                let (cols, rows) = (side("cols")?, side("rows")?);
                self.resize(Size::checked("terminal", cols, rows)?).await?;
                Ok(Vec::new())
            }
            other => Err(Error::new(
                Code::UnknownMethod,
                format!("there is no message of the type {other:?}"),
            )),
        }
    }

    async fn subscribe(&mut self, message: &Map<String, Value>) -> Result<Vec<Frame>> {
        let no_agent = || Error::new(Code::NotFound, "Agent not found");
        let agent = text(message, "agentId")?;
        let agent = AgentId::parse("agentId", agent).map_err(|_| no_agent())?;
        let begin = match message.get("lastEventId") {
            None | Some(Value::Null) => Begin::Now,
            Some(Value::String(text)) => {
                let (session, seq) = sse::place(text, None, "lastEventId")?;
                Begin::After(session, seq)
            }
            Some(_) => return Err(Error::invalid("lastEventId", "must be a text")),
        };
        let reader = match self.app.follow_agent(&self.caller, agent, begin).await {
            Ok(reader) => reader,
            Err(error) if error.code() == Code::NotFound => return Err(no_agent()),
            Err(error) => return Err(error),
        };
        let session = reader.session().cloned();
        let living = session
            .as_ref()
            .filter(|session| session.lifecycle.is_living());
        let is_interactive = living.is_some_and(|session| session.mode == Mode::Interactive);
        let subscribed = json!({
            "type": "subscribed",
            "agentId": agent.to_string(),
            "hasSession": living.is_some(),
            "isInteractive": is_interactive,
        });
        self.watched = Some(Watched {
            agent,
            reader,
            opening: is_interactive.then_some(Start::Tail(SCROLLBACK_BYTES)),
            session,
            terminal: None,
            shown: 0,
        });
        Ok(vec![Frame::must(subscribed)])
    }

    fn watched(&self) -> Result<&Watched> {
        self.watched
            .as_ref()
            .ok_or_else(|| Error::state("subscribe to an agent first"))
    }

    /// The session that what comes is for, as it is now.
    async fn session(&self) -> Result<Session> {
        let agent = self.watched()?.agent;
        let id = self.app.running_session(&self.caller, agent).await?;
        Ok(self.app.get_session(&self.caller, id).await?.0)
    }

    /// The viewer's number in a session's terminal, if that is the one that is shown.
    fn viewer(&self, session: &Session) -> Option<u64> {
        let watched = self.watched.as_ref()?;
        let is_shown = watched.session.as_ref().map(|it| it.id) == Some(session.id);
        let terminal = watched.terminal.as_ref().filter(|_| is_shown)?;
        Some(terminal.reader.viewer().number())
    }

    async fn input(&self, input: &str) -> Result<()> {
        if input.is_empty() {
            return Err(Error::invalid("input", "is empty"));
        }
        let session = self.session().await?;
        if session.mode == Mode::Interactive {
            // As it is: it is keys.
            let data = Bytes::from(input.to_owned());
            let viewer = self.viewer(&session);
            return self
                .app
                .write_terminal(&self.caller, TerminalId::of(session.id), viewer, data)
                .await;
        }
        self.pace.input(session.id)?;
        self.app
            .send_input(
                &self.caller,
                "",
                session.id,
                input.to_owned(),
                Delivery::Queue,
            )
            .await
            .map(drop)
    }

    async fn resize(&self, size: Size) -> Result<()> {
        let session = self.session().await?;
        if session.mode != Mode::Interactive {
            return Err(Error::new(
                Code::NotInteractive,
                "the agent does not run in a terminal",
            ));
        }
        let viewer = self.viewer(&session);
        self.app
            .resize_terminal(
                &self.caller,
                TerminalId::of(session.id),
                viewer,
                Some(size),
                None,
            )
            .await
            .map(drop)
    }
}

impl Watched {
    async fn next(&mut self, app: &App, caller: &Caller) -> Result<Vec<Frame>> {
        if let (Some(start), Some(session)) = (self.opening, &self.session) {
            let id = TerminalId::of(session.id);
            let reader = app.watch_terminal(caller, id, start, None).await;
            self.opening = None;
            match reader {
                Ok(reader) => {
                    let text = Text::default();
                    self.terminal = Some(Terminal { reader, text });
                }
                Err(error) => return Ok(vec![Frame::must(said(&error))]),
            }
        }
        // A terminal is shown to its end before anything else is told.
        if let Some(terminal) = &mut self.terminal {
            let item = terminal.reader.next().await?;
            return Ok(self.seen(item));
        }
        match self.reader.next().await? {
            AgentItem::Session(session) => Ok(vec![self.begun(*session)]),
            AgentItem::Events(events) => {
                Ok(events.iter().filter_map(|it| self.happened(it)).collect())
            }
            AgentItem::Truncated(oldest) => Ok(vec![Frame::must(said(&Error::new(
                Code::OutOfRange,
                format!(
                    "events before {oldest} were removed by retention; it goes on with {oldest}"
                ),
            )))]),
        }
    }

    /// Another session of the agent.
    fn begun(&mut self, session: Session) -> Frame {
        let is_interactive = session.mode == Mode::Interactive;
        let frame = Frame::must(json!({
            "type": "session-started",
            "agentId": self.agent.to_string(),
            "sessionId": session.id.to_string(),
            "isInteractive": is_interactive,
        }));
        self.shown = 0;
        self.opening = is_interactive.then_some(Start::At(0));
        self.session = Some(session);
        frame
    }

    fn happened(&mut self, event: &Event) -> Option<Frame> {
        let is_interactive = self
            .session
            .as_ref()
            .is_some_and(|session| session.mode == Mode::Interactive);
        match &event.body {
            // Its terminal has told it.
            EventBody::Ended { .. } if is_interactive => None,
            EventBody::Ended { end } => Some(exit(Some(end))),
            // One that was lost is found: its terminal goes on where it was.
            EventBody::LifecycleChanged {
                from: Lifecycle::Ended,
                to: Lifecycle::Running,
            } if is_interactive => {
                self.opening = Some(Start::At(self.shown));
                None
            }
            // What happens there is on its screen.
            _ if is_interactive => None,
            _ => {
                let (_, mut shown) = view::event(event)?;
                shown["id"] = view::event_id(event.session_id, event.seq).into();
                // The macro would copy what is shown.
                let mut said = json!({ "type": "event" });
                said["event"] = shown;
                Some(Frame::must(said))
            }
        }
    }

    fn seen(&mut self, item: Option<Item>) -> Vec<Frame> {
        let Some(terminal) = &mut self.terminal else {
            return Vec::new();
        };
        let mut frames = Vec::new();
        let mut show = |data: String| {
            if !data.is_empty() {
                frames.push(Frame::must(json!({ "type": "pty-data", "data": data })));
            }
        };
        match item {
            Some(Item::Output(output)) => {
                self.shown = output.end();
                show(terminal.text.take(&output.data));
            }
            Some(Item::Exit { end, .. }) => {
                show(terminal.text.rest());
                frames.push(exit(end.as_ref()));
                self.terminal = None;
            }
            None => self.terminal = None,
            Some(Item::Truncated(offset)) => {
                self.shown = offset;
                terminal.text = Text::default();
            }
            Some(Item::Started { offset, .. }) => {
                self.shown = offset;
                terminal.text = Text::in_the_middle(offset > 0);
            }
            Some(Item::Size(_) | Item::Progress(_)) => {}
        }
        frames
    }
}

/// The end of a session; without one, its process was stopped to be resumed.
fn exit(end: Option<&EndInfo>) -> Frame {
    Frame::must(match end {
        Some(end) => json!({
            "type": "exit", "code": end.exit_code, "signal": view::signal(end.signal),
            "reason": end.reason.as_str(),
        }),
        None => json!({ "type": "exit", "code": null, "signal": null, "reason": "suspended" }),
    })
}

fn said(error: &Error) -> Value {
    json!({ "type": "error", "error": error.message(), "code": error.code().as_str() })
}

impl Talking for Talk {
    async fn next(&mut self) -> Result<Vec<Frame>> {
        match &mut self.watched {
            None => std::future::pending().await,
            Some(watched) => match watched.next(&self.app, &self.caller).await {
                // The agent or its session is gone; whoever watched may watch another.
                Err(error) if error.code() == Code::NotFound => {
                    self.watched = None;
                    Ok(vec![Frame::must(said(&error))])
                }
                other => other,
            },
        }
    }

    async fn hear(&mut self, text: &str) -> Vec<Frame> {
        message::answered(self.obey(text).await, said)
    }

    fn heartbeat(&self) -> Option<Value> {
        None
    }

    fn error(&self, error: &Error) -> Value {
        said(error)
    }

    fn is_over(&self) -> bool {
        false
    }
}

/// Bytes of a terminal as text: a character that two pieces share is kept until it is whole.
#[derive(Default)]
struct Text {
    begun: Vec<u8>,
    /// Whether the first bytes may be the end of a character.
    in_the_middle: bool,
}

impl Text {
    fn in_the_middle(in_the_middle: bool) -> Self {
        Text {
            begun: Vec::new(),
            in_the_middle,
        }
    }

    fn take(&mut self, data: &[u8]) -> String {
        self.begun.extend_from_slice(data);
        if std::mem::take(&mut self.in_the_middle) {
            let ends = self.begun.iter().take(3);
            let ends = ends.take_while(|byte| **byte & 0xC0 == 0x80).count();
            self.begun.drain(..ends);
        }
        let mut text = String::new();
        let mut at = 0;
        loop {
            let rest = self.begun.get(at..).unwrap_or_default();
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.begun.clear();
                    return text;
                }
                Err(error) => {
                    let valid = rest.get(..error.valid_up_to()).unwrap_or_default();
                    text.push_str(&String::from_utf8_lossy(valid));
                    at += error.valid_up_to();
                    match error.error_len() {
                        Some(odd) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            at += odd;
                        }
                        None => {
                            self.begun.drain(..at);
                            return text;
                        }
                    }
                }
            }
        }
    }

    /// What is left at the end.
    fn rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_in_two_pieces_is_one() {
        let whole = "a→ö\u{1F980}b".as_bytes();
        for cut in 0..=whole.len() {
            let mut text = Text::default();
            let mut all = text.take(&whole[..cut]);
            all.push_str(&text.take(&whole[cut..]));
            assert_eq!(all.as_bytes(), whole, "{cut}");
            assert_eq!(text.rest(), "");
        }
    }

    #[test]
    fn what_is_no_text_is_replaced_and_holds_nothing_up() {
        let mut text = Text::default();
        assert_eq!(text.take(b"a\xFFb\xE2\x86"), "a\u{FFFD}b");
        assert_eq!(text.take(b"c"), "\u{FFFD}c");
        assert_eq!(text.take(b"\xF0\x9F"), "");
        assert_eq!(text.rest(), "\u{FFFD}");
        let mut tail = Text::in_the_middle(true);
        assert_eq!(tail.take(b"\x86\x92x\x86"), "x\u{FFFD}");
    }
}
