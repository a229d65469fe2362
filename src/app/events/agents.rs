//! A reader of what all agents do that the caller sees: the events of their sessions, and what they ask people.
//!
//! It follows the records, as every reader of changes does, and reads a session's log up to where its record says
//! that it is. So it costs one reader, whatever the number of agents, and a place in each log that still grows. The
//! places and the revision are where a reader that comes back goes on from.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use super::{ChangeBatch, Changed, Tables, after_what_was_removed};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::sessions::{SessionFilter, Shown};
use crate::base::id::SessionId;
use crate::base::page::{MAX_PAGE_SIZE, PageRequest};
use crate::base::{Code, Error, Result, Timestamp};
use crate::domain::prompt::PromptState;
use crate::domain::{Event, Lifecycle, Prompt, SessionAgent};
use crate::wire::event::event_from_pb;

/// How many events one item has at most.
const RUN: usize = 200;
/// The most sessions that a position names. With more there is none until some of them are over.
const MAX_PLACES: usize = 50;
/// How many sessions that are over are remembered, should one of them be found again.
const OVER_KEPT: usize = 1_000;
/// A session's record may say that it was made so long before anybody is told of it, in microseconds.
const TOLD_LATE_MICROS: i64 = 60_000_000;
/// The same for a reader that begins now: what is younger is not taken for something that was missed.
const JUST_MADE_MICROS: i64 = 1_000_000;

/// What a reader is given.
#[derive(Clone, Debug)]
pub enum AgentsItem {
    /// Events of one session, in their order.
    Events(SessionAgent, Vec<Event>),
    /// A session waits for a person.
    Asked(SessionAgent, Box<Prompt>),
    /// Of a session, events before this seq are gone or not known to this reader; it goes on with it.
    Truncated(SessionId, u64),
}

/// Where a reader stands: what was given to it before is not given again to whoever goes on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    revision: u64,
    /// Sessions that were made since, and are not named here, are given from their beginning.
    since: Timestamp,
    places: BTreeMap<SessionId, u64>,
}

/// A session's log, as far as it was given.
#[derive(Clone, Copy, Debug)]
struct Place {
    seq: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Grows,
    /// It is over; whoever goes on from before the changes at hand comes by it again.
    JustOver,
    Over,
}

/// What is to be done before the next changes are asked for.
enum Todo {
    Read { id: SessionId, agent: SessionAgent },
    Ask(Box<Prompt>),
    Skip { id: SessionId, head: u64 },
    Through(u64),
}

/// A reader of what all agents do.
pub struct AgentsReader {
    app: App,
    caller: Caller,
    changes: BoxStream<'static, Result<ChangeBatch>>,
    /// Whether every record comes again, in no order of revisions.
    anew: bool,
    revision: u64,
    since: Timestamp,
    places: BTreeMap<SessionId, Place>,
    over: VecDeque<SessionId>,
    todo: VecDeque<Todo>,
}

impl App {
    /// Begins to read what all agents do that the caller sees: from now on, or after a position. `OUT_OF_RANGE`: the
    /// position lies in the future.
    pub async fn follow_agents(
        &self,
        caller: &Caller,
        after: Option<Position>,
    ) -> Result<AgentsReader> {
        let since = earlier(self.clock().now(), JUST_MADE_MICROS);
        let position = match after {
            Some(position) => position,
            None => {
                // Before the sessions are looked at: what changes from here on comes.
                let revision = self.newest_revision();
                Position {
                    revision,
                    since,
                    places: self.places_now(caller).await?,
                }
            }
        };
        let changes = self
            .follow_changes(caller, Tables::All, position.revision)
            .await?;
        let grows = |(id, seq)| {
            let state = State::Grows;
            (id, Place { seq, state })
        };
        Ok(AgentsReader {
            app: self.clone(),
            caller: caller.clone(),
            changes: changes.into_stream(),
            anew: position.revision == 0,
            revision: position.revision,
            since: position.since,
            places: position.places.into_iter().map(grows).collect(),
            over: VecDeque::new(),
            todo: VecDeque::new(),
        })
    }

    /// How far the logs are of the agents' sessions that are not over for good.
    async fn places_now(&self, caller: &Caller) -> Result<BTreeMap<SessionId, u64>> {
        let not_ended = Lifecycle::ALL
            .into_iter()
            .filter(|it| *it != Lifecycle::Ended);
        let filter = SessionFilter {
            lifecycles: not_ended.collect(),
            ..SessionFilter::default()
        };
        let mut page = PageRequest {
            size: MAX_PAGE_SIZE,
            after: None,
        };
        let mut places = BTreeMap::new();
        loop {
            let found = self.list_sessions(caller, &filter, &page).await?;
            for shown in found.items {
                if shown.session.agent.is_some() {
                    places.insert(shown.session.id, last_seq(&shown));
                }
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(places),
            }
        }
    }
}

fn earlier(time: Timestamp, micros: i64) -> Timestamp {
    Timestamp::from_micros(time.as_micros().saturating_sub(micros))
}

fn last_seq(shown: &Shown) -> u64 {
    shown.head.map_or(0, |head| head.last_seq)
}

impl AgentsReader {
    /// What comes next; waits for it. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Result<AgentsItem> {
        loop {
            // Taken away when it is done, so that one that is cancelled is begun again.
            let done = match self.todo.front() {
                Some(Todo::Read { id, agent }) => {
                    let (id, agent) = (*id, agent.clone());
                    match self.read(id).await? {
                        Run::Events(events) => return Ok(AgentsItem::Events(agent, events)),
                        Run::Truncated(oldest) => return Ok(AgentsItem::Truncated(id, oldest)),
                        Run::Done => None,
                    }
                }
                Some(Todo::Ask(prompt)) => {
                    let prompt = prompt.clone();
                    let asks = self.app.get_session(&self.caller, prompt.session_id).await;
                    let agent = match asks {
                        Ok((session, _)) => session.agent,
                        Err(error) if error.code() == Code::NotFound => None,
                        Err(error) => return Err(error),
                    };
                    agent.map(|agent| AgentsItem::Asked(agent, prompt))
                }
                Some(Todo::Skip { id, head }) => Some(AgentsItem::Truncated(*id, head + 1)),
                Some(Todo::Through(revision)) => {
                    let revision = *revision;
                    self.through(revision);
                    None
                }
                None => {
                    match self.changes.next().await {
                        Some(batch) => self.take(batch?),
                        None => return Err(going()),
                    }
                    continue;
                }
            };
            self.todo.pop_front();
            if let Some(item) = done {
                return Ok(item);
            }
        }
    }

    /// Where to go on from after the item that was given last; `None` where that would name too many sessions, or
    /// leave out what is to be asked yet.
    pub fn position(&self) -> Option<Position> {
        if matches!(self.todo.front(), Some(Todo::Ask(_))) {
            return None;
        }
        let named = self.places.iter().filter(|(_, it)| it.state != State::Over);
        let places: BTreeMap<SessionId, u64> = named.map(|(id, it)| (*id, it.seq)).collect();
        (places.len() <= MAX_PLACES).then_some(Position {
            revision: self.revision,
            since: self.since,
            places,
        })
    }

    fn take(&mut self, batch: ChangeBatch) {
        match batch {
            ChangeBatch::Started(_) => {}
            ChangeBatch::Truncated(_) => self.anew = true,
            ChangeBatch::Progress(revision) => {
                self.anew = false;
                self.through(revision);
            }
            ChangeBatch::Changes(changes) => {
                let last = changes.last().map(|change| change.revision);
                let mut asks = Vec::new();
                for change in changes {
                    match change.changed {
                        Changed::Session(shown) => self.session(&shown),
                        Changed::Prompt(prompt) if prompt.state == PromptState::Pending => {
                            asks.push(Todo::Ask(prompt));
                        }
                        Changed::Deleted(id) => {
                            if let Ok(id) = id.parse::<SessionId>() {
                                self.places.remove(&id);
                            }
                        }
                        _ => {}
                    }
                }
                if let Some(last) = last.filter(|_| !self.anew) {
                    self.todo.push_back(Todo::Through(last));
                }
                // After that, so that whoever goes on from a question is not asked it again.
                self.todo.extend(asks);
            }
        }
    }

    fn session(&mut self, shown: &Shown) {
        let session = &shown.session;
        let (id, head) = (session.id, last_seq(shown));
        let Some(agent) = session.agent.clone() else {
            return;
        };
        let ended = session.lifecycle == Lifecycle::Ended;
        let seq = match self.places.get(&id) {
            Some(place) => place.seq,
            None if session.created_at >= self.since => 0,
            // It was over before this reader began.
            None if ended => return,
            None => {
                self.todo.push_back(Todo::Skip { id, head });
                head
            }
        };
        let state = match ended {
            true => State::JustOver,
            false => State::Grows,
        };
        self.places.insert(id, Place { seq, state });
        if head > seq {
            self.todo.push_back(Todo::Read { id, agent });
        }
    }

    /// Everything up to a revision was given.
    fn through(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
        let told = earlier(self.app.clock().now(), TOLD_LATE_MICROS);
        self.since = self.since.max(told);
        for (id, place) in &mut self.places {
            if place.state == State::JustOver {
                place.state = State::Over;
                self.over.push_back(*id);
            }
        }
        while self.over.len() > OVER_KEPT {
            if let Some(id) = self.over.pop_front()
                && self
                    .places
                    .get(&id)
                    .is_some_and(|it| it.state == State::Over)
            {
                self.places.remove(&id);
            }
        }
    }

    /// The next events of a session after its place.
    async fn read(&mut self, id: SessionId) -> Result<Run> {
        let Some(place) = self.places.get(&id).copied() else {
            return Ok(Run::Done);
        };
        let page = PageRequest {
            size: RUN,
            after: None,
        };
        let found = self
            .app
            .list_events(&self.caller, id, 0, place.seq, 0, &[], &page)
            .await;
        let (run, seq) = match found {
            Ok(found) => {
                let events = found.events.into_iter().map(event_from_pb);
                let events: Vec<Event> = events.collect::<Result<_>>()?;
                match events.last().map(|last| last.seq) {
                    Some(seq) => (Run::Events(events), seq),
                    None => return Ok(Run::Done),
                }
            }
            // Deleted meanwhile, or not the caller's to see any more.
            Err(error) if error.code() == Code::NotFound => return Ok(Run::Done),
            Err(error) => {
                let left = after_what_was_removed(&error, place.seq).ok_or(error)?;
                (Run::Truncated(left + 1), left)
            }
        };
        if let Some(place) = self.places.get_mut(&id) {
            place.seq = seq;
        }
        Ok(run)
    }
}

enum Run {
    Events(Vec<Event>),
    Truncated(u64),
    Done,
}

fn going() -> Error {
    Error::new(
        Code::Unavailable,
        "the server is shutting down; come back and go on from the last event",
    )
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.", self.revision, self.since.as_micros())?;
        for (at, (id, seq)) in self.places.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{id}:{seq}")?;
        }
        Ok(())
    }
}

impl Position {
    /// Reads a position that a reader gave. `INVALID_INPUT`: it is none; the error names `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self> {
        Self::read(text).ok_or_else(|| Error::invalid(field, "is not an id that this stream gave"))
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let revision = number(parts.next()?)?;
        let since = i64::try_from(number(parts.next()?)?).ok()?;
        let mut places = BTreeMap::new();
        for place in parts.next()?.split(',').filter(|place| !place.is_empty()) {
            let (id, seq) = place.split_once(':')?;
            places.insert(id.parse().ok()?, number(seq)?);
        }
        (places.len() <= MAX_PLACES).then_some(Position {
            revision,
            since: Timestamp::from_micros(since),
            places,
        })
    }
}

fn number(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_and_what_is_none_is_refused() {
        let mut position = Position {
            revision: 7,
            since: Timestamp::from_micros(12),
            places: BTreeMap::new(),
        };
        assert_eq!(
            Position::parse("x", &position.to_string()).unwrap(),
            position
        );
        for bits in 0..MAX_PLACES as u64 {
            position
                .places
                .insert(SessionId::from_bits(bits.into()), bits);
        }
        let text = position.to_string();
        assert_eq!(Position::parse("x", &text).unwrap(), position);
        let one_more = format!("{text},{}:1", SessionId::from_bits(u128::MAX >> 1));
        let id = SessionId::from_bits(1);
        for odd in [
            "",
            "7",
            "7.12",
            "+7.12.",
            "7.-12.",
            "7.99999999999999999999.",
            "7.12.x",
            "7.12.ses_x:1",
            &format!("7.12.{id}"),
            &format!("7.12.{id}:x"),
            &one_more,
        ] {
            assert!(Position::parse("x", odd).is_err(), "{odd}");
        }
    }
}
