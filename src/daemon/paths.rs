//! The daemon's state directory: identity, credential, boot counter, sessions.
//!
//! ```text
//! daemon.json   id and name        credential   bearer token, mode 0600
//! boot          counts the starts  enroll       nonce of an enrolment that has no answer yet
//! lock          held while a daemon runs
//! sessions/<session id>/           one runner and what the daemon knows of it
//! worktrees/<worktree id>.json     what the daemon knows of a worktree
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::runner::spec::write_private;
use crate::base::id::{DaemonId, SessionId};
use crate::base::{Code, Error, Result, Secret};

/// Who this daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id.
    pub id: DaemonId,
    /// Name for people.
    pub name: String,
}

/// The state directory, held by one daemon at a time.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Opens the directory, making it if it is not there. Refuses one that others can read or another
    /// daemon holds.
    pub fn open(root: &Path) -> Result<Self> {
        make_private(root)?;
        let root = root.canonicalize().map_err(|error| broken(root, error))?;
        make_private(&root.join("sessions"))?;
        let lock = File::create(root.join("lock")).map_err(|error| broken(&root, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(StateDir { root, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::state(format!(
                "another daemon runs with the state directory {}; end it first, or give this one a directory of its own",
                root.display()
            ))),
            Err(TryLockError::Error(error)) => Err(broken(&root, error)),
        }
    }

    /// Who this daemon is; `None` before it was enrolled.
    pub fn identity(&self) -> Result<Option<Identity>> {
        let path = self.root.join("daemon.json");
        match read(&path)? {
            None => Ok(None),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| broken(&path, io::Error::other(error))),
        }
    }

    /// The daemon's bearer token; `None` before it was enrolled.
    pub fn credential(&self) -> Result<Option<Secret>> {
        let path = self.root.join("credential");
        Ok(read(&path)?.map(|bytes| Secret::new(String::from_utf8_lossy(&bytes).trim())))
    }

    /// Keeps what enrolment gave. The credential goes first: an identity says that both are there.
    pub fn enrolled(&self, identity: &Identity, credential: &Secret) -> Result<()> {
        self.write("credential", credential.expose().as_bytes())?;
        self.write(
            "daemon.json",
            &serde_json::to_vec(identity).map_err(Error::internal)?,
        )?;
        let _ = fs::remove_file(self.root.join("enroll"));
        Ok(())
    }

    /// The nonce of the enrolment under way: the same until an answer was kept, so that asking again with
    /// the same join token gives the same daemon.
    pub fn enrolment_nonce(&self) -> Result<Vec<u8>> {
        let path = self.root.join("enroll");
        if let Some(nonce) = read(&path)?
            && (16..=64).contains(&nonce.len())
        {
            return Ok(nonce);
        }
        let nonce: [u8; 32] = rand::random();
        self.write("enroll", &nonce)?;
        Ok(nonce.to_vec())
    }

    /// Counts this start and returns its number, which is higher than any before.
    pub fn next_boot(&self) -> Result<u64> {
        let before = read(&self.root.join("boot"))?
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| text.trim().parse::<u64>().ok())
            .unwrap_or(0);
        let boot = before.saturating_add(1);
        self.write("boot", boot.to_string().as_bytes())?;
        Ok(boot)
    }

    /// The directory of a session.
    pub fn session(&self, id: SessionId) -> PathBuf {
        self.root.join("sessions").join(id.to_string())
    }

    /// The directory of what is known of worktrees.
    pub fn worktrees(&self) -> PathBuf {
        self.root.join("worktrees")
    }

    /// All sessions that have a directory. What is not named as one is left alone.
    pub fn sessions(&self) -> Result<Vec<SessionId>> {
        let dir = self.root.join("sessions");
        let mut ids = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|error| broken(&dir, error))? {
            let entry = entry.map_err(|error| broken(&dir, error))?;
            let name = entry.file_name();
            ids.extend(
                name.to_str()
                    .and_then(|name| name.parse::<SessionId>().ok()),
            );
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        write_private(&path, bytes).map_err(|error| broken(&path, error))
    }
}

/// Makes a directory of mode 0700, or checks that one is the user's own and nobody else can read it.
pub fn make_private(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| broken(dir, error))?;
    let meta = fs::metadata(dir).map_err(|error| broken(dir, error))?;
    if meta.uid() != geteuid().as_raw() {
        return Err(Error::new(
            Code::Forbidden,
            format!("{} belongs to another user", dir.display()),
        ));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(|error| broken(dir, error))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(broken(path, error)),
    }
}

/// A file of the state directory that cannot be used.
pub fn broken(path: &Path, error: io::Error) -> Error {
    Error::new(
        Code::Unavailable,
        format!("{} cannot be used: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_holds_it_and_starts_are_counted() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let state = StateDir::open(&path).unwrap();
        assert!(
            StateDir::open(&path)
                .unwrap_err()
                .message()
                .contains("another daemon")
        );
        assert_eq!(
            (state.next_boot().unwrap(), state.next_boot().unwrap()),
            (1, 2)
        );
        let nonce = state.enrolment_nonce().unwrap();
        assert_eq!(state.enrolment_nonce().unwrap(), nonce);
        drop(state);
        let state = StateDir::open(&path).unwrap();
        assert_eq!(state.next_boot().unwrap(), 3);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn identity_and_credential_come_back_and_are_private() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(root.path()).unwrap();
        assert!(state.identity().unwrap().is_none());
        let identity = Identity {
            id: DaemonId::from_bits(7),
            name: "here".to_owned(),
        };
        state.enrolled(&identity, &Secret::new("bt_x")).unwrap();
        assert_eq!(state.identity().unwrap(), Some(identity));
        assert_eq!(state.credential().unwrap().unwrap().expose(), "bt_x");
        let mode = fs::metadata(root.path().join("credential"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
