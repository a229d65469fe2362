//! What speaks for giving a task to an agent, and what against it.

use super::crew::Crew;
use super::follow::{Next, parked_until};
use super::give::new_work;
use crate::app::App;
use crate::app::access::Caller;
use crate::base::id::AgentId;
use crate::base::{Error, Result};
use crate::domain::{Agent, Task, dispatch};

/// The most agents that are shown for a task.
const MAX_SHOWN: usize = 50;
/// How many reasons are told where no agent can take a task.
const MAX_REASONS: usize = 5;

/// What is thought of an agent for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub name: String,
    /// How well it fits, 50 to 100; 0 if it lacks what the task requires.
    pub score: u8,
    /// What keeps it; `None` if nothing does.
    pub obstacle: Option<String>,
}

impl App {
    /// What is thought of the scheduler's agents that the caller sees for a task, those that could take it first, the
    /// best first.
    pub(in crate::app) async fn candidates(
        &self,
        caller: &Caller,
        task: &Task,
    ) -> Result<Vec<Candidate>> {
        let crew = self.crew().await?;
        let seen = crew.members.iter().map(|(agent, _)| agent);
        let mut seen: Vec<&Agent> = seen.filter(|agent| caller.sees_agent(agent)).collect();
        // The best are looked at more closely; of thousands, not all.
        seen.sort_by_key(|agent| {
            let rank = crew.rank(task, agent);
            (rank.is_none(), rank, agent.id)
        });
        seen.truncate(MAX_SHOWN);
        let mut judged = Vec::with_capacity(seen.len());
        for agent in seen {
            judged.push(Candidate {
                agent: agent.id,
                name: agent.settings.name.clone(),
                score: crew.rank(task, agent).map_or(0, |(score, ..)| score.0),
                obstacle: self.obstacle(caller, task, agent, &crew).await?,
            });
        }
        // Stable: among those that can, and among those that cannot, the order stays.
        judged.sort_by_key(|candidate| candidate.obstacle.is_some());
        Ok(judged)
    }

    /// The agent that fits a task best of those that could take it now. `INVALID_STATE`: there is none.
    pub(super) async fn best_agent(&self, caller: &Caller, task: &Task) -> Result<Agent> {
        let candidates = self.candidates(caller, task).await?;
        let best = candidates
            .iter()
            .find(|candidate| candidate.obstacle.is_none());
        if let Some(best) = best
            && let Some((agent, _)) = self.agent_record(best.agent).await?
        {
            return Ok(agent);
        }
        let reasons: Vec<String> = candidates
            .iter()
            .take(MAX_REASONS)
            .filter_map(|candidate| {
                Some(format!(
                    "{} {}",
                    candidate.name,
                    candidate.obstacle.as_ref()?
                ))
            })
            .collect();
        Err(Error::state(match reasons.is_empty() {
            true => {
                "there is no agent to give the task to: make an ephemeral worker, or name an agent"
                    .to_owned()
            }
            false => format!("no agent can take the task now: {}", reasons.join("; ")),
        }))
    }

    /// What keeps an agent from being given a task now; the text goes on after the agent's name.
    pub(super) async fn obstacle(
        &self,
        caller: &Caller,
        task: &Task,
        agent: &Agent,
        crew: &Crew,
    ) -> Result<Option<String>> {
        let settings = &agent.settings;
        if settings.disabled {
            return Ok(Some("is disabled".to_owned()));
        }
        let missing = dispatch::missing(task, &settings.capabilities);
        if !missing.is_empty() {
            return Ok(Some(format!("lacks {}", missing.join(", "))));
        }
        if let Some(active) = self.active_session(agent.id).await? {
            return Ok(Some(match caller.sees(&active) {
                true => format!("is busy, in session {}", active.id),
                false => "is busy".to_owned(),
            }));
        }
        let now = self.clock().now();
        if let Some(until) = parked_until(&self.in_hand(agent).await?, now) {
            return Ok(Some(format!("is refused by its provider until {until}")));
        }
        let held = self.hold_agent(agent.id, None).await;
        if let Err(error) = held.and_then(|_| self.budget_allows(Some(agent.id), Some(task.id))) {
            return Ok(Some(format!("cannot be started: {}", error.message())));
        }
        if let Some(refusal) = self.dispatching().refusal(task.id, agent.id, now) {
            return Ok(Some(format!(
                "could not begin it a moment ago ({}); it is tried again at {}",
                refusal.why, refusal.until
            )));
        }
        let options = &self.dispatching().options;
        if crew.running() >= options.max_running {
            return Ok(Some(format!(
                "waits: {} agents run, as many as may at a time",
                crew.running()
            )));
        }
        let new = match new_work(agent, task) {
            Ok(new) => new,
            Err(error) => return Ok(Some(format!("does not fit: {}", error.message()))),
        };
        match self.place(caller, &new).await {
            Err(error) => Ok(Some(format!("has no machine: {}", error.message()))),
            Ok(daemon) => {
                let there = crew.running_on(daemon.id);
                Ok((there >= options.max_per_daemon).then(|| {
                    format!(
                        "waits: {there} agents run on {}, as many as may there at a time",
                        daemon.name
                    )
                }))
            }
        }
    }

    /// What the scheduler has to say of a task, and what it thinks of its agents for one that is ready and that nobody
    /// has.
    pub(in crate::app) async fn dispatch_view(
        &self,
        caller: &Caller,
        task: &Task,
        is_ready: bool,
    ) -> Result<(Vec<String>, Vec<Candidate>)> {
        let mut said = Vec::new();
        let Some(living) = task.living() else {
            if !is_ready {
                return Ok((said, Vec::new()));
            }
            said.extend(self.scheduler_pause(caller).await?);
            return Ok((said, self.candidates(caller, task).await?));
        };
        let Some((agent, _)) = self.agent_record(living.agent_id).await? else {
            said.push("the agent that has it was deleted; hand it off".to_owned());
            return Ok((said, Vec::new()));
        };
        if !dispatch::is_scheduled(&agent) || !caller.sees_agent(&agent) {
            return Ok((said, Vec::new()));
        }
        if self.active_session(agent.id).await?.is_none() {
            said.extend(self.scheduler_pause(caller).await?);
            let now = self.clock().now();
            if let Some(refusal) = self.dispatching().refusal(task.id, agent.id, now) {
                said.push(format!(
                    "it could not be begun a moment ago ({}); that is tried again at {}",
                    refusal.why, refusal.until
                ));
            }
            if let Next::Wait(why) | Next::Escalate(why) = self.next(&agent, task).await? {
                said.push(why);
            }
        }
        Ok((said, Vec::new()))
    }
}
