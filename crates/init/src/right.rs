//! The right to run: the turn of this run, and for what may run elsewhere the node's lease.

use std::path::Path;
use std::time::Duration;

use chassis_init::lease::{self, DIRECTORY, FILE, GRACE};
use chassis_init::turn::{self, Turn};

use crate::Failure;

/// Held for as long as the agent, or what prepares it, runs.
pub(crate) struct Right {
    turn: Turn,
    lease: Option<Lease>,
}

/// What is left of the right to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    All,
    /// The next run of the instance waits for its turn.
    Wanted,
    /// The lease is over: the agent is to end by itself, for which it gets so long.
    Ending(Duration),
    /// That too is over.
    Nothing,
}

struct Lease {
    boot: String,
    /// What was promised last.
    until: Duration,
}

impl Right {
    /// Fails if the instance needs a lease and its node has none.
    pub(crate) fn take(turn: Turn, leased: bool) -> Result<Right, Failure> {
        if !leased {
            return Ok(Right { turn, lease: None });
        }
        let mut lease = Lease {
            // Without it no file is of this boot.
            boot: lease::boot_id().unwrap_or_default(),
            until: Duration::ZERO,
        };
        lease.renew();
        if lease.until <= lease::since_boot() {
            return Err(Failure {
                code: chassis_init::EXIT_UNLEASED,
                message: "no server has answered for this node for 60 s, and this instance may run elsewhere: it is not \
                          started; it is when one answers"
                    .to_owned(),
            });
        }
        Ok(Right { turn, lease: Some(lease) })
    }

    /// How often to ask.
    pub(crate) fn look(&self) -> Duration {
        if self.lease.is_some() { lease::LOOK } else { turn::LOOK }
    }

    pub(crate) fn left(&mut self) -> Left {
        if self.turn.is_wanted() {
            return Left::Wanted;
        }
        let Some(lease) = &mut self.lease else { return Left::All };
        lease.renew();
        let now = lease::since_boot();
        // By the clock, not from when this was noticed: a machine that has slept for longer gives no more time.
        match (lease.until + GRACE).saturating_sub(now) {
            Duration::ZERO => Left::Nothing,
            _ if now < lease.until => Left::All,
            grace => Left::Ending(grace),
        }
    }

    /// True once the lease is over.
    pub(crate) fn is_over(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.until <= lease::since_boot())
    }
}

impl Lease {
    fn renew(&mut self) {
        let said = lease::read(&Path::new(DIRECTORY).join(FILE), &self.boot);
        self.until = said.map_or(self.until, |until| until.max(self.until));
    }
}
