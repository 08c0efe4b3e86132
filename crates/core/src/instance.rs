//! One instance: what is wanted of it, what its node shows, what is remembered of it, and the phase that people see.
//!
//! ```text
//!              create            start
//!   Pending ───────────▶ Created ─────▶ Running ──exit──▶ Exited ──policy says no──▶ Completed / Failed
//!      ▲  ▲                               │  ▲               │
//!      │  │ container gone                │  └──── start ────┤ backoff over, or a start was asked for
//!      │  └───────────────────────────────┤                  │
//!      │                                  │ stop, restart, or a newer revision
//!      │ remove (stale revision)          ▼                  │
//!      └──────────────────────────────── Exited ─────────────┘
//!
//!   Running ──unhealthy, and the fleet's budget allows it──▶ condemned: stop, then as any other exit
//!
//!   any ──an action fails──▶ Blocked ──retry time, or the cause goes──▶ the same action again
//!   any ──wanted absent────▶ Removing: stop, remove, (clean up,) forget
//! ```
//!
//! Nothing but [`Memory`] is kept by the server about a run; the rest is read off the node again after a crash. A run
//! is known by its container and its start time, so that each start and each exit is noted once, however often it is
//! seen and whoever was dead in between.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use chassis_spec::{Bytes, Cpu, HealthCheck, Resources, RestartPolicy};

use crate::backoff;
use crate::event::EventKind;
use crate::health::{Health, HealthState};
use crate::plan::AgentDesired;

/// An instance that nothing checks counts as ready when it has run for this long.
pub const SETTLED: SignedDuration = SignedDuration::from_secs(1);

/// What people want of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    Running,
    Stopped,
    /// Gone; with its tier 1 data if `cleanup`.
    Absent {
        cleanup: bool,
    },
}

/// The part of an instance that the API writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    pub wanted: Wanted,
    /// The run must have begun after this: how a start or restart is asked for. On the server's clock, which is also the
    /// local node's.
    pub started_after: Option<Timestamp>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit code; 128 + signal if a signal ended the agent.
    pub code: i32,
    /// The kernel killed it for want of memory.
    pub out_of_memory: bool,
    /// It was stopped because it was unhealthy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unhealthy: bool,
    /// It ended because no server had answered for its node, so that it might run elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unleased: bool,
    pub finished_at: Timestamp,
}

/// What a node shows of an instance's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The runtime's id of the container.
    pub id: Box<str>,
    pub revision: u64,
    /// False if somebody renamed the container.
    pub name_is_right: bool,
    pub limits: Limits,
    pub state: RunState,
    /// What its image says about how its health is checked.
    pub image_check: Option<Arc<HealthCheck>>,
}

/// The limits of a container that can be changed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// None if it may use all cores of the node.
    pub cpu: Option<Cpu>,
    pub memory: Bytes,
    pub pids: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RunState {
    Created,
    Running {
        started_at: Timestamp,
    },
    Exited {
        started_at: Timestamp,
        exit: Exit,
    },
    /// The runtime cannot do anything with it but remove it.
    Dead,
}

/// A run that was noted: a container and when it was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    pub id: Box<str>,
    pub started_at: Timestamp,
}

/// Why an action on an instance failed, as a word that scripts can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    /// The image is not on the node and could not be pulled.
    ImageUnavailable,
    /// A container or network of somebody else has the name.
    NameTaken,
    /// The runtime does not answer.
    RuntimeUnavailable,
    /// A secret that the agent needs does not exist.
    SecretMissing,
    /// The instance's directory cannot be made or written, or belongs to another instance.
    StorageUnusable,
    /// The runtime refused the container: a port in use, a user that the image lacks, a bad command.
    Rejected,
}

/// An action that failed and will be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blocked {
    pub reason: Reason,
    pub message: String,
    pub attempts: u32,
    pub retry_at: Timestamp,
}

/// A run that is stopped because it is unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condemned {
    pub run: Run,
    /// It had been healthy for long enough to be forgiven earlier failures.
    pub was_good: bool,
}

/// What is remembered of an instance across restarts of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// The last run whose start was noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// How the last noted run ended; `None` while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// How the one before ended: why the agent was restarted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Restarts that nobody asked for, in all.
    pub restarts: u32,
    /// Such restarts in a row, without a good run between them.
    pub failures: u32,
    /// Not started again before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Blocked>,
    /// Kept until the next run, so that a server that is killed goes on with the restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condemned: Option<Condemned>,
    /// The last entry of its node's journal that was taken over: see [`crate::journal`].
    #[serde(skip_serializing_if = "is_none")]
    pub told: u64,
}

/// One instance as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub number: u32,
    pub desired: Desired,
    pub observed: Option<Observed>,
    pub memory: Memory,
    /// What the checks say of the present run.
    pub health: Health,
    /// An action on it is under way: it is left alone until that ends.
    pub busy: bool,
    pub site: Site,
    /// Its node lacks what its present revision asks for: it goes on as it is.
    pub is_cramped: bool,
}

/// Where an instance is to run, and what can be done about it there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Site {
    /// Its node has room for it, and answers.
    #[default]
    Here,
    /// Its node does not answer: what it showed last may not be so any more, and nothing can be done.
    Silent,
    /// No node has room for it yet.
    Nowhere,
    /// It is to leave its node: its container is taken away there, and made anew where it is placed next.
    Leaving,
}

/// What people see of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    Pending,
    Starting,
    Running,
    Stopping,
    Stopped,
    /// Ended, and will be started again at a known time.
    Backoff,
    /// Ended well, and is not to be started again.
    Completed,
    /// Ended badly, and is not to be started again.
    Failed,
    /// An action failed; the reason says why and when it is tried again.
    Blocked,
    Removing,
    /// The runtime does not answer, so nobody knows.
    Unknown,
}

// === impl Wanted ===

impl Wanted {
    pub fn is_absent(self) -> bool {
        matches!(self, Wanted::Absent { .. })
    }
}

// === impl Limits ===

impl From<&Resources> for Limits {
    fn from(resources: &Resources) -> Self {
        Limits { cpu: resources.cpu, memory: resources.memory, pids: resources.pids }
    }
}

// === impl RunState ===

impl RunState {
    pub fn started_at(self) -> Option<Timestamp> {
        match self {
            RunState::Running { started_at } | RunState::Exited { started_at, .. } => Some(started_at),
            RunState::Created | RunState::Dead => None,
        }
    }
}

// === impl Exit ===

impl Exit {
    /// The signal that ended the agent, if one did.
    pub fn signal(&self) -> Option<i32> {
        (129..=192).contains(&self.code).then_some(self.code - 128)
    }
}

// === impl Desired ===

impl Desired {
    pub fn running() -> Self {
        Desired { wanted: Wanted::Running, started_after: None }
    }

    /// True if the run that began then is the one that people want.
    pub fn satisfied_by(&self, started_at: Timestamp) -> bool {
        self.started_after.is_none_or(|after| started_at >= after)
    }
}

// === impl Memory ===

impl Memory {
    /// Notes what the node shows. Returns the new memory and the events to append with it, or `None` if nothing is new.
    ///
    /// `seed` is for the jitter of the backoff.
    pub fn note(
        &self,
        desired: &Desired,
        observed: Option<&Observed>,
        agent: AgentDesired<'_>,
        seed: u64,
    ) -> Option<(Memory, Vec<EventKind>)> {
        let state = observed.map(|observed| observed.state);
        let started_at = state.and_then(RunState::started_at);
        let lost = observed.is_none() && self.run.is_some();
        let started =
            observed.zip(started_at).filter(|(observed, started_at)| !self.knows(observed, *started_at));
        let exited = match state {
            Some(RunState::Exited { started_at, exit }) if started.is_some() || self.exit.is_none() => {
                Some((started_at, exit))
            }
            _ => None,
        };
        if !lost && started.is_none() && exited.is_none() {
            return None;
        }
        let mut next = self.clone();
        let mut events = Vec::new();
        if lost {
            next.note_lost(desired, &mut events);
        }
        if let Some((observed, started_at)) = started {
            next.begin(Run { id: observed.id.clone(), started_at });
            events.push(EventKind::Started);
        }
        if let Some((started_at, exit)) = exited {
            let asked = desired.wanted != Wanted::Running
                || observed.is_some_and(|observed| !agent.keeps(observed))
                || !desired.satisfied_by(started_at);
            let unhealthy = observed.is_some_and(|observed| next.condemns(&observed.id, started_at));
            let exit = Exit { unhealthy: unhealthy && !asked, ..exit };
            next.note_exit(exit, started_at, asked, agent.restart_policy, seed, &mut events);
        }
        Some((next, events))
    }

    /// Notes that the present run is to end because it is unhealthy, and returns the event that tells of it.
    pub fn note_unhealthy(&self, was_good: bool, message: String) -> Option<(Memory, EventKind)> {
        let run = self.run.clone().filter(|_| self.exit.is_none() && self.condemned.is_none())?;
        let condemned = Some(Condemned { run, was_good });
        Some((Memory { condemned, ..self.clone() }, EventKind::Condemned { message }))
    }

    /// True if the run that began then is to end because it is unhealthy.
    pub fn condemns(&self, id: &str, started_at: Timestamp) -> bool {
        self.condemned
            .as_ref()
            .is_some_and(|condemned| *condemned.run.id == *id && condemned.run.started_at == started_at)
    }

    /// Notes that an action failed.
    #[must_use]
    pub fn note_blocked(&self, reason: Reason, message: String, now: Timestamp, seed: u64) -> Memory {
        let attempts = self.blocked.as_ref().map_or(1, |blocked| blocked.attempts.saturating_add(1));
        let retry_at = later(now, backoff::blocked_delay(attempts, seed));
        Memory { blocked: Some(Blocked { reason, message, attempts, retry_at }), ..self.clone() }
    }

    /// Notes that an action succeeded: what blocked the instance is gone.
    #[must_use]
    pub fn note_unblocked(&self) -> Memory {
        Memory { blocked: None, ..self.clone() }
    }

    fn knows(&self, observed: &Observed, started_at: Timestamp) -> bool {
        self.run.as_ref().is_some_and(|run| *run.id == *observed.id && run.started_at == started_at)
    }

    fn note_lost(&mut self, desired: &Desired, events: &mut Vec<EventKind>) {
        if self.exit.is_none() && desired.wanted == Wanted::Running {
            events.push(EventKind::Lost);
        }
        self.run = None;
        self.condemned = None;
        self.last_exit = self.exit.take().or(self.last_exit);
        self.retry_at = None;
    }

    /// Another run than the one that was noted last.
    pub(crate) fn begin(&mut self, run: Run) {
        self.run = Some(run);
        self.last_exit = self.exit.take().or(self.last_exit);
        self.retry_at = None;
        self.blocked = None;
        self.condemned = None;
    }

    fn note_exit(
        &mut self,
        exit: Exit,
        started_at: Timestamp,
        asked: bool,
        policy: RestartPolicy,
        seed: u64,
        events: &mut Vec<EventKind>,
    ) {
        self.exit = Some(exit);
        if asked {
            self.failures = 0;
            self.retry_at = None;
            events.push(EventKind::Stopped);
            return;
        }
        events.push(EventKind::Exited(exit));
        if let Some(retry_at) = self.count(exit, started_at, policy, seed) {
            self.retry_at = Some(retry_at);
        }
    }

    /// Counts an end that nobody asked for. Returns when the next run may begin, if there is to be one.
    pub(crate) fn count(
        &mut self,
        exit: Exit,
        started_at: Timestamp,
        policy: RestartPolicy,
        seed: u64,
    ) -> Option<Timestamp> {
        if !restarts(policy, exit) {
            return None;
        }
        let good_run = match &self.condemned {
            Some(condemned) if exit.unhealthy => condemned.was_good,
            _ => exit.finished_at.duration_since(started_at) >= backoff::GOOD_RUN,
        };
        self.failures = if good_run { 1 } else { self.failures.saturating_add(1) };
        self.restarts = self.restarts.saturating_add(1);
        Some(later(exit.finished_at, backoff::restart_delay(self.failures, seed)))
    }
}

// === impl Instance ===

impl Instance {
    /// What is wanted of it on the node where it is.
    pub fn desired_here(&self) -> Desired {
        match (self.site, self.desired.wanted) {
            (Site::Leaving, Wanted::Running) => Desired { wanted: Wanted::Stopped, ..self.desired },
            _ => self.desired,
        }
    }

    /// True if it does what it is for: it runs, of whatever revision, and its checks say so; without any, it has run for
    /// [`SETTLED`].
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.running_since().is_some()
            && !self.is_failing()
            && match self.health.state() {
                None => self.settles_at().is_none_or(|at| now >= at),
                Some(state) => state == HealthState::Healthy,
            }
    }

    /// True if it runs, but its checks say that it does not do what it is for.
    pub fn is_failing(&self) -> bool {
        let Some((observed, started_at)) = self.observed.as_ref().zip(self.running_since()) else {
            return false;
        };
        self.memory.condemns(&observed.id, started_at)
            || matches!(self.health.state(), Some(HealthState::Unhealthy | HealthState::NotReady))
    }

    /// When an instance that nothing checks counts as ready.
    pub fn settles_at(&self) -> Option<Timestamp> {
        let started_at = self.running_since().filter(|_| self.health.state().is_none())?;
        Some(later(started_at, SETTLED))
    }

    pub fn running_since(&self) -> Option<Timestamp> {
        match self.observed.as_ref()?.state {
            RunState::Running { started_at } => Some(started_at),
            _ => None,
        }
    }

    /// How the container's last run ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        let observed = self.observed.as_ref()?;
        let RunState::Exited { started_at, exit } = observed.state else { return None };
        Some(Exit { unhealthy: self.memory.condemns(&observed.id, started_at), ..exit })
    }

    pub fn phase(&self, policy: RestartPolicy) -> Phase {
        let state = self.observed.as_ref().map(|observed| observed.state);
        let running = matches!(state, Some(RunState::Running { .. }));
        match self.desired.wanted {
            Wanted::Absent { .. } => Phase::Removing,
            Wanted::Stopped if running => Phase::Stopping,
            Wanted::Stopped => Phase::Stopped,
            Wanted::Running if running => Phase::Running,
            Wanted::Running if self.memory.blocked.is_some() => Phase::Blocked,
            Wanted::Running => match state {
                None | Some(RunState::Dead) => Phase::Pending,
                Some(RunState::Created | RunState::Running { .. }) => Phase::Starting,
                Some(RunState::Exited { started_at, exit }) => {
                    if !self.desired.satisfied_by(started_at) {
                        Phase::Starting
                    } else if self.exit().is_some_and(|exit| restarts(policy, exit)) {
                        Phase::Backoff
                    } else if exit.code == 0 {
                        Phase::Completed
                    } else {
                        Phase::Failed
                    }
                }
            },
        }
    }
}

/// Whether an agent that ended so is started again.
pub fn restarts(policy: RestartPolicy, exit: Exit) -> bool {
    match policy {
        // It did not end by itself.
        _ if exit.unleased => true,
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit.code != 0 || exit.out_of_memory || exit.unhealthy,
        RestartPolicy::Never => false,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(number: &u64) -> bool {
    *number == 0
}

pub(crate) fn later(time: Timestamp, delay: SignedDuration) -> Timestamp {
    time.checked_add(delay).unwrap_or(Timestamp::MAX)
}
