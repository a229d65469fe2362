//! The pause before dialling again.

use std::time::Duration;

/// Full jitter: a random pause between the minimum and a ceiling that doubles with every attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    /// Pauses from `min` to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Backoff {
            min,
            max: max.max(min),
            attempt: 0,
        }
    }

    /// The next pause, from 64 random bits.
    pub fn next(&mut self, random: u64) -> Duration {
        let ceiling = self.ceiling();
        self.attempt = self.attempt.saturating_add(1);
        let span = ceiling.saturating_sub(self.min).as_micros();
        // The product of a 64-bit number and a span of at most some minutes fits into 128 bits.
        let jitter = (u128::from(random) * span) >> 64;
        self.min + Duration::from_micros(u64::try_from(jitter).unwrap_or(u64::MAX))
    }

    fn ceiling(&self) -> Duration {
        let factor = 2_u32.saturating_pow(self.attempt.saturating_add(1).min(20));
        self.min.saturating_mul(factor).min(self.max)
    }

    /// Goes back until the next pause is at most `longest`, or to the smallest ceiling.
    pub fn ease(&mut self, longest: Duration) {
        while self.attempt > 0 && self.ceiling() > longest {
            self.attempt = self.attempt.min(20) - 1;
        }
    }

    /// Starts again from the smallest ceiling.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_within_their_bounds_and_grow() {
        let (min, max) = (Duration::from_millis(500), Duration::from_secs(30));
        let mut backoff = Backoff::new(min, max);
        assert!(backoff.next(u64::MAX) <= Duration::from_secs(1));
        for _ in 0..100 {
            assert!(backoff.next(u64::MAX) <= max);
        }
        assert!(backoff.next(u64::MAX) > Duration::from_secs(29));
        assert_eq!(backoff.next(0), min);
        backoff.reset();
        assert!(backoff.next(u64::MAX) <= Duration::from_secs(1));
        for _ in 0..100 {
            backoff.next(0);
        }
        backoff.ease(Duration::from_secs(4));
        assert!(backoff.next(u64::MAX) <= Duration::from_secs(4));
        assert!(backoff.next(u64::MAX) > Duration::from_secs(7));
        backoff.ease(Duration::ZERO);
        assert!(backoff.next(u64::MAX) <= Duration::from_secs(1));
    }
}
