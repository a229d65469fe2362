//! Tasks: what is to be done, which of it is ready, and who has it.
//!
//! A task is a record, changed by compare-and-set; what its commit says is the truth. What is asked of all tasks at
//! once (which are ready, what is blocked, who would wait in a circle) is answered by an index in memory that
//! follows every commit. A commit and its entry in the index belong together: they are one job, which is finished
//! though its caller has gone. What a commit under way will change of the graph is reserved in the index before, so
//! that two that are each right cannot be wrong together.

mod assign;
mod change;
mod graph;
mod index;
mod look;
mod page;

pub use change::Target;
pub use look::{Explanation, Reason, ReasonKind, ShownTask};
pub use page::{ReadyFilter, TaskFilter};

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::app::access::Caller;
use crate::app::idempotency::Fresh;
use crate::app::{App, failure, records};
use crate::base::id::{AgentId, SessionId, TaskId};
use crate::base::{Code, Error, Result, SharedClock, Timestamp};
use crate::domain::Task;
use crate::store::{self, Commit, RecordOp, SharedStore};
use index::{Index, Reserved};

/// The most tasks a server keeps: all of them are in the index.
pub const MAX_TASKS: usize = 500_000;
/// The most dependencies that others have on one task.
pub const MAX_REFERRERS: usize = 1_000;
/// How often a change is tried again when something else changed the task in between.
const TRIES: usize = 100;
/// How long after its commit a change of a task is in the index at the latest.
const APPLIED_WITHIN: Duration = Duration::from_secs(5);
/// Records read at once when the index is made.
const PAGE: usize = 500;

/// What is remembered of a deleted task, for narrowed callers that watched it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneTask {
    /// Its id.
    pub id: TaskId,
    /// Its directory.
    pub directory: String,
    /// When it was deleted.
    pub at: Timestamp,
}

/// All tasks. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    store: SharedStore,
    clock: SharedClock,
    index: Arc<Mutex<Index>>,
    jobs: TaskTracker,
    /// Counts what was applied to the index.
    applies: Arc<watch::Sender<u64>>,
}

/// What a commit does to the index.
enum Effect {
    Put(Box<Task>),
    Gone(TaskId),
}

/// A place in the graph that is kept while a commit is under way.
struct Kept {
    index: Arc<Mutex<Index>>,
    reserved: Reserved,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.index.lock().give_back(&self.reserved);
    }
}

impl Tasks {
    /// Reads the tasks from the store.
    pub async fn load(store: SharedStore, clock: SharedClock) -> Result<Self> {
        let mut index = Index::default();
        index.tick(clock.now());
        let mut after: Option<String> = None;
        loop {
            let page = store
                .scan(records::TASKS, after.as_deref(), PAGE)
                .await
                .map_err(failure::from_store)?;
            for record in &page {
                index.put(&records::decode::<Task>(record)?, record.revision);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
                _ => break,
            }
        }
        Ok(Tasks {
            store,
            clock,
            index: Arc::new(Mutex::new(index)),
            jobs: TaskTracker::new(),
            applies: Arc::default(),
        })
    }

    /// Waits until every commit under way is applied, after the last call was made.
    pub async fn stop(&self) {
        self.jobs.close();
        self.jobs.wait().await;
    }

    /// Wakes with every change of a task.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.applies.subscribe()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.index.lock().entries.len()
    }

    /// Waits until the index knows what a commit made of a task: the store shows it a moment earlier.
    pub(crate) async fn applied(&self, id: TaskId, revision: u64) {
        let mut wake = self.applies.subscribe();
        let known = async {
            loop {
                wake.mark_unchanged();
                if self.index.lock().knows(id, revision) || wake.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(APPLIED_WITHIN, known).await.is_err() {
            tracing::error!(%id, revision, "a change of a task is not in the index");
        }
    }

    /// The task that a session works on, or worked on last.
    pub(crate) fn task_in(&self, session: SessionId) -> Option<TaskId> {
        self.index.lock().task_in(session)
    }

    /// What waits for a task.
    pub(crate) fn waiters(&self, id: TaskId) -> Vec<TaskId> {
        self.index.lock().waiters(id).collect()
    }

    /// Asks the index, at the time it is now.
    fn ask<T>(&self, question: impl FnOnce(&mut Index, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let mut index = self.index.lock();
        index.tick(now);
        question(&mut index, now)
    }

    /// Judges a change of the graph and keeps its place, in one step.
    fn keep(&self, judge: impl FnOnce(&Index) -> Result<Reserved>) -> Result<Kept> {
        let mut index = self.index.lock();
        let reserved = judge(&index)?;
        index.reserve(&reserved);
        Ok(Kept {
            index: self.index.clone(),
            reserved,
        })
    }

    /// One record with its revision.
    async fn read(&self, id: TaskId) -> Result<Option<(Task, u64)>> {
        records::get(self.store.as_ref(), &records::task_key(id)).await
    }

    /// Commits and applies to the index, as one job. Where the store refuses, what was handed in comes back.
    async fn commit(
        &self,
        ops: Vec<RecordOp>,
        effects: Vec<Effect>,
        kept: Option<Kept>,
        fresh: Option<Fresh>,
    ) -> Result<(store::Result<u64>, (Option<Kept>, Option<Fresh>))> {
        let (store, index, clock) = (self.store.clone(), self.index.clone(), self.clock.clone());
        let applies = self.applies.clone();
        let job = self.jobs.spawn(async move {
            let commit = Commit {
                ops,
                ..Commit::default()
            };
            let revision = match store.commit(commit).await {
                Ok(committed) => committed.revision,
                Err(error) => return (Err(error), (kept, fresh)),
            };
            {
                let now = clock.now();
                let mut index = index.lock();
                index.tick(now);
                for effect in effects {
                    match effect {
                        Effect::Put(task) => index.put(&task, revision),
                        Effect::Gone(id) => index.remove(id),
                    }
                }
            }
            applies.send_modify(|count| *count += 1);
            drop(kept);
            // Repeats of the request have waited for the answer that was committed with it.
            drop(fresh);
            (Ok(revision), (None, None))
        });
        job.await.map_err(Error::internal)
    }
}

impl App {
    /// Fails unless an agent can be given tasks. NOT_FOUND: there is none, or it is not the caller's to see.
    async fn known_agent(&self, caller: &Caller, agent: AgentId) -> Result<()> {
        self.get_agent(caller, agent).await.map(drop)
    }
}

/// What one is told whose change came too late, every time.
fn too_busy(id: TaskId) -> Error {
    Error::new(
        Code::Stale,
        format!("{id} is being changed all the time; read it again and repeat"),
    )
}

#[cfg(test)]
mod tests;
