//! How a revision takes over from the one before, and when it is given up.
//!
//! ```text
//!                    every instance is ready with it
//!   Progressing ───────────────────────────────────────▶ Complete (RolledBack, if it undid a failed one)
//!      │  ▲  │
//!      │  │  └── no progress within the deadline, or it crashes, is unhealthy or refused again and again
//!      ▼  │                    │
//!     Paused                   ├── there is a revision that was complete before: roll back to it
//!                              └── else ─▶ Failed; what is wanted is tried further, and may complete after all
//! ```
//!
//! [`advance`] only judges. What is replaced when is [`crate::plan()`]'s affair, and what it says holds whatever became of
//! the rollout before: a revision is never rolled back twice, because a rollback is a revision that rolls back no more.

use chassis_spec::{AgentName, RolloutSpec};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::event::EventKind;

/// Crashes in a row, of one instance, after which a revision is given up.
pub const CRASHES: u32 = 3;
/// Times in a row that one instance was found unhealthy and restarted, after which a revision is given up.
pub const UNHEALTHY: u32 = 2;
/// Tries of one step that cannot be taken, after which a revision is given up.
pub const ATTEMPTS: u32 = 3;
/// Extra instances of a rollout have numbers from here on: above those of instances that are kept, so that no data of
/// these is ever met.
pub const SURGE_FIRST: u32 = 100_001;

/// Which image a revision runs, whatever its name means by now. At least one of the two is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// The runtime's id of it, once it was on a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `name@sha256:…`, if it is in a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutState {
    Progressing,
    /// Somebody wants no instance replaced for now.
    Paused,
    Complete,
    /// It did not get there, and there was nothing to go back to, or nobody wanted that.
    Failed,
    /// As `Complete`, of a revision that undid a failed one.
    RolledBack,
}

/// How far the present revision of an agent has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    pub revision: u64,
    /// The last revision that was complete: what is gone back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    pub started_at: Timestamp,
    /// When it last came further.
    pub progressed_at: Timestamp,
    pub state: RolloutState,
    /// The most instances that were ready with it.
    pub ready: u32,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The failed revision that it undoes, unasked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Undone>,
}

/// A revision that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Undone {
    pub revision: u64,
    /// Whose definition came back.
    pub to: u64,
    pub why: String,
}

/// What is to be made of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is now so.
    Keep { rollout: Rollout, event: Option<EventKind> },
    /// Go back to what [`Rollout::from`] names.
    RollBack { why: String },
}

/// How the instances that should run stand to the present revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that should run.
    pub wanted: u32,
    /// Those of them that are there as the present revision wants them, and ready.
    pub ready: u32,
    /// Those that must still be taken down for it.
    pub stale: u32,
    /// Why it cannot succeed: the instance, and what became of it.
    pub failure: Option<(u32, String)>,
}

impl Rollout {
    /// The rollout of a revision that was made now. `paused` if the one before was.
    pub fn begin(
        revision: u64,
        from: Option<u64>,
        paused: bool,
        undoes: Option<Undone>,
        now: Timestamp,
    ) -> Self {
        Rollout {
            revision,
            from,
            started_at: now,
            progressed_at: now,
            state: if paused { RolloutState::Paused } else { RolloutState::Progressing },
            ready: 0,
            message: None,
            undoes,
        }
    }

    pub fn is_paused(&self) -> bool {
        self.state == RolloutState::Paused
    }

    pub fn is_progressing(&self) -> bool {
        self.state == RolloutState::Progressing
    }

    /// Whether a failure would undo it.
    pub fn can_roll_back(&self, rules: &RolloutSpec) -> bool {
        self.is_progressing() && rules.auto_rollback && self.from.is_some() && self.undoes.is_none()
    }

    /// When it fails if nothing happens before.
    pub fn fails_at(&self, rules: &RolloutSpec) -> Option<Timestamp> {
        let deadline = SignedDuration::from_secs(rules.deadline.0.into());
        self.is_progressing().then(|| self.progressed_at.checked_add(deadline).unwrap_or(Timestamp::MAX))
    }
}

/// Judges a rollout; nothing if it is to stay as it is.
pub fn advance(
    rollout: &Rollout,
    rules: &RolloutSpec,
    agent: &AgentName,
    tally: &Tally,
    now: Timestamp,
) -> Option<Decision> {
    let revision = rollout.revision;
    if !matches!(rollout.state, RolloutState::Progressing | RolloutState::Failed) {
        return None;
    }
    if tally.ready >= tally.wanted && tally.stale == 0 {
        let state = if rollout.undoes.is_some() { RolloutState::RolledBack } else { RolloutState::Complete };
        let message = rollout.undoes.as_ref().map(|undone| undone.why.clone());
        let rollout = Rollout { state, ready: tally.ready, progressed_at: now, message, ..rollout.clone() };
        return Some(Decision::Keep { rollout, event: Some(EventKind::RolloutCompleted { revision }) });
    }
    if rollout.state == RolloutState::Failed {
        return None;
    }
    let failure = match &tally.failure {
        Some((number, what)) => Some(format!("{agent}-{number} {what}")),
        None if rollout.fails_at(rules).is_some_and(|at| now >= at) && tally.ready <= rollout.ready => {
            Some(format!(
                "no further instance became ready within {}; {} of {} are",
                rules.deadline, tally.ready, tally.wanted
            ))
        }
        None => None,
    };
    match failure {
        Some(why) if rollout.can_roll_back(rules) => Some(Decision::RollBack { why }),
        Some(why) => {
            let event = Some(EventKind::RolloutFailed { revision, message: why.clone() });
            let rollout = Rollout { state: RolloutState::Failed, message: Some(why), ..rollout.clone() };
            Some(Decision::Keep { rollout, event })
        }
        None if tally.ready > rollout.ready => {
            let rollout = Rollout { ready: tally.ready, progressed_at: now, ..rollout.clone() };
            Some(Decision::Keep { rollout, event: None })
        }
        None => None,
    }
}

/// How many extra instances there should be: never more than those that must still be taken down.
pub fn surge(rules: &RolloutSpec, tally: &Tally, paused: bool) -> u32 {
    if paused { 0 } else { rules.surge_of(tally.wanted).min(tally.stale) }
}
