//! A session's spool: what its runner recorded, on disk until the server has it.
//!
//! Append-only files of numbered, checksummed records. Numbers start at 1 and have no gaps. A file is
//! removed when all its records are stored elsewhere. A torn tail is cut at open; damage in the middle
//! becomes an explicit `Missing` record with its reason, and reading goes on behind it.
//!
//! What survives what: an append is a `write` that has returned, so a killed process loses nothing it
//! appended. Data reaches the disk with [`Spool::unsynced`] (the runner syncs a few times a second while
//! records come), so a power cut may take the last fraction of a second; the harness is gone with it.

mod frame;
mod recover;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use prost::Message as _;

use crate::base::{Clock as _, SystemClock, Timestamp};
use crate::wire::runner_v1::{Missing, SpoolRecord, spool_record::Body};

pub use frame::{Found, HEADER_BYTES, MAX_PAYLOAD_BYTES, decode, encode};

/// What every file starts with: `BTSP`, version, three zeros, the origin epoch, CRC32C of these.
const FILE_HEADER_BYTES: u64 = 20;
const MAGIC: &[u8; 8] = b"BTSP\x01\0\0\0";
/// How much is read from a file at once, in bytes.
const READ_BYTES: usize = 256 * 1024;

#[derive(Debug)]
struct Segment {
    /// Number of the first record it has or will have.
    first: u64,
    /// Its length, in bytes.
    length: u64,
}

/// The spool of one session, held by the one process that appends.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    origin_epoch: u64,
    /// Oldest first; the last one is appended to. Never empty.
    segments: VecDeque<Segment>,
    file: File,
    last_seq: u64,
    bytes: u64,
    bound: u64,
    segment_bytes: u64,
    unsynced: bool,
}

/// A reader's place in a spool.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    next: u64,
    segment: u64,
    offset: u64,
}

impl Cursor {
    /// The place behind record `seq`.
    pub fn after(seq: u64) -> Self {
        Cursor {
            next: seq.saturating_add(1),
            segment: 0,
            offset: 0,
        }
    }
}

impl Spool {
    /// Makes a new spool in `dir`, which must not exist yet. It counts as full at `bound` bytes.
    pub fn create(dir: &Path, bound: u64) -> io::Result<Self> {
        fs::DirBuilder::new().mode(0o700).create(dir)?;
        let origin_epoch = new_origin_epoch(SystemClock.now());
        let file = new_segment(dir, origin_epoch, 1)?;
        file.sync_data()?;
        File::open(dir)?.sync_all()?;
        Ok(Spool {
            dir: dir.to_owned(),
            origin_epoch,
            segments: VecDeque::from([Segment {
                first: 1,
                length: FILE_HEADER_BYTES,
            }]),
            file,
            last_seq: 0,
            bytes: FILE_HEADER_BYTES,
            bound,
            segment_bytes: (bound / 8).clamp(16 * 1024, 4 << 20),
            unsynced: false,
        })
    }

    /// Identifies this spool: a random number made with it.
    pub fn origin_epoch(&self) -> u64 {
        self.origin_epoch
    }

    /// The oldest record there is; one more than [`Spool::last_seq`] when there is none.
    pub fn first_seq(&self) -> u64 {
        self.segments
            .front()
            .map_or(self.last_seq + 1, |segment| segment.first)
    }

    /// The newest record; 0 when there was none yet.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Size on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether more output should be taken in. Records that end a session fit even when not.
    pub fn has_room(&self) -> bool {
        self.bytes < self.bound
    }

    /// Raises the numbering: the next record comes after `seq`. For a spool that lost records which
    /// somebody else has stored.
    pub fn skip_to(&mut self, seq: u64) -> io::Result<()> {
        if seq > self.last_seq {
            self.last_seq = seq;
            self.roll()?;
        }
        Ok(())
    }

    /// Appends a record and returns its number. After an error (a full disk) nothing was appended.
    pub fn append(&mut self, time: Timestamp, body: Body) -> io::Result<u64> {
        let seq = self.last_seq + 1;
        let record = SpoolRecord {
            seq,
            time_us: time.as_micros(),
            body: Some(body),
        };
        let payload = record.encode_to_vec();
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the record is larger than a spool takes",
            ));
        }
        if self.active().length >= self.segment_bytes {
            self.roll()?;
        }
        let mut entry = Vec::new();
        encode(seq, &payload, &mut entry);
        if let Err(error) = self.file.write_all(&entry) {
            // Half an entry must not stay: what comes next has to follow the last whole one.
            let length = self.active().length;
            self.file.set_len(length)?;
            return Err(error);
        }
        self.active().length += entry.len() as u64;
        self.bytes += entry.len() as u64;
        self.last_seq = seq;
        self.unsynced = true;
        Ok(seq)
    }

    /// Removes the files whose records all have numbers up to `through`.
    pub fn trim(&mut self, through: u64) -> io::Result<()> {
        let through = through.min(self.last_seq);
        let worth_it = self.active().length >= self.segment_bytes / 2 || !self.has_room();
        if through == self.last_seq && worth_it && self.active().length > FILE_HEADER_BYTES {
            self.roll()?;
        }
        while self.segments.len() > 1 && self.segments[1].first <= through + 1 {
            let first = self.segments[0].first;
            fs::remove_file(segment_path(&self.dir, first))?;
            if let Some(gone) = self.segments.pop_front() {
                self.bytes -= gone.length;
            }
        }
        Ok(())
    }

    /// A handle to sync, if anything was appended since the last call.
    pub fn unsynced(&mut self) -> Option<File> {
        if !std::mem::take(&mut self.unsynced) {
            return None;
        }
        self.file.try_clone().ok()
    }

    /// The next records for a reader: about 256 KiB, or nothing when it has all.
    pub fn read(&self, cursor: &mut Cursor) -> io::Result<Vec<SpoolRecord>> {
        let mut records = Vec::new();
        while records.is_empty() && cursor.next <= self.last_seq {
            if cursor.next < self.first_seq() {
                let reason = "the records were removed, since they are stored";
                records.push(missing(cursor.next, self.first_seq() - 1, reason));
                cursor.next = self.first_seq();
                continue;
            }
            let index = self
                .segments
                .partition_point(|segment| segment.first <= cursor.next)
                .saturating_sub(1);
            let segment = &self.segments[index];
            let below = self
                .segments
                .get(index + 1)
                .map_or(self.last_seq + 1, |next| next.first);
            if cursor.segment != segment.first {
                cursor.segment = segment.first;
                cursor.offset = FILE_HEADER_BYTES;
            }
            self.read_segment(cursor, segment.length, below, &mut records)?;
        }
        Ok(records)
    }

    /// Reads on in the cursor's segment, whose records have numbers below `below`.
    fn read_segment(
        &self,
        cursor: &mut Cursor,
        length: u64,
        below: u64,
        records: &mut Vec<SpoolRecord>,
    ) -> io::Result<()> {
        let lost = |cursor: &mut Cursor, records: &mut Vec<SpoolRecord>, why: &str| {
            records.push(missing(cursor.next, below - 1, why));
            cursor.next = below;
        };
        let file = match File::open(segment_path(&self.dir, cursor.segment)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                lost(cursor, records, "the spool's file is gone");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut bytes = read_at(&file, cursor.offset, READ_BYTES, length)?;
        let mut at = 0;
        while cursor.next < below {
            match decode(&bytes[at..]) {
                Found::Entry {
                    seq,
                    payload,
                    length,
                } if seq < below => {
                    at += length;
                    cursor.offset += length as u64;
                    if seq < cursor.next {
                        continue;
                    }
                    if seq > cursor.next {
                        let why = "the spool's file skips records";
                        records.push(missing(cursor.next, seq - 1, why));
                    }
                    match SpoolRecord::decode(payload) {
                        Ok(record) if record.seq == seq => records.push(record),
                        _ => records.push(missing(seq, seq, "the record cannot be read")),
                    }
                    cursor.next = seq + 1;
                }
                // More of the file is needed, and there is more.
                Found::Short { needs }
                    if cursor.offset + needs as u64 <= length && at + needs > bytes.len() =>
                {
                    if !records.is_empty() {
                        return Ok(());
                    }
                    let read = read_at(&file, cursor.offset, needs.max(READ_BYTES), length)?;
                    if read.len() < needs {
                        lost(cursor, records, "the spool's file is shorter than it was");
                        return Ok(());
                    }
                    (bytes, at) = (read, 0);
                }
                Found::Entry { .. } | Found::Short { .. } | Found::Damaged => {
                    let rest = read_at(&file, cursor.offset, usize::MAX, length)?;
                    // The place itself is damaged, so the search starts behind it.
                    let found = rest
                        .get(1..)
                        .and_then(|rest| frame::resync(rest, cursor.next + 1, below));
                    match found {
                        Some(skipped) => {
                            cursor.offset += 1 + skipped as u64;
                            let Found::Entry { seq, .. } = decode(&rest[1 + skipped..]) else {
                                return Err(io::Error::other(
                                    "the spool changed while it was read",
                                ));
                            };
                            let why = "the spool is damaged on disk";
                            records.push(missing(cursor.next, seq - 1, why));
                            cursor.next = seq;
                            return Ok(());
                        }
                        None => {
                            lost(cursor, records, "the spool is damaged on disk");
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the active file and starts the next one.
    fn roll(&mut self) -> io::Result<()> {
        let first = self.last_seq + 1;
        if self.active().first == first {
            return Ok(());
        }
        self.file = new_segment(&self.dir, self.origin_epoch, first)?;
        self.segments.push_back(Segment {
            first,
            length: FILE_HEADER_BYTES,
        });
        self.bytes += FILE_HEADER_BYTES;
        Ok(())
    }

    fn active(&mut self) -> &mut Segment {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }
}

/// An epoch that no other spool has and that is higher than those made before: the microsecond, and ten
/// random bits. Never zero, which is what a message without an epoch reads as.
fn new_origin_epoch(now: Timestamp) -> u64 {
    let micros = u64::try_from(now.as_micros()).unwrap_or(0).max(1);
    (micros << 10) | u64::from(rand::random::<u16>() & 0x3ff)
}

/// The record that says that records are missing. It carries the number of the last missing one.
fn missing(from: u64, to: u64, reason: &str) -> SpoolRecord {
    SpoolRecord {
        seq: to,
        time_us: SystemClock.now().as_micros(),
        body: Some(Body::Missing(Missing {
            from_seq: from,
            to_seq: to,
            reason: reason.to_owned(),
        })),
    }
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.spool"))
}

fn new_segment(dir: &Path, origin_epoch: u64, first: u64) -> io::Result<File> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&origin_epoch.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    // A file that a full disk left half made is made again.
    let path = segment_path(dir, first);
    let _ = fs::remove_file(&path);
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(&header).inspect_err(|_| {
        let _ = fs::remove_file(&path);
    })?;
    Ok(file)
}

/// At most `want` bytes from `offset`, none beyond `end`.
fn read_at(file: &File, offset: u64, want: usize, end: u64) -> io::Result<Vec<u8>> {
    let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; want.min(left)];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
