//! How many unhealthy instances of a fleet are restarted at once. When everything fails for a common cause (a database, a
//! name server), restarting everything makes it worse; what is left running recovers with the cause.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// The time over which restarts are counted.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// A small fleet may always have this many.
const LEAST: u32 = 2;

/// The restarts of unhealthy instances that one fleet had lately.
#[derive(Debug, Clone, Default)]
pub struct RestartBudget {
    spent: VecDeque<Timestamp>,
}

impl RestartBudget {
    /// Takes one restart out of the budget of a fleet with so many instances: a quarter of them, and at least two, within
    /// a minute. If nothing is left, says when to ask again.
    pub fn take(&mut self, instances: u32, now: Timestamp) -> Result<(), Timestamp> {
        while self.spent.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.spent.pop_front();
        }
        let most = (instances.div_ceil(4)).max(LEAST) as usize;
        match self.spent.front() {
            Some(oldest) if self.spent.len() >= most => {
                Err(oldest.checked_add(WINDOW).unwrap_or(Timestamp::MAX))
            }
            _ => {
                self.spent.push_back(now);
                Ok(())
            }
        }
    }
}
