//! One session an agent: who starts it compares which session was the last and sets the new one, in the commit that
//! makes it. Of two starts at once one wins; the other is overtaken, looks again and finds the session there.

use crate::app::App;
use crate::app::records;
use crate::base::id::{AgentId, SessionId};
use crate::base::{Code, Error, Result};
use crate::domain::{Agent, AgentRun, Session, SessionAgent};
use crate::store::{Expect, RecordOp};

/// An agent that is about to run a session.
#[derive(Clone, Debug)]
pub(in crate::app) struct Hold {
    /// What the session keeps of the agent.
    pub(in crate::app) agent: SessionAgent,
    /// What the agent is told beside its inputs.
    pub(in crate::app) instructions: String,
    revision: u64,
}

impl Hold {
    /// The change that makes a session the agent's. Refused as stale if another start came before.
    pub(in crate::app) fn op(&self, session: SessionId) -> Result<RecordOp> {
        let run = AgentRun {
            session_id: Some(session),
        };
        records::put(
            records::agent_run_key(self.agent.id),
            &run,
            Expect::Revision(self.revision),
        )
    }
}

impl App {
    /// Looks whether an agent may run a session now. `instead_of` is a session that the new one continues and that
    /// is given up with it. `SESSION_EXISTS`: it runs one; `AGENT_DISABLED`; `INVALID_STATE`: its last one was lost
    /// and may still run; `NOT_FOUND`.
    pub(in crate::app) async fn hold_agent(
        &self,
        id: AgentId,
        instead_of: Option<SessionId>,
    ) -> Result<Hold> {
        let not_found = || Error::not_found("agent", id);
        let (run, revision) = self.agent_run(id).await?.ok_or_else(not_found)?;
        // Read after the run: an agent that is deleted in between has taken its run along.
        let (agent, _) = self.agent_record(id).await?.ok_or_else(not_found)?;
        if agent.settings.disabled {
            return Err(Error::new(
                Code::AgentDisabled,
                format!(
                    "the agent {} is disabled; enable it first",
                    agent.settings.name
                ),
            ));
        }
        let last = run.session_id.filter(|last| Some(*last) != instead_of);
        if let Some(session) = self.occupant(last).await? {
            return Err(occupied(&agent, &session));
        }
        Ok(Hold {
            agent: agent.identity(),
            instructions: agent.settings.definition.standing(),
            revision,
        })
    }

    /// The same for a session that is continued, whose agent may be gone: then it is nobody's from now on.
    pub(in crate::app) async fn hold_agent_still_there(
        &self,
        id: AgentId,
        continued: SessionId,
    ) -> Result<Option<Hold>> {
        match self.hold_agent(id, Some(continued)).await {
            Ok(hold) => Ok(Some(hold)),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A session that keeps its agent from running another: one that has a process, or that was lost, whose process
    /// nobody has seen ending.
    async fn occupant(&self, last: Option<SessionId>) -> Result<Option<Session>> {
        let Some(last) = last else {
            return Ok(None);
        };
        let found = self.session_record(last).await?;
        let occupies = |session: &Session| {
            session.lifecycle.is_living() || session.is_lost() && session.resumed_by.is_none()
        };
        Ok(found.map(|(session, _)| session).filter(occupies))
    }

    /// The session that an agent runs now.
    pub(in crate::app) async fn active_session(&self, id: AgentId) -> Result<Option<Session>> {
        let last = self
            .agent_run(id)
            .await?
            .and_then(|(run, _)| run.session_id);
        let occupant = self.occupant(last).await?;
        Ok(occupant.filter(|session| session.lifecycle.is_living()))
    }

    /// The record that says which session an agent ran last.
    pub(in crate::app) async fn agent_run(&self, id: AgentId) -> Result<Option<(AgentRun, u64)>> {
        records::get(self.store().as_ref(), &records::agent_run_key(id)).await
    }

    /// An agent's record with its revision, whoever asks; `None` if there is none.
    pub(in crate::app) async fn agent_record(&self, id: AgentId) -> Result<Option<(Agent, u64)>> {
        records::get(self.store().as_ref(), &records::agent_key(id)).await
    }
}

fn occupied(agent: &Agent, session: &Session) -> Error {
    let name = &agent.settings.name;
    if session.is_lost() {
        return Error::state(format!(
            "the last session of {name}, {}, was lost, and its process may still run on a machine that is away; wait for it, or use force to give it up",
            session.id
        ))
        .with("existing_session", session.id);
    }
    Error::new(
        Code::SessionExists,
        format!("the agent {name} runs already, in session {}", session.id),
    )
    .with("existing_session", session.id)
}
