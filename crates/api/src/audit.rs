//! How closed the sandboxes of instances really are.

use chassis_core::audit::Finding;
use chassis_spec::{AgentName, FleetName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose sandboxes; all there are without a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Only with an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
}

/// What an audit found about one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceAudit {
    pub fleet: FleetName,
    pub agent: AgentName,
    pub number: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// By item; none if it was not audited.
    pub findings: Vec<Finding>,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}
