//! A line of JSON that a harness wrote, read field by field and with patience.
//!
//! Fields are kept as the text they came as until somebody asks for one, so a line with odd, missing or
//! additional fields still gives what it has, and a tool's input can be handed on byte for byte.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// A JSON object whose values are still text. Of a key that comes twice the last value counts, as it
/// does for the program that wrote it.
#[derive(Debug, Default)]
pub(super) struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Object<'a> {
    /// Reads an object; `None` if the text is anything else.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Object)
    }

    /// A field's text as it came; `None` if it is missing or null.
    pub(super) fn raw(&self, key: &str) -> Option<&'a str> {
        self.0
            .get(key)
            .map(|value| value.get())
            .filter(|text| *text != "null")
    }

    /// A field that is a string.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        string(self.raw(key)?)
    }

    /// A field that is a string, or nothing.
    pub(super) fn text_or_empty(&self, key: &str) -> String {
        self.text(key).unwrap_or_default()
    }

    /// Whether a field is `true`.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.raw(key) == Some("true")
    }

    /// A field that is a number.
    pub(super) fn float(&self, key: &str) -> Option<f64> {
        serde_json::from_str::<f64>(self.raw(key)?).ok()
    }

    /// A field that is a number not below zero, rounded down.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        let number = self.float(key).filter(|number| *number >= 0.0)?;
        // A float too large for the type saturates.
        Some(number as u64)
    }

    /// A field that is an object.
    pub(super) fn object(&self, key: &str) -> Option<Object<'a>> {
        Object::parse(self.raw(key)?)
    }

    /// The texts of a field that is an array.
    pub(super) fn array(&self, key: &str) -> Option<Vec<&'a str>> {
        let values: Vec<&'a RawValue> = serde_json::from_str(self.raw(key)?).ok()?;
        Some(values.into_iter().map(RawValue::get).collect())
    }

    /// The objects of a field that is an array; what is no object is left out.
    pub(super) fn objects(&self, key: &str) -> Option<Vec<Object<'a>>> {
        let values = self.array(key)?;
        Some(values.into_iter().filter_map(Object::parse).collect())
    }

    /// The strings of a field that is an array; what is no string is left out.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        let values = self.array(key).unwrap_or_default();
        values.into_iter().filter_map(string).collect()
    }

    /// Every value that is an object, whatever its key.
    pub(super) fn inner_objects(&self) -> impl Iterator<Item = Object<'a>> + '_ {
        self.0
            .values()
            .filter_map(|value| Object::parse(value.get()))
    }

    /// Every key with its text.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &'a str)> + '_ {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.get()))
    }
}

/// The string that a JSON text is. Half of a surrogate pair, which JSON can spell and no text can hold,
/// becomes U+FFFD.
pub(super) fn string(text: &str) -> Option<String> {
    if !text.starts_with('"') {
        return None;
    }
    match serde_json::from_str(text) {
        Ok(string) => Some(string),
        Err(_) => serde_json::from_str(&without_lone_surrogates(text)).ok(),
    }
}

/// Reads a value, of whatever type. Halves of surrogate pairs become U+FFFD.
pub(super) fn value<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).or_else(|problem| match without_lone_surrogates(text) {
        Cow::Borrowed(_) => Err(problem),
        Cow::Owned(clean) => serde_json::from_str(&clean),
    })
}

fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    // The code unit of the escape at `at`, if there is one.
    let unit = |at: usize| -> Option<u32> {
        let escape = bytes.get(at..at + 6)?;
        let digits = escape.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut clean = String::with_capacity(text.len());
    let (mut at, mut kept) = (0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                clean.push_str(&text[kept..at]);
                clean.push_str("\\ufffd");
                at += 6;
                kept = at;
            }
            _ => at += 2,
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    clean.push_str(&text[kept..]);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_any_order_and_any_shape() {
        let line =
            r#"{"n":1.9,"f":true,"s":"a","nul":null,"o":{"k":[1,"x",{}]},"s":"last","bad":-1}"#;
        let object = Object::parse(line).unwrap();
        assert_eq!(object.text_or_empty("s"), "last");
        assert_eq!(object.number("n"), Some(1));
        assert_eq!(object.number("bad"), None);
        assert!(object.flag("f") && !object.flag("s"));
        assert!(object.raw("nul").is_none() && object.text("n").is_none());
        let inner = object.object("o").unwrap();
        assert_eq!(inner.texts("k"), ["x"]);
        assert_eq!(inner.objects("k").unwrap().len(), 1);
        assert!(Object::parse("[1]").is_none() && Object::parse("").is_none());
    }

    #[test]
    fn half_a_surrogate_pair_does_not_lose_the_text() {
        for (text, read) in [
            (r#""a\ud800b""#, "a\u{fffd}b"),
            (r#""\udc00""#, "\u{fffd}"),
            (r#""\ud83d\ude00 \\ud800 \ud83d""#, "😀 \\ud800 \u{fffd}"),
            (r#""plain""#, "plain"),
        ] {
            assert_eq!(string(text).as_deref(), Some(read), "{text}");
        }
        assert_eq!(string("12"), None);
    }

    #[test]
    fn a_deep_value_is_kept_as_text() {
        let deep = format!(r#"{{"input":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        let object = Object::parse(&deep).unwrap();
        assert_eq!(object.raw("input").unwrap().len(), 10_001);
    }
}
