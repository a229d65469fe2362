//! Keys of the records that the store itself keeps: leases, outbox entries, references to content.

use super::Stream;

/// Table of the leases.
pub(super) const LEASE: &str = "lease/";
/// Table of the outbox.
pub(super) const OUTBOX: &str = "outbox/";
/// Table of the references to content.
pub(super) const CONTENT: &str = "content/";
/// Length of a SHA-256 in hex.
pub(super) const SHA256_LEN: usize = 64;

/// Whether `text` is a SHA-256 in lower-case hex. What passes is also safe as a file name.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == SHA256_LEN
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Key of the record that says that `stream` refers to content.
pub(super) fn content(stream: &Stream, sha256: &str) -> String {
    format!("{CONTENT}{sha256}/{stream}")
}

/// Start of the keys of all references to content.
pub(super) fn content_prefix(sha256: &str) -> String {
    format!("{CONTENT}{sha256}/")
}

/// The stream that a content reference is of; `None` if the key is none.
pub(super) fn content_stream(key: &str) -> Option<&str> {
    let (sha256, stream) = key.strip_prefix(CONTENT)?.split_once('/')?;
    (is_sha256(sha256) && !stream.is_empty()).then_some(stream)
}

/// Start of the keys of a daemon's outbox.
pub(super) fn outbox_prefix(daemon: &str) -> String {
    format!("{OUTBOX}{daemon}/")
}

/// Key of a lease.
pub(super) fn lease(name: &str) -> String {
    format!("{LEASE}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_reference_names_its_stream() {
        let sha256 = "ab".repeat(32);
        let stream = Stream::new("ses/a/b").expect("a valid name");
        let key = content(&stream, &sha256);
        assert!(key.starts_with(&content_prefix(&sha256)));
        assert_eq!(content_stream(&key), Some("ses/a/b"));
        assert_eq!(content_stream("content/xyz/ses"), None);
        assert!(!is_sha256(&"AB".repeat(32)) && !is_sha256("../../../etc"));
    }
}
