//! Does what the server orders: one operation at a time on each worktree, each once.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::diff;
use super::ledger::{Entry, Ledger, Pending, Stage, Step};
use super::lock::{self, Lock};
use super::look::look;
use super::process::{Beyond, Ran, Run, run};
use super::program::Git;
use super::remove::not_ours;
use super::repository::Repository;
use super::tree::Tree;
use crate::base::id::{CommandId, WorktreeId};
use crate::base::{Code, Effect, Error, Result, SharedClock, Timestamp};
use crate::daemon::policy::Policy;
use crate::daemon::supervisor::own_env;
use crate::domain::worktree::order::{Kept, MAX_LISTED, MAX_OUTPUT_BYTES, RECOVER_REFS};
use crate::domain::worktree::{
    Answer, Candidate, Looked, Order, OrderBody, Outcome, Plan, Recoverable, Support,
};

/// What the owner of the machine says about worktrees.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where they are made, in a directory for each repository; `None` is `.worktrees` within the repository.
    pub root: Option<PathBuf>,
    /// Disk space for all of them, in bytes: beyond it, those that can be removed without loss may be removed
    /// before their grace period ends. `None` is no bound.
    pub disk_budget: Option<u64>,
    /// How long one must have been left alone before it may be pruned.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            root: None,
            disk_budget: None,
            grace: Duration::from_secs(7 * 24 * 3_600),
        }
    }
}

/// The worktrees of this machine.
pub struct Room {
    git: Result<Git>,
    options: Options,
    pub(super) policy: Arc<Policy>,
    pub(super) ledger: Ledger,
    pub(super) clock: SharedClock,
    /// Operations that were taken and are not over: they are busy, also while they wait for a thread.
    accepted: Mutex<HashSet<CommandId>>,
}

impl Room {
    /// Reads the ledger in `dir` and looks for git. Without a git that will do, every order is refused.
    pub fn open(
        dir: &Path,
        policy: Arc<Policy>,
        mut options: Options,
        clock: SharedClock,
    ) -> Result<Self> {
        if let Some(root) = &options.root {
            let resolved = root.canonicalize().ok().filter(|root| root.is_dir());
            let resolved = resolved
                .filter(|root| policy.is_inside(root))
                .ok_or_else(|| {
                    Error::invalid(
                        "worktree_root",
                        format!(
                            "{} is no directory beneath a root; sessions could not run there",
                            root.display()
                        ),
                    )
                })?;
            options.root = Some(resolved);
        }
        let git = Git::find();
        if let Err(error) = &git {
            tracing::warn!("there are no worktrees here: {}", error.message());
        }
        Ok(Room {
            git,
            options,
            policy,
            ledger: Ledger::open(dir, clock.now())?,
            clock,
            accepted: Mutex::default(),
        })
    }

    /// What is told the server.
    pub fn support(&self) -> Support {
        Support {
            available: self.git.is_ok(),
            unavailable_reason: self
                .git
                .as_ref()
                .err()
                .map(|error| error.message().to_owned())
                .unwrap_or_default(),
            commands: self.policy.allows_commands(),
        }
    }

    /// Settles what an earlier daemon left in the middle. What cannot be settled now is settled with the next
    /// order about it.
    pub fn settle_all(&self) {
        for held in self.ledger.all() {
            let mut entry = held.lock();
            if let Err(error) = self.reconcile(&mut entry) {
                tracing::warn!(worktree = %entry.id, %error, "a worktree could not be settled");
            }
        }
    }

    /// Takes an order that is handled later, possibly on another thread: who looks meanwhile is told that it is
    /// being done.
    pub fn accept(&self, order: &Order) {
        if !matches!(order.body, OrderBody::Look) {
            self.accepted.lock().extend(order.operation_id);
        }
    }

    /// Does an order. This may take minutes.
    pub fn handle(&self, order: &Order) -> Result<Answer> {
        let result = self.act(order);
        if let (Some(id), false) = (order.operation_id, matches!(order.body, OrderBody::Look)) {
            self.accepted.lock().remove(&id);
        }
        match result {
            // What is answered to an order is certain. This goes on when it is asked for again, or looked at.
            Err(error) if error.effect() == Effect::MaybeDone => Err(error),
            result => Ok(Answer { result }),
        }
    }

    fn act(&self, order: &Order) -> Result<Outcome> {
        self.git()?;
        let worktree = || {
            order
                .worktree_id
                .ok_or_else(|| Error::invalid("worktree_id", "is missing"))
        };
        match &order.body {
            OrderBody::Look => self.look_at(worktree()?, order.operation_id),
            OrderBody::Diff { max_bytes } => self.diff(worktree()?, *max_bytes),
            OrderBody::Plan(plan) => self.plan(plan),
            OrderBody::ListRecoverable { repository } => self.list_recoverable(repository),
            OrderBody::Create(_) | OrderBody::Merge(_) | OrderBody::Delete(_) => {
                let operation = order
                    .operation_id
                    .ok_or_else(|| Error::invalid("operation_id", "is missing"))?;
                self.operate(worktree()?, operation, &order.body)
            }
        }
    }

    fn operate(&self, id: WorktreeId, operation: CommandId, body: &OrderBody) -> Result<Outcome> {
        let held = match body {
            OrderBody::Create(_) => self.ledger.get_or_new(id, self.clock.now()),
            _ => self.ledger.get(id).ok_or_else(|| unknown(id))?,
        };
        let mut entry = held.lock();
        // What was begun before and cannot be finished now is in the way of this, and does not end it.
        self.reconcile(&mut entry).map_err(Error::maybe_done)?;
        if let Some(kept) = entry.result(operation) {
            return kept.result();
        }
        let result = match body {
            OrderBody::Create(create) => self.create(&mut entry, operation, create),
            _ if entry.stage != Stage::Here => Err(Error::state("the worktree is gone")),
            OrderBody::Merge(merge) => self.merge(&mut entry, operation, merge),
            OrderBody::Delete(delete) => self.delete(&mut entry, operation, delete),
            _ => Err(Error::internal("no operation")),
        };
        if let (Err(error), Some(Step::Removing { .. })) =
            (&result, entry.pending.as_ref().map(|it| &it.step))
        {
            // It is decided, what has to be kept is kept, and a part of the files may be gone: it is finished later.
            tracing::warn!(worktree = %id, %error, "a worktree is removed in part; the rest is tried again");
            return result.map_err(Error::maybe_done);
        }
        entry.settle(operation, Kept::of(&result));
        self.ledger.write(&mut entry, self.clock.now())?;
        result
    }

    fn look_at(&self, id: WorktreeId, operation: Option<CommandId>) -> Result<Outcome> {
        let mut looked = Looked {
            look: None,
            busy: false,
            finished: None,
        };
        if operation.is_some_and(|id| self.accepted.lock().contains(&id)) {
            looked.busy = true;
            return Ok(Outcome::Looked(Box::new(looked)));
        }
        if let Some(held) = self.ledger.get(id) {
            let Some(mut entry) = held.try_lock() else {
                looked.busy = true;
                return Ok(Outcome::Looked(Box::new(looked)));
            };
            self.reconcile(&mut entry)?;
            looked.finished = operation.and_then(|id| entry.result(id).cloned());
            if entry.stage == Stage::Here {
                let repository = self.reopen(&entry)?;
                let tree = self.ours(&repository, &entry)?;
                looked.look = Some(look(&repository, &entry, tree.as_ref())?);
            }
        }
        Ok(Outcome::Looked(Box::new(looked)))
    }

    fn diff(&self, id: WorktreeId, max_bytes: u32) -> Result<Outcome> {
        let held = self.ledger.get(id).ok_or_else(|| unknown(id))?;
        // A copy: a difference may be looked at while something is done.
        let entry = held
            .try_lock()
            .map(|entry| entry.clone())
            .ok_or_else(|| Error::state("something is being done to the worktree; try again"))?;
        if entry.stage != Stage::Here {
            return Err(Error::state("the worktree is gone"));
        }
        let repository = self.reopen(&entry)?;
        let tree = self
            .ours(&repository, &entry)?
            .filter(|tree| tree.files.is_dir())
            .ok_or_else(|| Error::state("the worktree's directory is gone"))?;
        let scratch = self.ledger.scratch()?;
        diff::diff(&entry, &tree, &scratch, max_bytes).map(Outcome::Diff)
    }

    fn plan(&self, plan: &Plan) -> Result<Outcome> {
        let only = match plan.repository.as_str() {
            "" => None,
            path => Some(self.open_at(path)?.top),
        };
        let now = self.clock.now();
        let grace = plan.grace.unwrap_or(self.options.grace);
        let mut total = 0_u64;
        let mut clean: Vec<(Timestamp, WorktreeId, u64)> = Vec::new();
        for held in self.ledger.all() {
            // What is being worked on is in use.
            let Some(mut entry) = held.try_lock() else {
                continue;
            };
            if let Err(error) = self.reconcile(&mut entry) {
                tracing::warn!(worktree = %entry.id, %error, "a worktree could not be settled");
                continue;
            }
            if entry.stage != Stage::Here {
                continue;
            }
            let Ok(repository) = self.reopen(&entry) else {
                continue;
            };
            // Without our mark it is not provably ours, whatever the ledger says.
            let Ok(Some(tree)) = self.ours(&repository, &entry) else {
                continue;
            };
            let look = match look(&repository, &entry, Some(&tree)) {
                Ok(look) => look,
                Err(error) => {
                    tracing::warn!(worktree = %entry.id, %error, "a worktree could not be looked at");
                    continue;
                }
            };
            total = total.saturating_add(look.size_bytes);
            let is_asked = only.as_ref().is_none_or(|only| *only == repository.top);
            let is_free = !look.has_work() && !tree.is_locked() && !tree.is_in_the_middle();
            if is_asked && is_free && !plan.keep.contains(&entry.id) {
                clean.push((look.last_used, entry.id, look.size_bytes));
            }
        }
        clean.sort_unstable();
        let mut candidates = Vec::new();
        for (last_used, worktree_id, size_bytes) in clean {
            let idle = now.saturating_since(last_used);
            let over = self.options.disk_budget.filter(|budget| total > *budget);
            let reason = match over {
                _ if idle >= grace => format!("left alone for {} hours", idle.as_secs() / 3_600),
                Some(budget) => format!(
                    "worktrees take {} MiB, and the budget is {} MiB",
                    total >> 20,
                    budget >> 20
                ),
                None => continue,
            };
            total = total.saturating_sub(size_bytes);
            candidates.push(Candidate {
                worktree_id,
                reason,
                size_bytes,
            });
        }
        candidates.truncate(MAX_LISTED);
        Ok(Outcome::Plan(candidates))
    }

    fn list_recoverable(&self, repository: &str) -> Result<Outcome> {
        let repository = self.open_at(repository)?;
        let count = format!("--count={MAX_LISTED}");
        let ran = repository.git().run(repository.at().args([
            "for-each-ref",
            "--sort=-creatordate",
            "--sort=-refname",
            &count,
            "--format=%(refname)%00%(objectname)%00%(parent)%00%(creatordate:unix)%00%(contents:subject)",
            RECOVER_REFS,
        ]))?;
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        let mut found = Vec::new();
        for line in text.lines() {
            let parts: Vec<&str> = line.split('\0').collect();
            let [name, commit, parents, at, subject] = parts.as_slice() else {
                continue;
            };
            let id = name
                .strip_prefix(RECOVER_REFS)
                .and_then(|rest| rest.split('/').next());
            let branch = subject
                .strip_prefix("Work in ")
                .and_then(|rest| rest.strip_suffix(" when it was removed"));
            let seconds: i64 = at.parse().unwrap_or_default();
            found.push(Recoverable {
                recover_ref: (*name).to_owned(),
                worktree_id: id.unwrap_or_default().to_owned(),
                commit: (*commit).to_owned(),
                head: parents.split(' ').next().unwrap_or_default().to_owned(),
                branch: branch.unwrap_or_default().to_owned(),
                at: Timestamp::from_millis(seconds.saturating_mul(1_000)),
            });
        }
        Ok(Outcome::Recoverable(found))
    }

    fn git(&self) -> Result<&Git> {
        self.git.as_ref().map_err(Clone::clone)
    }

    /// The repository that a directory belongs to.
    pub(super) fn open_at(&self, path: &str) -> Result<Repository> {
        Repository::open(
            self.git()?,
            &self.policy,
            path,
            self.options.root.as_deref(),
        )
    }

    /// The repository of an entry, and where its worktrees were when it was made.
    pub(super) fn reopen(&self, entry: &Entry) -> Result<Repository> {
        let mut repository = self.open_at(&entry.place.repository)?;
        if let Some(root) = Path::new(&entry.place.path).parent()
            && self.policy.is_inside(root)
        {
            // The daemon's own root may have been set anew since.
            repository.root = root.to_owned();
        }
        Ok(repository)
    }

    /// The worktree of an entry, if git knows it and it carries our mark.
    pub(super) fn ours(&self, repository: &Repository, entry: &Entry) -> Result<Option<Tree>> {
        let path = PathBuf::from(&entry.place.path);
        let Some(tree) = Tree::find(repository, &path)? else {
            return Ok(None);
        };
        let mark = tree.marked();
        if mark.is_none_or(|mark| mark.worktree_id != entry.id || mark.temporary) {
            return Err(not_ours(&path));
        }
        // A link in its place would lead whoever works on it elsewhere.
        match path.canonicalize() {
            Ok(resolved) if resolved != path => Err(not_ours(&path)),
            _ => Ok(Some(tree)),
        }
    }

    /// Writes down what is done next.
    pub(super) fn step(
        &self,
        entry: &mut Entry,
        operation_id: CommandId,
        step: Step,
    ) -> Result<()> {
        entry.pending = Some(Pending { operation_id, step });
        self.ledger.write(entry, self.clock.now())?;
        super::fault::point(super::fault::STEP);
        Ok(())
    }

    /// [`Code::Forbidden`] for a command that a request brings, unless this machine allows them.
    pub(super) fn may_run(&self, field: &str, argv: &[String]) -> Result<()> {
        if argv.is_empty() || self.policy.allows_commands() {
            return Ok(());
        }
        Err(Error::new(
            Code::Forbidden,
            format!(
                "this daemon does not allow commands, so {field} must be empty; start it with --allow-commands"
            ),
        ))
    }

    /// Runs a command that a request brings, with a session's environment.
    pub(super) fn command(&self, argv: &[String], cwd: &Path, time: Duration) -> Result<Ran> {
        let argv: Vec<OsString> = argv.iter().map(Into::into).collect();
        let env: Vec<(OsString, OsString)> = self
            .policy
            .environment(&[], own_env(), &[])
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        run(Run {
            argv: &argv,
            cwd,
            env: &env,
            stdin: None,
            time,
            max_stdout: MAX_OUTPUT_BYTES,
            beyond: Beyond::DropBeginning,
        })
    }
}

impl Repository {
    /// The repository's lock.
    pub fn lock(&self) -> Result<Lock> {
        Lock::take(&self.common, lock::REPOSITORY, lock::PATIENCE)
    }
}

fn unknown(id: WorktreeId) -> Error {
    Error::new(Code::NotFound, format!("this daemon has no worktree {id}"))
}
