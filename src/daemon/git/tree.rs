//! One checkout: its git directory and its files, named outright; and our mark in the git directory.

use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::lock::Lock;
use super::program::{Call, Dir};
use super::repository::{Repository, unusable};
use crate::base::id::WorktreeId;
use crate::base::{Error, Result};
use crate::daemon::runner::spec::write_private;

/// Our mark: the file's name in a worktree's git directory.
const MARK: &str = "baton.json";
/// The largest file of a git directory that is read here.
const MAX_SMALL_FILE: u64 = 64 * 1024;

/// What our mark says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The worktree that this is, or is a part of the work on.
    pub worktree_id: WorktreeId,
    /// Whether it is only there for a merge.
    pub temporary: bool,
}

/// A checkout.
#[derive(Clone, Debug)]
pub struct Tree {
    repository: Repository,
    guard: Guard,
    /// Its own git directory.
    pub dir: PathBuf,
    /// Its files.
    pub files: PathBuf,
}

impl Tree {
    /// A checkout whose places are known.
    pub fn open(repository: &Repository, dir: PathBuf, files: PathBuf) -> Result<Self> {
        let mut tree = Tree {
            repository: repository.clone(),
            guard: Guard::general(),
            dir,
            files,
        };
        // A worktree may have configuration of its own.
        tree.guard = Guard::of(repository.git(), tree.call())?;
        Ok(tree)
    }

    /// The linked worktree that git knows at a path; `None` if it knows none.
    pub fn find(repository: &Repository, path: &Path) -> Result<Option<Self>> {
        match dir_of(&repository.common, path)? {
            Some(dir) => Tree::open(repository, dir, path.to_owned()).map(Some),
            None => Ok(None),
        }
    }

    /// The same checkout with its files moved elsewhere.
    pub fn moved(&self, files: PathBuf) -> Self {
        Tree {
            files,
            ..self.clone()
        }
    }

    fn call(&self) -> Call<'_> {
        // The files may be gone, and a program needs a directory to be in.
        let cwd = match self.files.is_dir() {
            true => &self.files,
            false => &self.dir,
        };
        Call::new(
            cwd,
            Dir::Checkout {
                dir: &self.dir,
                common: &self.repository.common,
                files: &self.files,
            },
        )
    }

    /// A call in it.
    pub fn at(&self) -> Call<'_> {
        self.call().guard(&self.guard)
    }

    /// A call in it that changes something: the lock is held as long as it lives.
    pub fn under(&self, lock: &Lock) -> Call<'_> {
        self.at().stdin(lock.handle())
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The commit that is checked out; `None` before the first.
    pub fn head(&self) -> Result<Option<String>> {
        self.commit("HEAD")
    }

    /// The commit of a name of this checkout's own (`HEAD`, `MERGE_HEAD` …).
    pub fn commit(&self, name: &str) -> Result<Option<String>> {
        let name = format!("{name}^{{commit}}");
        let args = [
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &name,
        ];
        let ran = self.repository.git().try_run(self.at().args(args))?;
        let text = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
        Ok((ran.is_ok() && super::refs::is_commit(&text)).then_some(text))
    }

    /// Writes our mark.
    pub fn mark(&self, mark: &Mark) -> Result<()> {
        let text = serde_json::to_vec(mark).map_err(Error::internal)?;
        let path = self.dir.join(MARK);
        write_private(&path, &text).map_err(|error| unusable(&path, &error.to_string()))
    }

    /// Our mark; `None` if there is none.
    pub fn marked(&self) -> Option<Mark> {
        let text = read_small(&self.dir.join(MARK))?;
        serde_json::from_str(&text).ok()
    }

    /// Whether somebody has locked it against removal.
    pub fn is_locked(&self) -> bool {
        self.dir.join("locked").exists()
    }

    /// Whether a merge, rebase or the like is under way in it.
    pub fn is_in_the_middle(&self) -> bool {
        [
            "MERGE_HEAD",
            "CHERRY_PICK_HEAD",
            "REVERT_HEAD",
            "rebase-merge",
            "rebase-apply",
        ]
        .iter()
        .any(|name| self.dir.join(name).exists())
    }
}

/// The git directory of the linked worktree at a path.
fn dir_of(common: &Path, path: &Path) -> Result<Option<PathBuf>> {
    let parent = common.join("worktrees");
    let entries = match fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&parent, &error.to_string())),
    };
    for entry in entries.flatten() {
        // A link would lead out of the repository.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let names = read_small(&entry.path().join("gitdir"));
        if names.is_some_and(|text| Path::new(text.trim_end()) == path.join(".git")) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn read_small(path: &Path) -> Option<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits() | OFlag::O_NONBLOCK.bits())
        .open(path)
        .ok()?;
    let mut text = String::new();
    file.take(MAX_SMALL_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}
