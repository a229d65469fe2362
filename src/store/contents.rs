//! What a provider holds those to who bring content: the same for every provider.

use bytes::Bytes;

use super::{Error, Expect, RecordOp, Result, Stream, keys};

/// Refuses what is not the name of content. What passes is also safe as a file name.
pub(super) fn check_name(sha256: &str) -> Result<()> {
    if keys::is_sha256(sha256) {
        return Ok(());
    }
    Err(Error::Malformed(
        "a content's name is 64 lower-case hex digits".into(),
    ))
}

/// Whole content is there with `has` bytes, and somebody says that it has `size`.
pub(super) fn check_size(sha256: &str, has: u64, size: u64) -> Result<()> {
    if has == size {
        return Ok(());
    }
    Err(Error::Malformed(format!(
        "content {sha256} has {has} bytes, not {size}"
    )))
}

/// How much of a piece is staged already, where `have` bytes of `size` are.
pub(super) fn known(
    sha256: &str,
    size: u64,
    have: u64,
    offset: u64,
    piece: &[u8],
) -> Result<usize> {
    let length = piece.len() as u64;
    let end = offset.saturating_add(length);
    if offset > have {
        return Err(Error::Malformed(format!(
            "the piece of content {sha256} at {offset} comes after {have}"
        )));
    }
    if end > size {
        return Err(Error::Malformed(format!(
            "a piece of content {sha256} ends at {end}, beyond {size}"
        )));
    }
    let known = (have - offset).min(length);
    Ok(usize::try_from(known).unwrap_or(usize::MAX))
}

/// All bytes are there and have another hash.
pub(super) fn wrong_hash(sha256: &str) -> Error {
    Error::Malformed(format!(
        "what was staged as content {sha256} has another hash"
    ))
}

/// There is none to read.
pub(super) fn absent(sha256: &str) -> Error {
    Error::Malformed(format!("there is no content {sha256}"))
}

/// The change that says that a stream refers to content.
pub(super) fn refer_op(stream: &Stream, sha256: &str) -> RecordOp {
    RecordOp {
        key: keys::content(stream, sha256),
        expect: Expect::Any,
        value: Some(Bytes::new()),
    }
}
