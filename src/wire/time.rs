//! Times and durations on the wire.

use std::time::Duration;

use crate::base::{Error, Result, Timestamp};

/// A time as protobuf writes it.
pub fn time_to_pb(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.as_micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // The remainder is below a million, so the nanoseconds are below a thousand million.
        nanos: (micros.rem_euclid(1_000_000) * 1_000) as i32,
    }
}

/// A time from the wire, rounded down to microseconds; `None` if it is absent.
pub fn time_from_pb(
    time: Option<prost_types::Timestamp>,
    field: &str,
) -> Result<Option<Timestamp>> {
    let Some(time) = time else { return Ok(None) };
    if !(0..1_000_000_000).contains(&time.nanos) {
        return Err(Error::invalid(field, "has nanoseconds beyond a second"));
    }
    time.seconds
        .checked_mul(1_000_000)
        .and_then(|micros| micros.checked_add(i64::from(time.nanos / 1_000)))
        .map(|micros| Some(Timestamp::from_micros(micros)))
        .ok_or_else(|| Error::invalid(field, "is a time beyond reckoning"))
}

/// A time from the wire that must be there.
pub fn required_time(time: Option<prost_types::Timestamp>, field: &str) -> Result<Timestamp> {
    time_from_pb(time, field)?.ok_or_else(|| Error::invalid(field, "is missing"))
}

/// A duration as protobuf writes it, saturating at the longest one there is.
pub fn duration_to_pb(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}

/// A duration from the wire; `None` if it is absent. A negative one is refused.
pub fn duration_from_pb(
    duration: Option<prost_types::Duration>,
    field: &str,
) -> Result<Option<Duration>> {
    let Some(duration) = duration else {
        return Ok(None);
    };
    let seconds = u64::try_from(duration.seconds)
        .map_err(|_| Error::invalid(field, "must not be negative"))?;
    let nanos = u32::try_from(duration.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)
        .ok_or_else(|| Error::invalid(field, "has nanoseconds beyond a second"))?;
    Ok(Some(Duration::new(seconds, nanos)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_come_back(micros: i64) {
            let time = Timestamp::from_micros(micros);
            // The ends of the range fit too: seconds are i64.
            prop_assert_eq!(time_from_pb(Some(time_to_pb(time)), "t").unwrap(), Some(time));
        }

        #[test]
        fn durations_come_back(secs in 0..=i64::MAX as u64, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(secs, nanos);
            prop_assert_eq!(duration_from_pb(Some(duration_to_pb(duration)), "d").unwrap(), Some(duration));
        }

        #[test]
        fn odd_times_never_panic(seconds: i64, nanos: i32) {
            let _ = time_from_pb(Some(prost_types::Timestamp { seconds, nanos }), "t");
            let _ = duration_from_pb(Some(prost_types::Duration { seconds, nanos }), "d");
        }
    }

    #[test]
    fn times_that_no_clock_shows_are_refused() {
        let time =
            |seconds, nanos| time_from_pb(Some(prost_types::Timestamp { seconds, nanos }), "t");
        assert!(time(i64::MAX, 0).is_err());
        assert!(time(0, -1).is_err());
        assert!(time(0, 1_000_000_000).is_err());
        assert!(
            duration_from_pb(
                Some(prost_types::Duration {
                    seconds: -1,
                    nanos: 0
                }),
                "d"
            )
            .is_err()
        );
    }
}
