//! The daemon's side of the link.
//!
//! The owner (daemon's link job) does three things: it dials when told ([`DaemonEvent::Reconnect`]), it
//! moves frames ([`DaemonLink::received`], [`DaemonLink::send`] while the transport has room), and it acts
//! on events. Pumps push records while [`DaemonLink::wants`] says so; executors report results. After every
//! call, drain [`DaemonLink::event`] and [`DaemonLink::send`]; call [`DaemonLink::tick`] at
//! [`DaemonLink::next_deadline`].
//!
//! Queues: records by credit (a pump that is not wanted waits), commands by
//! [`DaemonLimits::max_commands`] (more end the link), what is live by [`LIVE_BYTES`] a session (what waits
//! is merged; the oldest text goes), queries by `MAX_QUERIES`, all else by the number of sessions and commands.
//!
//! [`LIVE_BYTES`]: crate::domain::live::LIVE_BYTES

mod event;

#[cfg(test)]
mod tests;

pub use event::{DaemonEvent, Refused};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

use super::backoff::Backoff;
use super::credit::Credit;
use super::frame::{
    Down, Goodbye, Heartbeat, Hello, Position, Query, QueryResult, Record, SessionReport,
    SessionState, Up, Welcome,
};
use super::lease::Lease;
use super::limits::DaemonLimits;
use super::outgoing::{Course, Next, Outgoing};
use super::{PROTOCOL_MAX, PROTOCOL_MIN};
use crate::base::id::{CommandId, DaemonId, SessionId};
use crate::base::{Code, Error, Timestamp};
use crate::domain::daemon::Offer;
use crate::domain::event::EventBody;
use crate::domain::live::{LiveText, Sent};
use crate::domain::{Command, CommandResult, Transient};

/// Most queries that have no answer yet, together with the answers that wait; more end the link. A server asks far
/// fewer at once.
const MAX_QUERIES: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Not connected; waits to be told to dial.
    Idle,
    /// Dialled; Hello goes out first, then Welcome must come.
    Greeting {
        hello_sent: bool,
        until: Timestamp,
    },
    Live,
    /// Goodbye goes out last; then dial again after the pause, or never.
    Leaving {
        goodbye: Goodbye,
        again: Option<Duration>,
    },
    /// Over for good.
    Over,
}

/// What is being written in a session, and how much of it this link has carried.
#[derive(Default)]
struct Live {
    text: LiveText,
    sent: Sent,
}

struct Known {
    session_id: SessionId,
    result: Option<CommandResult>,
}

/// The state machine. See the module's text.
pub struct DaemonLink {
    daemon_id: DaemonId,
    boot_generation: u64,
    attempt: u64,
    offer: Offer,
    limits: DaemonLimits,
    random: u64,
    phase: Phase,
    lease: Lease,
    backoff: Backoff,
    link_credit: Credit,
    flying: Credit,
    sessions: BTreeMap<SessionId, Outgoing>,
    /// Sessions that may have something to send.
    busy: BTreeSet<SessionId>,
    /// The session that was served last.
    served: Option<SessionId>,
    /// Sessions to announce on this link.
    reports: BTreeSet<SessionId>,
    /// Sessions that are not this daemon's, and why, until they are forgotten.
    foreign: BTreeMap<SessionId, String>,
    commands: BTreeMap<CommandId, Known>,
    /// Results to send on this link.
    results: BTreeSet<CommandId>,
    small: VecDeque<Up>,
    /// Queries of this link that have no answer yet: our number for each, and the server's. Ours never comes
    /// again, so that an answer that took longer than its link is not taken for another's.
    queries: BTreeMap<u64, u64>,
    next_query: u64,
    live: BTreeMap<SessionId, Live>,
    /// Sessions that may have something live to send.
    live_due: BTreeSet<SessionId>,
    /// The session whose text was sent last.
    live_served: Option<SessionId>,
    /// Whether the last frame was something live.
    live_sent: bool,
    /// When the server welcomed this link; `None` before.
    welcomed: Option<Timestamp>,
    batch_due: Option<Timestamp>,
    offer_changed: bool,
    events: VecDeque<DaemonEvent>,
}

#[cfg(test)]
impl DaemonLink {
    /// How many frames and notes it keeps for the server or about it, whatever the server did.
    pub(crate) fn kept(&self) -> usize {
        self.small.len() + self.queries.len() + self.foreign.len() + self.commands.len()
    }
}

impl DaemonLink {
    /// A link that is not connected. `boot_generation` grows with every start of the daemon; `seed` makes
    /// the pauses differ between daemons.
    pub fn new(
        daemon_id: DaemonId,
        boot_generation: u64,
        offer: Offer,
        limits: DaemonLimits,
        seed: u64,
    ) -> Self {
        let backoff = Backoff::new(limits.backoff.0, limits.backoff.1);
        DaemonLink {
            daemon_id,
            boot_generation,
            attempt: 0,
            offer,
            random: seed,
            phase: Phase::Idle,
            lease: Lease::new(Timestamp::EPOCH, limits.lease, limits.lease),
            backoff,
            link_credit: Credit::LINK,
            flying: Credit::ZERO,
            sessions: BTreeMap::new(),
            busy: BTreeSet::new(),
            served: None,
            reports: BTreeSet::new(),
            foreign: BTreeMap::new(),
            commands: BTreeMap::new(),
            results: BTreeSet::new(),
            small: VecDeque::new(),
            queries: BTreeMap::new(),
            next_query: 0,
            live: BTreeMap::new(),
            live_due: BTreeSet::new(),
            live_served: None,
            live_sent: false,
            welcomed: None,
            batch_due: None,
            offer_changed: false,
            events: VecDeque::new(),
            limits,
        }
    }

    /// The owner begins to dial. Everything of an earlier stream is forgotten.
    pub fn dial(&mut self, now: Timestamp) {
        if self.phase == Phase::Over {
            return;
        }
        self.unlink();
        self.attempt += 1;
        self.phase = Phase::Greeting {
            hello_sent: false,
            until: now.saturating_add(self.limits.welcome_timeout),
        };
    }

    /// The stream ended or could not be had; `error` is the server's status if it sent one. Nothing
    /// happens when this link had given it up by itself.
    pub fn closed(&mut self, now: Timestamp, error: Option<Error>) {
        match &self.phase {
            Phase::Idle | Phase::Over => return,
            Phase::Leaving { again: None, .. } => {
                self.unlink();
                self.phase = Phase::Over;
                return;
            }
            _ => {}
        }
        match error {
            Some(error) if error.code() == Code::Stale => {
                self.unlink();
                self.phase = Phase::Over;
                self.events.push_back(DaemonEvent::Superseded(error));
            }
            Some(error)
                if matches!(
                    error.code(),
                    Code::Forbidden | Code::Unauthenticated | Code::InvalidState
                ) =>
            {
                self.events.push_back(DaemonEvent::Denied(error));
                self.lost(now, Some(self.limits.backoff.1));
            }
            _ => self.lost(now, None),
        }
    }

    /// Whether the server has welcomed this link and it still stands.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    /// A session has a runner or unsent records, or something about it changed. The first report of a
    /// session is followed by [`DaemonEvent::Rewind`] once the server has said what it has.
    pub fn report(&mut self, report: SessionReport) {
        let id = report.session_id;
        if self.foreign.contains_key(&id) {
            return;
        }
        match self.sessions.get_mut(&id) {
            Some(session) => {
                let mut report = report;
                if report.origin_epoch == session.report.origin_epoch {
                    report.acked_origin_seq =
                        report.acked_origin_seq.max(session.report.acked_origin_seq);
                    report.last_origin_seq =
                        report.last_origin_seq.max(session.report.last_origin_seq);
                }
                session.report = report;
            }
            None => {
                self.sessions.insert(id, Outgoing::new(report));
            }
        }
        if self.is_live() {
            self.reports.insert(id);
        }
    }

    /// The session is over for this daemon: everything it had is stored, or nobody wants it.
    pub fn forget(&mut self, session_id: SessionId) {
        self.foreign.remove(&session_id);
        if let Some(session) = self.sessions.remove(&session_id) {
            self.flying = self.flying.minus(session.flying());
        }
        self.busy.remove(&session_id);
        self.reports.remove(&session_id);
        self.live.remove(&session_id);
        self.live_due.remove(&session_id);
    }

    /// Whether the session's pump may push one more record.
    pub fn wants(&self, session_id: SessionId) -> bool {
        self.is_live() && self.sessions.get(&session_id).is_some_and(Outgoing::wants)
    }

    /// The record of a session after which its pump goes on. `None`: the server has not said on this link what it
    /// has. Whoever pushes asks this and does not trust to memory: a link may come and go between two looks.
    pub fn position(&self, session_id: SessionId) -> Option<Position> {
        let open = self.is_live().then(|| self.sessions.get(&session_id));
        open.flatten().and_then(Outgoing::position)
    }

    /// The last record of a session that the server ever had. To be asked, like [`DaemonLink::position`]: an event
    /// comes once, and may be lost on its way to the session.
    pub fn stored(&self, session_id: SessionId) -> Option<Position> {
        self.sessions.get(&session_id).map(Outgoing::stored)
    }

    /// Why a session is not this daemon's to run, if the server said so. To be asked until it is forgotten.
    pub fn foreign_because(&self, session_id: SessionId) -> Option<&str> {
        self.foreign.get(&session_id).map(String::as_str)
    }

    /// Whoever was to answer a session's commands is gone, and has not: the next link may deliver them again.
    pub fn unanswered(&mut self, session_id: SessionId) {
        self.commands
            .retain(|_, known| known.session_id != session_id || known.result.is_some());
    }

    /// Takes the next record of a session, with the large content that it refers to: names and bytes. Content is sent in
    /// pieces, and again after a reconnect; the record follows when the server has all of it. What is refused is refused
    /// as a whole.
    pub fn push(
        &mut self,
        now: Timestamp,
        session_id: SessionId,
        origin_epoch: u64,
        record: Record,
        content: &[(String, Bytes)],
    ) -> Result<(), Refused> {
        let session = match self.sessions.get_mut(&session_id) {
            Some(session) if session.open => session,
            _ => return Err(Refused::NotOpen),
        };
        if !session.push(now, origin_epoch, record, content) {
            return Err(Refused::NotNext);
        }
        self.busy.insert(session_id);
        Ok(())
    }

    /// Something live. It is kept until [`DaemonLink::finished`], within bounds, so that each link carries the
    /// text so far first: the server may be another one.
    pub fn transient(&mut self, transient: Transient) {
        let id = transient.session_id;
        if self.sessions.contains_key(&id) {
            self.live.entry(id).or_default().text.add(transient.body);
            self.live_due.insert(id);
        }
    }

    /// An event was made of what was live: what was not sent of it is not sent any more. Called in the order of
    /// the records, among the calls of [`DaemonLink::transient`].
    pub fn finished(&mut self, session_id: SessionId, body: &EventBody) {
        if let Some(live) = self.live.get_mut(&session_id) {
            live.text.finished(body);
            if live.text.is_empty() {
                self.live.remove(&session_id);
            }
        }
    }

    /// How a command ended. The first result of a command is the one that counts; it is sent until the
    /// server has it.
    pub fn result(&mut self, result: CommandResult) {
        let id = result.command_id;
        let known = self.commands.entry(id).or_insert(Known {
            session_id: result.session_id,
            result: None,
        });
        known.result.get_or_insert(result);
        self.results.insert(id);
    }

    /// The answer to a query. One of an earlier link goes nowhere.
    pub fn query_result(&mut self, result: QueryResult) {
        let Some(id) = self.queries.remove(&result.id) else {
            return;
        };
        if self.is_live() {
            let result = QueryResult { id, ..result };
            self.small.push_back(Up::QueryResult(result));
        }
    }

    /// What the daemon can run has changed.
    pub fn offer(&mut self, offer: Offer) {
        self.offer = offer;
        self.offer_changed = self.is_live();
    }

    /// Ends the link on purpose, for good. [`DaemonEvent::Close`] says when Goodbye was handed out.
    pub fn goodbye(&mut self, reason: impl Into<String>, sessions_end: bool) {
        match self.phase {
            Phase::Live | Phase::Leaving { .. } => {
                self.phase = Phase::Leaving {
                    goodbye: Goodbye {
                        reason: reason.into(),
                        sessions_end,
                    },
                    again: None,
                };
            }
            _ => {
                self.unlink();
                self.phase = Phase::Over;
                self.events.push_back(DaemonEvent::Close {
                    reason: reason.into(),
                });
            }
        }
    }

    /// A frame arrived.
    pub fn received(&mut self, now: Timestamp, frame: Down) {
        match self.phase {
            Phase::Greeting { hello_sent, .. } => {
                self.lease.heard(now);
                match frame {
                    Down::Welcome(welcome) if hello_sent => self.welcome(now, *welcome),
                    _ => self.broken(now, "the server's first message was not Welcome"),
                }
            }
            Phase::Live | Phase::Leaving { .. } => {
                self.lease.heard(now);
                self.live_frame(now, frame);
            }
            Phase::Idle | Phase::Over => {}
        }
    }

    fn welcome(&mut self, now: Timestamp, welcome: Welcome) {
        if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&welcome.protocol) {
            return self.broken(now, "the server chose a protocol that was not offered");
        }
        self.phase = Phase::Live;
        self.welcomed = Some(now);
        self.lease = Lease::new(now, welcome.lease, welcome.heartbeat_interval);
        self.link_credit = welcome.link_credit;
        self.events.push_back(DaemonEvent::Linked {
            epoch: welcome.link_epoch,
        });
        // Whoever appeared after Hello, or was not spoken of, is announced now.
        self.reports = self.sessions.keys().copied().collect();
        for state in welcome.sessions {
            self.reports.remove(&state.session_id);
            self.resume(state.session_id, state.stored, Some(state.credit));
        }
        for session_id in welcome.foreign {
            let reason = "the server says that the session is not this daemon's";
            self.foreign(session_id, reason.to_owned());
        }
        self.results = self
            .commands
            .iter()
            .filter(|(_, known)| known.result.is_some())
            .map(|(id, _)| *id)
            .collect();
    }

    fn live_frame(&mut self, now: Timestamp, frame: Down) {
        match frame {
            Down::Welcome(_) => self.broken(now, "the server sent Welcome twice"),
            Down::Heartbeat(_) => {}
            Down::Command(command) => self.command(now, command),
            Down::Ack(state) => self.ack(state),
            Down::ResultAck {
                command_id,
                session_id,
            } => {
                self.results.remove(&command_id);
                if self.commands.remove(&command_id).is_some() {
                    self.events.push_back(DaemonEvent::ResultStored {
                        session_id,
                        command_id,
                    });
                }
            }
            Down::Reset {
                session_id, after, ..
            } => {
                // An acknowledgement may have overtaken it.
                let stored = self.sessions.get(&session_id).map(Outgoing::stored);
                self.resume(session_id, after.max(stored.unwrap_or_default()), None);
            }
            Down::Foreign { session_id, reason } => self.foreign(session_id, reason),
            Down::ContentAck(ack) => {
                if let Some(session) = self.sessions.get_mut(&ack.session_id) {
                    let before = session.flying();
                    session.content_ack(&ack);
                    self.flying = self.flying.minus(before).plus(session.flying());
                    self.busy.insert(ack.session_id);
                }
            }
            Down::Query(query) => {
                if self.queries.len() + self.small.len() >= MAX_QUERIES {
                    return self.broken(now, "the server asks more than can be answered");
                }
                self.next_query += 1;
                self.queries.insert(self.next_query, query.id);
                self.events.push_back(DaemonEvent::Query(Query {
                    id: self.next_query,
                    ..query
                }));
            }
            Down::Drain { after, reason } => {
                if self.is_live() {
                    self.events.push_back(DaemonEvent::Draining {
                        after,
                        reason: reason.clone(),
                    });
                    self.phase = Phase::Leaving {
                        goodbye: Goodbye {
                            reason,
                            sessions_end: false,
                        },
                        again: Some(after),
                    };
                }
            }
        }
    }

    fn command(&mut self, now: Timestamp, command: Box<Command>) {
        if let Some(known) = self.commands.get(&command.id) {
            if known.result.is_some() {
                self.results.insert(command.id);
            }
            return;
        }
        if self.commands.len() >= self.limits.max_commands {
            return self.broken(now, "the server sent more commands than can be remembered");
        }
        self.commands.insert(
            command.id,
            Known {
                session_id: command.session_id,
                result: None,
            },
        );
        self.events.push_back(DaemonEvent::Deliver(command));
    }

    fn ack(&mut self, state: SessionState) {
        let Some(session) = self.sessions.get_mut(&state.session_id) else {
            return;
        };
        if !session.open {
            // The answer to a report.
            return self.resume(state.session_id, state.stored, Some(state.credit));
        }
        let before = session.flying();
        let advanced = session.ack(state.stored, state.credit);
        self.flying = self.flying.minus(before).plus(session.flying());
        self.busy.insert(state.session_id);
        if advanced {
            self.events.push_back(DaemonEvent::Stored {
                session_id: state.session_id,
                through: state.stored,
            });
        }
    }

    fn resume(&mut self, session_id: SessionId, stored: Position, credit: Option<Credit>) {
        let Some(session) = self.sessions.get_mut(&session_id) else {
            return;
        };
        if !session.open {
            self.live_due.insert(session_id);
        }
        let (before, had) = (session.flying(), session.stored());
        let course = session.resume(stored, credit);
        self.flying = self.flying.minus(before).plus(session.flying());
        self.busy.insert(session_id);
        if stored > had {
            self.events.push_back(DaemonEvent::Stored {
                session_id,
                through: stored,
            });
        }
        match course {
            Course::Stay => {}
            Course::Rewind(after) => self
                .events
                .push_back(DaemonEvent::Rewind { session_id, after }),
            Course::Behind => self
                .events
                .push_back(DaemonEvent::Behind { session_id, stored }),
        }
    }

    fn foreign(&mut self, session_id: SessionId, reason: String) {
        // Its commands have nobody left to run them; what was answered is still told.
        self.unanswered(session_id);
        // Only what was reported: what the server names beside that is nobody's, and must not pile up here.
        let is_known = self.sessions.contains_key(&session_id);
        self.forget(session_id);
        if is_known {
            self.foreign.insert(session_id, reason.clone());
        }
        self.events
            .push_back(DaemonEvent::EndForeign { session_id, reason });
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Timestamp) {
        match &self.phase {
            Phase::Greeting { until, .. } if now >= *until => {
                self.broken(now, "the server did not answer Hello in time");
            }
            Phase::Live | Phase::Leaving { .. } if self.lease.is_over(now) => {
                self.broken(now, "the server was silent for longer than the lease");
            }
            _ => {}
        }
    }

    /// When to call [`DaemonLink::tick`] and look at [`DaemonLink::send`] next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Greeting { until, .. } => Some(*until),
            Phase::Live => {
                let lease = self.lease.end().min(self.lease.next_heartbeat());
                Some(self.batch_due.map_or(lease, |due| due.min(lease)))
            }
            Phase::Leaving { .. } => Some(self.lease.end()),
            Phase::Idle | Phase::Over => None,
        }
    }

    /// The next thing that happened.
    pub fn event(&mut self) -> Option<DaemonEvent> {
        self.events.pop_front()
    }

    /// The next frame to send. Ask only while the transport has room: what is not taken stays bounded.
    pub fn send(&mut self, now: Timestamp) -> Option<Up> {
        match &mut self.phase {
            Phase::Greeting { hello_sent, .. } => {
                if std::mem::replace(hello_sent, true) {
                    return None;
                }
                Some(Up::Hello(Box::new(self.hello())))
            }
            Phase::Live => {
                self.send_small(now)
                    .or_else(|| match std::mem::take(&mut self.live_sent) {
                        // What is live goes first, but not twice in a row: records have their turn too.
                        true => self.send_records(now).or_else(|| self.send_transient()),
                        false => self.send_transient().or_else(|| self.send_records(now)),
                    })
            }
            Phase::Leaving { .. } => match self.send_small(now) {
                Some(frame) => Some(frame),
                None => self.send_goodbye(now),
            },
            Phase::Idle | Phase::Over => None,
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            daemon_id: self.daemon_id,
            boot_generation: self.boot_generation,
            attempt: self.attempt,
            offer: self.offer.clone(),
            sessions: self.sessions.values().map(|s| s.report.clone()).collect(),
        }
    }

    fn send_small(&mut self, now: Timestamp) -> Option<Up> {
        if let Some(count) = self.lease.beat(now) {
            let (backlog_records, backlog_bytes) = self
                .sessions
                .values()
                .map(Outgoing::backlog)
                .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            return Some(Up::Heartbeat(Heartbeat {
                count,
                time: now,
                backlog_records,
                backlog_bytes,
            }));
        }
        if std::mem::take(&mut self.offer_changed) {
            return Some(Up::Offer(Box::new(self.offer.clone())));
        }
        while let Some(id) = self.reports.pop_first() {
            if let Some(session) = self.sessions.get(&id) {
                return Some(Up::SessionReport(session.report.clone()));
            }
        }
        while let Some(id) = self.results.pop_first() {
            if let Some(result) = self.commands.get(&id).and_then(|k| k.result.clone()) {
                return Some(Up::CommandResult(result));
            }
        }
        self.small.pop_front()
    }

    fn send_records(&mut self, now: Timestamp) -> Option<Up> {
        self.batch_due = None;
        // Once around, beginning after the session that was served last.
        let order: Vec<SessionId> = match self.served {
            Some(served) => self
                .busy
                .range((Bound::Excluded(served), Bound::Unbounded))
                .chain(self.busy.range(..=served))
                .copied()
                .collect(),
            None => self.busy.iter().copied().collect(),
        };
        for id in order {
            let Some(session) = self.sessions.get_mut(&id) else {
                self.busy.remove(&id);
                continue;
            };
            match session.next(now, &self.limits, self.flying, self.link_credit) {
                Next::Send(frame, cost) => {
                    self.flying = self.flying.plus(cost);
                    self.served = Some(id);
                    if !session.has_unsent() {
                        self.busy.remove(&id);
                    }
                    return Some(frame);
                }
                Next::Wait(due) => {
                    self.batch_due = Some(self.batch_due.map_or(due, |other| other.min(due)));
                }
                // Nobody passes it, or what is large would wait for ever.
                Next::LinkFull => return None,
                Next::Nothing => {
                    self.busy.remove(&id);
                }
            }
        }
        None
    }

    /// The next text that was not sent yet; a session that writes faster than the transport takes it has more in
    /// each message.
    fn send_transient(&mut self) -> Option<Up> {
        while let Some(id) = self.next_live() {
            self.live_due.remove(&id);
            // A session that is not open yet is due again when it is.
            if !self.sessions.get(&id).is_some_and(|session| session.open) {
                continue;
            }
            let Some(live) = self.live.get_mut(&id) else {
                continue;
            };
            if let Some(body) = live.text.next(&mut live.sent) {
                self.live_served = Some(id);
                self.live_sent = true;
                self.live_due.insert(id);
                return Some(Up::Transient(Transient {
                    session_id: id,
                    body,
                }));
            }
        }
        None
    }

    fn next_live(&self) -> Option<SessionId> {
        let after = self.live_served.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.live_due.range((after, Bound::Unbounded)).next();
        next.or_else(|| self.live_due.first()).copied()
    }

    fn send_goodbye(&mut self, now: Timestamp) -> Option<Up> {
        let Phase::Leaving { goodbye, again } = &self.phase else {
            return None;
        };
        let (goodbye, again) = (goodbye.clone(), *again);
        self.events.push_back(DaemonEvent::Close {
            reason: goodbye.reason.clone(),
        });
        match again {
            Some(after) => self.lost(now, Some(after)),
            None => {
                self.unlink();
                self.phase = Phase::Over;
            }
        }
        Some(Up::Goodbye(goodbye))
    }

    /// The server broke the rules or fell silent: give the stream up.
    fn broken(&mut self, now: Timestamp, reason: &str) {
        let again = !matches!(self.phase, Phase::Leaving { again: None, .. });
        self.events.push_back(DaemonEvent::Close {
            reason: reason.to_owned(),
        });
        if again {
            self.lost(now, None);
        } else {
            self.unlink();
            self.phase = Phase::Over;
        }
    }

    fn lost(&mut self, now: Timestamp, at_least: Option<Duration>) {
        match self.welcomed {
            Some(since) if now.saturating_since(since) >= self.limits.stable_after => {
                self.backoff.reset();
            }
            Some(_) => self.backoff.ease(self.limits.short_link_pause),
            None => {}
        }
        self.unlink();
        self.phase = Phase::Idle;
        self.random = splitmix(self.random);
        let pause = self.backoff.next(self.random);
        self.events.push_back(DaemonEvent::Reconnect {
            after: at_least.map_or(pause, |least| least.max(pause)),
        });
    }

    fn unlink(&mut self) {
        for session in self.sessions.values_mut() {
            session.unlink();
        }
        self.flying = Credit::ZERO;
        self.busy.clear();
        self.reports.clear();
        self.results.clear();
        self.small.clear();
        self.queries.clear();
        for live in self.live.values_mut() {
            live.sent = Sent::default();
        }
        self.live_due = self.live.keys().copied().collect();
        self.welcomed = None;
        self.batch_due = None;
        self.offer_changed = false;
    }
}

/// One step of a small random sequence: enough to keep daemons from dialling together.
fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
