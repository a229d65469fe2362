//! After a daemon was killed in the middle of something: what its steps say is finished or undone.

use std::fs;
use std::path::PathBuf;

use super::ledger::{Entry, Pending, Stage, Step};
use super::lock::Lock;
use super::merge::switch;
use super::remove::put;
use super::repository::Repository;
use super::room::Room;
use super::tree::Tree;
use crate::base::{Code, Error, Result};
use crate::domain::worktree::order::Kept;
use crate::domain::worktree::{Deleted, MergeReport, MergeVerdict, Outcome};

impl Room {
    /// Finishes or undoes what an entry says is under way, though nobody works on it. An error leaves it as it
    /// is, to be tried again.
    pub(super) fn reconcile(&self, entry: &mut Entry) -> Result<()> {
        let Some(Pending { operation_id, step }) = entry.pending.clone() else {
            return Ok(());
        };
        tracing::info!(worktree = %entry.id, ?step, "an operation on a worktree was cut off; it is settled now");
        let result = match self.reopen(entry) {
            Ok(repository) => self.settle(entry, &repository, step)?,
            // Without its repository there is nothing to be finished.
            Err(error)
                if matches!(error.code(), Code::WorktreesDisabled | Code::Forbidden)
                    && !PathBuf::from(&entry.place.repository).exists() =>
            {
                entry.stage = Stage::Gone;
                Err(error)
            }
            Err(error) => return Err(error),
        };
        entry.settle(operation_id, Kept::of(&result));
        self.ledger.write(entry, self.clock.now())
    }

    fn settle(
        &self,
        entry: &mut Entry,
        repository: &Repository,
        step: Step,
    ) -> Result<Result<Outcome>> {
        let interrupted = |what: &str| {
            Err(Error::new(
                Code::Unavailable,
                format!("the daemon was ended in the middle of this; {what}"),
            ))
        };
        Ok(match step {
            Step::Creating => {
                self.undo_create(entry)?;
                interrupted("what was made of the worktree was removed")
            }
            Step::Testing { temporary } => {
                let _lock = repository.lock()?;
                if temporary_is_left(repository, &temporary)? {
                    self.remove_temporary(repository, entry, &temporary)?;
                }
                interrupted("the target is untouched")
            }
            Step::Moving {
                target,
                old,
                new,
                head,
                checkout,
            } => {
                let lock = repository.lock()?;
                let now = repository.branch(&target)?;
                let is_in = match &now {
                    Some(now) => *now == new || repository.is_ancestor(&new, now)?,
                    None => false,
                };
                if is_in {
                    entry.merged(&head);
                    return Ok(Ok(Outcome::Merged(MergeReport {
                        verdict: MergeVerdict::Merged,
                        target,
                        commit: new,
                        head,
                        ..MergeReport::default()
                    })));
                }
                if now.as_deref() == Some(old.as_str()) {
                    put_back(repository, &old, &new, checkout, &lock);
                }
                interrupted("the target is untouched")
            }
            Step::Aside { aside } => {
                let _lock = repository.lock()?;
                let path = PathBuf::from(&entry.place.path);
                let is_aside = fs::symlink_metadata(&aside).is_ok();
                if is_aside && fs::symlink_metadata(&path).is_err() {
                    put(&aside, &path)?;
                }
                interrupted("nothing was removed")
            }
            Step::Removing {
                aside,
                recover_ref,
                branch,
            } => {
                let lock = repository.lock()?;
                self.take_away(repository, entry, &aside, branch.as_ref(), &lock)?;
                entry.stage = Stage::Gone;
                Ok(Outcome::Deleted(Deleted {
                    recover_ref,
                    branch_deleted: branch.is_some(),
                }))
            }
        })
    }
}

fn temporary_is_left(repository: &Repository, temporary: &std::path::Path) -> Result<bool> {
    Ok(fs::symlink_metadata(temporary).is_ok() || Tree::find(repository, temporary)?.is_some())
}

/// Moves the files of the target's checkout back, should they have been moved before the target was.
fn put_back(repository: &Repository, old: &str, new: &str, checkout: Option<PathBuf>, lock: &Lock) {
    let Some(path) = checkout else { return };
    let tree = match path == repository.top {
        true => repository.main_tree().map(Some),
        false => Tree::find(repository, &path),
    };
    let done = tree.and_then(|tree| match tree {
        Some(tree) => switch(&tree, new, old, Some(lock)),
        None => Ok(()),
    });
    if let Err(error) = done {
        // Somebody works there, whose changes are not ours to touch.
        tracing::warn!(path = %path.display(), %error, "a checkout could not be put back to its branch");
    }
}
