//! Making worktrees: new ones, and ones of what a removal has kept.

use super::operate::unfit;
use super::{ShownWorktree, look};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::idempotency::{Begin, digest};
use crate::app::sight::beyond;
use crate::app::{failure, records};
use crate::base::id::{CommandId, DaemonId, WorktreeId};
use crate::base::page::PageRequest;
use crate::base::{Code, Error, Result};
use crate::domain::daemon::{DirectoryEntry, DirectoryQuery};
use crate::domain::policy::is_within;
use crate::domain::worktree::{
    Create, Kind, Look, Operation, OrderBody, Outcome, Place, Recoverable, State, name, order,
};
use crate::domain::{Worktree, field};
use crate::store::{Commit, Expect};

impl App {
    /// Makes a worktree.
    pub async fn create_worktree(
        &self,
        caller: &Caller,
        request_id: &str,
        daemon_id: Option<DaemonId>,
        create: Create,
    ) -> Result<ShownWorktree> {
        create.check()?;
        let detail = format!("{daemon_id:?} {create:?}");
        self.make(
            caller,
            "CreateWorktree",
            request_id,
            daemon_id,
            create,
            &detail,
        )
        .await
    }

    /// Makes a worktree of what a removal has kept.
    pub async fn recover_worktree(
        &self,
        caller: &Caller,
        request_id: &str,
        daemon_id: Option<DaemonId>,
        repository: String,
        recover_ref: String,
        branch: String,
    ) -> Result<ShownWorktree> {
        if recover_ref.is_empty() {
            return Err(Error::invalid("recover_ref", "is missing"));
        }
        order::snapshot_ref("recover_ref", &recover_ref)?;
        let detail = format!("{daemon_id:?} {repository} {recover_ref} {branch}");
        let id = recover_ref
            .strip_prefix(order::RECOVER_REFS)
            .and_then(|rest| rest.split('/').next())
            .unwrap_or_default();
        let old = match WorktreeId::parse("recover_ref", id) {
            Ok(id) => self.worktree_record(caller, id).await.ok(),
            Err(_) => None,
        };
        let (agent_name, task_id, title, target) = match old {
            Some((old, _)) => (old.agent_name, old.task_id, old.title, old.place.target),
            None => (
                "recovered".to_owned(),
                String::new(),
                String::new(),
                String::new(),
            ),
        };
        let now = self.clock().now();
        let id = WorktreeId::generate(now).to_string().to_lowercase();
        let end = id.get(id.len().saturating_sub(6)..).unwrap_or_default();
        let own = format!("{}-{end}", name::stamp(now));
        let create = Create {
            repository,
            agent_name,
            task_id,
            title,
            branch: match branch.as_str() {
                "" => format!("recover/{own}"),
                _ => branch,
            },
            directory: format!("recovered-{own}"),
            target,
            snapshot: recover_ref,
            ..Create::default()
        };
        create.check()?;
        self.make(
            caller,
            "RecoverWorktree",
            request_id,
            daemon_id,
            create,
            &detail,
        )
        .await
    }

    async fn make(
        &self,
        caller: &Caller,
        method: &str,
        request_id: &str,
        daemon_id: Option<DaemonId>,
        mut create: Create,
        detail: &str,
    ) -> Result<ShownWorktree> {
        let begun = self
            .idempotency()
            .begin(caller, method, request_id, digest(detail.as_bytes()))
            .await?;
        let (id, operation) = match begun {
            Begin::Repeat(answer) => {
                let text = std::str::from_utf8(&answer).map_err(Error::internal)?;
                let (id, operation) = text
                    .split_once(' ')
                    .ok_or_else(|| Error::internal("an answer that is kept is damaged"))?;
                (id.parse()?, operation.parse()?)
            }
            Begin::Fresh(fresh) => {
                let daemon = self
                    .repository_daemon(caller, daemon_id, &create.repository)
                    .await?;
                let now = self.clock().now();
                create.asked_at = now;
                let (id, operation) = (WorktreeId::generate(now), CommandId::generate(now));
                let _driven = self.worktrees().drive(operation);
                let worktree = Worktree {
                    id,
                    daemon_id: daemon,
                    place: Place {
                        repository: create.repository.clone(),
                        branch: create.branch.clone(),
                        base: create.base.clone(),
                        target: create.target.clone(),
                        ..Place::default()
                    },
                    state: State::Creating,
                    agent_name: create.agent_name.clone(),
                    task_id: create.task_id.clone(),
                    title: create.title.clone(),
                    look: Look::default(),
                    looked_at: None,
                    merged: None,
                    operation: Some(Operation {
                        id: operation,
                        kind: Kind::Create,
                        body: OrderBody::Create(Box::new(create)),
                        since: now,
                    }),
                    finished: None,
                    failure: String::new(),
                    recover_ref: String::new(),
                    created_at: now,
                    updated_at: now,
                    created_by: caller.actor(),
                };
                let mut ops = vec![records::put(
                    records::worktree_key(id),
                    &worktree,
                    Expect::Absent,
                )?];
                ops.extend(fresh.op(format!("{id} {operation}").as_bytes()));
                let commit = Commit {
                    ops,
                    ..Commit::default()
                };
                let stored = self.store().commit(commit).await;
                stored.map_err(failure::from_store)?;
                drop(fresh);
                return self.made(caller, id, operation).await;
            }
        };
        self.made(caller, id, operation).await
    }

    async fn made(
        &self,
        caller: &Caller,
        id: WorktreeId,
        operation: CommandId,
    ) -> Result<ShownWorktree> {
        let done = self.drive(id, operation).await?;
        done.result?;
        look::shown(self, caller, done.worktree, done.revision).await
    }

    /// What removals have kept in a repository.
    pub async fn list_recoverable(
        &self,
        caller: &Caller,
        daemon_id: Option<DaemonId>,
        repository: String,
    ) -> Result<Vec<Recoverable>> {
        let daemon = self
            .repository_daemon(caller, daemon_id, &repository)
            .await?;
        let body = OrderBody::ListRecoverable { repository };
        match self.ask_worktrees(daemon, None, body).await? {
            Outcome::Recoverable(found) => Ok(found),
            _ => Err(unfit()),
        }
    }

    /// The daemon of a repository, which the caller may work with: the one asked for, or the one that is
    /// linked and allows the directory.
    async fn repository_daemon(
        &self,
        caller: &Caller,
        daemon_id: Option<DaemonId>,
        repository: &str,
    ) -> Result<DaemonId> {
        if repository.is_empty() {
            return Err(Error::invalid("repository", "is missing"));
        }
        field::path("repository", repository)?;
        let daemon = match daemon_id {
            Some(id) => id,
            None => self.only_daemon(Some(repository)).await?,
        };
        if !caller.may_start(daemon, repository) {
            return Err(beyond(
                caller,
                "works with repositories in its projects only",
            ));
        }
        self.worktree_daemon(daemon).await?;
        if caller.narrowing.is_some() {
            // A directory within a project may belong to a repository around it, which is not the caller's.
            let query = DirectoryQuery {
                path: repository.to_owned(),
                hidden: true,
                brief: false,
            };
            let found = self.list_directory(caller, daemon, query).await?;
            let is_top = |entry: &DirectoryEntry| entry.name == ".git" && entry.is_directory;
            if !found.entries.iter().any(is_top) {
                return Err(beyond(
                    caller,
                    "works with repositories whose top directory lies in its projects only",
                ));
            }
        }
        Ok(daemon)
    }

    /// The one linked daemon, of those that allow a directory if there is one.
    pub(super) async fn only_daemon(&self, directory: Option<&str>) -> Result<DaemonId> {
        let page = PageRequest {
            size: crate::base::page::MAX_PAGE_SIZE,
            after: None,
        };
        let mut fit = Vec::new();
        for shown in self.daemons(false, &page).await?.items {
            let allows = directory.is_none_or(|directory| {
                let roots = &shown.daemon.offer.roots;
                roots.iter().any(|root| is_within(directory, root))
            });
            if allows && self.relay().is_linked(shown.daemon.id) {
                fit.push(shown.daemon);
            }
        }
        match fit.as_slice() {
            [one] => Ok(one.id),
            [] => Err(Error::new(
                Code::NoDaemon,
                "no linked daemon allows that directory; name a daemon to hear why it does not",
            )),
            several => Err(Error::invalid(
                "daemon_id",
                format!(
                    "is missing, and {} linked daemons would do; name one",
                    several.len()
                ),
            )),
        }
    }
}
