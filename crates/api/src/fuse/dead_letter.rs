//! What went wrong with environments and is for an operator to look at. Fuse has it in its database only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Something that an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// `stuck_task` or `idle_timeout`.
    pub kind: String,
    /// The environment's id.
    pub entity_id: String,
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

/// All of them, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterList {
    pub dead_letters: Vec<DeadLetter>,
}
