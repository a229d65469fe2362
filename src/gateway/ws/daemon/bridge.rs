//! The daemon's side of a link, kept here for a daemon that has none of its own.
//!
//! A bridge lives longer than a socket: what was read and is not stored, what was asked, and how commands ended
//! stay when a socket breaks and its daemon dials again. It does not outlive the server, which then knows the
//! sessions from their records only.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::sync::mpsc;

use super::agent::{self, Agent, Order, Then};
use super::message::{Connected, Metadata, SaidOf, no_session};
use crate::app::App;
use crate::app::access::Caller;
use crate::base::id::{CommandId, DaemonId, SessionId};
use crate::base::page::{MAX_PAGE_SIZE, PageRequest};
use crate::base::{Code, Error, Result, Timestamp};
use crate::domain::daemon::Offer;
use crate::domain::link::{
    DaemonEvent, DaemonLimits, DaemonLink, Down, Query, QueryResult, Refused, Up,
};
use crate::domain::prompt::PromptState;
use crate::domain::{Command, CommandBody, CommandOutcome, CommandResult, EndReason, Lifecycle};
use crate::driver::{Gathered, RecordBody, Write, WriteOutcome};

/// A command whose message is on its way into the socket.
struct Handed {
    command: CommandId,
    session: SessionId,
    write: Write,
    then: Then,
}

/// The bridge of one daemon.
pub(super) struct Bridge {
    daemon: DaemonId,
    link: DaemonLink,
    agents: BTreeMap<SessionId, Agent>,
    /// Messages for the daemon, and the commands they are for.
    said: Vec<String>,
    handed: Vec<Handed>,
    /// Commands whose messages the socket has taken, and not said to be written.
    taken: Vec<Handed>,
}

impl Bridge {
    /// A bridge for a daemon that this server has not seen since it started, with the sessions that are the
    /// daemon's by their records.
    pub async fn open(app: &App, caller: &Caller, daemon: DaemonId) -> Result<Self> {
        let now = app.clock().now();
        // Grows with every server that bridges, and above any numbering before it.
        let epoch = u64::try_from(now.as_micros()).unwrap_or_default().max(1);
        let seed = u64::try_from(daemon.bits() & u128::from(u64::MAX)).unwrap_or_default();
        let mut bridge = Bridge {
            daemon,
            link: DaemonLink::new(
                daemon,
                epoch,
                Offer::default(),
                DaemonLimits::default(),
                seed,
            ),
            agents: BTreeMap::new(),
            said: Vec::new(),
            handed: Vec::new(),
            taken: Vec::new(),
        };
        for id in app.sessions().living(Some(daemon)) {
            let (session, _) = match app.get_session(caller, id).await {
                Ok(found) => found,
                Err(error) if error.code() == Code::NotFound => continue,
                Err(error) => return Err(error),
            };
            // Its start is still in the outbox.
            if session.lifecycle == Lifecycle::Pending {
                continue;
            }
            let page = PageRequest {
                size: MAX_PAGE_SIZE,
                after: None,
            };
            let asks = app
                .list_prompts(caller, Some(id), &[PromptState::Pending], &page)
                .await?;
            let asks: Vec<_> = asks.items.into_iter().map(|(prompt, _)| prompt).collect();
            let agent = Agent::found(&session, epoch, &asks);
            bridge.link.report(agent.report());
            bridge.agents.insert(id, agent);
        }
        Ok(bridge)
    }

    /// Whether nothing would be lost without it.
    pub fn is_idle(&self) -> bool {
        self.agents.is_empty()
    }

    // A socket begins and ends.

    /// A socket of the daemon is there: what it can run, and which agents it still has.
    pub fn connected(&mut self, now: Timestamp, hello: Connected) {
        let Connected { offer, active } = hello;
        self.link.offer(offer);
        self.link.dial(now);
        let known: Vec<SessionId> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.is_started() && !agent.has_exited())
            .map(|(id, _)| *id)
            .collect();
        for id in known {
            let has = active.as_ref().is_none_or(|active| active.contains(&id));
            if has {
                let line = json!({
                    "type": "daemon_returned",
                    "message": "the daemon was away; what the agent wrote meanwhile may be missing here",
                });
                self.read(now, id, agent::stdout(line.to_string()));
            } else {
                let message = "the daemon came back without this agent".to_owned();
                self.with(now, id, |agent, now| {
                    agent.end(now, EndReason::Crashed, None, message)
                });
            }
        }
        // To end what has ended already does no harm; not to end what goes on does.
        let again: Vec<String> = self
            .agents
            .values()
            .filter(|agent| agent.is_stopping())
            .filter_map(Agent::end_message)
            .collect();
        self.said.extend(again);
    }

    /// What the daemon can run has changed.
    pub fn offers(&mut self, offer: Offer) {
        self.link.offer(offer);
    }

    /// The socket is gone. Whether what was on its way into it arrived, nobody can tell.
    pub fn disconnected(&mut self, now: Timestamp) {
        let taken = std::mem::take(&mut self.taken);
        for handed in taken.into_iter().chain(std::mem::take(&mut self.handed)) {
            let why = "the daemon's connection broke while this was on its way";
            self.written(now, &handed, WriteOutcome::Unknown, why);
        }
        self.said.clear();
        self.link.closed(now, None);
        while self.link.event().is_some() {}
    }

    /// Everything that was taken is in the socket.
    pub fn all_written(&mut self, now: Timestamp) {
        for handed in std::mem::take(&mut self.taken) {
            self.written(now, &handed, WriteOutcome::Done, "");
        }
    }

    /// What is to be said to the daemon.
    pub fn take_said(&mut self) -> Vec<String> {
        self.taken.append(&mut self.handed);
        std::mem::take(&mut self.said)
    }

    // Up.

    /// Takes what the daemon says of a session. An error if it has no such session, or said itself that it is
    /// over.
    pub fn hear(&mut self, now: Timestamp, session: SessionId, said: SaidOf) -> Result<()> {
        let agent = self.agents.get(&session).ok_or_else(no_session)?;
        if agent.has_exited() {
            return Err(Error::state("this session has ended"));
        }
        let line = match said {
            SaidOf::Output(lines) => {
                for line in lines {
                    self.with(now, session, |agent, now| agent.line(now, &line));
                }
                return Ok(());
            }
            SaidOf::Ended(ended) => {
                self.with(now, session, |agent, now| agent.ended(now, &ended));
                return Ok(());
            }
            SaidOf::Metadata(metadata) => {
                self.metadata(now, session, &metadata);
                return Ok(());
            }
            SaidOf::Control {
                request_id,
                request,
            } => agent::control(&request_id, &request),
            SaidOf::Question(asked) => agent::question(&asked)?,
            SaidOf::Permission(asked) => agent::permission(&asked)?,
            SaidOf::Diff(diff) => json!({
                "type": "diff_updated",
                "message": format!("changed: {}", diff.modified_files.join(", ")),
                "diff": diff.diff,
                "modified_files": diff.modified_files,
            })
            .to_string(),
        };
        self.read(now, session, agent::stdout(line));
        Ok(())
    }

    fn metadata(&mut self, now: Timestamp, session: SessionId, metadata: &Metadata) {
        if let Some(conversation) = metadata.agent_session_id.as_deref() {
            let line = json!({
                "type": "system", "subtype": "init", "session_id": conversation,
            });
            self.read(now, session, agent::stdout(line.to_string()));
        }
        let place: Vec<&str> = [metadata.repo_url.as_deref(), metadata.branch.as_deref()]
            .into_iter()
            .flatten()
            .collect();
        if !place.is_empty() {
            let line = json!({
                "type": "session_metadata",
                "message": place.join(" "),
                "repo_url": metadata.repo_url,
                "branch": metadata.branch,
            });
            self.read(now, session, agent::stdout(line.to_string()));
        }
    }

    /// Whether more may be read of a session.
    pub fn has_room(&self, session: SessionId) -> bool {
        self.agents.get(&session).is_none_or(Agent::has_room)
    }

    fn read(&mut self, now: Timestamp, session: SessionId, body: RecordBody) {
        self.with(now, session, |agent, now| agent.read(now, body));
    }

    fn with(
        &mut self,
        now: Timestamp,
        session: SessionId,
        act: impl FnOnce(&mut Agent, Timestamp) -> Gathered,
    ) {
        let Some(agent) = self.agents.get_mut(&session) else {
            return;
        };
        let gathered = act(agent, now);
        for transient in gathered.transients {
            self.link.transient(transient);
        }
        for event in &gathered.events {
            self.link.finished(session, &event.body);
        }
        for write in gathered.writes {
            self.said.extend(agent.written(&write.data));
        }
        for result in gathered.done {
            self.link.result(result);
        }
        if agent.has_exited() {
            let stops = std::mem::take(&mut agent.stops);
            let report = agent.report();
            for command in stops {
                self.result(command, session, CommandOutcome::Applied, None);
            }
            self.link.report(report);
        }
    }

    // Down.

    fn deliver(&mut self, now: Timestamp, command: &Command) {
        let (id, session) = (command.id, command.session_id);
        if let CommandBody::Start(start) = &command.body {
            if !self.agents.contains_key(&session) {
                let epoch = u64::try_from(now.as_micros()).unwrap_or_default().max(1);
                let agent = Agent::new(session, epoch, start);
                self.link.report(agent.report());
                self.agents.insert(session, agent);
                self.read(now, session, RecordBody::Spawned { pid: 0 });
            }
            return self.result(id, session, CommandOutcome::Applied, None);
        }
        let obeyed = match self.agents.get_mut(&session) {
            Some(agent) => agent.obey(now, command),
            None => Err(no_session()),
        };
        match obeyed {
            Err(error) => self.result(id, session, CommandOutcome::Rejected, Some(&error)),
            Ok(Order { said, write, then }) => {
                let handed = Handed {
                    command: id,
                    session,
                    write,
                    then,
                };
                match said {
                    Some(said) => {
                        self.said.push(said);
                        self.handed.push(handed);
                    }
                    None => {
                        self.written(now, &handed, WriteOutcome::Done, "");
                        if then == Then::Ended {
                            // It was never started.
                            self.with(now, session, |agent, now| {
                                agent.end(now, EndReason::Stopped, None, String::new())
                            });
                        }
                    }
                }
            }
        }
    }

    fn written(&mut self, now: Timestamp, handed: &Handed, outcome: WriteOutcome, reason: &str) {
        let (session, write) = (handed.session, &handed.write);
        self.with(now, session, |agent, now| {
            agent.was_written(now, write, outcome, reason)
        });
        match (handed.then, outcome) {
            (Then::Written, WriteOutcome::Done) => {
                self.result(handed.command, session, CommandOutcome::Applied, None);
            }
            (Then::Confirmed, WriteOutcome::Done) => {
                self.read(now, session, agent::confirmation(&write.id));
            }
            // It is said again on the next socket, and done when the agent has ended.
            (Then::Ended, _) => {}
            (Then::Written | Then::Confirmed, _) => {
                let error = Error::new(Code::Unavailable, reason);
                let outcome = CommandOutcome::Indeterminate;
                self.result(handed.command, session, outcome, Some(&error));
            }
        }
    }

    fn result(
        &mut self,
        command_id: CommandId,
        session_id: SessionId,
        outcome: CommandOutcome,
        error: Option<&Error>,
    ) {
        self.link.result(CommandResult {
            command_id,
            session_id,
            outcome,
            reason: error
                .map(|error| error.message().to_owned())
                .unwrap_or_default(),
            code: error
                .map(|error| error.code().as_str().to_owned())
                .unwrap_or_default(),
        });
    }

    // The link.

    /// A frame of the server came.
    pub fn received(&mut self, now: Timestamp, frame: Down) {
        self.link.received(now, frame);
    }

    /// Time has passed: ends what was told to end and does not.
    pub fn tick(&mut self, now: Timestamp) {
        self.link.tick(now);
        let late: Vec<SessionId> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.stop_by().is_some_and(|by| now >= by))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let message = "the daemon did not say that the agent has ended".to_owned();
            self.with(now, id, |agent, now| {
                agent.end(now, EndReason::Stopped, None, message)
            });
        }
    }

    /// When [`Bridge::tick`] is due.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let stops = self.agents.values().filter_map(Agent::stop_by);
        stops.chain(self.link.next_deadline()).min()
    }

    /// Does what the link says, and hands it what it wants. Says whether `frames` took all; an error ends the
    /// socket.
    pub fn settle(
        &mut self,
        now: Timestamp,
        frames: &mpsc::Sender<Result<Box<Up>>>,
    ) -> Result<bool> {
        loop {
            while let Some(event) = self.link.event() {
                self.event(now, event)?;
            }
            self.push(now);
            let Ok(room) = frames.try_reserve() else {
                return Ok(false);
            };
            match self.link.send(now) {
                Some(frame) => room.send(Ok(Box::new(frame))),
                None => return Ok(true),
            }
        }
    }

    fn event(&mut self, now: Timestamp, event: DaemonEvent) -> Result<()> {
        match event {
            DaemonEvent::Linked { epoch } => {
                tracing::info!(daemon = %self.daemon, epoch, "linked over a WebSocket");
            }
            DaemonEvent::Deliver(command) => self.deliver(now, &command),
            DaemonEvent::ResultStored { .. } | DaemonEvent::Draining { .. } => {}
            DaemonEvent::Stored {
                session_id,
                through,
            } => {
                if let Some(agent) = self.agents.get_mut(&session_id) {
                    agent.stored(through);
                    if agent.is_over() {
                        self.agents.remove(&session_id);
                        self.link.forget(session_id);
                    }
                }
            }
            DaemonEvent::Rewind { session_id, after } => {
                if let Some(agent) = self.agents.get_mut(&session_id) {
                    agent.rewind(after);
                }
            }
            DaemonEvent::Behind { session_id, stored } => {
                if let Some(agent) = self.agents.get_mut(&session_id) {
                    agent.renumber(stored);
                    let report = agent.report();
                    self.link.report(report);
                }
            }
            DaemonEvent::EndForeign { session_id, reason } => {
                tracing::info!(daemon = %self.daemon, session = %session_id, reason, "not this daemon's session");
                if let Some(agent) = self.agents.remove(&session_id) {
                    self.said.extend(agent.end_message());
                }
                self.link.forget(session_id);
            }
            DaemonEvent::Query(Query { id, .. }) => {
                let error = Error::state(
                    "a daemon of the older relay cannot list directories; give the path itself",
                );
                self.link.query_result(QueryResult {
                    id,
                    result: Err(error),
                });
            }
            DaemonEvent::Close { reason } => return Err(Error::new(Code::Unavailable, reason)),
            DaemonEvent::Reconnect { .. } => {
                return Err(Error::new(
                    Code::Unavailable,
                    "the link is closed; connect again",
                ));
            }
            DaemonEvent::Denied(error) | DaemonEvent::Superseded(error) => return Err(error),
        }
        Ok(())
    }

    fn push(&mut self, now: Timestamp) {
        for (id, agent) in &mut self.agents {
            while self.link.wants(*id) {
                let Some(kept) = agent.next() else {
                    break;
                };
                let (epoch, record) = (kept.position.origin_epoch, kept.record.clone());
                match self.link.push(now, *id, epoch, record, &kept.content) {
                    Ok(()) => agent.pushed(),
                    // The link says where to go on.
                    Err(Refused::NotOpen | Refused::NotNext) => break,
                }
            }
        }
    }
}
