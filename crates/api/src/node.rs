//! The machines that run instances.

use std::collections::{BTreeMap, BTreeSet};

use chassis_core::{Amounts, Architecture, Duty, InstanceKey, NodeName, NodeState};
use chassis_spec::{AgentName, FleetName, RuntimeKind};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Fingerprint, NodeStats, Phase};

/// One machine: the server's own, or one that was joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    /// Where the server asks it; none for the server's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// SHA-256 of its certificate, if it was given when it joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// In one word: of what is known of it and what is wanted of it, that which matters more.
    pub state: NodeState,
    /// What is wanted of it.
    pub duty: Duty,
    /// What instances run in that do not say it: `docker` or `sim`.
    pub runtime: String,
    pub runtimes: BTreeSet<RuntimeKind>,
    /// The engine's version; none while it does not answer, and of nodes that were joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// Why the runtime does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_error: Option<String>,
    pub architecture: Architecture,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it gives to instances.
    pub capacity: Amounts,
    /// What is taken of it, also by fleets that whoever asks cannot see.
    pub used: Amounts,
    pub free: Amounts,
    /// Of the fleets that whoever asks can see, as `running`.
    pub instances: u32,
    pub running: u32,
    /// Its last sign of life; none if the server that was asked has heard none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
    /// When it was joined for the first time; none for the server's own as long as that is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<Timestamp>,
    /// Grows with each change of what is wanted of it, and each time that it is joined.
    pub version: u64,
    /// What the machine is and uses; none if it cannot be read, and of nodes that were joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<NodeStats>,
}

/// A node with what it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeDetail {
    #[serde(flatten)]
    pub node: Node,
    /// Those of the fleets that whoever asks can see, by fleet, agent and number.
    pub held: Vec<NodeInstance>,
    /// Those whose data is there though they are not: they were taken away, or wait to come back to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_of: Vec<InstanceKey>,
}

/// An instance on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeInstance {
    pub fleet: FleetName,
    pub agent: AgentName,
    pub number: u32,
    pub phase: Phase,
    /// It is to end here, because another node is to have it or because it is deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Its volumes are there, and nowhere else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub data: bool,
    /// It runs elsewhere when this node is down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moves: bool,
    /// Why no other node can take it, of a node that is drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
}

/// A node that is to run instances from now on, or again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeJoin {
    /// As `chassis node` prints it: `https://host:port`.
    pub url: String,
    /// As `chassis node` prints it: what its certificate must be. Without it the certificate must be one that the server's
    /// machine believes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// What the node lets the server in for. Kept encrypted, and in no answer.
    pub token: String,
    /// What it is called here; without it as the node calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NodeName>,
    /// Instead of what the node says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Besides those that the node has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What of it is given to instances; 0 or nothing is what the node says.
    #[serde(default)]
    pub capacity: Amounts,
}

/// The answer to a [`NodeJoin`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeJoined {
    #[serde(flatten)]
    pub node: Node,
    /// It was known before, and has what it had.
    pub again: bool,
    /// What may not be as it was meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How a node is forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeRemoveQuery {
    /// It is down, and its machine is gone for good: its instances are made anew elsewhere, without their data, and its
    /// environments end. Nothing may run there any more.
    pub force: bool,
}

/// How a node is emptied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeDrain {
    /// After so many seconds what could not go elsewhere is stopped too, and waits for a place. Without it that is never
    /// forced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 31_536_000))]
    pub deadline: Option<u32>,
    /// How many may be on their way at once before the deadline; 1 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub parallelism: Option<u32>,
}

impl std::fmt::Debug for NodeJoin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NodeJoin").field("url", &self.url).finish_non_exhaustive()
    }
}
