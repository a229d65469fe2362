//! Daemons: looking at them, taking them out of service, placing sessions on them.

mod directories;
mod place;
mod presence;

pub(crate) use presence::{Presence, Presences};

use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::app::records;
use crate::base::id::DaemonId;
use crate::base::page::{Page, PageRequest};
use crate::base::{Code, Error, Result};
use crate::domain::{Daemon, EndInfo, EndReason};
use crate::store::{Commit, Expect};

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
}
