//! A node: a machine that runs instances, what it has, what it is for, and whether it is there.
//!
//! Two things that have nothing to do with each other make its state: what people want of it ([`Duty`]) and what is known
//! of it ([`Liveness`]). A node that is cordoned stays so while it is silent and when it is back.
//!
//! ```text
//!                cordon                drain                        report: it has nothing that is not its own
//!      ┌──────┐ ───────▶ ┌──────────┐ ───────▶ ┌──────────┐          ┌────────────────────────────┐
//!      │ Open │          │ Cordoned │          │ Draining │          │                            ▼
//!      └──────┘ ◀─────── └──────────┘ ◀─────── └──────────┘      ┌─────────┐  silent for   ┌───────┐
//!               uncordon    (undrain, back to Open)  register ──▶│ Suspect │◀───────────── │ Alive │
//!                                                                └─────────┘ suspect_after └───────┘
//!                                                                  │     └── heartbeat ──────▶ ▲
//!                                                    silent for    ▼                           │
//!                                                    down_after ┌──────┐  report: it has ended │
//!                                                               │ Down │ ── what has moved ────┘
//!                                                               └──────┘
//! ```
//!
//! - **register**: a machine says what it is. One that is known keeps its instances and its duty, whatever it says; until it
//!   has reported what it runs it is suspect.
//! - **silent**: a suspect node keeps all that it has, and gets nothing new. When it is down, those of its instances whose spec
//!   says so are placed elsewhere; all others stay its own and wait for it.
//! - **report**: the list of all that the node has. One that was down, or has registered, counts only once this list has
//!   nothing in it that is not its own, by instance and epoch; until then each report is answered with what it is to end.
//!
//! # Why nothing runs twice
//! Each placement has an *epoch*, a number that is never given out again. Each stretch of time in which a node counts is a
//! *term*, numbered out of the same counter. Four promises are kept between
//! a node and its server, and everything else rests on them:
//!
//! 1. An order of another term than its own is refused. It takes a new term over *before* it lists what it has, so that its
//!    first report of a term has everything that earlier orders can ever bring about.
//! 2. What it was told to end, it ends, and says so; it never starts that epoch again.
//! 3. An instance that may move ([`Placement::leased`]) is ended when [`Rules::lease`] has passed since the node sent the last
//!    heartbeat that was answered with [`Pulse::Alive`], which takes no longer than [`Rules::ending`], and is not started
//!    before the next such answer. Something that outlives the node's own process has to see to it: the sandbox's init.
//!    The server's own node is handed no lease, and nothing that is placed there moves.
//! 4. An answer counts only if the server that gives it still acts when it does.
//!
//! [`Rules::down_after`] is longer than the lease and the ending together. So when an instance is placed elsewhere, its
//! old node has ended it, heard from or not; when that node is back, its report shows an epoch that is not the instance's
//! any more, and it is told to forget it before it gets anything new. An instance that does not move has no lease, and runs on
//! for as long as nobody can be reached; it has no second place, and so cannot run twice either. That is the choice which a
//! spec makes: to run on alone, or to be moved.
//!
//! [`Placement::leased`]: crate::schedule::Placement::leased
//! [`Pulse::Alive`]: crate::schedule::Pulse::Alive
//! [`Rules::down_after`]: crate::schedule::Rules::down_after
//! [`Rules::ending`]: crate::schedule::Rules::ending
//! [`Rules::lease`]: crate::schedule::Rules::lease

mod amounts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chassis_spec::RuntimeKind;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::key::InstanceKey;

pub use amounts::Amounts;
pub use chassis_spec::{Architecture, InvalidNodeName, NodeName, UnknownArchitecture};

/// What a machine says of itself when it registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    pub name: NodeName,
    /// What it gives to instances, which is less than it has.
    pub capacity: Amounts,
    #[serde(default)]
    pub architecture: Architecture,
    pub runtimes: BTreeSet<RuntimeKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What people want of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Duty {
    /// It takes instances.
    #[default]
    Open,
    /// It keeps what it has and gets nothing new.
    Cordoned,
    /// What it has is to go elsewhere.
    Draining(Drain),
}

/// How a node is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Until then an instance leaves only when a place is held for it elsewhere. From then on the others are ended too, and
    /// wait for a place. Without it they are never forced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// How many may be on their way at once before the deadline; at least 1.
    pub parallelism: u32,
}

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    Alive,
    /// It has not been heard for a while, or has not yet reported what it has.
    Suspect,
    /// It has not been heard for so long that what may move has ended there.
    Down,
}

/// A node's state in one word, as people see it: of what is known and what is wanted, that which matters more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    Active,
    Cordoned,
    Draining,
    Suspect,
    Down,
}

/// A node as the scheduler knows it.
#[derive(Debug, Clone)]
pub struct Node {
    pub(crate) spec: NodeSpec,
    pub(crate) duty: Duty,
    pub(crate) liveness: Liveness,
    /// It has reported what it has since it was last down, registered, or taken over from another server.
    pub(crate) joined: bool,
    pub(crate) term: u64,
    /// Its last heartbeat while it had joined; before that, when the silence began to count.
    pub(crate) heard_at: Timestamp,
    /// Its last sign of life that this book knows of.
    pub(crate) last_heard: Option<Timestamp>,
    pub(crate) used: Amounts,
    /// The part of `used` that does not come back by itself.
    pub(crate) lasting: Amounts,
    /// What has its place here, or one reserved.
    pub(crate) instances: BTreeSet<InstanceKey>,
    /// A request that has waited so long that nothing else is placed here until it fits.
    pub(crate) claimed_by: Option<InstanceKey>,
    /// Of the capacity; kept because dividing is most of what a score costs.
    pub(crate) inverse: [f64; 4],
}

// === impl Node ===

impl Node {
    pub(crate) fn new(spec: NodeSpec, term: u64, now: Timestamp) -> Node {
        Node {
            inverse: spec.capacity.inverse(),
            spec,
            duty: Duty::Open,
            liveness: Liveness::Suspect,
            joined: false,
            term,
            heard_at: now,
            last_heard: None,
            used: Amounts::default(),
            lasting: Amounts::default(),
            instances: BTreeSet::new(),
            claimed_by: None,
        }
    }

    pub fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    pub fn duty(&self) -> Duty {
        self.duty
    }

    pub fn liveness(&self) -> Liveness {
        self.liveness
    }

    pub fn state(&self) -> NodeState {
        NodeState::of(self.liveness, self.duty)
    }

    /// When it was last heard; none if that was before this book was begun.
    pub fn heard_at(&self) -> Option<Timestamp> {
        self.last_heard
    }

    /// The term of every order that it is given now.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// What its instances take, and what is reserved.
    pub fn used(&self) -> Amounts {
        self.used
    }

    pub fn free(&self) -> Amounts {
        self.spec.capacity.minus(self.used)
    }

    /// What has its place on it, or one reserved.
    pub fn instances(&self) -> &BTreeSet<InstanceKey> {
        &self.instances
    }

    /// True of a node that was to be emptied and is.
    pub fn is_drained(&self) -> bool {
        matches!(self.duty, Duty::Draining(_)) && self.instances.is_empty()
    }

    /// Counts an instance in; `ends` if its room comes back by itself.
    pub(crate) fn book(&mut self, instance: &InstanceKey, amounts: Amounts, ends: bool) {
        if self.instances.insert(instance.clone()) {
            self.used = self.used.plus(amounts);
            if !ends {
                self.lasting = self.lasting.plus(amounts);
            }
        }
    }

    /// Counts an instance out again.
    pub(crate) fn unbook(&mut self, instance: &InstanceKey, amounts: Amounts, ends: bool) {
        if self.instances.remove(instance) {
            self.used = self.used.minus(amounts);
            if !ends {
                self.lasting = self.lasting.minus(amounts);
            }
        }
    }
}

// === impl NodeState ===

impl NodeState {
    pub fn of(liveness: Liveness, duty: Duty) -> NodeState {
        match (liveness, duty) {
            (Liveness::Down, _) => NodeState::Down,
            (Liveness::Suspect, _) => NodeState::Suspect,
            (Liveness::Alive, Duty::Draining(_)) => NodeState::Draining,
            (Liveness::Alive, Duty::Cordoned) => NodeState::Cordoned,
            (Liveness::Alive, Duty::Open) => NodeState::Active,
        }
    }

    /// As in `chassis node list`.
    pub fn word(self) -> &'static str {
        match self {
            NodeState::Active => "active",
            NodeState::Cordoned => "cordoned",
            NodeState::Draining => "draining",
            NodeState::Suspect => "suspect",
            NodeState::Down => "down",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}
