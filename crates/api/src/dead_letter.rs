//! Environments that were given up, for an operator to see to.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// `stuck_task` or `idle_timeout`.
    pub kind: String,
    /// The environment's id; together with the kind, the letter's name.
    pub environment: String,
    pub task_id: String,
    pub reason: String,
    /// How often it came again.
    pub retry_count: u32,
    pub first_seen_at: Timestamp,
    pub last_seen_at: Timestamp,
    /// When its environment was last made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_at: Option<Timestamp>,
}

/// The environment that was made again, and runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redriven {
    pub environment: String,
    pub task_id: String,
}
