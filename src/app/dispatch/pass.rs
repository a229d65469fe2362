//! The scheduler's look at what is to be done.

use std::cmp::Reverse;
use std::time::Duration;

use super::follow::Next;
use super::{Crew, Dispatch};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::tasks::ReadyFilter;
use crate::base::page::{MAX_PAGE_SIZE, PageRequest};
use crate::base::{Error, Result};
use crate::domain::{Agent, Task, dispatch};

/// How many of an agent's tasks are looked at.
pub(super) const IN_HAND: usize = 20;
/// How many ready tasks one look goes through at most.
const MAX_READY: usize = 5_000;
/// How long the scheduler waits after it was woken: what wakes it rarely comes alone.
const GATHER: Duration = Duration::from_millis(100);

/// Lets the scheduler look now and then, and when something has changed.
pub async fn run(app: App) {
    let dispatching = app.dispatching().clone();
    let mut woken = dispatching.wake.subscribe();
    let mut changed = app.tasks().changes();
    loop {
        match app.scheduler_pause().await {
            Ok(None) => {
                if let Err(error) = app.schedule().await {
                    tracing::warn!(?error, "the scheduler's look failed; it looks again");
                }
            }
            Ok(Some(_)) => {}
            Err(error) => tracing::warn!(?error, "it is not known whether the scheduler is paused"),
        }
        tokio::select! {
            () = tokio::time::sleep(dispatching.options.every) => {}
            _ = woken.changed() => tokio::time::sleep(GATHER).await,
            _ = changed.changed() => tokio::time::sleep(GATHER).await,
        }
    }
}

impl App {
    /// Looks once at what is to be done, and lets it be done.
    pub(super) async fn schedule(&self) -> Result<()> {
        *self.dispatching().looked_at.lock() = Some(self.clock().now());
        let mut crew = self.crew().await?;
        self.follow_up(&mut crew).await?;
        self.give_out(&mut crew).await
    }

    /// What the idle agents have comes first.
    async fn follow_up(&self, crew: &mut Crew) -> Result<()> {
        let mut free = Vec::with_capacity(crew.idle.len());
        for agent in std::mem::take(&mut crew.idle) {
            if !self.follow_one(&agent, crew).await? {
                free.push(agent);
            }
        }
        crew.idle = free;
        Ok(())
    }

    /// Does what is to be done for an idle agent's own tasks; whether that takes the agent.
    async fn follow_one(&self, agent: &Agent, crew: &mut Crew) -> Result<bool> {
        let tasks = self
            .tasks_in_hand(agent.id, &agent.settings.capabilities, IN_HAND)
            .await?;
        if tasks.is_empty() {
            return Ok(false);
        }
        if self.parked_until(agent).await?.is_some() {
            return Ok(true);
        }
        for task in tasks {
            let now = self.clock().now();
            if self.dispatching().refusal(task.id, agent.id, now).is_some() {
                continue;
            }
            let next = self.next(agent, &task).await?;
            let starts = matches!(next, Next::Begin | Next::GoOn(..) | Next::Anew(_));
            if matches!(next, Next::Wait(_)) {
                continue;
            }
            if starts && crew.running >= self.dispatching().options.max_running {
                return Ok(true);
            }
            let Some(keeping) = self.dispatching().keep(agent.id) else {
                return Ok(true);
            };
            let parks = matches!(next, Next::Park(_));
            if !starts {
                if let Err(error) = self.follow(agent, &task, next, keeping).await {
                    self.note_refusal(agent, &task, &error);
                }
                if parks {
                    return Ok(true);
                }
                continue;
            }
            crew.running += 1;
            let (app, agent) = (self.clone(), agent.clone());
            self.dispatching().jobs.spawn(async move {
                if let Err(error) = app.follow(&agent, &task, next, keeping).await {
                    app.note_refusal(&agent, &task, &error);
                }
            });
            return Ok(true);
        }
        Ok(false)
    }

    /// What nobody has goes to the idle agents, the most urgent first.
    async fn give_out(&self, crew: &mut Crew) -> Result<()> {
        let caller = Caller::scheduler();
        let filter = ReadyFilter {
            unassigned: true,
            ..ReadyFilter::default()
        };
        let mut page = PageRequest {
            size: MAX_PAGE_SIZE,
            after: None,
        };
        let mut seen = 0;
        while !crew.idle.is_empty() && seen < MAX_READY {
            let ready = self.list_ready_tasks(&caller, &filter, &page).await?;
            for shown in ready.items {
                seen += 1;
                if crew.idle.is_empty() || crew.running >= self.dispatching().options.max_running {
                    return Ok(());
                }
                self.give_to_best(&caller, &shown.task, crew).await?;
            }
            match ready.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        Ok(())
    }

    async fn give_to_best(&self, caller: &Caller, task: &Task, crew: &mut Crew) -> Result<()> {
        let mut fitting: Vec<(Reverse<u8>, usize, usize)> = crew
            .idle
            .iter()
            .enumerate()
            .filter(|(_, agent)| {
                dispatch::missing(task, &agent.settings.capabilities).is_empty()
                    && dispatch::workplace(task, agent).is_some()
            })
            .map(|(at, agent)| {
                let score = dispatch::score(task, &agent.settings.capabilities);
                let there = agent
                    .settings
                    .daemon_id
                    .and_then(|id| crew.daemons.get(&id));
                (Reverse(score), there.copied().unwrap_or_default(), at)
            })
            .collect();
        fitting.sort_unstable();
        for (score, _, at) in fitting {
            let Some(agent) = crew.idle.get(at) else {
                continue;
            };
            if let Some(why) = self.obstacle(caller, task, agent, crew).await? {
                tracing::debug!(task = %task.id, agent = %agent.id, why, "a task is not given");
                continue;
            }
            let Some(keeping) = self.dispatching().keep(agent.id) else {
                continue;
            };
            let agent = crew.idle.remove(at);
            crew.running += 1;
            if let Some(daemon) = agent.settings.daemon_id {
                *crew.daemons.entry(daemon).or_default() += 1;
            }
            tracing::info!(task = %task.id, agent = %agent.id, score = score.0, "a task is given");
            let (app, task) = (self.clone(), task.clone());
            let caller = caller.clone();
            self.dispatching().jobs.spawn(async move {
                let how = Dispatch::default();
                let given = app.give(&caller, &agent, task.id, &how, Some(keeping)).await;
                if let Err(error) = given {
                    tracing::info!(task = %task.id, agent = %agent.id, ?error, "it could not begin");
                }
            });
            return Ok(());
        }
        Ok(())
    }

    fn note_refusal(&self, agent: &Agent, task: &Task, error: &Error) {
        tracing::info!(task = %task.id, agent = %agent.id, ?error, "it could not be taken up");
        let now = self.clock().now();
        self.dispatching().refused(task.id, agent.id, error, now);
    }
}
