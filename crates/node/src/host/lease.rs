//! The node's clock, and how long what may move goes on without a server.
//!
//! The lease runs from a moment on this clock that the server has answered for: from when this node sent an answer that the
//! server says it received. However slow the network is, the server never believes that the lease ends before it does.
//!
//! Until when it lasts is written where every sandbox that may move sees it (see [`chassis_init::lease`]): each ends by itself,
//! also if this node's process is gone, and the next process of this node finds there what was granted to the last one.

use std::io;
use std::path::Path;
use std::time::Duration;

use chassis_core::Rules;
use chassis_init::lease::{self, FILE, Writer, since_boot};
use tokio::sync::watch;

use crate::wire::Granted;

/// When what may move is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Since the machine was booted.
    until: Duration,
}

impl Lease {
    /// What is left of it.
    pub fn rest(self) -> Duration {
        self.until.saturating_sub(since_boot())
    }

    /// For how long it has been over.
    pub fn over(self) -> Duration {
        since_boot().saturating_sub(self.until)
    }
}

#[derive(Debug)]
pub(super) struct Clock {
    /// Since when it counts: stamps of another boot mean nothing.
    boot: String,
    file: Writer,
    lease: watch::Sender<Lease>,
}

impl Clock {
    /// With the lease that the last process of this node had.
    pub(super) fn open(directory: &Path) -> io::Result<Clock> {
        let boot = lease::boot_id()?;
        let file = Writer::open(directory)?;
        let until = lease::read(&directory.join(FILE), &boot).unwrap_or_default();
        Ok(Clock { boot, file, lease: watch::Sender::new(Lease { until }) })
    }

    /// The stamp of an answer that is sent now, and on which clock it is.
    pub(super) fn now(&self) -> (u64, String) {
        (millis(since_boot()), self.boot.clone())
    }

    pub(super) fn rest(&self) -> Duration {
        self.lease.borrow().rest()
    }

    pub(super) fn over(&self) -> Duration {
        self.lease.borrow().over()
    }

    pub(super) fn lease(&self) -> watch::Receiver<Lease> {
        self.lease.subscribe()
    }

    /// The server has received the answer that was sent then.
    pub(super) fn prolong(&self, granted: &Granted) {
        if granted.boot != self.boot || granted.stamp > self.now().0 {
            return;
        }
        let until = Duration::from_millis(granted.stamp) + Rules::default().lease.unsigned_abs();
        self.lease.send_if_modified(|lease| {
            if until <= lease.until {
                return false;
            }
            // First where it counts. A lease that ends early hurts nobody else.
            match self.file.write(&self.boot, until) {
                Ok(()) => lease.until = until,
                Err(error) => {
                    tracing::warn!(%error, "cannot write down the lease; what may move ends when it is over");
                }
            }
            lease.until == until
        });
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
