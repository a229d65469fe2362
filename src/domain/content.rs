//! Content: text within an event, and what is too large for one.

use serde::{Deserialize, Serialize};

/// The largest event, in encoded bytes. What does not fit becomes content by hash.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;
/// The largest text that a block carries within an event, in bytes.
pub const MAX_INLINE_TEXT_BYTES: usize = 64 * 1024;
/// How much of a large text its reference shows of each end, in bytes.
pub const PREVIEW_BYTES: usize = 2 * 1024;
/// The largest piece of content on the link and to a reader, in bytes.
pub const CONTENT_CHUNK_BYTES: usize = 256 * 1024;
/// The largest content, in bytes (1 GiB).
pub const MAX_CONTENT_BYTES: u64 = 1 << 30;

/// A part of a message or of a tool's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// Text.
    Text(String),
    /// What the agent thought.
    Thinking(String),
    /// Content too large for the event, or not text.
    Content(ContentRef),
}

/// Content kept beside the log, named by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRef {
    /// SHA-256, lower-case hex.
    pub sha256: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Media type.
    pub media_type: String,
    /// The first characters of a text, at most [`PREVIEW_BYTES`].
    pub head: String,
    /// The last characters of a text, at most [`PREVIEW_BYTES`].
    pub tail: String,
}

impl ContentRef {
    /// The reference to `data`, with previews if it is text.
    pub fn of(data: &[u8], media_type: &str) -> Self {
        use sha2::{Digest, Sha256};
        let (head, tail) = match std::str::from_utf8(data) {
            Ok(text) => (
                text[..floor_char(text, PREVIEW_BYTES)].to_owned(),
                text[ceil_char(text, text.len().saturating_sub(PREVIEW_BYTES))..].to_owned(),
            ),
            Err(_) => Default::default(),
        };
        ContentRef {
            sha256: hex(&Sha256::digest(data)),
            size_bytes: data.len() as u64,
            media_type: media_type.to_owned(),
            head,
            tail,
        }
    }
}

/// Whether `text` is the name of content: 64 lower-case hex digits.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// The largest character boundary of `text` that is not beyond `at`.
pub fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The smallest character boundary of `text` that is not before `at`.
pub fn ceil_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_shows_both_ends_at_character_boundaries() {
        let text = "é".repeat(3_000);
        let reference = ContentRef::of(text.as_bytes(), "text/plain");
        assert_eq!(reference.size_bytes, 6_000);
        assert!(reference.head.len() <= PREVIEW_BYTES && reference.tail.len() <= PREVIEW_BYTES);
        assert!(is_sha256(&reference.sha256));
    }
}
