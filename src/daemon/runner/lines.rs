//! Cuts a stream of bytes into lines, long ones into parts.

use bytes::{Bytes, BytesMut};

/// A line without its end, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// The bytes.
    pub data: Bytes,
    /// Whether the line goes on in the next part.
    pub continues: bool,
}

/// Cuts bytes into lines. Holds at most one part's length.
#[derive(Debug)]
pub struct Lines {
    rest: BytesMut,
    most: usize,
    /// Whether the last part given out goes on.
    open: bool,
}

impl Lines {
    /// Parts are at most `most` bytes long.
    pub fn new(most: usize) -> Self {
        Lines {
            rest: BytesMut::new(),
            most: most.max(1),
            open: false,
        }
    }

    /// Takes bytes in and gives out the parts that are complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Part> {
        let mut parts = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (mut text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            while self.rest.len() + text.len() > self.most {
                let (now, later) = text.split_at(self.most - self.rest.len());
                self.rest.extend_from_slice(now);
                text = later;
                parts.push(self.take(true));
            }
            self.rest.extend_from_slice(text);
            if ends {
                parts.push(self.take(false));
            }
        }
        parts
    }

    /// What is held although its line has not ended: for a program that waits behind a question without
    /// a line's end, and so that nothing stays in memory only.
    pub fn flush(&mut self) -> Option<Part> {
        (!self.rest.is_empty()).then(|| self.take(true))
    }

    /// The last line when the stream has ended without ending it.
    pub fn finish(&mut self) -> Option<Part> {
        (!self.rest.is_empty() || self.open).then(|| self.take(false))
    }

    fn take(&mut self, continues: bool) -> Part {
        self.open = continues;
        Part {
            data: self.rest.split().freeze(),
            continues,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn joined_again_the_parts_are_the_stream(
            bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..200),
            cuts in prop::collection::vec(0..200_usize, 0..5),
            most in 1..20_usize,
            flush in any::<bool>(),
        ) {
            let mut lines = Lines::new(most);
            let mut parts = Vec::new();
            let mut places: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            for pair in places.windows(2) {
                parts.extend(lines.push(&bytes[pair[0]..pair[1]]));
                if flush {
                    parts.extend(lines.flush());
                }
            }
            parts.extend(lines.finish());
            let mut joined = Vec::new();
            for part in &parts {
                prop_assert!(part.data.len() <= most);
                joined.extend_from_slice(&part.data);
                if !part.continues {
                    joined.push(b'\n');
                }
            }
            prop_assert!(parts.last().is_none_or(|part| !part.continues));
            let mut expected = bytes.clone();
            if expected.last().is_some_and(|&byte| byte != b'\n') {
                expected.push(b'\n');
            }
            prop_assert_eq!(joined, expected);
        }
    }
}
