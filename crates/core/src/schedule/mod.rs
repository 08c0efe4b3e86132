//! Which instance runs on which node.
//!
//! [`Scheduler`] is the book of one server's nodes, instances and places. It does nothing by itself: it is told what happens
//! and what people want, each time with the time, and says what follows from it as [`Change`]s. The server writes them to the
//! store and only then tells the nodes; what it is told of a place that is not in the store yet, no node is. A server that
//! takes over makes the book anew from the store ([`Scheduler::node_restore`], [`Scheduler::instance_restore`]).
//!
//! ```text
//!   submit ──▶ Waiting ──a node fits, and it is its turn──▶ Placed ──end, drain──▶ Ending ──ended──▶ forgotten
//!                 ▲                                          ▲ │ │                     │
//!   reserve ──▶ Reserved ──────────confirm───────────────────┘ │ └──ended: it is over──┼──────────▶ forgotten
//!                 │      ▲                                     │ node down, and it moves
//!                 │      │ to move, and a place is held        ▼                       │
//!   release, expiry      └──────────────────────────────── Waiting ◀──to move──────────┘
//! ```
//!
//! What holds after every call:
//! - the room that is taken on a node is the sum of what has a place or a reservation there, and no placement makes it more
//!   than the node has;
//! - an instance has one place at most, with an epoch of its own (see [`crate::node`] for what that is good for);
//! - after [`Scheduler::tick`] nothing waits that would fit on a node which is not kept free for another.

mod claims;
mod drain;
mod error;
mod gates;
mod lend;
mod nodes;
mod placing;
mod queue;
mod rebook;
mod request;
mod reserve;
mod restore;
mod score;
mod wake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::key::InstanceKey;
use crate::node::{Amounts, Node, NodeName, NodeState};
use queue::Queue;

pub use chassis_spec::{Strategy, WhenDown};
pub use error::Error;
pub use gates::{Refused, Unfit};
pub use nodes::{Held, Orders, Pulse, Registered};
pub use rebook::{Container, Cramped};
pub use request::{
    Data, Demand, Next, Place, Placement, Request, Reservation, Standing, Submitted, Tracked, Wait,
};

/// The times and limits by which a scheduler goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// After so long without a heartbeat a node gets nothing new.
    pub suspect_after: SignedDuration,
    /// For so long a node may run what may move, after it sent the last heartbeat that was answered.
    pub lease: SignedDuration,
    /// The longest that a node takes to end what its lease is over for.
    pub ending: SignedDuration,
    /// How long a reservation is held.
    pub reservation: SignedDuration,
    /// After so long in the queue a request may claim a node that is too full for it.
    pub patience: SignedDuration,
    /// The most that may wait.
    pub queue_most: usize,
    /// For demands that do not say it.
    pub strategy: Strategy,
}

/// Something that is different now: what the store must have before anybody acts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Its state, or what is wanted of it.
    Node { node: NodeName, from: NodeState, to: NodeState },
    /// What was to leave it has left.
    Drained { node: NodeName },
    /// The node is to run it. If it has data that was nowhere yet, this node is its home from now on.
    Placed(Placement),
    /// Containers of this placement that are made from now on end with the lease, or do not.
    Leased(Placement),
    /// The node is to end it.
    Ending { instance: InstanceKey, node: NodeName, epoch: u64, leased: bool, next: Next },
    /// It waits, and has no place.
    Queued { instance: InstanceKey },
    /// It has no place and is not to have one.
    Forgotten { instance: InstanceKey },
    /// As `Forgotten`: it has waited for as long as it would.
    GaveUp(Refused),
    /// Its data was on a node that is gone for good.
    DataLost { instance: InstanceKey, node: NodeName },
}

/// Nodes, instances, and which is where.
#[derive(Debug, Clone)]
pub struct Scheduler {
    rules: Rules,
    nodes: BTreeMap<NodeName, Node>,
    /// The server's own, which hands no lease to itself: what it has stays there.
    own: Option<NodeName>,
    instances: BTreeMap<InstanceKey, Tracked>,
    /// In the order in which they expire, which is that in which they were made.
    reservations: BTreeMap<u64, Reservation>,
    queue: Queue,
    /// Which node is kept free for whom.
    claims: BTreeMap<InstanceKey, NodeName>,
    tenants: BTreeMap<Arc<str>, Tenant>,
    /// Of all nodes together.
    capacity: Amounts,
    /// The next epoch, term or reservation.
    next: u64,
    /// No number from this book is as small.
    first: u64,
    freed: Freed,
    changes: Vec<Change>,
}

/// What somebody takes of the nodes, and what they are worth.
#[derive(Debug, Clone, Copy)]
struct Tenant {
    used: Amounts,
    weight: u32,
}

/// Where there may be room that nobody who waits was asked about.
#[derive(Debug, Clone, Default)]
struct Freed {
    all: bool,
    nodes: BTreeSet<NodeName>,
}

// === impl Rules ===

impl Default for Rules {
    fn default() -> Self {
        Rules {
            suspect_after: SignedDuration::from_secs(15),
            lease: SignedDuration::from_secs(60),
            ending: SignedDuration::from_secs(30),
            reservation: SignedDuration::from_secs(60),
            patience: SignedDuration::from_secs(60),
            queue_most: 100_000,
            strategy: Strategy::Spread,
        }
    }
}

impl Rules {
    /// After so long without a heartbeat a node is down: what may move has ended there, even by a clock that is slow by a
    /// tenth.
    pub fn down_after(&self) -> SignedDuration {
        let ended = self.lease.saturating_add(self.ending);
        ended.saturating_add(ended / 10).max(self.suspect_after)
    }
}

// === impl Scheduler ===

impl Scheduler {
    /// A book without nodes. `first` must be above every epoch and term that was ever given out, by whichever server: one
    /// takes the number of its own term of office times 2^32.
    pub fn new(rules: Rules, first: u64) -> Scheduler {
        Scheduler {
            rules,
            nodes: BTreeMap::new(),
            own: None,
            instances: BTreeMap::new(),
            reservations: BTreeMap::new(),
            queue: Queue::default(),
            claims: BTreeMap::new(),
            tenants: BTreeMap::new(),
            capacity: Amounts::default(),
            next: first,
            first,
            freed: Freed::default(),
            changes: Vec::new(),
        }
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.get(name)
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    pub fn instance(&self, instance: &InstanceKey) -> Option<&Tracked> {
        self.instances.get(instance)
    }

    pub fn instances(&self) -> impl Iterator<Item = &Tracked> {
        self.instances.values()
    }

    /// How many wait for a place.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many are before one that waits: those of higher priority, and of the same those who have waited longer. The
    /// shares of tenants may put it before or behind some of them.
    pub fn ahead(&self, instance: &InstanceKey) -> Option<usize> {
        self.queue.ahead(instance)
    }

    /// The node that is kept free for one that waits.
    pub fn claim(&self, instance: &InstanceKey) -> Option<&NodeName> {
        self.claims.get(instance)
    }

    /// The part that a tenant has of what there is most asked for, over its weight: the smaller, the sooner its turn comes.
    pub fn share(&self, tenant: &str) -> f64 {
        share_of(&self.tenants, tenant, self.capacity)
    }

    /// Gives a tenant this many parts of what is short, where others have one. 0 counts as 1.
    pub fn tenant_weigh(&mut self, tenant: &Arc<str>, weight: u32) {
        self.tenant(tenant).weight = weight.max(1);
    }

    /// What is different since this was asked last.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Does what is due by `now`, and gives places that have come free to those who wait.
    pub fn tick(&mut self, now: Timestamp) {
        self.reservations_expire(now);
        self.nodes_judge(now);
        self.drains_advance(now);
        self.waiting_give_up(now);
        self.claims_renew(now);
        self.dispatch();
    }

    fn tenant(&mut self, tenant: &Arc<str>) -> &mut Tenant {
        let none = Tenant { used: Amounts::default(), weight: 1 };
        self.tenants.entry(tenant.clone()).or_insert(none)
    }

    /// A number that was never given out.
    fn draw(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

fn share_of(tenants: &BTreeMap<Arc<str>, Tenant>, tenant: &str, capacity: Amounts) -> f64 {
    let tenant = tenants.get(tenant);
    tenant.map_or(0.0, |tenant| tenant.used.dominant_share(capacity) / f64::from(tenant.weight))
}
