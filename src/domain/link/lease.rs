//! Whether the other side still speaks, and when to speak oneself.

use std::time::Duration;

use crate::base::Timestamp;

/// When the peer was heard last, and when we spoke last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    lease: Duration,
    interval: Duration,
    heard: Timestamp,
    spoke: Timestamp,
    /// Whether the next heartbeat need not wait for its time.
    is_answer_due: bool,
    count: u64,
}

impl Lease {
    /// A lease that begins now: silence for `lease` ends it, a heartbeat is due every `interval`.
    pub fn new(now: Timestamp, lease: Duration, interval: Duration) -> Self {
        Lease {
            lease,
            interval: interval.max(Duration::from_millis(1)),
            heard: now,
            spoke: now,
            is_answer_due: false,
            count: 0,
        }
    }

    /// The peer was heard.
    pub fn heard(&mut self, now: Timestamp) {
        self.heard = self.heard.max(now);
    }

    /// Whether the peer was silent for too long.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.end()
    }

    /// When the lease ends unless the peer is heard.
    pub fn end(&self) -> Timestamp {
        self.heard.saturating_add(self.lease)
    }

    /// When the next heartbeat is due.
    pub fn next_heartbeat(&self) -> Timestamp {
        match self.is_answer_due {
            true => self.spoke,
            false => self.spoke.saturating_add(self.interval),
        }
    }

    /// The peer's heartbeat came: one's own goes now, unless it went not long ago, so that each side is awake once
    /// for both.
    pub fn answer(&mut self, now: Timestamp) {
        self.is_answer_due = now >= self.spoke.saturating_add(self.interval / 2);
    }

    /// The number of the heartbeat that is due now, if one is. A clock that jumps makes one, not many.
    pub fn beat(&mut self, now: Timestamp) -> Option<u64> {
        if now < self.next_heartbeat() {
            return None;
        }
        self.spoke = now;
        self.is_answer_due = false;
        self.count += 1;
        Some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_ends_a_lease_and_a_word_renews_it() {
        let second = Duration::from_secs(1);
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        let mut lease = Lease::new(at(0), 3 * second, second);
        assert!(!lease.is_over(at(2)));
        lease.heard(at(2));
        assert!(!lease.is_over(at(4)));
        assert!(lease.is_over(at(5)));
        assert_eq!(lease.beat(at(9)), Some(1));
        assert_eq!(lease.beat(at(9)), None);
    }

    #[test]
    fn the_peers_heartbeat_is_answered_with_ones_own() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        let second = Duration::from_secs(1);
        let mut lease = Lease::new(at(0), 90 * second, 30 * second);
        lease.answer(at(14));
        assert_eq!(lease.beat(at(14)), None, "it is early");
        lease.answer(at(20));
        assert_eq!(lease.beat(at(20)), Some(1));
        assert_eq!(lease.beat(at(49)), None);
        assert_eq!(lease.beat(at(50)), Some(2), "a peer without a heartbeat");
    }
}
