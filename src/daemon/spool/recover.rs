//! Opening a spool whose runner is gone.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use super::{
    FILE_HEADER_BYTES, Found, MAGIC, Segment, Spool, decode, frame, new_segment, read_at,
    segment_path,
};

/// How many numbers a file may skip. An entry that skips more is no record of it, whatever its checksum says.
const MAX_SKIP: u64 = 1 << 32;
/// The highest first number of a file. No spool comes so far; a file with such a name is none of it.
const MAX_FIRST: u64 = u64::MAX / 2;

impl Spool {
    /// Opens the spool in `dir` that its writer left, cutting a torn tail. `epoch` is used when no file
    /// tells it any more. Only the one who holds the session's lock may do this.
    pub fn open(dir: &Path, bound: u64, epoch: Option<u64>) -> io::Result<Self> {
        let mut firsts = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let first = name
                .to_str()
                .and_then(|name| name.strip_suffix(".spool"))
                .and_then(|number| number.parse::<u64>().ok())
                .filter(|first| *first <= MAX_FIRST);
            firsts.extend(first);
        }
        firsts.sort_unstable();

        let mut origin_epoch = None;
        let mut segments = VecDeque::new();
        for &first in &firsts {
            let file = File::open(segment_path(dir, first))?;
            let length = file.metadata()?.len();
            origin_epoch = origin_epoch.or(read_epoch(&file)?);
            segments.push_back(Segment { first, length });
        }
        let Some(origin_epoch) = origin_epoch.or(epoch) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "no file of the spool has a readable header",
            ));
        };

        // A last file that is too short for its header never held a record.
        if segments
            .back()
            .is_some_and(|last| last.length < FILE_HEADER_BYTES)
            && let Some(last) = segments.pop_back()
        {
            fs::remove_file(segment_path(dir, last.first))?;
        }
        let (file, last_seq) = match segments.back_mut() {
            Some(last) => {
                let path = segment_path(dir, last.first);
                let file = OpenOptions::new().read(true).append(true).open(path)?;
                let (end, last_seq) = find_end(&file, last.first, last.length)?;
                if end < last.length {
                    file.set_len(end)?;
                    last.length = end;
                }
                (file, last_seq)
            }
            None => {
                segments.push_back(Segment {
                    first: 1,
                    length: FILE_HEADER_BYTES,
                });
                (new_segment(dir, origin_epoch, 1)?, 0)
            }
        };
        Ok(Spool {
            dir: dir.to_owned(),
            origin_epoch,
            bytes: segments.iter().map(|segment| segment.length).sum(),
            segments,
            file,
            last_seq,
            bound,
            segment_bytes: (bound / 8).clamp(16 * 1024, 4 << 20),
            unsynced: false,
        })
    }
}

fn read_epoch(file: &File) -> io::Result<Option<u64>> {
    let header = read_at(file, 0, FILE_HEADER_BYTES as usize, FILE_HEADER_BYTES)?;
    if header.len() < FILE_HEADER_BYTES as usize || &header[..8] != MAGIC {
        return Ok(None);
    }
    let (mut epoch, mut checksum) = ([0; 8], [0; 4]);
    epoch.copy_from_slice(&header[8..16]);
    checksum.copy_from_slice(&header[16..20]);
    let whole = crc32c::crc32c(&header[..16]) == u32::from_le_bytes(checksum);
    Ok(whole.then(|| u64::from_le_bytes(epoch)))
}

/// Where the last whole record of a file ends, and its number. What follows it is a torn tail.
fn find_end(file: &File, first: u64, length: u64) -> io::Result<(u64, u64)> {
    let bytes = read_at(file, 0, usize::MAX, length)?;
    let mut at = FILE_HEADER_BYTES as usize;
    let (mut end, mut last_seq) = (at, first.saturating_sub(1));
    while at < bytes.len() {
        match decode(&bytes[at..]) {
            Found::Entry { seq, length, .. } if seq <= last_seq.saturating_add(MAX_SKIP) => {
                at += length;
                (end, last_seq) = (at, seq.max(last_seq));
            }
            Found::Entry { .. } | Found::Short { .. } | Found::Damaged => {
                // Whole records behind it mean that this is damage and not the tail.
                let skipped = bytes.get(at + 1..).and_then(|rest| {
                    let from = last_seq.saturating_add(1);
                    frame::resync(rest, from, from.saturating_add(MAX_SKIP))
                });
                match skipped {
                    Some(skipped) => at += 1 + skipped,
                    None => break,
                }
            }
        }
    }
    Ok((end as u64, last_seq))
}
