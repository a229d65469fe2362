//! A reader of what an agent does, from session to session.
//!
//! A cursor like the reader of one session: replay and live are one path, and the seam between two sessions has
//! neither gap nor duplicate. The next session is begun when everything of the one before was given.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;
use crate::app::access::Caller;
use crate::app::events::{Cursor, Item, Reader, ReaderOptions};
use crate::app::failure;
use crate::app::sessions::index;
use crate::base::id::{AgentId, SessionId};
use crate::base::{Code, Error, Result};
use crate::domain::{Event, EventBody, Lifecycle, Session};
use crate::store::Stream;
use crate::wire::event::event_from_pb;

/// How long a reader of an idle agent leaves the records alone after they have changed.
const GATHER_FOR: Duration = Duration::from_millis(100);
/// Sessions looked at in one step.
const CHUNK: usize = 200;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the session that runs, from its beginning; of an idle agent, with its next one.
    Running,
    /// With what comes from now on.
    Now,
    /// After an event of a session.
    After(SessionId, u64),
}

/// What a reader is given.
#[derive(Clone, Debug)]
pub enum AgentItem {
    /// Another session of the agent has begun; what follows is of it.
    Session(Box<Session>),
    /// Events, in their order.
    Events(Vec<Event>),
    /// Events of the session before this seq are gone; it goes on with it.
    Truncated(u64),
}

/// A reader of what an agent does.
pub struct AgentReader {
    app: App,
    caller: Caller,
    agent: AgentId,
    /// The session that is read, or was last; later ones come after it. `None` before the first.
    session: Option<SessionId>,
    begun: Option<Session>,
    reader: Option<Reader>,
    /// Events up to this seq were given.
    given: u64,
    /// Whether the session is over, as far as its events were given.
    over: bool,
    /// The session after it, and how far this one is to be read before.
    next: Option<(SessionId, u64)>,
    ready: VecDeque<AgentItem>,
    revisions: watch::Receiver<u64>,
}

impl App {
    /// Begins to read what an agent does. `NOT_FOUND`: there is none; `INVALID_INPUT`: the session to go on after is
    /// not one of it; `OUT_OF_RANGE`: the event lies in the future.
    pub async fn follow_agent(
        &self,
        caller: &Caller,
        id: AgentId,
        from: Begin,
    ) -> Result<AgentReader> {
        let agent = self.get_agent(caller, id).await?;
        let mut reader = AgentReader {
            app: self.clone(),
            caller: caller.clone(),
            agent: id,
            session: None,
            begun: None,
            reader: None,
            given: 0,
            over: true,
            next: None,
            ready: VecDeque::new(),
            revisions: self.store().watch_revision(),
        };
        match (from, agent.active) {
            (Begin::Running, Some(session)) => reader.begin(session, Cursor::default()).await?,
            (Begin::Now, Some(session)) => {
                let tail = Cursor {
                    tail: true,
                    ..Cursor::default()
                };
                reader.begin(session, tail).await?;
            }
            (Begin::Running | Begin::Now, None) => {
                reader.session = self
                    .agent_run(id)
                    .await?
                    .and_then(|(run, _)| run.session_id);
            }
            (Begin::After(session, seq), _) => reader.begin_after(session, seq).await?,
        }
        Ok(reader)
    }

    /// The session of an agent that came after one, or its first.
    async fn session_of_agent_after(
        &self,
        agent: AgentId,
        after: Option<SessionId>,
    ) -> Result<Option<SessionId>> {
        let last = self.agent_run(agent).await?;
        let Some(last) = last.and_then(|(run, _)| run.session_id) else {
            return Ok(None);
        };
        if after.is_some_and(|after| after >= last) {
            return Ok(None);
        }
        let marks = [index::agent_prefix(agent)];
        let mut next = None;
        let mut before = None;
        loop {
            let ids = index::newest(self.store().as_ref(), &marks, before, CHUNK).await?;
            for id in &ids {
                if after.is_some_and(|after| *id <= after) {
                    return Ok(next);
                }
                next = Some(*id);
            }
            match ids.last() {
                Some(last) if ids.len() == CHUNK => before = Some(*last),
                _ => return Ok(next),
            }
        }
    }
}

impl AgentReader {
    /// The session that is read, as it was when that began; `None` where the reader waits for one.
    pub fn session(&self) -> Option<&Session> {
        self.begun.as_ref()
    }

    /// What comes next; waits for it. Cancelling the wait loses nothing. `NOT_FOUND` when the agent was deleted.
    pub async fn next(&mut self) -> Result<AgentItem> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            if let Some((next, through)) = self.next
                && (self.reader.is_none() || self.given >= through)
            {
                self.turn_to(next).await?;
                continue;
            }
            if self.over && self.next.is_none() {
                self.revisions.mark_unchanged();
                self.look_for_next().await?;
                if self.next.is_some() {
                    continue;
                }
            }
            let waits = self.over && self.next.is_none();
            let read = async {
                match &mut self.reader {
                    Some(reader) => reader.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                item = read => match item {
                    Ok(item) => self.take(item)?,
                    // The session was deleted.
                    Err(error) if error.code() == Code::NotFound => {
                        self.reader = None;
                        self.over = true;
                    }
                    Err(error) => return Err(error),
                },
                changed = self.revisions.changed(), if waits => {
                    changed.map_err(|_| going())?;
                    tokio::time::sleep(GATHER_FOR).await;
                }
            }
        }
    }

    async fn look_for_next(&mut self) -> Result<()> {
        let next = self
            .app
            .session_of_agent_after(self.agent, self.session)
            .await?;
        let Some(next) = next else {
            // Whoever waits for an agent's next session waits in vain when the agent is gone.
            return self.app.get_agent(&self.caller, self.agent).await.map(drop);
        };
        let through = match (self.session, &self.reader) {
            (Some(session), Some(_)) => {
                let head = self.app.store().head(&Stream::session(session)).await;
                let head = head.map_err(failure::from_store)?;
                head.map_or(0, |head| head.last_seq)
            }
            _ => 0,
        };
        self.next = Some((next, through));
        Ok(())
    }

    /// Goes on with the next session; one that is gone, or not the caller's to see, is passed over.
    async fn turn_to(&mut self, next: SessionId) -> Result<()> {
        match self.begin(next, Cursor::default()).await {
            Ok(()) => {
                let begun = self.begun.clone();
                let begun = begun.map(|session| AgentItem::Session(Box::new(session)));
                // Before anything that was found out about its beginning.
                if let Some(begun) = begun {
                    self.ready.push_front(begun);
                }
                Ok(())
            }
            Err(error) if error.code() == Code::NotFound => {
                self.pass(next);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn pass(&mut self, session: SessionId) {
        self.session = Some(session);
        self.begun = None;
        self.reader = None;
        self.next = None;
        self.over = true;
    }

    async fn begin(&mut self, id: SessionId, cursor: Cursor) -> Result<()> {
        let options = ReaderOptions::default();
        let reader = self
            .app
            .read_session(&self.caller, id, cursor, options)
            .await?;
        // Read after the log's head: what changes from here on is an event that comes.
        let (session, _) = self.app.get_session(&self.caller, id).await?;
        self.given = match cursor.tail {
            true => reader.head().last_seq,
            false => cursor.after_seq,
        };
        self.over = session.is_over();
        self.session = Some(id);
        self.begun = Some(session);
        self.reader = Some(reader);
        self.next = None;
        Ok(())
    }

    async fn begin_after(&mut self, id: SessionId, seq: u64) -> Result<()> {
        match self.app.get_session(&self.caller, id).await {
            Ok((session, _)) => {
                let of = session.agent.as_ref().map(|agent| agent.id);
                if of != Some(self.agent) {
                    return Err(Error::invalid("after", "names a session of somebody else"));
                }
            }
            // What is left of a session that is gone is that later ones come after it.
            Err(error) if error.code() == Code::NotFound => {
                self.pass(id);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let cursor = Cursor {
            after_seq: seq,
            ..Cursor::default()
        };
        self.begin(id, cursor).await
    }

    fn take(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Events(batch) => {
                let mut events = Vec::new();
                for event in batch.events().map_err(Error::internal)? {
                    let event = event_from_pb(event)?;
                    self.given = event.seq;
                    match &event.body {
                        EventBody::Ended { .. } => self.over = true,
                        EventBody::LifecycleChanged { to, .. } => {
                            self.over = matches!(to, Lifecycle::Ended | Lifecycle::Suspended);
                        }
                        _ => {}
                    }
                    events.push(event);
                }
                self.ready.push_back(AgentItem::Events(events));
            }
            Item::Truncated { oldest, .. } => {
                self.given = oldest.saturating_sub(1);
                self.ready.push_back(AgentItem::Truncated(oldest));
            }
            Item::Started { .. } | Item::Progress(_) | Item::Transient(_) => {}
        }
        Ok(())
    }
}

fn going() -> Error {
    Error::new(
        Code::Unavailable,
        "the server is shutting down; come back and go on from the last event",
    )
}
