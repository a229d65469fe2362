//! Moves a session: records up, commands down, until all is stored and the runner is released.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::ending::StopNote;
use super::fault;
use super::interpreter::{Interpreted, Interpreter};
use super::source::{Source, Told};
use super::state::{DONE_FILE, Meta, Saved, SavedGap};
use crate::base::id::{CommandId, SessionId};
use crate::base::{Code, Error};
use crate::daemon::harness::HarnessKind;
use crate::daemon::harness::registry::Registry;
use crate::daemon::runner::client;
use crate::daemon::uplink::Uplink;
use crate::domain::command::CommandBody;
use crate::domain::link::{Found, Position, QueryResult, Record, RecordEvent, SessionReport};
use crate::domain::live::{LiveText, Sent};
use crate::domain::session::Mode;
use crate::domain::terminal::Act;
use crate::domain::{Command, CommandOutcome, CommandResult, Transient};
use crate::driver::{Action, Write};
use crate::wire::runner_v1::{
    Outcome, Release, Resize, SpoolRecord, Stop, Trim, Type, Typed, Write as WriteRequest,
    WriteOutcome, runner_request::Body as Request,
};

/// Most records that are interpreted ahead of the server, and their bytes.
const MAX_PREPARED: usize = 256;
const MAX_PREPARED_BYTES: u64 = 2 << 20;
/// Most queries whose bytes are being typed.
const MAX_TYPING: usize = 256;
/// Most states kept until the server has stored what they say.
const MAX_STATES: usize = 8;
/// How many records may pass before a state is kept although more come at once.
const STATE_EVERY: u64 = 64;
/// How often a state is written to the disk at most.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// How long the steps of a polite stop take at most.
const POLITE_MS: u32 = 10_000;
const CLOSE_MS: u32 = 5_000;
const TERM_MS: u32 = 5_000;
/// How long SIGTERM has when there is to be no politeness.
const FORCE_TERM_MS: u32 = 2_000;

/// What a pump is told.
#[derive(Debug)]
pub enum Message {
    /// Do this.
    Command(Box<Command>),
    /// Do this to the terminal, and answer the query.
    Terminal(u64, Act),
}

/// What waits for a pump: it goes on to the next one if this one fails.
pub struct Inbox {
    /// What comes.
    pub mailbox: mpsc::Receiver<Message>,
    /// Commands that another pump was given and could not answer any more, in their order. To do them again is safe:
    /// the runner's ledger knows what was done.
    pub again: Vec<Command>,
}

/// A pump that could not go on, and what waits for the next one.
pub struct Failed {
    /// Why.
    pub error: io::Error,
    /// What waits.
    pub inbox: Inbox,
}

/// What all sessions share.
pub struct Shared {
    /// The link.
    pub uplink: Arc<Uplink>,
    /// The kinds of harness.
    pub registry: Registry,
    /// Differs between starts of the daemon.
    pub boot_generation: u64,
}

/// The one that moves a session.
pub struct Pump {
    id: SessionId,
    dir: PathBuf,
    meta: Meta,
    shared: Arc<Shared>,
    inbox: Inbox,
    source: Source,
    interpreter: Interpreter,
    /// Interpreted and not pushed, oldest first.
    prepared: VecDeque<Prepared>,
    prepared_bytes: u64,
    /// The number to push next; `None` before the server said where to begin.
    expected: Option<u64>,
    /// States whose records are not all stored, oldest first.
    states: VecDeque<Saved>,
    saved: Saved,
    saved_at: Option<Instant>,
    acked: u64,
    /// What is live of the records up to this one is known to the link, or is gathered in `replayed`.
    fresh_after: u64,
    /// After the daemon's start: what the records that an earlier daemon had read left being written. The link
    /// gets it when the last of them is read, so that nobody sees a finished text being written again.
    replayed: Option<LiveText>,
    /// The take-over is told to the driver once it has read up to here.
    resync_after: Option<u64>,
    waiting: HashMap<String, Waiting>,
    /// Commands that did not fit while what was read before is being read again: the record that they are about may
    /// be still to come. In their order.
    later: Vec<Command>,
    /// Queries whose bytes are being typed, by the number they were given to the runner under.
    typing: BTreeMap<u64, u64>,
    typed: u64,
    /// Commands that are applied when the process has ended.
    stops: Vec<CommandId>,
    /// Whether the session's end is stored, or nobody wants it.
    over: bool,
    foreign: bool,
    /// The harness's own conversation id, for whoever keeps two writers apart.
    provider: Arc<Mutex<String>>,
}

struct Prepared {
    record: Record,
    content: Vec<(String, bytes::Bytes)>,
}

struct Waiting {
    command: Command,
    /// Whether the driver says how it ended, and not the write.
    driver_says: bool,
    is_stop: bool,
}

/// Where the session's own facts are.
#[derive(Clone)]
pub struct Home {
    /// The session.
    pub id: SessionId,
    /// Its directory.
    pub dir: PathBuf,
    /// How it was started.
    pub meta: Meta,
    /// Where its conversation id is noted.
    pub provider: Arc<Mutex<String>>,
}

impl Pump {
    /// Takes a session over whose runner was started, by this daemon or an earlier one.
    pub async fn open(
        home: Home,
        shared: Arc<Shared>,
        inbox: Inbox,
        is_new: bool,
    ) -> Result<Self, Failed> {
        let saved = Saved::read(&home.dir);
        let source = match Source::open(&home.dir, &saved).await {
            Ok(source) => source,
            Err(error) => return Err(Failed { error, inbox }),
        };
        let interpreter = match interpreter(&home, &shared, saved.clone(), source.origin_epoch) {
            Ok(interpreter) => interpreter,
            Err(error) => {
                let error = io::Error::other(error);
                return Err(Failed { error, inbox });
            }
        };
        let acked = interpreter.state.acked;
        let resync_after = (source.alive && !is_new).then_some(source.last_seq);
        let fresh_after = if is_new { 0 } else { source.last_seq };
        let pump = Pump {
            id: home.id,
            dir: home.dir,
            meta: home.meta,
            shared,
            inbox,
            source,
            interpreter,
            prepared: VecDeque::new(),
            prepared_bytes: 0,
            expected: None,
            states: VecDeque::new(),
            saved,
            saved_at: None,
            acked,
            fresh_after,
            replayed: (!is_new).then(LiveText::default),
            resync_after,
            waiting: HashMap::new(),
            later: Vec::new(),
            typing: BTreeMap::new(),
            typed: 0,
            stops: Vec::new(),
            over: false,
            foreign: false,
            provider: home.provider,
        };
        pump.note_provider();
        pump.report();
        Ok(pump)
    }

    /// Moves the session until it is over for this daemon. Ending this in the middle loses nothing.
    /// `gone` is set when the process has ended.
    pub async fn run(mut self, gone: &watch::Sender<bool>) -> Result<(), Failed> {
        let Err(error) = self.work(gone).await else {
            return Ok(());
        };
        let waiting = self.waiting.into_values().map(|waiting| waiting.command);
        self.inbox.again.extend(waiting);
        self.inbox.again.append(&mut self.later);
        self.inbox.again.sort_by_key(|command| command.id);
        let inbox = self.inbox;
        Err(Failed { error, inbox })
    }

    async fn work(&mut self, gone: &watch::Sender<bool>) -> io::Result<()> {
        if self.source.alive && self.interpreter.state.driver.is_none() {
            // Written once, however often it is said: the ids see to it.
            let writes = self.interpreter.driver.begin();
            self.write_all(writes).await;
        }
        self.resync().await;
        for command in std::mem::take(&mut self.inbox.again) {
            self.command(command).await;
        }
        let mut moved = self.shared.uplink.moved();
        loop {
            moved.mark_unchanged();
            self.go_on().await?;
            if !self.is_behind() {
                for command in std::mem::take(&mut self.later) {
                    self.command(command).await;
                }
            }
            self.push();
            self.save(false).await;
            if self.interpreter.state.exited || !self.source.alive {
                gone.send_replace(true);
            }
            if self.over || self.is_stored() {
                gone.send_replace(true);
                return self.leave().await;
            }
            let room =
                self.prepared.len() < MAX_PREPARED && self.prepared_bytes < MAX_PREPARED_BYTES;
            let unsaved = !self.states.is_empty();
            tokio::select! {
                message = self.inbox.mailbox.recv() => match message {
                    None => return Ok(()),
                    Some(Message::Command(command)) => self.command(*command).await,
                    Some(Message::Terminal(query, act)) => self.act(query, act).await,
                },
                record = self.source.records.recv(), if room || self.foreign => match record {
                    Some(record) => self.record(record).await,
                    None => self.reopen().await?,
                },
                outcome = self.source.outcomes.recv(), if self.source.is_living() => match outcome {
                    Some(Told::Outcome(outcome)) => self.outcome(outcome),
                    Some(Told::Typed(typed)) => self.typed(typed),
                    None => self.reopen().await?,
                },
                _ = moved.changed() => {}
                () = tokio::time::sleep(SAVE_EVERY), if unsaved => {}
            }
        }
    }

    // Up.

    async fn record(&mut self, record: SpoolRecord) {
        fault::point(fault::BEFORE_RECORD);
        let seq = record.seq;
        let interpreted = self.interpreter.record(record);
        self.take(seq, interpreted).await;
        self.resync().await;
    }

    async fn take(&mut self, seq: u64, interpreted: Interpreted) {
        self.note_provider();
        for result in interpreted.done {
            self.waiting.remove(&result.command_id.to_string());
            self.result(result);
        }
        self.live(seq, interpreted.transients, interpreted.record.as_ref());
        if let Some(record) = interpreted.record {
            let content: u64 = interpreted
                .content
                .iter()
                .map(|(_, data)| data.len() as u64)
                .sum();
            self.prepared_bytes += record.size_bytes + content;
            self.prepared.push_back(Prepared {
                record,
                content: interpreted.content,
            });
        }
        if self.foreign {
            // Nobody wants it.
            self.prepared.clear();
            self.prepared_bytes = 0;
        }
        self.keep_state();
        if self.interpreter.state.exited {
            self.exited();
        }
        self.write_all(interpreted.writes).await;
    }

    /// Tells the link what is being written, and what a record has finished.
    fn live(&mut self, seq: u64, transients: Vec<Transient>, record: Option<&Record>) {
        let events = record.map_or(&[][..], |record| &record.events);
        if seq > self.fresh_after {
            self.caught_up();
            if transients.is_empty() && events.is_empty() {
                return;
            }
            self.shared.uplink.with(|link| {
                for transient in transients {
                    link.transient(transient);
                }
                for event in events.iter().filter_map(RecordEvent::whole) {
                    link.finished(self.id, &event.body);
                }
            });
            return;
        }
        if let Some(text) = &mut self.replayed {
            for transient in transients {
                text.add(transient.body);
            }
            for event in events.iter().filter_map(RecordEvent::whole) {
                text.finished(&event.body);
            }
        }
        if seq == self.fresh_after {
            self.caught_up();
        }
    }

    fn caught_up(&mut self) {
        let Some(text) = self.replayed.take().filter(|text| !text.is_empty()) else {
            return;
        };
        let mut sent = Sent::default();
        self.shared.uplink.with(|link| {
            while let Some(body) = text.next(&mut sent) {
                link.transient(Transient {
                    session_id: self.id,
                    body,
                });
            }
        });
    }

    /// Keeps the state after this record until the server has stored it, if it is a good place.
    fn keep_state(&mut self) {
        if !self.interpreter.can_save() {
            return;
        }
        let seq = self.interpreter.state.seq;
        let last = self.states.back().map_or(self.saved.seq, |state| state.seq);
        let idle = self.source.records.is_empty();
        if !idle && seq < last + STATE_EVERY && !self.interpreter.state.exited {
            return;
        }
        if self.states.len() >= MAX_STATES {
            self.states.pop_back();
        }
        self.states.push_back(self.interpreter.save());
    }

    /// Whether the server has all of the session. A spool that ends before what the server has says nothing yet: its
    /// end comes after that.
    fn is_stored(&self) -> bool {
        let state = &self.interpreter.state;
        state.exited && self.acked >= state.seq && state.seq >= self.source.last_seq
    }

    /// Goes to where the link is. It is asked each time: links come and go at any moment, also between two lines
    /// of this file, and whoever went by what was said once could wait for a word that never comes.
    async fn go_on(&mut self) -> io::Result<()> {
        let (foreign, stored, position) = self.shared.uplink.look(|link| {
            let foreign = link.foreign_because(self.id).map(str::to_owned);
            (foreign, link.stored(self.id), link.position(self.id))
        });
        if let Some(reason) = foreign
            && !self.foreign
        {
            self.end_foreign(&reason).await;
        }
        if self.foreign {
            // Of a runner that is gone nothing more comes.
            self.over |= !self.source.is_living();
            return Ok(());
        }
        if let Some(stored) = stored {
            self.acked = self.acked.max(self.seq_after(stored) - 1);
        }
        if let Some(after) = position {
            let next = self.seq_after(after);
            self.source.seal(next - 1, self.acked).await?;
            if self.expected != Some(next) {
                self.rewind(after).await?;
            }
        }
        Ok(())
    }

    async fn end_foreign(&mut self, reason: &str) {
        tracing::info!(session = %self.id, reason, "the session is not this daemon's, ending it");
        self.foreign = true;
        self.expected = None;
        if self.source.alive && !self.interpreter.state.exited {
            let stop = stop_request(String::new(), Default::default(), true, Vec::new());
            let _ = self.source.tell(Request::Stop(stop)).await;
        } else {
            self.over = true;
        }
    }

    /// The record of this spool that comes after a position, which may be one of an older spool.
    fn seq_after(&self, position: Position) -> u64 {
        match position.origin_epoch == self.interpreter.state.origin_epoch {
            true => position.origin_seq + 1,
            false => 1,
        }
    }

    fn push(&mut self) {
        let uplink = self.shared.uplink.clone();
        while let Some(expected) = self.expected {
            let Some(prepared) = self.prepared.front_mut() else {
                return;
            };
            if prepared.record.origin_seq < expected {
                self.drop_front();
                continue;
            }
            if !uplink.look(|link| link.wants(self.id)) {
                return;
            }
            let Some(prepared) = self.prepared.front_mut() else {
                return;
            };
            if let Some(gap) = &mut prepared.record.gap {
                // Told from where the server is.
                gap.from_origin_seq = gap.from_origin_seq.min(expected);
                if gap.to_origin_seq < expected {
                    prepared.record.gap = None;
                }
            }
            let record = prepared.record.clone();
            let (epoch, seq) = (self.interpreter.state.origin_epoch, record.origin_seq);
            fault::point(fault::BEFORE_PUSH);
            let pushed = uplink
                .with(|link| link.push(uplink.now(), self.id, epoch, record, &prepared.content));
            if let Err(refused) = pushed {
                // The link went, or is elsewhere; it rings when it is there again.
                tracing::debug!(session = %self.id, seq, %refused, "a record has to wait");
                return;
            }
            fault::point(fault::AFTER_PUSH);
            self.expected = Some(seq + 1);
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        if let Some(prepared) = self.prepared.pop_front() {
            let content: u64 = prepared
                .content
                .iter()
                .map(|(_, data)| data.len() as u64)
                .sum();
            let bytes = prepared.record.size_bytes + content;
            self.prepared_bytes = self.prepared_bytes.saturating_sub(bytes);
        }
        if self.prepared.is_empty() {
            self.prepared_bytes = 0;
        }
    }

    /// Goes on after a record, interpreting again what was interpreted already if that is needed.
    async fn rewind(&mut self, after: Position) -> io::Result<()> {
        let next = self.seq_after(after);
        let after_seq = next - 1;
        let reaches = match self.prepared.front() {
            Some(first) => {
                let gap = first.record.gap.as_ref();
                first.record.origin_seq <= next
                    || gap.is_some_and(|gap| gap.from_origin_seq <= next)
            }
            None => self.interpreter.state.seq <= after_seq,
        };
        self.expected = Some(next);
        if reaches {
            return Ok(());
        }
        // From the last state on the disk; what is before it is gone and said to be.
        self.states.clear();
        self.prepared.clear();
        self.prepared_bytes = 0;
        let mut saved = self.saved.clone();
        if saved.seq > after_seq {
            saved.gap = Some(SavedGap {
                from: next,
                to: saved.seq,
                reason: "the server lost records that the daemon no longer has".to_owned(),
            });
        }
        self.fresh_after = self.fresh_after.max(self.interpreter.state.seq);
        if let Some(text) = &mut self.replayed {
            text.clear();
        }
        self.start_over(saved).await
    }

    async fn start_over(&mut self, saved: Saved) -> io::Result<()> {
        let numbered = self.interpreter.state.origin_epoch;
        self.source.go_to(&self.dir, &saved).await?;
        let home = Home {
            id: self.id,
            dir: self.dir.clone(),
            meta: self.meta.clone(),
            provider: self.provider.clone(),
        };
        self.interpreter = interpreter(&home, &self.shared, saved, self.source.origin_epoch)
            .map_err(io::Error::other)?;
        if self.interpreter.state.origin_epoch != numbered {
            self.acked = 0;
        }
        self.report();
        Ok(())
    }

    /// Whether something was read before, here or by an earlier daemon, that is not read again yet. A spool that
    /// has lost its end does not have it any more.
    fn is_behind(&self) -> bool {
        self.interpreter.state.seq < self.fresh_after.min(self.source.last_seq)
    }

    /// The runner's connections ended: it died, or the socket did.
    async fn reopen(&mut self) -> io::Result<()> {
        let mut now = self.interpreter.save();
        if !self.interpreter.can_save() {
            // Events of missing records are held back; they are read again.
            now = self.states.back().unwrap_or(&self.saved).clone();
            while self
                .prepared
                .back()
                .is_some_and(|p| p.record.origin_seq > now.seq)
            {
                self.prepared.pop_back();
            }
        }
        now.acked = self.acked;
        self.fresh_after = self.fresh_after.max(self.interpreter.state.seq);
        self.start_over(now).await?;
        for query in std::mem::take(&mut self.typing).into_values() {
            self.answer_query(query, Err(Error::state("the runner has gone").maybe_done()));
        }
        // Writes whose outcome never came are in the spool as what they became.
        let open: Vec<(String, Waiting)> = self.waiting.drain().collect();
        for (id, waiting) in open {
            if waiting.is_stop {
                continue;
            }
            let wrote = self.wrote(&id);
            if wrote != Some(WriteOutcome::Done) || !waiting.driver_says {
                self.answer(
                    waiting.command.id,
                    wrote.unwrap_or(WriteOutcome::Unknown),
                    "the runner has gone",
                );
            }
        }
        Ok(())
    }

    /// Writes the newest state whose records are stored, and then lets the spool go.
    async fn save(&mut self, now: bool) {
        if !now && self.saved_at.is_some_and(|at| at.elapsed() < SAVE_EVERY) {
            return;
        }
        let Some(index) = self
            .states
            .iter()
            .rposition(|state| state.seq <= self.acked)
        else {
            return;
        };
        let Some(mut state) = self.states.drain(..=index).next_back() else {
            return;
        };
        state.acked = self.acked;
        fault::point(fault::BEFORE_SAVE);
        let dir = self.dir.clone();
        let written = tokio::task::spawn_blocking(move || state.write(&dir).map(|()| state)).await;
        self.saved_at = Some(Instant::now());
        match written {
            Ok(Ok(state)) => {
                let through_seq = state.seq;
                self.saved = state;
                fault::point(fault::BEFORE_TRIM);
                // If it cannot be told now, the next state trims this too.
                let _ = self.source.tell(Request::Trim(Trim { through_seq })).await;
            }
            Ok(Err(error)) => {
                tracing::warn!(session = %self.id, %error, "the state of a session cannot be written");
            }
            Err(error) => tracing::error!(session = %self.id, %error, "writing a state failed"),
        }
    }

    fn report(&self) {
        if self.foreign {
            return;
        }
        let report = SessionReport {
            session_id: self.id,
            origin_epoch: self.interpreter.state.origin_epoch,
            last_origin_seq: self.source.last_seq.max(self.interpreter.state.seq),
            acked_origin_seq: self.acked,
            alive: self.source.alive && !self.interpreter.state.exited,
        };
        self.shared.uplink.with(|link| link.report(report));
    }

    fn note_provider(&self) {
        let now = &self.interpreter.state.provider_session_id;
        let mut noted = self.provider.lock();
        if !now.is_empty() && *noted != *now {
            noted.clone_from(now);
        }
    }

    // Down.

    async fn command(&mut self, command: Command) {
        fault::point(fault::BEFORE_COMMAND);
        if command
            .deadline
            .is_some_and(|deadline| deadline <= self.shared.uplink.now())
        {
            let error = Error::new(
                Code::Timeout,
                "the command's time was over before it was done",
            );
            return self.reject(command.id, &error);
        }
        let id = command.id.to_string();
        if self.interpreter.state.exited {
            return match (self.wrote(&id), &command.body) {
                (Some(outcome), _) => self.answer(command.id, outcome, ""),
                (None, CommandBody::End { .. }) => self.applied(command.id),
                (None, _) => {
                    self.reject(command.id, &Error::state("the session's process has ended"));
                }
            };
        }
        let action = match self.interpreter.driver.command(&command) {
            Ok(action) => action,
            // It was written before, and that is why it does not fit any more.
            Err(error) => match self.wrote(&id) {
                Some(outcome) => return self.answer(command.id, outcome, ""),
                None if self.is_behind() => return self.later.push(command),
                None => return self.reject(command.id, &error),
            },
        };
        match action {
            Action::Nothing => self.applied(command.id),
            Action::Write(write) => self.write(write, command, false).await,
            Action::WriteAndWait(write) => self.write(write, command, true).await,
            Action::Stop {
                polite,
                force,
                note,
            } => {
                let note = match &command.body {
                    CommandBody::End {
                        reason,
                        message,
                        suspend,
                        ..
                    } => StopNote {
                        reason: *reason,
                        message: message.clone(),
                        suspend: *suspend,
                        driver: note.to_vec(),
                    }
                    .encode(),
                    _ => note.to_vec(),
                };
                self.stops.push(command.id);
                let waiting = Waiting {
                    command,
                    driver_says: false,
                    is_stop: true,
                };
                self.waiting.insert(id.clone(), waiting);
                let stop = stop_request(id, polite, force, note);
                // A runner that is gone is seen by its end.
                let _ = self.source.tell(Request::Stop(stop)).await;
            }
        }
    }

    /// Does something to the terminal.
    async fn act(&mut self, query: u64, act: Act) {
        if self.interpreter.state.exited || !self.source.is_living() {
            let over = Error::state("the session's process has ended");
            return self.answer_query(query, Err(over));
        }
        if self.meta.start.mode != Mode::Interactive {
            let headless = Error::new(Code::NotInteractive, "the session has no terminal");
            return self.answer_query(query, Err(headless));
        }
        let (request, typing) = match act {
            Act::Type(data) => {
                self.typed += 1;
                let id = self.typed;
                (Request::Type(Type { id, data }), Some(id))
            }
            Act::Resize(size) => {
                let (cols, rows) = (size.cols.into(), size.rows.into());
                (Request::Resize(Resize { cols, rows }), None)
            }
        };
        match (self.source.tell(request).await, typing) {
            (Ok(()), Some(id)) => {
                self.typing.insert(id, query);
                // Answers come in order; what was never answered belongs to a runner that is long gone.
                while self.typing.len() > MAX_TYPING {
                    self.typing.pop_first();
                }
            }
            (Ok(()), None) => self.answer_query(query, Ok(Found::Terminal)),
            (Err(_), _) => {
                let gone = Error::state("the runner has gone").maybe_done();
                self.answer_query(query, Err(gone));
            }
        }
    }

    fn typed(&mut self, typed: Typed) {
        let Some(query) = self.typing.remove(&typed.id) else {
            return;
        };
        let result = match typed.outcome() {
            WriteOutcome::Done => Ok(Found::Terminal),
            WriteOutcome::Failed => Err(Error::state(typed.reason)),
            WriteOutcome::Unknown | WriteOutcome::Unspecified => {
                Err(Error::state(typed.reason).maybe_done())
            }
        };
        self.answer_query(query, result);
    }

    fn answer_query(&self, id: u64, result: Result<Found, Error>) {
        self.shared
            .uplink
            .with(|link| link.query_result(QueryResult { id, result }));
    }

    async fn write(&mut self, write: Write, command: Command, driver_says: bool) {
        let waiting = Waiting {
            command,
            driver_says,
            is_stop: false,
        };
        self.waiting.insert(write.id.clone(), waiting);
        self.write_all(vec![write]).await;
    }

    async fn write_all(&mut self, writes: Vec<Write>) {
        for write in writes {
            let request = WriteRequest {
                command_id: write.id,
                data: write.data,
                close: write.close,
                note: write.note,
            };
            // A runner that is gone is seen by the end of its records.
            let _ = self.source.tell(Request::Write(request)).await;
            fault::point(fault::AFTER_TELL);
        }
    }

    fn outcome(&mut self, outcome: Outcome) {
        let Some(waiting) = self.waiting.get(&outcome.command_id) else {
            return;
        };
        let done = outcome.outcome() == WriteOutcome::Done;
        if done && (waiting.driver_says || waiting.is_stop) {
            return;
        }
        let id = waiting.command.id;
        self.waiting.remove(&outcome.command_id);
        self.stops.retain(|stop| *stop != id);
        self.answer(id, outcome.outcome(), &outcome.reason);
    }

    /// The process has ended: what waited for that is applied, what waited for an answer gets none.
    fn exited(&mut self) {
        for id in std::mem::take(&mut self.stops) {
            self.waiting.remove(&id.to_string());
            self.applied(id);
        }
        for (id, waiting) in std::mem::take(&mut self.waiting) {
            match self.wrote(&id) {
                // Nobody was there any more to write it.
                None if !self.source.is_living() => {
                    let ended = Error::state("the session's process has ended");
                    self.reject(waiting.command.id, &ended);
                }
                _ if waiting.driver_says => self.answer(
                    waiting.command.id,
                    WriteOutcome::Unknown,
                    "the process ended before it answered",
                ),
                Some(outcome) => self.answer(waiting.command.id, outcome, ""),
                // The runner is about to say it.
                None => {
                    self.waiting.insert(id, waiting);
                }
            }
        }
        self.source.alive = false;
        self.report();
        if self.foreign {
            self.over = true;
        }
    }

    /// A daemon has taken a living harness over and read what there was: open requests come again.
    async fn resync(&mut self) {
        let ready = self
            .resync_after
            .is_some_and(|seq| self.interpreter.state.seq >= seq);
        if ready && !self.interpreter.state.exited {
            self.resync_after = None;
            let writes = self.interpreter.driver.resync(self.shared.boot_generation);
            self.write_all(writes).await;
        }
    }

    fn wrote(&self, id: &str) -> Option<WriteOutcome> {
        let wrote = &self.interpreter.state.wrote;
        wrote
            .iter()
            .rev()
            .find(|wrote| wrote.id == id)
            .map(|wrote| WriteOutcome::try_from(wrote.outcome).unwrap_or(WriteOutcome::Unknown))
    }

    fn answer(&self, command: CommandId, outcome: WriteOutcome, reason: &str) {
        let (outcome, code) = match outcome {
            WriteOutcome::Done => return self.applied(command),
            WriteOutcome::Failed => (CommandOutcome::Rejected, Code::InvalidState),
            WriteOutcome::Unknown | WriteOutcome::Unspecified => {
                (CommandOutcome::Indeterminate, Code::InternalError)
            }
        };
        self.result(CommandResult {
            command_id: command,
            session_id: self.id,
            outcome,
            reason: reason.to_owned(),
            code: code.as_str().to_owned(),
        });
    }

    fn applied(&self, command: CommandId) {
        self.result(applied(self.id, command));
    }

    fn reject(&self, command: CommandId, error: &Error) {
        self.result(rejected(self.id, command, error));
    }

    fn result(&self, result: CommandResult) {
        fault::point(fault::BEFORE_RESULT);
        self.shared.uplink.with(|link| link.result(result));
    }

    /// Everything is stored: the runner may go, and so may what it kept.
    async fn leave(&mut self) -> io::Result<()> {
        let _ = self.source.tell(Request::Release(Release {})).await;
        self.source.let_go();
        let deadline = Instant::now() + Duration::from_secs(30);
        while client::lock_dead(&self.dir)?.is_none() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let dir = self.dir.clone();
        tokio::task::spawn_blocking(move || clear(&dir))
            .await
            .map_err(io::Error::other)??;
        let id = self.id;
        self.shared.uplink.with(|link| link.forget(id));
        // Answered for whoever asked in the meantime.
        self.inbox.mailbox.close();
        while let Some(message) = self.inbox.mailbox.recv().await {
            match message {
                Message::Command(command) => self.command(*command).await,
                Message::Terminal(query, act) => self.act(query, act).await,
            }
        }
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            let reason = "the process ended before it was known";
            self.answer(waiting.command.id, WriteOutcome::Unknown, reason);
        }
        Ok(())
    }
}

/// Marks a session directory as done and empties it.
fn clear(dir: &std::path::Path) -> io::Result<()> {
    std::fs::File::create(dir.join(DONE_FILE))?.sync_all()?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == DONE_FILE {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn interpreter(
    home: &Home,
    shared: &Shared,
    saved: Saved,
    origin_epoch: u64,
) -> Result<Interpreter, Error> {
    let start = &home.meta.start;
    let kind: &dyn HarnessKind = shared.registry.get(&start.harness).ok_or_else(|| {
        Error::new(
            Code::HarnessUnavailable,
            format!("this daemon does not know the harness {}", start.harness),
        )
    })?;
    Interpreter::new(home.id, kind, start, saved, origin_epoch)
}

fn stop_request(command_id: String, data: bytes::Bytes, force: bool, note: Vec<u8>) -> Stop {
    Stop {
        command_id,
        data: if force { Default::default() } else { data },
        polite_ms: if force { 0 } else { POLITE_MS },
        close_ms: if force { 0 } else { CLOSE_MS },
        term_ms: if force { FORCE_TERM_MS } else { TERM_MS },
        note: note.into(),
    }
}

/// A command that was done.
pub fn applied(session_id: SessionId, command_id: CommandId) -> CommandResult {
    CommandResult {
        command_id,
        session_id,
        outcome: CommandOutcome::Applied,
        reason: String::new(),
        code: String::new(),
    }
}

/// A command that was refused.
pub fn rejected(session_id: SessionId, command_id: CommandId, error: &Error) -> CommandResult {
    CommandResult {
        command_id,
        session_id,
        outcome: CommandOutcome::Rejected,
        reason: error.message().to_owned(),
        code: error.code().as_str().to_owned(),
    }
}
