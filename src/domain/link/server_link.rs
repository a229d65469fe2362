//! The server's side of one link.
//!
//! The owner (an actor in `relay`) moves frames ([`ServerLink::received`] always at once,
//! [`ServerLink::send`] while the transport has room) and acts on events: it stores records and reports
//! [`ServerLink::stored`], makes results durable and reports [`ServerLink::result_stored`]. Nothing is
//! acknowledged before those calls.
//!
//! Queues: what waits for the application is bounded per session by twice its credit (more is dropped and
//! asked for again), small frames by [`ServerLimits::max_waiting`] (more end the link); acknowledgements
//! are merged per session; commands that do not fit stay in the outbox.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::frame::{
    ContentAck, ContentChunk, Down, Goodbye, Heartbeat, Hello, Position, Query, QueryBody,
    QueryResult, Records, SessionReport, SessionState, Up, Welcome,
};
use super::incoming::{Incoming, Piece};
use super::lease::Lease;
use super::limits::ServerLimits;
use super::{PROTOCOL_MAX, PROTOCOL_MIN};
use crate::base::id::{CommandId, DaemonId, SessionId};
use crate::base::{Code, Error, Timestamp};
use crate::domain::daemon::Offer;
use crate::domain::{Command, CommandResult, Transient};

/// Most queries without an answer.
const MAX_QUERIES: usize = 64;
/// The largest piece of content, in bytes.
const MAX_CHUNK_BYTES: usize = crate::domain::content::CONTENT_CHUNK_BYTES;

/// Something for the owner to act on.
#[derive(Clone, Debug)]
pub enum ServerEvent {
    /// A daemon introduces itself: give it an epoch, fence older links, look up its sessions, and call
    /// [`ServerLink::welcome`].
    Hello(Box<Hello>),
    /// Store these, in order, and call [`ServerLink::stored`] or [`ServerLink::refused`].
    Records(Records),
    /// Stage this and call [`ServerLink::content_staged`].
    Content(ContentChunk),
    /// Make this durable and call [`ServerLink::result_stored`].
    Result(CommandResult),
    /// Pass this on to live readers.
    Transient(Transient),
    /// A session appeared, or its process is gone. Answer with [`ServerLink::own`] or
    /// [`ServerLink::foreign`].
    Report(SessionReport),
    /// What the daemon can run has changed.
    Offer(Box<Offer>),
    /// The answer to a query.
    QueryResult(QueryResult),
    /// The daemon ends the link on purpose.
    Goodbye(Goodbye),
    /// End the stream with this error. Nothing comes after it.
    Close(Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening { until: Timestamp },
    Greeted,
    Live,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    Storing,
}

struct Outstanding {
    session_id: SessionId,
    answer: Answer,
}

/// The state machine. See the module's text.
pub struct ServerLink {
    daemon_id: DaemonId,
    limits: ServerLimits,
    server_version: String,
    phase: Phase,
    epoch: u64,
    lease: Lease,
    sessions: BTreeMap<SessionId, Incoming>,
    /// Sessions that were announced and not yet judged.
    asked: BTreeSet<SessionId>,
    /// Sessions that the daemon was told are not its own.
    told_foreign: BTreeSet<SessionId>,
    acks: BTreeSet<SessionId>,
    /// Sessions whose records are to be asked for again, each at its time: with thousands of others on the link, nobody looks
    /// through all of them each time that something moves.
    refused: BTreeSet<SessionId>,
    commands: BTreeMap<CommandId, Outstanding>,
    unsent: BTreeMap<CommandId, Command>,
    /// Sessions of which a command did not fit since the outbox was last read from its beginning.
    full: BTreeSet<SessionId>,
    /// Commands whose results were stored since the owner asked for a page of the outbox, which may still have them.
    /// `None`: no page is being read.
    settled: Option<BTreeSet<CommandId>>,
    /// Results of unknown commands that the application looks at.
    strangers: BTreeSet<CommandId>,
    queries: BTreeSet<u64>,
    next_query: u64,
    small: VecDeque<Down>,
    welcome: Option<Welcome>,
    events: VecDeque<ServerEvent>,
}

impl ServerLink {
    /// A stream of the daemon that its credential names has begun.
    pub fn new(
        daemon_id: DaemonId,
        limits: ServerLimits,
        server_version: impl Into<String>,
        now: Timestamp,
    ) -> Self {
        ServerLink {
            daemon_id,
            server_version: server_version.into(),
            phase: Phase::Opening {
                until: now.saturating_add(limits.hello_timeout),
            },
            epoch: 0,
            lease: Lease::new(now, limits.lease, limits.heartbeat_interval),
            sessions: BTreeMap::new(),
            asked: BTreeSet::new(),
            told_foreign: BTreeSet::new(),
            acks: BTreeSet::new(),
            refused: BTreeSet::new(),
            commands: BTreeMap::new(),
            unsent: BTreeMap::new(),
            full: BTreeSet::new(),
            settled: None,
            strangers: BTreeSet::new(),
            queries: BTreeSet::new(),
            next_query: 0,
            small: VecDeque::new(),
            welcome: None,
            events: VecDeque::new(),
            limits,
        }
    }

    /// The link's epoch; 0 before Welcome.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the daemon was welcomed and the link stands.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether the link is over: nothing is taken or sent any more.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Answers Hello: the link's epoch, and for every session named there what is stored of it, or `None` if
    /// it is not the daemon's to run.
    pub fn welcome(
        &mut self,
        now: Timestamp,
        epoch: u64,
        sessions: impl IntoIterator<Item = (SessionId, Option<Position>)>,
    ) {
        if self.phase != Phase::Greeted {
            return;
        }
        let mut welcome = Welcome {
            // Checked when Hello came.
            protocol: PROTOCOL_MAX,
            link_epoch: epoch,
            lease: self.limits.lease,
            heartbeat_interval: self.limits.heartbeat_interval,
            sessions: Vec::new(),
            foreign: Vec::new(),
            link_credit: self.limits.link_credit,
            server_version: self.server_version.clone(),
        };
        for (session_id, stored) in sessions {
            match stored {
                Some(stored) => {
                    self.sessions.insert(session_id, Incoming::new(stored));
                    welcome.sessions.push(self.state(session_id, stored));
                }
                None => {
                    self.told_foreign.insert(session_id);
                    welcome.foreign.push(session_id);
                }
            }
        }
        self.epoch = epoch;
        self.phase = Phase::Live;
        // The daemon's heartbeat comes first, and ours goes with it.
        let patience = self.limits.heartbeat_interval / 8;
        let interval = self.limits.heartbeat_interval + patience;
        self.lease = Lease::new(now, self.limits.lease, interval);
        self.welcome = Some(welcome);
    }

    fn state(&self, session_id: SessionId, stored: Position) -> SessionState {
        SessionState {
            session_id,
            stored,
            credit: self.limits.session_credit,
        }
    }

    /// A frame arrived.
    pub fn received(&mut self, now: Timestamp, frame: Up) {
        self.lease.heard(now);
        match (self.phase, frame) {
            (Phase::Opening { .. }, Up::Hello(hello)) => self.hello(hello),
            (Phase::Opening { .. }, _) => {
                self.close(Error::invalid("body", "must be hello in the first message"));
            }
            (Phase::Greeted, _) => {
                self.close(Error::invalid("body", "came before the server's welcome"));
            }
            (Phase::Live, frame) => self.live_frame(now, frame),
            (Phase::Over, _) => {}
        }
    }

    fn hello(&mut self, hello: Box<Hello>) {
        if hello.daemon_id != self.daemon_id {
            return self.close(Error::new(
                Code::Forbidden,
                "the credential belongs to another daemon; enroll this one with a join token",
            ));
        }
        if hello.protocol_min > PROTOCOL_MAX || hello.protocol_max < PROTOCOL_MAX {
            return self.close(Error::state(format!(
                "the daemon speaks link protocols {} to {}, the server {PROTOCOL_MIN} to \
                 {PROTOCOL_MAX}; upgrade the older of the two",
                hello.protocol_min, hello.protocol_max
            )));
        }
        if hello.sessions.len() > self.limits.max_sessions {
            return self.close(self.too_many_sessions());
        }
        self.phase = Phase::Greeted;
        self.events.push_back(ServerEvent::Hello(hello));
    }

    fn too_many_sessions(&self) -> Error {
        Error::new(
            Code::LimitExceeded,
            format!(
                "a link carries at most {} sessions",
                self.limits.max_sessions
            ),
        )
    }

    fn live_frame(&mut self, now: Timestamp, frame: Up) {
        match frame {
            Up::Hello(_) => self.close(Error::invalid("hello", "came twice")),
            Up::Records(records) => self.records(records),
            Up::Transient(transient) => {
                if self.sessions.contains_key(&transient.session_id) {
                    self.events.push_back(ServerEvent::Transient(transient));
                }
            }
            Up::CommandResult(result) => self.result(result),
            Up::Heartbeat(_) => self.lease.answer(now),
            Up::Goodbye(goodbye) => {
                self.phase = Phase::Over;
                self.events.push_back(ServerEvent::Goodbye(goodbye));
            }
            Up::ContentChunk(chunk) => self.content(chunk),
            Up::Offer(offer) => self.events.push_back(ServerEvent::Offer(offer)),
            Up::QueryResult(result) => {
                // An answer to a query that was given up is late, not wrong.
                if self.queries.remove(&result.id) {
                    self.events.push_back(ServerEvent::QueryResult(result));
                }
            }
            Up::SessionReport(report) => self.report(report),
        }
    }

    fn records(&mut self, message: Records) {
        let id = message.session_id;
        let bound = self.limits.session_credit.twice();
        let Some(session) = self.sessions.get_mut(&id) else {
            return self.stranger(id);
        };
        let (origin_epoch, previous) = (message.origin_epoch, message.previous);
        let taken = session.take(message, bound);
        if session.ack_due {
            self.acks.insert(id);
        }
        // What was taken and is not stored comes again too: a reset must not sound like an acknowledgement.
        let after = session.stored();
        if !taken.records.is_empty() {
            self.events.push_back(ServerEvent::Records(Records {
                session_id: id,
                origin_epoch,
                previous,
                records: taken.records,
            }));
        }
        if let Some(reason) = taken.reset {
            self.reset(id, after, reason);
        }
    }

    /// Puts a small frame behind the others. A daemon that makes the server say more than it reads loses its link.
    fn say(&mut self, frame: Down) {
        if self.small.len() >= self.limits.max_waiting {
            return self.close(Error::new(
                Code::LimitExceeded,
                "the daemon does not read what it is answered",
            ));
        }
        self.small.push_back(frame);
    }

    fn reset(&mut self, session_id: SessionId, after: Position, reason: &str) {
        self.say(Down::Reset {
            session_id,
            after,
            reason: reason.to_owned(),
        });
    }

    /// A frame names a session that this link does not carry: it changes nothing, and is said once.
    fn stranger(&mut self, session_id: SessionId) {
        if self.asked.contains(&session_id) {
            return;
        }
        self.tell_foreign(session_id, "the session is not this daemon's");
    }

    fn tell_foreign(&mut self, session_id: SessionId, reason: &str) {
        if !self.told_foreign.insert(session_id) {
            return;
        }
        if self.told_foreign.len() > self.limits.max_sessions {
            return self.close(Error::new(
                Code::Forbidden,
                "the daemon names too many sessions that are not its own",
            ));
        }
        self.say(Down::Foreign {
            session_id,
            reason: reason.to_owned(),
        });
    }

    fn content(&mut self, chunk: ContentChunk) {
        let id = chunk.session_id;
        let bound = self.limits.session_credit.twice();
        let Some(session) = self.sessions.get_mut(&id) else {
            return self.stranger(id);
        };
        if chunk.data.len() > MAX_CHUNK_BYTES {
            return self.close(Error::invalid(
                "content_chunk.data",
                format!("is longer than {MAX_CHUNK_BYTES} bytes"),
            ));
        }
        match session.take_chunk(&chunk, bound) {
            Piece::Taken => self.events.push_back(ServerEvent::Content(chunk)),
            Piece::Dropped => {}
            Piece::Again(next_offset) => {
                self.say(Down::ContentAck(ContentAck {
                    session_id: id,
                    sha256: chunk.sha256,
                    next_offset,
                    resend: true,
                }));
            }
        }
    }

    fn result(&mut self, result: CommandResult) {
        let id = result.command_id;
        match self.commands.get_mut(&id) {
            Some(known) if known.session_id != result.session_id => {
                let session_id = result.session_id;
                return self.stranger(session_id);
            }
            // The first outcome wins; it is on its way to the store.
            Some(known) if known.answer == Answer::Storing => return,
            Some(known) => known.answer = Answer::Storing,
            None if self.strangers.insert(id) => {}
            None => return,
        }
        self.unsent.remove(&id);
        if self.storing() > self.limits.max_waiting {
            return self.close(Error::new(
                Code::LimitExceeded,
                "too many results wait to be stored",
            ));
        }
        self.events.push_back(ServerEvent::Result(result));
    }

    fn storing(&self) -> usize {
        self.strangers.len() + self.commands.len()
    }

    fn report(&mut self, report: SessionReport) {
        let id = report.session_id;
        if !self.sessions.contains_key(&id) {
            self.asked.insert(id);
            if self.asked.len() + self.sessions.len() > self.limits.max_sessions {
                // Those that are over make room; a link that lasts for weeks has seen many.
                self.sessions.retain(|_, session| !session.is_over());
            }
            if self.asked.len() + self.sessions.len() > self.limits.max_sessions {
                return self.close(self.too_many_sessions());
            }
        }
        self.events.push_back(ServerEvent::Report(report));
    }

    /// A reported session is the daemon's own, and this is stored of it.
    pub fn own(&mut self, session_id: SessionId, stored: Position) {
        if self.phase != Phase::Live {
            return;
        }
        self.asked.remove(&session_id);
        self.told_foreign.remove(&session_id);
        self.sessions
            .entry(session_id)
            .or_insert_with(|| Incoming::new(stored))
            .ack_due = true;
        self.acks.insert(session_id);
    }

    /// A session is not the daemon's to run, or no longer: it is told once, and its frames change nothing.
    pub fn foreign(&mut self, session_id: SessionId, reason: &str) {
        self.asked.remove(&session_id);
        self.acks.remove(&session_id);
        // A session that was this daemon's until now is told again.
        if self.sessions.remove(&session_id).is_some() {
            self.told_foreign.remove(&session_id);
        }
        if self.phase == Phase::Live {
            self.tell_foreign(session_id, reason);
        }
    }

    /// Everything up to `position` is stored for good: acknowledges it.
    pub fn stored(&mut self, session_id: SessionId, position: Position) {
        let Some(session) = self.sessions.get_mut(&session_id) else {
            return;
        };
        let reset = session.stored_through(position);
        let after = session.stored();
        self.acks.insert(session_id);
        if reset {
            self.reset(session_id, after, "more came than the credit allows");
        }
    }

    /// Records of a session could not be stored. All that wait are dropped (the owner drops what it still
    /// holds) and asked for again after [`ServerLimits::retry_delay`].
    pub fn refused(&mut self, now: Timestamp, session_id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.refused(now.saturating_add(self.limits.retry_delay));
            self.refused.insert(session_id);
        }
    }

    /// A piece of content was staged up to `next_offset` (the content's size: stored for good), or could
    /// not be: then the sender goes on from there, and the owner drops the session's pieces it still holds.
    pub fn content_staged(&mut self, chunk: &ContentChunk, next_offset: u64, ok: bool) {
        let Some(session) = self.sessions.get_mut(&chunk.session_id) else {
            return;
        };
        let again = session.chunk_done(chunk, next_offset, ok);
        self.say(Down::ContentAck(ContentAck {
            session_id: chunk.session_id,
            sha256: chunk.sha256.clone(),
            next_offset: again.unwrap_or(next_offset),
            resend: again.is_some(),
        }));
    }

    /// The result of a command is known for good: acknowledges it. Room for another command may be free now.
    pub fn result_stored(&mut self, session_id: SessionId, command_id: CommandId) {
        self.commands.remove(&command_id);
        self.strangers.remove(&command_id);
        if let Some(settled) = &mut self.settled
            && settled.len() < self.limits.max_waiting
        {
            settled.insert(command_id);
        }
        if self.phase == Phase::Live {
            self.say(Down::ResultAck {
                command_id,
                session_id,
            });
        }
    }

    /// The owner begins to read the outbox from its beginning.
    pub fn outbox_begins(&mut self) {
        self.full.clear();
    }

    /// Whether a page of the outbox is on its way from the store.
    pub fn reads_page(&self) -> bool {
        self.settled.is_some()
    }

    /// The owner is about to ask the store for a page of the outbox. What is settled by now is not in it; what is settled
    /// until [`Self::page_ends`] may be, and is not sent again. Not needed where page and commands are one step.
    pub fn page_begins(&mut self) {
        self.settled = Some(BTreeSet::new());
    }

    /// The page's commands were given to [`Self::command`].
    pub fn page_ends(&mut self) {
        self.settled = None;
    }

    /// A command of the outbox, which is read in the order of ids. It is sent once on this link, in the
    /// order of ids per session. `false`: too many of its session or of the link have no result yet; it
    /// stays in the outbox until results came and the outbox is read again.
    pub fn command(&mut self, command: Command) -> bool {
        let (id, session_id) = (command.id, command.session_id);
        // One that is on its way, or has its result since the page was read, is not sent a second time.
        if self.commands.contains_key(&id)
            || self.strangers.contains(&id)
            || self
                .settled
                .as_ref()
                .is_some_and(|settled| settled.contains(&id))
        {
            return true;
        }
        let of_session = || {
            self.commands
                .values()
                .filter(|known| known.session_id == session_id)
                .count()
        };
        if self.phase != Phase::Live
            || self.full.contains(&session_id)
            || self.commands.len() >= self.limits.link_commands
            || of_session() >= self.limits.session_commands
        {
            self.full.insert(session_id);
            return false;
        }
        self.commands.insert(
            id,
            Outstanding {
                session_id,
                answer: Answer::None,
            },
        );
        self.unsent.insert(id, command);
        true
    }

    /// Whether commands wait in the outbox because there was no room for them.
    pub fn is_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Asks the daemon something. `None`: the link is not live, or too many questions are open.
    pub fn query(&mut self, body: QueryBody) -> Option<u64> {
        if self.phase != Phase::Live || self.queries.len() >= MAX_QUERIES {
            return None;
        }
        self.next_query += 1;
        let id = self.next_query;
        self.queries.insert(id);
        self.say(Down::Query(Query { id, body }));
        // A daemon that reads nothing has lost its link by that.
        self.is_live().then_some(id)
    }

    /// Nobody waits for an answer any more.
    pub fn query_dropped(&mut self, id: u64) {
        self.queries.remove(&id);
    }

    /// The server goes away: the daemon says goodbye and comes back after `after`.
    pub fn drain(&mut self, after: Duration, reason: impl Into<String>) {
        if self.phase == Phase::Live {
            self.say(Down::Drain {
                after,
                reason: reason.into(),
            });
        }
    }

    /// A newer link of the same daemon took over.
    pub fn superseded(&mut self) {
        self.close(Error::new(
            Code::Stale,
            "a newer link of the same daemon took over; this one must not come back",
        ));
    }

    /// Ends the link with an error.
    pub fn close(&mut self, error: Error) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.events.push_back(ServerEvent::Close(error));
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Timestamp) {
        match self.phase {
            Phase::Opening { until } if now >= until => {
                self.close(Error::new(Code::Timeout, "hello did not come in time"));
            }
            Phase::Live if self.lease.is_over(now) => {
                self.close(Error::new(
                    Code::Timeout,
                    "the daemon was silent for longer than the lease",
                ));
            }
            Phase::Live => {
                let mut due = Vec::new();
                let Self {
                    refused, sessions, ..
                } = self;
                refused.retain(|session_id| {
                    let Some(session) = sessions.get_mut(session_id) else {
                        return false;
                    };
                    if session.reset_at().is_some_and(|at| now >= at) {
                        session.reset_sent();
                        due.push((*session_id, session.stored()));
                    }
                    session.reset_at().is_some()
                });
                for (session_id, after) in due {
                    let reason = "the records could not be stored; send them again";
                    self.reset(session_id, after, reason);
                }
            }
            _ => {}
        }
    }

    /// When to call [`ServerLink::tick`] and look at [`ServerLink::send`] next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Opening { until } => Some(until),
            Phase::Live => {
                let lease = self.lease.end().min(self.lease.next_heartbeat());
                let refused = self.refused.iter();
                let refused = refused.filter_map(|id| self.sessions.get(id)?.reset_at());
                let resets = refused.min();
                Some(resets.map_or(lease, |at| at.min(lease)))
            }
            Phase::Greeted | Phase::Over => None,
        }
    }

    /// The next thing that happened.
    pub fn event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    /// The next frame to send. Ask only while the transport has room.
    pub fn send(&mut self, now: Timestamp) -> Option<Down> {
        if self.phase != Phase::Live {
            return None;
        }
        if let Some(welcome) = self.welcome.take() {
            return Some(Down::Welcome(Box::new(welcome)));
        }
        if let Some(count) = self.lease.beat(now) {
            return Some(Down::Heartbeat(Heartbeat {
                count,
                time: now,
                ..Heartbeat::default()
            }));
        }
        while let Some(session_id) = self.acks.pop_first() {
            if let Some(session) = self.sessions.get_mut(&session_id) {
                session.ack_due = false;
                let stored = session.stored();
                return Some(Down::Ack(self.state(session_id, stored)));
            }
        }
        if let Some(frame) = self.small.pop_front() {
            return Some(frame);
        }
        let (_, command) = self.unsent.pop_first()?;
        Some(Down::Command(Box::new(command)))
    }
}

#[cfg(test)]
impl ServerLink {
    /// How many frames and notes it keeps for the daemon or about it, whatever the daemon did.
    pub(crate) fn kept(&self) -> usize {
        self.small.len()
            + self.strangers.len()
            + self.settled.as_ref().map_or(0, BTreeSet::len)
            + self.told_foreign.len()
            + self.asked.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::command::{CommandBody, CommandOutcome};
    use crate::domain::event::Origin;
    use crate::domain::link::frame::{Gap, Record};
    use crate::domain::{EndInfo, EndReason, Event, EventBody};

    const T: Timestamp = Timestamp::EPOCH;

    fn daemon() -> DaemonId {
        DaemonId::from_bits(1)
    }

    fn session(n: u128) -> SessionId {
        SessionId::from_bits(n)
    }

    fn hello() -> Hello {
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            daemon_id: daemon(),
            boot_generation: 1,
            attempt: 1,
            offer: Offer::default(),
            sessions: Vec::new(),
        }
    }

    fn record(origin_seq: u64, gap: Option<(u64, u64)>) -> Record {
        Record {
            origin_seq,
            events: Vec::new(),
            gap: gap.map(|(from, to)| Gap {
                from_origin_seq: from,
                to_origin_seq: to,
                reason: String::new(),
            }),
            time: T,
            output: None,
            size_bytes: 10,
        }
    }

    fn records(id: SessionId, epoch: u64, records: Vec<Record>) -> Up {
        Up::Records(Records {
            session_id: id,
            origin_epoch: epoch,
            previous: Position::default(),
            records,
        })
    }

    /// A live link with session 1 at record 3 of spool 5.
    fn live() -> ServerLink {
        let mut link = ServerLink::new(daemon(), ServerLimits::default(), "test", T);
        link.received(T, Up::Hello(Box::new(hello())));
        assert!(matches!(link.event(), Some(ServerEvent::Hello(_))));
        link.welcome(T, 7, [(session(1), Some(Position::new(5, 3)))]);
        assert!(matches!(link.send(T), Some(Down::Welcome(w)) if w.link_epoch == 7));
        link
    }

    fn refusal(mut link: ServerLink) -> Code {
        match link.event() {
            Some(ServerEvent::Close(error)) => error.code(),
            other => panic!("{other:?}"),
        }
    }

    fn taken(link: &mut ServerLink) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some(event) = link.event() {
            if let ServerEvent::Records(records) = event {
                all.extend(records.records.iter().map(|record| record.origin_seq));
            }
        }
        all
    }

    #[test]
    fn hello_comes_first_from_the_right_daemon_in_a_known_protocol() {
        let new = || ServerLink::new(daemon(), ServerLimits::default(), "test", T);
        let mut link = new();
        link.received(T, Up::Heartbeat(Heartbeat::default()));
        assert_eq!(refusal(link), Code::InvalidInput);

        let mut link = new();
        let mut other = hello();
        other.daemon_id = DaemonId::from_bits(2);
        link.received(T, Up::Hello(Box::new(other)));
        assert_eq!(refusal(link), Code::Forbidden);

        let mut link = new();
        let mut newer = hello();
        (newer.protocol_min, newer.protocol_max) = (PROTOCOL_MAX + 1, PROTOCOL_MAX + 3);
        link.received(T, Up::Hello(Box::new(newer)));
        match link.event() {
            Some(ServerEvent::Close(error)) => {
                assert_eq!(error.code(), Code::InvalidState);
                assert!(error.message().contains("2 to 4") && error.message().contains("1 to 1"));
            }
            other => panic!("{other:?}"),
        }

        let mut link = new();
        link.tick(T.saturating_add(Duration::from_secs(11)));
        assert_eq!(refusal(link), Code::Timeout);

        let mut link = live();
        link.received(T, Up::Hello(Box::new(hello())));
        assert_eq!(refusal(link), Code::InvalidInput);
    }

    #[test]
    fn records_are_taken_once_in_order_and_a_jump_needs_a_gap() {
        let mut link = live();
        let old = vec![record(2, None), record(3, None), record(4, None)];
        link.received(T, records(session(1), 5, old));
        assert_eq!(taken(&mut link), [4]);
        // What was stored before is acknowledged again; what is new is not yet.
        assert!(matches!(link.send(T), Some(Down::Ack(s)) if s.stored == Position::new(5, 3)));

        link.received(T, records(session(1), 5, vec![record(6, None)]));
        assert_eq!(taken(&mut link), [0; 0]);
        match link.send(T) {
            Some(Down::Reset { after, .. }) => assert_eq!(after, Position::new(5, 3)),
            other => panic!("{other:?}"),
        }
        // (4 was taken but is not stored: the reset does not acknowledge it.)
        // What was on its way meanwhile is dropped without another word.
        link.received(T, records(session(1), 5, vec![record(7, None)]));
        assert!(link.send(T).is_none());
        // A gap that does not reach back to what is here says too little.
        link.received(T, records(session(1), 5, vec![record(8, Some((7, 7)))]));
        assert_eq!(taken(&mut link), [0; 0]);
        link.received(T, records(session(1), 5, vec![record(8, Some((5, 7)))]));
        assert_eq!(taken(&mut link), [8]);
    }

    #[test]
    fn a_younger_spool_begins_at_its_first_record_or_says_what_is_missing() {
        let mut link = live();
        link.received(T, records(session(1), 6, vec![record(2, None)]));
        assert_eq!(taken(&mut link), [0; 0]);
        link.received(T, records(session(1), 6, vec![record(4, Some((2, 3)))]));
        assert_eq!(taken(&mut link), [0; 0]);
        // The older spool has records that were not taken: they are not skipped unnoticed.
        let mut early = records(session(1), 6, vec![record(1, None)]);
        if let Up::Records(early) = &mut early {
            early.previous = Position::new(5, 4);
        }
        link.received(T, early);
        assert_eq!(taken(&mut link), [0; 0]);
        link.received(T, records(session(1), 6, vec![record(1, None)]));
        assert_eq!(taken(&mut link), [1]);
        // The older spool is over.
        link.received(T, records(session(1), 5, vec![record(4, None)]));
        assert_eq!(taken(&mut link), [0; 0]);
    }

    #[test]
    fn a_foreign_session_changes_nothing_and_its_siblings_go_on() {
        let mut link = live();
        for _ in 0..3 {
            link.received(T, records(session(9), 1, vec![record(1, None)]));
        }
        assert_eq!(taken(&mut link), [0; 0]);
        assert!(
            matches!(link.send(T), Some(Down::Foreign { session_id, .. }) if session_id == session(9))
        );
        assert!(link.send(T).is_none(), "it is said once");
        link.received(T, records(session(1), 5, vec![record(4, None)]));
        assert_eq!(taken(&mut link), [4]);
    }

    #[test]
    fn more_than_twice_the_credit_is_dropped_and_asked_for_again() {
        let mut link = live();
        let many: Vec<Record> = (4..1_004).map(|seq| record(seq, None)).collect();
        link.received(T, records(session(1), 5, many));
        let accepted = taken(&mut link);
        assert_eq!(accepted.len(), 512, "events of twice the credit");
        link.stored(session(1), Position::new(5, 515));
        assert!(matches!(link.send(T), Some(Down::Ack(_))));
        match link.send(T) {
            Some(Down::Reset { after, .. }) => assert_eq!(after, Position::new(5, 515)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_piece_that_skips_others_is_asked_for_again_though_nothing_waits() {
        let mut link = live();
        let piece = |offset: u64| ContentChunk {
            session_id: session(1),
            sha256: "a".repeat(64),
            size_bytes: 40,
            offset,
            data: bytes::Bytes::from_static(b"ten bytes!"),
        };
        let staged = |link: &mut ServerLink| match link.event() {
            Some(ServerEvent::Content(chunk)) => {
                let next = chunk.offset + chunk.data.len() as u64;
                link.content_staged(&chunk, next, true);
                Some(chunk.offset)
            }
            _ => None,
        };
        let said = |link: &mut ServerLink| match link.send(T) {
            Some(Down::ContentAck(ack)) => Some((ack.next_offset, ack.resend)),
            _ => None,
        };
        link.received(T, Up::ContentChunk(piece(0)));
        assert_eq!(staged(&mut link), Some(0));
        assert_eq!(said(&mut link), Some((10, false)));
        for _ in 0..2 {
            link.received(T, Up::ContentChunk(piece(30)));
            assert_eq!(staged(&mut link), None);
        }
        assert_eq!(said(&mut link), Some((10, true)));
        assert_eq!(said(&mut link), None, "it is said once");
        link.received(T, Up::ContentChunk(piece(10)));
        assert_eq!(staged(&mut link), Some(10));
    }

    fn command(n: u128) -> Command {
        Command {
            id: CommandId::from_bits(n),
            session_id: session(1),
            deadline: None,
            body: CommandBody::Interrupt,
        }
    }

    fn result(n: u128, outcome: CommandOutcome) -> Up {
        Up::CommandResult(CommandResult {
            command_id: CommandId::from_bits(n),
            session_id: session(1),
            outcome,
            reason: String::new(),
            code: String::new(),
        })
    }

    #[test]
    fn commands_go_once_in_order_and_wait_when_too_many_are_open() {
        let mut link = live();
        link.outbox_begins();
        for n in 1..=70 {
            assert_eq!(link.command(command(n)), n <= 64, "{n}");
        }
        let mut sent = Vec::new();
        while let Some(Down::Command(command)) = link.send(T) {
            sent.push(command.id);
        }
        assert!(sent.len() == 64 && sent.is_sorted());
        link.received(T, result(1, CommandOutcome::Applied));
        link.received(T, result(1, CommandOutcome::Rejected));
        assert!(
            matches!(link.event(), Some(ServerEvent::Result(r)) if r.outcome == CommandOutcome::Applied)
        );
        assert!(link.event().is_none(), "the first outcome wins");
        assert!(link.send(T).is_none(), "not before it is stored");
        link.result_stored(session(1), CommandId::from_bits(1));
        assert!(matches!(link.send(T), Some(Down::ResultAck { .. })));
        // In mid-reading nobody overtakes who found no room.
        assert!(!link.command(command(66)));
        link.outbox_begins();
        assert!(link.command(command(65)));
    }

    #[test]
    fn a_command_whose_result_came_while_a_page_was_read_is_not_sent_again() {
        let mut link = live();
        let applied = |n: u128| result(n, CommandOutcome::Applied);
        let sent = |link: &mut ServerLink| {
            let mut sent = Vec::new();
            while let Some(down) = link.send(T) {
                if let Down::Command(command) = down {
                    sent.push(command.id.bits());
                }
            }
            sent
        };
        link.outbox_begins();
        assert!(link.command(command(1)));
        assert_eq!(sent(&mut link), [1]);

        // A page is read that has 1, and 2 whose result comes from before this link, and 3 which is new.
        link.outbox_begins();
        link.page_begins();
        link.received(T, applied(1));
        link.result_stored(session(1), CommandId::from_bits(1));
        link.received(T, applied(2));
        for n in 1..=3 {
            assert!(link.command(command(n)));
        }
        assert_eq!(sent(&mut link), [3]);
        link.result_stored(session(1), CommandId::from_bits(2));
        assert!(link.command(command(2)));
        assert_eq!(sent(&mut link), [0; 0]);

        link.page_ends();

        // Nothing is remembered for longer than a page is read.
        link.received(T, applied(3));
        link.result_stored(session(1), CommandId::from_bits(3));
        assert_eq!(link.settled, None);
    }

    #[test]
    fn sessions_that_are_over_make_room_on_a_link_and_those_that_live_do_not() {
        let end = |id: SessionId| {
            let end = EndInfo {
                reason: EndReason::Completed,
                exit_code: Some(0),
                signal: 0,
                message: String::new(),
                stderr_tail: String::new(),
            };
            let mut last = record(1, None);
            last.events = vec![Event::new(id, Origin::Harness, T, EventBody::Ended { end }).into()];
            records(id, 5, vec![last])
        };
        let report = |id: SessionId| {
            Up::SessionReport(SessionReport {
                session_id: id,
                origin_epoch: 5,
                last_origin_seq: 0,
                acked_origin_seq: 0,
                alive: true,
            })
        };
        let limit = ServerLimits::default().max_sessions as u128;
        let mut link = live();
        // Far more than a link carries, each over before the next; session 1 lives all the time.
        for n in 2..3 * limit {
            link.received(T, report(session(n)));
            assert!(matches!(link.event(), Some(ServerEvent::Report(_))), "{n}");
            link.own(session(n), Position::default());
            link.received(T, end(session(n)));
            assert_eq!(taken(&mut link), [1]);
            link.stored(session(n), Position::new(5, 1));
            while link.send(T).is_some() {}
        }
        link.received(T, records(session(1), 5, vec![record(4, None)]));
        assert_eq!(taken(&mut link), [4]);
        // What is not stored, or not acknowledged, is not over.
        let mut link = live();
        for n in 2..=limit {
            link.received(T, report(session(n)));
            link.own(session(n), Position::default());
            link.received(T, end(session(n)));
            while link.event().is_some() {}
            while link.send(T).is_some() {}
        }
        link.stored(session(2), Position::new(5, 1));
        link.received(T, report(session(limit + 1)));
        assert_eq!(refusal(link), Code::LimitExceeded);
    }

    #[test]
    fn a_link_that_was_overtaken_takes_and_says_nothing() {
        let mut link = live();
        link.superseded();
        assert!(matches!(link.event(), Some(ServerEvent::Close(e)) if e.code() == Code::Stale));
        link.received(T, records(session(1), 5, vec![record(4, None)]));
        link.stored(session(1), Position::new(5, 4));
        assert!(link.event().is_none() && link.send(T).is_none());
    }

    #[test]
    fn a_daemon_that_does_not_read_its_answers_loses_its_link() {
        let mut link = live();
        let limit = ServerLimits::default().max_waiting;
        for n in 0..3 * limit {
            // Each is the first of another content, and not its beginning: each is answered.
            let chunk = ContentChunk {
                session_id: session(1),
                sha256: format!("{n:064x}"),
                size_bytes: 10,
                offset: 5,
                data: bytes::Bytes::from_static(b"x"),
            };
            link.received(Timestamp::EPOCH, Up::ContentChunk(chunk));
            assert!(link.kept() <= limit, "{} are kept", link.kept());
        }
        assert_eq!(refusal(link), Code::LimitExceeded);
    }

    #[test]
    fn a_question_that_ends_the_link_is_not_asked() {
        let mut link = live();
        let question = || {
            QueryBody::ListDirectory(crate::domain::daemon::DirectoryQuery {
                path: "/".to_owned(),
                hidden: false,
                brief: false,
            })
        };
        assert!(link.query(question()).is_some());
        for n in 1..=ServerLimits::default().max_waiting {
            let known = CommandId::from_bits(n as u128);
            link.result_stored(session(1), known);
        }
        assert_eq!(link.query(question()), None, "the daemon reads nothing");
        assert_eq!(refusal(link), Code::LimitExceeded);
    }

    #[test]
    fn silence_ends_the_link() {
        let mut link = live();
        let at = |seconds| T.saturating_add(Duration::from_secs(seconds));
        link.tick(at(34));
        assert!(matches!(link.send(at(34)), Some(Down::Heartbeat(h)) if h.count == 1));
        link.tick(at(89));
        assert!(link.is_live());
        link.tick(at(91));
        assert_eq!(refusal(link), Code::Timeout);
    }
}
