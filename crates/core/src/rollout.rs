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
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::EventKind;
use crate::instance::{Instance, Observed, Reason, RunState, Wanted, restarts};
use crate::plan::{AgentDesired, is_up};

/// Crashes in a row, of one instance, after which a revision is given up.
pub const CRASHES: u32 = 3;
/// Times in a row that one instance was found unhealthy and restarted, after which a revision is given up.
pub const UNHEALTHY: u32 = 2;
/// Tries of one step that cannot be taken, after which a revision is given up.
pub const ATTEMPTS: u32 = 3;
/// Extra instances of a rollout have numbers from here on: above those of instances that are kept, so that no data of
/// these is ever met.
pub const EXTRA_FIRST: u32 = 100_001;

/// Which image a revision runs, whatever its name means by now. At least one of the two is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// The runtime's id of it, once it was on a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `name@sha256:…`, if it is in a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// Those that run, and must still be taken down for it or for a restart.
    pub outdated: u32,
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
    // With nothing that should run, nothing is proven.
    if !matches!(rollout.state, RolloutState::Progressing | RolloutState::Failed) || tally.wanted == 0 {
        return None;
    }
    if tally.ready >= tally.wanted {
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

/// How the instances stand to what is wanted of their agent.
pub fn tally<'a>(
    agent: AgentDesired<'_>,
    instances: impl Iterator<Item = &'a Instance>,
    now: Timestamp,
) -> Tally {
    let mut tally = Tally::default();
    for instance in instances.filter(|instance| instance.desired.wanted == Wanted::Running) {
        let is_present = instance.observed.as_ref().is_some_and(|observed| {
            agent.serves(observed)
                && observed.limits == agent.limits
                && observed.state.started_at().is_some_and(|at| instance.desired.satisfied_by(at))
        });
        let is_ready = is_present && is_up(instance, agent, now);
        if !is_ready && tally.failure.is_none() {
            tally.failure = failure(agent, instance).map(|what| (instance.number, what));
        }
        if !is_extra(instance.number) {
            tally.wanted += 1;
            tally.ready += u32::from(is_ready);
            let stays =
                |observed: &Observed, since| agent.serves(observed) && instance.desired.satisfied_by(since);
            let observed = instance.observed.as_ref().zip(instance.running_since());
            tally.outdated += u32::from(observed.is_some_and(|(observed, since)| !stays(observed, since)));
        }
    }
    tally
}

/// Why an instance will not get ready with the present revision.
fn failure(agent: AgentDesired<'_>, instance: &Instance) -> Option<String> {
    let memory = &instance.memory;
    if let Some(blocked) = &memory.blocked {
        let is_final = match blocked.reason {
            Reason::Rejected => true,
            Reason::ImageUnavailable | Reason::SecretMissing | Reason::StorageUnusable => {
                blocked.attempts >= ATTEMPTS
            }
            // What is in the way of every revision is not this one's fault.
            Reason::NameTaken | Reason::RuntimeUnavailable => false,
        };
        return is_final.then(|| format!("cannot be run: {}", blocked.message));
    }
    let observed = instance.observed.as_ref().filter(|observed| agent.serves(observed))?;
    let exit = memory.exit.or(memory.last_exit)?;
    let how = EventKind::Exited(exit);
    if exit.unhealthy && memory.failures >= UNHEALTHY {
        return Some(format!("was unhealthy {} times in a row: {how}", memory.failures));
    }
    if memory.failures >= CRASHES {
        return Some(format!("crashed {} times in a row: {how}", memory.failures));
    }
    let is_over = matches!(observed.state, RunState::Exited { .. })
        && memory.exit.is_some_and(|exit| exit.code != 0 && !restarts(agent.restart_policy, exit));
    is_over.then(|| format!("{how}, and its restart policy does not start it again"))
}

/// How many extra instances there should be, of `present` that there are. They come when one that runs must be taken down,
/// and stay until all are ready.
pub fn extras(rules: &RolloutSpec, tally: &Tally, present: u32, paused: bool) -> u32 {
    if paused || (tally.outdated == 0 && present == 0) {
        return 0;
    }
    rules.surge_of(tally.wanted).min(tally.wanted.saturating_sub(tally.ready))
}

/// Whether a number is that of an extra instance of a rollout.
pub fn is_extra(number: u32) -> bool {
    number >= EXTRA_FIRST
}
