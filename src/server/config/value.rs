//! Values as people write them.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

pub use crate::base::quantity::{bytes, duration};

/// Why a value cannot be used; reads after the key's name.
pub type Problem = String;

/// A duration, or `none` (also an empty text) for no bound.
pub fn optional_duration(text: &str) -> Result<Option<Duration>, Problem> {
    match text {
        "" | "none" | "never" => Ok(None),
        text => duration(text).map(Some),
    }
}

/// A size, or `none` (also an empty text) for no bound.
pub fn optional_bytes(text: &str) -> Result<Option<u64>, Problem> {
    match text {
        "" | "none" => Ok(None),
        text => bytes(text).map(Some),
    }
}

/// A whole number between two bounds.
pub fn number(text: &str, least: u64, most: u64) -> Result<u64, Problem> {
    text.parse::<u64>()
        .ok()
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| format!("is {text:?}; it must be a whole number from {least} to {most}"))
}

/// A number of US dollars, kept in millionths, or `none`.
pub fn optional_micro_usd(text: &str) -> Result<Option<u64>, Problem> {
    if matches!(text, "" | "none") {
        return Ok(None);
    }
    let bad = || format!("is {text:?}, which is no amount of US dollars (like 2.50)");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 6 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let micros: u64 = format!("{part:0<6}").parse().map_err(|_| bad())?;
    whole
        .parse::<u64>()
        .ok()
        .and_then(|whole| whole.checked_mul(1_000_000)?.checked_add(micros))
        .map(Some)
        .ok_or_else(bad)
}

/// `true` or `false`.
pub fn boolean(text: &str) -> Result<bool, Problem> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("is {text:?}; it must be true or false")),
    }
}

/// Address and port; a host name is looked up.
pub fn address(text: &str) -> Result<SocketAddr, Problem> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    text.to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(|| format!("is {text:?}, which is no address and port (like 127.0.0.1:7420)"))
}

/// An address, or `off`.
pub fn optional_address(text: &str) -> Result<Option<SocketAddr>, Problem> {
    match text {
        "" | "off" | "none" => Ok(None),
        text => address(text).map(Some),
    }
}

/// Words between commas.
pub fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_written() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(bytes("64KiB"), Ok(65_536));
        assert_eq!(optional_micro_usd("2.5"), Ok(Some(2_500_000)));
        assert_eq!(optional_duration("none"), Ok(None));
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for bad in ["", "s", "-5s", "5 fortnights", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["x", "1.5MiB", "18446744073709551615GiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        for bad in ["-1", "1.2345678", "1,5", "."] {
            assert!(optional_micro_usd(bad).is_err(), "{bad}");
        }
        assert!(address("7420").is_err());
    }
}
