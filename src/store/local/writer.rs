//! The one writer: a thread that takes commits as they wait, judges them, writes and syncs them as one
//! group, applies them to the index and answers.
//!
//! It sleeps when there is nothing to do. The first commit is synced at once; what arrives meanwhile is
//! the next group.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Core;
use super::disk::{Headroom, io_error, is_full, sync_dir};
use super::fault;
use super::frame::{self, FRAME_HEADER, Frame};
use super::helper::Job;
use super::index::Index;
use super::queue::Request;
use super::segment::{self, HEADER, SegmentId};
use super::segments::{Fresh, Room};
use crate::store::rules::{self, Overlay, View};
use crate::store::{Commit, Committed, Durability, Error, Head, Result, Stream};

/// Largest group buffer that is kept for the next group.
const KEEP_BUFFER: usize = 1 << 20;

/// A group of so many bytes is not written where zeros are: they halve the time of a sync, and double what is written.
const BIG_GROUP: u64 = 16 << 10;

/// How many times as much as it should the index may be behind before commits wait for it.
const TOO_MUCH: usize = 4;

type Answer = oneshot::Sender<Result<Committed>>;

/// A commit that was judged, and who waits for it.
struct Judged {
    answer: Answer,
    outcome: Result<Committed>,
    streams: Vec<Stream>,
    changes_records: bool,
}

/// The writer's state; nobody else writes to the journal.
pub(super) struct Writer {
    core: Arc<Core>,
    helper: SyncSender<Job>,
    active: Arc<Fresh>,
    /// Where the next frame goes.
    offset: u64,
    /// The newest commit that was written.
    lsn: u64,
    /// The newest commit that is known to be synced.
    synced_lsn: u64,
    buffer: Vec<u8>,
    /// With an interval: commits that are written and not synced yet, and when to sync them.
    unsynced: Vec<(Answer, Committed)>,
    deadline: Option<Instant>,
    /// How far the helper was asked to fill the active segment.
    asked_to_fill: u64,
    /// Bytes of the last group.
    last_group: u64,
    headroom: Headroom,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nothing is left when it ends as it should. After a panic, callers must not wait for ever.
        self.core.queue.abandon();
    }
}

/// What the store says to the rules.
struct Judge<'a> {
    core: &'a Core,
    index: &'a Index,
}

impl View for Judge<'_> {
    fn head(&self, stream: &Stream) -> Result<Option<Head>> {
        self.core.head_for_writer(self.index, stream)
    }

    fn revision(&self, key: &str) -> Result<Option<u64>> {
        self.index.revision(key)
    }

    fn references(&self, stream: &Stream) -> Result<Vec<String>> {
        self.index.references(stream)
    }
}

impl Writer {
    pub(super) fn new(
        core: Arc<Core>,
        helper: SyncSender<Job>,
        active: Arc<Fresh>,
        offset: u64,
        lsn: u64,
    ) -> Self {
        Writer {
            core,
            helper,
            active,
            offset,
            lsn,
            synced_lsn: lsn,
            buffer: Vec::new(),
            unsynced: Vec::new(),
            deadline: None,
            asked_to_fill: 0,
            last_group: 0,
            headroom: Headroom::default(),
        }
    }

    /// Serves until the queue is closed and empty.
    pub(super) fn run(mut self) {
        self.ask_to_fill();
        while let Some(mut requests) = self.core.queue.take(self.deadline) {
            while !requests.is_empty() {
                self.group(&mut requests);
            }
            if self
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now())
            {
                let _ = self.sync_unsynced();
            }
        }
        let _ = self.sync_unsynced();
    }

    /// Takes one group from the front of the requests.
    fn group(&mut self, requests: &mut VecDeque<Request>) {
        let index = match self.core.index() {
            Ok(index) => index,
            Err(error) => return refuse(requests, &error),
        };
        if let Err(error) = self.core.writable() {
            return refuse(requests, &error);
        }
        let is_low = self.headroom.is_low(&self.core.options);
        let mut overlay = Overlay::default();
        let mut judged = Vec::new();
        let mut frames = Vec::new();
        let mut lsn = self.lsn;
        while let Some(request) = requests.pop_front() {
            match request {
                Request::Barrier { roll, answer } => {
                    if judged.is_empty() {
                        return self.barrier(roll, answer);
                    }
                    requests.push_front(Request::Barrier { roll, answer });
                    break;
                }
                Request::Commit { mut commit, answer } => {
                    let outcome = if is_low && grows(&commit) {
                        Err(Error::Full)
                    } else {
                        let judge = Judge {
                            core: &self.core,
                            index: &index,
                        };
                        rules::stage(&mut commit, &judge, &mut overlay, lsn + 1)
                    };
                    if let Ok(committed) = &outcome {
                        fault::point(fault::BEFORE_APPEND);
                        lsn += 1;
                        let start = self.buffer.len();
                        frame::encode(
                            &mut self.buffer,
                            self.active.salt,
                            self.synced_lsn,
                            &commit,
                            committed,
                        );
                        frames.push(start + FRAME_HEADER..self.buffer.len());
                    }
                    judged.push(Judged {
                        answer,
                        outcome,
                        streams: commit
                            .appends
                            .iter()
                            .map(|append| append.stream.clone())
                            .collect(),
                        changes_records: !commit.ops.is_empty(),
                    });
                }
            }
            let is_long = self.buffer.len() >= self.core.options.group_bytes;
            if is_long || self.offset + self.buffer.len() as u64 >= self.core.options.segment_bytes
            {
                break;
            }
        }

        match self.write_group(&index, &frames, lsn) {
            Ok(()) => self.answer(judged),
            Err(error) => {
                // Refusals, too: they may have been judged against commits that are not there now.
                for judged in judged {
                    let _ = judged.answer.send(Err(error.clone()));
                }
            }
        }
        self.buffer.clear();
        if self.buffer.capacity() > KEEP_BUFFER {
            self.buffer = Vec::new();
        }
        if self.offset >= self.core.options.segment_bytes
            && let Err(error) = self.roll()
        {
            // The segment grows beyond its size until there is room for another.
            tracing::warn!(%error, "no new journal segment could be begun");
        }
        self.ask_to_fill();
    }

    fn write_group(&mut self, index: &Index, frames: &[Range<usize>], lsn: u64) -> Result<()> {
        if frames.is_empty() {
            return Ok(());
        }
        self.append()?;
        fault::point(fault::AFTER_APPEND);
        let at = self.offset;
        self.last_group = self.buffer.len() as u64;
        self.offset += self.last_group;
        self.lsn = lsn;
        self.headroom.wrote(self.last_group);
        metrics::counter!("baton_journal_bytes_total").increment(self.buffer.len() as u64);
        if self.core.options.durability == Durability::Fsync {
            self.sync()?;
        }
        self.apply(index, frames, at)
            .inspect_err(|error| self.core.fail_index(error))
    }

    /// Writes the buffer behind the journal's end, whole or not at all.
    fn append(&self) -> Result<()> {
        let end = self.offset + self.buffer.len() as u64;
        let disk = &self.core.options.disk;
        let written = if end <= self.active.room.filled() {
            disk.write_at(&self.active.file, &self.buffer, self.offset)
        } else {
            let _filling = self.active.room.filling.lock();
            let written = disk.write_at(&self.active.file, &self.buffer, self.offset);
            if written.is_ok() && end > self.active.room.filled() {
                self.active.room.set_filled(end);
            }
            written
        };
        let Err(error) = written else {
            return Ok(());
        };
        // What was written in part must not be found after a crash: nobody was told that it is there.
        let undone = {
            let _filling = self.active.room.filling.lock();
            let undone = self
                .active
                .file
                .set_len(self.offset)
                .and_then(|()| disk.sync(&self.active.file));
            self.active.room.set_filled(self.offset);
            undone
        };
        match undone {
            Ok(()) if is_full(&error) => Err(Error::Full),
            Ok(()) => Err(self.core.fail(&format!("writing the journal: {error}"))),
            Err(undo) => Err(self.core.fail(&format!(
                "writing the journal: {error}; and taking it back: {undo}"
            ))),
        }
    }

    fn sync(&mut self) -> Result<()> {
        fault::point(fault::BEFORE_SYNC);
        let began = Instant::now();
        if let Err(error) = self.core.options.disk.sync(&self.active.file) {
            // The system may have let go of the dirty pages: a second sync that works would prove nothing.
            return Err(self.core.fail(&format!("syncing the journal: {error}")));
        }
        metrics::histogram!("baton_journal_sync_seconds").record(began.elapsed().as_secs_f64());
        self.synced_lsn = self.lsn;
        fault::point(fault::AFTER_SYNC_BEFORE_ACK);
        Ok(())
    }

    /// Makes a written group visible.
    fn apply(&self, index: &Index, frames: &[Range<usize>], at: u64) -> Result<()> {
        let segment = self.active.segment();
        let mut decoded: Vec<(Frame, &[u8], u64)> = Vec::with_capacity(frames.len());
        for range in frames {
            let payload = &self.buffer[range.clone()];
            let frame = frame::decode(payload)
                .ok_or_else(|| Error::Io("a commit cannot be read back from memory".into()))?;
            decoded.push((frame, payload, at + range.start as u64));
        }
        {
            let mut contents = self.active.contents.write();
            for (frame, payload, at) in &decoded {
                contents.add(frame, payload, *at);
            }
        }
        let mut projection = index.begin();
        for (frame, payload, at) in &decoded {
            projection.add(frame, payload, segment, *at)?;
        }
        let held = self.core.heads.hold(projection.beside_records());
        let applied = projection.finish()?;
        fault::point(fault::MID_PROJECTION);
        for (stream, head) in &applied.heads {
            self.core.heads.put(stream, *head);
        }
        drop(held);
        match index.times_behind() {
            0 => {}
            // Where the helper has too much to do, it is asked when the index is behind by more.
            1..TOO_MUCH => {
                if index.is_to_ask() {
                    let _ = self.helper.try_send(Job::Settle);
                }
            }
            // It does not keep up.
            _ => index.settle()?,
        }
        for (frame, payload, _) in &decoded {
            for append in frame.appends.iter().filter(|append| append.count > 0) {
                let last_seq = append.first_seq + append.count - 1;
                let entries = &payload[append.entries.clone()];
                self.core.tails.push(
                    &append.stream,
                    append.log_epoch,
                    append.first_seq,
                    last_seq,
                    entries,
                );
            }
            for trim in frame.trims.iter().filter(|trim| trim.drop) {
                self.core.tails.forget(&trim.stream);
                self.core.apart.write().remove(&trim.stream);
            }
        }
        Ok(())
    }

    /// Wakes readers and answers callers.
    fn answer(&mut self, judged: Vec<Judged>) {
        let mut answered = 0;
        for judged in judged {
            if let Ok(committed) = &judged.outcome {
                for (stream, head) in judged.streams.iter().zip(&committed.heads) {
                    self.core.tails.wake(stream, head.last_seq);
                }
                if judged.changes_records {
                    self.core.revision.send_replace(committed.revision);
                }
            }
            match (judged.outcome, self.core.options.durability) {
                (Ok(committed), Durability::Interval(interval)) => {
                    self.unsynced.push((judged.answer, committed));
                    self.deadline
                        .get_or_insert_with(|| Instant::now() + interval);
                }
                (outcome, _) => {
                    // Nobody waits any more: the commit holds all the same.
                    let _ = judged.answer.send(outcome);
                }
            }
            answered += 1;
            if answered == 1 {
                fault::point(fault::AFTER_ACK_BEFORE_PUBLISH);
            }
        }
    }

    /// Syncs what an interval has left, and answers.
    fn sync_unsynced(&mut self) -> Result<()> {
        self.deadline = None;
        if self.synced_lsn == self.lsn {
            return Ok(());
        }
        let synced = self.core.writable().and_then(|()| self.sync());
        for (answer, committed) in self.unsynced.drain(..) {
            let _ = answer.send(synced.clone().map(|()| committed));
        }
        synced
    }

    fn barrier(&mut self, roll: bool, answer: SyncSender<Result<u64>>) {
        let mut done = self.sync_unsynced().map(|()| self.lsn);
        if roll
            && done.is_ok()
            && self.offset > HEADER as u64
            && let Err(error) = self.roll()
        {
            done = Err(error);
        }
        // Through the helper, so that a rolled segment is sealed when the answer comes.
        if let Err(unsent) = self.helper.send(Job::Answer(answer, done))
            && let Job::Answer(answer, _) = unsent.0
        {
            let _ = answer.send(Err(Error::Closed));
        }
    }

    /// Begins a new segment and has the full one sealed.
    fn roll(&mut self) -> Result<()> {
        self.sync_unsynced()?;
        let next = create(
            self.core.segments.journal(),
            self.active.id + 1,
            self.fill_bytes(),
        )?;
        let next = Arc::new(next);
        self.core.segments.add_fresh(next.clone());
        let full = std::mem::replace(&mut self.active, next);
        let data_end = std::mem::replace(&mut self.offset, HEADER as u64);
        self.asked_to_fill = 0;
        // Waits when the helper is far behind, so that unsealed segments never pile up.
        let _ = self.helper.send(Job::Seal {
            fresh: full,
            data_end,
        });
        Ok(())
    }

    /// How many bytes to fill ahead.
    fn fill_bytes(&self) -> u64 {
        match self.last_group < BIG_GROUP {
            true => self.core.options.fill_bytes,
            false => 0,
        }
    }

    /// Has the active segment filled ahead when there is little left.
    fn ask_to_fill(&mut self) {
        let filled = self.active.room.filled();
        let fill = self.fill_bytes();
        let is_enough = fill == 0 || filled.saturating_sub(self.offset) > fill / 2;
        if is_enough || filled >= self.core.options.segment_bytes || self.asked_to_fill == filled {
            return;
        }
        if self.helper.try_send(Job::Fill(self.active.clone())).is_ok() {
            self.asked_to_fill = filled;
        }
    }
}

fn grows(commit: &Commit) -> bool {
    !commit.appends.is_empty() || commit.ops.iter().any(|op| op.value.is_some())
}

fn refuse(requests: &mut VecDeque<Request>, error: &Error) {
    for request in requests.drain(..) {
        match request {
            Request::Commit { answer, .. } => drop(answer.send(Err(error.clone()))),
            Request::Barrier { answer, .. } => drop(answer.send(Err(error.clone()))),
        }
    }
}

/// Makes a new segment file: its header and its name survive a power failure before it is written to.
pub(super) fn create(journal: &std::path::Path, id: u64, fill_bytes: u64) -> Result<Fresh> {
    let segment = SegmentId { id, generation: 0 };
    let path = segment.path(journal);
    let salt = rand::random();
    let made = (|| {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        io::Write::write_all(&mut &file, &segment::header(segment, salt))?;
        let filled = match super::helper::fill(&file, HEADER as u64, fill_bytes) {
            Ok(()) => HEADER as u64 + fill_bytes,
            // Filling is only for speed; the header is there.
            Err(error) if is_full(&error) => {
                file.set_len(HEADER as u64)?;
                HEADER as u64
            }
            Err(error) => return Err(error),
        };
        file.sync_all()?;
        sync_dir(journal)?;
        Ok((file, filled))
    })();
    match made {
        Ok((file, filled)) => Ok(Fresh {
            id,
            salt,
            file: Arc::new(file),
            contents: Default::default(),
            room: Room::new(filled),
        }),
        Err(error) => {
            let _ = fs::remove_file(&path);
            Err(io_error("creating", &path, &error))
        }
    }
}
