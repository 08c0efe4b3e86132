//! Snapshots of environments: what one was at a moment, to go back to or to begin others from.
//!
//! ```text
//!   Creating ──taken──▶ Ready ──asked for──▶ Restoring ──done, or refused──▶ Ready
//!       │                 │
//!       │ it cannot be    │ deleted, or kept long enough     tried too often
//!       └──────────────▶ Deleting ─────────────────────────────────────────▶ Error ──deleted──▶ Deleting
//!                         │ the runtime has forgotten it
//!                         ▼
//!                     (no more)
//! ```
//!
//! The state is a row of the store, written before anything is done on a runtime, and it says what is to be done: whoever
//! acts after a crash goes on from it. Every step may be repeated. [`decide`] is asked for every row that is not at rest.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a snapshot may wait for the instance that it is of or for.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(55);

/// How often a runtime is asked to forget a snapshot before that is an operator's to look at.
pub const REMOVALS_MOST: u32 = 5;

/// The mode of snapshots that are never taken away for their age.
pub const BUILD: &str = "build";

/// As it is kept, and as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Creating,
    Ready,
    /// Its environment is being taken back to it.
    Restoring,
    Deleting,
    /// What it kept is gone, or cannot be removed. It is for nothing but to be deleted.
    Error,
}

impl State {
    pub const ALL: [State; 5] =
        [State::Creating, State::Ready, State::Restoring, State::Deleting, State::Error];

    pub fn word(self) -> &'static str {
        match self {
            State::Creating => "creating",
            State::Ready => "ready",
            State::Restoring => "restoring",
            State::Deleting => "deleting",
            State::Error => "error",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// A word that is no [`State`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no state of a snapshot")]
pub struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, UnknownState> {
        State::ALL.into_iter().find(|state| state.word() == word).ok_or_else(|| UnknownState(word.to_owned()))
    }
}

/// What the history tells of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Creating,
    Created,
    Restoring,
    Restored,
    RestoreFailed,
    Deleting,
    Deleted,
    /// It is being deleted because it was kept for long enough.
    Expired,
    /// It could not be removed, and is tried again or not.
    DeleteFailed,
    /// The runtime does not have it any more.
    Lost,
}

impl Told {
    pub fn word(self) -> &'static str {
        match self {
            Told::Creating => "is being taken",
            Told::Created => "taken",
            Told::Restoring => "is being restored",
            Told::Restored => "restored",
            Told::RestoreFailed => "not restored",
            Told::Deleting => "is being deleted",
            Told::Deleted => "deleted",
            Told::Expired => "has expired",
            Told::DeleteFailed => "not deleted",
            Told::Lost => "lost",
        }
    }
}

/// A snapshot, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub state: State,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// When the runtime is asked again to forget it.
    pub retry_at: Option<Timestamp>,
    /// How often it was asked in vain.
    pub removals: u32,
    pub retention_until: Option<Timestamp>,
    /// Nothing rests on it: no later snapshot, and no running environment whose newest it is.
    pub may_expire: bool,
}

/// What is seen of the environment that a snapshot is of or for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Running,
    /// It should be running, and is not seen to.
    Coming,
    /// It is ending, or has ended.
    Gone,
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before this time.
    Wait(Option<Timestamp>),
    /// Have the runtime take it.
    Take,
    /// Have the runtime take the environment back to it.
    Restore,
    /// Have the runtime forget it.
    Remove,
    /// There is nothing that it could be taken of, or restored to.
    Fail,
    /// It was kept for long enough: delete it.
    Expire,
}

/// What to do about a snapshot now.
pub fn decide(life: &Life, origin: Origin, now: Timestamp) -> Decision {
    match life.state {
        State::Creating | State::Restoring => {
            let deadline = later(life.since, PATIENCE);
            match origin {
                Origin::Running if life.state == State::Creating => Decision::Take,
                Origin::Running => Decision::Restore,
                Origin::Coming if now < deadline => Decision::Wait(Some(deadline)),
                Origin::Coming | Origin::Gone => Decision::Fail,
            }
        }
        State::Deleting => match life.retry_at {
            Some(retry_at) if now < retry_at => Decision::Wait(Some(retry_at)),
            _ => Decision::Remove,
        },
        State::Ready | State::Error => match life.retention_until {
            // One that could not be removed is not tried for ever.
            Some(until) if life.may_expire && life.removals < REMOVALS_MOST => {
                if now < until {
                    Decision::Wait(Some(until))
                } else {
                    Decision::Expire
                }
            }
            _ => Decision::Wait(None),
        },
    }
}

/// When to ask again for a removal that has failed for the `removals`-th time; none if it is not to be asked again.
pub fn removal_retry(removals: u32, now: Timestamp) -> Option<Timestamp> {
    (removals < REMOVALS_MOST).then(|| later(now, SignedDuration::from_secs(1 << removals.min(10))))
}

fn later(time: Timestamp, delay: SignedDuration) -> Timestamp {
    time.checked_add(delay).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fuse's garbage collection asks for ever for what a host cannot do: each of its rounds flips the row and tries again.
    #[test]
    fn a_removal_that_keeps_failing_ends() {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut life = Life {
            state: State::Ready,
            since: now,
            retry_at: None,
            removals: 0,
            retention_until: Some(now),
            may_expire: true,
        };
        let mut asked = 0;
        for _ in 0..10_000 {
            match decide(&life, Origin::Gone, now) {
                Decision::Expire => life.state = State::Deleting,
                Decision::Remove => {
                    asked += 1;
                    life.removals += 1;
                    life.retry_at = removal_retry(life.removals, now);
                    if life.retry_at.is_none() {
                        life.state = State::Error;
                    }
                }
                Decision::Wait(Some(at)) => now = at,
                decision => assert_eq!(decision, Decision::Wait(None)),
            }
        }
        assert_eq!((asked, life.state), (REMOVALS_MOST, State::Error));
    }

    #[test]
    fn what_others_rest_on_does_not_expire() {
        let now = Timestamp::UNIX_EPOCH;
        let life = |may_expire| Life {
            state: State::Ready,
            since: now,
            retry_at: None,
            removals: 0,
            retention_until: Some(now),
            may_expire,
        };
        assert_eq!(decide(&life(false), Origin::Running, Timestamp::MAX), Decision::Wait(None));
        assert_eq!(decide(&life(true), Origin::Running, Timestamp::MAX), Decision::Expire);
    }

    /// After a restart the instance is not there at once: its snapshot waits, but not for ever.
    #[test]
    fn one_that_is_being_taken_waits_for_its_instance() {
        let since = Timestamp::UNIX_EPOCH;
        let life = Life {
            state: State::Creating,
            since,
            retry_at: None,
            removals: 0,
            retention_until: None,
            may_expire: false,
        };
        let deadline = later(since, PATIENCE);
        assert_eq!(decide(&life, Origin::Coming, since), Decision::Wait(Some(deadline)));
        assert_eq!(decide(&life, Origin::Running, since), Decision::Take);
        assert_eq!(decide(&life, Origin::Coming, deadline), Decision::Fail);
        assert_eq!(decide(&life, Origin::Gone, since), Decision::Fail);
    }
}
