//! Checks of what a caller says about a session, before anything is done, beyond those of
//! [`crate::domain::field`].

use std::time::Duration;

use crate::base::{Error, Result};
use crate::domain::field;
use crate::domain::input::MAX_INPUT_BYTES;
use crate::domain::session::{LimitAction, Limits};

const MAX_DURATION: Duration = Duration::from_secs(3_653 * 24 * 3_600);

/// Text for an agent.
pub(in crate::app) fn input(field: &str, text: &str, may_be_empty: bool) -> Result<()> {
    if text.is_empty() && !may_be_empty {
        return Err(Error::invalid(field, "is missing"));
    }
    field::text(field, text, MAX_INPUT_BYTES)?;
    if text.contains('\0') {
        return Err(Error::invalid(field, "has a NUL byte"));
    }
    Ok(())
}

/// A title: as given, or the beginning of the first input.
pub(super) fn title(given: &str, input: &str, argv: &[String]) -> Result<String> {
    field::title("title", given)?;
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
pub(in crate::app) fn limits(at: &str, asked: Limits, server: &Limits) -> Result<Limits> {
    fn within<T: PartialOrd + Copy>(
        at: &str,
        field: &str,
        asked: Option<T>,
        server: Option<T>,
    ) -> Result<Option<T>> {
        match (asked, server) {
            (Some(asked), Some(server)) if asked > server => Err(Error::invalid(
                &format!("{at}.{field}"),
                "is more than this server allows",
            )),
            (Some(asked), _) => Ok(Some(asked)),
            (None, server) => Ok(server),
        }
    }
    let positive = |field: &str, value: Option<Duration>| match value {
        Some(Duration::ZERO) => Err(Error::invalid(
            &format!("{at}.{field}"),
            "is zero; leave it out for the server's default",
        )),
        Some(value) if value > MAX_DURATION => Err(Error::invalid(
            &format!("{at}.{field}"),
            "is more than ten years; leave it out for no limit",
        )),
        value => Ok(value),
    };
    if asked.action == LimitAction::Park {
        return Err(Error::invalid(
            &format!("{at}.action"),
            "is park, which only budgets do; it must be end or suspend",
        ));
    }
    Ok(Limits {
        runtime: within(
            at,
            "runtime",
            positive("runtime", asked.runtime)?,
            server.runtime,
        )?,
        idle: within(at, "idle", positive("idle", asked.idle)?, server.idle)?,
        output_bytes: within(at, "output_bytes", asked.output_bytes, server.output_bytes)?,
        turns: within(at, "turns", asked.turns, server.turns)?,
        cost_micro_usd: within(
            at,
            "cost_micro_usd",
            asked.cost_micro_usd,
            server.cost_micro_usd,
        )?,
        action: asked.action,
    })
}
