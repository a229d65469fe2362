//! Compaction: gives back the space of what was trimmed, dropped, overwritten or forgotten.
//!
//! A snapshot first: what it says need not be kept in the journal. Then sealed segments that hold nothing
//! alive are deleted, and those that hold little are rewritten as their next generation. Each step can be
//! interrupted anywhere: a rewritten segment takes its name when it is whole and on disk, and the old one
//! is removed after the index points at the new one; readers that come too late look their place up again.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::disk::{io_error, sync_dir};
use super::frame;
use super::index::Where;
use super::runs::{Contents, block_last_seq, block_runs};
use super::segment::{self, HEADER, SegmentId};
use super::segments::Sealed;
use super::{Core, LocalStore, Options, Progress, fault, recover, snapshot};
use crate::store::{Error, Head, Result, Stream, keys};
use crate::wire::storage_v1 as pb;

/// How to compact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compaction {
    /// A segment of which less than this share is alive is rewritten; 0.0 to 1.0.
    pub min_live: f64,
    /// Whether the segment that is written to is sealed first, so that it is compacted, too.
    pub seal_active: bool,
}

impl Default for Compaction {
    fn default() -> Self {
        Compaction {
            min_live: 0.5,
            seal_active: false,
        }
    }
}

/// What compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments that were deleted whole.
    pub deleted: u64,
    /// Segments that were rewritten.
    pub rewritten: u64,
    /// Segments that were left alone since they are damaged.
    pub damaged: u64,
    /// Contents that were removed.
    pub contents: u64,
    /// Bytes that were given back.
    pub freed_bytes: u64,
}

impl LocalStore {
    /// Compacts while the store is in use. Blocks for long: call it from a thread of its own or with
    /// `spawn_blocking`. One runs at a time; another waits.
    pub fn compact(
        &self,
        compaction: &Compaction,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Compacted> {
        self.core.compact(compaction, progress)
    }

    /// Takes a snapshot, so that building the index anew starts from here. Compaction does it as well.
    pub fn snapshot(&self, progress: &mut dyn FnMut(Progress)) -> Result<u64> {
        let _turn = self.core.maintenance.lock();
        Ok(self.core.snapshot(progress)?.lsn)
    }
}

/// Compacts a store that nobody has open, its index included.
pub fn compact(options: Options, progress: &mut dyn FnMut(Progress)) -> Result<Compacted> {
    let dir = options.dir.clone();
    let store = LocalStore::open_existing(options)?;
    let compaction = Compaction {
        seal_active: true,
        ..Compaction::default()
    };
    let mut compacted = store.compact(&compaction, progress)?;
    store.close_blocking()?;
    drop(store);

    // sled never gives space back. What it holds is in the snapshot and the journal, so it can go; the
    // next start builds it anew.
    let index = dir.join("index");
    let size = tree_bytes(&index).map_err(|error| io_error("reading", &index, &error))?;
    recover::mark_index(&dir, recover::Trust::Bad)?;
    fs::remove_dir_all(&index).map_err(|error| io_error("removing", &index, &error))?;
    compacted.freed_bytes += size;
    Ok(compacted)
}

fn tree_bytes(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            tree_bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

impl Core {
    fn snapshot(&self, progress: &mut dyn FnMut(Progress)) -> Result<snapshot::Snapshot> {
        let dir = self.options.dir.join("snapshots");
        let index = self.index()?;
        let taken = snapshot::take(&dir, &index, &|| self.queue.barrier(false), &mut |done| {
            progress(Progress {
                phase: "snapshot",
                done,
                total: None,
            });
        })?;
        // So that a killed process leaves an index that need not be built anew.
        index.flush().inspect_err(|error| self.fail_index(error))?;
        Ok(taken)
    }

    fn compact(
        &self,
        compaction: &Compaction,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Compacted> {
        let _turn = self.maintenance.lock();
        self.writable()?;
        if compaction.seal_active {
            self.queue.barrier(true)?;
        }
        let taken = self.snapshot(progress)?;
        // From here on the journal alone is not everything, so the snapshot must be good.
        snapshot::verify(&taken).map_err(|error| io_error("verifying", &taken.path, &error))?;
        let dir = self.options.dir.join("snapshots");
        for former in snapshot::list(&dir)? {
            if former.lsn < taken.lsn {
                fs::remove_file(&former.path)
                    .map_err(|error| io_error("removing", &former.path, &error))?;
            }
        }
        sync_dir(&dir).map_err(|error| io_error("syncing", &dir, &error))?;

        let mut compacted = Compacted::default();
        let sealed: Vec<_> = self
            .segments
            .sealed()
            .into_iter()
            .filter(|(_, sealed)| sealed.last_lsn <= taken.lsn)
            .collect();
        let total = sealed.iter().map(|(_, sealed)| sealed.bytes).sum();
        let mut done = 0;
        for (id, sealed) in sealed {
            if self.queue.is_closed() {
                return Err(Error::Closed);
            }
            self.compact_segment(id, sealed, compaction, &mut compacted)?;
            done += sealed.bytes;
            progress(Progress {
                phase: "segments",
                done,
                total: Some(total),
            });
        }
        self.sweep_contents(&mut compacted, progress)?;
        Ok(compacted)
    }

    fn compact_segment(
        &self,
        id: u64,
        sealed: Sealed,
        compaction: &Compaction,
        compacted: &mut Compacted,
    ) -> Result<()> {
        let segment = SegmentId {
            id,
            generation: sealed.generation,
        };
        let path = segment.path(self.segments.journal());
        let failed = |error: std::io::Error| io_error("compacting", &path, &error);
        let footer = File::open(&path)
            .and_then(|file| segment::read_footer(&file))
            .map_err(failed)?;
        let Some(footer) = footer else {
            compacted.damaged += 1;
            return Ok(());
        };
        let live = self.live_bytes(segment, &footer.message)?;
        let data_bytes = footer.data_end.saturating_sub(HEADER as u64);
        if live as f64 >= compaction.min_live * data_bytes as f64 && live > 0 {
            return Ok(());
        }
        // With an interval, readers (and this) may see what is not synced: what made the rest dead must
        // be on disk before it goes.
        self.queue.barrier(false)?;
        let index = self.index()?;
        if live == 0 {
            index
                .remove_segment(id, &footer.message)
                .and_then(|()| index.flush())
                .inspect_err(|error| self.fail_index(error))?;
            fault::point(fault::MID_COMPACTION);
            fs::remove_file(&path)
                .and_then(|()| sync_dir(self.segments.journal()))
                .map_err(failed)?;
            self.segments.remove(segment);
            compacted.deleted += 1;
            compacted.freed_bytes += sealed.bytes;
            return Ok(());
        }

        let next = SegmentId {
            id,
            generation: sealed.generation + 1,
        };
        let Some((bytes, contents)) = self.rewritten(segment, next, &footer)? else {
            compacted.damaged += 1;
            return Ok(());
        };
        let size = bytes.len() as u64;
        let journal = self.segments.journal();
        let temp = journal.join(format!("{}.tmp", next.file_name()));
        let written = (|| {
            let mut file = File::create(&temp)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temp, next.path(journal))?;
            sync_dir(journal)
        })();
        if let Err(error) = written {
            let _ = fs::remove_file(&temp);
            return Err(failed(error));
        }
        fault::point(fault::MID_COMPACTION);
        index
            .put_segment(next, &contents, Some(&footer.message))
            .and_then(|()| index.flush())
            .inspect_err(|error| self.fail_index(error))?;
        self.segments.add_sealed(
            id,
            Sealed {
                generation: next.generation,
                bytes: size,
                ..sealed
            },
        );
        fs::remove_file(&path)
            .and_then(|()| sync_dir(journal))
            .map_err(failed)?;
        self.segments.close(segment);
        compacted.rewritten += 1;
        compacted.freed_bytes += sealed.bytes.saturating_sub(size);
        Ok(())
    }

    /// What of a segment is still needed.
    fn live_bytes(&self, segment: SegmentId, footer: &pb::SegmentFooter) -> Result<u64> {
        let mut live = 0;
        for block in &footer.blocks {
            let Some(head) = self.living(&block.stream, block.log_epoch)? else {
                continue;
            };
            if block_last_seq(block) >= head.first_seq {
                live += block_runs(block)
                    .filter(|run| run.last_seq >= head.first_seq)
                    .map(|run| u64::from(run.len))
                    .sum::<u64>();
            }
        }
        for large in &footer.large {
            if self.is_current(segment, &large.key, large.lsn)? {
                live += large.len;
            }
        }
        Ok(live)
    }

    /// The head of the log that entries belong to; `None` if that log is gone. Of a stream that is set
    /// apart, everything is kept.
    fn living(&self, stream: &str, log_epoch: u64) -> Result<Option<Head>> {
        let Some(stream) = Stream::new(stream) else {
            return Ok(None);
        };
        match self.head(&stream) {
            Ok(head) => Ok(head.filter(|head| head.log_epoch == log_epoch)),
            Err(Error::Corrupt { .. }) => {
                let head = self.index()?.head(&stream)?;
                Ok(head
                    .filter(|head| head.log_epoch == log_epoch)
                    .map(|head| Head {
                        first_seq: 0,
                        ..head
                    }))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a large value in a segment is what its record says now.
    fn is_current(&self, segment: SegmentId, key: &str, lsn: u64) -> Result<bool> {
        let record = self
            .index()?
            .record(key)
            .inspect_err(|error| self.fail_index(error))?;
        Ok(record.is_some_and(|record| {
            record.revision == lsn
                && matches!(record.value, Where::Journal(place) if place.segment.id == segment.id)
        }))
    }

    /// The next generation of a segment: what is needed of it, with its footer; `None` if it is damaged
    /// and so better left as it is.
    fn rewritten(
        &self,
        segment: SegmentId,
        next: SegmentId,
        footer: &segment::Footer,
    ) -> Result<Option<(Vec<u8>, pb::SegmentFooter)>> {
        let path = segment.path(self.segments.journal());
        let data = fs::read(&path).map_err(|error| io_error("reading", &path, &error))?;
        let scan = segment::scan(&data, footer.data_end as usize, footer.salt);
        if !scan.bad.is_empty() {
            return Ok(None);
        }
        let salt = rand::random();
        let mut out = segment::header(next, salt).to_vec();
        let mut contents = Contents::default();
        for found in &scan.frames {
            let payload = &data[found.payload()];
            let Some(commit) = frame::decode(payload) else {
                return Ok(None);
            };
            let mut kept = Vec::new();
            for append in commit.appends.iter().filter(|append| append.count > 0) {
                let head = self.living(append.stream.as_str(), append.log_epoch)?;
                if head.is_some_and(|head| append.first_seq + append.count > head.first_seq) {
                    kept.push(append.raw.clone());
                }
            }
            for op in &commit.ops {
                let is_large = op
                    .value
                    .as_ref()
                    .is_some_and(|value| value.len() > super::runs::MAX_INDEXED_VALUE);
                if is_large && self.is_current(segment, &op.key, commit.lsn)? {
                    kept.push(op.raw.clone());
                }
            }
            if kept.is_empty() {
                continue;
            }
            let start = out.len() + frame::FRAME_HEADER;
            frame::seal_frame(&mut out, salt, |out| {
                frame::put_number(out, 1, commit.lsn);
                for range in kept {
                    out.extend_from_slice(&payload[range]);
                }
                frame::put_number(out, 5, commit.synced_lsn);
            });
            let payload = &out[start..];
            let Some(frame) = frame::decode(payload) else {
                return Ok(None);
            };
            contents.add(&frame, payload, start as u64);
        }
        let message = pb::SegmentFooter {
            first_lsn: footer.message.first_lsn,
            last_lsn: footer.message.last_lsn,
            ..contents.footer()
        };
        let data_end = out.len() as u64;
        out.extend(segment::footer_bytes(&message, data_end, salt));
        Ok(Some((out, message)))
    }

    fn sweep_contents(
        &self,
        compacted: &mut Compacted,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        self.contents.sweep_abandoned()?;
        let index = self.index()?;
        let mut done = 0;
        self.contents.each(&mut |sha256, size| {
            let prefix = keys::content_prefix(sha256);
            let removed =
                self.contents
                    .remove_unreferred(sha256, self.options.content_grace, &|| {
                        index.any_record(&prefix)
                    })?;
            if removed {
                compacted.contents += 1;
                compacted.freed_bytes += size;
            }
            done += 1;
            progress(Progress {
                phase: "contents",
                done,
                total: None,
            });
            Ok(())
        })
    }
}
