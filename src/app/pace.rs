//! How often sessions are started and inputs typed through the dialects of older front ends, whose clients
//! repeat without a request id. Nothing of it outlives the process: whoever waits out a restart waits longer.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::access::Caller;
use crate::base::id::{SessionId, TokenId};
use crate::base::{Code, Error, Result};

/// Messages that a caller may send on its sockets in a second for long.
const MESSAGES_PER_SECOND: NonZeroU32 = NonZeroU32::new(50).expect("is not zero");
/// The same at once.
const MESSAGE_BURST: NonZeroU32 = NonZeroU32::new(250).expect("is not zero");
/// With more keys than this, those that have not been used for a while are forgotten.
const TIDY_FROM: usize = 1_000;

/// How much is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceLimits {
    /// Sessions that a caller may start in a minute; 0 is any number.
    pub starts_per_minute: u32,
    /// Inputs that a session takes in a minute; 0 is any number.
    pub inputs_per_minute: u32,
}

impl Default for PaceLimits {
    fn default() -> Self {
        PaceLimits {
            starts_per_minute: 5,
            inputs_per_minute: 60,
        }
    }
}

/// The paces of all callers and sessions.
pub struct Pace {
    spawns: Option<PerMinute<TokenId>>,
    inputs: Option<PerMinute<SessionId>>,
    messages: DefaultKeyedRateLimiter<TokenId>,
}

/// A number a minute for each key, all of it at once if it comes so.
struct PerMinute<K: std::hash::Hash + Eq + Clone> {
    most: NonZeroU32,
    limiter: DefaultKeyedRateLimiter<K>,
}

impl<K: std::hash::Hash + Eq + Clone> PerMinute<K> {
    fn new(most: u32) -> Option<Self> {
        let most = NonZeroU32::new(most)?;
        let limiter = RateLimiter::keyed(Quota::per_minute(most));
        Some(PerMinute { most, limiter })
    }
}

impl Default for Pace {
    fn default() -> Self {
        Pace::new(PaceLimits::default())
    }
}

impl Pace {
    /// Nothing counted yet.
    pub fn new(limits: PaceLimits) -> Self {
        Pace {
            spawns: PerMinute::new(limits.starts_per_minute),
            inputs: PerMinute::new(limits.inputs_per_minute),
            messages: RateLimiter::keyed(
                Quota::per_second(MESSAGES_PER_SECOND).allow_burst(MESSAGE_BURST),
            ),
        }
    }

    /// Counts a start. [`Code::RateLimited`]: too many.
    pub fn spawn(&self, caller: &Caller) -> Result<()> {
        let Some(PerMinute { most, limiter }) = &self.spawns else {
            return Ok(());
        };
        check(limiter, &caller.token_id, || {
            format!("a caller starts at most {most} sessions a minute")
        })
    }

    /// Counts a message on a socket, whatever it says. [`Code::RateLimited`]: too many.
    pub fn message(&self, caller: &Caller) -> Result<()> {
        check(&self.messages, &caller.token_id, || {
            format!("a caller sends at most {MESSAGES_PER_SECOND} messages a second")
        })
    }

    /// Counts an input. [`Code::RateLimited`]: too many.
    pub fn input(&self, session: SessionId) -> Result<()> {
        let Some(PerMinute { most, limiter }) = &self.inputs else {
            return Ok(());
        };
        check(limiter, &session, || {
            format!("a session takes at most {most} inputs a minute")
        })
    }
}

fn check<K: std::hash::Hash + Eq + Clone>(
    limiter: &DefaultKeyedRateLimiter<K>,
    key: &K,
    why: impl FnOnce() -> String,
) -> Result<()> {
    if limiter.len() > TIDY_FROM {
        limiter.retain_recent();
    }
    limiter.check_key(key).map_err(|not_yet| {
        let wait: Duration = not_yet.wait_time_from(limiter.clock().now());
        Error::new(Code::RateLimited, format!("{}; wait and repeat", why())).retry_after(wait)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    #[test]
    fn a_session_takes_sixty_inputs_and_another_is_not_held_up_by_it() {
        let pace = Pace::default();
        let session = SessionId::new(Timestamp::EPOCH, 1);
        for _ in 0..60 {
            pace.input(session).unwrap();
        }
        let refused = pace.input(session).unwrap_err();
        assert_eq!(refused.code(), Code::RateLimited);
        assert!(
            refused
                .retry_delay()
                .is_some_and(|wait| wait <= Duration::from_secs(1))
        );
        pace.input(SessionId::new(Timestamp::EPOCH, 2)).unwrap();
    }

    #[test]
    fn zero_is_no_limit() {
        let pace = Pace::new(PaceLimits {
            starts_per_minute: 0,
            inputs_per_minute: 0,
        });
        let session = SessionId::new(Timestamp::EPOCH, 1);
        for _ in 0..1_000 {
            pace.input(session).unwrap();
        }
    }
}
