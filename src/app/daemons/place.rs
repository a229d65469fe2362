//! On which machine a session runs.

use std::time::Duration;

use super::{Presence, ShownDaemon};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::sessions::{NewSession, Room};
use crate::app::sight::beyond;
use crate::base::id::DaemonId;
use crate::base::page::PageRequest;
use crate::base::{Code, Error, Result};
use crate::domain::harness::PermissionMode;
use crate::domain::policy::is_within;
use crate::domain::session::Mode;
use crate::domain::{Daemon, Session};

impl App {
    /// Keeps room for a new session on the daemon that it is placed on.
    pub(in crate::app) async fn place_in(
        &self,
        caller: &Caller,
        new: &NewSession,
        room: &Room,
    ) -> Result<Daemon> {
        loop {
            let daemon = self.place(caller, new).await?;
            match room.claim(&daemon) {
                Ok(()) => return Ok(daemon),
                Err(full) if new.daemon_id.is_some() => return Err(full),
                // Another took the last place meanwhile; there may be one elsewhere.
                Err(_) => {}
            }
        }
    }

    /// The daemon that a new session is placed on: the one asked for, or of those that fit one that has the directory,
    /// rather in a repository, and of these the one on which the fewest sessions live or are being made.
    pub(crate) async fn place(&self, caller: &Caller, new: &NewSession) -> Result<Daemon> {
        if let Some(id) = new.daemon_id {
            let shown = self.get_daemon(id).await?;
            if !caller.may_start(id, &new.cwd) {
                return Err(beyond(caller, "starts sessions in its projects only"));
            }
            self.fits(&shown, new)?;
            return Ok(shown.daemon);
        }
        let mut fitting: Vec<ShownDaemon> = Vec::new();
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
                    Ok(()) => fitting.push(shown),
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
        // Stable: of those with as many, the oldest.
        fitting.sort_by_cached_key(|shown| self.sessions().taken(shown.daemon.id));
        let best = match fitting.len() {
            // One says by itself what it thinks of the directory.
            2.. if !new.cwd.is_empty() => match self.richest(&fitting, &new.cwd).await {
                Some((shown, Presence::Absent)) => {
                    reasons.insert(
                        0,
                        format!(
                            "{} and others that would do have no directory {}",
                            shown.daemon.name, new.cwd
                        ),
                    );
                    None
                }
                found => found.map(|(shown, _)| shown),
            },
            _ => fitting.first(),
        };
        match best {
            Some(shown) => Ok(shown.daemon.clone()),
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
        self.sessions().has_room(&shown.daemon)
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

    /// Whether a daemon's own policy allows a permission mode.
    pub(crate) async fn mode_allowed(&self, id: DaemonId, mode: PermissionMode) -> Result<()> {
        let shown = self.get_daemon(id).await?;
        self.mode_fits(&shown.daemon, mode)
    }

    /// Whether a session's daemon, which has the history of its conversation, can run its successor now.
    /// With `may_wait` it need not be linked. The successor's room is kept there.
    pub(in crate::app) async fn placed_again(
        &self,
        old: &Session,
        mode: PermissionMode,
        may_wait: bool,
        room: &Room,
    ) -> Result<()> {
        let shown = self.get_daemon(old.daemon_id).await?;
        if !may_wait {
            self.linked(&shown.daemon)?;
        }
        self.mode_fits(&shown.daemon, mode)?;
        room.claim(&shown.daemon)
    }
}
