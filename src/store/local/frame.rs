//! One commit as bytes: a frame of a segment.
//!
//! `len` (u32, little endian), CRC-32C (u32, little endian) over `len` and the payload, payload: an encoded
//! `baton.storage.v1.Commit`. The CRC starts from the segment's salt, so bytes inside an event can never
//! pass for a frame when a damaged segment is searched for the next good one.
//!
//! Writing and reading are by hand, since both must know where in the file the entries of an append lie.

use std::ops::Range;

use crate::base::Timestamp;
use crate::store::{Commit, Committed, Origin, Stream};

/// Bytes before a payload.
pub(super) const FRAME_HEADER: usize = 8;
/// Most bytes of a payload.
pub(super) const MAX_PAYLOAD: usize = crate::store::rules::MAX_COMMIT_BYTES + (1 << 20);

/// A frame that was read: what it says, and where in its payload the bytes are.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) lsn: u64,
    /// The last commit that was known to be synced when this one was written.
    pub(super) synced_lsn: u64,
    pub(super) appends: Vec<AppendPart>,
    pub(super) ops: Vec<OpPart>,
    pub(super) trims: Vec<TrimPart>,
}

/// An append within a payload.
#[derive(Debug)]
pub(super) struct AppendPart {
    pub(super) stream: Stream,
    pub(super) log_epoch: u64,
    pub(super) first_seq: u64,
    pub(super) count: u64,
    pub(super) fence: u64,
    pub(super) origin: Option<Origin>,
    pub(super) time: Timestamp,
    /// The entries: an encoded `baton.v1.EventBatch`.
    pub(super) entries: Range<usize>,
    /// The whole field, tag included.
    pub(super) raw: Range<usize>,
}

/// A change of a record within a payload.
#[derive(Debug)]
pub(super) struct OpPart {
    pub(super) key: String,
    pub(super) value: Option<Range<usize>>,
    /// The whole field, tag included.
    pub(super) raw: Range<usize>,
}

/// A trim within a payload.
#[derive(Debug)]
pub(super) struct TrimPart {
    pub(super) stream: Stream,
    pub(super) first_seq: u64,
    pub(super) drop: bool,
}

/// The CRC of a frame.
pub(super) fn checksum(salt: u32, payload: &[u8]) -> u32 {
    let len = payload.len() as u32;
    crc32c::crc32c_append(crc32c::crc32c_append(salt, &len.to_le_bytes()), payload)
}

/// Adds a commit's frame to `out`.
pub(super) fn encode(
    out: &mut Vec<u8>,
    salt: u32,
    synced_lsn: u64,
    commit: &Commit,
    committed: &Committed,
) {
    seal_frame(out, salt, |out| {
        put_number(out, 1, committed.revision);
        for (append, head) in commit.appends.iter().zip(&committed.heads) {
            let entries = append.entries.encoded();
            let origin = append.origin.unwrap_or_default();
            let mut rest = Vec::with_capacity(128);
            put_bytes(&mut rest, 2, append.stream.as_str().as_bytes());
            put_number(&mut rest, 3, head.log_epoch);
            put_number(&mut rest, 4, append.expected_last + 1);
            put_number(&mut rest, 5, append.fence);
            put_number(&mut rest, 6, origin.epoch);
            put_number(&mut rest, 7, origin.seq);
            put_number(&mut rest, 8, append.time.as_micros() as u64);

            put_varint(out, 2 << 3 | 2);
            put_varint(out, (entries.len() + rest.len()) as u64);
            out.extend_from_slice(entries);
            out.extend_from_slice(&rest);
        }
        for op in &commit.ops {
            let mut field = Vec::with_capacity(op.key.len() + 16);
            put_bytes(&mut field, 1, op.key.as_bytes());
            let value = op.value.as_ref();
            let value_len =
                value.map_or(0, |value| 1 + varint_len(value.len() as u64) + value.len());
            put_varint(out, 3 << 3 | 2);
            put_varint(out, (field.len() + value_len) as u64);
            out.extend_from_slice(&field);
            if let Some(value) = value {
                // Also when it is empty: an empty value is not a deletion.
                put_varint(out, 2 << 3 | 2);
                put_varint(out, value.len() as u64);
                out.extend_from_slice(value);
            }
        }
        for trim in &commit.trims {
            let mut field = Vec::with_capacity(80);
            put_bytes(&mut field, 1, trim.stream.as_str().as_bytes());
            put_number(&mut field, 2, trim.first_seq);
            put_number(&mut field, 3, trim.drop.into());
            put_bytes(out, 4, &field);
        }
        put_number(out, 5, synced_lsn);
    });
}

/// Adds an append of entries that are encoded already; for import.
pub(super) fn put_append(
    out: &mut Vec<u8>,
    stream: &Stream,
    log_epoch: u64,
    first_seq: u64,
    fence: u64,
    time: Timestamp,
    entries: &[u8],
) {
    let mut rest = Vec::with_capacity(128);
    put_bytes(&mut rest, 2, stream.as_str().as_bytes());
    put_number(&mut rest, 3, log_epoch);
    put_number(&mut rest, 4, first_seq);
    put_number(&mut rest, 5, fence);
    put_number(&mut rest, 8, time.as_micros() as u64);
    put_varint(out, 2 << 3 | 2);
    put_varint(out, (entries.len() + rest.len()) as u64);
    out.extend_from_slice(entries);
    out.extend_from_slice(&rest);
}

/// Adds a record's value; for import.
pub(super) fn put_value(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let mut field = Vec::with_capacity(key.len() + value.len() + 16);
    put_bytes(&mut field, 1, key.as_bytes());
    put_bytes(&mut field, 2, value);
    put_bytes(out, 3, &field);
}

/// Adds a frame whose payload `fill` writes.
pub(super) fn seal_frame(out: &mut Vec<u8>, salt: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER]);
    fill(out);
    let payload = &out[start + FRAME_HEADER..];
    let len = payload.len() as u32;
    let crc = checksum(salt, payload);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The payload's bytes of the frame at `at`, if a whole and undamaged one begins there.
pub(super) fn payload_at(data: &[u8], at: usize, salt: u32) -> Option<Range<usize>> {
    let header = data.get(at..at.checked_add(FRAME_HEADER)?)?;
    let len = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(header[4..].try_into().ok()?);
    if len == 0 || len > MAX_PAYLOAD {
        return None;
    }
    let range = at + FRAME_HEADER..at + FRAME_HEADER + len;
    let payload = data.get(range.clone())?;
    (checksum(salt, payload) == crc).then_some(range)
}

/// Reads a payload; `None` if it is not a commit.
pub(super) fn decode(payload: &[u8]) -> Option<Frame> {
    let mut frame = Frame::default();
    let mut fields = Fields::new(payload, 0..payload.len());
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, Value::Number(lsn)) => frame.lsn = lsn,
            (2, Value::Bytes(body)) => frame.appends.push(decode_append(payload, body, field.raw)?),
            (3, Value::Bytes(body)) => frame.ops.push(decode_op(payload, body, field.raw)?),
            (4, Value::Bytes(body)) => frame.trims.push(decode_trim(payload, body)?),
            (5, Value::Number(lsn)) => frame.synced_lsn = lsn,
            _ => {}
        }
    }
    (frame.lsn > 0).then_some(frame)
}

fn decode_append(payload: &[u8], body: Range<usize>, raw: Range<usize>) -> Option<AppendPart> {
    let mut stream = None;
    let mut entries = body.start..body.start;
    let mut numbers = [0u64; 9];
    let mut count = 0;
    let mut fields = Fields::new(payload, body);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, Value::Bytes(_)) => {
                if field.raw.start != entries.end {
                    return None;
                }
                entries.end = field.raw.end;
                count += 1;
            }
            (2, Value::Bytes(name)) => {
                stream = Stream::new(std::str::from_utf8(&payload[name]).ok()?)
            }
            (number @ 3..=8, Value::Number(value)) => numbers[number as usize] = value,
            _ => {}
        }
    }
    let origin = Origin {
        epoch: numbers[6],
        seq: numbers[7],
    };
    Some(AppendPart {
        stream: stream?,
        log_epoch: numbers[3],
        first_seq: numbers[4],
        count,
        fence: numbers[5],
        origin: (origin != Origin::default()).then_some(origin),
        time: Timestamp::from_micros(numbers[8] as i64),
        entries,
        raw,
    })
}

fn decode_op(payload: &[u8], body: Range<usize>, raw: Range<usize>) -> Option<OpPart> {
    let mut key = None;
    let mut value = None;
    let mut fields = Fields::new(payload, body);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => {
                key = Some(std::str::from_utf8(&payload[text]).ok()?.to_owned())
            }
            (2, Value::Bytes(bytes)) => value = Some(bytes),
            _ => {}
        }
    }
    Some(OpPart {
        key: key?,
        value,
        raw,
    })
}

fn decode_trim(payload: &[u8], body: Range<usize>) -> Option<TrimPart> {
    let mut stream = None;
    let mut first_seq = 0;
    let mut drop = false;
    let mut fields = Fields::new(payload, body);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, Value::Bytes(name)) => {
                stream = Stream::new(std::str::from_utf8(&payload[name]).ok()?)
            }
            (2, Value::Number(seq)) => first_seq = seq,
            (3, Value::Number(flag)) => drop = flag != 0,
            _ => {}
        }
    }
    Some(TrimPart {
        stream: stream?,
        first_seq,
        drop,
    })
}

/// The part of an encoded `EventBatch` after its first `skip` entries; `None` if it has fewer.
pub(super) fn skip_entries(batch: &[u8], skip: u64) -> Option<usize> {
    let mut fields = Fields::new(batch, 0..batch.len());
    for _ in 0..skip {
        fields.next()??;
    }
    Some(fields.at)
}

/// How many entries an encoded `EventBatch` has; `None` if it is none.
pub(super) fn count_entries(batch: &[u8]) -> Option<u64> {
    let mut count = 0;
    let mut fields = Fields::new(batch, 0..batch.len());
    while let Some(field) = fields.next()? {
        let is_entry = field.number == 1 && matches!(field.value, Value::Bytes(_));
        is_entry.then_some(())?;
        count += 1;
    }
    Some(count)
}

/// The entries of an encoded `EventBatch`; `None` if it is damaged.
#[cfg(test)]
pub(super) fn entries(batch: &[u8]) -> Option<Vec<&[u8]>> {
    let mut all = Vec::new();
    let mut fields = Fields::new(batch, 0..batch.len());
    while let Some(field) = fields.next()? {
        let Value::Bytes(range) = field.value else {
            return None;
        };
        all.push(&batch[range]);
    }
    Some(all)
}

enum Value {
    Number(u64),
    Bytes(Range<usize>),
    Other,
}

struct Field {
    number: u64,
    value: Value,
    raw: Range<usize>,
}

/// The fields of a message that lies in `data[at..end]`.
struct Fields<'a> {
    data: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    fn new(data: &'a [u8], range: Range<usize>) -> Self {
        Fields {
            data,
            at: range.start,
            end: range.end,
        }
    }

    /// The next field: `Some(None)` at the end, `None` if the bytes are no message.
    #[allow(
        clippy::should_implement_trait,
        reason = "a damaged message is not an end"
    )]
    fn next(&mut self) -> Option<Option<Field>> {
        if self.at == self.end {
            return Some(None);
        }
        let start = self.at;
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.skip(8)?,
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let from = self.at;
                self.skip(len)?;
                Value::Bytes(from..self.at)
            }
            5 => self.skip(4)?,
            _ => return None,
        };
        Some(Some(Field {
            number: tag >> 3,
            value,
            raw: start..self.at,
        }))
    }

    fn skip(&mut self, len: usize) -> Option<Value> {
        let to = self.at.checked_add(len).filter(|to| *to <= self.end)?;
        self.at = to;
        Some(Value::Other)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.at >= self.end {
                return None;
            }
            let byte = *self.data.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A numeric field; left out when 0, as protobuf does.
pub(super) fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        put_varint(out, field << 3);
        put_varint(out, value);
    }
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;
    use crate::store::{Append, Entries, Expect, Head, RecordOp, Trim};
    use crate::wire::storage_v1 as pb;

    fn sample() -> (Commit, Committed) {
        let stream = |name| Stream::new(name).expect("a valid name");
        let commit = Commit {
            appends: vec![Append {
                stream: stream("ses_1"),
                expected_last: 6,
                fence: 3,
                entries: vec![
                    Bytes::from_static(b"one"),
                    Bytes::new(),
                    Bytes::from(vec![7; 300]),
                ]
                .into(),
                origin: Some(Origin { epoch: 5, seq: 9 }),
                time: Timestamp::from_micros(-3),
            }],
            ops: vec![
                RecordOp {
                    key: "a/b".into(),
                    expect: Expect::Any,
                    value: Some(Bytes::new()),
                },
                RecordOp {
                    key: "gone".into(),
                    expect: Expect::Any,
                    value: None,
                },
            ],
            trims: vec![Trim {
                stream: stream("old"),
                first_seq: 4,
                drop: true,
            }],
        };
        let head = Head {
            log_epoch: 11,
            first_seq: 1,
            last_seq: 9,
            fence: 3,
            origin: Origin::default(),
            last_time: Timestamp::EPOCH,
        };
        let committed = Committed {
            revision: 700,
            heads: vec![head],
        };
        (commit, committed)
    }

    #[test]
    fn a_frame_is_what_the_proto_says() {
        let (commit, committed) = sample();
        let mut out = Vec::new();
        encode(&mut out, 77, 699, &commit, &committed);
        let payload = payload_at(&out, 0, 77).expect("a good frame");
        let decoded = pb::Commit::decode(&out[payload.clone()]).expect("a commit");
        assert_eq!((decoded.lsn, decoded.synced_lsn), (700, 699));
        let append = &decoded.appends[0];
        assert_eq!(
            Entries::from(append.entries.clone()),
            commit.appends[0].entries
        );
        assert_eq!(
            (append.log_epoch, append.first_seq, append.fence),
            (11, 7, 3)
        );
        assert_eq!(
            (append.origin_epoch, append.origin_seq, append.time_us),
            (5, 9, -3)
        );
        assert_eq!(decoded.ops[0].value.as_deref(), Some(&b""[..]));
        assert_eq!(decoded.ops[1].value, None);
        assert!(decoded.trims[0].drop && decoded.trims[0].first_seq == 4);
        // Byte for byte what prost writes, so any reader of the proto can read the journal.
        assert_eq!(decoded.encode_to_vec(), &out[payload]);
    }

    #[test]
    fn the_entries_in_a_frame_are_an_event_batch() {
        let (commit, committed) = sample();
        let mut out = Vec::new();
        encode(&mut out, 0, 0, &commit, &committed);
        let payload = payload_at(&out, 0, 0).expect("a good frame");
        let frame = decode(&out[payload.clone()]).expect("a commit");
        let append = &frame.appends[0];
        assert_eq!((append.first_seq, append.count), (7, 3));
        assert_eq!(append.time, Timestamp::from_micros(-3));
        let batch = &out[payload][append.entries.clone()];
        assert_eq!(batch, commit.appends[0].entries.encoded());
        let all = entries(batch).expect("entries");
        let rest = &batch[skip_entries(batch, 2).expect("three entries")..];
        assert_eq!(entries(rest).expect("entries"), all[2..]);
        assert_eq!(skip_entries(batch, 4), None);
    }

    #[test]
    fn a_frame_with_any_bit_flipped_or_another_salt_is_refused() {
        let (commit, committed) = sample();
        let mut out = Vec::new();
        encode(&mut out, 5, 0, &commit, &committed);
        assert!(payload_at(&out, 0, 6).is_none());
        for bit in 0..out.len() * 8 {
            out[bit / 8] ^= 1 << (bit % 8);
            assert!(payload_at(&out, 0, 5).is_none(), "bit {bit}");
            out[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_commit_and_no_panic() {
        proptest::proptest!(|(bytes: Vec<u8>)| {
            let _ = decode(&bytes);
            let _ = skip_entries(&bytes, 3);
            let _ = payload_at(&bytes, 0, 0);
        });
    }
}
