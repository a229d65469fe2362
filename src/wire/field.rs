//! What a field of a request may be: checks that every service shares, each naming the field.

use std::collections::{BTreeMap, HashMap};

use crate::base::{Error, Json, Result};
use crate::wire::v1;

/// The longest `request_id`, in bytes.
pub const MAX_REQUEST_ID_BYTES: usize = 128;
/// The longest title or name, in bytes.
pub const MAX_TITLE_BYTES: usize = 200;
/// The longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 4_096;
/// The most labels.
pub const MAX_LABELS: usize = 64;
/// The longest key of a label, in bytes.
pub const MAX_LABEL_KEY_BYTES: usize = 64;
/// The longest value of a label, in bytes.
pub const MAX_LABEL_VALUE_BYTES: usize = 256;
/// The most arguments of a command.
pub const MAX_ARGV: usize = 1_024;
/// All arguments of a command together, in bytes.
pub const MAX_ARGV_BYTES: usize = 128 * 1024;
/// The most names of environment variables.
pub const MAX_ENV_NAMES: usize = 64;
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
    if text.len() > max_bytes {
        return Err(Error::invalid(
            field,
            format!(
                "is {} bytes long, more than the {max_bytes} allowed",
                text.len()
            ),
        ));
    }
    Ok(text)
}

/// Text of 1 to `max_bytes`.
pub fn required_text(value: String, field: &str, max_bytes: usize) -> Result<String> {
    if value.is_empty() {
        return Err(Error::invalid(field, "is missing"));
    }
    text(value, field, max_bytes)
}

/// One line for people: no control, bidi or other hidden characters, at most `max_bytes`.
pub fn line(value: String, field: &str, max_bytes: usize) -> Result<String> {
    let value = text(value, field, max_bytes)?;
    match value.chars().find(|c| is_hidden(*c)) {
        None => Ok(value),
        Some(c) => Err(Error::invalid(
            field,
            format!("has the hidden character U+{:04X}", c as u32),
        )),
    }
}

/// A title of at most [`MAX_TITLE_BYTES`].
pub fn title(value: String, field: &str) -> Result<String> {
    line(value, field, MAX_TITLE_BYTES)
}

/// A `request_id`: empty, or printable ASCII of at most [`MAX_REQUEST_ID_BYTES`].
pub fn request_id(value: String) -> Result<String> {
    let value = text(value, "request_id", MAX_REQUEST_ID_BYTES)?;
    if value.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(value)
    } else {
        Err(Error::invalid(
            "request_id",
            "may only have printable ASCII characters",
        ))
    }
}

/// Whether a character cannot be seen, or changes how others are shown: controls, bidi marks and
/// overrides, zero-width and invisible characters, tags, variation selectors, line separators.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}'
            | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}')
}

/// Labels: at most [`MAX_LABELS`], keys of `[A-Za-z0-9._/-]`, values of one line.
pub fn labels(labels: HashMap<String, String>, field: &str) -> Result<BTreeMap<String, String>> {
    if labels.len() > MAX_LABELS {
        return Err(Error::invalid(
            field,
            format!("has {} entries; the most is {MAX_LABELS}", labels.len()),
        ));
    }
    // Sorted first, so that of several wrong entries always the same is named.
    let labels: BTreeMap<_, _> = labels.into_iter().collect();
    for (key, value) in &labels {
        let fits = (1..=MAX_LABEL_KEY_BYTES).contains(&key.len())
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
        if !fits {
            return Err(Error::invalid(
                field,
                format!("has a key that is not 1 to {MAX_LABEL_KEY_BYTES} of A-Z a-z 0-9 . _ / -"),
            ));
        }
        line(
            value.clone(),
            &format!("{field}[{key}]"),
            MAX_LABEL_VALUE_BYTES,
        )?;
    }
    Ok(labels)
}

/// Program and arguments: at most [`MAX_ARGV`] and [`MAX_ARGV_BYTES`], none with NUL, the program not empty.
/// May be empty as a whole.
pub fn argv(argv: Vec<String>, field: &str) -> Result<Vec<String>> {
    if argv.len() > MAX_ARGV {
        return Err(Error::invalid(
            field,
            format!("has {} entries; the most is {MAX_ARGV}", argv.len()),
        ));
    }
    let bytes: usize = argv.iter().map(|argument| argument.len() + 1).sum();
    if bytes > MAX_ARGV_BYTES {
        return Err(Error::invalid(
            field,
            format!("is {bytes} bytes long in all; the most is {MAX_ARGV_BYTES}"),
        ));
    }
    if argv.first().is_some_and(String::is_empty) {
        return Err(Error::invalid(field, "begins with an empty program"));
    }
    if argv.iter().any(|argument| argument.contains('\0')) {
        return Err(Error::invalid(field, "has a NUL character"));
    }
    Ok(argv)
}

/// Names of environment variables: at most [`MAX_ENV_NAMES`], each `[A-Za-z_][A-Za-z0-9_]*` of at most 128 bytes.
pub fn env_names(names: Vec<String>, field: &str) -> Result<Vec<String>> {
    if names.len() > MAX_ENV_NAMES {
        return Err(Error::invalid(
            field,
            format!("has {} entries; the most is {MAX_ENV_NAMES}", names.len()),
        ));
    }
    let fits = |name: &String| {
        (1..=128).contains(&name.len())
            && !name.as_bytes()[0].is_ascii_digit()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if names.iter().all(fits) {
        Ok(names)
    } else {
        Err(Error::invalid(
            field,
            "has a name that is not one of an environment variable (a value is never taken)",
        ))
    }
}

/// An absolute path without NUL, `.` or `..`; empty where the caller leaves the choice.
pub fn path(value: String, field: &str) -> Result<String> {
    let value = text(value, field, MAX_PATH_BYTES)?;
    if value.is_empty() {
        return Ok(value);
    }
    if !value.starts_with('/') {
        return Err(Error::invalid(field, "is not an absolute path"));
    }
    if value.chars().any(char::is_control) {
        return Err(Error::invalid(field, "has a control character"));
    }
    if value.split('/').any(|part| part == "." || part == "..") {
        return Err(Error::invalid(field, "has a . or .. in it"));
    }
    Ok(value)
}

/// A short name of `[A-Za-z0-9._:-]`, such as a harness's or a model's with `/`; may be empty.
pub fn name(value: String, field: &str) -> Result<String> {
    let value = text(value, field, 128)?;
    if value.starts_with('-') {
        return Err(Error::invalid(field, "must not begin with -"));
    }
    // Models are named like `claude-sonnet-4-5[1m]` or `vendor/model@2026`.
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+-[]".contains(&b);
    if value.bytes().all(fits) {
        Ok(value)
    } else {
        Err(Error::invalid(
            field,
            "may only have A-Z a-z 0-9 . _ : / @ + - [ ]",
        ))
    }
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
    fn titles_are_one_line_that_can_be_seen() {
        assert!(title("Fix the tests — “all” of them 🙂".into(), "title").is_ok());
        for bad in ["a\nb", "a\u{1b}[31m", "a\u{202e}b", "a\u{200b}", "\u{feff}"] {
            names_field(title(bad.into(), "title"), "title");
        }
        names_field(title("x".repeat(201), "title"), "title");
    }

    #[test]
    fn labels_are_bounded() {
        let one = |key: &str, value: &str| {
            labels(
                HashMap::from([(key.to_owned(), value.to_owned())]),
                "labels",
            )
        };
        assert!(one("team/name", "Red team").is_ok());
        names_field(one("", "x"), "labels");
        names_field(one("a b", "x"), "labels");
        names_field(one(&"k".repeat(65), "x"), "labels");
        names_field(one("k", "a\nb"), "labels[k]");
        names_field(one("k", &"v".repeat(257)), "labels[k]");
        let many = (0..65).map(|n| (n.to_string(), String::new())).collect();
        names_field(labels(many, "labels"), "labels");
    }

    #[test]
    fn argv_and_env_are_bounded() {
        assert!(argv(vec!["ls".into(), String::new()], "argv").is_ok());
        names_field(argv(vec![String::new()], "argv"), "argv");
        names_field(argv(vec!["a\0".into()], "argv"), "argv");
        names_field(argv(vec!["a".into(); 1_025], "argv"), "argv");
        names_field(argv(vec!["a".repeat(MAX_ARGV_BYTES)], "argv"), "argv");
        assert!(env_names(vec!["PATH".into(), "_x1".into()], "env_names").is_ok());
        for bad in ["", "1A", "A=B", "Ä"] {
            names_field(env_names(vec![bad.into()], "env_names"), "env_names");
        }
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        assert!(path(String::new(), "cwd").is_ok());
        assert!(path("/srv/a b/ö".into(), "cwd").is_ok());
        for bad in ["a", "~/a", "/a/../b", "/a/./b", "/a\0b", "/a\nb"] {
            names_field(path(bad.into(), "cwd"), "cwd");
        }
        names_field(path(format!("/{}", "a".repeat(4_096)), "cwd"), "cwd");
    }

    #[test]
    fn names_cannot_be_options() {
        assert!(name("claude-opus-4-1[1m]".into(), "model").is_ok());
        names_field(name("--dangerous".into(), "model"), "model");
        names_field(name("a b".into(), "model"), "model");
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
