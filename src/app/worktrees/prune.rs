//! Removing what can be removed without loss.

use std::time::Duration;

use super::look::lives_in;
use super::operate::unfit;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::sight::beyond;
use crate::app::{failure, records};
use crate::base::Result;
use crate::base::id::{DaemonId, WorktreeId};
use crate::base::page::{MAX_PAGE_SIZE, PageRequest};
use crate::domain::worktree::{Delete, OrderBody, Outcome, Plan, State};
use crate::domain::{Worktree, field};

/// A worktree that was pruned, or could be.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The worktree.
    pub worktree_id: WorktreeId,
    /// Its directory.
    pub path: String,
    /// Why.
    pub reason: String,
    /// Disk space it takes, in bytes.
    pub size_bytes: u64,
    /// Whether it is gone now.
    pub removed: bool,
    /// Why it is not; empty if it is, or if nothing was to be removed.
    pub failure: String,
}

impl App {
    /// Removes the worktrees of a daemon that can be removed without loss and were left alone, or says which.
    pub async fn prune_worktrees(
        &self,
        caller: &Caller,
        daemon_id: Option<DaemonId>,
        repository: String,
        dry_run: bool,
        grace: Option<Duration>,
    ) -> Result<Vec<Pruned>> {
        field::path("repository", &repository)?;
        let daemon = match daemon_id {
            Some(id) => id,
            None => self.only_daemon(None).await?,
        };
        if !repository.is_empty() && !caller.may_start(daemon, &repository) {
            return Err(beyond(
                caller,
                "works with repositories in its projects only",
            ));
        }
        let body = OrderBody::Plan(Plan {
            repository,
            grace,
            keep: self.worktrees_in_use(daemon).await?,
        });
        let Outcome::Plan(candidates) = self.ask_worktrees(daemon, None, body).await? else {
            return Err(unfit());
        };
        let mut pruned = Vec::new();
        for candidate in candidates {
            // One that the caller does not see, or that this server does not know, is left out.
            let Ok((worktree, _)) = self.worktree_record(caller, candidate.worktree_id).await
            else {
                continue;
            };
            let mut one = Pruned {
                worktree_id: candidate.worktree_id,
                path: worktree.place.path,
                reason: candidate.reason,
                size_bytes: candidate.size_bytes,
                removed: false,
                failure: String::new(),
            };
            if !dry_run {
                let delete = Delete::default();
                match self
                    .delete_worktree(caller, "", candidate.worktree_id, None, delete)
                    .await
                {
                    Ok(_) => one.removed = true,
                    Err(error) => error.message().clone_into(&mut one.failure),
                }
            }
            pruned.push(one);
        }
        Ok(pruned)
    }

    /// Does that on every daemon that is linked and has worktrees, each by its own grace period and disk budget; how many
    /// were removed. A daemon that cannot is passed over.
    pub async fn prune_everywhere(&self) -> Result<usize> {
        let caller = Caller::server("pruning");
        let mut removed = 0;
        let mut page = PageRequest {
            size: MAX_PAGE_SIZE,
            after: None,
        };
        loop {
            let daemons = self.daemons(false, &page).await?;
            for shown in daemons.items {
                let daemon = shown.daemon;
                if !daemon.offer.worktrees.available || !self.relay().is_linked(daemon.id) {
                    continue;
                }
                let pruned =
                    self.prune_worktrees(&caller, Some(daemon.id), String::new(), false, None);
                match pruned.await {
                    Ok(pruned) => {
                        for one in pruned.iter().filter(|one| one.removed) {
                            tracing::info!(worktree = %one.worktree_id, path = one.path, reason = one.reason, "a worktree is pruned");
                            removed += 1;
                        }
                    }
                    Err(error) => {
                        tracing::info!(daemon = %daemon.id, ?error, "its worktrees are not pruned now");
                    }
                }
            }
            match daemons.next {
                Some(next) => page.after = Some(next),
                None => return Ok(removed),
            }
        }
    }

    /// Worktrees of a daemon in which something lives or to which something is done.
    async fn worktrees_in_use(&self, daemon: DaemonId) -> Result<Vec<WorktreeId>> {
        let living = self.living_sessions(Some(daemon)).await?;
        let mut used = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let chunk = self
                .store()
                .scan(records::WORKTREES, after.as_deref(), 500)
                .await
                .map_err(failure::from_store)?;
            for record in &chunk {
                let worktree: Worktree = records::decode(record)?;
                let is_used = worktree.operation.is_some()
                    || living.iter().any(|session| lives_in(session, &worktree));
                if worktree.daemon_id == daemon && worktree.state != State::Archived && is_used {
                    used.push(worktree.id);
                }
            }
            match chunk.last() {
                Some(last) if chunk.len() == 500 => after = Some(last.key.clone()),
                _ => return Ok(used),
            }
        }
    }
}
