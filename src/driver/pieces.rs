//! Lines and texts put together again from the parts that a runner cut them into.

/// The longest line that is read as one, in bytes. What is longer is kept as content, piece by piece.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// What a part of standard output completes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A line without its end.
    Line(Vec<u8>),
    /// A part of a line that is longer than [`MAX_LINE_BYTES`].
    Oversize(Vec<u8>),
}

/// Puts lines together. Holds at most [`MAX_LINE_BYTES`].
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The start of a line whose rest has not come.
    pub(super) partial: Vec<u8>,
    /// Whether that line is beyond its bound already.
    pub(super) oversize: bool,
}

impl Lines {
    /// Takes a part in; gives what it completes.
    pub(super) fn push(&mut self, data: &[u8], continues: bool) -> Vec<Piece> {
        let mut out = Vec::new();
        for piece in data.chunks(MAX_LINE_BYTES) {
            if self.partial.len() + piece.len() > MAX_LINE_BYTES {
                self.oversize = true;
                out.push(Piece::Oversize(std::mem::take(&mut self.partial)));
            }
            self.partial.extend_from_slice(piece);
        }
        if !continues {
            out.extend(self.finish());
        }
        out
    }

    /// The line that the output ended in.
    pub(super) fn finish(&mut self) -> Option<Piece> {
        let oversize = std::mem::take(&mut self.oversize);
        let bytes = std::mem::take(&mut self.partial);
        if bytes.is_empty() {
            return None;
        }
        Some(match oversize {
            true => Piece::Oversize(bytes),
            false => Piece::Line(bytes),
        })
    }
}

/// How many bytes at the end are the start of a character whose rest comes later.
pub(super) fn unfinished(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(problem) if problem.error_len().is_none() => bytes.len() - problem.valid_up_to(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_whole_again_and_a_monster_comes_in_pieces() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"ab", true), []);
        assert_eq!(lines.push(b"c", false), [Piece::Line(b"abc".to_vec())]);
        assert_eq!(lines.push(b"", false), []);
        let half = vec![b'x'; MAX_LINE_BYTES / 2 + 1];
        assert_eq!(lines.push(&half, true), []);
        assert_eq!(lines.push(&half, true), [Piece::Oversize(half.clone())]);
        assert_eq!(lines.push(b"", false), [Piece::Oversize(half)]);
        assert_eq!(lines.push(b"d", false), [Piece::Line(b"d".to_vec())]);
        assert_eq!(unfinished("aé".as_bytes().split_at(2).0), 1);
        assert_eq!(unfinished(b"a\xff"), 0);
    }
}
