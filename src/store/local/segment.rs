//! A segment file: header, frames, and, once it is sealed, a footer that says where everything is.
//!
//! Header, 64 bytes: magic, version, segment id, generation, salt, CRC. Frames follow without gaps up to
//! the first `len` of 0 (the file is zero-filled ahead). A sealed segment ends with an encoded
//! `SegmentFooter` and a trailer of 32 bytes: footer offset, length, salt, CRC, magic. Whether a segment is
//! sealed is decided by its trailer alone, so a crash while sealing leaves an unsealed segment.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use prost::Message as _;

use super::frame::{self, FRAME_HEADER, Frame};
use crate::wire::storage_v1 as pb;

/// Bytes of a segment's header.
pub(super) const HEADER: usize = 64;
const TRAILER: usize = 32;
const MAGIC: &[u8; 8] = b"BATONSEG";
const END_MAGIC: &[u8; 8] = b"BATONEND";
const VERSION: u32 = 1;

/// Which file: a segment's id, and how often compaction has rewritten it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SegmentId {
    pub(super) id: u64,
    pub(super) generation: u32,
}

impl SegmentId {
    /// The file's name; in order of the journal.
    pub(super) fn file_name(self) -> String {
        format!("{:016x}-{:08x}.seg", self.id, self.generation)
    }

    /// The path in the journal's directory.
    pub(super) fn path(self, journal: &Path) -> PathBuf {
        journal.join(self.file_name())
    }

    /// The segment a file name names.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (id, generation) = name.strip_suffix(".seg")?.split_once('-')?;
        let id = SegmentId {
            id: u64::from_str_radix(id, 16).ok()?,
            generation: u32::from_str_radix(generation, 16).ok()?,
        };
        (id.file_name() == name).then_some(id)
    }
}

/// Segments in a journal's directory, in order, and the files that are none.
pub(super) fn list(journal: &Path) -> io::Result<(Vec<SegmentId>, Vec<PathBuf>)> {
    let mut segments = Vec::new();
    let mut others = Vec::new();
    for entry in fs::read_dir(journal)? {
        let entry = entry?;
        match entry.file_name().to_str().and_then(SegmentId::parse) {
            Some(id) => segments.push(id),
            None => others.push(entry.path()),
        }
    }
    segments.sort_unstable();
    Ok((segments, others))
}

/// The header's bytes.
pub(super) fn header(segment: SegmentId, salt: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&segment.generation.to_le_bytes());
    bytes[16..24].copy_from_slice(&segment.id.to_le_bytes());
    bytes[24..28].copy_from_slice(&salt.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..HEADER - 4]);
    bytes[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The salt of a segment from its header; `None` if the header is damaged or another segment's.
pub(super) fn parse_header(bytes: &[u8], segment: SegmentId) -> Option<u32> {
    let salt = u32::from_le_bytes(bytes.get(24..28)?.try_into().ok()?);
    (bytes.get(..HEADER)? == header(segment, salt)).then_some(salt)
}

/// What a segment holds: the content of its footer, gathered while it is written.
#[derive(Debug, Default)]
pub(super) struct Footer {
    /// The message on disk.
    pub(super) message: pb::SegmentFooter,
    /// Where the frames end and the footer begins.
    pub(super) data_end: u64,
    /// The segment's salt once more, for when the header is damaged.
    pub(super) salt: u32,
}

/// The bytes of a footer with its trailer, to be written at `data_end`.
pub(super) fn footer_bytes(message: &pb::SegmentFooter, data_end: u64, salt: u32) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    let len = bytes.len() as u64;
    let mut trailer = [0; TRAILER];
    trailer[..8].copy_from_slice(&data_end.to_le_bytes());
    trailer[8..16].copy_from_slice(&len.to_le_bytes());
    trailer[16..20].copy_from_slice(&salt.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &trailer[..20]);
    trailer[20..24].copy_from_slice(&crc.to_le_bytes());
    trailer[24..].copy_from_slice(END_MAGIC);
    bytes.extend_from_slice(&trailer);
    bytes
}

/// Reads the footer of a segment; `Ok(None)` if it is not sealed or the footer is damaged.
pub(super) fn read_footer(file: &File) -> io::Result<Option<Footer>> {
    let size = file.metadata()?.len();
    if size < (HEADER + TRAILER) as u64 {
        return Ok(None);
    }
    let mut trailer = [0; TRAILER];
    file.read_exact_at(&mut trailer, size - TRAILER as u64)?;
    let Some((data_end, len)) = parse_trailer(&trailer, size) else {
        return Ok(None);
    };
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, data_end)?;
    Ok(parse_footer(&bytes, &trailer, data_end))
}

/// The footer in a segment's bytes; `None` if it is not sealed or the footer is damaged.
pub(super) fn footer_in(data: &[u8]) -> Option<Footer> {
    let trailer = data.get(data.len().checked_sub(TRAILER)?..)?;
    let (data_end, len) = parse_trailer(trailer, data.len() as u64)?;
    let start = usize::try_from(data_end).ok()?;
    parse_footer(data.get(start..start + len)?, trailer, data_end)
}

/// Whether a segment's bytes end with the trailer's mark: it was sealed, even if its footer is damaged now.
pub(super) fn ends_with_mark(data: &[u8]) -> bool {
    data.ends_with(END_MAGIC)
}

/// Whether what lies behind the last good frame, which ends at `end`, is a footer of which a crash kept a
/// part or that was damaged: then no commit was there. `message` is the footer that the frames make.
pub(super) fn is_footer_left(
    data: &[u8],
    end: usize,
    message: &pb::SegmentFooter,
    salt: u32,
) -> bool {
    let left = data.get(end..).unwrap_or_default();
    let says_so = left
        .len()
        .checked_sub(TRAILER)
        .and_then(|at| parse_trailer(&left[at..], data.len() as u64))
        .is_some_and(|(data_end, _)| data_end == end as u64);
    // What was not written yet is zero, for the file is filled ahead and pages are lost singly.
    let footer = footer_bytes(message, end as u64, salt);
    says_so
        || left
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == 0 || footer.get(at) == Some(byte))
}

fn parse_trailer(trailer: &[u8], size: u64) -> Option<(u64, usize)> {
    if trailer.get(24..)? != END_MAGIC {
        return None;
    }
    let data_end = u64::from_le_bytes(trailer[..8].try_into().ok()?);
    let len = u64::from_le_bytes(trailer[8..16].try_into().ok()?);
    let fits = data_end >= HEADER as u64
        && data_end.checked_add(len)?.checked_add(TRAILER as u64)? == size;
    fits.then(|| usize::try_from(len).ok().map(|len| (data_end, len)))?
}

fn parse_footer(bytes: &[u8], trailer: &[u8], data_end: u64) -> Option<Footer> {
    let salt = u32::from_le_bytes(trailer.get(16..20)?.try_into().ok()?);
    let crc = crc32c::crc32c_append(crc32c::crc32c(bytes), &trailer[..20]);
    if trailer[20..24] != crc.to_le_bytes() {
        return None;
    }
    let message = pb::SegmentFooter::decode(bytes).ok()?;
    // What the lists of a block do not agree on cannot be used.
    let whole = message.blocks.iter().all(|block| {
        let runs = block.counts.len();
        block.offsets.len() == runs && block.lens.len() == runs && block.crcs.len() == runs
    });
    whole.then_some(Footer {
        message,
        data_end,
        salt,
    })
}

/// A good frame that a scan found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Where the payload begins.
    pub(super) at: usize,
    /// Bytes of the payload.
    pub(super) len: usize,
    pub(super) lsn: u64,
    pub(super) synced_lsn: u64,
    /// Whether damage lies right before it.
    pub(super) after_bad: bool,
}

impl Found {
    /// The payload.
    pub(super) fn payload(self) -> Range<usize> {
        self.at..self.at + self.len
    }
}

/// What is in a segment.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Good frames in order.
    pub(super) frames: Vec<Found>,
    /// Ranges that are damaged. The last one may be a torn tail: then it ends with the data.
    pub(super) bad: Vec<Range<usize>>,
    /// Where the last good frame ends.
    pub(super) end: usize,
}

/// Walks over the frames in `data[HEADER..data_end]`, over damage too.
pub(super) fn scan(data: &[u8], data_end: usize, salt: u32) -> Scan {
    let data = &data[..data_end.min(data.len())];
    let mut scan = Scan {
        end: HEADER.min(data.len()),
        ..Scan::default()
    };
    let mut at = scan.end;
    let mut after_bad = false;
    let mut last_lsn = 0;
    while at < data.len() {
        if let Some((payload, frame)) = frame_at(data, at, salt) {
            scan.frames.push(Found {
                at: payload.start,
                len: payload.len(),
                lsn: frame.lsn,
                synced_lsn: frame.synced_lsn,
                after_bad,
            });
            last_lsn = frame.lsn;
            after_bad = false;
            at = payload.end;
            scan.end = at;
            continue;
        }
        if is_zero(&data[at..]) {
            break;
        }
        let next = resync(data, at + 1, salt, last_lsn);
        let to = next.unwrap_or(data.len());
        scan.bad.push(at..to);
        after_bad = true;
        at = to;
    }
    scan
}

fn frame_at(data: &[u8], at: usize, salt: u32) -> Option<(Range<usize>, Frame)> {
    let payload = frame::payload_at(data, at, salt)?;
    let frame = frame::decode(&data[payload.clone()])?;
    Some((payload, frame))
}

/// The next place where a good frame begins.
fn resync(data: &[u8], from: usize, salt: u32, last_lsn: u64) -> Option<usize> {
    // Every payload begins with the lsn's tag: a cheap test before any CRC.
    let mut at = from;
    loop {
        let tag = data
            .get(at + FRAME_HEADER..)?
            .iter()
            .position(|b| *b == 0x08)?;
        at += tag;
        if let Some((_, frame)) = frame_at(data, at, salt)
            && frame.lsn >= last_lsn
        {
            return Some(at);
        }
        at += 1;
    }
}

fn is_zero(data: &[u8]) -> bool {
    data.chunks(4096)
        .all(|chunk| chunk.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SegmentId = SegmentId {
        id: 3,
        generation: 1,
    };

    fn segment(frames: u64, zeros: usize) -> (Vec<u8>, Vec<usize>) {
        let mut data = header(ID, 9).to_vec();
        let mut ends = vec![data.len()];
        for lsn in 1..=frames {
            frame::seal_frame(&mut data, 9, |out| {
                frame::put_number(out, 1, lsn);
                frame::put_number(out, 5, lsn - 1);
            });
            ends.push(data.len());
        }
        data.resize(data.len() + zeros, 0);
        (data, ends)
    }

    #[test]
    fn a_file_name_reads_back() {
        assert_eq!(SegmentId::parse(&ID.file_name()), Some(ID));
        for other in ["x.seg", "3-1.seg", "0000000000000003-00000001.seg.tmp"] {
            assert_eq!(SegmentId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_of_another_segment_is_refused() {
        let bytes = header(ID, 5);
        assert_eq!(parse_header(&bytes, ID), Some(5));
        assert_eq!(parse_header(&bytes, SegmentId { id: 4, ..ID }), None);
        assert_eq!(parse_header(&bytes[..40], ID), None);
    }

    #[test]
    fn a_footer_reads_back_and_a_damaged_one_does_not() {
        let (mut data, _) = segment(2, 0);
        let message = pb::SegmentFooter {
            first_lsn: 1,
            last_lsn: 2,
            ..Default::default()
        };
        let data_end = data.len() as u64;
        data.extend(footer_bytes(&message, data_end, 9));
        let footer = footer_in(&data).expect("sealed");
        assert_eq!((footer.message, footer.data_end), (message, data_end));
        for at in data_end as usize..data.len() {
            let mut damaged = data.clone();
            damaged[at] ^= 4;
            assert!(footer_in(&damaged).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_scan_goes_on_behind_damage() {
        let (mut data, ends) = segment(5, 100);
        data[ends[2] + 9] ^= 1;
        let scan = scan(&data, data.len(), 9);
        let lsns: Vec<u64> = scan.frames.iter().map(|found| found.lsn).collect();
        assert_eq!(lsns, [1, 2, 4, 5]);
        assert_eq!(scan.bad, std::slice::from_ref(&(ends[2]..ends[3])));
        assert_eq!(scan.end, ends[5]);
        assert!(scan.frames[2].after_bad && !scan.frames[3].after_bad);
    }

    #[test]
    fn a_scan_of_a_torn_tail_ends_with_the_last_whole_frame() {
        let (data, ends) = segment(3, 0);
        for cut in ends[2] + 1..ends[3] {
            for zeros in [0, 64] {
                let mut torn = data[..cut].to_vec();
                torn.resize(cut + zeros, 0);
                let scan = scan(&torn, torn.len(), 9);
                assert_eq!((scan.frames.len(), scan.end), (2, ends[2]), "cut at {cut}");
                assert_eq!(scan.bad.len(), 1);
            }
        }
    }
}
