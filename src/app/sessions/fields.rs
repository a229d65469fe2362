//! Checks of what a caller says about a session, before anything is done.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{Error, Result};
use crate::domain::input::MAX_INPUT_BYTES;
use crate::domain::session::Limits;

const MAX_LABELS: usize = 64;
const MAX_LABEL_BYTES: usize = 256;
const MAX_PATH_BYTES: usize = 4_096;
const MAX_ARGS: usize = 256;
const MAX_ARG_BYTES: usize = 128 * 1024;
const MAX_ENV_NAMES: usize = 64;
const MAX_TITLE_BYTES: usize = 200;
const MAX_DURATION: Duration = Duration::from_secs(3_653 * 24 * 3_600);

/// Text for an agent.
pub(super) fn input(field: &str, text: &str, may_be_empty: bool) -> Result<()> {
    if text.is_empty() && !may_be_empty {
        return Err(Error::invalid(field, "is missing"));
    }
    if text.len() > MAX_INPUT_BYTES {
        return Err(Error::invalid(
            field,
            format!(
                "is {} bytes long; the most is {MAX_INPUT_BYTES}",
                text.len()
            ),
        ));
    }
    if text.contains('\0') {
        return Err(Error::invalid(field, "has a NUL byte"));
    }
    Ok(())
}

/// A directory on a daemon's machine.
pub(super) fn cwd(path: &str) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(Error::invalid("cwd", "is longer than 4096 bytes"));
    }
    if !path.starts_with('/') {
        return Err(Error::invalid("cwd", "must be an absolute path"));
    }
    if path.contains('\0') || path.split('/').any(|part| part == "..") {
        return Err(Error::invalid("cwd", "must have neither .. nor a NUL byte"));
    }
    Ok(())
}

/// A word that names something: a harness, a model.
pub(super) fn word(field: &str, text: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@[]".contains(c);
    if text.len() > 128 || !text.chars().all(plain) || text.starts_with('-') {
        return Err(Error::invalid(
            field,
            "may have letters, digits and - _ . : / @ [ ], must not begin with -, and is at most 128 bytes long",
        ));
    }
    Ok(())
}

/// Program and arguments of a plain command.
pub(super) fn argv(argv: &[String]) -> Result<()> {
    if argv.len() > MAX_ARGS {
        return Err(Error::invalid("argv", "has more than 256 entries"));
    }
    for (index, arg) in argv.iter().enumerate() {
        if arg.contains('\0') || arg.len() > MAX_ARG_BYTES {
            return Err(Error::invalid(
                &format!("argv[{index}]"),
                "has a NUL byte or is longer than 128 KiB",
            ));
        }
    }
    if argv.first().is_some_and(String::is_empty) {
        return Err(Error::invalid("argv[0]", "is empty; it names the program"));
    }
    Ok(())
}

/// Names of environment variables. Never values: those are the machine's own.
pub(super) fn env_names(names: &[String]) -> Result<()> {
    if names.len() > MAX_ENV_NAMES {
        return Err(Error::invalid("env_names", "has more than 64 entries"));
    }
    for (index, name) in names.iter().enumerate() {
        let good = !name.is_empty()
            && name.len() <= 128
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !good {
            return Err(Error::invalid(
                &format!("env_names[{index}]"),
                "is not the name of an environment variable (give the name only, never NAME=VALUE)",
            ));
        }
    }
    Ok(())
}

/// Labels.
pub(super) fn labels(field: &str, labels: &BTreeMap<String, String>) -> Result<()> {
    if labels.len() > MAX_LABELS {
        return Err(Error::invalid(field, "has more than 64 entries"));
    }
    for (key, value) in labels {
        let good = !key.is_empty()
            && key.len() <= MAX_LABEL_BYTES
            && value.len() <= MAX_LABEL_BYTES
            && !key.chars().chain(value.chars()).any(char::is_control);
        if !good {
            return Err(Error::invalid(
                field,
                "has a key or value that is empty (key), longer than 256 bytes, or has control characters",
            ));
        }
    }
    Ok(())
}

/// A title: as given, or the beginning of the first input.
pub(super) fn title(given: &str, input: &str, argv: &[String]) -> Result<String> {
    if given.len() > MAX_TITLE_BYTES {
        return Err(Error::invalid("title", "is longer than 200 bytes"));
    }
    if given.chars().any(char::is_control) {
        return Err(Error::invalid("title", "has control characters"));
    }
    if !given.is_empty() {
        return Ok(given.to_owned());
    }
    let from = if input.trim().is_empty() {
        argv.join(" ")
    } else {
        input.to_owned()
    };
    let line: String = from
        .trim()
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(80)
        .collect();
    Ok(line)
}

/// The limits of a session: what it names, where the server allows that, else the server's own.
pub(super) fn limits(asked: Limits, server: &Limits) -> Result<Limits> {
    fn within<T: PartialOrd + Copy>(
        field: &str,
        asked: Option<T>,
        server: Option<T>,
    ) -> Result<Option<T>> {
        match (asked, server) {
            (Some(asked), Some(server)) if asked > server => Err(Error::invalid(
                &format!("limits.{field}"),
                "is more than this server allows",
            )),
            (Some(asked), _) => Ok(Some(asked)),
            (None, server) => Ok(server),
        }
    }
    let positive = |field: &str, value: Option<Duration>| match value {
        Some(Duration::ZERO) => Err(Error::invalid(
            &format!("limits.{field}"),
            "is zero; leave it out for the server's default",
        )),
        Some(value) if value > MAX_DURATION => Err(Error::invalid(
            &format!("limits.{field}"),
            "is more than ten years; leave it out for no limit",
        )),
        value => Ok(value),
    };
    Ok(Limits {
        runtime: within(
            "runtime",
            positive("runtime", asked.runtime)?,
            server.runtime,
        )?,
        idle: within("idle", positive("idle", asked.idle)?, server.idle)?,
        output_bytes: within("output_bytes", asked.output_bytes, server.output_bytes)?,
        turns: within("turns", asked.turns, server.turns)?,
        cost_micro_usd: within(
            "cost_micro_usd",
            asked.cost_micro_usd,
            server.cost_micro_usd,
        )?,
        action: asked.action,
    })
}
