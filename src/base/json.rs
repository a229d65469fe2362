//! A JSON value carried as its own text.

use std::fmt;

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
    fn what_is_not_json_or_too_long_is_refused() {
        assert!(Json::parse("input", "{", 10).is_err());
        assert!(Json::parse("input", "[1,2,3,4,5,6]", 10).is_err());
    }
}
