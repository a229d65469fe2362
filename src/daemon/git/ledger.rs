//! What the daemon knows of its worktrees: one file each, replaced whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::base::id::{CommandId, WorktreeId};
use crate::base::{Result, Timestamp};
use crate::daemon::paths::{broken, make_private};
use crate::daemon::runner::spec::write_private;
use crate::domain::worktree::Place;
use crate::domain::worktree::order::Kept;

/// What names of scratch directories begin with.
const SCRATCH: &str = "scratch-";
/// Results that are remembered for each worktree: a repeat gets its first answer.
const MAX_RESULTS: usize = 16;
/// Merged heads that are remembered for each worktree.
const MAX_MERGED: usize = 64;
/// How long a worktree that is gone is remembered.
const KEEP_GONE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Whether a worktree is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It was never finished.
    #[default]
    New,
    /// It is there.
    Here,
    /// It is gone.
    Gone,
}

/// What is being done, and how far. Each step is written before it is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The directory and perhaps the branch are being made.
    Creating,
    /// A result is tried in a directory of its own.
    Testing {
        /// The directory.
        temporary: PathBuf,
    },
    /// A target is being moved.
    Moving {
        /// The branch.
        target: String,
        /// Where it was.
        old: String,
        /// Where it goes.
        new: String,
        /// The head that is merged.
        head: String,
        /// The checkout that has the branch, which is moved along.
        checkout: Option<PathBuf>,
    },
    /// The directory is put aside, to be looked at where nobody finds it.
    Aside {
        /// Where.
        aside: PathBuf,
    },
    /// It is being removed; what has to be kept is kept.
    Removing {
        /// Where the directory is.
        aside: PathBuf,
        /// The ref that keeps it; empty if nothing had to be kept.
        recover_ref: String,
        /// The branch to be removed and where it was.
        branch: Option<(String, String)>,
    },
}

/// An operation under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Its id.
    pub operation_id: CommandId,
    /// How far it is.
    pub step: Step,
}

/// A worktree in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Id.
    pub id: WorktreeId,
    /// Where it is.
    pub place: Place,
    /// The task or else the worktree's own id: what a merge names.
    pub label: String,
    /// What it is for.
    pub title: String,
    /// Whether it is there.
    pub stage: Stage,
    /// What is being done.
    pub pending: Option<Pending>,
    /// What came of the newest operations.
    pub results: Vec<(CommandId, Kept)>,
    /// Heads of its branch that were merged.
    pub merged: Vec<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When the entry changed.
    pub updated_at: Timestamp,
}

impl Entry {
    /// A worktree that is not there yet.
    pub fn new(id: WorktreeId, now: Timestamp) -> Self {
        Entry {
            id,
            place: Place::default(),
            label: id.to_string(),
            title: String::new(),
            stage: Stage::New,
            pending: None,
            results: Vec::new(),
            merged: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// What came of an operation.
    pub fn result(&self, id: CommandId) -> Option<&Kept> {
        let mut results = self.results.iter();
        results
            .find(|(known, _)| *known == id)
            .map(|(_, kept)| kept)
    }

    /// Notes what came of an operation, which is over.
    pub fn settle(&mut self, id: CommandId, result: Kept) {
        self.pending = None;
        self.results.push((id, result));
        let over = self.results.len().saturating_sub(MAX_RESULTS);
        self.results.drain(..over);
    }

    /// Notes a head that was merged.
    pub fn merged(&mut self, head: &str) {
        if !self.merged.iter().any(|known| known == head) {
            self.merged.push(head.to_owned());
        }
        let over = self.merged.len().saturating_sub(MAX_MERGED);
        self.merged.drain(..over);
    }
}

/// An entry, held by whoever works on its worktree.
pub type Held = Arc<Mutex<Entry>>;

/// All entries.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    entries: Mutex<BTreeMap<WorktreeId, Held>>,
}

impl Ledger {
    /// Reads the ledger, making it if there is none. An entry that cannot be read is an error: what it knows
    /// must not be forgotten quietly.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self> {
        make_private(dir)?;
        let mut entries = BTreeMap::new();
        for file in fs::read_dir(dir).map_err(|error| broken(dir, error))? {
            let path = file.map_err(|error| broken(dir, error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(SCRATCH) {
                // Of an operation that ended with its daemon.
                fs::remove_dir_all(&path).map_err(|error| broken(&path, error))?;
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = fs::read(&path).map_err(|error| broken(&path, error))?;
            let entry: Entry = serde_json::from_slice(&text)
                .map_err(|error| broken(&path, std::io::Error::other(error)))?;
            let is_old = entry.stage != Stage::Here
                && entry.pending.is_none()
                && now.saturating_since(entry.updated_at) > KEEP_GONE;
            match is_old {
                true => fs::remove_file(&path).map_err(|error| broken(&path, error))?,
                false => {
                    entries.insert(entry.id, Arc::new(Mutex::new(entry)));
                }
            }
        }
        Ok(Ledger {
            dir: dir.to_owned(),
            entries: Mutex::new(entries),
        })
    }

    /// A directory for files that live as long as one operation.
    pub fn scratch(&self) -> Result<Scratch> {
        let number: u64 = rand::random();
        let dir = self.dir.join(format!("{SCRATCH}{number:016x}"));
        make_private(&dir)?;
        Ok(Scratch { dir })
    }

    /// An entry.
    pub fn get(&self, id: WorktreeId) -> Option<Held> {
        self.entries.lock().get(&id).cloned()
    }

    /// An entry, made if it is not there.
    pub fn get_or_new(&self, id: WorktreeId, now: Timestamp) -> Held {
        let mut entries = self.entries.lock();
        let new = || Arc::new(Mutex::new(Entry::new(id, now)));
        entries.entry(id).or_insert_with(new).clone()
    }

    /// All entries, oldest first.
    pub fn all(&self) -> Vec<Held> {
        self.entries.lock().values().cloned().collect()
    }

    /// Writes an entry; on disk when this returns.
    pub fn write(&self, entry: &mut Entry, now: Timestamp) -> Result<()> {
        entry.updated_at = now;
        let path = self.dir.join(format!("{}.json", entry.id));
        let text = serde_json::to_vec_pretty(entry).map_err(crate::base::Error::internal)?;
        write_private(&path, &text).map_err(|error| broken(&path, error))
    }
}

/// A directory that goes with the operation it was made for.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed when the daemon starts next.
        let _ = fs::remove_dir_all(&self.dir);
    }
}
