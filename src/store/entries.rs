//! The entries of an append, in the form that they are stored and sent in.

use bytes::Bytes;

use crate::wire::put_entry_head;

/// Entries in order: an encoded `baton.v1.EventBatch`, which a commit carries from who makes it to the disk and to
/// the readers without looking at any entry again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    encoded: Vec<u8>,
    count: u64,
}

impl Entries {
    /// None yet, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Entries {
            encoded: Vec::with_capacity(bytes),
            count: 0,
        }
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &[u8]) {
        self.push_parts([entry]);
    }

    /// Adds one entry that lies in pieces.
    pub fn push_parts<const N: usize>(&mut self, parts: [&[u8]; N]) {
        put_entry_head(&mut self.encoded, parts.iter().map(|part| part.len()).sum());
        for part in parts {
            self.encoded.extend_from_slice(part);
        }
        self.count += 1;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them: an encoded `baton.v1.EventBatch`.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

impl FromIterator<Bytes> for Entries {
    fn from_iter<I: IntoIterator<Item = Bytes>>(entries: I) -> Self {
        let mut all = Entries::default();
        for entry in entries {
            all.push(&entry);
        }
        all
    }
}

impl From<Vec<Bytes>> for Entries {
    fn from(entries: Vec<Bytes>) -> Self {
        entries.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::EventBatch;

    #[test]
    fn entries_are_an_event_batch() {
        let lengths = [0, 1, 127, 128, 300, 16_383, 16_384, 2_100_000];
        let texts: Vec<Bytes> = lengths.map(|n| Bytes::from(vec![n as u8; n])).into();
        let entries = Entries::from(texts.clone());
        assert_eq!(entries.count(), lengths.len() as u64);
        let batch = EventBatch::from_encoded(Bytes::copy_from_slice(entries.encoded()));
        assert_eq!(batch.entries().unwrap(), texts);
        let mut pieces = Entries::default();
        for text in &texts {
            let (head, tail) = text.split_at(text.len() / 2);
            pieces.push_parts([head, tail]);
        }
        assert_eq!(pieces, entries);
    }
}
