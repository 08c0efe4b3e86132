//! What stands after the question mark of a path.

use chassis_spec::{AgentName, FleetName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which part of a list: at most so many, and from where on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// At most so many items; 1000 without it. Where there are more, the answer's `Link` header leads to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5000))]
    pub limit: Option<u32>,
    /// Where the list goes on: out of the `Link` of the part before, and of no other list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Fleets that have these labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetListQuery {
    /// `tier=web,team!=core`: only those with all of these labels. A name alone asks whether there is such a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
}

/// Agents of a fleet, or of all fleets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentListQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    /// `tier=web,team!=core`: only those with all of these labels. A name alone asks whether there is such a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
}

/// Instances of an agent, of a fleet, or of all fleets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceListQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// `tier=web,team!=core`: only those whose agents have all of these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
}

/// Secrets of a fleet, or of all fleets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretListQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
}

/// How something is deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeleteQuery {
    /// Take the tier 1 data away too.
    #[serde(default)]
    pub cleanup: bool,
}

/// How a secret is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretWriteQuery {
    /// Overwrite the one that is there.
    #[serde(default)]
    pub replace: bool,
}

/// A name that somebody typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResolveQuery {
    /// `fleet/agent-n`, `agent-n`, `fleet/agent`, `agent` or a fleet.
    pub name: String,
    /// The fleet that is meant if the name has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    /// Also what is no more, if its output was kept.
    #[serde(default)]
    pub kept: bool,
}

/// How long the answer to a change may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitQuery {
    /// `30s`, at most `5m`: answer with 200 when all is as wanted, or with 202 when that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]{1,5}ms|[0-9]{1,2}s?|[0-4]m)$"))]
    pub wait: Option<String>,
}

/// What it is asked of how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgressGetQuery {
    pub fleet: FleetName,
    /// One agent, or several with commas between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(
        pattern = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?(,[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?)*$"
    ))]
    pub agent: Option<String>,
    /// Only with one agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
}
