//! Looking at agents.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::app::records;
use crate::app::sessions::{Shown, index};
use crate::app::triggers::TriggerState;
use crate::base::id::{AgentId, SessionId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Error, Result, Timestamp};
use crate::domain::trigger::Trigger;
use crate::domain::{Agent, AgentRole, field};
use crate::store::Store;

/// How many of an agent's sessions are looked through for one that can be continued.
const LOOK_BACK: usize = 1_000;
/// Records read at once.
const CHUNK: usize = 200;

/// Which agents are wanted.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Only of this role.
    pub role: Option<AgentRole>,
    /// Only with this name, in whatever case; empty is all.
    pub name: String,
    /// Only with these labels.
    pub labels: BTreeMap<String, String>,
    /// Only those that run.
    pub active: bool,
}

/// An agent with what else is shown of it.
#[derive(Clone, Debug)]
pub struct ShownAgent {
    /// The agent.
    pub agent: Agent,
    /// Revision of its record.
    pub revision: u64,
    /// The session that it runs.
    pub active: Option<SessionId>,
}

/// What an agent does.
#[derive(Clone, Debug)]
pub struct AgentStatus {
    /// The agent.
    pub shown: ShownAgent,
    /// The session that runs.
    pub active: Option<Shown>,
    /// Its last sessions that are over, newest first.
    pub history: Vec<Shown>,
    /// How its triggers stand.
    pub triggers: Vec<TriggerState>,
}

/// Which agents there are, by role and in the order in which they were made: what a list of one role begins with.
/// A projection of the records, as large as the number of agents.
#[derive(Debug, Default)]
pub struct Agents {
    roles: RwLock<BTreeMap<AgentId, AgentRole>>,
    stewards: RwLock<BTreeMap<AgentId, Arc<Triggered>>>,
}

/// What starts a steward by itself.
#[derive(Debug)]
pub(in crate::app) struct Triggered {
    /// The steward's directory; empty is any.
    pub(in crate::app) directory: String,
    /// Its triggers.
    pub(in crate::app) triggers: Vec<Trigger>,
    /// Since when they are as they are, at most.
    pub(in crate::app) since: Timestamp,
}

impl Triggered {
    /// What starts an agent by itself.
    pub(in crate::app) fn of(agent: &Agent) -> Self {
        Triggered {
            directory: agent.settings.directory.clone(),
            triggers: agent.settings.triggers.clone(),
            since: agent.updated_at,
        }
    }
}

impl Agents {
    /// Reads the agents from the store.
    pub(in crate::app) async fn load(store: &dyn Store) -> Result<Self> {
        let agents = Agents::default();
        let mut after: Option<String> = None;
        loop {
            let page = store
                .scan(records::AGENTS, after.as_deref(), CHUNK)
                .await
                .map_err(failure::from_store)?;
            for record in &page {
                agents.put(&records::decode(record)?);
            }
            match page.last() {
                Some(last) if page.len() == CHUNK => after = Some(last.key.clone()),
                _ => return Ok(agents),
            }
        }
    }

    /// Notes an agent that was stored.
    pub(super) fn put(&self, agent: &Agent) {
        let settings = &agent.settings;
        self.roles.write().insert(agent.id, settings.role);
        let mut stewards = self.stewards.write();
        if settings.disabled || settings.triggers.is_empty() {
            stewards.remove(&agent.id);
            return;
        }
        stewards.insert(agent.id, Arc::new(Triggered::of(agent)));
    }

    /// Notes that an agent is gone.
    pub(super) fn remove(&self, id: AgentId) {
        self.roles.write().remove(&id);
        self.stewards.write().remove(&id);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.roles.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All agents of a role, oldest first.
    pub(in crate::app) fn of_role(&self, role: AgentRole) -> Vec<AgentId> {
        self.after(None, Some(role), usize::MAX)
    }

    /// The stewards that something starts by itself, oldest first.
    pub(in crate::app) fn triggered(&self) -> Vec<(AgentId, Arc<Triggered>)> {
        let stewards = self.stewards.read();
        let all = stewards
            .iter()
            .map(|(id, triggered)| (*id, triggered.clone()));
        all.collect()
    }

    /// The first agents after one, of a role or of all.
    fn after(&self, after: Option<AgentId>, role: Option<AgentRole>, limit: usize) -> Vec<AgentId> {
        use std::ops::Bound;
        let roles = self.roles.read();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        roles
            .range((start, Bound::Unbounded))
            .filter(|(_, its)| role.is_none_or(|role| role == **its))
            .take(limit)
            .map(|(id, _)| *id)
            .collect()
    }
}

impl App {
    /// One agent. `NOT_FOUND`: there is none, or it is not the caller's to see.
    pub async fn get_agent(&self, caller: &Caller, id: AgentId) -> Result<ShownAgent> {
        let found = self.agent_record(id).await?;
        let (agent, revision) = found
            .filter(|(agent, _)| caller.sees_agent(agent))
            .ok_or_else(|| Error::not_found("agent", id))?;
        self.show_agent(agent, revision).await
    }

    /// The agent of a name, in whatever case.
    pub async fn agent_named(&self, caller: &Caller, name: &str) -> Result<ShownAgent> {
        let not_found = || Error::not_found("agent", name);
        if crate::domain::agent::check_name("name", name).is_err() {
            return Err(not_found());
        }
        let key = records::agent_name_key(name);
        let holder = self.store().get(&key).await.map_err(failure::from_store)?;
        let holder = holder.ok_or_else(not_found)?;
        let id = std::str::from_utf8(&holder.value).map_err(Error::internal)?;
        let shown = self.get_agent(caller, id.parse()?).await;
        shown.map_err(|_| not_found())
    }

    pub(in crate::app) async fn show_agent(
        &self,
        agent: Agent,
        revision: u64,
    ) -> Result<ShownAgent> {
        let active = self.active_session(agent.id).await?;
        Ok(ShownAgent {
            active: active.map(|session| session.id),
            agent,
            revision,
        })
    }

    /// Agents that the caller sees, oldest first.
    pub async fn list_agents(
        &self,
        caller: &Caller,
        filter: &AgentFilter,
        page: &PageRequest,
    ) -> Result<Page<ShownAgent>> {
        field::labels("labels", &filter.labels)?;
        field::title("name", &filter.name)?;
        let mut items: Vec<ShownAgent> = Vec::new();
        if !filter.name.is_empty() {
            match self.agent_named(caller, &filter.name).await {
                Ok(shown) if filter.fits(&shown) => items.push(shown),
                _ => {}
            }
            return Ok(Page { items, next: None });
        }
        let mut after: Option<AgentId> = match &page.after {
            Some(id) => Some(id.parse()?),
            None => None,
        };
        loop {
            let ids = self.agents().after(after, filter.role, CHUNK);
            for id in &ids {
                let shown = match self.agent_record(*id).await? {
                    Some((agent, revision)) if caller.sees_agent(&agent) => {
                        self.show_agent(agent, revision).await?
                    }
                    _ => continue,
                };
                if !filter.fits(&shown) {
                    continue;
                }
                if items.len() == page.size {
                    let next = items.last().map(|last| last.agent.id.to_string());
                    return Ok(Page { items, next });
                }
                items.push(shown);
            }
            match ids.last() {
                Some(last) if ids.len() == CHUNK => after = Some(*last),
                _ => return Ok(Page { items, next: None }),
            }
        }
    }

    /// What an agent does now, and at most `history` of its sessions that are over.
    pub async fn agent_status(
        &self,
        caller: &Caller,
        id: AgentId,
        history: usize,
    ) -> Result<AgentStatus> {
        let shown = self.get_agent(caller, id).await?;
        let mut status = AgentStatus {
            active: None,
            history: Vec::new(),
            triggers: self.trigger_states(caller, &shown.agent).await?,
            shown,
        };
        for session in self
            .sessions_of_agent(id, history.saturating_add(1))
            .await?
        {
            let Some((session, revision)) = self.session_record(session).await? else {
                continue;
            };
            if !caller.sees(&session) {
                continue;
            }
            let is_active = status.shown.active == Some(session.id);
            let session = self.shown(session, revision).await?;
            if is_active {
                status.active = Some(session);
            } else if status.history.len() < history {
                status.history.push(session);
            }
        }
        Ok(status)
    }

    /// The newest session of an agent that can be continued; with a conversation id, the newest of that.
    pub(super) async fn newest_resumable(
        &self,
        caller: &Caller,
        agent: &Agent,
        conversation: &str,
    ) -> Result<SessionId> {
        for id in self.sessions_of_agent(agent.id, LOOK_BACK).await? {
            let Some((session, _)) = self.session_record(id).await? else {
                continue;
            };
            let is_wanted = match conversation {
                "" => session.is_resumable(),
                wanted => session.provider_session_id == wanted && session.resumed_by.is_none(),
            };
            if is_wanted && caller.sees(&session) {
                return Ok(id);
            }
        }
        let name = &agent.settings.name;
        Err(Error::new(
            crate::base::Code::NoResumableSession,
            match conversation {
                "" => format!(
                    "the agent {name} has no session that could be continued; start it anew"
                ),
                wanted => {
                    format!("the agent {name} has no session with the conversation {wanted:?}")
                }
            },
        ))
    }

    async fn sessions_of_agent(&self, id: AgentId, limit: usize) -> Result<Vec<SessionId>> {
        let marks = [index::agent_prefix(id)];
        index::newest(self.store().as_ref(), &marks, None, limit).await
    }
}

impl AgentFilter {
    fn fits(&self, shown: &ShownAgent) -> bool {
        let settings = &shown.agent.settings;
        self.role.is_none_or(|role| role == settings.role)
            && (!self.active || shown.active.is_some())
            && self
                .labels
                .iter()
                .all(|(key, value)| settings.labels.get(key) == Some(value))
    }
}
