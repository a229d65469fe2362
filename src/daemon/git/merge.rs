//! Merging a worktree's branch: computed without touching any checkout, tried in a temporary one, and the
//! target moved by compare-and-swap. Merges of one repository queue behind each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ledger::{Entry, Step};
use super::lock::{self, Lock};
use super::look::dirt;
use super::process::tail;
use super::refs::full;
use super::remove::{not_ours, remove_files};
use super::repository::Repository;
use super::room::Room;
use super::tree::{Mark, Tree};
use crate::base::id::CommandId;
use crate::base::{Code, Error, Result};
use crate::domain::worktree::order::{COMMAND_TIME, MAX_OUTPUT_BYTES};
use crate::domain::worktree::{Merge, MergeReport, MergeVerdict, Outcome, Strategy};

/// How long a merge waits for those before it.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// How often a merge begins again when somebody else has moved the target.
const ATTEMPTS: usize = 4;
/// The most names of files that do not fit.
const MAX_CONFLICTS: usize = 200;

/// What a merge would make.
enum Computed {
    /// The target has it all.
    Nothing,
    /// This commit.
    Commit(String),
    /// It does not fit.
    Conflict(Vec<String>, String),
}

impl Room {
    /// Merges a worktree's branch. What does not fit or fails its test is no error: the report says so, and
    /// the target is untouched.
    pub(super) fn merge(
        &self,
        entry: &mut Entry,
        operation: CommandId,
        merge: &Merge,
    ) -> Result<Outcome> {
        merge.check()?;
        self.may_run("test", &merge.test)?;
        let repository = self.reopen(entry)?;
        let _queue = Lock::take(&repository.common, lock::MERGE, PATIENCE)?;
        let tree = self
            .ours(&repository, entry)?
            .ok_or_else(|| not_ours(Path::new(&entry.place.path)))?;
        let head = ready(&repository, entry, &tree, merge)?;
        let target = match merge.target.as_str() {
            "" => entry.place.target.clone(),
            target => target.to_owned(),
        };
        if target == entry.place.branch {
            return Err(Error::invalid("target", "is the worktree's own branch"));
        }
        let mut report = MergeReport {
            target: target.clone(),
            head: head.clone(),
            ..MergeReport::default()
        };
        for _ in 0..ATTEMPTS {
            let old = repository.branch(&target)?.ok_or_else(|| {
                Error::invalid(
                    "target",
                    format!("names {target}, which is no branch of the repository"),
                )
            })?;
            report.commit.clone_from(&old);
            let new = match compute(&repository, entry, merge, &target, &old, &head)? {
                Computed::Commit(new) => new,
                Computed::Nothing => {
                    entry.merged(&head);
                    report.verdict = MergeVerdict::Nothing;
                    return Ok(Outcome::Merged(report));
                }
                Computed::Conflict(files, output) => {
                    report.verdict = MergeVerdict::Conflict;
                    report.conflicts = files;
                    report.output = output;
                    return Ok(Outcome::Merged(report));
                }
            };
            if let Some(output) = self.test(&repository, entry, operation, merge, &new)? {
                report.verdict = MergeVerdict::TestFailed;
                report.output = output;
                return Ok(Outcome::Merged(report));
            }
            match self.move_target(&repository, entry, operation, &target, &old, &new, &head) {
                Ok(()) => {
                    entry.merged(&head);
                    report.verdict = MergeVerdict::Merged;
                    report.commit = new;
                    return Ok(Outcome::Merged(report));
                }
                // Somebody who does not ask us has moved it: what was tried is not what would come of it.
                Err(error) if error.code() == Code::Stale => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            Code::Stale,
            format!("{target} is moved by others faster than this merge is done; try again"),
        ))
    }

    /// Runs the test on a result; what it wrote if it failed.
    fn test(
        &self,
        repository: &Repository,
        entry: &mut Entry,
        operation: CommandId,
        merge: &Merge,
        commit: &str,
    ) -> Result<Option<String>> {
        if merge.test.is_empty() {
            return Ok(None);
        }
        let temporary = repository.root.join(format!("_merge-{operation}"));
        let step = Step::Testing {
            temporary: temporary.clone(),
        };
        {
            let lock = repository.lock()?;
            repository.make_root()?;
            if fs::symlink_metadata(&temporary).is_ok() {
                self.remove_temporary(repository, entry, &temporary)?;
            }
            self.step(entry, operation, step)?;
            let path = temporary.to_string_lossy();
            let made = repository.git().run(repository.under(&lock).args([
                "worktree",
                "add",
                "--no-checkout",
                "--detach",
                "--quiet",
                "--",
                path.as_ref(),
                commit,
            ]));
            let filled = made.and_then(|_| fill(repository, entry, &temporary, &lock));
            if let Err(error) = filled {
                self.remove_temporary(repository, entry, &temporary)?;
                return Err(error);
            }
        }
        let time = merge.test_time.unwrap_or(COMMAND_TIME);
        let ran = self.command(&merge.test, &temporary, time);
        {
            let _lock = repository.lock()?;
            self.remove_temporary(repository, entry, &temporary)?;
        }
        let output = match ran {
            Ok(ran) if ran.is_ok() => return Ok(None),
            Ok(ran) => format!("{}\n{}", ran.said(MAX_OUTPUT_BYTES), ran.status),
            Err(error) => {
                let said = error.details().get("output").cloned().unwrap_or_default();
                format!("{said}\n{}", error.message())
            }
        };
        Ok(Some(tail(output.trim(), MAX_OUTPUT_BYTES).to_owned()))
    }

    /// Removes a temporary checkout. The repository's lock is held.
    pub(super) fn remove_temporary(
        &self,
        repository: &Repository,
        entry: &Entry,
        temporary: &Path,
    ) -> Result<()> {
        let name = temporary.file_name().unwrap_or_default().to_string_lossy();
        if temporary.parent() != Some(repository.root.as_path()) || !name.starts_with("_merge-") {
            return Err(not_ours(temporary));
        }
        let tree = Tree::find(repository, temporary)?;
        let mark = tree.as_ref().and_then(Tree::marked);
        // Without a mark, it is what the ledger says was about to be made.
        if mark.is_some_and(|mark| mark.worktree_id != entry.id || !mark.temporary) {
            return Err(not_ours(temporary));
        }
        remove_files(temporary)?;
        match tree {
            Some(tree) => remove_files(&tree.dir),
            None => Ok(()),
        }
    }

    /// Moves the target, and the checkout that has it if there is one. [`Code::Stale`]: it was moved meanwhile.
    #[expect(
        clippy::too_many_arguments,
        reason = "the step that is written down has as many parts"
    )]
    fn move_target(
        &self,
        repository: &Repository,
        entry: &mut Entry,
        operation: CommandId,
        target: &str,
        old: &str,
        new: &str,
        head: &str,
    ) -> Result<()> {
        let lock = repository.lock()?;
        if repository.branch(target)?.as_deref() != Some(old) {
            return Err(Error::new(Code::Stale, "the target was moved"));
        }
        let checkout = self.checkout_to_move(repository, target, old, new)?;
        let step = Step::Moving {
            target: target.to_owned(),
            old: old.to_owned(),
            new: new.to_owned(),
            head: head.to_owned(),
            checkout: checkout.as_ref().map(|tree| tree.files.clone()),
        };
        self.step(entry, operation, step)?;
        // The files first: they may refuse, and a refusal must come before the ref has moved.
        if let Some(tree) = &checkout {
            switch(tree, old, new, Some(&lock))?;
        }
        super::fault::point(super::fault::MOVING);
        let swapped = repository.swap(&lock, &full(target), new, old);
        if swapped.is_err()
            && let Some(tree) = &checkout
        {
            switch(tree, new, old, Some(&lock))?;
        }
        super::fault::point(super::fault::MOVED);
        swapped
    }

    /// The checkout that has the target, ready to be moved along. [`Code::InvalidState`]: it is not clean.
    fn checkout_to_move(
        &self,
        repository: &Repository,
        target: &str,
        old: &str,
        new: &str,
    ) -> Result<Option<Tree>> {
        let Some(listed) = repository.checkout_of(target)? else {
            return Ok(None);
        };
        let refused = |why: &str| {
            Error::state(format!(
                "{target} is checked out in {}, {why}; the target is untouched",
                listed.path
            ))
            .with("checkout", &listed.path)
        };
        // Its directory may be gone, which leaves nothing to be moved along.
        let Ok(path) = PathBuf::from(&listed.path).canonicalize() else {
            return Ok(None);
        };
        if !self.policy.is_inside(&path) {
            return Err(refused("which lies outside of the roots of this daemon"));
        }
        let tree = match path == repository.top {
            true => Some(repository.main_tree()?),
            false => Tree::find(repository, &path)?,
        };
        let tree = tree.ok_or_else(|| refused("which git does not say more of"))?;
        if tree.is_in_the_middle() {
            return Err(refused("where a merge or rebase is under way"));
        }
        if dirt(&tree, None)?.uncommitted > 0 {
            return Err(refused(
                "with uncommitted changes; commit or stash them first",
            ));
        }
        let git = repository.git();
        // A status does not refresh the index, which this needs.
        git.try_run(tree.at().args(["update-index", "-q", "--refresh"]))?;
        let dry = git.try_run(tree.at().args(["read-tree", "-m", "-u", "-n", old, new]))?;
        match dry.is_ok() {
            true => Ok(Some(tree)),
            false => Err(refused(&format!(
                "where it would overwrite something: {}",
                dry.said(600)
            ))),
        }
    }
}

/// Moves a checkout's files and index from one commit to another. Can be done again.
pub fn switch(tree: &Tree, old: &str, new: &str, lock: Option<&Lock>) -> Result<()> {
    let call = match lock {
        Some(lock) => tree.under(lock),
        None => tree.at(),
    };
    let git = tree.repository().git();
    git.run(call.args(["read-tree", "-m", "-u", old, new]))
        .map(drop)
}

fn fill(repository: &Repository, entry: &Entry, path: &Path, lock: &Lock) -> Result<()> {
    let tree = Tree::find(repository, path)?
        .ok_or_else(|| Error::new(Code::GitError, "git does not know the worktree it made"))?;
    tree.mark(&Mark {
        worktree_id: entry.id,
        temporary: true,
    })?;
    let call = tree
        .under(lock)
        .args(["read-tree", "--reset", "-u", "HEAD"]);
    repository.git().run(call).map(drop)
}

/// The head to merge, if the worktree is in a state to be merged.
fn ready(repository: &Repository, entry: &Entry, tree: &Tree, merge: &Merge) -> Result<String> {
    let branch = &entry.place.branch;
    let head = repository
        .branch(branch)?
        .ok_or_else(|| Error::state(format!("the branch {branch} is gone")))?;
    if tree.files.is_dir() {
        if tree.head()?.as_deref() != Some(head.as_str()) {
            return Err(Error::state(format!(
                "the worktree has something else checked out than {branch}; check it out, or commit to it"
            )));
        }
        let uncommitted = dirt(tree, None)?.uncommitted;
        if uncommitted > 0 && !merge.allow_uncommitted {
            return Err(Error::state(format!(
                "the worktree has {uncommitted} uncommitted files, which would not be merged; commit them first"
            ))
            .with("uncommitted", uncommitted));
        }
    }
    Ok(head)
}

fn compute(
    repository: &Repository,
    entry: &Entry,
    merge: &Merge,
    target: &str,
    old: &str,
    head: &str,
) -> Result<Computed> {
    if repository.is_ancestor(head, old)? {
        return Ok(Computed::Nothing);
    }
    if merge.strategy == Strategy::FastForward {
        return match repository.is_ancestor(old, head)? {
            true => Ok(Computed::Commit(head.to_owned())),
            false => Err(Error::state(format!(
                "{target} has commits that the branch has not, so it cannot simply move on; rebase the branch, or \
                 merge it another way"
            ))),
        };
    }
    let git = repository.git();
    let merged = git.try_run(repository.at().args([
        "merge-tree",
        "--write-tree",
        "--name-only",
        "--messages",
        old,
        head,
    ]))?;
    let text = String::from_utf8_lossy(&merged.stdout).into_owned();
    let mut lines = text.lines();
    let tree_id = lines.next().unwrap_or_default().to_owned();
    match merged.status.code() {
        Some(0) if super::refs::is_commit(&tree_id) => {}
        Some(1) => {
            let files = lines.by_ref().take_while(|line| !line.is_empty());
            let files = files.map(str::to_owned).take(MAX_CONFLICTS).collect();
            let rest = lines.collect::<Vec<_>>().join("\n");
            let output = tail(&rest, MAX_OUTPUT_BYTES).to_owned();
            return Ok(Computed::Conflict(files, output));
        }
        _ => return Err(super::program::failed("merge-tree".as_ref(), &merged)),
    }
    let of_target =
        git.text(
            repository
                .at()
                .args(["rev-parse", "--verify", &format!("{old}^{{tree}}")]),
        )?;
    if of_target == tree_id && merge.strategy == Strategy::Squash {
        return Ok(Computed::Nothing);
    }
    let subject = match (merge.subject.as_str(), entry.title.as_str()) {
        ("", "") => format!("{} ({})", entry.place.branch, entry.label),
        ("", title) => format!("{title} ({})", entry.label),
        (subject, _) => subject.to_owned(),
    };
    let mut call = repository
        .at()
        .args(["commit-tree", tree_id.as_str(), "-p", old]);
    if merge.strategy == Strategy::Merge {
        call = call.args(["-p", head]);
    }
    git.text(call.args(["-m", &subject])).map(Computed::Commit)
}
