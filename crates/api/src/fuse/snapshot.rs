//! Snapshots and desktops, as far as there are any: see the server's handlers.

use serde::{Deserialize, Serialize};

/// There are none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotList {
    pub snapshots: Vec<serde_json::Value>,
}

/// Whether there is a snapshot of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFound {
    pub found: bool,
}

/// What an environment shows on its screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Display {
    pub up: bool,
    pub width: u32,
    pub height: u32,
    /// Why there is nothing to be seen.
    pub error: String,
}
