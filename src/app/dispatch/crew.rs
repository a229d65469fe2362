//! The agents that the scheduler gives tasks to, as they are at one moment.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use crate::app::App;
use crate::app::daemons::Presence;
use crate::base::Result;
use crate::base::id::{AgentId, DaemonId};
use crate::domain::{Agent, AgentRole, Session, Task, dispatch};

/// The scheduler's agents, each with the session that it runs.
pub(super) struct Crew {
    pub(super) members: Vec<(Agent, Option<Session>)>,
    /// The machines of those that are being given something, with no session yet.
    given: Vec<Option<DaemonId>>,
    /// What the machines to which agents are bound have at the directories that they would work in.
    sites: HashMap<DaemonId, HashMap<String, Presence>>,
    /// The directories in which agents cannot work, whatever the task: they are asked once.
    nowhere: HashMap<AgentId, HashSet<String>>,
}

/// The order in which agents are asked: how well they fit, what their machine has, how much runs there, their age.
pub(super) type Rank = (Reverse<u8>, Reverse<Presence>, usize, AgentId);

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

    /// Those that run nothing; some of them may be disabled.
    pub(super) fn at_rest(&self) -> impl Iterator<Item = &Agent> {
        let at_rest = self.members.iter().filter(|(_, session)| session.is_none());
        at_rest.map(|(agent, _)| agent)
    }

    /// Whether an agent was found unable to work where a task is.
    pub(super) fn is_nowhere(&self, task: &Task, agent: &Agent) -> bool {
        let place = dispatch::workplace(task, agent).unwrap_or_default();
        let places = self.nowhere.get(&agent.id);
        places.is_some_and(|places| places.contains(place))
    }

    /// An agent cannot work where a task is.
    pub(super) fn found_nowhere(&mut self, task: &Task, agent: &Agent) {
        let place = dispatch::workplace(task, agent).unwrap_or_default();
        let places = self.nowhere.entry(agent.id).or_default();
        places.insert(place.to_owned());
    }

    /// One of them begins something, on a machine if that is known.
    pub(super) fn begins(&mut self, on: Option<DaemonId>) {
        self.given.push(on);
    }

    /// What the machine to which an agent is bound has where it would work on a task. Whoever is bound to none is
    /// placed on one that has it.
    fn presence(&self, task: &Task, agent: &Agent) -> Presence {
        match site(task, agent) {
            None => Presence::Repository,
            Some(site) => self.seen(site).unwrap_or(Presence::Unknown),
        }
    }

    fn seen(&self, (daemon, directory): (DaemonId, &str)) -> Option<Presence> {
        self.sites.get(&daemon)?.get(directory).copied()
    }

    /// In which order agents are asked whether they can take a task: the least comes first. Who fits better, then
    /// whose machine has the repository, then whose machine has less to do, then who is there for longer. `None`: it
    /// lacks what the task requires. The sites were surveyed before ([`App::survey`]).
    pub(super) fn rank(&self, task: &Task, agent: &Agent) -> Option<Rank> {
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
            Reverse(self.presence(task, agent)),
            load.unwrap_or_default(),
            agent.id,
        ))
    }
}

/// The machine and directory in which an agent that is bound to a machine would work on a task.
fn site<'a>(task: &'a Task, agent: &'a Agent) -> Option<(DaemonId, &'a str)> {
    let directory = dispatch::workplace(task, agent).filter(|it| !it.is_empty())?;
    Some((agent.settings.daemon_id?, directory))
}

impl App {
    /// Looks at what machines have where agents would work on a task, those at which was not looked yet.
    pub(super) async fn survey(
        &self,
        crew: &mut Crew,
        task: &Task,
        agents: impl Iterator<Item = &Agent>,
    ) {
        let sites: HashSet<_> = agents.filter_map(|agent| site(task, agent)).collect();
        let new = sites.into_iter().filter(|site| crew.seen(*site).is_none());
        let new: Vec<_> = new.collect();
        let found = self.presences_at(&new).await;
        for ((daemon, at), presence) in new.into_iter().zip(found) {
            let sites = crew.sites.entry(daemon).or_default();
            sites.insert(at.to_owned(), presence);
        }
    }

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
        // What an earlier look gave may still be on its way: a worktree takes its time.
        let given = members
            .iter()
            .filter(|(_, session)| session.is_none())
            .filter_map(|(agent, _)| self.dispatching().being_given(agent.id));
        Ok(Crew {
            given: given.collect(),
            members,
            sites: HashMap::new(),
            nowhere: HashMap::new(),
        })
    }
}
