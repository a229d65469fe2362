//! The scheduler's look at what is to be done.

use std::time::Duration;

use super::Dispatch;
use super::crew::Crew;
use super::follow::{Next, parked_until};
use super::judge::Verdict;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::tasks::ReadyFilter;
use crate::base::Result;
use crate::base::page::PageRequest;
use crate::domain::{Agent, Task, dispatch};

/// How many ready tasks one look goes through at most from the first one on, and as many from where the last look
/// stopped: what is most urgent is always looked at, and whatever waits behind it has its turn too.
const MAX_READY: usize = 500;
/// How many of them are read at once.
const PAGE: usize = 100;
/// The most capabilities that are looked for at once.
const MAX_ABILITIES: usize = 256;
/// How long the scheduler waits after it was woken: what wakes it rarely comes alone.
const GATHER: Duration = Duration::from_millis(100);

/// Lets the scheduler look now and then, and when something has changed.
pub async fn run(app: App) {
    let dispatching = app.dispatching().clone();
    let mut woken = dispatching.wake.subscribe();
    let mut changed = app.tasks().changes();
    if let Err(error) = app.forget_unheard().await {
        tracing::warn!(?error, "news for stewards that are gone is not removed");
    }
    loop {
        if let Err(error) = app.schedule().await {
            tracing::warn!(?error, "the scheduler's look failed; it looks again");
        }
        tokio::select! {
            () = tokio::time::sleep(dispatching.options.every) => {}
            _ = woken.changed() => tokio::time::sleep(GATHER).await,
            _ = changed.changed() => tokio::time::sleep(GATHER).await,
        }
    }
}

impl App {
    /// Looks once at what is to be done, and lets it be done. Paused, it begins nothing: that a task is done, or a person's,
    /// is noted all the same.
    async fn schedule(&self) -> Result<()> {
        *self.dispatching().looked_at.lock() = Some(self.clock().now());
        let mut crew = self.crew().await?;
        let by = Caller::scheduler().actor();
        for session in crew.sessions() {
            // A crash may have come between the session and its note at the task.
            self.note_begun(session, &by).await;
        }
        let paused = self.scheduler_is_paused().await?;
        let free = self.follow_up(&mut crew, paused).await?;
        if paused {
            return Ok(());
        }
        self.give_out(&mut crew, free).await?;
        self.pull_triggers().await
    }

    /// What the agents at rest have comes first. Gives those that it takes none of. Of one that is disabled, what is done is
    /// noted, as for all while the scheduler is paused.
    async fn follow_up(&self, crew: &mut Crew, paused: bool) -> Result<Vec<Agent>> {
        let at_rest: Vec<Agent> = crew.at_rest().cloned().collect();
        let mut free = Vec::with_capacity(at_rest.len());
        for agent in at_rest {
            let starts_nothing = paused || agent.settings.disabled;
            let is_free = !self.follow_one(&agent, crew, starts_nothing).await?;
            if is_free && !agent.settings.disabled {
                free.push(agent);
            }
        }
        Ok(free)
    }

    /// Does what is to be done for an idle agent's own tasks; whether that takes the agent.
    async fn follow_one(
        &self,
        agent: &Agent,
        crew: &mut Crew,
        starts_nothing: bool,
    ) -> Result<bool> {
        let tasks = self.in_hand(agent).await?;
        if parked_until(&tasks, self.clock().now()).is_some() {
            return Ok(true);
        }
        for task in tasks {
            let now = self.clock().now();
            if self.dispatching().refusal(task.id, agent.id, now).is_some() {
                continue;
            }
            let next = self.next(agent, &task).await?;
            if matches!(next, Next::Wait(_)) || (starts_nothing && next.starts()) {
                continue;
            }
            let on = match next.starts() {
                true => match self.room_for(crew, agent, &task, &next).await {
                    Ok(on) => on,
                    Err(_) => return Ok(true),
                },
                false => agent.settings.daemon_id,
            };
            let Some(keeping) = self.dispatching().keep(agent.id, on) else {
                return Ok(true);
            };
            if next.starts() {
                crew.begins(on);
                let (app, agent) = (self.clone(), agent.clone());
                let job = async move { app.follow(&agent, &task, next, keeping).await };
                self.dispatching().jobs.spawn(job);
                return Ok(true);
            }
            let parks = matches!(next, Next::Park(_));
            self.follow(agent, &task, next, keeping).await;
            if parks {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What nobody has goes to the free agents, the most urgent first.
    async fn give_out(&self, crew: &mut Crew, mut free: Vec<Agent>) -> Result<()> {
        let last = self.dispatching().looked_to.lock().take();
        let next = self.give_from(None, crew, &mut free).await?;
        let Some(next) = next.filter(|_| !free.is_empty()) else {
            return Ok(());
        };
        let stopped = self
            .give_from(Some(last.unwrap_or(next)), crew, &mut free)
            .await?;
        *self.dispatching().looked_to.lock() = stopped;
        Ok(())
    }

    /// Gives out ready tasks after one of them, or from the first on. After which one to go on, if there are more.
    async fn give_from(
        &self,
        after: Option<String>,
        crew: &mut Crew,
        free: &mut Vec<Agent>,
    ) -> Result<Option<String>> {
        let caller = Caller::scheduler();
        let filter = ReadyFilter {
            unassigned: true,
            capabilities: abilities(free),
            ..ReadyFilter::default()
        };
        let mut page = PageRequest { size: PAGE, after };
        for _ in 0..MAX_READY / PAGE {
            let ready = self.list_ready_tasks(&caller, &filter, &page).await?;
            for shown in ready.items {
                if free.is_empty() || self.all_run(crew).is_some() {
                    return Ok(None);
                }
                self.give_to_best(&caller, &shown.task, crew, free).await?;
                // Others have something to do as well.
                tokio::task::yield_now().await;
            }
            page.after = ready.next;
            if page.after.is_none() {
                break;
            }
        }
        Ok(page.after)
    }

    /// Gives a task to the free agent that fits it best. One that can take none is not asked any more.
    async fn give_to_best(
        &self,
        caller: &Caller,
        task: &Task,
        crew: &mut Crew,
        free: &mut Vec<Agent>,
    ) -> Result<()> {
        let able = |agent: &&Agent| {
            dispatch::workplace(task, agent).is_some() && !crew.is_nowhere(task, agent)
        };
        let able: Vec<&Agent> = free.iter().filter(able).collect();
        self.survey(crew, task, able.iter().copied()).await;
        let fitting = able.iter().filter_map(|agent| crew.rank(task, agent));
        let mut fitting: Vec<_> = fitting.collect();
        fitting.sort_unstable();
        for (score, _, _, id) in fitting {
            let Some(at) = free.iter().position(|agent| agent.id == id) else {
                continue;
            };
            let daemon = match self.judge(caller, task, &free[at], crew).await? {
                Verdict::Can { daemon, .. } => daemon,
                Verdict::Unable(why) => {
                    tracing::debug!(agent = %id, why, "an agent is given nothing");
                    free.swap_remove(at);
                    continue;
                }
                Verdict::Nowhere(why) => {
                    tracing::debug!(task = %task.id, agent = %id, why, "an agent cannot work there");
                    crew.found_nowhere(task, &free[at]);
                    continue;
                }
                Verdict::Cannot(why) => {
                    tracing::debug!(task = %task.id, agent = %id, why, "a task is not given");
                    continue;
                }
            };
            let agent = free.swap_remove(at);
            let Some(keeping) = self.dispatching().keep(id, Some(daemon)) else {
                continue;
            };
            crew.begins(Some(daemon));
            tracing::info!(task = %task.id, agent = %id, score = score.0, "a task is given");
            let (app, task, caller) = (self.clone(), task.id, caller.clone());
            let job = async move {
                let how = Dispatch::default();
                if let Err(error) = app.give(&caller, &agent, task, &how, keeping).await {
                    tracing::info!(%task, agent = %agent.id, ?error, "it could not begin");
                }
            };
            self.dispatching().jobs.spawn(job);
            return Ok(());
        }
        Ok(())
    }
}

/// What agents are able to do, so that what none of them can do need not be looked at. `None`: too much to list.
fn abilities(agents: &[Agent]) -> Option<Vec<String>> {
    let all = agents.iter().flat_map(|agent| &agent.settings.capabilities);
    let mut abilities: Vec<String> = all.cloned().collect();
    abilities.sort_unstable();
    abilities.dedup();
    (abilities.len() <= MAX_ABILITIES).then_some(abilities)
}
