//! What callers want of the writer. Bounded; when it is full, callers wait.

use std::collections::VecDeque;
use std::sync::mpsc::{self, SyncSender};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};

use crate::store::{Commit, Committed, Error, Result};

/// A request to the writer.
#[derive(Debug)]
pub(super) enum Request {
    /// Apply a commit.
    Commit {
        commit: Commit,
        answer: oneshot::Sender<Result<Committed>>,
    },
    /// Answer when all that came before is synced; with `roll`, begin a new segment first.
    Barrier {
        roll: bool,
        answer: SyncSender<Result<u64>>,
    },
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    room: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<Request>,
    is_closed: bool,
}

impl Queue {
    /// Holds at most `capacity` commits.
    pub(super) fn new(capacity: usize) -> Self {
        Queue {
            state: Mutex::default(),
            ready: Condvar::new(),
            room: Semaphore::new(capacity),
        }
    }

    /// Adds a commit, after waiting for room.
    pub(super) async fn commit(&self, commit: Commit) -> Result<Committed> {
        let (answer, answered) = oneshot::channel();
        let permit = self.room.acquire().await.map_err(|_| Error::Closed)?;
        self.push(Request::Commit { commit, answer })?;
        // The writer gives it back when it takes the commit.
        permit.forget();
        // Without an answer the writer has died: what became of the commit is not known.
        answered
            .await
            .unwrap_or_else(|_| Err(Error::Io("the writer ended without an answer".into())))
    }

    /// Waits, blocking, until all that was committed before is synced. The answer is the last commit.
    pub(super) fn barrier(&self, roll: bool) -> Result<u64> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.push(Request::Barrier { roll, answer })?;
        answered
            .recv()
            .unwrap_or_else(|_| Err(Error::Io("the writer ended without an answer".into())))
    }

    fn push(&self, request: Request) -> Result<()> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Error::Closed);
        }
        state.requests.push_back(request);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Takes all that waits; blocks until there is something, `deadline` is reached (then it is empty), or
    /// the queue is closed and empty (`None`).
    pub(super) fn take(&self, deadline: Option<Instant>) -> Option<VecDeque<Request>> {
        let mut state = self.state.lock();
        while state.requests.is_empty() {
            if state.is_closed {
                return None;
            }
            match deadline {
                Some(deadline) => {
                    if self.ready.wait_until(&mut state, deadline).timed_out() {
                        break;
                    }
                }
                None => self.ready.wait(&mut state),
            }
        }
        let taken = std::mem::take(&mut state.requests);
        drop(state);
        let commits = taken
            .iter()
            .filter(|request| matches!(request, Request::Commit { .. }))
            .count();
        self.room.add_permits(commits);
        Some(taken)
    }

    /// Whether it takes no more.
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Takes no more; what waits is dropped, so that nobody waits for an answer for ever.
    pub(super) fn abandon(&self) {
        self.close();
        self.state.lock().requests.clear();
    }

    /// Takes no more; what waits is still taken.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.room.close();
        self.ready.notify_all();
    }
}
