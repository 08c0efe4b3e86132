//! The node's clock, and how long what may move goes on without a server.
//!
//! The lease runs from a moment on this clock that the server has answered for: from when this node sent an answer that the
//! server says it received. However slow the network is, the server never believes that the lease ends before it does.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use chassis_core::Rules;

use crate::wire::Granted;

/// When what may move is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// None if no server has answered for this process yet: it is over.
    pub until: Option<Instant>,
}

impl Lease {
    /// What is left of it.
    pub fn rest(self) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

#[derive(Debug)]
pub(super) struct Clock {
    /// Of this process: another's stamps mean nothing here.
    boot: String,
    start: Instant,
    lease: watch::Sender<Lease>,
}

impl Clock {
    pub(super) fn start() -> Clock {
        let boot = format!("{:016x}", rand::random::<u64>());
        Clock { boot, start: Instant::now(), lease: watch::Sender::new(Lease { until: None }) }
    }

    /// The stamp of an answer that is sent now, and whose it is.
    pub(super) fn now(&self) -> (u64, String) {
        (u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), self.boot.clone())
    }

    /// Milliseconds of the lease that are left.
    pub(super) fn rest(&self) -> u64 {
        u64::try_from(self.lease.borrow().rest().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn lease(&self) -> watch::Receiver<Lease> {
        self.lease.subscribe()
    }

    /// The server has received the answer that was sent then.
    pub(super) fn prolong(&self, granted: &Granted) {
        if granted.boot != self.boot || granted.stamp > self.now().0 {
            return;
        }
        let length = Rules::default().lease.unsigned_abs();
        let until = self.start + Duration::from_millis(granted.stamp) + length;
        self.lease.send_if_modified(|lease| {
            let later = lease.until.is_none_or(|before| before < until);
            if later {
                lease.until = Some(until);
            }
            later
        });
    }
}
