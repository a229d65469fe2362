//! Daemons: looking at them, taking them out of service, placing sessions on them.

use std::time::Duration;

use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::app::records;
use crate::app::sessions::NewSession;
use crate::app::sight::beyond;
use crate::base::id::DaemonId;
use crate::base::page::{Page, PageRequest};
use crate::base::{Code, Error, Result};
use crate::domain::daemon::{Directory, DirectoryEntry};
use crate::domain::harness::PermissionMode;
use crate::domain::policy::is_within;
use crate::domain::session::Mode;
use crate::domain::{Daemon, EndInfo, EndReason, Narrowing, Session};
use crate::store::{Commit, Expect};

/// How long a daemon may take to look something up.
const QUERY_DEADLINE: Duration = Duration::from_secs(10);
/// How often a change of a daemon's record is tried when others change it too.
const ATTEMPTS: usize = 8;

/// A daemon with what else is shown of it.
#[derive(Clone, Debug)]
pub struct ShownDaemon {
    /// The daemon.
    pub daemon: Daemon,
    /// Revision of its record.
    pub revision: u64,
    /// Living sessions; of those that the caller sees, if it is shown to one.
    pub living: u32,
}

impl App {
    /// One daemon as it is shown to the caller.
    pub async fn show_daemon(&self, caller: &Caller, id: DaemonId) -> Result<ShownDaemon> {
        let (daemon, revision) = records::get(self.store().as_ref(), &records::daemon_key(id))
            .await?
            .ok_or_else(|| Error::not_found("daemon", id))?;
        self.show_daemon_record(caller, daemon, revision).await
    }

    /// A daemon's record as it is shown to the caller: every caller sees every daemon, but of what runs there
    /// only what is the caller's to see.
    pub(crate) async fn show_daemon_record(
        &self,
        caller: &Caller,
        daemon: Daemon,
        revision: u64,
    ) -> Result<ShownDaemon> {
        let living = self.count_living(caller, Some(daemon.id)).await?;
        Ok(ShownDaemon {
            daemon,
            revision,
            living,
        })
    }

    /// Daemons as they are shown to the caller, oldest first.
    pub async fn list_daemons(
        &self,
        caller: &Caller,
        attached_only: bool,
        page: &PageRequest,
    ) -> Result<Page<ShownDaemon>> {
        let mut page = self.daemons(attached_only, page).await?;
        if caller.narrowing.is_none() {
            return Ok(page);
        }
        for shown in &mut page.items {
            shown.living = self.count_living(caller, Some(shown.daemon.id)).await?;
        }
        Ok(page)
    }

    /// One daemon.
    pub(crate) async fn get_daemon(&self, id: DaemonId) -> Result<ShownDaemon> {
        let (daemon, revision) = records::get(self.store().as_ref(), &records::daemon_key(id))
            .await?
            .ok_or_else(|| Error::not_found("daemon", id))?;
        self.shown_daemon(daemon, revision).await
    }

    async fn shown_daemon(&self, daemon: Daemon, revision: u64) -> Result<ShownDaemon> {
        let living = self.sessions().living_count(Some(daemon.id));
        Ok(ShownDaemon {
            daemon,
            revision,
            living: u32::try_from(living).unwrap_or(u32::MAX),
        })
    }

    /// Daemons, oldest first.
    pub(crate) async fn daemons(
        &self,
        attached_only: bool,
        page: &PageRequest,
    ) -> Result<Page<ShownDaemon>> {
        let mut after = match &page.after {
            Some(id) => Some(records::daemon_key(id.parse()?)),
            None => None,
        };
        let mut items = Vec::new();
        loop {
            let chunk = self
                .store()
                .scan(records::DAEMONS, after.as_deref(), 200)
                .await
                .map_err(failure::from_store)?;
            for record in &chunk {
                let daemon: Daemon = records::decode(record)?;
                if attached_only && !daemon.attached {
                    continue;
                }
                if items.len() == page.size {
                    let next = items
                        .last()
                        .map(|shown: &ShownDaemon| shown.daemon.id.to_string());
                    return Ok(Page { items, next });
                }
                items.push(self.shown_daemon(daemon, record.revision).await?);
            }
            match chunk.last() {
                Some(last) if chunk.len() == 200 => after = Some(last.key.clone()),
                _ => return Ok(Page { items, next: None }),
            }
        }
    }

    /// Changes a daemon's record; repeats when somebody else changed it meanwhile.
    pub(crate) async fn change_daemon(
        &self,
        id: DaemonId,
        change: impl Fn(&mut Daemon),
    ) -> Result<Daemon> {
        for _ in 0..ATTEMPTS {
            let (mut daemon, revision) =
                records::get::<Daemon>(self.store().as_ref(), &records::daemon_key(id))
                    .await?
                    .ok_or_else(|| Error::not_found("daemon", id))?;
            change(&mut daemon);
            let op = records::put(records::daemon_key(id), &daemon, Expect::Revision(revision))?;
            let outcome = self
                .store()
                .commit(Commit {
                    ops: vec![op],
                    ..Commit::default()
                })
                .await;
            match outcome {
                Ok(_) => return Ok(daemon),
                Err(crate::store::Error::Stale { .. }) => {}
                Err(error) => return Err(failure::from_store(error)),
            }
        }
        Err(Error::new(
            Code::Stale,
            "the daemon's record changes too fast; try again",
        ))
    }

    /// Takes a daemon out of service, or back.
    pub async fn drain_daemon(&self, id: DaemonId, undo: bool) -> Result<ShownDaemon> {
        self.change_daemon(id, |daemon| daemon.draining = !undo)
            .await?;
        self.get_daemon(id).await
    }

    /// Forgets a daemon and revokes its credential.
    pub async fn remove_daemon(&self, id: DaemonId, force: bool) -> Result<()> {
        self.get_daemon(id).await?;
        let living = self.sessions().living(Some(id));
        if !living.is_empty() && !force {
            return Err(Error::state(format!(
                "the daemon has {} living sessions; end them first, or use force",
                living.len()
            )));
        }
        for session in living {
            self.sessions()
                .step(session, |step| {
                    if !step.live.session.lifecycle.is_living() {
                        return Ok(());
                    }
                    let reason = match step.live.is_unstarted() {
                        true => EndReason::Canceled,
                        false => EndReason::Lost,
                    };
                    step.end(EndInfo::because(reason, "its daemon was removed"), false)
                })
                .await?;
        }
        self.access().remove_daemon(id, Commit::default()).await?;
        self.relay().close(
            id,
            Error::new(
                Code::Unauthenticated,
                "the daemon was removed from this server",
            ),
        );
        Ok(())
    }

    /// Lists a directory on a daemon's machine; of a narrowed caller's projects only.
    pub async fn list_directory(
        &self,
        caller: &Caller,
        id: DaemonId,
        path: String,
        hidden: bool,
    ) -> Result<Directory> {
        self.get_daemon(id).await?;
        if !path.is_empty() && (!path.starts_with('/') || path.contains('\0')) {
            return Err(Error::invalid(
                "path",
                "must be absolute, or empty for the allowed roots",
            ));
        }
        match &caller.narrowing {
            None => self.look_into(id, path, hidden).await,
            Some(narrowing) if path.is_empty() => self.project_roots(id, narrowing).await,
            Some(narrowing) => {
                if !narrowing.has_place(id, &path) {
                    return Err(beyond(caller, "looks into its projects only"));
                }
                let found = self.look_into(id, path, hidden).await?;
                if self.lies_within(id, narrowing, &found.path).await? {
                    return Ok(found);
                }
                Err(beyond(caller, "looks into its projects only"))
            }
        }
    }

    async fn look_into(&self, id: DaemonId, path: String, hidden: bool) -> Result<Directory> {
        self.relay()
            .list_directory(id, path, hidden, QUERY_DEADLINE)
            .await
    }

    /// What a narrowed caller is shown instead of a daemon's roots: the roots that lie in its projects, and its
    /// projects that lie in a root.
    async fn project_roots(&self, id: DaemonId, narrowing: &Narrowing) -> Result<Directory> {
        if narrowing.projects.is_empty() {
            return Ok(Directory::default());
        }
        let mut roots = self.look_into(id, String::new(), true).await?;
        roots
            .entries
            .retain(|root| narrowing.has_place(id, &root.path));
        for project in &narrowing.projects {
            let listed = |root: &DirectoryEntry| root.path == project.directory;
            if !project.holds(id, &project.directory) || roots.entries.iter().any(listed) {
                continue;
            }
            // The daemon refuses what is outside of its roots, and what is not there, in the same words.
            let found = match self.look_into(id, project.directory.clone(), true).await {
                Ok(found) => found,
                Err(error) if matches!(error.code(), Code::Forbidden | Code::InvalidState) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            roots.entries.push(DirectoryEntry {
                name: project.directory.clone(),
                path: project.directory.clone(),
                is_directory: true,
                is_repository: found.entries.iter().any(|entry| entry.name == ".git"),
            });
        }
        Ok(roots)
    }

    /// Whether a directory that the daemon has resolved lies in a project, whose own directory may be reached
    /// by a link.
    async fn lies_within(
        &self,
        id: DaemonId,
        narrowing: &Narrowing,
        resolved: &str,
    ) -> Result<bool> {
        if narrowing.has_place(id, resolved) {
            return Ok(true);
        }
        for project in &narrowing.projects {
            if !project.holds(id, &project.directory) {
                continue;
            }
            match self.look_into(id, project.directory.clone(), false).await {
                Ok(own) if is_within(resolved, &own.path) => return Ok(true),
                Ok(_) => {}
                Err(error) if matches!(error.code(), Code::Forbidden | Code::InvalidState) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// The daemon that a new session is placed on: the one asked for, or of those that fit the one with
    /// the fewest living sessions.
    pub(crate) async fn place(&self, caller: &Caller, new: &NewSession) -> Result<Daemon> {
        if let Some(id) = new.daemon_id {
            let shown = self.get_daemon(id).await?;
            if !caller.may_start(id, &new.cwd) {
                return Err(beyond(caller, "starts sessions in its projects only"));
            }
            self.fits(&shown, new)?;
            return Ok(shown.daemon);
        }
        let mut best: Option<ShownDaemon> = None;
        let mut reasons = Vec::new();
        let mut page = PageRequest {
            size: crate::base::page::MAX_PAGE_SIZE,
            after: None,
        };
        loop {
            let daemons = self.daemons(false, &page).await?;
            for shown in daemons.items {
                if !caller.may_start(shown.daemon.id, &new.cwd) {
                    continue;
                }
                match self.fits(&shown, new) {
                    Ok(()) if best.as_ref().is_none_or(|best| shown.living < best.living) => {
                        best = Some(shown);
                    }
                    Ok(()) => {}
                    Err(error) => {
                        reasons.push(format!("{}: {}", shown.daemon.name, error.message()));
                    }
                }
            }
            match daemons.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        match best {
            Some(shown) => Ok(shown.daemon),
            None if reasons.is_empty() => Err(Error::new(
                Code::NoDaemon,
                "no daemon is known to this server; start one with `baton daemon`",
            )),
            None => {
                reasons.truncate(5);
                Err(Error::new(
                    Code::NoDaemon,
                    format!("no daemon fits. {}", reasons.join(". ")),
                ))
            }
        }
    }

    fn fits(&self, shown: &ShownDaemon, new: &NewSession) -> Result<()> {
        let Daemon { offer, .. } = &shown.daemon;
        self.linked(&shown.daemon)?;
        if shown.daemon.draining {
            return Err(Error::new(
                Code::NoDaemon,
                "it is being drained and takes no new sessions",
            ));
        }
        if !new
            .selector
            .iter()
            .all(|(key, value)| offer.labels.get(key) == Some(value))
        {
            return Err(Error::new(Code::NoDaemon, "it does not have the labels"));
        }
        let harness = offer
            .harnesses
            .iter()
            .find(|harness| harness.name == new.harness);
        match harness {
            None => {
                return Err(Error::new(
                    Code::HarnessUnavailable,
                    format!("it does not know the harness {}", new.harness),
                ));
            }
            Some(harness) if !harness.available => {
                return Err(Error::new(
                    Code::HarnessUnavailable,
                    format!(
                        "{} cannot be used there: {}",
                        harness.name, harness.unavailable_reason
                    ),
                ));
            }
            Some(harness) if new.mode == Mode::Interactive && !harness.capabilities.terminal => {
                return Err(Error::new(
                    Code::NotInteractive,
                    format!("{} does not run in a terminal there", harness.name),
                ));
            }
            Some(_) => {}
        }
        self.mode_fits(&shown.daemon, new.permission_mode.unwrap_or_default())?;
        if !new.cwd.is_empty() && !offer.roots.iter().any(|root| is_within(&new.cwd, root)) {
            return Err(Error::invalid(
                "cwd",
                format!(
                    "is not beneath a directory that it allows ({})",
                    offer.roots.join(", ")
                ),
            ));
        }
        if let Some(name) = new
            .env_names
            .iter()
            .find(|name| !offer.env_names.contains(name))
        {
            return Err(Error::invalid(
                "env_names",
                format!("has {name}, which its own policy does not pass on"),
            ));
        }
        self.has_room(shown)
    }

    pub(crate) fn linked(&self, daemon: &Daemon) -> Result<()> {
        if self.relay().is_linked(daemon.id) {
            return Ok(());
        }
        Err(Error::new(
            Code::DaemonDisconnected,
            format!("the daemon {} is not linked now", daemon.name),
        )
        .retry_after(Duration::from_secs(5)))
    }

    fn mode_fits(&self, daemon: &Daemon, mode: PermissionMode) -> Result<()> {
        if mode > daemon.offer.max_permission_mode {
            return Err(Error::new(
                Code::Forbidden,
                format!(
                    "its own policy allows no permission mode above {}",
                    daemon.offer.max_permission_mode.as_str()
                ),
            ));
        }
        Ok(())
    }

    fn has_room(&self, shown: &ShownDaemon) -> Result<()> {
        let most = shown.daemon.offer.max_sessions;
        if most > 0 && shown.living >= most {
            return Err(Error::new(
                Code::AtCapacity,
                format!("it has as many living sessions as it takes, which is {most}"),
            )
            .retry_after(Duration::from_secs(30)));
        }
        Ok(())
    }

    /// Whether a daemon's own policy allows a permission mode.
    pub(crate) async fn mode_allowed(&self, id: DaemonId, mode: PermissionMode) -> Result<()> {
        let shown = self.get_daemon(id).await?;
        self.mode_fits(&shown.daemon, mode)
    }

    /// Whether a session's daemon, which has the history of its conversation, can run its successor now.
    /// With `may_wait` it need not be linked.
    pub(crate) async fn placed_again(
        &self,
        old: &Session,
        mode: PermissionMode,
        may_wait: bool,
    ) -> Result<()> {
        let shown = self.get_daemon(old.daemon_id).await?;
        if !may_wait {
            self.linked(&shown.daemon)?;
        }
        self.mode_fits(&shown.daemon, mode)?;
        self.has_room(&shown)
    }
}
