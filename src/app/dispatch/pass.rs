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

/// How many ready tasks one look goes through at most.
const MAX_READY: usize = 1_000;
/// How many of them are read at once.
const PAGE: usize = 100;
/// How many tasks an agent is asked for in vain in one look.
const MAX_IN_VAIN: usize = 3;
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

    /// What the idle agents have comes first. Gives those that it takes none of.
    async fn follow_up(&self, crew: &mut Crew, paused: bool) -> Result<Vec<Agent>> {
        let idle: Vec<Agent> = crew.idle().cloned().collect();
        let mut free = Vec::with_capacity(idle.len());
        for agent in idle {
            if !self.follow_one(&agent, crew, paused).await? {
                free.push(agent);
            }
        }
        Ok(free)
    }

    /// Does what is to be done for an idle agent's own tasks; whether that takes the agent. Paused, it starts nothing.
    async fn follow_one(&self, agent: &Agent, crew: &mut Crew, paused: bool) -> Result<bool> {
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
            if matches!(next, Next::Wait(_)) || (paused && next.starts()) {
                continue;
            }
            if next.starts() && crew.running() >= self.dispatching().options.max_running {
                return Ok(true);
            }
            let Some(keeping) = self.dispatching().keep(agent.id) else {
                return Ok(true);
            };
            if next.starts() {
                crew.begins(agent);
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
    async fn give_out(&self, crew: &mut Crew, free: Vec<Agent>) -> Result<()> {
        // What none of them can do is not looked at; how often one was asked in vain is counted.
        let mut abilities: Vec<String> = free
            .iter()
            .flat_map(|agent| agent.settings.capabilities.iter().cloned())
            .collect();
        abilities.sort_unstable();
        abilities.dedup();
        abilities.truncate(MAX_ABILITIES);
        let mut free: Vec<(Agent, usize)> = free.into_iter().map(|agent| (agent, 0)).collect();
        let caller = Caller::scheduler();
        let filter = ReadyFilter {
            unassigned: true,
            capabilities: Some(abilities),
            ..ReadyFilter::default()
        };
        let mut page = PageRequest {
            size: PAGE,
            after: None,
        };
        let mut seen = 0;
        while !free.is_empty() && seen < MAX_READY {
            let ready = self.list_ready_tasks(&caller, &filter, &page).await?;
            for shown in ready.items {
                seen += 1;
                if free.is_empty() || crew.running() >= self.dispatching().options.max_running {
                    return Ok(());
                }
                self.give_to_best(&caller, &shown.task, crew, &mut free)
                    .await?;
                // Others have something to do as well.
                tokio::task::yield_now().await;
            }
            match ready.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        Ok(())
    }

    /// Gives a task to the free agent that fits it best. One that cannot take several is not asked any more.
    async fn give_to_best(
        &self,
        caller: &Caller,
        task: &Task,
        crew: &mut Crew,
        free: &mut Vec<(Agent, usize)>,
    ) -> Result<()> {
        let able = |(agent, _): &&(Agent, usize)| {
            dispatch::workplace(task, agent).is_some()
                && dispatch::missing(task, &agent.settings.capabilities).is_empty()
        };
        let able: Vec<&Agent> = free.iter().filter(able).map(|(agent, _)| agent).collect();
        self.survey(crew, task, able.iter().copied()).await;
        let fitting = able.iter().filter_map(|agent| crew.rank(task, agent));
        let mut fitting: Vec<_> = fitting.collect();
        fitting.sort_unstable();
        for (score, _, _, id) in fitting {
            let Some(at) = free.iter().position(|(agent, _)| agent.id == id) else {
                continue;
            };
            let (agent, in_vain) = &mut free[at];
            let verdict = self.judge(caller, task, agent, crew).await?;
            let keeping = match verdict {
                Verdict::Can { .. } => self.dispatching().keep(agent.id),
                Verdict::Cannot(why) => {
                    tracing::debug!(task = %task.id, agent = %agent.id, why, "a task is not given");
                    None
                }
            };
            let Some(keeping) = keeping else {
                *in_vain += 1;
                if *in_vain >= MAX_IN_VAIN {
                    free.swap_remove(at);
                }
                continue;
            };
            let (agent, _) = free.swap_remove(at);
            crew.begins(&agent);
            tracing::info!(task = %task.id, agent = %agent.id, score = score.0, "a task is given");
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
