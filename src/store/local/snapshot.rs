//! Snapshots of heads and records: what the journal said up to a commit, so that it need not be read (and
//! need not be kept) from its beginning.
//!
//! A snapshot is taken from the index while commits go on. So it has everything up to its `lsn`, and may
//! have parts of later commits up to `whole_lsn`; applying the journal from `lsn` on makes it whole, since
//! applying a commit twice changes nothing.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::disk::{io_error, sync_dir};
use super::fault;
use super::index::{Index, Stored, Where};
use super::items;
use crate::base::Timestamp;
use crate::store::{Head, Origin, Result, Stream};
use crate::wire::storage_v1 as pb;
use pb::snapshot_entry::Entry;

const PAGE: usize = 512;

/// A snapshot's file and what it includes.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) path: PathBuf,
    pub(super) lsn: u64,
}

/// Snapshots in a directory, newest first.
pub(super) fn list(dir: &Path) -> Result<Vec<Snapshot>> {
    let mut snapshots = Vec::new();
    let entries = fs::read_dir(dir).map_err(|error| io_error("listing", dir, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| io_error("listing", dir, &error))?;
        let lsn = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix("snapshot-"))
            .and_then(|lsn| lsn.parse().ok());
        if let Some(lsn) = lsn {
            snapshots.push(Snapshot {
                path: entry.path(),
                lsn,
            });
        }
    }
    snapshots.sort_unstable_by_key(|snapshot| std::cmp::Reverse(snapshot.lsn));
    Ok(snapshots)
}

/// A file that becomes a snapshot when it is whole.
pub(super) struct Writer {
    dir: PathBuf,
    temp: PathBuf,
    out: BufWriter<File>,
    entries: u64,
    is_done: bool,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_done {
            // It failed half way, perhaps on a full disk: what it took is given back.
            let _ = fs::remove_file(&self.temp);
        }
    }
}

impl Writer {
    /// Begins a snapshot.
    pub(super) fn create(dir: &Path) -> Result<Self> {
        let temp = dir.join("snapshot.tmp");
        let file = File::create(&temp).map_err(|error| io_error("creating", &temp, &error))?;
        Ok(Writer {
            dir: dir.to_owned(),
            temp,
            out: BufWriter::with_capacity(1 << 20, file),
            entries: 0,
            is_done: false,
        })
    }

    /// Adds an entry.
    pub(super) fn add(&mut self, entry: Entry) -> Result<()> {
        self.entries += 1;
        let entry = pb::SnapshotEntry { entry: Some(entry) };
        items::write(&mut self.out, &entry).map_err(|error| io_error("writing", &self.temp, &error))
    }

    /// Makes it the snapshot up to `lsn`: synced, then renamed. Deletions up to `forgotten` are not in it.
    pub(super) fn finish(mut self, lsn: u64, whole_lsn: u64, forgotten: u64) -> Result<Snapshot> {
        let entries = self.entries;
        self.add(Entry::End(pb::SnapshotEnd {
            lsn,
            entries,
            whole_lsn,
            forgotten,
        }))?;
        let path = self.dir.join(format!("snapshot-{lsn:020}"));
        let done = (|| {
            self.out.flush()?;
            self.out.get_ref().sync_all()?;
            fs::rename(&self.temp, &path)?;
            sync_dir(&self.dir)
        })();
        done.map_err(|error| io_error("writing", &path, &error))?;
        self.is_done = true;
        Ok(Snapshot { path, lsn })
    }
}

/// Takes a snapshot of the index. `barrier` waits until all that is in the index is synced in the journal,
/// and answers with the last commit.
pub(super) fn take(
    dir: &Path,
    index: &Index,
    barrier: &dyn Fn() -> Result<u64>,
    step: &mut dyn FnMut(u64),
) -> Result<Snapshot> {
    let lsn = index.applied()?;
    let mut writer = Writer::create(dir)?;
    let mut done = 0;
    let mut after = None;
    loop {
        let heads = index.heads(after.as_ref(), PAGE)?;
        let Some((last, _)) = heads.last() else {
            break;
        };
        after = Some(last.clone());
        done += heads.len() as u64;
        for (stream, head) in heads {
            writer.add(Entry::Head(head_message(&stream, &head)))?;
        }
        step(done);
    }
    fault::point(fault::MID_SNAPSHOT);
    let mut after: Option<String> = None;
    loop {
        let records = index.scan("", after.as_deref(), PAGE)?;
        let Some(last) = records.last() else {
            break;
        };
        after = Some(last.key.clone());
        done += records.len() as u64;
        for record in records {
            writer.add(Entry::Record(record_entry(record)))?;
        }
        step(done);
    }
    let mut after: Option<String> = None;
    loop {
        let tombstones = index.tombstones(after.as_deref(), PAGE)?;
        let Some(last) = tombstones.last() else {
            break;
        };
        after = Some(last.key.clone());
        for tombstone in tombstones {
            writer.add(Entry::Tombstone(tombstone))?;
        }
    }
    let whole_lsn = barrier()?;
    writer.finish(lsn, whole_lsn, index.forgotten())
}

fn record_entry(record: Stored) -> pb::RecordEntry {
    let (value, in_journal) = match record.value {
        Where::Inline(value) => (value.to_vec().into(), false),
        Where::Journal(_) | Where::Lost | Where::Deleted => (bytes::Bytes::new(), true),
    };
    pb::RecordEntry {
        key: record.key,
        value,
        revision: record.revision,
        in_journal,
    }
}

/// A head as it is written.
pub(super) fn head_message(stream: &Stream, head: &Head) -> pb::StreamHead {
    pb::StreamHead {
        stream: stream.as_str().to_owned(),
        log_epoch: head.log_epoch,
        first_seq: head.first_seq,
        last_seq: head.last_seq,
        fence: head.fence,
        origin_epoch: head.origin.epoch,
        origin_seq: head.origin.seq,
        last_time_us: head.last_time.as_micros(),
    }
}

/// A head as it was written; `None` if its stream's name is none.
pub(super) fn head_from(message: &pb::StreamHead) -> Option<(Stream, Head)> {
    let head = Head {
        log_epoch: message.log_epoch,
        first_seq: message.first_seq,
        last_seq: message.last_seq,
        fence: message.fence,
        origin: Origin {
            epoch: message.origin_epoch,
            seq: message.origin_seq,
        },
        last_time: Timestamp::from_micros(message.last_time_us),
    };
    Some((Stream::new(&message.stream)?, head))
}

/// Walks over a snapshot. The answer is its end; [`io::ErrorKind::InvalidData`] if it is damaged.
pub(super) fn read(
    snapshot: &Snapshot,
    visit: &mut dyn FnMut(Entry) -> Result<()>,
) -> io::Result<Result<pb::SnapshotEnd>> {
    let damaged = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem.to_owned());
    let mut file = BufReader::with_capacity(1 << 20, File::open(&snapshot.path)?);
    let mut entries = 0;
    while let Some(entry) = items::read::<pb::SnapshotEntry>(&mut file)? {
        match entry.entry {
            Some(Entry::End(end)) => {
                return if end.entries == entries && end.lsn == snapshot.lsn {
                    Ok(Ok(end))
                } else {
                    Err(damaged("its end does not fit"))
                };
            }
            Some(entry) => {
                entries += 1;
                if let Err(error) = visit(entry) {
                    return Ok(Err(error));
                }
            }
            None => return Err(damaged("an entry is of no known kind")),
        }
    }
    Err(damaged("it has no end"))
}

/// Reads a whole snapshot without using it.
pub(super) fn verify(snapshot: &Snapshot) -> io::Result<pb::SnapshotEnd> {
    match read(snapshot, &mut |_| Ok(()))? {
        Ok(end) => Ok(end),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Fills an empty index from a snapshot that was verified.
pub(super) fn load(snapshot: &Snapshot, index: &Index) -> Result<pb::SnapshotEnd> {
    let loaded = read(snapshot, &mut |entry| match entry {
        Entry::Head(message) => match head_from(&message) {
            Some((stream, head)) => index.put_head(&stream, &head),
            None => Ok(()),
        },
        Entry::Record(record) => index.put_record(&record),
        Entry::Tombstone(tombstone) => index.put_tombstone(&tombstone),
        Entry::End(_) => Ok(()),
    });
    let end = loaded.map_err(|error| io_error("reading", &snapshot.path, &error))??;
    index.set_forgotten(end.forgotten)?;
    index.set_applied(end.lsn)?;
    Ok(end)
}
