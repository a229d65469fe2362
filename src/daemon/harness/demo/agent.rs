//! The agent: one loop that owns everything, and is told of everything by one inbox.
//!
//! Nothing runs beside the loop but threads that wait (for a line, for a command, for a delay) and send an
//! event. A turn waits by handling events too, so the host is answered while a turn runs.

use std::collections::VecDeque;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Instant;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::base::SharedClock;

use super::DemoOptions;
use super::history::{Conversation, History};
use super::ledger::Ledger;
use super::permission::{Permissions, STREAM_CLOSED, Verdict};
use super::protocol::{self, Incoming, Message, lifecycle};
use super::shell::Outcome;

/// Events that wait to be handled; whoever sends one more waits.
const INBOX_EVENTS_MAX: usize = 256;
/// Messages that wait for their turn; one more is cancelled.
const QUEUE_MAX: usize = 256;
/// The model that is named unless the host names one.
pub const MODEL: &str = "demo-1";

/// Something the loop is told.
#[derive(Debug)]
pub enum Event {
    /// The host said something.
    Line(Incoming),
    /// The host said something that is no line of the protocol.
    Garbage {
        /// How long it was.
        chars: usize,
    },
    /// The host will say nothing more.
    End,
    /// A command has ended.
    Ended {
        /// Which one.
        serial: u64,
        /// How.
        outcome: Outcome,
    },
    /// A background task has done its time.
    Due {
        /// Which one.
        task: String,
    },
}

/// Why the agent leaves what it was doing.
#[derive(Debug)]
pub enum Stop {
    /// The host interrupted the turn.
    Interrupted,
    /// The process ends with this code.
    Exit(i32),
    /// Nobody reads any more.
    Broken(io::Error),
}

/// The result of a step of the loop.
pub type Flow<T = ()> = Result<T, Stop>;

/// An ask that has no answer yet.
#[derive(Debug)]
pub struct OpenAsk {
    /// The id an answer names.
    pub request_id: String,
    /// The whole line.
    pub line: Value,
}

/// A background task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// The call that started it.
    pub tool_use_id: String,
    /// What the turn after it says.
    pub text: String,
}

impl Task {
    /// How the task is listed.
    pub fn line(&self) -> Value {
        json!({ "task_id": self.id, "task_type": "local_bash", "description": self.text })
    }
}

/// The agent.
pub struct Agent {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    inbox: Receiver<Event>,
    pub(super) events: SyncSender<Event>,
    pub(super) clock: SharedClock,
    pub(super) cwd: PathBuf,
    history: History,
    pub(super) conversation: Conversation,
    pub(super) permissions: Permissions,
    pub(super) model: String,
    pub(super) ledger: Ledger,
    /// How many results there were.
    pub(super) results: u64,
    pub(super) queue: VecDeque<Message>,
    /// Background tasks that run.
    pub(super) tasks: Vec<Task>,
    /// Background tasks whose end has not had its turn yet.
    finished: VecDeque<Task>,
    pub(super) asks: Vec<OpenAsk>,
    /// Answers in the order they came, for the turn to take up.
    pub(super) answers: VecDeque<(String, Verdict)>,
    /// The number of the command last started; an end with another number is of no interest.
    pub(super) serial: u64,
    pub(super) ended: Option<Outcome>,
    pub(super) in_turn: bool,
    /// What it was told beside its inputs.
    pub(super) instructions: String,
    pub(super) interrupted: bool,
    pub(super) closed: bool,
}

impl Agent {
    /// Runs an agent to its end; gives the exit code.
    pub fn run(
        options: DemoOptions,
        clock: SharedClock,
        stdin: impl BufRead + Send + 'static,
        stdout: impl Write + Send + 'static,
        stderr: Box<dyn Write + Send>,
    ) -> i32 {
        let (events, inbox) = sync_channel(INBOX_EVENTS_MAX);
        let lines = events.clone();
        let mut out: Box<dyn Write + Send> = Box::new(stdout);
        let mut err = stderr;
        let history = History::new(options.home.clone());
        let start = match Start::read(&options, &history) {
            Ok(start) => start,
            Err(problem) => {
                let _ = writeln!(err, "{}", problem.text);
                if let Some(result) = problem.result {
                    let _ = writeln!(out, "{result}");
                    let _ = out.flush();
                }
                return 1;
            }
        };
        let mut agent = Agent {
            out,
            err,
            inbox,
            events,
            clock,
            cwd: options.cwd,
            history,
            conversation: start.conversation,
            permissions: start.permissions,
            model: options.model.unwrap_or_else(|| MODEL.to_owned()),
            ledger: Ledger::default(),
            results: 0,
            queue: VecDeque::new(),
            tasks: Vec::new(),
            finished: VecDeque::new(),
            asks: Vec::new(),
            answers: VecDeque::new(),
            serial: 0,
            ended: None,
            in_turn: false,
            instructions: String::new(),
            interrupted: false,
            closed: false,
        };
        // It ends with the input, or with the process: a read cannot be called off.
        std::thread::spawn(move || protocol::read(stdin, lines));
        match agent.serve() {
            Ok(()) | Err(Stop::Interrupted) => 0,
            Err(Stop::Exit(code)) => code,
            Err(Stop::Broken(problem)) => {
                agent.complain(&format!("stdout cannot be written: {problem}"));
                1
            }
        }
    }

    fn serve(&mut self) -> Flow {
        loop {
            if let Some(message) = self.queue.pop_front() {
                self.user_turn(message)?;
            } else if let Some(task) = self.finished.pop_front() {
                self.task_turn(task)?;
            } else if self.closed {
                return Ok(());
            } else {
                let event = self.inbox.recv().map_err(|_| Stop::Exit(0))?;
                self.handle(event)?;
            }
        }
    }

    /// Handles what has arrived by now.
    pub(super) fn pump(&mut self) -> Flow {
        while let Ok(event) = self.inbox.try_recv() {
            self.handle(event)?;
        }
        self.check()
    }

    /// Handles what arrives until `done`, or until the deadline: then the answer is false.
    pub(super) fn wait_until(
        &mut self,
        deadline: Option<Instant>,
        done: impl Fn(&Self) -> bool,
    ) -> Flow<bool> {
        loop {
            self.check()?;
            if done(self) {
                return Ok(true);
            }
            let event = match deadline {
                None => self.inbox.recv().map_err(|_| Stop::Exit(0))?,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    match self.inbox.recv_timeout(left) {
                        Ok(event) => event,
                        Err(RecvTimeoutError::Timeout) => return Ok(false),
                        Err(RecvTimeoutError::Disconnected) => return Err(Stop::Exit(0)),
                    }
                }
            };
            self.handle(event)?;
        }
    }

    fn check(&self) -> Flow {
        if self.interrupted {
            Err(Stop::Interrupted)
        } else {
            Ok(())
        }
    }

    fn handle(&mut self, event: Event) -> Flow {
        match event {
            Event::Line(Incoming::User(message)) => self.receive(message),
            Event::Line(Incoming::Request { id, request }) => self.control(&id, &request),
            Event::Line(Incoming::Response(response)) => self.answered(response),
            Event::Line(Incoming::Other) => Ok(()),
            Event::Garbage { chars } => {
                self.complain(&format!(
                    "Error parsing streaming input line (type=unknown, {chars} chars): SyntaxError"
                ));
                Err(Stop::Exit(1))
            }
            Event::End => {
                self.closed = true;
                for ask in std::mem::take(&mut self.asks) {
                    self.answers
                        .push_back((ask.request_id, Verdict::failed(STREAM_CLOSED)));
                }
                Ok(())
            }
            Event::Ended { serial, outcome } => {
                if serial == self.serial {
                    self.ended = Some(outcome);
                }
                Ok(())
            }
            Event::Due { task } => self.task_done(&task),
        }
    }

    /// Queues a message. A message that was taken up before is only echoed, so a host may send one again
    /// when it does not know whether it arrived.
    fn receive(&mut self, message: Message) -> Flow {
        let Some(uuid) = message.uuid.clone() else {
            if self.queue.len() < QUEUE_MAX {
                self.queue.push_back(message);
            } else {
                self.complain("a message was dropped: too many are queued");
            }
            return Ok(());
        };
        if self.conversation.knows(&uuid) {
            return self.say(protocol::replay(&message));
        }
        if self
            .queue
            .iter()
            .any(|queued| queued.uuid.as_deref() == Some(uuid.as_str()))
        {
            return Ok(());
        }
        self.say(lifecycle(&uuid, "queued"))?;
        if self.queue.len() < QUEUE_MAX {
            self.queue.push_back(message);
            Ok(())
        } else {
            self.say(lifecycle(&uuid, "cancelled"))
        }
    }

    /// Takes up the answer to an ask. An answer to no open ask is passed over.
    fn answered(&mut self, response: Value) -> Flow {
        let id = response["request_id"].as_str().unwrap_or_default();
        let Some(at) = self.asks.iter().position(|ask| ask.request_id == id) else {
            return Ok(());
        };
        let ask = self.asks.remove(at);
        let verdict = Verdict::of(&response);
        self.answers.push_back((ask.request_id, verdict));
        // Hosts see their answers again, as they do their messages.
        self.send(json!({ "type": "control_response", "response": response }))
    }

    /// Withdraws every open ask.
    pub(super) fn withdraw_asks(&mut self) -> Flow {
        for ask in std::mem::take(&mut self.asks) {
            self.send(protocol::withdrawal(&ask.request_id))?;
        }
        self.answers.clear();
        Ok(())
    }

    fn task_done(&mut self, id: &str) -> Flow {
        // Clearing the conversation drops its tasks, but not their delays.
        let Some(at) = self.tasks.iter().position(|task| task.id == id) else {
            return Ok(());
        };
        let task = self.tasks.remove(at);
        self.say(json!({
            "type": "system",
            "subtype": "task_notification",
            "task_id": task.id,
            "tool_use_id": task.tool_use_id,
            "status": "completed",
            "summary": format!("Background task \"{}\" completed", task.text),
        }))?;
        self.say_tasks()?;
        self.finished.push_back(task);
        Ok(())
    }

    /// Lists the background tasks that run.
    pub(super) fn say_tasks(&mut self) -> Flow {
        let tasks: Vec<Value> = self.tasks.iter().map(Task::line).collect();
        self.say(protocol::background_tasks(&tasks))
    }

    /// Drops the background tasks.
    pub(super) fn drop_tasks(&mut self) -> Flow {
        self.tasks.clear();
        self.finished.clear();
        self.say_tasks()
    }

    /// Sends a line of the conversation: it names the session and has an id.
    pub(super) fn say(&mut self, mut line: Value) -> Flow {
        if line.get("uuid").is_none() {
            line["uuid"] = json!(self.conversation.next_uuid());
        }
        line["session_id"] = json!(self.conversation.id);
        self.send(line)
    }

    /// Sends a line as it is.
    pub(super) fn send(&mut self, line: Value) -> Flow {
        writeln!(self.out, "{line}")
            .and_then(|()| self.out.flush())
            .map_err(Stop::Broken)
    }

    /// Writes a line to stderr.
    pub(super) fn complain(&mut self, text: &str) {
        // Where stderr is gone, nobody can be told.
        let _ = writeln!(self.err, "{text}");
        let _ = self.err.flush();
    }

    /// Keeps the conversation. It goes on without being kept if it cannot be.
    pub(super) fn save(&mut self) {
        if let Err(problem) = self.history.save(&self.conversation) {
            self.complain(&format!("the conversation cannot be kept: {problem}"));
        }
    }

    /// The time now, as lines show it.
    pub(super) fn timestamp(&self) -> Value {
        json!(self.clock.now().to_string())
    }
}

/// What the options say about where to begin.
struct Start {
    conversation: Conversation,
    permissions: Permissions,
}

/// Why an agent does not start.
struct Refusal {
    text: String,
    result: Option<Value>,
}

impl Refusal {
    fn of(text: impl Into<String>) -> Refusal {
        Refusal {
            text: text.into(),
            result: None,
        }
    }
}

impl Start {
    fn read(options: &DemoOptions, history: &History) -> Result<Start, Refusal> {
        let mode = options.permission_mode.as_deref().unwrap_or("default");
        let permissions = Permissions::new(mode)
            .ok_or_else(|| Refusal::of(format!("Error: there is no permission mode {mode}")))?;
        let own = match &options.session_id {
            None => None,
            Some(id) => {
                let id = Uuid::parse_str(id)
                    .map_err(|_| Refusal::of("Error: Invalid session ID. Must be a valid UUID."))?;
                if history.has(id) {
                    return Err(Refusal::of(format!(
                        "Error: Session ID {id} is already in use."
                    )));
                }
                Some(id)
            }
        };
        let fresh = || own.unwrap_or_else(Uuid::new_v4);
        let conversation = match &options.resume {
            None => Conversation::new(fresh()),
            Some(id) => {
                let Some(old) = history.load(id) else {
                    return Err(Self::unknown(id));
                };
                match (options.fork_session, own) {
                    (true, _) => old.fork(fresh()),
                    (false, None) => old,
                    (false, Some(_)) => {
                        return Err(Refusal::of(
                            "Error: --session-id can only be used with --resume if --fork-session is also given.",
                        ));
                    }
                }
            }
        };
        Ok(Start {
            conversation,
            permissions,
        })
    }

    fn unknown(id: &str) -> Refusal {
        let text = format!("No conversation found with session ID: {id}");
        let result = json!({
            "type": "result",
            "subtype": "error_during_execution",
            "is_error": true,
            "errors": [text],
            "num_turns": 0,
            "duration_ms": 0,
            "total_cost_usd": 0,
            "session_id": id,
            "permission_denials": [],
            "uuid": Uuid::new_v4().to_string(),
        });
        Refusal {
            text,
            result: Some(result),
        }
    }
}
