//! Worktrees: what the server knows of them, and what it has their daemons do.
//!
//! A change is an operation: its id and all that the daemon is asked are stored with the record before the
//! daemon is asked, so that it can be asked again, by a repeat of the request or by whoever looks next
//! (`operate`). The daemon does each operation once.

mod create;
mod home;
mod look;
mod operate;
mod prune;
mod remove;

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::RwLock;

use crate::app::App;
use crate::app::access::Caller;
use crate::app::records;
use crate::base::id::{CommandId, DaemonId, WorktreeId};
use crate::base::{Code, Error, Result};
use crate::domain::worktree::State;
use crate::domain::{Daemon, Worktree};

pub use look::WorktreeFilter;
pub use prune::Pruned;

/// A worktree with what else is shown of it.
#[derive(Clone, Debug)]
pub struct ShownWorktree {
    /// The worktree.
    pub worktree: Worktree,
    /// Revision of its record.
    pub revision: u64,
    /// Where it is in its life, by what lives in it.
    pub state: State,
    /// Living sessions in it that the caller sees.
    pub session_ids: Vec<String>,
}

/// The operations that this process is about.
#[derive(Clone, Default)]
pub struct Worktrees {
    driven: Arc<Mutex<HashSet<CommandId>>>,
    /// Whoever takes an operation up reads its record under this, and whoever gives one up writes it: so that one is
    /// not given up at the moment at which it is taken up.
    taking_up: Arc<RwLock<()>>,
}

/// An operation that this process is about; others leave it alone until this is dropped.
struct Driven {
    id: CommandId,
    driven: Arc<Mutex<HashSet<CommandId>>>,
    is_first: bool,
}

impl Worktrees {
    fn drive(&self, id: CommandId) -> Driven {
        Driven {
            id,
            is_first: self.driven.lock().insert(id),
            driven: self.driven.clone(),
        }
    }

    fn is_driven(&self, id: CommandId) -> bool {
        self.driven.lock().contains(&id)
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        if self.is_first {
            self.driven.lock().remove(&self.id);
        }
    }
}

impl App {
    /// A worktree's record, if the caller sees it. NOT_FOUND: there is none, or it is not the caller's to see.
    pub(crate) async fn worktree_record(
        &self,
        caller: &Caller,
        id: WorktreeId,
    ) -> Result<(Worktree, u64)> {
        records::get(self.store().as_ref(), &records::worktree_key(id))
            .await?
            .filter(|(worktree, _)| sees(caller, worktree))
            .ok_or_else(|| Error::not_found("worktree", id))
    }

    /// A linked daemon that has worktrees.
    async fn worktree_daemon(&self, id: DaemonId) -> Result<Daemon> {
        let daemon = self.get_daemon(id).await?.daemon;
        self.linked(&daemon)?;
        let support = &daemon.offer.worktrees;
        if support.available {
            return Ok(daemon);
        }
        let reason = match support.unavailable_reason.as_str() {
            "" => "the daemon has no worktrees; upgrade it",
            reason => reason,
        };
        Err(Error::new(
            Code::WorktreesDisabled,
            format!("{}: {reason}", daemon.name),
        ))
    }
}

/// Whether the caller sees a worktree: its repository lies in one of the caller's projects.
fn sees(caller: &Caller, worktree: &Worktree) -> bool {
    caller.may_start(worktree.daemon_id, &worktree.place.repository)
}
