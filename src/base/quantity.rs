//! Durations and sizes as people write them.

use std::time::Duration;

/// A duration: `250ms`, `30s`, `5m`, `2h`, `7d`, or a bare number of seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let millis_each: u64 = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad_duration(text)),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(millis_each))
        // A century, so that sums of times stay far from their ends.
        .filter(|millis| *millis <= 100 * 366 * 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(|| bad_duration(text))
}

fn bad_duration(text: &str) -> String {
    format!("is {text:?}, which is no duration (like 250ms, 30s, 5m, 2h or 7d)")
}

/// A size: `1024`, `64KiB`, `256MiB`, `2GiB`; kB, MB and GB are powers of ten.
pub fn bytes(text: &str) -> Result<u64, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let each: Option<u64> = match unit.trim() {
        "" | "B" => Some(1),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1 << 40),
        _ => None,
    };
    each.and_then(|each| number.parse::<u64>().ok()?.checked_mul(each))
        .ok_or_else(|| format!("is {text:?}, which is no size (like 4096, 64KiB or 2GiB)"))
}
