//! What instances use, and the machines that they run on: counters, of which two give a rate.

use chassis_core::Usage;
use chassis_spec::{AgentName, FleetName};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::Instance;

/// Whose usage; all there is without a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatsQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Only with an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// `tier=web,team!=core`: only of instances whose agents have all of these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub nodes: Vec<NodeStats>,
    /// By fleet, agent and number.
    pub instances: Vec<InstanceStats>,
}

/// A whole machine, with all that runs on it. It is the server's own: with a `DOCKER_HOST` elsewhere, not the instances'.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStats {
    pub name: String,
    pub read_at: Timestamp,
    pub cores: u32,
    /// Time that its cores were busy since it was started.
    pub cpu_nanoseconds: u64,
    pub memory_bytes: u64,
    /// What cannot be had without taking it from somebody.
    pub memory_used_bytes: u64,
    /// Processes that ran or wanted to, on average over the last minute.
    pub load_average: f64,
}

/// An instance with what it uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStats {
    #[serde(flatten)]
    pub instance: Instance,
    /// None if it does not run, or if its runtime cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why there is no usage, of an instance that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_error: Option<String>,
    /// The most processor time that its YAML gives it; all cores without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit_cores: Option<f64>,
}
