//! Credit: how much may be on its way without an acknowledgement.

/// An amount of events and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Events.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Credit {
    /// The default of a session: 256 events or 1 MiB.
    pub const SESSION: Credit = Credit {
        events: 256,
        bytes: 1024 * 1024,
    };
    /// The default of a link: 4,096 events or 16 MiB.
    pub const LINK: Credit = Credit {
        events: 4_096,
        bytes: 16 * 1024 * 1024,
    };
    /// Nothing.
    pub const ZERO: Credit = Credit {
        events: 0,
        bytes: 0,
    };

    /// Whether nothing is used.
    pub const fn is_zero(self) -> bool {
        self.events == 0 && self.bytes == 0
    }

    /// Both amounts together.
    #[must_use]
    pub const fn plus(self, other: Credit) -> Credit {
        Credit {
            events: self.events.saturating_add(other.events),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// What is left of this amount.
    #[must_use]
    pub const fn minus(self, other: Credit) -> Credit {
        Credit {
            events: self.events.saturating_sub(other.events),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// Twice the amount.
    #[must_use]
    pub const fn twice(self) -> Credit {
        self.plus(self)
    }

    /// Whether `cost` more may be used when `used` is. What is larger than the whole credit passes
    /// alone, or it would never pass.
    pub const fn admits(self, used: Credit, cost: Credit) -> bool {
        let sum = used.plus(cost);
        used.is_zero() || (sum.events <= self.events && sum.bytes <= self.bytes)
    }

    /// Whether something is left when `used` is.
    pub const fn exceeds(self, used: Credit) -> bool {
        used.is_zero() || (used.events < self.events && used.bytes < self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn credit(events: u64, bytes: u64) -> Credit {
        Credit { events, bytes }
    }

    #[test]
    fn both_events_and_bytes_are_limited() {
        let limit = credit(4, 100);
        assert!(limit.admits(credit(3, 10), credit(1, 90)));
        assert!(!limit.admits(credit(4, 10), credit(1, 1)));
        assert!(!limit.admits(credit(1, 10), credit(1, 91)));
    }

    #[test]
    fn what_exceeds_the_whole_credit_passes_alone() {
        let limit = credit(4, 100);
        assert!(limit.admits(Credit::ZERO, credit(1, 5_000)));
        assert!(!limit.admits(credit(1, 1), credit(1, 5_000)));
    }
}
