//! A repository that worktrees are made of: found once, confined, and from then on named outright in every
//! call, so that nothing written into a checkout can lead git elsewhere.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

use super::guard::Guard;
use super::lock::Lock;
use super::program::{Call, Dir, Git};
use super::tree::Tree;
use crate::base::{Code, Error, Result};
use crate::daemon::policy::Policy;

/// The directory for worktrees within a repository, unless the daemon has one for all.
pub const ROOT_NAME: &str = ".worktrees";
/// The largest `info/exclude` that is read.
const MAX_EXCLUDE: u64 = 1 << 20;

/// A repository.
#[derive(Clone, Debug)]
pub struct Repository {
    git: Git,
    guard: Guard,
    /// Its main checkout, links resolved.
    pub top: PathBuf,
    /// The git directory that all its checkouts share, links resolved.
    pub common: PathBuf,
    /// Where its worktrees are.
    pub root: PathBuf,
    is_root_inside: bool,
}

fn disabled(path: &str, why: &str) -> Error {
    Error::new(
        Code::WorktreesDisabled,
        format!("{path} {why}; worktrees need a git repository with a checkout"),
    )
}

impl Repository {
    /// Finds the repository that a directory belongs to. [`Code::WorktreesDisabled`]: it belongs to none.
    /// [`Code::Forbidden`]: it, or its git directory, lies outside of what the daemon allows.
    pub fn open(git: &Git, policy: &Policy, path: &str, root: Option<&Path>) -> Result<Self> {
        let dir = policy.resolve("repository", path)?;
        if !dir.is_dir() {
            return Err(Error::invalid("repository", "is no directory"));
        }
        // Git looks upwards, but not above the roots.
        let ceilings = policy.roots().iter().filter_map(|root| root.parent());
        let ceilings = std::env::join_paths(ceilings).unwrap_or_else(|_| OsString::from("/"));
        let find = |args: &[&str]| {
            git.try_run(
                Call::new(&dir, Dir::Find(&ceilings))
                    .args(["rev-parse", "--path-format=absolute"])
                    .args(args.iter().copied()),
            )
        };
        let found = find(&["--is-bare-repository", "--git-common-dir", "--git-dir"])?;
        let text = String::from_utf8_lossy(&found.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let (common, own) = match lines.as_slice() {
            ["false", common, own] if found.is_ok() => (*common, *own),
            ["true", ..] if found.is_ok() => return Err(disabled(path, "is a bare repository")),
            _ => {
                let said = found.said(600);
                return Err(match said.contains("not a git repository") {
                    true => disabled(path, "is in no git repository"),
                    false => Error::new(
                        Code::GitError,
                        format!("git cannot open {path}: {}", said.trim()),
                    ),
                });
            }
        };
        let inside = |found: &str, what: &str| -> Result<PathBuf> {
            let resolved = Path::new(found)
                .canonicalize()
                .map_err(|_| disabled(path, "is in no git repository"))?;
            match policy.is_inside(&resolved) {
                true => Ok(resolved),
                false => Err(Error::new(
                    Code::Forbidden,
                    format!("{what} of {path} lies outside of the roots of this daemon"),
                )),
            }
        };
        let common = inside(common, "the git directory")?;
        let own = inside(own, "the git directory")?;
        let top = if own == common {
            let shown = find(&["--show-toplevel"])?;
            if !shown.is_ok() {
                return Err(disabled(path, "is not in a checkout"));
            }
            let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
            let top = inside(shown.trim_end_matches('\n'), "the checkout")?;
            if !dir.starts_with(&top) {
                return Err(Error::new(
                    Code::Forbidden,
                    format!("the repository of {path} says that its files are elsewhere"),
                ));
            }
            // Who may work with the one may then work with the other.
            if !common.starts_with(&top) {
                return Err(disabled(path, "has its git directory elsewhere"));
            }
            top
        } else {
            // A worktree of a repository: what is made belongs to its main checkout.
            let top = common
                .file_name()
                .filter(|name| *name == ".git")
                .and_then(|_| common.parent())
                .filter(|top| policy.is_inside(top));
            top.map(Path::to_owned)
                .ok_or_else(|| disabled(path, "has its main checkout elsewhere"))?
        };
        let (root, is_root_inside) = match root {
            Some(root) => {
                let name = top.file_name().unwrap_or_default().to_string_lossy();
                let hash = Sha256::digest(common.as_os_str().as_encoded_bytes());
                let hash: String = hash.iter().take(4).map(|b| format!("{b:02x}")).collect();
                (root.join(format!("{name}-{hash}")), false)
            }
            None => (top.join(ROOT_NAME), true),
        };
        let mut repository = Repository {
            git: git.clone(),
            guard: Guard::general(),
            top,
            common,
            root,
            is_root_inside,
        };
        repository.guard = Guard::of(git, repository.call())?;
        Ok(repository)
    }

    /// The program.
    pub fn git(&self) -> &Git {
        &self.git
    }

    fn call(&self) -> Call<'_> {
        Call::new(&self.top, Dir::Repository(&self.common))
    }

    /// A call that works on refs and objects, not on files.
    pub fn at(&self) -> Call<'_> {
        self.call().guard(&self.guard)
    }

    /// Such a call that changes something: the lock is held as long as it lives.
    pub fn under(&self, lock: &Lock) -> Call<'_> {
        self.at().stdin(lock.handle())
    }

    /// The repository's own checkout.
    pub fn main_tree(&self) -> Result<Tree> {
        Tree::open(self, self.common.clone(), self.top.clone())
    }

    /// Makes the directory for worktrees, and keeps it out of the repository's own sight. Refuses one that is
    /// a link: it would lead the files elsewhere.
    pub fn make_root(&self) -> Result<()> {
        DirBuilder::new()
            .recursive(!self.is_root_inside)
            .mode(0o755)
            .create(&self.root)
            .or_else(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error),
            })
            .map_err(|error| unusable(&self.root, &error.to_string()))?;
        let resolved = self
            .root
            .canonicalize()
            .map_err(|error| unusable(&self.root, &error.to_string()))?;
        if resolved != self.root || !resolved.is_dir() {
            return Err(Error::new(
                Code::Forbidden,
                format!(
                    "{} is a link or no directory; worktrees are made in a real directory only",
                    self.root.display()
                ),
            ));
        }
        if self.is_root_inside {
            self.exclude()?;
        }
        Ok(())
    }

    /// Adds the root to `info/exclude`, once.
    fn exclude(&self) -> Result<()> {
        let info = self.common.join("info");
        if let Err(error) = fs::create_dir(&info)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(unusable(&info, &error.to_string()));
        }
        let path = info.join("exclude");
        let bad = |error: std::io::Error| unusable(&path, &error.to_string());
        if info.canonicalize().map_err(bad)? != info {
            return Err(unusable(&info, "it is a link"));
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(OFlag::O_NOFOLLOW.bits() | OFlag::O_NONBLOCK.bits())
            .open(&path)
            .map_err(bad)?;
        if !file.metadata().map_err(bad)?.is_file() {
            return Err(unusable(&path, "it is no regular file"));
        }
        let mut text = Vec::new();
        (&mut file)
            .take(MAX_EXCLUDE)
            .read_to_end(&mut text)
            .map_err(bad)?;
        let line = format!("/{ROOT_NAME}/");
        if text.split(|b| *b == b'\n').any(|l| l == line.as_bytes()) {
            return Ok(());
        }
        let start = if text.is_empty() || text.ends_with(b"\n") {
            ""
        } else {
            "\n"
        };
        file.write_all(format!("{start}{line}\n").as_bytes())
            .map_err(bad)
    }
}

/// A file or directory that cannot be used.
pub fn unusable(path: &Path, problem: &str) -> Error {
    Error::new(
        Code::GitError,
        format!("{} cannot be used: {problem}", path.display()),
    )
}
