//! How often somebody may do something: the generic cell rate algorithm, one time for each of them.

use jiff::{SignedDuration, Timestamp};

/// So many at once, and then one in each `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub period: SignedDuration,
    /// At least 1.
    pub burst: u32,
}

/// How much of a [`Rate`] is used up. One whose time has passed is the same as a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// When all of it is there again.
    pub full_at: Timestamp,
}

impl Bucket {
    pub fn new(now: Timestamp) -> Bucket {
        Bucket { full_at: now }
    }

    /// When one more is allowed: not later than `now` if it is.
    pub fn next_at(&self, rate: Rate) -> Timestamp {
        let most = i32::try_from(rate.burst.saturating_sub(1)).unwrap_or(i32::MAX);
        self.full_at.checked_sub(rate.period.saturating_mul(most)).unwrap_or(Timestamp::MIN)
    }

    /// Takes one, or says how long to wait for it.
    pub fn take(&mut self, rate: Rate, now: Timestamp) -> Result<(), SignedDuration> {
        let next = self.next_at(rate);
        if next > now {
            return Err(next.duration_since(now));
        }
        let from = self.full_at.max(now);
        self.full_at = from.checked_add(rate.period).unwrap_or(Timestamp::MAX);
        Ok(())
    }
}
