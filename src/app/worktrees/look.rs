//! Looking at worktrees.

use std::collections::HashSet;

use super::operate::unfit;
use super::{ShownWorktree, sees};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::{failure, records};
use crate::base::id::{DaemonId, WorktreeId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Error, Result};
use crate::domain::policy::is_within;
use crate::domain::worktree::{Diff, OrderBody, Outcome, State};
use crate::domain::{Lifecycle, Session, Worktree, field};

/// Records read at once.
const CHUNK: usize = 200;

/// Which worktrees are listed.
#[derive(Clone, Debug, Default)]
pub struct WorktreeFilter {
    /// Only of this daemon.
    pub daemon_id: Option<DaemonId>,
    /// Only of this repository; empty is all.
    pub repository: String,
    /// Also those that are archived.
    pub all: bool,
}

impl App {
    /// One worktree, looked at now if its daemon is linked.
    pub async fn get_worktree(&self, caller: &Caller, id: WorktreeId) -> Result<ShownWorktree> {
        let (worktree, revision) = self.worktree_record(caller, id).await?;
        let (worktree, revision) = self.settle_worktree(worktree, revision).await?;
        let is_idle = worktree.operation.is_none() && worktree.state != State::Archived;
        if !is_idle {
            return shown(self, caller, worktree, revision).await;
        }
        let looked = self
            .ask_worktrees(worktree.daemon_id, Some(id), OrderBody::Look)
            .await;
        let look = match looked {
            Ok(Outcome::Looked(looked)) => looked.look,
            Ok(_) => return Err(unfit()),
            // What was seen last is better than nothing.
            Err(error) => {
                tracing::debug!(worktree = %id, %error, "a worktree could not be looked at");
                None
            }
        };
        let Some(look) = look else {
            return shown(self, caller, worktree, revision).await;
        };
        if look == worktree.look {
            return shown(self, caller, worktree, revision).await;
        }
        let (worktree, revision) = self
            .change_worktree(id, |worktree, now| worktree.saw(look.clone(), now))
            .await?;
        shown(self, caller, worktree, revision).await
    }

    /// Worktrees that the caller sees, oldest first, as they were when they were looked at last.
    pub async fn list_worktrees(
        &self,
        caller: &Caller,
        filter: &WorktreeFilter,
        page: &PageRequest,
    ) -> Result<Page<ShownWorktree>> {
        field::path("repository", &filter.repository)?;
        let mut after = match &page.after {
            Some(id) => Some(records::worktree_key(id.parse()?)),
            None => None,
        };
        let living = self.living_sessions(filter.daemon_id).await?;
        let mut items: Vec<ShownWorktree> = Vec::new();
        loop {
            let chunk = self
                .store()
                .scan(records::WORKTREES, after.as_deref(), CHUNK)
                .await
                .map_err(failure::from_store)?;
            for record in &chunk {
                let worktree: Worktree = records::decode(record)?;
                let is_asked = filter.daemon_id.is_none_or(|id| id == worktree.daemon_id)
                    && (filter.repository.is_empty()
                        || filter.repository == worktree.place.repository)
                    && (filter.all || worktree.state != State::Archived);
                if !is_asked || !sees(caller, &worktree) {
                    continue;
                }
                if items.len() == page.size {
                    let next = items.last().map(|last| last.worktree.id.to_string());
                    return Ok(Page { items, next });
                }
                items.push(with_sessions(caller, worktree, record.revision, &living));
            }
            match chunk.last() {
                Some(last) if chunk.len() == CHUNK => after = Some(last.key.clone()),
                _ => return Ok(Page { items, next: None }),
            }
        }
    }

    /// How a worktree differs from its target.
    pub async fn worktree_diff(
        &self,
        caller: &Caller,
        id: WorktreeId,
        max_bytes: u32,
    ) -> Result<Diff> {
        let (worktree, _) = self.worktree_record(caller, id).await?;
        if worktree.state == State::Archived {
            return Err(Error::state("the worktree is gone"));
        }
        let body = OrderBody::Diff { max_bytes };
        match self
            .ask_worktrees(worktree.daemon_id, Some(id), body)
            .await?
        {
            Outcome::Diff(diff) => Ok(diff),
            _ => Err(unfit()),
        }
    }

    /// Those of some worktrees, each with the revision of its record, that the caller sees, as they are shown.
    pub(in crate::app) async fn show_worktrees(
        &self,
        caller: &Caller,
        worktrees: Vec<(Worktree, u64)>,
    ) -> Result<Vec<ShownWorktree>> {
        let (daemons, seen): (HashSet<DaemonId>, Vec<_>) = worktrees
            .into_iter()
            .filter(|(worktree, _)| sees(caller, worktree))
            .map(|(worktree, revision)| (worktree.daemon_id, (worktree, revision)))
            .unzip();
        let mut living = Vec::new();
        for daemon in daemons {
            living.extend(self.living_sessions(Some(daemon)).await?);
        }
        let show = |(worktree, revision)| with_sessions(caller, worktree, revision, &living);
        Ok(seen.into_iter().map(show).collect())
    }

    /// All living sessions, of one daemon or of all.
    pub(super) async fn living_sessions(&self, daemon: Option<DaemonId>) -> Result<Vec<Session>> {
        let mut sessions = Vec::new();
        for id in self.sessions().living(daemon) {
            sessions.extend(self.session_record(id).await?.map(|(session, _)| session));
        }
        Ok(sessions)
    }

    /// [`crate::base::Code::InvalidState`] if a session lives in a worktree.
    pub(super) async fn nobody_lives_in(&self, worktree: &Worktree) -> Result<()> {
        let living = self.living_sessions(Some(worktree.daemon_id)).await?;
        match living.iter().find(|session| lives_in(session, worktree)) {
            None => Ok(()),
            Some(session) => Err(Error::state(format!(
                "session {} lives in the worktree; end it first",
                session.id
            ))
            .with("session", session.id)),
        }
    }
}

/// Whether a session works in a worktree.
pub(super) fn lives_in(session: &Session, worktree: &Worktree) -> bool {
    session.daemon_id == worktree.daemon_id
        && !worktree.place.path.is_empty()
        && is_within(&session.cwd, &worktree.place.path)
}

/// A worktree as it is shown to the caller.
pub(super) async fn shown(
    app: &App,
    caller: &Caller,
    worktree: Worktree,
    revision: u64,
) -> Result<ShownWorktree> {
    let living = app.living_sessions(Some(worktree.daemon_id)).await?;
    Ok(with_sessions(caller, worktree, revision, &living))
}

fn with_sessions(
    caller: &Caller,
    worktree: Worktree,
    revision: u64,
    living: &[Session],
) -> ShownWorktree {
    let within: Vec<&Session> = living
        .iter()
        .filter(|session| lives_in(session, &worktree))
        .collect();
    let is_suspended = !within.is_empty()
        && within
            .iter()
            .all(|session| session.lifecycle == Lifecycle::Suspended);
    let state = match worktree.state {
        State::Active if is_suspended => State::Suspended,
        state => state,
    };
    ShownWorktree {
        state,
        revision,
        session_ids: within
            .iter()
            .filter(|session| caller.sees(session))
            .map(|session| session.id.to_string())
            .collect(),
        worktree,
    }
}
