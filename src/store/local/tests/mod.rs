//! Tests of the local provider: the promises, damage, a bad disk, compaction, export.

mod compaction;
mod damage;
mod disk;
mod export;
mod index;
mod promises;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{LocalStore, Options};
use crate::base::Timestamp;
use crate::base::clock::ManualClock;
use crate::store::conformance::{Provider, append, op, stream};
use crate::store::{Append, Commit, Committed, Expect, Journal as _, RecordOp, SharedStore, Trim};

/// Options for tests: small segments, so that a few commits roll them.
pub(super) fn options(dir: &Path) -> Options {
    Options {
        segment_bytes: 16 << 10,
        fill_bytes: 4 << 10,
        cache_bytes: 4 << 20,
        content_grace: Duration::ZERO,
        reserve_bytes: 0,
        ..Options::new(dir)
    }
}

/// A local store that can be taken down and up.
pub(super) struct Local {
    dir: tempfile::TempDir,
    options: Options,
    clock: Arc<ManualClock>,
    store: Arc<LocalStore>,
}

impl Local {
    pub(super) fn new(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
        let mut options = options(dir.path());
        options.clock = clock.clone();
        change(&mut options);
        let store = Arc::new(LocalStore::open(options.clone()).expect("a new store"));
        Local {
            dir,
            options,
            clock,
            store,
        }
    }
}

impl Provider for Local {
    fn store(&self) -> SharedStore {
        self.store.clone()
    }

    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }

    fn reopen(&mut self) -> BoxFuture<'_, ()> {
        async {
            self.store.close_blocking().expect("closed");
            self.store = Arc::new(LocalStore::open(self.options.clone()).expect("opened again"));
            assert_eq!(self.store.damage(), []);
        }
        .boxed()
    }

    fn crash(&mut self) -> BoxFuture<'_, ()> {
        async {
            // What a killed process leaves: the files as the system has them.
            let copy = tempfile::tempdir().expect("a directory");
            copy_tree(self.dir.path(), copy.path());
            self.store.close_blocking().expect("closed");
            self.options.dir = copy.path().to_owned();
            self.dir = copy;
            self.store = Arc::new(LocalStore::open(self.options.clone()).expect("recovered"));
            assert_eq!(self.store.damage(), []);
        }
        .boxed()
    }
}

/// Copies a directory. A file that goes away meanwhile was on its way out.
pub(super) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            copy_tree(&entry.path(), &target);
        } else if let Err(error) = fs::copy(entry.path(), &target) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

/// The journal's files, in order.
pub(super) fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir.join("journal"))
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    files
}

/// Bytes of all files beneath a directory.
pub(super) fn size_of(dir: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).expect("readable") {
        let entry = entry.expect("readable");
        let metadata = entry.metadata().expect("readable");
        bytes += if metadata.is_dir() {
            size_of(&entry.path())
        } else {
            metadata.len()
        };
    }
    bytes
}

/// Appends one entry of `size` bytes at the end of a stream.
pub(super) async fn add(store: &LocalStore, name: &str, last: u64, size: usize) -> Committed {
    let change = Append {
        entries: vec![entry(name, last + 1, size)].into(),
        ..append(name, last, &[])
    };
    store
        .commit(Commit {
            appends: vec![change],
            ..Commit::default()
        })
        .await
        .expect("committed")
}

/// What [`add`] writes.
pub(super) fn entry(name: &str, seq: u64, size: usize) -> Bytes {
    let mut text = format!("{name} {seq} ");
    while text.len() < size {
        text.push('.');
    }
    text.truncate(size.max(1));
    text.into()
}

/// Sets a record.
pub(super) async fn put(store: &LocalStore, key: &str, value: &str) -> Committed {
    change(store, op(key, Expect::Any, Some(value))).await
}

/// Changes a record.
pub(super) async fn change(store: &LocalStore, op: RecordOp) -> Committed {
    store
        .commit(Commit {
            ops: vec![op],
            ..Commit::default()
        })
        .await
        .expect("committed")
}

/// Trims a stream, or drops it.
pub(super) async fn trim(store: &LocalStore, name: &str, first_seq: Option<u64>) {
    let trim = Trim {
        stream: stream(name),
        first_seq: first_seq.unwrap_or(0),
        drop: first_seq.is_none(),
    };
    store
        .commit(Commit {
            trims: vec![trim],
            ..Commit::default()
        })
        .await
        .expect("committed");
}
