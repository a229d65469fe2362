//! Reading: from the tail in memory, or from the index and the segments.

use bytes::{Bytes, BytesMut};

use super::Core;
use super::frame;
use super::index::{Index, LargePlace, Stored, Where};
use super::runs::{Place, Run};
use super::segments::Unread;
use crate::store::{Chunk, Error, Head, Record, RecordChange, Result, Stream, rules};

/// How often a place is looked up again after compaction has moved it.
const MAX_MOVES: usize = 16;
/// Small runs that follow each other become one chunk of up to this many bytes.
const JOINED_BYTES: usize = 32 << 10;

/// A record, if it could be had without the disk.
pub(super) enum Got {
    Here(Option<Record>),
    Journal,
}

impl Core {
    /// The head, checked against a position; `None`: there is nothing after it.
    fn readable(&self, stream: &Stream, after_seq: u64) -> Result<Option<Head>> {
        let head = rules::readable(stream, self.head(stream)?, after_seq)?;
        Ok((after_seq < head.last_seq).then_some(head))
    }

    /// Chunks after `after_seq` if they are in memory; `None` if the disk must be asked.
    pub(super) fn read_memory(
        &self,
        stream: &Stream,
        after_seq: u64,
        max_bytes: usize,
    ) -> Result<Option<Vec<Chunk>>> {
        let Some(head) = self.readable(stream, after_seq)? else {
            return Ok(Some(Vec::new()));
        };
        let from_seq = after_seq + 1;
        let found = self.tails.read(stream, head.log_epoch, from_seq, max_bytes);
        let Some(mut chunks) = found else {
            return Ok(None);
        };
        match chunks.first_mut() {
            Some(first) if first.first_seq < from_seq => match begin_at(first, from_seq) {
                Some(()) => Ok(Some(chunks)),
                None => Ok(None),
            },
            _ => Ok(Some(chunks)),
        }
    }

    /// Chunks after `after_seq` from the segments.
    pub(super) fn read_disk(
        &self,
        stream: &Stream,
        after_seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<Chunk>> {
        let mut problem = None;
        for _ in 0..MAX_MOVES {
            // Again each time: the stream may have been trimmed or dropped meanwhile.
            let Some(head) = self.readable(stream, after_seq)? else {
                return Ok(Vec::new());
            };
            match self.read_places(stream, &head, after_seq + 1, max_bytes)? {
                Ok(chunks) => return Ok(chunks),
                Err(Unread::Moved) => problem = None,
                Err(Unread::Io(error)) => {
                    return Err(Error::Io(format!("reading stream {stream}: {error}")));
                }
                // Believed only when it is there twice: in between, the place may have changed.
                Err(Unread::Damaged(text)) if problem.is_none() => problem = Some(text),
                Err(Unread::Damaged(text)) => return Err(self.set_apart(stream, text)),
            }
        }
        Err(Error::Io(format!(
            "the entries of stream {stream} moved too often while they were read"
        )))
    }

    fn read_places(
        &self,
        stream: &Stream,
        head: &Head,
        from_seq: u64,
        max_bytes: usize,
    ) -> Result<Result<Vec<Chunk>, Unread>> {
        let places = self.places(stream, head, from_seq, max_bytes as u64)?;
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut joined = Joined::default();
        let mut next_seq = from_seq;
        let mut bytes = 0;
        for place in places {
            if bytes >= max_bytes && bytes > 0 {
                break;
            }
            let run = place.run;
            if run.last_seq < next_seq {
                continue;
            }
            if run.first_seq > next_seq || run.last_seq > head.last_seq {
                break;
            }
            let read = match self
                .segments
                .read(place.segment, run.offset, run.len, run.crc)
            {
                Ok(read) => read,
                Err(unread) if chunks.is_empty() && joined.is_empty() => return Ok(Err(unread)),
                // What came before can be had; the next call meets the problem at its start.
                Err(_) => break,
            };
            let mut chunk = Chunk {
                first_seq: run.first_seq,
                last_seq: run.last_seq,
                bytes: read,
            };
            if run.first_seq < next_seq && begin_at(&mut chunk, next_seq).is_none() {
                return Ok(Err(Unread::Damaged(format!(
                    "the entries from {} on cannot be told apart",
                    run.first_seq
                ))));
            }
            bytes += chunk.bytes.len().max(1);
            next_seq = run.last_seq + 1;
            chunks.extend(joined.add(chunk));
        }
        chunks.extend(joined.take());
        if chunks.is_empty() {
            return Ok(Err(Unread::Damaged(format!(
                "the entries from {next_seq} on are missing"
            ))));
        }
        Ok(Ok(chunks))
    }

    /// Where the entries from `from_seq` on are, in order.
    fn places(
        &self,
        stream: &Stream,
        head: &Head,
        from_seq: u64,
        max_bytes: u64,
    ) -> Result<Vec<Place>> {
        // Memory first: a run leaves it only after the index has it.
        let fresh = self
            .segments
            .fresh_runs(stream, head.log_epoch, from_seq, max_bytes);
        if fresh
            .first()
            .is_some_and(|place| place.run.first_seq <= from_seq)
        {
            return Ok(fresh);
        }
        let mut places = self
            .index()?
            .runs(stream, head.log_epoch, from_seq, max_bytes)
            .inspect_err(|error| self.fail_index(error))?;
        places.extend(fresh);
        Ok(places)
    }

    /// See [`crate::store::Journal::seq_within`].
    pub(super) fn seq_within(&self, stream: &Stream, max_bytes: u64) -> Result<u64> {
        let Some(head) = self.head(stream)? else {
            return Err(Error::NoStream {
                stream: stream.clone(),
            });
        };
        let mut back = Backwards {
            first_seq: head.last_seq + 1,
            bytes: 0,
            max_bytes,
            is_full: false,
        };
        self.segments
            .fresh_runs_back(stream, head.log_epoch, |run| back.visit(&run));
        if !back.is_full {
            self.index()?
                .runs_back(stream, head.log_epoch, |run| back.visit(&run))
                .inspect_err(|error| self.fail_index(error))?;
        }
        Ok(back.first_seq.max(head.first_seq))
    }

    // === records ===

    /// A record, if its value is not in the journal.
    pub(super) fn get_memory(&self, key: &str) -> Result<Got> {
        let stored = self
            .index()?
            .record(key)
            .inspect_err(|error| self.fail_index(error))?;
        match stored {
            None => Ok(Got::Here(None)),
            Some(stored) => match stored.value {
                Where::Inline(value) => Ok(Got::Here(Some(Record {
                    key: stored.key,
                    revision: stored.revision,
                    value: Bytes::copy_from_slice(&value),
                }))),
                Where::Journal(_) | Where::Lost | Where::Deleted => Ok(Got::Journal),
            },
        }
    }

    /// A record, wherever its value is.
    pub(super) fn get(&self, key: &str) -> Result<Option<Record>> {
        for _ in 0..MAX_MOVES {
            let stored = self
                .index()?
                .record(key)
                .inspect_err(|error| self.fail_index(error))?;
            let Some(stored) = stored else {
                return Ok(None);
            };
            if let Some(value) = self.value(&stored)? {
                return Ok(Some(Record {
                    key: stored.key,
                    revision: stored.revision,
                    value,
                }));
            }
        }
        Err(Error::Io(format!(
            "the value of record {key} moved too often while it was read"
        )))
    }

    /// The value of a record; `None`: it has moved, look the record up again.
    fn value(&self, stored: &Stored) -> Result<Option<Bytes>> {
        match &stored.value {
            Where::Inline(value) => Ok(Some(Bytes::copy_from_slice(value))),
            Where::Journal(place) => self.large(&stored.key, place),
            Where::Lost => Err(Error::Io(format!(
                "the value of record {} is lost: its segment is damaged",
                stored.key
            ))),
            Where::Deleted => Ok(None),
        }
    }

    fn large(&self, key: &str, place: &LargePlace) -> Result<Option<Bytes>> {
        match self
            .segments
            .read(place.segment, place.offset, place.len, place.crc)
        {
            Ok(value) => Ok(Some(value)),
            Err(Unread::Moved) => Ok(None),
            Err(Unread::Damaged(problem)) => Err(Error::Io(format!(
                "the value of record {key} is damaged: {problem}"
            ))),
            Err(Unread::Io(error)) => Err(Error::Io(format!("reading record {key}: {error}"))),
        }
    }

    /// Records that a query of the index finds.
    pub(super) fn records(
        &self,
        query: impl FnOnce(&Index) -> Result<Vec<Stored>>,
    ) -> Result<Vec<Record>> {
        let index = self.index()?;
        let found = query(&index).inspect_err(|error| self.fail_index(error))?;
        let mut records = Vec::with_capacity(found.len());
        for stored in found {
            let value = match self.value(&stored)? {
                Some(value) => value,
                // Moved, changed or deleted since: as it is now.
                None => match self.get(&stored.key)? {
                    Some(record) => {
                        records.push(record);
                        continue;
                    }
                    None => continue,
                },
            };
            records.push(Record {
                key: stored.key,
                revision: stored.revision,
                value,
            });
        }
        Ok(records)
    }

    /// Records that the index has, if no value of them is in the journal.
    pub(super) fn records_memory(
        &self,
        query: impl FnOnce(&Index) -> Result<Vec<Stored>>,
    ) -> Result<Option<Vec<Record>>> {
        let index = self.index()?;
        let found = query(&index).inspect_err(|error| self.fail_index(error))?;
        let here = found.into_iter().map(|stored| {
            let Where::Inline(value) = &stored.value else {
                return None;
            };
            Some(Record {
                value: Bytes::copy_from_slice(value),
                key: stored.key,
                revision: stored.revision,
            })
        });
        Ok(here.collect())
    }

    /// See [`crate::store::Records::changes`].
    pub(super) fn changes(
        &self,
        prefix: &str,
        revision: u64,
        limit: usize,
    ) -> Result<Vec<RecordChange>> {
        let index = self.index()?;
        let found = index
            .changes(prefix, revision, limit)
            .inspect_err(|error| self.fail_index(error))?;
        let mut changes = Vec::with_capacity(found.len());
        for stored in found {
            let (revision, value) = match &stored.value {
                Where::Deleted => (stored.revision, None),
                _ => match self.value(&stored)? {
                    Some(value) => (stored.revision, Some(value)),
                    None => match self.get(&stored.key)? {
                        Some(record) if record.revision == stored.revision => {
                            (record.revision, Some(record.value))
                        }
                        // It has changed since: that change has a later revision.
                        _ => continue,
                    },
                },
            };
            changes.push(RecordChange {
                key: stored.key,
                revision,
                value,
            });
        }
        // Looked at last: what was forgotten while this read is missing from it.
        let through = index.forgotten();
        if revision > 0 && revision < through {
            return Err(Error::Forgotten { through });
        }
        Ok(changes)
    }
}

/// Lets go of the entries before `seq`; `None` if the chunk cannot be read.
fn begin_at(chunk: &mut Chunk, seq: u64) -> Option<()> {
    let at = frame::skip_entries(&chunk.bytes, seq.checked_sub(chunk.first_seq)?)?;
    chunk.bytes = chunk.bytes.slice(at..);
    chunk.first_seq = seq;
    Some(())
}

/// A walk over a stream's runs from its end, until their bytes are enough.
struct Backwards {
    first_seq: u64,
    bytes: u64,
    max_bytes: u64,
    is_full: bool,
}

impl Backwards {
    /// Whether to go on.
    fn visit(&mut self, run: &Run) -> bool {
        if run.first_seq >= self.first_seq {
            // Seen already: a segment was sealed in between.
            return true;
        }
        let is_newest = self.bytes == 0;
        self.bytes = self.bytes.saturating_add(run.len.into());
        self.is_full = self.bytes > self.max_bytes && !is_newest;
        if !self.is_full {
            self.first_seq = run.first_seq;
        }
        !self.is_full
    }
}

/// Small chunks on their way to becoming one: batches of entries one after the other are a batch.
#[derive(Default)]
struct Joined {
    first_seq: u64,
    last_seq: u64,
    bytes: BytesMut,
}

impl Joined {
    fn is_empty(&self) -> bool {
        self.first_seq == 0
    }

    /// Adds a chunk; answers with the chunks that are ready.
    fn add(&mut self, chunk: Chunk) -> impl Iterator<Item = Chunk> + use<> {
        let is_large = chunk.bytes.len() > JOINED_BYTES / 4;
        let ready = (is_large || self.bytes.len() + chunk.bytes.len() > JOINED_BYTES)
            .then(|| self.take())
            .flatten();
        let large = if is_large {
            Some(chunk)
        } else {
            if self.is_empty() {
                self.first_seq = chunk.first_seq;
            }
            self.last_seq = chunk.last_seq;
            self.bytes.extend_from_slice(&chunk.bytes);
            None
        };
        ready.into_iter().chain(large)
    }

    fn take(&mut self) -> Option<Chunk> {
        if self.is_empty() {
            return None;
        }
        let joined = std::mem::take(self);
        Some(Chunk {
            first_seq: joined.first_seq,
            last_seq: joined.last_seq,
            bytes: joined.bytes.freeze(),
        })
    }
}
