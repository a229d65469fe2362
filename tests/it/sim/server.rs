//! The server's store and rules, small but with a disk that loses what it did not sync.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use baton::base::id::{CommandId, DaemonId, PromptId, SessionId};
use baton::domain::EventBody;
use baton::domain::command::{Command, CommandOutcome, CommandResult};
use baton::domain::link::{Position, Records};

use crate::support::said::said;

/// What is kept of a session.
#[derive(Clone)]
pub struct Log {
    pub owner: DaemonId,
    pub origin: Position,
    pub fence: u64,
    pub entries: Vec<String>,
}

/// Everything that is kept.
#[derive(Clone, Default)]
pub struct State {
    pub logs: BTreeMap<SessionId, Log>,
    pub outbox: BTreeMap<CommandId, Command>,
    pub outcomes: BTreeMap<CommandId, CommandOutcome>,
    pub epochs: BTreeMap<DaemonId, u64>,
    /// Prompts, and the command that carries the answer.
    pub prompts: BTreeMap<String, (SessionId, Option<PromptId>)>,
    pub contents: BTreeSet<String>,
}

/// What belongs together.
#[derive(Clone)]
pub enum Write {
    Append {
        session: SessionId,
        fence: u64,
        origin: Position,
        entries: Vec<String>,
    },
    Command(Command),
    /// An answer and the command that carries it.
    Answer {
        prompt: String,
        id: PromptId,
        command: Command,
    },
    Result(CommandResult),
    Epoch(DaemonId, u64),
    Content(String),
}

impl State {
    /// Applies a write, and holds it to what must never happen.
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Append {
                session,
                fence,
                origin,
                entries,
            } => {
                let log = self.logs.get_mut(session).expect("the session exists");
                assert!(*fence >= log.fence, "{session}: an older link wrote");
                assert!(*origin > log.origin, "{session}: a record was stored twice");
                log.fence = *fence;
                log.origin = *origin;
                for entry in entries {
                    if let Some(sha256) = entry.strip_prefix("content:") {
                        assert!(
                            self.contents.contains(sha256),
                            "{session}: an event refers to content that is not stored"
                        );
                    }
                    if entry.starts_with("prompt:") {
                        self.prompts.insert(entry.clone(), (*session, None));
                    }
                    log.entries.push(entry.clone());
                }
            }
            Write::Command(command) => {
                self.outbox.insert(command.id, command.clone());
            }
            Write::Answer {
                prompt,
                id,
                command,
            } => {
                let (_, answer) = self.prompts.get_mut(prompt).expect("the prompt exists");
                assert!(answer.is_none(), "{prompt} was answered twice");
                *answer = Some(*id);
                self.outbox.insert(command.id, command.clone());
            }
            Write::Result(result) => {
                self.outbox.remove(&result.command_id);
                let old = self.outcomes.insert(result.command_id, result.outcome);
                assert!(old.is_none(), "{} had two outcomes", result.command_id);
            }
            Write::Epoch(daemon, epoch) => {
                let old = self.epochs.insert(*daemon, *epoch).unwrap_or(0);
                assert!(*epoch > old, "a link epoch did not grow");
            }
            Write::Content(sha256) => {
                self.contents.insert(sha256.clone());
            }
        }
    }
}

/// Who waits for a write: a link, and for what.
#[derive(Clone)]
pub struct Reply {
    pub link: u64,
    pub about: About,
}

/// What a link waits for.
#[derive(Clone)]
pub enum About {
    Records(SessionId),
    Result(SessionId, CommandId),
    Content(baton::domain::link::ContentChunk),
    Epoch(u64),
}

/// The disk: what is synced, and what is written and waits for it.
#[derive(Default)]
pub struct Disk {
    pub synced: State,
    /// What decisions are made on: everything synced and written.
    pub written: State,
    waiting: VecDeque<(Write, Option<Reply>)>,
}

impl Disk {
    pub fn write(&mut self, write: Write, reply: Option<Reply>) {
        self.written.apply(&write);
        self.waiting.push_back((write, reply));
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// One sync: some of what waits is safe now, and those who wait for it may be told.
    pub fn sync(&mut self, most: usize) -> Vec<Reply> {
        let mut replies = Vec::new();
        for _ in 0..most {
            let Some((write, reply)) = self.waiting.pop_front() else {
                break;
            };
            self.synced.apply(&write);
            replies.extend(reply);
        }
        replies
    }

    /// The machine dies: the first `kept` writes made it to the disk, nobody was told.
    pub fn crash(&mut self, kept: usize) {
        self.sync(kept);
        self.waiting.clear();
        self.written = self.synced.clone();
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What is new in records, as one append. `None`: nothing is.
    pub fn append(&self, records: &Records, fence: u64) -> Option<Write> {
        let log = self.written.logs.get(&records.session_id)?;
        let mut origin = log.origin;
        let mut entries = Vec::new();
        for record in &records.records {
            let position = Position::new(records.origin_epoch, record.origin_seq);
            if position <= origin {
                continue;
            }
            if let Some(gap) = &record.gap {
                entries.push(format!("gap:{}", gap.reason));
            }
            for event in &record.events {
                let EventBody::Notice { text, .. } = &said(event).body else {
                    panic!("an event changed on its way: {event:?}");
                };
                entries.push(text.clone());
            }
            origin = position;
        }
        (origin > log.origin).then_some(Write::Append {
            session: records.session_id,
            fence,
            origin,
            entries,
        })
    }
}
