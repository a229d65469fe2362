//! The segments as a whole: which there are, their open files, and what the unsealed ones hold.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::runs::{Contents, Place, Run};
use super::segment::SegmentId;
use crate::store::{Result, Stream};

/// Most sealed segments whose files are kept open.
const MAX_OPEN: usize = 128;

/// All segments.
#[derive(Debug)]
pub(super) struct Segments {
    journal: PathBuf,
    state: RwLock<State>,
    open: Mutex<HashMap<SegmentId, Arc<File>>>,
}

#[derive(Debug, Default)]
struct State {
    sealed: BTreeMap<u64, Sealed>,
    /// Not sealed, oldest first; the last one is written to.
    fresh: Vec<Arc<Fresh>>,
}

/// A sealed segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) generation: u32,
    pub(super) last_lsn: u64,
    /// Size of the file.
    pub(super) bytes: u64,
}

/// A segment that is not sealed; always generation 0.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) id: u64,
    pub(super) salt: u32,
    pub(super) file: Arc<File>,
    /// What is in it as far as readers may see it.
    pub(super) contents: RwLock<Contents>,
    pub(super) room: Room,
}

impl Fresh {
    pub(super) fn segment(&self) -> SegmentId {
        SegmentId {
            id: self.id,
            generation: 0,
        }
    }
}

/// How far a file is filled with zeros, so that writing there changes no size.
#[derive(Debug)]
pub(super) struct Room {
    /// The file is filled up to here; grows only under `filling`.
    filled: AtomicU64,
    /// Whoever writes at or beyond `filled`, or truncates, holds this. `false`: no more filling.
    pub(super) filling: Mutex<bool>,
}

impl Room {
    pub(super) fn new(filled: u64) -> Self {
        Room {
            filled: AtomicU64::new(filled),
            filling: Mutex::new(true),
        }
    }

    pub(super) fn filled(&self) -> u64 {
        self.filled.load(Ordering::Acquire)
    }

    /// Notes how far it is filled; the caller holds `filling`.
    pub(super) fn set_filled(&self, filled: u64) {
        self.filled.store(filled, Ordering::Release);
    }
}

/// Why bytes of a segment could not be had.
#[derive(Debug)]
pub(super) enum Unread {
    /// The file is gone: compaction has moved what was in it. Look the place up again.
    Moved,
    /// The bytes are not what was written.
    Damaged(String),
    /// The disk failed.
    Io(io::Error),
}

impl Segments {
    pub(super) fn new(journal: PathBuf) -> Self {
        Segments {
            journal,
            state: RwLock::default(),
            open: Mutex::default(),
        }
    }

    /// The journal's directory.
    pub(super) fn journal(&self) -> &Path {
        &self.journal
    }

    /// Adds a segment that is written to from now on.
    pub(super) fn add_fresh(&self, fresh: Arc<Fresh>) {
        self.state.write().fresh.push(fresh);
    }

    /// Adds a sealed segment, or puts it in the place of its former generation.
    pub(super) fn add_sealed(&self, id: u64, sealed: Sealed) {
        self.state.write().sealed.insert(id, sealed);
    }

    /// A fresh segment was sealed; the index has its blocks.
    pub(super) fn seal(&self, id: u64, sealed: Sealed) {
        let mut state = self.state.write();
        state.sealed.insert(id, sealed);
        state.fresh.retain(|fresh| fresh.id != id);
    }

    /// A sealed segment is gone.
    pub(super) fn remove(&self, segment: SegmentId) {
        let mut state = self.state.write();
        if state
            .sealed
            .get(&segment.id)
            .is_some_and(|sealed| sealed.generation == segment.generation)
        {
            state.sealed.remove(&segment.id);
        }
        drop(state);
        self.close(segment);
    }

    /// Closes a segment's file if it is open.
    pub(super) fn close(&self, segment: SegmentId) {
        self.open.lock().remove(&segment);
    }

    /// The sealed segments.
    pub(super) fn sealed(&self) -> Vec<(u64, Sealed)> {
        let state = self.state.read();
        state
            .sealed
            .iter()
            .map(|(id, sealed)| (*id, *sealed))
            .collect()
    }

    /// Whether there is such a segment.
    pub(super) fn has(&self, segment: SegmentId) -> bool {
        let state = self.state.read();
        let sealed = state.sealed.get(&segment.id);
        sealed.is_some_and(|sealed| sealed.generation == segment.generation)
            || state.fresh.iter().any(|fresh| fresh.segment() == segment)
    }

    /// The segments that are not sealed, oldest first.
    pub(super) fn fresh(&self) -> Vec<Arc<Fresh>> {
        self.state.read().fresh.clone()
    }

    /// Runs of a stream in unsealed segments from `from_seq` on, in order, until `max_bytes` are gathered.
    pub(super) fn fresh_runs(
        &self,
        stream: &Stream,
        log_epoch: u64,
        from_seq: u64,
        max_bytes: u64,
    ) -> Vec<Place> {
        let mut places = Vec::new();
        let mut bytes = 0;
        for fresh in self.fresh() {
            let contents = fresh.contents.read();
            let Some(runs) = contents.streams.get(stream) else {
                continue;
            };
            // Epochs grow with the log, and so do seqs within one.
            let at =
                runs.partition_point(|run| (run.log_epoch, run.last_seq) < (log_epoch, from_seq));
            for run in runs[at..]
                .iter()
                .take_while(|run| run.log_epoch == log_epoch)
            {
                if bytes >= max_bytes {
                    return places;
                }
                bytes += u64::from(run.len);
                places.push(Place {
                    segment: fresh.segment(),
                    run: *run,
                });
            }
        }
        places
    }

    /// The newest runs of a stream in unsealed segments, newest first, until `visit` returns `false`.
    pub(super) fn fresh_runs_back(
        &self,
        stream: &Stream,
        log_epoch: u64,
        mut visit: impl FnMut(Run) -> bool,
    ) {
        for fresh in self.fresh().iter().rev() {
            let contents = fresh.contents.read();
            for run in contents.streams.get(stream).into_iter().flatten().rev() {
                if run.log_epoch == log_epoch && !visit(*run) {
                    return;
                }
            }
        }
    }

    /// Bytes of a segment, checked against their CRC.
    pub(super) fn read(
        &self,
        segment: SegmentId,
        offset: u64,
        len: u32,
        crc: u32,
    ) -> Result<Bytes, Unread> {
        let file = self.file(segment)?;
        let mut bytes = vec![0; len as usize];
        if let Err(error) = file.read_exact_at(&mut bytes, offset) {
            return Err(match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    Unread::Damaged(format!("{} is too short", segment.file_name()))
                }
                _ => Unread::Io(error),
            });
        }
        if crc32c::crc32c(&bytes) != crc {
            return Err(Unread::Damaged(format!(
                "{} bytes at {offset} of {} are not what was written",
                len,
                segment.file_name()
            )));
        }
        Ok(bytes.into())
    }

    fn file(&self, segment: SegmentId) -> Result<Arc<File>, Unread> {
        if segment.generation == 0
            && let Some(fresh) = self
                .state
                .read()
                .fresh
                .iter()
                .find(|fresh| fresh.id == segment.id)
        {
            return Ok(fresh.file.clone());
        }
        if let Some(file) = self.open.lock().get(&segment) {
            return Ok(file.clone());
        }
        let file = match File::open(segment.path(&self.journal)) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unread::Moved),
            Err(error) => return Err(Unread::Io(error)),
        };
        let mut open = self.open.lock();
        if open.len() >= MAX_OPEN {
            // Any will do: opening one again is cheap.
            if let Some(other) = open.keys().next().copied() {
                open.remove(&other);
            }
        }
        open.insert(segment, file.clone());
        Ok(file)
    }
}
