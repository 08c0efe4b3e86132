//! The node's clock, and how long what may move goes on without a server.
//!
//! The lease runs from a moment on this clock that the server has answered for: from when this node sent an answer that the
//! server says it received. However slow the network is, the server never believes that the lease ends before it does.
//!
//! The clock is the kernel's since the machine was booted, which goes on while the machine sleeps, and for the next process of
//! this node: a lease that was granted to one is there for the next.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use chassis_core::Rules;
use rustix::time::{ClockId, clock_gettime};
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
}

#[derive(Debug)]
pub(super) struct Clock {
    /// Since when it counts: stamps of another boot mean nothing.
    boot: String,
    path: PathBuf,
    lease: watch::Sender<Lease>,
}

impl Clock {
    /// With the lease that the last process of this node had.
    pub(super) fn open(path: PathBuf) -> Clock {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot =
            boot.map_or_else(|_| format!("{:032x}", rand::random::<u128>()), |id| id.trim().to_owned());
        let kept = fs::read_to_string(&path).unwrap_or_default();
        let kept = kept.trim().split_once(' ').filter(|(of, _)| *of == boot);
        let until =
            kept.and_then(|(_, until)| until.parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
        Clock { boot, path, lease: watch::Sender::new(Lease { until }) }
    }

    /// The stamp of an answer that is sent now, and on which clock it is.
    pub(super) fn now(&self) -> (u64, String) {
        (millis(since_boot()), self.boot.clone())
    }

    pub(super) fn rest(&self) -> Duration {
        self.lease.borrow().rest()
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
        let is_later = self.lease.send_if_modified(|lease| {
            let is_later = lease.until < until;
            lease.until = lease.until.max(until);
            is_later
        });
        // What is not written down is lost with this process only, and a lease that ends early hurts nobody else.
        if is_later && let Err(error) = self.write(until) {
            tracing::warn!(%error, "cannot write down the lease; what may move would be ended with the next start");
        }
    }

    fn write(&self, until: Duration) -> std::io::Result<()> {
        let new = self.path.with_extension("new");
        fs::write(&new, format!("{} {}\n", self.boot, millis(until)))?;
        fs::rename(&new, &self.path)
    }
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
