//! What a worktree looks like: its head, what is uncommitted, untracked and unmerged, its size, its age.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::ledger::Entry;
use super::refs::{full, is_commit};
use super::repository::Repository;
use super::tree::Tree;
use crate::base::{Result, Timestamp};
use crate::domain::worktree::Look;

/// The most of a status that is read, in bytes.
const MAX_STATUS: usize = 32 << 20;
/// The most files that are counted for a size.
const MAX_FILES: usize = 2_000_000;

/// What differs from the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirt {
    /// Tracked files.
    pub uncommitted: u32,
    /// Untracked files, without ignored ones.
    pub untracked: u32,
}

impl Dirt {
    /// Whether nothing differs.
    pub fn is_none(self) -> bool {
        self == Dirt::default()
    }
}

/// What differs from the head, by the checkout's own index or another one.
pub fn dirt(tree: &Tree, index: Option<&Path>) -> Result<Dirt> {
    let mut call = tree.at().max(MAX_STATUS).args([
        "status",
        "--porcelain=v2",
        "-z",
        "--untracked-files=all",
        "--ignore-submodules=dirty",
        "--no-renames",
    ]);
    if let Some(index) = index {
        call = call.index(index);
    }
    let ran = tree.repository().git().run(call)?;
    Ok(counted(&ran.stdout))
}

/// What `git status --porcelain=v2 -z` says.
pub(super) fn counted(said: &[u8]) -> Dirt {
    let mut dirt = Dirt::default();
    for line in said.split(|byte| *byte == 0) {
        match line.first() {
            Some(b'1' | b'2' | b'u') => dirt.uncommitted = dirt.uncommitted.saturating_add(1),
            Some(b'?') => dirt.untracked = dirt.untracked.saturating_add(1),
            _ => {}
        }
    }
    dirt
}

/// Commits of a worktree that are neither in its target or base, nor at a remote, nor merged.
pub fn unmerged(repository: &Repository, entry: &Entry, heads: &[String]) -> Result<u32> {
    let mut without = vec!["--remotes".to_owned()];
    let place = &entry.place;
    for name in [
        full(&place.target),
        full(&place.base),
        place.base_commit.clone(),
    ] {
        without.extend(repository.commit(&name)?);
    }
    for head in entry.merged.iter().filter(|head| is_commit(head)) {
        without.extend(repository.commit(head)?);
    }
    repository.count(heads, &without)
}

/// Looks at a worktree; `tree` is `None` where git does not know it any more.
pub fn look(repository: &Repository, entry: &Entry, tree: Option<&Tree>) -> Result<Look> {
    let path = PathBuf::from(&entry.place.path);
    let mut look = Look {
        last_used: entry.created_at,
        ..Look::default()
    };
    let mut heads: Vec<String> = repository
        .branch(&entry.place.branch)?
        .into_iter()
        .collect();
    match tree {
        Some(tree) if path.is_dir() => {
            let dirt = dirt(tree, None)?;
            (look.uncommitted, look.untracked) = (dirt.uncommitted, dirt.untracked);
            look.size_bytes = size(&path);
        }
        _ => look.missing = true,
    }
    if let Some(tree) = tree {
        if let Some(head) = tree.head()? {
            look.head.clone_from(&head);
            heads.push(head);
        }
        for file in ["index", "HEAD", "logs/HEAD"] {
            look.last_used = look.last_used.max(changed(&tree.dir.join(file)));
        }
    }
    look.last_used = look.last_used.max(changed(&path));
    look.unmerged = unmerged(repository, entry, &heads)?;
    Ok(look)
}

fn changed(path: &Path) -> Timestamp {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return Timestamp::EPOCH;
    };
    let micros = meta.mtime().saturating_mul(1_000_000);
    Timestamp::from_micros(micros.saturating_add(meta.mtime_nsec() / 1_000))
}

/// Disk space beneath a directory, without following links.
pub fn size(path: &Path) -> u64 {
    let mut bytes = 0_u64;
    let mut seen = 0_usize;
    let mut waiting = vec![path.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MAX_FILES {
                return bytes;
            }
            // Of a link itself, not of what it leads to.
            let Ok(meta) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(meta.blocks().saturating_mul(512));
            if meta.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    bytes
}
