//! Environments: sandboxes that programs make through the API, each an agent of one instance in a fleet of their own.
//!
//! ```text
//!                     its instance runs              drain
//!   Provisioning ─────────────────────────▶ Running ───────▶ Draining
//!        │                                     │                 │
//!        │ it is blocked, ends, or             │ deleted, too old, idle, or
//!        │ takes too long: *failed*            │ its instance is gone
//!        ▼                                     ▼                 ▼
//!     Destroying ◀───────────────────────────────────────────────┘
//!        │ instance, data and agent are gone
//!        ▼
//!      (no more)
//! ```
//!
//! The state is a row of the store; the instance is run by the same controller and planner as every other. What the one
//! means for the other is decided here: [`decide`] is asked after every change of the instance and at the time that its
//! last answer named. Whoever deletes the agent or its instance by other means has destroyed the environment: the store
//! marks that in the same transaction.

use std::fmt;
use std::str::FromStr;

use chassis_spec::{AgentName, FleetName};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The fleet of all environments. Nobody deploys agents into it but the API that makes environments.
pub const FLEET: &str = "environments";

/// How long an environment lives that asks for nothing else.
pub const MAX_RUNTIME: SignedDuration = SignedDuration::from_hours(2);

/// After this an environment that does not run yet has failed: whoever waits for it is answered within a minute.
pub const PROVISIONING_LIMIT: SignedDuration = SignedDuration::from_secs(55);

/// The longest that anybody may wait for a place.
pub const WAIT_MOST: SignedDuration = SignedDuration::from_hours(1);

/// What the reason begins with of an environment that found no place.
pub const NO_CAPACITY: &str = "no capacity: ";

/// The longest name of an agent.
const LONGEST_NAME: usize = 40;

/// Where an environment finds what the server gives it: its token, its secrets, what it is to be. It is in memory.
pub const DIRECTORY: &str = "/fuse";

/// The number of an environment's one instance.
pub const NUMBER: u32 = 1;

/// As it is kept, and as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Provisioning,
    Running,
    /// Its agent was asked to finish, and nothing new is begun in it.
    Draining,
    Destroying,
}

impl State {
    pub const ALL: [State; 4] = [State::Provisioning, State::Running, State::Draining, State::Destroying];

    pub fn word(self) -> &'static str {
        match self {
            State::Provisioning => "provisioning",
            State::Running => "running",
            State::Draining => "draining",
            State::Destroying => "destroying",
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
#[error("`{0}` is no state of an environment")]
pub struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, UnknownState> {
        State::ALL.into_iter().find(|state| state.word() == word).ok_or_else(|| UnknownState(word.to_owned()))
    }
}

/// What those who follow an environment are told: its states, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    Provisioning,
    Running,
    Draining,
    Destroying,
    /// It is gone. The last that is told.
    Destroyed,
    /// It never ran, and is gone. The last that is told.
    Failed,
}

impl Told {
    pub fn is_last(self) -> bool {
        matches!(self, Told::Destroyed | Told::Failed)
    }

    pub fn word(self) -> &'static str {
        match self {
            Told::Provisioning => "provisioning",
            Told::Running => "running",
            Told::Draining => "draining",
            Told::Destroying => "destroying",
            Told::Destroyed => "destroyed",
            Told::Failed => "failed",
        }
    }
}

impl From<State> for Told {
    fn from(state: State) -> Told {
        match state {
            State::Provisioning => Told::Provisioning,
            State::Running => Told::Running,
            State::Draining => Told::Draining,
            State::Destroying => Told::Destroying,
        }
    }
}

/// How long an environment may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub max_runtime: SignedDuration,
    /// Since it was last used; none if it may be idle for as long as it likes.
    pub idle_timeout: Option<SignedDuration>,
}

impl Limits {
    /// From the seconds of a request, 0 being the default of each.
    pub fn from_seconds(max_runtime: i64, idle_timeout: i64) -> Limits {
        let max_runtime = if max_runtime > 0 { SignedDuration::from_secs(max_runtime) } else { MAX_RUNTIME };
        let idle_timeout = (idle_timeout > 0).then(|| SignedDuration::from_secs(idle_timeout));
        Limits { max_runtime, idle_timeout }
    }
}

/// What is seen of an environment's instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It has no place, and waits for one.
    Waiting,
    /// It has no place, and was not to wait any longer: why.
    Refused(String),
    /// Its node does not answer, and was never asked to start it.
    Unbegun,
    /// It is not running yet, and nothing is wrong.
    Coming,
    /// An action on it failed: why. It is tried again.
    Blocked(String),
    /// It ended by itself: how.
    Ended(String),
    Running,
    /// Somebody stopped it, and may start it again.
    Stopped,
    /// It is gone, or is to go.
    Gone,
    /// The node cannot be asked just now.
    Unknown,
}

/// An environment, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub state: State,
    pub created_at: Timestamp,
    /// How long it may wait for a place, and since when it has its first one; of one that was to be placed at once or not at
    /// all neither.
    pub wait: Option<SignedDuration>,
    pub placed_at: Option<Timestamp>,
    /// Since when it runs, from which its age counts.
    pub running_at: Option<Timestamp>,
    /// When somebody last ran a command in it, or still did.
    pub used_at: Option<Timestamp>,
}

/// Why an environment is ended though nobody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It never ran.
    ProvisioningFailed,
    /// No node had room for it in time.
    NoCapacity,
    /// It is older than it may be.
    StuckTask,
    IdleTimeout,
    /// Its instance went away under it.
    Lost,
}

impl Cause {
    pub fn word(self) -> &'static str {
        match self {
            Cause::ProvisioningFailed => "provisioning_failed",
            Cause::NoCapacity => "no_capacity",
            Cause::StuckTask => "stuck_task",
            Cause::IdleTimeout => "idle_timeout",
            Cause::Lost => "lost",
        }
    }

    /// True if an operator should hear of it, and can make the environment again.
    pub fn is_dead_letter(self) -> bool {
        matches!(self, Cause::StuckTask | Cause::IdleTimeout)
    }
}

/// What becomes of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before this time.
    Wait(Option<Timestamp>),
    /// It runs: say so.
    Run,
    /// Have it placed on another node.
    Elsewhere,
    End {
        cause: Cause,
        /// Of one that was given up in the queue this is the beginning: what each node lacks comes after it.
        reason: String,
    },
}

/// What to do about an environment now.
pub fn decide(life: &Life, seen: &Seen, limits: Limits, now: Timestamp) -> Decision {
    match life.state {
        State::Provisioning => decide_provisioning(life, seen, now),
        State::Running | State::Draining => decide_running(life, seen, limits, now),
        State::Destroying => Decision::Wait(None),
    }
}

fn decide_provisioning(life: &Life, seen: &Seen, now: Timestamp) -> Decision {
    let failed = |reason: String| Decision::End { cause: Cause::ProvisioningFailed, reason };
    let full = |why: &str| Decision::End { cause: Cause::NoCapacity, reason: format!("{NO_CAPACITY}{why}") };
    // Who waits for a place has all the time to start that others have, once it is there.
    let deadline = match (life.wait, life.placed_at) {
        (None, _) => later(life.created_at, PROVISIONING_LIMIT),
        (Some(_), Some(placed_at)) => later(placed_at, PROVISIONING_LIMIT),
        (Some(wait), None) => later(life.created_at, wait.max(PROVISIONING_LIMIT)),
    };
    match seen {
        Seen::Running => Decision::Run,
        Seen::Blocked(why) | Seen::Ended(why) => failed(why.clone()),
        Seen::Gone => failed("its instance was deleted before it ran".to_owned()),
        Seen::Refused(why) => full(why),
        Seen::Waiting if now >= deadline => full(""),
        Seen::Coming | Seen::Stopped | Seen::Unknown | Seen::Unbegun if now >= deadline => {
            failed(format!("it did not run within {} s", PROVISIONING_LIMIT.as_secs()))
        }
        Seen::Unbegun => Decision::Elsewhere,
        Seen::Waiting | Seen::Coming | Seen::Stopped | Seen::Unknown => Decision::Wait(Some(deadline)),
    }
}

fn decide_running(life: &Life, seen: &Seen, limits: Limits, now: Timestamp) -> Decision {
    if *seen == Seen::Gone {
        let reason = "its instance is gone".to_owned();
        return Decision::End { cause: Cause::Lost, reason };
    }
    let since = life.running_at.unwrap_or(life.created_at);
    let ends = later(since, limits.max_runtime);
    if now >= ends {
        let reason = format!("it ran for the {} s that it may", limits.max_runtime.as_secs());
        return Decision::End { cause: Cause::StuckTask, reason };
    }
    let Some(idle) = limits.idle_timeout else { return Decision::Wait(Some(ends)) };
    let idles = later(life.used_at.map_or(since, |used| used.max(since)), idle);
    if now >= idles {
        let reason = format!("nobody used it for {} s", idle.as_secs());
        return Decision::End { cause: Cause::IdleTimeout, reason };
    }
    Decision::Wait(Some(ends.min(idles)))
}

fn later(time: Timestamp, delay: SignedDuration) -> Timestamp {
    time.checked_add(delay).unwrap_or(Timestamp::MAX)
}

/// The fleet of all environments.
pub fn fleet() -> FleetName {
    FLEET.parse().unwrap_or_else(|_| unreachable!("a valid name"))
}

pub fn is_fleet(name: &FleetName) -> bool {
    name.as_str() == FLEET
}

/// The agent's name for an environment's id, and the one that it gets if that is another's already: an id may be any text,
/// a name not.
pub fn agent_names(id: &str) -> Vec<AgentName> {
    let plain: String = id
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    let trimmed = plain.trim_matches('-');
    let suffix = format!("x{:08x}", fnv1a(id.as_bytes()));
    let room = trimmed.len().min(LONGEST_NAME - suffix.len() - 1);
    let hashed = format!("{}-{suffix}", trimmed[..room].trim_end_matches('-'));
    let hashed = hashed.trim_start_matches('-');
    let same = (plain == id).then_some(id);
    same.into_iter().chain([hashed]).filter_map(|name| name.parse().ok()).collect()
}

/// FNV-1a, folded: short, and the same on every machine. It need not withstand anybody: a name that is taken is refused.
fn fnv1a(bytes: &[u8]) -> u32 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    u32::try_from((hash >> 32) ^ (hash & 0xffff_ffff)).unwrap_or_default()
}
