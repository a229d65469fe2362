//! Making, changing and deleting agents.

use super::look::ShownAgent;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::agents::Agents;
use crate::app::failure;
use crate::app::idempotency::{Begin, Fresh, digest};
use crate::app::records;
use crate::app::sessions::{Attempts, fields};
use crate::app::sight::beyond;
use crate::base::id::AgentId;
use crate::base::{Code, Error, Result};
use crate::domain::{Agent, AgentRun, AgentSettings};
use crate::store::{Commit, Expect, RecordOp};

/// The most agents a server keeps.
pub const MAX_AGENTS: usize = 10_000;

impl App {
    /// Makes an agent.
    pub async fn create_agent(
        &self,
        caller: &Caller,
        request_id: &str,
        settings: AgentSettings,
    ) -> Result<ShownAgent> {
        let settings = self.checked_settings(caller, settings)?;
        let detail = format!("{settings:?}");
        let pending = match self
            .begin_agent(caller, "CreateAgent", request_id, &detail)
            .await?
        {
            Begun::Repeat(id) => return self.get_agent(caller, id).await,
            Begun::Fresh(pending) => pending,
        };
        if self.agents().len() >= MAX_AGENTS {
            return Err(Error::new(
                Code::LimitExceeded,
                format!("there are {MAX_AGENTS} agents already; delete some first"),
            ));
        }
        self.name_is_free(&settings.name, None).await?;
        let now = self.clock().now();
        let agent = Agent {
            id: AgentId::generate(now),
            settings,
            created_by: caller.actor(),
            created_at: now,
            updated_at: now,
        };
        let mut ops = vec![
            records::put(records::agent_key(agent.id), &agent, Expect::Absent)?,
            records::put(
                records::agent_run_key(agent.id),
                &AgentRun::default(),
                Expect::Absent,
            )?,
            own_name(&agent),
        ];
        ops.extend(pending.op(agent.id.to_string().as_bytes()));
        let kept = agent.clone();
        let revision = self
            .commit_agent(ops, &agent.settings.name, move |agents| agents.put(&kept))
            .await?;
        drop(pending);
        Ok(ShownAgent {
            agent,
            revision,
            active: None,
        })
    }

    /// Changes an agent: `change` says what its settings become. `expected` is the revision that the caller has read.
    pub async fn update_agent(
        &self,
        caller: &Caller,
        request_id: &str,
        id: AgentId,
        expected: Option<u64>,
        detail: &str,
        change: impl Fn(&AgentSettings) -> Result<AgentSettings> + Sync,
    ) -> Result<ShownAgent> {
        self.get_agent(caller, id).await?;
        let detail = format!("{id}{expected:?}{detail}");
        let pending = match self
            .begin_agent(caller, "UpdateAgent", request_id, &detail)
            .await?
        {
            Begun::Repeat(id) => return self.get_agent(caller, id).await,
            Begun::Fresh(pending) => pending,
        };
        let mut attempts = Attempts::default();
        loop {
            let done = self
                .try_update(caller, id, expected, &change, &pending)
                .await;
            // A change of what was read must not be done to something else.
            if expected.is_some() || !attempts.once_more(&done) {
                return done;
            }
        }
    }

    async fn try_update(
        &self,
        caller: &Caller,
        id: AgentId,
        expected: Option<u64>,
        change: &(impl Fn(&AgentSettings) -> Result<AgentSettings> + Sync),
        pending: &Fresh,
    ) -> Result<ShownAgent> {
        let shown = self.get_agent(caller, id).await?;
        if expected.is_some_and(|expected| expected != shown.revision) {
            return Err(changed_since(&shown));
        }
        let settings = self.checked_settings(caller, change(&shown.agent.settings)?)?;
        let old = own_name(&shown.agent).key;
        let agent = Agent {
            settings,
            updated_at: self.clock().now(),
            ..shown.agent
        };
        let mut ops = vec![records::put(
            records::agent_key(id),
            &agent,
            Expect::Revision(shown.revision),
        )?];
        let new = own_name(&agent);
        if new.key != old {
            self.name_is_free(&agent.settings.name, Some(id)).await?;
            ops.push(new);
            ops.push(records::remove(old));
        }
        ops.extend(pending.op(id.to_string().as_bytes()));
        let name = agent.settings.name.clone();
        self.commit_agent(ops, &name, move |agents| agents.put(&agent))
            .await?;
        self.get_agent(caller, id).await
    }

    /// Deletes an agent; its sessions stay.
    pub async fn delete_agent(
        &self,
        caller: &Caller,
        request_id: &str,
        id: AgentId,
        expected: Option<u64>,
    ) -> Result<()> {
        let detail = format!("{id}{expected:?}");
        let pending = match self
            .begin_agent(caller, "DeleteAgent", request_id, &detail)
            .await?
        {
            Begun::Repeat(_) => return Ok(()),
            Begun::Fresh(pending) => pending,
        };
        let mut attempts = Attempts::default();
        loop {
            let done = self.try_delete(caller, id, expected, &pending).await;
            if !attempts.once_more(&done) {
                return done;
            }
        }
    }

    async fn try_delete(
        &self,
        caller: &Caller,
        id: AgentId,
        expected: Option<u64>,
        pending: &Fresh,
    ) -> Result<()> {
        let shown = self.get_agent(caller, id).await?;
        if expected.is_some_and(|expected| expected != shown.revision) {
            return Err(changed_since(&shown));
        }
        let not_found = || Error::not_found("agent", id);
        let (_, run) = self.agent_run(id).await?.ok_or_else(not_found)?;
        if let Some(active) = self.active_session(id).await? {
            return Err(Error::state(format!(
                "the agent {} runs, in session {}; stop it first",
                shown.agent.settings.name, active.id
            ))
            .with("existing_session", active.id));
        }
        let gone = |key: String, revision: u64| RecordOp {
            key,
            expect: Expect::Revision(revision),
            value: None,
        };
        let mut ops = vec![
            gone(records::agent_key(id), shown.revision),
            // A start that is under way finds its agent gone.
            gone(records::agent_run_key(id), run),
            records::remove(own_name(&shown.agent).key),
            records::remove(records::fired_key(id)),
        ];
        ops.extend(pending.op(id.to_string().as_bytes()));
        self.commit_agent(ops, &shown.agent.settings.name, move |agents| {
            agents.remove(id);
        })
        .await?;
        Ok(())
    }

    fn checked_settings(&self, caller: &Caller, settings: AgentSettings) -> Result<AgentSettings> {
        let settings = settings.checked()?;
        let most = &self.sessions().options().limits;
        fields::limits("settings.limits", settings.limits.clone(), most)?;
        let seen = caller.sees_place(settings.daemon_id, &settings.directory);
        if !seen {
            return Err(beyond(caller, "keeps agents in its projects only"));
        }
        Ok(settings)
    }

    async fn begin_agent(
        &self,
        caller: &Caller,
        method: &'static str,
        request_id: &str,
        detail: &str,
    ) -> Result<Begun> {
        let request = digest(detail.as_bytes());
        let begun = self
            .idempotency()
            .begin(caller, method, request_id, request)
            .await?;
        Ok(match begun {
            Begin::Repeat(answer) => {
                let id = std::str::from_utf8(&answer).map_err(Error::internal)?;
                Begun::Repeat(id.parse()?)
            }
            Begin::Fresh(pending) => Begun::Fresh(pending),
        })
    }

    /// `ALREADY_EXISTS`: another agent has the name. Names are the whole server's: that one is taken says nothing
    /// else of who has it.
    async fn name_is_free(&self, name: &str, own: Option<AgentId>) -> Result<()> {
        let key = records::agent_name_key(name);
        let holder = self.store().get(&key).await.map_err(failure::from_store)?;
        let own = own.map(|id| id.to_string());
        match holder {
            Some(holder) if own.as_deref().map(str::as_bytes) != Some(&holder.value[..]) => {
                Err(taken(name))
            }
            _ => Ok(()),
        }
    }

    /// Commits, and lets what is in memory follow; a name that was taken meanwhile is told as such.
    async fn commit_agent(
        &self,
        ops: Vec<RecordOp>,
        name: &str,
        follow: impl FnOnce(&Agents) + Send + 'static,
    ) -> Result<u64> {
        let commit = Commit {
            ops,
            ..Commit::default()
        };
        let (app, name) = (self.clone(), name.to_owned());
        self.to_its_end(async move {
            match app.store().commit(commit).await {
                Ok(done) => {
                    follow(app.agents());
                    Ok(done.revision)
                }
                Err(crate::store::Error::Stale { key, .. })
                    if key == records::agent_name_key(&name) =>
                {
                    Err(taken(&name))
                }
                Err(error) => Err(failure::from_store(error)),
            }
        })
        .await
    }
}

enum Begun {
    Repeat(AgentId),
    Fresh(Fresh),
}

/// The record that keeps an agent's name its own.
fn own_name(agent: &Agent) -> RecordOp {
    RecordOp {
        expect: Expect::Absent,
        ..records::mark(records::agent_name_key(&agent.settings.name), agent.id)
    }
}

fn taken(name: &str) -> Error {
    Error::new(
        Code::AlreadyExists,
        format!("another agent is called {name}; agents have names of their own"),
    )
    .with("name", name)
}

fn changed_since(shown: &ShownAgent) -> Error {
    Error::new(
        Code::Stale,
        format!(
            "the agent {} has changed since it was read; read it again",
            shown.agent.settings.name
        ),
    )
    .with("etag", shown.revision)
}
