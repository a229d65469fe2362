//! One entry of a spool or ledger file: length, checksum, number, payload.

/// Bytes before a payload: length (4), CRC32C over number and payload (4), number (8), little endian.
pub const HEADER_BYTES: usize = 16;
/// The largest payload that is written or believed, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// What stands at a place of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A whole entry.
    Entry {
        /// Its number.
        seq: u64,
        /// What it holds.
        payload: &'a [u8],
        /// Its length with the header, in bytes.
        length: usize,
    },
    /// The bytes end before the entry does. `needs` is how many bytes it would take.
    Short {
        /// Bytes from the place to the entry's end.
        needs: usize,
    },
    /// No entry.
    Damaged,
}

/// Appends an entry to `out`.
pub fn encode(seq: u64, payload: &[u8], out: &mut Vec<u8>) {
    let number = seq.to_le_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&number), payload);
    out.reserve(HEADER_BYTES + payload.len());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&number);
    out.extend_from_slice(payload);
}

/// Reads the entry at the start of `bytes`.
pub fn decode(bytes: &[u8]) -> Found<'_> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Found::Short {
            needs: HEADER_BYTES,
        };
    };
    let length = le32(&header[0..4]) as usize;
    if length > MAX_PAYLOAD_BYTES {
        return Found::Damaged;
    }
    let Some(payload) = rest.get(..length) else {
        return Found::Short {
            needs: HEADER_BYTES + length,
        };
    };
    if crc32c::crc32c_append(crc32c::crc32c(&header[8..16]), payload) != le32(&header[4..8]) {
        return Found::Damaged;
    }
    let mut number = [0; 8];
    number.copy_from_slice(&header[8..16]);
    Found::Entry {
        seq: u64::from_le_bytes(number),
        payload,
        length: HEADER_BYTES + length,
    }
}

/// The place of the next whole entry in `bytes` whose number is at least `from` and below `below`: how
/// reading goes on behind a damaged place. The number is looked at first, so that a checksum is only
/// computed where an entry is likely.
pub fn resync(bytes: &[u8], from: u64, below: u64) -> Option<usize> {
    (0..bytes.len().saturating_sub(HEADER_BYTES - 1)).find(|&at| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at + 8..at + 16]);
        let seq = u64::from_le_bytes(number);
        (from..below).contains(&seq) && matches!(decode(&bytes[at..]), Found::Entry { .. })
    })
}

fn le32(bytes: &[u8]) -> u32 {
    let mut array = [0; 4];
    array.copy_from_slice(bytes);
    u32::from_le_bytes(array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_no_cut_or_flip_is_believed() {
        let mut bytes = Vec::new();
        encode(7, b"hello", &mut bytes);
        let whole = bytes.len();
        assert_eq!(
            decode(&bytes),
            Found::Entry {
                seq: 7,
                payload: b"hello",
                length: whole
            }
        );
        for cut in 0..whole {
            assert!(matches!(decode(&bytes[..cut]), Found::Short { .. }));
        }
        for bit in 0..whole * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(&flipped), Found::Entry { .. }), "{bit}");
        }
    }

    #[test]
    fn reading_goes_on_behind_damage() {
        let mut bytes = Vec::new();
        for seq in 1..=3 {
            encode(seq, &[b'x'; 100], &mut bytes);
        }
        bytes[0] ^= 0x40;
        assert_eq!(resync(&bytes, 2, 100), Some(116));
        assert_eq!(resync(&bytes, 4, 100), None);
    }
}
