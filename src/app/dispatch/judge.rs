//! What speaks for giving a task to an agent, and what against it.

use std::cmp::Reverse;

use super::Crew;
use crate::app::App;
use crate::app::access::Caller;
use crate::base::id::AgentId;
use crate::base::{Error, Result};
use crate::domain::task::Assignment;
use crate::domain::{Agent, AgentRole, Task, dispatch};

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
        let mut candidates = Vec::new();
        for id in self.agents().of_role(AgentRole::Worker) {
            let Some((agent, _)) = self.agent_record(id).await? else {
                continue;
            };
            if !caller.sees_agent(&agent) || !dispatch::is_scheduled(&agent) {
                continue;
            }
            let score = match dispatch::missing(task, &agent.settings.capabilities).is_empty() {
                true => dispatch::score(task, &agent.settings.capabilities),
                false => 0,
            };
            candidates.push((score, agent));
        }
        // The best are looked at more closely; of thousands, not all.
        candidates.sort_by_key(|(score, agent)| (Reverse(*score), agent.id));
        candidates.truncate(MAX_SHOWN);
        let mut judged = Vec::with_capacity(candidates.len());
        for (score, agent) in candidates {
            judged.push(Candidate {
                agent: agent.id,
                name: agent.settings.name.clone(),
                score,
                obstacle: self.obstacle(caller, task, &agent, &crew).await?,
            });
        }
        judged.sort_by_key(|candidate| {
            (
                candidate.obstacle.is_some(),
                Reverse(candidate.score),
                candidate.agent,
            )
        });
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
            return Ok(Some(format!("is busy, in session {}", active.id)));
        }
        let now = self.clock().now();
        if let Some(until) = self.parked_until(agent).await? {
            return Ok(Some(format!("is refused by its provider until {until}")));
        }
        if let Err(error) = self.hold_agent(agent.id, None).await {
            return Ok(Some(format!("cannot be started: {}", error.message())));
        }
        if let Some(refusal) = self.dispatching().refusal(task.id, agent.id, now) {
            return Ok(Some(format!(
                "could not begin it a moment ago ({}); it is tried again at {}",
                refusal.why, refusal.until
            )));
        }
        let options = &self.dispatching().options;
        if crew.running >= options.max_running {
            return Ok(Some(format!(
                "waits: {} agents run, as many as may at a time",
                crew.running
            )));
        }
        // What would be asked of a daemon, with an assignment that is not made.
        let assignment = Assignment::draft(agent.id, &caller.actor(), now);
        let new = match self.new_work(agent, task, &assignment) {
            Ok(new) => new,
            Err(error) => return Ok(Some(format!("does not fit: {}", error.message()))),
        };
        match self.place(caller, &new).await {
            Err(error) => Ok(Some(format!("has no machine: {}", error.message()))),
            Ok(daemon) => {
                let there = crew.daemons.get(&daemon.id).copied().unwrap_or_default();
                Ok((there >= options.max_per_daemon).then(|| {
                    format!(
                        "waits: {there} agents run on {}, as many as may there at a time",
                        daemon.name
                    )
                }))
            }
        }
    }
}
