//! Fields of messages on their way in: what may be absent, and the shapes that only protobuf has. What a
//! value may be otherwise is said in [`crate::domain::field`].

use crate::base::{Error, Json, Result};
use crate::domain::field;
use crate::wire::v1;

/// The largest JSON value, in bytes.
pub const MAX_JSON_BYTES: usize = 1024 * 1024;

/// A message that must be there.
pub fn required<T>(value: Option<T>, field: &str) -> Result<T> {
    value.ok_or_else(|| Error::invalid(field, "is missing"))
}

/// An id that may be absent (empty).
pub fn optional_id<T>(
    text: &str,
    field: &str,
    parse: impl FnOnce(&str, &str) -> Result<T>,
) -> Result<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    parse(field, text).map(Some)
}

/// Text of at most `max_bytes`; what it says is not looked at.
pub fn text(text: String, field: &str, max_bytes: usize) -> Result<String> {
    field::text(field, &text, max_bytes)?;
    Ok(text)
}

/// The revision an etag stands for; `None` if it is empty, which fits any revision.
pub fn etag(text: &str) -> Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = || Error::invalid("etag", "is not one this server gave out");
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    text.parse().map(Some).map_err(|_| bad())
}

/// The etag of a revision.
pub fn etag_of(revision: u64) -> String {
    revision.to_string()
}

/// A JSON value as protobuf carries it.
pub fn json_to_pb(json: &Json) -> v1::Json {
    v1::Json {
        text: json.as_str().to_owned(),
    }
}

/// A JSON value of at most [`MAX_JSON_BYTES`]; `None` if it is absent.
pub fn json_from_pb(json: Option<v1::Json>, field: &str) -> Result<Option<Json>> {
    json.map(|json| Json::parse(field, json.text, MAX_JSON_BYTES))
        .transpose()
}

/// A number that must fit a byte and be at most 100.
pub fn percent(value: u32, field: &str) -> Result<u8> {
    u8::try_from(value)
        .ok()
        .filter(|value| *value <= 100)
        .ok_or_else(|| Error::invalid(field, format!("is {value}; the most is 100")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::SessionId;

    fn names_field<T: std::fmt::Debug>(result: Result<T>, field: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.fields()[0].field, field, "{error}");
    }

    #[test]
    fn ids_may_be_absent_but_not_wrong() {
        assert_eq!(
            optional_id("", "session_id", SessionId::parse).unwrap(),
            None
        );
        names_field(
            optional_id("dmn_x", "session_id", SessionId::parse),
            "session_id",
        );
    }

    #[test]
    fn an_etag_is_a_revision_or_refused() {
        assert_eq!(etag(&etag_of(7)).unwrap(), Some(7));
        assert_eq!(etag("").unwrap(), None);
        for bad in ["x", "+1", "-1", "99999999999999999999999"] {
            names_field(etag(bad), "etag");
        }
    }
}
