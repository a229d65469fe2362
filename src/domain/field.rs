//! What a value that comes from outside may be: bounds and shapes, each error naming the field.
//!
//! The server checks with these what a caller asks for, and the daemon checks again what the server asks
//! for, so that both refuse the same.

use std::collections::BTreeMap;

use super::visible::is_hidden;
use crate::base::{Error, Result};

/// The longest title or name, in bytes.
pub const MAX_TITLE_BYTES: usize = 200;
/// The longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 4_096;
/// The longest word that names a harness or a model, in bytes.
pub const MAX_WORD_BYTES: usize = 128;
/// The most labels.
pub const MAX_LABELS: usize = 64;
/// The longest key of a label, in bytes.
pub const MAX_LABEL_KEY_BYTES: usize = 64;
/// The longest value of a label, in bytes.
pub const MAX_LABEL_VALUE_BYTES: usize = 256;
/// The most entries of an argv: the program and its arguments.
pub const MAX_ARGV: usize = 1_024;
/// All entries of an argv together, each with its end mark, in bytes.
pub const MAX_ARGV_BYTES: usize = 128 * 1024;
/// The most names of environment variables.
pub const MAX_ENV_NAMES: usize = 64;
/// The longest name of an environment variable, in bytes.
pub const MAX_ENV_NAME_BYTES: usize = 128;

/// Text of at most `max_bytes`; what it says is not looked at.
pub fn text(field: &str, text: &str, max_bytes: usize) -> Result<()> {
    if text.len() > max_bytes {
        return Err(Error::invalid(
            field,
            format!("is {} bytes long; the most is {max_bytes}", text.len()),
        ));
    }
    Ok(())
}

/// One line for people, of at most `max_bytes`: no control, bidi or other hidden characters, but for the
/// two that emoji are made with (the joiner and the variation selector 16).
pub fn line(field: &str, line: &str, max_bytes: usize) -> Result<()> {
    text(field, line, max_bytes)?;
    let hides = |c: &char| is_hidden(*c) && !matches!(c, '\u{200d}' | '\u{fe0f}');
    match line.chars().find(hides) {
        None => Ok(()),
        Some(c) => Err(Error::invalid(
            field,
            format!("has the hidden character U+{:04X}", u32::from(c)),
        )),
    }
}

/// A title of at most [`MAX_TITLE_BYTES`]; may be empty.
pub fn title(field: &str, title: &str) -> Result<()> {
    line(field, title, MAX_TITLE_BYTES)
}

/// A word that names a harness or a model, such as `acp:gemini`, `claude-sonnet-4-5[1m]` or
/// `vendor/model@2026`. It may be empty, and never looks like an option.
pub fn word(field: &str, word: &str) -> Result<()> {
    text(field, word, MAX_WORD_BYTES)?;
    if word.starts_with('-') {
        return Err(Error::invalid(field, "must not begin with -"));
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+-[]".contains(&b);
    if word.bytes().all(fits) {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        "may only have A-Z a-z 0-9 . _ : / @ + - [ ]",
    ))
}

/// An absolute path without control characters, `.` or `..`; empty where the caller leaves the choice.
pub fn path(field: &str, path: &str) -> Result<()> {
    text(field, path, MAX_PATH_BYTES)?;
    if path.is_empty() {
        return Ok(());
    }
    if !path.starts_with('/') {
        return Err(Error::invalid(field, "must be an absolute path"));
    }
    if path.chars().any(char::is_control) {
        return Err(Error::invalid(field, "has a control character"));
    }
    if path.split('/').any(|part| part == "." || part == "..") {
        return Err(Error::invalid(field, "has a . or .. in it"));
    }
    Ok(())
}

/// Program and arguments: at most [`MAX_ARGV`] and [`MAX_ARGV_BYTES`], none with NUL, the program not
/// empty. May be empty as a whole.
pub fn argv(field: &str, argv: &[String]) -> Result<()> {
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
        return Err(Error::invalid(
            &format!("{field}[0]"),
            "is empty; it names the program",
        ));
    }
    for (index, argument) in argv.iter().enumerate() {
        if argument.contains('\0') {
            return Err(Error::invalid(
                &format!("{field}[{index}]"),
                "has a NUL character",
            ));
        }
    }
    Ok(())
}

/// Names of environment variables, at most [`MAX_ENV_NAMES`]: `[A-Za-z_][A-Za-z0-9_]*` of at most
/// [`MAX_ENV_NAME_BYTES`]. Never values: those are the machine's own.
pub fn env_names(field: &str, names: &[String]) -> Result<()> {
    if names.len() > MAX_ENV_NAMES {
        return Err(Error::invalid(
            field,
            format!("has {} entries; the most is {MAX_ENV_NAMES}", names.len()),
        ));
    }
    for (index, name) in names.iter().enumerate() {
        let fits = (1..=MAX_ENV_NAME_BYTES).contains(&name.len())
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !fits {
            return Err(Error::invalid(
                &format!("{field}[{index}]"),
                "is not the name of an environment variable (give the name only, never NAME=VALUE)",
            ));
        }
    }
    Ok(())
}

/// Labels: at most [`MAX_LABELS`], keys of `[A-Za-z0-9._/-]` of at most [`MAX_LABEL_KEY_BYTES`], values
/// of one line of at most [`MAX_LABEL_VALUE_BYTES`].
pub fn labels(field: &str, labels: &BTreeMap<String, String>) -> Result<()> {
    if labels.len() > MAX_LABELS {
        return Err(Error::invalid(
            field,
            format!("has {} entries; the most is {MAX_LABELS}", labels.len()),
        ));
    }
    for (key, value) in labels {
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
        line(&format!("{field}[{key}]"), value, MAX_LABEL_VALUE_BYTES)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses(result: Result<()>, field: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.fields()[0].field, field, "{error}");
    }

    #[test]
    fn titles_are_one_line_that_can_be_seen() {
        for good in [
            "",
            "Fix the tests — “all” of them 🙂",
            "❤\u{fe0f} 👩\u{200d}🚀",
        ] {
            assert!(title("title", good).is_ok(), "{good}");
        }
        for bad in ["a\nb", "a\u{1b}[31m", "a\u{202e}b", "a\u{200b}", "\u{feff}"] {
            refuses(title("title", bad), "title");
        }
        refuses(title("title", &"x".repeat(201)), "title");
    }

    #[test]
    fn labels_are_bounded() {
        let one = |key: &str, value: &str| {
            labels(
                "labels",
                &BTreeMap::from([(key.to_owned(), value.to_owned())]),
            )
        };
        assert!(one("team/name", "Red team").is_ok());
        refuses(one("", "x"), "labels");
        refuses(one("a b", "x"), "labels");
        refuses(one(&"k".repeat(65), "x"), "labels");
        refuses(one("k", "a\nb"), "labels[k]");
        refuses(one("k", &"v".repeat(257)), "labels[k]");
        let many = (0..65).map(|n| (n.to_string(), String::new())).collect();
        refuses(labels("labels", &many), "labels");
    }

    #[test]
    fn argv_and_env_names_are_bounded() {
        let all = |entries: &[&str]| -> Vec<String> {
            entries.iter().map(|entry| (*entry).to_owned()).collect()
        };
        assert!(argv("argv", &all(&["ls", ""])).is_ok());
        refuses(argv("argv", &all(&[""])), "argv[0]");
        refuses(argv("argv", &all(&["a", "b\0"])), "argv[1]");
        refuses(argv("argv", &vec!["a".to_owned(); 1_025]), "argv");
        refuses(argv("argv", &["a".repeat(MAX_ARGV_BYTES)]), "argv");
        assert!(env_names("env_names", &all(&["PATH", "_x1"])).is_ok());
        for bad in ["", "1A", "A=B", "Ä"] {
            refuses(env_names("env_names", &all(&[bad])), "env_names[0]");
        }
        refuses(
            env_names("env_names", &vec!["A".to_owned(); 65]),
            "env_names",
        );
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        assert!(path("cwd", "").is_ok());
        assert!(path("cwd", "/srv/a b/ö").is_ok());
        for bad in ["a", "~/a", "/a/../b", "/a/./b", "/a\0b", "/a\nb"] {
            refuses(path("cwd", bad), "cwd");
        }
        refuses(path("cwd", &format!("/{}", "a".repeat(4_096))), "cwd");
    }

    #[test]
    fn words_cannot_be_options() {
        assert!(word("model", "claude-opus-4-1[1m]").is_ok());
        refuses(word("model", "--dangerous"), "model");
        refuses(word("model", "a b"), "model");
        refuses(word("model", &"m".repeat(129)), "model");
    }
}
