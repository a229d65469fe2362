//! The agents that the scheduler gives tasks to, as they are at one moment.

use std::cmp::Reverse;

use crate::app::App;
use crate::base::Result;
use crate::base::id::{AgentId, DaemonId};
use crate::domain::{Agent, AgentRole, Session, Task, dispatch};

/// The scheduler's agents, each with the session that it runs.
pub(super) struct Crew {
    pub(super) members: Vec<(Agent, Option<Session>)>,
    /// Those that were given something since, with no session yet.
    given: Vec<Option<DaemonId>>,
}

impl Crew {
    /// How many run, or are about to.
    pub(super) fn running(&self) -> usize {
        self.sessions().count() + self.given.len()
    }

    /// How many run on a daemon, or are about to.
    pub(super) fn running_on(&self, daemon: DaemonId) -> usize {
        let given = self.given.iter().filter(|on| **on == Some(daemon));
        let run = self
            .sessions()
            .filter(|session| session.daemon_id == daemon);
        run.count() + given.count()
    }

    /// What they run.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.members
            .iter()
            .filter_map(|(_, session)| session.as_ref())
    }

    /// Those that do nothing and may be started.
    pub(super) fn idle(&self) -> impl Iterator<Item = &Agent> {
        self.members
            .iter()
            .filter(|(agent, session)| session.is_none() && !agent.settings.disabled)
            .map(|(agent, _)| agent)
    }

    /// One of them begins something.
    pub(super) fn begins(&mut self, agent: &Agent) {
        self.given.push(agent.settings.daemon_id);
    }

    /// In which order agents are asked whether they can take a task: the least comes first. Who fits better, then
    /// whose machine has less to do, then who is there for longer. `None`: it lacks what the task requires.
    pub(super) fn rank(&self, task: &Task, agent: &Agent) -> Option<(Reverse<u8>, usize, AgentId)> {
        let capabilities = &agent.settings.capabilities;
        if !dispatch::missing(task, capabilities).is_empty() {
            return None;
        }
        let load = agent
            .settings
            .daemon_id
            .map(|daemon| self.running_on(daemon));
        Some((
            Reverse(dispatch::score(task, capabilities)),
            load.unwrap_or_default(),
            agent.id,
        ))
    }
}

impl App {
    /// The scheduler's agents as they are now.
    pub(super) async fn crew(&self) -> Result<Crew> {
        let mut members = Vec::new();
        for id in self.agents().of_role(AgentRole::Worker) {
            let Some((agent, _)) = self.agent_record(id).await? else {
                continue;
            };
            if dispatch::is_scheduled(&agent) {
                members.push((agent, self.active_session(id).await?));
            }
        }
        Ok(Crew {
            members,
            given: Vec::new(),
        })
    }
}
