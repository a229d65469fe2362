//! Removing a worktree: never what is not provably ours, never work that is nowhere else.
//!
//! The directory is first put aside, where nobody who goes by its name can write to it any more, and looked
//! at there. Only then it is decided; what has to be kept is kept before anything is removed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::ledger::{Entry, Stage, Step};
use super::lock::Lock;
use super::refs::full;
use super::repository::{Repository, unusable};
use super::room::Room;
use super::tree::Tree;
use super::{look, snapshot};
use crate::base::id::CommandId;
use crate::base::{Code, Error, Result};
use crate::domain::worktree::{Delete, Deleted, Outcome};

impl Room {
    /// Removes a worktree. [`Code::InvalidState`]: it has work that is nowhere else, and no force is used.
    pub(super) fn delete(
        &self,
        entry: &mut Entry,
        operation: CommandId,
        delete: &Delete,
    ) -> Result<Outcome> {
        let repository = self.reopen(entry)?;
        let lock = repository.lock()?;
        let path = PathBuf::from(&entry.place.path);
        let is_there = fs::symlink_metadata(&path).is_ok();
        let Some(tree) = self.ours(&repository, entry)? else {
            if is_there {
                return Err(not_ours(&path));
            }
            // Somebody has removed it by git itself, which refuses to lose work.
            entry.stage = Stage::Gone;
            return Ok(Outcome::Deleted(Deleted::default()));
        };
        if tree.is_locked() {
            return Err(Error::state(
                "the worktree is locked (`git worktree unlock` unlocks it)",
            ));
        }
        if !delete.force {
            refuse_work(&repository, entry, &tree, is_there)?;
        }
        let aside = repository.root.join(format!(".removing-{}", entry.id));
        self.step(
            entry,
            operation,
            Step::Aside {
                aside: aside.clone(),
            },
        )?;
        if is_there {
            put(&path, &aside)?;
        }
        let deciding = self.decide(
            &repository,
            entry,
            &tree.moved(aside.clone()),
            delete,
            &lock,
        );
        let (recover_ref, branch) = match deciding {
            Ok(decided) => decided,
            Err(error) => {
                if is_there {
                    put(&aside, &path)?;
                }
                return Err(error);
            }
        };
        let step = Step::Removing {
            aside: aside.clone(),
            recover_ref: recover_ref.clone(),
            branch: branch.clone(),
        };
        self.step(entry, operation, step)?;
        self.take_away(&repository, entry, &aside, branch.as_ref(), &lock)?;
        entry.stage = Stage::Gone;
        Ok(Outcome::Deleted(Deleted {
            recover_ref,
            branch_deleted: branch.is_some(),
        }))
    }

    /// Looks at what was put aside, and keeps what has to be kept: the snapshot's ref, and the branch that
    /// goes too with the commit it is at.
    fn decide(
        &self,
        repository: &Repository,
        entry: &Entry,
        tree: &Tree,
        delete: &Delete,
        lock: &Lock,
    ) -> Result<(String, Option<(String, String)>)> {
        let scratch = self.ledger.scratch()?;
        let is_there = tree.files.is_dir();
        let branch = match delete.delete_branch {
            true => self.branch_to_remove(repository, entry)?,
            false => None,
        };
        let mut commits = snapshot::own_commits(tree)?;
        commits.extend(branch.iter().map(|(_, commit)| commit.clone()));
        let mut lost = vec!["--single-worktree".to_owned()];
        lost.extend(commits.iter().cloned());
        let mut without = Vec::new();
        if let Some((name, _)) = &branch {
            without.push(format!("--exclude={}", full(name)));
        }
        without.push("--all".to_owned());
        let is_lost = !commits.is_empty() && repository.count(&lost, &without)? > 0;
        if !is_there {
            if !is_lost {
                return Ok((String::new(), branch));
            }
            return self
                .keep_commits(repository, entry, &commits, lock)
                .map(|kept| (kept, branch));
        }
        let reading = snapshot::read(tree, &scratch)?;
        if !reading.dirt.is_none() && !delete.force {
            return Err(dirty(reading.dirt));
        }
        snapshot::refuse_nested(tree, &reading)?;
        if reading.dirt.is_none() && !is_lost {
            return Ok((String::new(), branch));
        }
        let reading = snapshot::read(tree, &scratch)?;
        let kept = snapshot::keep(entry, tree, &reading, &commits, lock, self.clock.now())?;
        Ok((kept, branch))
    }

    /// Keeps commits alone: there are no files.
    fn keep_commits(
        &self,
        repository: &Repository,
        entry: &Entry,
        commits: &[String],
        lock: &Lock,
    ) -> Result<String> {
        let Some(first) = commits.first() else {
            return Ok(String::new());
        };
        let git = repository.git();
        let tree_id = git.text(repository.at().args([
            "rev-parse",
            "--verify",
            &format!("{first}^{{tree}}"),
        ]))?;
        let mut call = repository.under(lock).args([
            "commit-tree",
            tree_id.as_str(),
            "-m",
            "Commits of a worktree whose files were gone",
        ]);
        for commit in commits {
            call = call.args(["-p", commit]);
        }
        let commit = git.text(call)?;
        let stamp = crate::domain::worktree::name::stamp(self.clock.now());
        let recover_ref = format!(
            "{}{}/{stamp}",
            crate::domain::worktree::order::RECOVER_REFS,
            entry.id
        );
        repository.swap(lock, &recover_ref, &commit, super::refs::NONE)?;
        Ok(recover_ref)
    }

    /// The branch, unless it is checked out elsewhere too.
    fn branch_to_remove(
        &self,
        repository: &Repository,
        entry: &Entry,
    ) -> Result<Option<(String, String)>> {
        let name = &entry.place.branch;
        let elsewhere = repository.checkouts()?.into_iter().any(|one| {
            one.branch.as_ref() == Some(name)
                && Path::new(&one.path) != Path::new(&entry.place.path)
        });
        if elsewhere || *name == entry.place.target {
            return Ok(None);
        }
        let commit = repository.branch(name)?;
        Ok(commit.map(|commit| (name.clone(), commit)))
    }

    /// Removes what was put aside, the worktree's git directory, and the branch. Can be done again.
    pub(super) fn take_away(
        &self,
        repository: &Repository,
        entry: &Entry,
        aside: &Path,
        branch: Option<&(String, String)>,
        lock: &Lock,
    ) -> Result<()> {
        let is_ours = aside.parent() == Some(repository.root.as_path());
        if !is_ours {
            return Err(not_ours(aside));
        }
        #[cfg(feature = "failpoints")]
        if super::fault::is_on(super::fault::CANNOT_REMOVE) {
            return Err(Error::new(Code::GitError, "a test has switched it off"));
        }
        remove_files(aside)?;
        super::fault::point(super::fault::REMOVING);
        if let Some(tree) = self.ours(repository, entry)? {
            remove_files(&tree.dir)?;
        }
        if let Some((name, commit)) = branch {
            match repository.remove_ref(lock, &full(name), commit) {
                // Somebody has moved it since: then it is theirs to remove.
                Err(error) if error.code() == Code::Stale => {}
                done => done?,
            }
        }
        Ok(())
    }
}

fn refuse_work(repository: &Repository, entry: &Entry, tree: &Tree, is_there: bool) -> Result<()> {
    if is_there {
        let dirt = look::dirt(tree, None)?;
        if !dirt.is_none() {
            return Err(dirty(dirt));
        }
    }
    let mut heads: Vec<String> = tree.head()?.into_iter().collect();
    heads.extend(repository.branch(&entry.place.branch)?);
    match look::unmerged(repository, entry, &heads)? {
        0 => Ok(()),
        count => Err(Error::state(format!(
            "the worktree has {count} commits that are neither merged nor pushed; merge them, or remove it by force: \
             they are kept then and can be recovered"
        ))
        .with("unmerged", count)),
    }
}

fn dirty(dirt: look::Dirt) -> Error {
    Error::state(format!(
        "the worktree has {} uncommitted and {} untracked files; commit them, or remove it by force: they are kept \
         then and can be recovered",
        dirt.uncommitted, dirt.untracked
    ))
    .with("uncommitted", dirt.uncommitted)
    .with("untracked", dirt.untracked)
}

/// Something that does not carry our mark, or is not where our worktrees are.
pub fn not_ours(path: &Path) -> Error {
    Error::state(format!(
        "{} is not known to be a worktree of this daemon; it is left alone",
        path.display()
    ))
}

/// Gives a directory another name; never one that is taken.
pub fn put(from: &Path, to: &Path) -> Result<()> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(unusable(to, "it is there already"));
    }
    fs::rename(from, to).map_err(|error| unusable(from, &error.to_string()))
}

/// Removes a directory and all in it, without following links. Nothing there is fine.
pub fn remove_files(dir: &Path) -> Result<()> {
    let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match fs::remove_dir_all(dir) {
        Ok(()) => return Ok(()),
        Err(error) if gone(&error) => return Ok(()),
        Err(_) => {}
    }
    // Directories that nobody may write to, as some tools leave them.
    open_up(dir);
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if gone(&error) => Ok(()),
        Err(error) => Err(unusable(dir, &error.to_string())),
    }
}

fn open_up(dir: &Path) {
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        let Ok(meta) = fs::symlink_metadata(&dir) else {
            continue;
        };
        if !meta.is_dir() {
            continue;
        }
        let mode = meta.permissions().mode() | 0o700;
        let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(mode));
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
}
