//! What speaks for giving a task to an agent, and what against it.

use super::crew::Crew;
use super::follow::{Next, parked_until};
use super::give::new_work;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::daemons::Presence;
use crate::app::sessions::NewSession;
use crate::base::id::{AgentId, DaemonId};
use crate::base::{Code, Error, Result};
use crate::domain::{Agent, Daemon, Task, dispatch};

/// The most agents that are shown for a task.
const MAX_SHOWN: usize = 50;
/// How many reasons are told where no agent can take a task.
const MAX_REASONS: usize = 5;

/// Whether an agent can be given a task.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It can.
    Can {
        /// The machine.
        daemon: DaemonId,
        /// Where it would work, in words: the machine, and what is there.
        place: String,
    },
    /// It cannot, and no other task either; the text goes on after the agent's name.
    Unable(String),
    /// It cannot work where this one is, now; the text goes on after the agent's name.
    Nowhere(String),
    /// It cannot be given this one; the text goes on after the agent's name.
    Cannot(String),
}

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
    /// Where it would work: the machine, and what is there. Empty if something keeps it.
    pub place: String,
}

impl App {
    /// What is thought of the scheduler's agents that the caller sees for a task, those that could take it first, the
    /// best first.
    pub(in crate::app) async fn candidates(
        &self,
        caller: &Caller,
        task: &Task,
    ) -> Result<Vec<Candidate>> {
        let mut crew = self.crew().await?;
        let seen = crew.members.iter().map(|(agent, _)| agent);
        let seen = seen.filter(|agent| caller.sees_agent(agent));
        let mut seen: Vec<Agent> = seen.cloned().collect();
        self.survey(&mut crew, task, seen.iter()).await;
        // The best are looked at more closely; of thousands, not all.
        seen.sort_by_cached_key(|agent| {
            let rank = crew.rank(task, agent);
            (rank.is_none(), rank, agent.id)
        });
        seen.truncate(MAX_SHOWN);
        let mut judged = Vec::with_capacity(seen.len());
        for agent in &seen {
            let (obstacle, place) = match self.judge(caller, task, agent, &crew).await? {
                Verdict::Can { place, .. } => (None, place),
                Verdict::Unable(why) | Verdict::Nowhere(why) | Verdict::Cannot(why) => {
                    (Some(why), String::new())
                }
            };
            judged.push(Candidate {
                agent: agent.id,
                name: agent.settings.name.clone(),
                score: crew.rank(task, agent).map_or(0, |(score, ..)| score.0),
                obstacle,
                place,
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

    /// Whether an agent can be given a task now.
    pub(super) async fn judge(
        &self,
        caller: &Caller,
        task: &Task,
        agent: &Agent,
        crew: &Crew,
    ) -> Result<Verdict> {
        let settings = &agent.settings;
        if settings.disabled {
            return Ok(Verdict::Unable("is disabled".to_owned()));
        }
        let missing = dispatch::missing(task, &settings.capabilities);
        if !missing.is_empty() {
            return Ok(Verdict::Cannot(format!("lacks {}", missing.join(", "))));
        }
        if let Some(active) = self.active_session(agent.id).await? {
            return Ok(Verdict::Unable(match caller.sees(&active) {
                true => format!("is busy, in session {}", active.id),
                false => "is busy".to_owned(),
            }));
        }
        let now = self.clock().now();
        if let Some(until) = parked_until(&self.in_hand(agent).await?, now) {
            return Ok(Verdict::Unable(format!(
                "is refused by its provider until {until}"
            )));
        }
        let held = self.hold_agent(agent.id, None).await;
        if let Err(error) = held.and_then(|_| self.budget_allows(Some(agent.id), None)) {
            return Ok(Verdict::Unable(format!(
                "cannot be started: {}",
                error.message()
            )));
        }
        if let Err(error) = self.budget_allows(None, Some(task.id)) {
            return Ok(Verdict::Cannot(format!(
                "cannot be started: {}",
                error.message()
            )));
        }
        if let Some(refusal) = self.dispatching().refusal(task.id, agent.id, now) {
            return Ok(Verdict::Cannot(format!(
                "could not begin it a moment ago ({}); it is tried again at {}",
                refusal.why, refusal.until
            )));
        }
        if let Some(why) = self.all_run(crew) {
            return Ok(Verdict::Cannot(why));
        }
        let new = match new_work(agent, task) {
            Ok(new) => new,
            Err(error) => {
                return Ok(Verdict::Nowhere(format!(
                    "does not fit: {}",
                    error.message()
                )));
            }
        };
        let (daemon, place) = match self.work_place(caller, &new).await {
            Ok(found) => found,
            Err(error) => {
                return Ok(Verdict::Nowhere(format!(
                    "has no machine: {}",
                    error.message()
                )));
            }
        };
        if let Some(why) = self.all_run_on(crew, &daemon) {
            return Ok(Verdict::Nowhere(why));
        }
        Ok(Verdict::Can {
            daemon: daemon.id,
            place,
        })
    }

    /// Why no agent may begin anything now, if as many run as may.
    pub(super) fn all_run(&self, crew: &Crew) -> Option<String> {
        let running = crew.running();
        (running >= self.dispatching().options.max_running)
            .then(|| format!("waits: {running} agents run, as many as may at a time"))
    }

    /// The same of one machine.
    fn all_run_on(&self, crew: &Crew, daemon: &Daemon) -> Option<String> {
        let there = crew.running_on(daemon.id);
        (there >= self.dispatching().options.max_per_daemon).then(|| {
            format!(
                "waits: {there} agents run on {}, as many as may there at a time",
                daemon.name
            )
        })
    }

    /// The machine on which an agent goes on with a task that it has, unless as many run as may: then why it waits.
    /// `None`: none is known, which is said when it is tried.
    pub(super) async fn room_for(
        &self,
        crew: &Crew,
        agent: &Agent,
        task: &Task,
        next: &Next,
    ) -> std::result::Result<Option<DaemonId>, String> {
        if let Some(why) = self.all_run(crew) {
            return Err(why);
        }
        let daemon = match next {
            Next::GoOn(session, _) => {
                let shown = self.get_daemon(session.daemon_id).await;
                shown.map(|shown| shown.daemon)
            }
            _ => match new_work(agent, task) {
                Ok(new) => self
                    .work_place(&Caller::scheduler(), &new)
                    .await
                    .map(|it| it.0),
                Err(error) => Err(error),
            },
        };
        let Ok(daemon) = daemon else {
            return Ok(None);
        };
        match self.all_run_on(crew, &daemon) {
            Some(why) => Err(why),
            None => Ok(Some(daemon.id)),
        }
    }

    /// The machine on which a task would be worked on, and in words where. `NO_DAEMON`: none fits, or none has the
    /// directory.
    pub(super) async fn work_place(
        &self,
        caller: &Caller,
        new: &NewSession,
    ) -> Result<(Daemon, String)> {
        let daemon = self.place(caller, new).await?;
        let (name, cwd) = (&daemon.name, &new.cwd);
        if cwd.is_empty() {
            let place = format!("on {name}");
            return Ok((daemon, place));
        }
        let place = match self.presence(daemon.id, cwd).await {
            Presence::Repository => format!("on {name}, in the repository at {cwd}"),
            Presence::Directory => format!("on {name}, in {cwd}, which is in no git repository"),
            Presence::Unknown => format!("on {name}, in {cwd}"),
            Presence::Absent => {
                return Err(Error::new(
                    Code::NoDaemon,
                    format!("{name} has no directory {cwd} that may be worked in"),
                ));
            }
        };
        Ok((daemon, place))
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
            match self.next(&agent, task).await? {
                Next::Wait(why) | Next::Escalate(why) => said.push(why),
                next if next.starts() => {
                    let crew = self.crew().await?;
                    if let Err(why) = self.room_for(&crew, &agent, task, &next).await {
                        said.push(format!("it {why}"));
                    }
                }
                _ => {}
            }
        }
        Ok((said, Vec::new()))
    }
}
