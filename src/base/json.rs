//! A JSON value carried as its own text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{Error, Result};

/// One JSON value, kept as the text it arrived as. What a harness asks for and what a person changed
/// in it must come back exactly (a protobuf `Struct` would round large integers), so the text is
/// checked once and never rewritten.
#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Json(String);

impl Json {
    /// Takes text that must be one JSON value of at most `max_bytes` bytes.
    pub fn parse(field: &str, text: impl Into<String>, max_bytes: usize) -> Result<Self> {
        let text = text.into();
        if text.len() > max_bytes {
            return Err(Error::invalid(
                field,
                format!(
                    "is {} bytes long, more than the {max_bytes} allowed",
                    text.len()
                ),
            ));
        }
        match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
            Ok(_) => Ok(Json(text)),
            Err(problem) => Err(Error::invalid(field, format!("is not JSON: {problem}"))),
        }
    }

    /// The text of a value that was built here.
    pub fn from_value(value: &serde_json::Value) -> Self {
        Json(value.to_string())
    }

    /// The value as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value as a tree. A text deeper than the parser follows (128 levels) reads as null.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or(serde_json::Value::Null)
    }

    /// The value as it is written, character for character, into JSON around it. What [`Json::to_value`] reads as null is
    /// null here too: a text may be JSON and still be refused by most readers (deeper than 128 levels, half of a
    /// surrogate pair, a number beyond a double's range), and would take with it all that stands beside it.
    pub fn as_raw(&self) -> &RawValue {
        match serde_json::from_str::<&RawValue>(&self.0) {
            Ok(raw) if is_readable(raw.get()) => raw,
            _ => RawValue::NULL,
        }
    }
}

/// Whether a reader that makes a tree of values understands a text. No tree is made.
fn is_readable(text: &str) -> bool {
    Readable
        .deserialize(&mut serde_json::Deserializer::from_str(text))
        .is_ok()
}

/// Reads any value to its end, and keeps nothing.
struct Readable;

impl<'de> DeserializeSeed<'de> for Readable {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        // Not "ignored any", which does not look at what it passes.
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while seq.next_element_seed(Readable)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while map.next_key_seed(Readable)?.is_some() {
            map.next_value_seed(Readable)?;
        }
        Ok(())
    }
}

impl Default for Json {
    fn default() -> Self {
        Json("null".to_owned())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_kept_as_it_came() {
        let text = "{\"big\": 12345678901234567890123, \"b\":1.0}";
        assert_eq!(Json::parse("input", text, 1_000).unwrap().as_str(), text);
    }

    #[test]
    fn as_raw_it_is_its_own_text_or_null_where_a_tree_would_be() {
        for text in [
            "{\"big\": 12345678901234567890123, \"b\":1.0, \"a\": [true, null, -1, \"\\ud83e\\udd80\"]}",
            "null",
            "\"é\"",
        ] {
            let json = Json::parse("input", format!(" {text}\n"), 1_000).unwrap();
            assert_eq!(json.as_raw().get(), text);
        }
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for text in [
            "\"\\ud83e\"",
            "{\"\\udd80\": 1}",
            "[1e999]",
            &deep(128),
            &deep(100_000),
        ] {
            let json = Json::parse("input", text, 1 << 20).unwrap();
            assert!(json.to_value().is_null(), "{text:.20}");
            assert_eq!(json.as_raw().get(), "null", "{text:.20}");
        }
        let deep = Json::parse("input", deep(127), 1_000).unwrap();
        assert!(!deep.to_value().is_null() && deep.as_raw().get() == deep.as_str());
        // A record may hold what was never parsed.
        let damaged: Json = serde_json::from_str("\"{\"").unwrap();
        assert_eq!(damaged.as_raw().get(), "null");
    }

    #[test]
    fn what_is_not_json_or_too_long_is_refused() {
        assert!(Json::parse("input", "{", 10).is_err());
        assert!(Json::parse("input", "[1,2,3,4,5,6]", 10).is_err());
    }
}
