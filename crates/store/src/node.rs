//! What the store keeps of nodes, and of where instances are.

use std::collections::BTreeMap;
use std::fmt;

use chassis_core::schedule::Next;
use chassis_core::{Amounts, Duty, InstanceKey, NodeName, NodeSpec};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A node as it is kept; its token aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    pub spec: NodeSpec,
    pub chosen: NodeChosen,
    /// Where it is asked; none for the server's own.
    pub url: Option<String>,
    /// What the machine calls itself for good, whatever its name and address; none for the server's own.
    pub identity: Option<String>,
    /// Of its certificate, if that is known.
    pub fingerprint: Option<String>,
    pub duty: Duty,
    /// It was down when that was noted last.
    pub is_down: bool,
    /// Grows with each registration and each change of the duty.
    pub version: u64,
    /// For the first time.
    pub registered_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What somebody chose for a node, in place of what its machine says: the rest of its spec is the machine's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeChosen {
    pub region: Option<Box<str>>,
    pub labels: BTreeMap<String, String>,
    /// Of each thing, where it is not 0.
    pub capacity: Amounts,
}

/// A node that is to be asked from now on.
#[derive(Clone)]
pub struct NodeRegistration {
    pub spec: NodeSpec,
    pub chosen: NodeChosen,
    pub url: String,
    pub identity: Option<String>,
    pub fingerprint: Option<String>,
    /// What it lets this chassis in for; kept encrypted.
    pub token: Zeroizing<String>,
}

/// The place that an instance has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub node: NodeName,
    /// 0 for what ran on the server's own node before there were others.
    pub epoch: u64,
    /// It may be placed elsewhere when the node is down: every container of this epoch ends with the node's lease.
    pub leased: bool,
    /// It is to end there, and then this comes.
    pub ending: Option<Next>,
}

/// Data that is to be removed from a node, which did not answer when it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataOwed {
    pub node: NodeName,
    pub instance: InstanceKey,
}

/// Where an instance is from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementUpdate {
    pub instance: InstanceKey,
    /// None while it waits for a place.
    pub placed: Option<Placed>,
    /// The node that has its data, if that is news. What it is for the one where data was, it stays.
    pub home: Option<NodeName>,
}

impl NodeRecord {
    pub fn name(&self) -> &NodeName {
        &self.spec.name
    }

    /// True of the server's own.
    pub fn is_own(&self) -> bool {
        self.url.is_none()
    }
}

impl fmt::Debug for NodeRegistration {
    /// Never the token.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NodeRegistration").field("url", &self.url).finish_non_exhaustive()
    }
}
