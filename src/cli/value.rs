//! Values as people write them on the command line.

use std::time::Duration;

use crate::base::{Clock as _, SystemClock, Timestamp, quantity};
use crate::daemon::harness::acp::AcpAgent;
use crate::domain::trigger::{Occasion, Schedule, TaskEvent, TaskEvents, Trigger};
use crate::domain::{EventKind, PermissionMode};

/// A duration of at least a second, like `90s`, `15m`, `12h` or `30d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = quantity::duration(text)?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(3_650 * 86_400);
    allowed
        .contains(&duration)
        .then_some(duration)
        .ok_or_else(|| "is not a duration between 1s and 3650d".to_owned())
}

/// A time: RFC 3339, or a duration from now, like `2h`.
pub fn when(text: &str) -> Result<Timestamp, String> {
    if let Ok(duration) = duration(text) {
        return Ok(SystemClock.now().saturating_add(duration));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        "is neither a time like 2026-11-21T15:00:00Z nor a duration like 2h".to_owned()
    })?;
    Ok(Timestamp::from_micros(time.as_microsecond()))
}

/// A duration that may be nothing, like `0s` or `7d`.
pub fn duration_or_nothing(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        text => duration(text),
    }
}

/// A size in bytes, like `64KiB` or `2GiB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    quantity::bytes(text)
}

/// `key=value`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("is not KEY=VALUE".to_owned()),
    }
}

/// `0 7 * * 1-5 Europe/Berlin: text`, a trigger of a steward; time zone and text may be left out.
pub fn cron(text: &str) -> Result<Trigger, String> {
    let (times, input) = told(text);
    let mut words: Vec<&str> = times.split_ascii_whitespace().collect();
    let time_zone = match words.len() {
        6 => words.pop().unwrap_or_default(),
        _ => "",
    };
    Ok(Trigger {
        on: Occasion::Cron(Schedule {
            cron: words.join(" "),
            time_zone: time_zone.to_owned(),
        }),
        input,
    })
}

/// `task_in_review team=web: text`, a trigger of a steward; labels and text may be left out.
pub fn event(text: &str) -> Result<Trigger, String> {
    let (what, input) = told(text);
    let mut words = what.split_ascii_whitespace();
    let name = words.next().unwrap_or_default().replace('-', "_");
    let event = TaskEvent::parse(&name).ok_or_else(|| {
        let all: Vec<_> = TaskEvent::ALL.iter().map(|event| event.as_str()).collect();
        format!("is not an event of tasks; there are {}", all.join(", "))
    })?;
    let labels = words.map(pair).collect::<Result<_, _>>()?;
    Ok(Trigger {
        on: Occasion::Event(TaskEvents { event, labels }),
        input,
    })
}

/// What stands before a colon, and the text after it.
fn told(text: &str) -> (&str, String) {
    match text.split_once(':') {
        Some((before, told)) => (before, told.trim().to_owned()),
        None => (text, String::new()),
    }
}

/// `NAME=ARGV`, an agent that speaks ACP.
pub fn acp_agent(text: &str) -> Result<AcpAgent, String> {
    AcpAgent::parse(text).map_err(|error| error.message().to_owned())
}

/// A permission mode.
pub fn mode(text: &str) -> Result<PermissionMode, String> {
    PermissionMode::parse(text).ok_or_else(|| "is not one of ask, auto-safe, auto, deny".to_owned())
}

/// A kind of event.
pub fn kind(text: &str) -> Result<EventKind, String> {
    let wanted = text.replace('-', "_");
    EventKind::ALL
        .iter()
        .copied()
        .find(|kind| kind.as_str() == wanted)
        .ok_or_else(|| {
            let all: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("is not a kind of event; there are {}", all.join(", "))
        })
}

/// How long ago something was, in a word: `12s`, `5m`, `3h`, `8d`.
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    short_duration(now.saturating_since(then))
}

/// A duration in a word.
pub fn short_duration(duration: Duration) -> String {
    match duration.as_secs() {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3_600 => format!("{}m", s / 60),
        s @ 3_600..172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

/// A size in a word: `812 B`, `3.4 KiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1_024.0 {
            return match unit {
                "B" => format!("{bytes} B"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1_024.0;
    }
    format!("{value:.1} GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        for bad in ["", "m", "-1s", "0s", "99999999999999999999d", "1w", "é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(
            when("1970-01-01T00:00:01Z"),
            Ok(Timestamp::from_millis(1_000))
        );
        assert!(when("2h").unwrap() > SystemClock.now());
        assert!(when("tomorrow").is_err() && when("").is_err());
    }

    #[test]
    fn words_are_read() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("a").is_err() && pair("=b").is_err());
        assert_eq!(kind("turn-ended"), Ok(EventKind::TurnEnded));
        assert!(kind("x").unwrap_err().contains("turn_ended"));
        assert_eq!(mode("auto-safe"), Ok(PermissionMode::AutoSafe));
    }

    #[test]
    fn ages_and_sizes_are_short() {
        let at = Timestamp::from_millis;
        assert_eq!(ago(at(90_000), at(0)), "1m");
        assert_eq!(ago(at(0), at(5)), "0s");
        assert_eq!(ago(at(86_400_000 * 3), at(0)), "3d");
        assert_eq!(size(10), "10 B");
        assert_eq!(size(1_536), "1.5 KiB");
        assert_eq!(size(u64::MAX).split(' ').nth(1), Some("GiB"));
    }
}
