//! The rules, one file a capability. Every surface calls these functions and no other; none knows which
//! surface called.
//!
//! Absent by design: protobuf, HTTP, sockets. What a function is given has been read from the wire; what it
//! gives back is still to be written there.

pub mod access;
pub mod agents;
pub mod budgets;
pub mod daemons;
pub mod dispatch;
pub mod events;
pub mod failure;
pub mod idempotency;
pub mod link;
pub mod pace;
pub mod prompts;
pub mod records;
pub mod retention;
pub mod search;
pub mod sessions;
pub mod sight;
pub mod system;
pub mod tasks;
pub mod terminals;
pub mod triggers;
pub mod worktrees;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::base::{Error, Result, SharedClock};
use crate::relay::{self, Relay};
use crate::store::SharedStore;

use access::Access;
use agents::Agents;
use budgets::Budgets;
use daemons::Presences;
use dispatch::Dispatching;
use events::Transients;
use idempotency::Idempotency;
use prompts::Rules;
use search::Search;
use sessions::{Nudge, Sessions};
use tasks::Tasks;
use terminals::Terminals;
use worktrees::Worktrees;

/// All capabilities of a server, sharing one store.
#[derive(Clone)]
pub struct App {
    parts: Arc<Parts>,
}

struct Parts {
    store: SharedStore,
    clock: SharedClock,
    access: Access,
    dispatching: Arc<Dispatching>,
    agents: Agents,
    budgets: Budgets,
    greetings: link::Greetings,
    idempotency: Idempotency,
    jobs: TaskTracker,
    presences: Presences,
    relay: Relay,
    rules: Rules,
    search: Search,
    sessions: Sessions,
    terminals: Arc<Terminals>,
    tasks: Tasks,
    transients: Arc<Transients>,
    worktrees: Worktrees,
}

impl Nudge for Relay {
    fn nudge(&self, daemon: crate::base::id::DaemonId) {
        Relay::nudge(self, daemon);
    }
}

impl App {
    /// Puts the capabilities together over an open store.
    pub async fn new(
        store: SharedStore,
        clock: SharedClock,
        access: Access,
        links: relay::Options,
        search: Search,
        options: sessions::Options,
        dispatch: dispatch::Options,
    ) -> Result<Self> {
        let transients = Arc::new(Transients::default());
        let agents = Agents::load(store.as_ref()).await?;
        let rules = Rules::load(store.clone(), clock.clone()).await?;
        let tasks = Tasks::load(store.clone(), clock.clone()).await?;
        let (prices, held) = (options.prices.clone(), tasks.clone());
        let budgets = Budgets::load(store.clone(), clock.clone(), prices, held).await?;
        let parts = Arc::new_cyclic(|parts| {
            let upper = Arc::new(link::Upper {
                parts: parts.clone(),
            });
            let relay = Relay::new(upper, store.clone(), clock.clone(), links);
            let sessions = Sessions::new(
                store.clone(),
                clock.clone(),
                options,
                transients.clone(),
                Arc::new(relay.clone()),
                budgets.clone(),
            );
            Parts {
                idempotency: Idempotency::new(store.clone(), clock.clone()),
                greetings: link::Greetings::default(),
                jobs: TaskTracker::new(),
                store,
                clock,
                access,
                dispatching: Arc::new(Dispatching::new(dispatch)),
                agents,
                budgets,
                presences: Presences::default(),
                relay,
                rules,
                search,
                sessions,
                terminals: Arc::default(),
                tasks,
                transients,
                worktrees: Worktrees::default(),
            }
        });
        parts.sessions.load().await?;
        let app = App { parts };
        app.finish_deletions().await?;
        Ok(app)
    }

    /// The daemons whose links this server has seen.
    pub(crate) fn greetings(&self) -> &link::Greetings {
        &self.parts.greetings
    }

    /// Does something to its end, though whoever asked for it goes away in the middle: a call is dropped with its
    /// connection or at its deadline, while the store finishes what it has begun, and what is in memory must follow.
    pub(in crate::app) async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.parts.jobs.spawn(work).await.map_err(Error::internal)?
    }

    /// Waits for what is under way, after the last call was made.
    pub async fn finish(&self) {
        self.parts.jobs.close();
        self.parts.jobs.wait().await;
    }

    /// What machines had at directories a moment ago.
    pub(crate) fn presences(&self) -> &Presences {
        &self.parts.presences
    }

    /// The store.
    pub fn store(&self) -> &SharedStore {
        &self.parts.store
    }

    /// The clock.
    pub fn clock(&self) -> &SharedClock {
        &self.parts.clock
    }

    /// Who may call.
    pub fn access(&self) -> &Access {
        &self.parts.access
    }

    /// Which tasks are being given to whom.
    pub fn dispatching(&self) -> &Arc<Dispatching> {
        &self.parts.dispatching
    }

    /// Which agents there are.
    pub fn agents(&self) -> &Agents {
        &self.parts.agents
    }

    /// Answers that are repeated.
    pub fn idempotency(&self) -> &Idempotency {
        &self.parts.idempotency
    }

    /// The links to daemons.
    pub fn relay(&self) -> &Relay {
        &self.parts.relay
    }

    /// The rules that answer prompts.
    pub fn rules(&self) -> &Rules {
        &self.parts.rules
    }

    /// The index over transcripts.
    pub fn search(&self) -> &Search {
        &self.parts.search
    }

    /// The sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.parts.sessions
    }

    /// Who looks at which terminal.
    pub(crate) fn terminals(&self) -> &Arc<Terminals> {
        &self.parts.terminals
    }

    /// The tasks.
    pub fn tasks(&self) -> &Tasks {
        &self.parts.tasks
    }

    /// The operations on worktrees that this process is about.
    pub(crate) fn worktrees(&self) -> &Worktrees {
        &self.parts.worktrees
    }

    /// What is live and never stored.
    pub fn transients(&self) -> &Arc<Transients> {
        &self.parts.transients
    }
}
