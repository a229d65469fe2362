//! One lock for each repository, also across processes: a file in the git directory that all its checkouts
//! share.
//!
//! The locked file is the standard input of each git that works under the lock. A git that outlives a daemon
//! that was killed thus still holds it, and the next daemon waits until it is through.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use crate::base::{Code, Error, Result};

/// Held for every change of a repository's worktrees and refs.
pub const REPOSITORY: &str = "baton-worktrees.lock";
/// Held by the merge that is under way: others of the repository queue behind it.
pub const MERGE: &str = "baton-merge.lock";
/// How long the repository's lock is waited for.
pub const PATIENCE: Duration = Duration::from_secs(180);

const PAUSE: Duration = Duration::from_millis(10);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the lock `name` of a repository. [`Code::Timeout`]: others held it for too long.
    pub fn take(common: &Path, name: &str, patience: Duration) -> Result<Self> {
        let path = common.join(name);
        let broken = |problem: &str| {
            Error::new(
                Code::GitError,
                format!("the lock {} cannot be used: {problem}", path.display()),
            )
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // Whoever can write to the repository could have put a link here.
            .custom_flags(OFlag::O_NOFOLLOW.bits() | OFlag::O_NONBLOCK.bits())
            .open(&path)
            .map_err(|error| broken(&error.to_string()))?;
        let meta = file
            .metadata()
            .map_err(|error| broken(&error.to_string()))?;
        if !meta.is_file() {
            return Err(broken("it is no regular file"));
        }
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::park_timeout(PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(
                        Code::Timeout,
                        "other work in this repository takes too long; try again later",
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(broken(&error.to_string())),
            }
        }
    }

    /// The lock as a program's standard input.
    pub fn handle(&self) -> Option<File> {
        self.file.try_clone().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_a_link_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path(), REPOSITORY, PATIENCE).unwrap();
        let second = || Lock::take(dir.path(), REPOSITORY, Duration::from_millis(30));
        assert_eq!(second().unwrap_err().code(), Code::Timeout);
        // A copy of the handle keeps it, as a program that was started does.
        let handle = held.handle().unwrap();
        drop(held);
        assert_eq!(second().unwrap_err().code(), Code::Timeout);
        drop(handle);
        assert!(second().is_ok());
        let target = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&target, dir.path().join(MERGE)).unwrap();
        let error = Lock::take(dir.path(), MERGE, PATIENCE).unwrap_err();
        assert_eq!(error.code(), Code::GitError);
        assert!(!target.exists());
    }
}
