//! What is asked of the scheduler, and what it answers with.

use std::collections::BTreeMap;
use std::sync::Arc;

use chassis_spec::{RuntimeKind, Strategy, WhenDown};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::InstanceKey;
use crate::node::{Amounts, Architecture, NodeName};

/// An instance that needs a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub instance: InstanceKey,
    /// Whose share it counts to: a fleet, or whoever a platform makes environments for.
    pub tenant: Arc<str>,
    /// Higher ones are served first.
    pub priority: u8,
    /// Shared by all that ask for the same, which is what the queue knows them by.
    pub demand: Arc<Demand>,
    /// What is wanted. Whether it holds is said of each placement: see [`Placement::leased`].
    pub when_down: WhenDown,
    /// It ends by itself or by a time limit, so that the room that it takes comes back.
    pub ends: bool,
    pub wait: Wait,
}

/// What a node must have for an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Demand {
    pub amounts: Amounts,
    pub runtime: RuntimeKind,
    /// This node and no other.
    pub node: Option<NodeName>,
    pub region: Option<Box<str>>,
    pub architecture: Option<Architecture>,
    /// All of them must be the node's, with these values.
    pub labels: BTreeMap<String, String>,
    pub data: Data,
    /// How to choose among nodes that would do; without it as [`Rules::strategy`] says.
    ///
    /// [`Rules::strategy`]: crate::schedule::Rules::strategy
    pub strategy: Option<Strategy>,
}

/// Where the data of an instance's volumes is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Data {
    /// It has no volumes, or reaches them from any node.
    #[default]
    Anywhere,
    /// On the node where it runs first.
    Unborn,
    /// On this node: it runs there or not at all.
    On(NodeName),
}

/// What to do with a request that no node can take now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wait {
    /// Refuse it at once.
    #[default]
    No,
    /// Give it up then.
    Until(Timestamp),
    Always,
}

/// A place that an instance has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    pub instance: InstanceKey,
    pub node: NodeName,
    /// No other placement, of whatever instance, has this number.
    pub epoch: u64,
    /// It is placed elsewhere when its node is down. So the node runs it only while it is in touch, and every container
    /// of this epoch is made to end with the lease.
    pub leased: bool,
}

/// A place as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub node: NodeName,
    pub epoch: u64,
    /// As in [`Placement`].
    pub leased: bool,
    /// It is to end there, and then this comes.
    pub ending: Option<Next>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    Placed(Placement),
    Waiting,
}

/// A place that is held for an instance, until it is confirmed, released, or has expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub id: u64,
    pub instance: InstanceKey,
    pub node: NodeName,
    pub expires_at: Timestamp,
}

/// Where an instance stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Waiting,
    /// A place is held for it: see [`Reservation`].
    Reserved {
        id: u64,
    },
    Placed {
        node: NodeName,
        epoch: u64,
    },
    /// Its node is to end it. Its room is taken until the node has.
    Ending {
        node: NodeName,
        epoch: u64,
        next: Next,
    },
}

/// What becomes of an instance that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Next {
    /// Nothing more.
    Forget,
    /// It gets another place, if there is none yet the one of the reservation.
    Move {
        #[serde(skip)]
        reservation: Option<u64>,
    },
}

/// An instance that the scheduler knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    pub request: Request,
    pub standing: Standing,
    /// Of the place that it has: as [`Placement::leased`].
    pub leased: bool,
}

// === impl Demand ===

impl Demand {
    /// The only node that has its data.
    pub fn home(&self) -> Option<&NodeName> {
        match &self.data {
            Data::On(node) => Some(node),
            Data::Anywhere | Data::Unborn => None,
        }
    }
}

// === impl Request ===

impl Request {
    /// True if it is to be placed elsewhere when its node is down. One whose data is on a node has nowhere to go.
    pub fn moves(&self) -> bool {
        self.when_down == WhenDown::Move && self.demand.data == Data::Anywhere
    }
}

// === impl Tracked ===

impl Tracked {
    pub(super) fn waiting(request: Request) -> Tracked {
        Tracked { request, standing: Standing::Waiting, leased: false }
    }
}

// === impl Standing ===

impl Standing {
    /// The node that has it, and its epoch there.
    pub fn place(&self) -> Option<(&NodeName, u64)> {
        match self {
            Standing::Placed { node, epoch } | Standing::Ending { node, epoch, .. } => Some((node, *epoch)),
            Standing::Waiting | Standing::Reserved { .. } => None,
        }
    }
}
