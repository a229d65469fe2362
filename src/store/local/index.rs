//! The index: what the journal says, in a form to look things up in. One [`Table`] with prefixed keys.
//!
//! It is a cache and never the truth: it is written after the journal's sync and without one of its own,
//! it can be thrown away, and `m/applied` says how far it has come. Commits change it in memory, and sled hears of many of
//! them at once ([`Index::settle`]). What they change together holds its `applied`, so that what is in sled is never between
//! two commits. Commits that only add to streams move heads, and not even the table hears of each.
//!
//! Keys (numbers big-endian; a stream's name holds no NUL):
//! `m/…` what it is · `h/<stream>` head · `q/<stream>` why it is set apart ·
//! `r/<key>` record · `d/<key>` deleted record · `v/<revision><key>` both by revision ·
//! `t/<revision><key>` deleted ones by revision · `k/<stream>\0<key>` references to content ·
//! `x/<stream>\0<epoch><first_seq>` block of runs · `g/<segment>` segments whose blocks are here.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};

use parking_lot::Mutex;
use prost::Message as _;
use sled::IVec;

use super::frame::{Frame, OpPart};
use super::runs::{MAX_INDEXED_VALUE, Place, Run, block_runs};
use super::segment::SegmentId;
use super::table::{Changes, Direction, Range, Table};
use crate::base::Timestamp;
use crate::store::rules::{Advance, MAX_TOMBSTONES};
use crate::store::{Error, Head, Origin, Result, Stream, keys};
use crate::wire::storage_v1 as pb;

const APPLIED: &[u8] = b"m/applied";
const FORGOTTEN: &[u8] = b"m/forgotten";
/// Most keys changed in one batch of maintenance, so that commits get their turn.
const BATCH_KEYS: usize = 512;

/// Keys of changes that are looked at together.
const KEYS_AT_ONCE: usize = 256;

/// Blocks of runs that are looked at together.
const BLOCKS_AT_ONCE: usize = 4;

/// With so many heads what is ahead of sled goes there: it is held in memory.
const MAX_AHEAD_HEADS: usize = 1_000;
/// So much of the table in memory is the same.
const MAX_AHEAD_COST: usize = if cfg!(test) { 8 << 10 } else { 2 << 20 };
/// And after so many bytes of the journal: they are read again after a crash.
const MAX_AHEAD_BYTES: usize = 8 << 20;

/// The index.
pub(super) struct Index {
    table: Table,
    ahead: Mutex<Ahead>,
    /// Whether somebody was asked to settle it.
    is_asked: AtomicBool,
    tombstones: AtomicUsize,
    /// Deletions up to this revision may be forgotten.
    forgotten: AtomicU64,
    /// Dropped after `table`: tells that the directory is free.
    gone: Option<SyncSender<()>>,
}

/// What commits have said since sled was written last.
#[derive(Default)]
struct Ahead {
    /// Heads that they moved; `None`: the stream was dropped.
    heads: HashMap<Stream, Option<Head>>,
    /// How many bytes of the journal they have.
    bytes: usize,
    /// The last of them; 0 if there is none.
    applied: u64,
}

impl Ahead {
    /// Moves all of it to where it goes to sled: the heads before all that the same commits changed, for it is no harm if
    /// sled has one of a commit that it does not say is applied; and behind it how far that is.
    fn depart(&mut self) -> (Changes, Changes) {
        let (mut first, mut last) = (Changes::default(), Changes::default());
        for (stream, head) in self.heads.drain() {
            let key = name_key(b"h/", stream.as_str());
            match head {
                Some(head) => first.insert(key, &head_bytes(&head)[..]),
                None => first.remove(key),
            }
        }
        if self.applied > 0 {
            last.insert(APPLIED, &self.applied.to_be_bytes()[..]);
        }
        (self.bytes, self.applied) = (0, 0);
        (first, last)
    }
}

/// A record as the index has it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) key: String,
    pub(super) revision: u64,
    pub(super) value: Where,
}

/// Where a record's value is.
#[derive(Clone, Debug)]
pub(super) enum Where {
    /// Here.
    Inline(IVec),
    /// In the journal.
    Journal(LargePlace),
    /// In the journal, at a place that is not known (any more).
    Lost,
    /// The record was deleted.
    Deleted,
}

/// A large value in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LargePlace {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

/// A segment whose blocks are in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Indexed {
    pub(super) generation: u32,
    pub(super) first_lsn: u64,
    pub(super) last_lsn: u64,
}

/// What the index says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Absent,
    Live(u64),
    Dead(u64),
}

impl Index {
    /// Opens or makes the index. Damage is an error, also where sled would panic.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        let table = Table::open(path, cache_bytes)?;
        let all = Range::until(b"t/".to_vec(), prefix_end(b"t/"));
        let tombstones = table.read(&all, Direction::Up, usize::MAX)?.len();
        let forgotten = table
            .get(FORGOTTEN)?
            .and_then(|bytes| be(&bytes))
            .unwrap_or(0);
        Ok(Index {
            table,
            ahead: Mutex::default(),
            is_asked: AtomicBool::new(false),
            tombstones: AtomicUsize::new(tombstones),
            forgotten: AtomicU64::new(forgotten),
            gone: None,
        })
    }

    /// The same with a receiver that is disconnected when the index is closed.
    pub(super) fn watched(mut self) -> (Self, Receiver<()>) {
        let (gone, index_gone) = mpsc::sync_channel(0);
        self.gone = Some(gone);
        (self, index_gone)
    }

    /// The last commit that is in the index; 0 if there is none.
    pub(super) fn applied(&self) -> Result<u64> {
        self.settle()?;
        let value = self.table.get(APPLIED)?;
        Ok(value.and_then(|bytes| be(&bytes)).unwrap_or(0))
    }

    /// Notes how far the index has come, when it was filled from a snapshot.
    pub(super) fn set_applied(&self, lsn: u64) -> Result<()> {
        self.put(APPLIED.to_vec(), &lsn.to_be_bytes()[..])
    }

    /// Deletions up to this revision may be forgotten; 0 if none is.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Notes which deletions are forgotten, when the index was filled from a snapshot.
    pub(super) fn set_forgotten(&self, revision: u64) -> Result<()> {
        self.forgotten.fetch_max(revision, Ordering::AcqRel);
        self.put(FORGOTTEN.to_vec(), &revision.to_be_bytes()[..])
    }

    /// How many times as far as it should sled is behind; from 1 on it is to be settled.
    pub(super) fn times_behind(&self) -> usize {
        let (heads, bytes) = {
            let ahead = self.ahead.lock();
            (ahead.heads.len(), ahead.bytes)
        };
        (heads / MAX_AHEAD_HEADS)
            .max(bytes / MAX_AHEAD_BYTES)
            .max(self.table.cost() / MAX_AHEAD_COST)
    }

    /// Whether somebody is to be asked now to settle it; once until it is done.
    pub(super) fn is_to_ask(&self) -> bool {
        !self.is_asked.swap(true, Ordering::AcqRel)
    }

    /// Writes to sled what is ahead of it. Commits go on meanwhile.
    pub(super) fn settle(&self) -> Result<()> {
        self.is_asked.store(false, Ordering::Release);
        self.table.settle(|departure| {
            // Within the lock: what is said to be applied from here on is not in what goes.
            let mut ahead = self.ahead.lock();
            let (first, last) = ahead.depart();
            departure.with(first, last);
        })
    }

    /// Hands what is ahead of sled, and in its buffers, to the operating system, so that it survives the process.
    pub(super) fn flush(&self) -> Result<()> {
        self.settle()?;
        self.table.flush()
    }

    /// Applies changes that are no commit's.
    fn apply(&self, changes: Changes) -> Result<()> {
        self.table.apply(changes);
        self.settle_if_behind()
    }

    /// Writes to sled what is ahead of it, if that is more than it should be.
    pub(super) fn settle_if_behind(&self) -> Result<()> {
        match self.times_behind() {
            0 => Ok(()),
            _ => self.settle(),
        }
    }

    fn put(&self, key: Vec<u8>, value: &[u8]) -> Result<()> {
        let mut changes = Changes::default();
        changes.insert(key, value);
        self.apply(changes)
    }

    // === streams ===

    /// The head of a stream.
    pub(super) fn head(&self, stream: &Stream) -> Result<Option<Head>> {
        if let Some(head) = self.ahead.lock().heads.get(stream) {
            return Ok(*head);
        }
        match self.table.get(&name_key(b"h/", stream.as_str()))? {
            Some(bytes) => Ok(Some(parse_head(&bytes)?)),
            None => Ok(None),
        }
    }

    /// Heads of the streams after `after`, in order of their names.
    pub(super) fn heads(
        &self,
        after: Option<&Stream>,
        limit: usize,
    ) -> Result<Vec<(Stream, Head)>> {
        self.settle()?;
        let from = after.map(|stream| name_key(b"h/", stream.as_str()));
        let items = self.page(b"h/", from.map_or(Bound::Unbounded, Bound::Excluded), limit)?;
        items
            .into_iter()
            .map(|(key, value)| {
                let stream = std::str::from_utf8(&key[2..])
                    .ok()
                    .and_then(Stream::new)
                    .ok_or_else(|| broken("a stream's name cannot be read"))?;
                Ok((stream, parse_head(&value)?))
            })
            .collect()
    }

    /// Puts a head, when filling the index from a snapshot.
    pub(super) fn put_head(&self, stream: &Stream, head: &Head) -> Result<()> {
        self.ahead.lock().heads.insert(stream.clone(), Some(*head));
        self.settle_if_behind()
    }

    /// Streams that are set apart, and why.
    pub(super) fn apart(&self) -> Result<HashMap<Stream, String>> {
        let mut apart = HashMap::new();
        for (key, value) in self.page(b"q/", Bound::Unbounded, usize::MAX)? {
            if let Some(stream) = std::str::from_utf8(&key[2..]).ok().and_then(Stream::new) {
                apart.insert(stream, String::from_utf8_lossy(&value).into_owned());
            }
        }
        Ok(apart)
    }

    /// Notes that a stream is set apart.
    pub(super) fn set_apart(&self, stream: &Stream, problem: &str) -> Result<()> {
        self.put(name_key(b"q/", stream.as_str()), problem.as_bytes())?;
        // It is in no commit, from which it could be had again.
        self.settle()
    }

    /// Keys of the records by which a stream refers to content.
    pub(super) fn references(&self, stream: &Stream) -> Result<Vec<String>> {
        let prefix = reference_key(stream.as_str(), "");
        let items = self.page(&prefix, Bound::Unbounded, usize::MAX)?;
        Ok(items
            .into_iter()
            .filter_map(|(key, _)| String::from_utf8(key[prefix.len()..].to_vec()).ok())
            .collect())
    }

    /// Where the entries of a stream from `from_seq` on are, in order, until `max_bytes` are gathered.
    pub(super) fn runs(
        &self,
        stream: &Stream,
        log_epoch: u64,
        from_seq: u64,
        max_bytes: u64,
    ) -> Result<Vec<Place>> {
        let first = block_key(stream.as_str(), log_epoch, 0);
        let wanted = block_key(stream.as_str(), log_epoch, from_seq);
        let last = block_key(stream.as_str(), log_epoch, u64::MAX);
        // The block that `from_seq` lies in begins at or before it.
        let before = Range::through(first, wanted.clone());
        let before = self.table.read(&before, Direction::Down, 1)?;
        let start = before.first().map_or(wanted, |(key, _)| key.to_vec());
        let mut places = Vec::new();
        let mut bytes = 0;
        let mut rest = Range::through(start, last);
        loop {
            let blocks = self.table.read(&rest, Direction::Up, BLOCKS_AT_ONCE)?;
            let Some((last, _)) = blocks.last() else {
                return Ok(places);
            };
            rest.from = Bound::Excluded(last.to_vec());
            for (_, block) in &blocks {
                let block = parse_block(block)?;
                let segment = block_segment(&block);
                for run in block_runs(&block).filter(|run| run.last_seq >= from_seq) {
                    places.push(Place { segment, run });
                    bytes += u64::from(run.len);
                    if bytes >= max_bytes {
                        return Ok(places);
                    }
                }
            }
        }
    }

    /// The newest runs of a stream that lie in sealed segments, newest first, until `visit` returns `false`.
    pub(super) fn runs_back(
        &self,
        stream: &Stream,
        log_epoch: u64,
        mut visit: impl FnMut(Run) -> bool,
    ) -> Result<()> {
        let first = block_key(stream.as_str(), log_epoch, 0);
        let last = block_key(stream.as_str(), log_epoch, u64::MAX);
        let mut rest = Range::through(first, last);
        loop {
            let blocks = self.table.read(&rest, Direction::Down, BLOCKS_AT_ONCE)?;
            let Some((first, _)) = blocks.last() else {
                return Ok(());
            };
            rest.to = Bound::Excluded(first.to_vec());
            for (_, block) in &blocks {
                let block = parse_block(block)?;
                for run in block_runs(&block).rev() {
                    if !visit(run) {
                        return Ok(());
                    }
                }
            }
        }
    }

    // === records ===

    /// A record; `None` if there is none.
    pub(super) fn record(&self, key: &str) -> Result<Option<Stored>> {
        match self.table.get(&name_key(b"r/", key))? {
            Some(bytes) => Ok(Some(parse_record(key.to_owned(), &bytes)?)),
            None => Ok(None),
        }
    }

    /// The revision of a record; `None` if there is none.
    pub(super) fn revision(&self, key: &str) -> Result<Option<u64>> {
        match self.marker(key)? {
            Marker::Live(revision) => Ok(Some(revision)),
            Marker::Absent | Marker::Dead(_) => Ok(None),
        }
    }

    fn marker(&self, key: &str) -> Result<Marker> {
        if let Some(bytes) = self.table.get(&name_key(b"r/", key))? {
            let revision = be(&bytes).ok_or_else(|| broken("a record cannot be read"))?;
            return Ok(Marker::Live(revision));
        }
        let dead = self.table.get(&name_key(b"d/", key))?;
        Ok(dead
            .and_then(|bytes| be(&bytes))
            .map_or(Marker::Absent, Marker::Dead))
    }

    /// Records whose key starts with `prefix`, in order after `after`.
    pub(super) fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Stored>> {
        let from = after.map(|key| name_key(b"r/", key));
        let prefix = name_key(b"r/", prefix);
        let items = self.page(
            &prefix,
            from.map_or(Bound::Unbounded, Bound::Excluded),
            limit,
        )?;
        items.into_iter().map(scanned).collect()
    }

    /// The same in descending order, before `before`.
    pub(super) fn scan_back(
        &self,
        prefix: &str,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Stored>> {
        let prefix = name_key(b"r/", prefix);
        let end = prefix_end(&prefix);
        let to = match before.map(|key| name_key(b"r/", key)) {
            Some(before) if before <= prefix => return Ok(Vec::new()),
            Some(before) if before < end => before,
            _ => end,
        };
        let range = Range::until(prefix, to);
        let items = self.table.read(&range, Direction::Down, limit)?;
        items.into_iter().map(scanned).collect()
    }

    /// Changes after `revision`, oldest first; at most `limit` keys, but commits are not split. Nothing says
    /// that there are none.
    pub(super) fn changes(&self, prefix: &str, revision: u64, limit: usize) -> Result<Vec<Stored>> {
        loop {
            let (keys, changes) = self.changes_once(prefix, revision, limit)?;
            // All that was found may have changed again before it was read: then there is a later change.
            if keys == 0 || !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    fn changes_once(
        &self,
        prefix: &str,
        revision: u64,
        limit: usize,
    ) -> Result<(usize, Vec<Stored>)> {
        let keys = self.changed_keys(prefix, revision, limit)?;
        let found = keys.len();
        let mut changes = Vec::with_capacity(found);
        for (revision, key, is_live) in keys {
            if !is_live {
                changes.push(Stored {
                    key,
                    revision,
                    value: Where::Deleted,
                });
            } else if let Some(stored) = self.record(&key)?
                && stored.revision == revision
            {
                changes.push(stored);
            }
            // Otherwise it has changed since: the newer change is found from a later revision.
        }
        Ok((found, changes))
    }

    /// Keys that start with `prefix` and changed after `revision`, with when, and whether there is a record.
    fn changed_keys(
        &self,
        prefix: &str,
        revision: u64,
        limit: usize,
    ) -> Result<Vec<(u64, String, bool)>> {
        let mut keys: Vec<(u64, String, bool)> = Vec::new();
        let Some(from) = revision.checked_add(1) else {
            return Ok(keys);
        };
        let mut rest = Range::until(revision_key(b"v/", from, ""), prefix_end(b"v/"));
        loop {
            let items = self.table.read(&rest, Direction::Up, KEYS_AT_ONCE)?;
            let Some((last, _)) = items.last() else {
                return Ok(keys);
            };
            rest.from = Bound::Excluded(last.to_vec());
            for (key, is_live) in &items {
                let Some((at, name)) = parse_revision_key(key) else {
                    continue;
                };
                if !name.starts_with(prefix) {
                    continue;
                }
                if keys.len() >= limit && keys.last().is_none_or(|(last, _, _)| *last != at) {
                    return Ok(keys);
                }
                keys.push((at, name.to_owned(), is_live.first() == Some(&1)));
            }
        }
    }

    /// Puts a record, when filling the index from a snapshot.
    pub(super) fn put_record(&self, entry: &pb::RecordEntry) -> Result<()> {
        let mut batch = Changes::default();
        let mut value = entry.revision.to_be_bytes().to_vec();
        if entry.in_journal {
            value.push(KIND_LOST);
        } else {
            value.push(KIND_INLINE);
            value.extend_from_slice(&entry.value);
        }
        batch.insert(name_key(b"r/", &entry.key), value);
        batch.insert(revision_key(b"v/", entry.revision, &entry.key), &[1][..]);
        if let Some(stream) = keys::content_stream(&entry.key) {
            batch.insert(reference_key(stream, &entry.key), &[][..]);
        }
        self.apply(batch)
    }

    /// Puts a deleted record, when filling the index from a snapshot.
    pub(super) fn put_tombstone(&self, entry: &pb::Tombstone) -> Result<()> {
        // A snapshot is taken while commits go on, so it may have the record from before its deletion,
        // too. The journal tells what came last.
        if self.marker(&entry.key)? != Marker::Absent {
            return Ok(());
        }
        let mut batch = Changes::default();
        batch.insert(
            name_key(b"d/", &entry.key),
            &entry.revision.to_be_bytes()[..],
        );
        batch.insert(revision_key(b"t/", entry.revision, &entry.key), &[][..]);
        batch.insert(revision_key(b"v/", entry.revision, &entry.key), &[0][..]);
        self.apply(batch)?;
        self.tombstones.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Deleted records after key `after`, in order.
    pub(super) fn tombstones(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<pb::Tombstone>> {
        let from = after.map(|key| name_key(b"d/", key));
        let items = self.page(b"d/", from.map_or(Bound::Unbounded, Bound::Excluded), limit)?;
        items
            .into_iter()
            .map(|(key, value)| {
                Ok(pb::Tombstone {
                    key: utf8(&key[2..])?,
                    revision: be(&value).ok_or_else(|| broken("a deletion cannot be read"))?,
                })
            })
            .collect()
    }

    /// Whether any record's key starts with `prefix`.
    pub(super) fn any_record(&self, prefix: &str) -> Result<bool> {
        Ok(!self.scan(prefix, None, 1)?.is_empty())
    }

    // === segments ===

    /// Segments whose blocks are here.
    pub(super) fn segments(&self) -> Result<BTreeMap<u64, Indexed>> {
        let mut segments = BTreeMap::new();
        for (key, value) in self.page(b"g/", Bound::Unbounded, usize::MAX)? {
            let id = be(&key[2..]).ok_or_else(|| broken("a segment's number cannot be read"))?;
            let numbers = (value.get(..4), value.get(4..12), value.get(12..20));
            let (Some(generation), Some(first_lsn), Some(last_lsn)) = numbers else {
                return Err(broken("a segment's entry cannot be read"));
            };
            let indexed = Indexed {
                generation: u32::from_be_bytes(generation.try_into().unwrap_or_default()),
                first_lsn: be(first_lsn).unwrap_or(0),
                last_lsn: be(last_lsn).unwrap_or(0),
            };
            segments.insert(id, indexed);
        }
        Ok(segments)
    }

    /// Puts the blocks of a sealed segment in the place of those of its former generation. The blocks of
    /// one stream change at once, so a reader sees the old ones or the new ones.
    pub(super) fn put_segment(
        &self,
        segment: SegmentId,
        footer: &pb::SegmentFooter,
        former: Option<&pb::SegmentFooter>,
    ) -> Result<()> {
        // Footers are sorted by stream; both are walked in step.
        let mut old = former
            .map(|footer| &footer.blocks[..])
            .unwrap_or_default()
            .iter()
            .peekable();
        let mut new = footer.blocks.iter().peekable();
        let mut batch = Changes::default();
        let mut batched = 0;
        while let Some(stream) = [old.peek(), new.peek()]
            .into_iter()
            .flatten()
            .map(|block| block.stream.clone())
            .min()
        {
            while let Some(block) = old.next_if(|block| block.stream == stream) {
                batch.remove(block_key(&stream, block.log_epoch, block.first_seq));
                batched += 1;
            }
            while let Some(block) = new.next_if(|block| block.stream == stream) {
                let placed = pb::RunBlock {
                    segment: segment.id,
                    generation: segment.generation,
                    stream: String::new(),
                    ..block.clone()
                };
                batch.insert(
                    block_key(&stream, block.log_epoch, block.first_seq),
                    placed.encode_to_vec(),
                );
                batched += 1;
            }
            if batched >= BATCH_KEYS {
                self.table.write_through(std::mem::take(&mut batch))?;
                batched = 0;
            }
        }
        self.table.write_through(batch)?;
        for large in &footer.large {
            self.place_large(segment, large)?;
        }
        let mut value = segment.generation.to_be_bytes().to_vec();
        value.extend_from_slice(&footer.first_lsn.to_be_bytes());
        value.extend_from_slice(&footer.last_lsn.to_be_bytes());
        let mut batch = Changes::default();
        batch.insert(segment_key(segment.id), value);
        self.table.write_through(batch)
    }

    /// Forgets a segment that is about to be deleted.
    pub(super) fn remove_segment(&self, id: u64, former: &pb::SegmentFooter) -> Result<()> {
        for blocks in former.blocks.chunks(BATCH_KEYS) {
            let mut batch = Changes::default();
            for block in blocks {
                batch.remove(block_key(&block.stream, block.log_epoch, block.first_seq));
            }
            self.table.write_through(batch)?;
        }
        self.forget_segment(id)
    }

    /// Forgets a segment whose file is gone, without knowing what it held.
    pub(super) fn forget_segment(&self, id: u64) -> Result<()> {
        let mut batch = Changes::default();
        batch.remove(segment_key(id));
        self.table.write_through(batch)
    }

    /// Points a record at its large value, if the record is still the one that was written there.
    fn place_large(&self, segment: SegmentId, large: &pb::LargeValue) -> Result<()> {
        let key = name_key(b"r/", &large.key);
        loop {
            let Some(old) = self.table.get(&key)? else {
                return Ok(());
            };
            let is_inline = old.get(8) == Some(&KIND_INLINE);
            if be(&old) != Some(large.lsn) || is_inline {
                return Ok(());
            }
            let place = LargePlace {
                segment,
                offset: large.offset,
                len: u32::try_from(large.len).unwrap_or(u32::MAX),
                crc: large.crc,
            };
            let new = large_bytes(large.lsn, &place);
            if self.table.swap(&key, &old, new)? {
                return Ok(());
            }
        }
    }

    // === commits ===

    /// Moves heads on (`None`: the stream was dropped) by so many bytes of the journal; `changes` is what else the commits
    /// changed. A stream that was dropped and made again by the same commits is there in the end.
    fn advance(
        &self,
        heads: &HashMap<Stream, Option<Head>>,
        bytes: usize,
        applied: u64,
        changes: Option<Changes>,
    ) {
        let mut ahead = self.ahead.lock();
        let heads = heads.iter().map(|(stream, head)| (stream.clone(), *head));
        ahead.heads.extend(heads);
        ahead.bytes += bytes;
        ahead.applied = ahead.applied.max(applied);
        if let Some(mut changes) = changes {
            changes.insert(APPLIED, &applied.to_be_bytes()[..]);
            self.table.apply(changes);
        }
    }

    /// Begins a batch of commits.
    pub(super) fn begin(&self) -> Projection<'_> {
        Projection {
            index: self,
            batch: Changes::default(),
            heads: HashMap::new(),
            markers: HashMap::new(),
            dropped: Vec::new(),
            tombstones: 0,
            bytes: 0,
            is_more: false,
            applied: 0,
        }
    }

    fn trim_tombstones(&self) -> Result<()> {
        let count = self.tombstones.load(Ordering::Relaxed);
        // In lots, so that not every deletion pays for a scan.
        if count < MAX_TOMBSTONES + BATCH_KEYS {
            return Ok(());
        }
        self.drop_tombstones(count - MAX_TOMBSTONES)
    }

    fn drop_tombstones(&self, excess: usize) -> Result<()> {
        let mut batch = Changes::default();
        let mut dropped = 0;
        let mut forgotten = self.forgotten();
        for (key, _) in self.page(b"t/", Bound::Unbounded, excess)? {
            if let Some((revision, name)) = parse_revision_key(&key) {
                forgotten = forgotten.max(revision);
                batch.remove(name_key(b"d/", name));
                batch.remove(revision_key(b"v/", revision, name));
            }
            batch.remove(key);
            dropped += 1;
        }
        batch.insert(FORGOTTEN, &forgotten.to_be_bytes()[..]);
        // Said before it is done: who reads changes meanwhile looks at this after reading.
        self.forgotten.fetch_max(forgotten, Ordering::AcqRel);
        self.table.apply(batch);
        self.tombstones.fetch_sub(dropped, Ordering::Relaxed);
        Ok(())
    }

    /// Items whose key starts with `prefix`, from `from` on.
    fn page(&self, prefix: &[u8], from: Bound<Vec<u8>>, limit: usize) -> Result<Vec<(IVec, IVec)>> {
        let end = prefix_end(prefix);
        let from = match from {
            Bound::Excluded(key) if key.as_slice() >= end.as_slice() => return Ok(Vec::new()),
            Bound::Excluded(key) if key.as_slice() >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix.to_vec()),
        };
        let to = Bound::Excluded(end);
        self.table.read(&Range { from, to }, Direction::Up, limit)
    }
}

/// Commits that are being applied together.
pub(super) struct Projection<'a> {
    index: &'a Index,
    batch: Changes,
    heads: HashMap<Stream, Option<Head>>,
    markers: HashMap<String, Marker>,
    dropped: Vec<(Stream, u64)>,
    tombstones: isize,
    bytes: usize,
    /// Whether more than heads has changed.
    is_more: bool,
    applied: u64,
}

/// What applied commits changed.
pub(super) struct Applied {
    /// Heads of the streams that changed; `None` if dropped.
    pub(super) heads: HashMap<Stream, Option<Head>>,
}

impl Projection<'_> {
    /// Applies a commit whose payload begins at `at` in `segment`. What it does depends on the commit
    /// alone, never on the state before it, so applying a range twice leads to the same state.
    pub(super) fn add(
        &mut self,
        frame: &Frame,
        payload: &[u8],
        segment: SegmentId,
        at: u64,
    ) -> Result<()> {
        for append in &frame.appends {
            let before = self.head(&append.stream)?;
            let advance = Advance {
                log_epoch: append.log_epoch,
                first_seq: append.first_seq,
                count: append.count,
                fence: append.fence,
                origin: append.origin,
                time: append.time,
            };
            let head = advance.apply(before);
            self.heads.insert(append.stream.clone(), Some(head));
        }
        for op in &frame.ops {
            self.add_op(op, frame.lsn, payload, segment, at)?;
        }
        for trim in &frame.trims {
            let head = match self.head(&trim.stream)? {
                Some(head) if !trim.drop => Some(Head {
                    first_seq: head.first_seq.max(trim.first_seq),
                    ..head
                }),
                _ => None,
            };
            if head.is_none() {
                self.batch.remove(name_key(b"q/", trim.stream.as_str()));
                self.dropped.push((trim.stream.clone(), frame.lsn));
            }
            self.heads.insert(trim.stream.clone(), head);
        }
        self.is_more |= !frame.ops.is_empty() || !frame.trims.is_empty();
        self.bytes += payload.len();
        self.applied = frame.lsn;
        Ok(())
    }

    fn add_op(
        &mut self,
        op: &OpPart,
        lsn: u64,
        payload: &[u8],
        segment: SegmentId,
        at: u64,
    ) -> Result<()> {
        let old = match self.markers.get(&op.key) {
            Some(marker) => *marker,
            None => self.index.marker(&op.key)?,
        };
        if op.value.is_none() && !matches!(old, Marker::Live(_)) {
            return Ok(());
        }
        match old {
            Marker::Live(revision) => self.batch.remove(revision_key(b"v/", revision, &op.key)),
            Marker::Dead(revision) => {
                self.batch.remove(revision_key(b"v/", revision, &op.key));
                self.batch.remove(revision_key(b"t/", revision, &op.key));
                self.batch.remove(name_key(b"d/", &op.key));
                self.tombstones -= 1;
            }
            Marker::Absent => {}
        }
        let reference = keys::content_stream(&op.key).map(|stream| reference_key(stream, &op.key));
        let marker = match &op.value {
            Some(range) => {
                let bytes = &payload[range.clone()];
                let value = if bytes.len() > MAX_INDEXED_VALUE {
                    let place = LargePlace {
                        segment,
                        offset: at + range.start as u64,
                        len: bytes.len() as u32,
                        crc: crc32c::crc32c(bytes),
                    };
                    large_bytes(lsn, &place)
                } else {
                    let mut value = lsn.to_be_bytes().to_vec();
                    value.push(KIND_INLINE);
                    value.extend_from_slice(bytes);
                    value
                };
                self.batch.insert(name_key(b"r/", &op.key), value);
                self.batch
                    .insert(revision_key(b"v/", lsn, &op.key), &[1][..]);
                if let Some(reference) = reference {
                    self.batch.insert(reference, &[][..]);
                }
                Marker::Live(lsn)
            }
            None => {
                self.batch.remove(name_key(b"r/", &op.key));
                self.batch
                    .insert(revision_key(b"v/", lsn, &op.key), &[0][..]);
                self.batch
                    .insert(revision_key(b"t/", lsn, &op.key), &[][..]);
                self.batch
                    .insert(name_key(b"d/", &op.key), &lsn.to_be_bytes()[..]);
                if let Some(reference) = reference {
                    self.batch.remove(reference);
                }
                self.tombstones += 1;
                Marker::Dead(lsn)
            }
        };
        self.markers.insert(op.key.clone(), marker);
        Ok(())
    }

    fn head(&self, stream: &Stream) -> Result<Option<Head>> {
        match self.heads.get(stream) {
            Some(head) => Ok(*head),
            None => self.index.head(stream),
        }
    }

    /// Streams whose heads change together with records; none, where only heads change.
    pub(super) fn beside_records(&self) -> impl Iterator<Item = Stream> + '_ {
        let streams = self.is_more.then(|| self.heads.keys().cloned());
        streams.into_iter().flatten()
    }

    /// Readers see all of it from here on; sled hears of it when it is settled.
    pub(super) fn finish(mut self) -> Result<Applied> {
        for (stream, lsn) in &self.dropped {
            // Logs of that name made by later commits have a higher epoch.
            let from = block_key(stream.as_str(), 0, 0);
            let to = block_key(stream.as_str(), *lsn, 0);
            let range = Range::until(from, to);
            for (key, _) in self.index.table.read(&range, Direction::Up, usize::MAX)? {
                self.batch.remove(key);
            }
        }
        self.index.advance(
            &self.heads,
            self.bytes,
            self.applied,
            self.is_more.then_some(self.batch),
        );
        match usize::try_from(self.tombstones) {
            Ok(more) => self.index.tombstones.fetch_add(more, Ordering::Relaxed),
            Err(_) => self
                .index
                .tombstones
                .fetch_sub(self.tombstones.unsigned_abs(), Ordering::Relaxed),
        };
        self.index.trim_tombstones()?;
        Ok(Applied { heads: self.heads })
    }
}

fn broken(problem: &str) -> Error {
    Error::Io(format!("the index is damaged: {problem}"))
}

const KIND_INLINE: u8 = 0;
const KIND_JOURNAL: u8 = 1;
const KIND_LOST: u8 = 2;

fn large_bytes(revision: u64, place: &LargePlace) -> Vec<u8> {
    let mut bytes = revision.to_be_bytes().to_vec();
    bytes.push(KIND_JOURNAL);
    bytes.extend_from_slice(&place.segment.id.to_be_bytes());
    bytes.extend_from_slice(&place.segment.generation.to_be_bytes());
    bytes.extend_from_slice(&place.offset.to_be_bytes());
    bytes.extend_from_slice(&place.len.to_be_bytes());
    bytes.extend_from_slice(&place.crc.to_be_bytes());
    bytes
}

fn parse_large(bytes: &[u8]) -> Option<LargePlace> {
    let four = |at: usize| -> Option<u32> {
        Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    Some(LargePlace {
        segment: SegmentId {
            id: be(bytes)?,
            generation: four(8)?,
        },
        offset: be(bytes.get(12..)?)?,
        len: four(20)?,
        crc: four(24)?,
    })
}

fn parse_record(key: String, bytes: &IVec) -> Result<Stored> {
    let revision = be(bytes).ok_or_else(|| broken("a record cannot be read"))?;
    let value = match bytes.get(8) {
        Some(&KIND_INLINE) => Where::Inline(bytes.subslice(9, bytes.len() - 9)),
        Some(&KIND_JOURNAL) => Where::Journal(
            parse_large(&bytes[9..]).ok_or_else(|| broken("a record cannot be read"))?,
        ),
        Some(&KIND_LOST) => Where::Lost,
        _ => return Err(broken("a record cannot be read")),
    };
    Ok(Stored {
        key,
        revision,
        value,
    })
}

fn scanned((key, value): (IVec, IVec)) -> Result<Stored> {
    parse_record(utf8(&key[2..])?, &value)
}

fn utf8(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| broken("a key cannot be read"))
}

fn parse_block(bytes: &[u8]) -> Result<pb::RunBlock> {
    pb::RunBlock::decode(bytes).map_err(|_| broken("a block of runs cannot be read"))
}

fn block_segment(block: &pb::RunBlock) -> SegmentId {
    SegmentId {
        id: block.segment,
        generation: block.generation,
    }
}

fn head_bytes(head: &Head) -> [u8; 56] {
    let numbers = [
        head.log_epoch,
        head.first_seq,
        head.last_seq,
        head.fence,
        head.origin.epoch,
        head.origin.seq,
        head.last_time.as_micros() as u64,
    ];
    let mut bytes = [0; 56];
    for (chunk, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        chunk.copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

fn parse_head(bytes: &[u8]) -> Result<Head> {
    let number = |at: usize| {
        bytes
            .get(at * 8..)
            .and_then(be)
            .ok_or_else(|| broken("a head cannot be read"))
    };
    Ok(Head {
        log_epoch: number(0)?,
        first_seq: number(1)?,
        last_seq: number(2)?,
        fence: number(3)?,
        origin: Origin {
            epoch: number(4)?,
            seq: number(5)?,
        },
        last_time: Timestamp::from_micros(number(6)? as i64),
    })
}

fn be(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

fn name_key(table: &[u8; 2], name: &str) -> Vec<u8> {
    [&table[..], name.as_bytes()].concat()
}

fn revision_key(table: &[u8; 2], revision: u64, name: &str) -> Vec<u8> {
    [&table[..], &revision.to_be_bytes(), name.as_bytes()].concat()
}

fn parse_revision_key(key: &[u8]) -> Option<(u64, &str)> {
    Some((
        be(key.get(2..)?)?,
        std::str::from_utf8(key.get(10..)?).ok()?,
    ))
}

fn reference_key(stream: &str, key: &str) -> Vec<u8> {
    [b"k/", stream.as_bytes(), b"\0", key.as_bytes()].concat()
}

fn block_key(stream: &str, log_epoch: u64, first_seq: u64) -> Vec<u8> {
    [
        b"x/",
        stream.as_bytes(),
        b"\0",
        &log_epoch.to_be_bytes(),
        &first_seq.to_be_bytes(),
    ]
    .concat()
}

fn segment_key(id: u64) -> Vec<u8> {
    [&b"g/"[..], &id.to_be_bytes()].concat()
}

/// The least key that is greater than all keys with this prefix; prefixes here never are all 0xff.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}
