//! The machines that run instances.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::NodeStats;

/// One machine. For now there is just the server's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    /// `docker` or `sim`.
    pub runtime: String,
    /// The engine's version; none while it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// Why the runtime does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_error: Option<String>,
    /// Of the fleets that whoever asks can see, as `running`.
    pub instances: u32,
    pub running: u32,
    /// What it is and uses; none if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<NodeStats>,
}
