//! When the provider refuses: retries, rate limit lines, and results that say so.

use std::time::Duration;

use super::step::{Step, cut};
use crate::base::Timestamp;
use crate::domain::EventBody;
use crate::driver::line::Object;

/// The status code of a provider that refuses for now.
const TOO_MANY: u64 = 429;
/// The longest message of a refusal, in bytes.
const MAX_MESSAGE_BYTES: usize = 4 * 1024;

impl Step<'_> {
    /// A `rate_limit_event` line.
    pub(super) fn rate_limit_event(&mut self, line: &Object<'_>, text: &str) {
        let info = line.object("rate_limit_info").unwrap_or_default();
        let status = info.text_or_empty("status");
        let kind = info.text_or_empty("rateLimitType");
        if status != "rejected" || info.flag("isUsingOverage") {
            self.state.limited_until = None;
            let said = format!("rate limit: {status} {kind}");
            return self.notice("rate_limit_event", said.trim_end(), text);
        }
        let until = info.number("resetsAt").and_then(seconds);
        self.state.limited_until = until;
        self.limited(until, &format!("the provider's limit is reached: {kind}"));
    }

    /// A `system/api_retry` line; false if it is about something else than a limit.
    pub(super) fn limited_retry(&mut self, line: &Object<'_>) -> bool {
        if line.number("error_status") != Some(TOO_MANY) {
            return false;
        }
        let delay = Duration::from_millis(line.number("retry_delay_ms").unwrap_or(0));
        let until = self.record.time.saturating_add(delay);
        let attempt = line.number("attempt").unwrap_or(0);
        let most = line.number("max_retries").unwrap_or(0);
        let said = format!("the provider refuses for now (retry {attempt} of {most})");
        self.limited(Some(until), &said);
        true
    }

    /// A turn that ended with an error: was it a limit?
    pub(super) fn limited_result(&mut self, status: u64, said: &str) {
        let epoch = limit_epoch(said);
        if status == TOO_MANY || epoch.is_some() {
            let until = epoch.or_else(|| self.state.limited_until.take());
            self.limited(until, said);
        }
    }

    fn limited(&mut self, until: Option<Timestamp>, message: &str) {
        self.event(EventBody::RateLimited {
            until,
            message: cut(message, MAX_MESSAGE_BYTES),
        });
    }
}

/// The time in `…limit reached|1795240000`, as older versions put it.
fn limit_epoch(text: &str) -> Option<Timestamp> {
    let (_, rest) = text.split_once("limit reached|")?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .map_or(rest, |end| &rest[..end]);
    seconds(digits.parse().ok()?)
}

fn seconds(seconds: u64) -> Option<Timestamp> {
    let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?;
    Some(Timestamp::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_in_an_older_text_is_found() {
        let until = limit_epoch("Claude AI usage limit reached|1795240000").unwrap();
        assert_eq!(until.as_millis(), 1_795_240_000_000);
        for text in [
            "limit reached",
            "limit reached|",
            "limit reached|99999999999999999999",
        ] {
            assert_eq!(limit_epoch(text), None, "{text}");
        }
    }
}
