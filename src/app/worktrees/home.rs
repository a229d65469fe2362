//! Which repository and which worktree a caller means who says less than their ids.

use super::{ShownWorktree, WorktreeFilter};
use crate::app::App;
use crate::app::access::Caller;
use crate::base::id::DaemonId;
use crate::base::page::{MAX_PAGE_SIZE, PageRequest};
use crate::base::{Code, Error, Result};
use crate::domain::Worktree;
use crate::domain::daemon::DirectoryQuery;

impl App {
    /// The repository that is meant by a caller who may name a daemon or a directory of one and need not: the first
    /// of the daemon's roots that is one, of the one daemon that is linked and has such a root.
    /// `WORKTREES_DISABLED`: there is none; `NO_DAEMON`; `INVALID_INPUT`: several daemons have one.
    pub async fn home_repository(
        &self,
        caller: &Caller,
        daemon: Option<DaemonId>,
        repository: Option<String>,
    ) -> Result<(DaemonId, String)> {
        if let Some(repository) = repository.filter(|it| !it.is_empty()) {
            crate::domain::field::path("repo", &repository)?;
            let daemon = match daemon {
                Some(daemon) => self.get_daemon(daemon).await?.daemon.id,
                None => self.only_daemon(Some(&repository)).await?,
            };
            return Ok((daemon, repository));
        }
        if let Some(daemon) = daemon {
            let found = self.repository_root(caller, daemon).await?;
            return Ok((daemon, found));
        }
        let page = PageRequest {
            size: MAX_PAGE_SIZE,
            after: None,
        };
        let mut daemons = self.daemons(false, &page).await?.items;
        daemons.retain(|shown| self.relay().is_linked(shown.daemon.id));
        let mut found = Vec::new();
        let mut refused = Error::new(Code::NoDaemon, "no daemon is linked");
        for shown in daemons {
            match self.repository_root(caller, shown.daemon.id).await {
                Ok(repository) => found.push((shown.daemon.id, repository)),
                Err(error) => refused = error,
            }
        }
        match found.len() {
            0 => Err(refused),
            1 => Ok(found.remove(0)),
            several => Err(Error::invalid(
                "daemon",
                format!("is missing, and {several} linked daemons have a repository; name one"),
            )),
        }
    }

    async fn repository_root(&self, caller: &Caller, daemon: DaemonId) -> Result<String> {
        let name = self.worktree_daemon(daemon).await?.name;
        let roots = self
            .list_directory(caller, daemon, DirectoryQuery::default())
            .await?;
        let repository = roots.entries.into_iter().find(|root| root.is_repository);
        repository.map(|root| root.path).ok_or_else(|| {
            Error::new(
                Code::WorktreesDisabled,
                format!("{name}: none of its roots is a git repository; name one"),
            )
        })
    }

    /// The worktree of this id, path, path from its repository's top, directory name or branch, of those that the
    /// caller sees and the filter lists. `NOT_FOUND`; `INVALID_INPUT`: it is the name of several.
    pub async fn find_worktree(
        &self,
        caller: &Caller,
        filter: &WorktreeFilter,
        name: &str,
    ) -> Result<ShownWorktree> {
        let not_found = || Error::not_found("worktree", format!("{name:?}"));
        let plain = name.strip_suffix('/').unwrap_or(name);
        if plain.is_empty() {
            return Err(not_found());
        }
        let mut page = PageRequest {
            size: MAX_PAGE_SIZE,
            after: None,
        };
        let mut fit = Vec::new();
        loop {
            let found = self.list_worktrees(caller, filter, &page).await?;
            for shown in found.items {
                if is_called(&shown.worktree, plain) {
                    fit.push(shown);
                }
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        match fit.len() {
            0 => Err(not_found()),
            1 => Ok(fit.remove(0)),
            several => Err(Error::invalid(
                "worktree",
                format!("is the name of {several} worktrees; give its path or id"),
            )),
        }
    }
}

fn is_called(worktree: &Worktree, name: &str) -> bool {
    let place = &worktree.place;
    worktree.id.to_string() == name
        || place.branch == name
        || !place.path.is_empty()
            && (place.path == name
                || worktree.relative_path() == name
                || place.path.rsplit('/').next() == Some(name))
}
