//! What the dialects show of the domain's types. Plain functions: no rule, no waiting.

pub mod orchestrator;

pub mod relay;

pub mod stream_json;

use serde::Serialize;

use crate::base::Timestamp;
use crate::domain::ContentRef;

/// A time as JavaScript writes it: in UTC, with milliseconds.
pub fn iso(time: Timestamp) -> String {
    let text = time.to_string();
    // Six digits of a second are more than older front ends expect.
    match text.rsplit_once('.') {
        Some((whole, fraction)) if fraction.len() > 4 && fraction.ends_with('Z') => {
            format!("{whole}.{}Z", &fraction[..3])
        }
        _ => text,
    }
}

/// A reference to large content as it is shown. Records have a form of their own, which may change without this one.
#[derive(Serialize)]
struct Large<'a> {
    sha256: &'a str,
    size_bytes: u64,
    media_type: &'a str,
    head: &'a str,
    tail: &'a str,
}

/// Large content as a reference to it.
fn large(content: &ContentRef) -> Large<'_> {
    Large {
        sha256: &content.sha256,
        size_bytes: content.size_bytes,
        media_type: &content.media_type,
        head: &content.head,
        tail: &content.tail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_milliseconds() {
        let time = Timestamp::from_millis(1_700_000_000_123);
        assert_eq!(iso(time), "2023-11-14T22:13:20.123Z");
    }
}
