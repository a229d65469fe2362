//! Large content as files named by their SHA-256: `content/ab/<sha256>`, staged in `content/staging/`.
//!
//! All calls block. Pieces of one content are taken one after the other; different contents do not wait
//! for each other, except within one of a few locks.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest as _, Sha256};

use super::disk::{io_error, sync_dir};
use super::fault;
use crate::base::{SharedClock, Timestamp};
use crate::store::{Result, contents, keys};

const LOCKS: usize = 64;
/// A staged content to which nothing was added for this long is let go of.
const STAGING_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The contents of a store.
pub(super) struct Contents {
    dir: PathBuf,
    clock: SharedClock,
    locks: Vec<Mutex<()>>,
}

impl Contents {
    /// The contents beneath `dir`. What was staged by an earlier process is let go of.
    pub(super) fn open(dir: PathBuf, clock: SharedClock) -> Result<Self> {
        let staging = dir.join("staging");
        fs::create_dir_all(&staging).map_err(|error| io_error("creating", &staging, &error))?;
        let contents = Contents::look(dir, clock);
        contents.sweep_staging(Duration::ZERO)?;
        Ok(contents)
    }

    /// The contents beneath `dir`, only to look at.
    pub(super) fn look(dir: PathBuf, clock: SharedClock) -> Self {
        Contents {
            dir,
            clock,
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
        }
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(&sha256[..2]).join(sha256)
    }

    fn staged(&self, sha256: &str) -> PathBuf {
        self.dir.join("staging").join(sha256)
    }

    fn lock(&self, sha256: &str) -> MutexGuard<'_, ()> {
        let at = u8::from_str_radix(&sha256[..2], 16).unwrap_or(0);
        self.locks[usize::from(at) % LOCKS].lock()
    }

    /// Adds a piece; see [`crate::store::Contents::stage`].
    pub(super) fn stage(&self, sha256: &str, size: u64, offset: u64, data: &[u8]) -> Result<bool> {
        contents::check_name(sha256)?;
        let _guard = self.lock(sha256);
        let path = self.path(sha256);
        let whole = size_of(&path).map_err(|error| io_error("reading", &path, &error))?;
        if let Some(whole) = whole {
            contents::check_size(sha256, whole, size)?;
            // It may have been unreferred for long: from now on it is young again, so that compaction
            // leaves the caller time to refer to it.
            let now = u64::try_from(self.clock.now().as_micros()).unwrap_or(0);
            let touched = File::options()
                .append(true)
                .open(&path)
                .and_then(|file| file.set_modified(UNIX_EPOCH + Duration::from_micros(now)));
            touched.map_err(|error| io_error("touching", &path, &error))?;
            return Ok(true);
        }
        let staged = self.staged(sha256);
        match self.add(sha256, size, offset, data, &staged) {
            Ok(done) => Ok(done),
            Err(error) => {
                // Also after a full disk: the caller begins again, and the room is free until then.
                let _ = fs::remove_file(&staged);
                Err(error)
            }
        }
    }

    fn add(
        &self,
        sha256: &str,
        size: u64,
        offset: u64,
        data: &[u8],
        staged: &Path,
    ) -> Result<bool> {
        let failed = |error: io::Error| io_error("staging", staged, &error);
        let have = size_of(staged).map_err(failed)?.unwrap_or(0);
        let new = &data[contents::known(sha256, size, have, offset, data)?..];
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(staged)
            .map_err(failed)?;
        file.write_all_at(new, have).map_err(failed)?;
        fault::point(fault::MID_STAGING);
        if have + (new.len() as u64) < size {
            return Ok(false);
        }

        if hash(&file).map_err(failed)? != sha256 {
            return Err(contents::wrong_hash(sha256));
        }
        let path = self.path(sha256);
        let parent = self.dir.join(&sha256[..2]);
        let settled = (|| {
            file.sync_all()?;
            if !parent.is_dir() {
                fs::create_dir_all(&parent)?;
                sync_dir(&self.dir)?;
            }
            fs::rename(staged, &path)?;
            sync_dir(&parent)
        })();
        settled.map_err(|error| io_error("storing", &path, &error))?;
        fault::point(fault::AFTER_CONTENT);
        Ok(true)
    }

    /// Size of whole content; `None` if it is not there.
    pub(super) fn size(&self, sha256: &str) -> Result<Option<u64>> {
        contents::check_name(sha256)?;
        let path = self.path(sha256);
        size_of(&path).map_err(|error| io_error("reading", &path, &error))
    }

    /// Bytes from `offset`, at most `max`.
    pub(super) fn read(&self, sha256: &str, offset: u64, max: usize) -> Result<Bytes> {
        contents::check_name(sha256)?;
        let path = self.path(sha256);
        let failed = |error: io::Error| io_error("reading", &path, &error);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(contents::absent(sha256));
            }
            Err(error) => return Err(failed(error)),
        };
        let size = file.metadata().map_err(failed)?.len();
        let left = size.saturating_sub(offset);
        let len = usize::try_from(left).map_or(max, |left| left.min(max));
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset).map_err(failed)?;
        Ok(bytes.into())
    }

    /// Whole contents and their sizes, in order of their names.
    pub(super) fn each(&self, visit: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> {
        for shard in 0..=255u8 {
            let dir = self.dir.join(format!("{shard:02x}"));
            let failed = |error: io::Error| io_error("listing", &dir, &error);
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            let mut found = Vec::new();
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                if let Some(name) = name.to_str().filter(|name| keys::is_sha256(name)) {
                    found.push((name.to_owned(), entry.metadata().map_err(failed)?.len()));
                }
            }
            found.sort();
            for (name, size) in found {
                visit(&name, size)?;
            }
        }
        Ok(())
    }

    /// Whether a content is what its name says.
    pub(super) fn verify(&self, sha256: &str) -> io::Result<bool> {
        Ok(hash(&File::open(self.path(sha256))?)? == sha256)
    }

    /// Removes a content to which nothing was added for `grace` and that nobody refers to; answers whether
    /// it was removed.
    pub(super) fn remove_unreferred(
        &self,
        sha256: &str,
        grace: Duration,
        is_referred: &dyn Fn() -> Result<bool>,
    ) -> Result<bool> {
        let _guard = self.lock(sha256);
        let path = self.path(sha256);
        let failed = |error: io::Error| io_error("removing", &path, &error);
        let Some(age) = self.age_of(&path).map_err(failed)? else {
            return Ok(false);
        };
        if age < grace || is_referred()? {
            return Ok(false);
        }
        fs::remove_file(&path).map_err(failed)?;
        Ok(true)
    }

    /// Lets go of staged contents to which nothing was added for long.
    pub(super) fn sweep_abandoned(&self) -> Result<()> {
        self.sweep_staging(STAGING_AGE)
    }

    /// How long ago a file was written; zero if the clock says that it will be.
    fn age_of(&self, path: &Path) -> io::Result<Option<Duration>> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let since = metadata
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let written = Timestamp::EPOCH.saturating_add(since);
        Ok(Some(self.clock.now().saturating_since(written)))
    }

    fn sweep_staging(&self, min_age: Duration) -> Result<()> {
        let staging = self.dir.join("staging");
        let failed = |error: io::Error| io_error("sweeping", &staging, &error);
        for entry in fs::read_dir(&staging).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if self
                .age_of(&path)
                .map_err(failed)?
                .is_some_and(|age| age >= min_age)
            {
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn size_of(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn hash(mut file: &File) -> io::Result<String> {
    use std::fmt::Write as _;
    use std::io::Seek as _;

    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
