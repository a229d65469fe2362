//! A daemon's machine: runners with spool and ledger, which survive, and the daemon, which does not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use baton::base::Timestamp;
use baton::base::id::{CommandId, DaemonId, PromptId, SessionId};
use baton::daemon::runner::Ledger;
use baton::domain::command::{Command, CommandBody, CommandOutcome, CommandResult};
use baton::domain::content::ContentRef;
use baton::domain::daemon::Offer;
use baton::domain::event::{Event, EventBody, Origin};
use baton::domain::link::{
    DaemonEvent, DaemonLimits, DaemonLink, Gap, Position, Record, SessionReport,
};
use baton::wire::runner_v1::{Outcome, WriteOutcome};
use bytes::Bytes;
use tempfile::TempDir;

use super::{Rng, check};
use crate::history::History;

/// What a runner read once.
#[derive(Clone)]
pub struct Spooled {
    pub texts: Vec<String>,
    pub content: Option<(String, Bytes)>,
    pub gap: Option<Gap>,
    pub size: u64,
}

/// How far a command has come in a runner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Intent,
    Piped,
}

/// A session's runner with what is on its disk, and the harness behind its pipe.
pub struct Runner {
    pub session: SessionId,
    pub epoch: u64,
    last: u64,
    pub spool: BTreeMap<Position, Spooled>,
    /// Everything ever read, and whether it may be missing because the spool was damaged.
    pub truth: Vec<(String, bool)>,
    positions: Vec<Position>,
    /// How many of them were acknowledged.
    stored: usize,
    /// The real one, on a disk that survives.
    disk: TempDir,
    ledger: Ledger,
    /// Results on its disk that the server is not known to have.
    results: BTreeMap<CommandId, CommandResult>,
    forgotten: BTreeSet<CommandId>,
    queue: VecDeque<Command>,
    doing: Option<(Command, Stage)>,
    /// What the harness was given, in order.
    pub pipe: Vec<CommandId>,
    pub answers: Vec<PromptId>,
    /// Commands whose crash fell between intent and result.
    pub doubted: BTreeSet<CommandId>,
    pub ended: bool,
    counter: u64,
}

impl Runner {
    pub fn new(session: SessionId) -> Self {
        let disk = tempfile::tempdir().expect("a directory");
        Runner {
            ledger: Ledger::create(disk.path()).expect("a ledger"),
            disk,
            results: BTreeMap::new(),
            session,
            epoch: 1,
            last: 0,
            spool: BTreeMap::new(),
            truth: Vec::new(),
            positions: Vec::new(),
            stored: 0,
            forgotten: BTreeSet::new(),
            queue: VecDeque::new(),
            doing: None,
            pipe: Vec::new(),
            answers: Vec::new(),
            doubted: BTreeSet::new(),
            ended: false,
            counter: 0,
        }
    }

    /// The harness writes something.
    pub fn emit(&mut self, rng: &mut Rng, gap: Option<Gap>) {
        self.last += 1;
        let position = Position::new(self.epoch, self.last);
        let events = rng.below(4);
        let mut texts = Vec::new();
        for _ in 0..events {
            self.counter += 1;
            let kind = if rng.chance(150) { "prompt" } else { "text" };
            texts.push(format!("{kind}:{}:{}", self.session, self.counter));
        }
        let content = (events > 0 && rng.chance(200)).then(|| {
            let size = 1 + rng.below(60) as usize;
            let data = Bytes::from(format!("{}{:>size$}", self.session, self.counter));
            (ContentRef::of(&data, "text/plain").sha256, data)
        });
        if let Some((sha256, _)) = &content {
            texts.push(format!("content:{sha256}"));
        }
        for text in &texts {
            self.truth.push((text.clone(), false));
            self.positions.push(position);
        }
        // Now and then a record is larger than any credit.
        let size = if rng.chance(30) {
            500
        } else {
            1 + rng.below(20)
        };
        let spooled = Spooled {
            texts,
            content,
            gap,
            size,
        };
        self.spool.insert(position, spooled);
    }

    fn may_miss(&mut self, from: Position, to: Position) {
        for (entry, position) in self.truth.iter_mut().zip(&self.positions) {
            if (from..=to).contains(position) {
                entry.1 = true;
            }
        }
    }

    /// Records in the middle of the spool cannot be read any more.
    pub fn damage(&mut self, rng: &mut Rng) {
        let all: Vec<Position> = self.spool.keys().copied().collect();
        if all.len() < 3 {
            return;
        }
        let at = rng.below(all.len() as u64 - 1) as usize;
        // The last one stays, so that somebody can tell of the gap.
        let end = (at + rng.below(3) as usize).min(all.len() - 2);
        if all[at].origin_epoch != all[end + 1].origin_epoch {
            return;
        }
        self.may_miss(all[at], all[end]);
        for position in &all[at..=end] {
            self.spool.remove(position);
        }
    }

    /// The machine lost its power: the end of the spool is gone, a new one begins and says so.
    pub fn power_failure(&mut self, rng: &mut Rng) {
        self.crash();
        let lost = rng.below(3);
        for _ in 0..lost {
            let Some(position) = self.spool.keys().next_back().copied() else {
                break;
            };
            self.may_miss(position, position);
            self.spool.remove(&position);
        }
        let gap = Gap {
            from_origin_seq: self.last + 1 - lost.min(self.last),
            to_origin_seq: self.last.max(1),
            reason: "the machine lost its power".to_owned(),
        };
        self.epoch += 1;
        self.last = 0;
        self.emit(rng, Some(gap));
    }

    /// The next record after a position, as a driver makes it.
    pub fn read(&self, after: Position) -> Option<(Position, Spooled)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let (position, spooled) = self.spool.range((Excluded(after), Unbounded)).next()?;
        let mut spooled = spooled.clone();
        let missing = match position.origin_epoch == after.origin_epoch {
            true => position.origin_seq > after.origin_seq + 1,
            false => position.origin_seq > 1,
        };
        if missing {
            spooled.gap = Some(Gap {
                from_origin_seq: match position.origin_epoch == after.origin_epoch {
                    true => after.origin_seq + 1,
                    false => 1,
                },
                to_origin_seq: position.origin_seq - 1,
                reason: "the spool is damaged".to_owned(),
            });
        }
        Some((*position, spooled))
    }

    pub fn trim(&mut self, through: Position) {
        self.spool.retain(|position, _| *position > through);
    }

    /// What of the truth is acknowledged now and was not before.
    pub fn newly_stored(&mut self, through: Position) -> Vec<String> {
        let upto = self
            .positions
            .partition_point(|position| *position <= through);
        let new = self.truth.get(self.stored..upto).unwrap_or_default();
        self.stored = self.stored.max(upto);
        let whole = new.iter().filter(|(_, may_miss)| !may_miss);
        whole.map(|(text, _)| text.clone()).collect()
    }

    pub fn report(&self) -> SessionReport {
        report(self.session, self.epoch, self.last)
    }

    /// A command arrives, perhaps again, and waits for its turn. Only the ledger knows whether it was done.
    fn take(&mut self, command: Command) {
        let id = command.id;
        assert!(
            !self.forgotten.contains(&id),
            "{id} came again after its result was stored for good"
        );
        self.queue.push_back(command);
    }

    /// One step of the ladder: intent on disk, bytes in the pipe, result on disk.
    pub fn work(&mut self, rng: &mut Rng) -> Option<CommandResult> {
        let Some((command, stage)) = self.doing.take() else {
            let command = self.queue.pop_front()?;
            let id = command.id.to_string();
            match self.ledger.find(&id) {
                Some(Some(before)) => return Some(outcome(&command, said(before.outcome()))),
                Some(None) => return Some(outcome(&command, CommandOutcome::Indeterminate)),
                None => {}
            }
            if rng.chance(100) {
                // Refused before anything was done.
                return Some(self.finish(&command, WriteOutcome::Failed));
            }
            self.ledger
                .intend(&id, &Bytes::new())
                .expect("the disk takes it");
            self.doing = Some((command, Stage::Intent));
            return None;
        };
        match stage {
            Stage::Intent => {
                self.pipe.push(command.id);
                if let CommandBody::Answer { prompt_id, .. } = &command.body {
                    self.answers.push(*prompt_id);
                }
                self.doing = Some((command, Stage::Piped));
                None
            }
            Stage::Piped => Some(self.finish(&command, WriteOutcome::Done)),
        }
    }

    fn finish(&mut self, command: &Command, how: WriteOutcome) -> CommandResult {
        self.ledger
            .finish(&Outcome {
                command_id: command.id.to_string(),
                outcome: how.into(),
                ..Outcome::default()
            })
            .expect("the disk takes it");
        let result = outcome(command, said(how));
        self.results.insert(command.id, result.clone());
        result
    }

    /// The runner dies and is taken over: what was begun and not finished is in doubt.
    pub fn crash(&mut self) {
        self.queue.clear();
        let begun = Ledger::open_intents(self.disk.path()).expect("readable");
        let doing = self.doing.take();
        for intent in begun {
            let id = CommandId::parse("id", &intent.command_id).expect("an id");
            let command = doing.as_ref().map(|(command, _)| command);
            let command = command.filter(|command| command.id == id);
            let command = command
                .expect("only the one that was being done is open")
                .clone();
            self.doubted.insert(id);
            self.finish(&command, WriteOutcome::Unknown);
        }
    }

    pub fn results(&self) -> Vec<CommandResult> {
        self.results.values().cloned().collect()
    }

    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.doing.is_none() && self.results.is_empty()
    }
}

fn report(session_id: SessionId, origin_epoch: u64, last_origin_seq: u64) -> SessionReport {
    SessionReport {
        session_id,
        origin_epoch,
        last_origin_seq,
        acked_origin_seq: 0,
        alive: true,
    }
}

/// What a daemon makes of a write's outcome.
fn said(how: WriteOutcome) -> CommandOutcome {
    match how {
        WriteOutcome::Done => CommandOutcome::Applied,
        WriteOutcome::Failed => CommandOutcome::Rejected,
        _ => CommandOutcome::Indeterminate,
    }
}

fn outcome(command: &Command, outcome: CommandOutcome) -> CommandResult {
    CommandResult {
        command_id: command.id,
        session_id: command.session_id,
        outcome,
        reason: String::new(),
        code: String::new(),
    }
}

/// The opposite of a result.
pub fn contradiction(result: &CommandResult) -> CommandResult {
    CommandResult {
        outcome: match result.outcome {
            CommandOutcome::Applied => CommandOutcome::Rejected,
            _ => CommandOutcome::Applied,
        },
        reason: "on second thoughts".to_owned(),
        ..result.clone()
    }
}

/// A daemon's machine.
pub struct Machine {
    pub daemon_id: DaemonId,
    pub runners: BTreeMap<SessionId, Runner>,
    pub link: DaemonLink,
    generation: u64,
    /// Where each session's pump is.
    pump: BTreeMap<SessionId, Position>,
    /// Commands given to runners by this process.
    running: BTreeMap<CommandId, Command>,
    /// Commands that this process's link delivered.
    delivered: BTreeSet<CommandId>,
    /// Results of earlier commands that this process has not come across yet in the runners' spools.
    unread: VecDeque<(SessionId, CommandId)>,
    pub up: bool,
    pub dial_at: Option<Timestamp>,
    /// Sessions it names although they are not its own.
    pub strangers: BTreeSet<SessionId>,
    pub stopped: u64,
}

fn limits() -> DaemonLimits {
    DaemonLimits {
        batch_bytes: 32,
        welcome_timeout: Duration::from_secs(1),
        lease: Duration::from_secs(2),
        max_commands: 64,
        content_chunk_bytes: 16,
        backoff: (Duration::from_millis(20), Duration::from_millis(300)),
        stable_after: Duration::from_millis(500),
        ..DaemonLimits::default()
    }
}

impl Machine {
    pub fn new(daemon_id: DaemonId, sessions: &[SessionId]) -> Self {
        let mut machine = Machine {
            daemon_id,
            runners: sessions.iter().map(|id| (*id, Runner::new(*id))).collect(),
            link: DaemonLink::new(daemon_id, 0, Offer::default(), limits(), 0),
            generation: 0,
            pump: BTreeMap::new(),
            running: BTreeMap::new(),
            delivered: BTreeSet::new(),
            unread: VecDeque::new(),
            up: false,
            dial_at: None,
            strangers: BTreeSet::new(),
            stopped: 0,
        };
        machine.start(Timestamp::EPOCH);
        machine
    }

    /// The daemon dies; runners live on.
    pub fn crash(&mut self) {
        self.up = false;
        self.dial_at = None;
        self.pump.clear();
        self.running.clear();
        self.delivered.clear();
        self.unread.clear();
    }

    /// The daemon starts and adopts its runners.
    pub fn start(&mut self, now: Timestamp) {
        self.generation += 1;
        let seed = self.daemon_id.bits() as u64 ^ self.generation;
        self.link = DaemonLink::new(
            self.daemon_id,
            self.generation,
            Offer::default(),
            limits(),
            seed,
        );
        self.up = true;
        self.dial_at = Some(now);
        for runner in self.runners.values().filter(|runner| !runner.ended) {
            self.link.report(runner.report());
            // It takes a while to read them, and the same commands may come meanwhile.
            let results = runner.results.keys().map(|id| (runner.session, *id));
            self.unread.extend(results);
        }
        for session in &self.strangers {
            self.link.report(report(*session, 1, 3));
        }
    }

    /// A runner dies; the daemon gives the next one what the first had not begun.
    pub fn crash_runner(&mut self, session: SessionId, rng: &mut Rng, power: bool) {
        let Some(runner) = self.runners.get_mut(&session) else {
            return;
        };
        match power {
            true => runner.power_failure(rng),
            false => runner.crash(),
        }
        let results = runner.results();
        if !self.up {
            return;
        }
        if power {
            self.link.report(runner.report());
        }
        for result in results {
            self.running.remove(&result.command_id);
            self.link.result(result);
        }
        let runner = self.runners.get_mut(&session);
        if let Some(runner) = runner {
            for command in self.running.values().filter(|c| c.session_id == session) {
                runner.take(command.clone());
            }
        }
    }

    /// A runner does one step, and the daemon reads on.
    pub fn work(&mut self, session: SessionId, rng: &mut Rng) {
        if self.up
            && rng.chance(300)
            && let Some((session, id)) = self.unread.pop_front()
            && let Some(result) = self.runners[&session].results.get(&id)
        {
            self.link.result(result.clone());
        }
        let Some(result) = self.runners.get_mut(&session).and_then(|r| r.work(rng)) else {
            return;
        };
        if !self.up {
            return;
        }
        self.running.remove(&result.command_id);
        let second = contradiction(&result);
        self.link.result(result);
        if rng.chance(50) {
            // Whoever reports comes to think otherwise: the first outcome is the one that counts.
            self.link.result(second);
        }
    }

    /// A pump reads one record if the link wants it.
    pub fn pump(&mut self, session: SessionId, now: Timestamp) {
        if !self.up || !self.link.wants(session) {
            return;
        }
        let Some(runner) = self.runners.get(&session) else {
            return;
        };
        let Some(after) = self.pump.get(&session).copied() else {
            return;
        };
        let Some((position, spooled)) = runner.read(after) else {
            return;
        };
        let content: Vec<_> = spooled.content.into_iter().collect();
        let record = Record {
            output: None,
            origin_seq: position.origin_seq,
            events: spooled
                .texts
                .iter()
                .map(|text| {
                    let body = EventBody::Notice {
                        kind: "sim".to_owned(),
                        text: text.clone(),
                    };
                    Event::new(session, Origin::Harness, now, body).into()
                })
                .collect(),
            gap: spooled.gap,
            time: now,
            size_bytes: spooled.size,
        };
        self.link
            .push(now, session, position.origin_epoch, record, &content)
            .expect("the pump is where the link told it to be");
        self.pump.insert(session, position);
    }

    /// Acts on what the link says; `stored` checks an acknowledgement. True: drop the stream.
    pub fn act(
        &mut self,
        now: Timestamp,
        history: &History,
        mut stored: impl FnMut(SessionId, Position),
    ) -> bool {
        let mut close = false;
        while let Some(event) = self.link.event() {
            match event {
                DaemonEvent::Linked { .. }
                | DaemonEvent::Draining { .. }
                | DaemonEvent::Denied(_)
                | DaemonEvent::Query(_) => {}
                DaemonEvent::Deliver(command) => {
                    let session = command.session_id;
                    assert!(
                        self.delivered.insert(command.id),
                        "{} was delivered twice to one process",
                        command.id
                    );
                    let Some(runner) = self.runners.get_mut(&session) else {
                        self.link
                            .result(outcome(&command, CommandOutcome::Rejected));
                        continue;
                    };
                    runner.take((*command).clone());
                    self.running.insert(command.id, *command);
                }
                DaemonEvent::ResultStored {
                    session_id,
                    command_id,
                } => {
                    self.running.remove(&command_id);
                    if let Some(runner) = self.runners.get_mut(&session_id) {
                        runner.results.remove(&command_id);
                        runner.forgotten.insert(command_id);
                    }
                }
                DaemonEvent::Stored {
                    session_id,
                    through,
                } => {
                    stored(session_id, through);
                    if let Some(runner) = self.runners.get_mut(&session_id) {
                        check::note_acknowledged(history, runner, through);
                        runner.trim(through);
                    }
                }
                DaemonEvent::Rewind { session_id, after } => {
                    self.pump.insert(session_id, after);
                }
                DaemonEvent::Behind { session_id, .. } => {
                    panic!("{session_id}: the spool is behind although it never went back");
                }
                DaemonEvent::EndForeign { session_id, .. } => {
                    assert!(
                        !self.runners.contains_key(&session_id),
                        "{session_id} was taken from its owner"
                    );
                    self.strangers.remove(&session_id);
                    self.link.forget(session_id);
                    self.stopped += 1;
                }
                DaemonEvent::Close { .. } => close = true,
                DaemonEvent::Reconnect { after } => {
                    self.dial_at = Some(now.saturating_add(after));
                }
                DaemonEvent::Superseded(error) => panic!("the only process was told: {error}"),
            }
        }
        close
    }

    pub fn is_idle(&self) -> bool {
        self.runners
            .values()
            .all(|runner| runner.spool.is_empty() && runner.is_idle())
    }
}
