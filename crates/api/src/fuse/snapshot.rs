//! Snapshots on the wire, and what an environment shows on its screen.

use std::collections::BTreeMap;

use chassis_core::snapshot::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::environment::{is_zero, or_default};

/// The body of `POST /v1/environments/{id}/snapshots`, which may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotRequest {
    #[serde(deserialize_with = "or_default")]
    pub comment: String,
    /// Any word; `manual` if none is given. Those with `build` are never taken away for their age.
    #[serde(deserialize_with = "or_default")]
    pub mode: String,
    /// After which it is taken away, unless something rests on it; 0 for never.
    #[serde(deserialize_with = "or_default")]
    pub retention_seconds: i64,
    #[serde(deserialize_with = "or_default")]
    pub metadata: BTreeMap<String, String>,
    /// Where somebody else takes it; nothing is exported here.
    #[serde(deserialize_with = "or_default")]
    pub export_ref: String,
    /// `pending` if none is given.
    #[serde(deserialize_with = "or_default")]
    pub export_status: String,
    /// By which it is found with `GET /v1/snapshots/resolve`.
    #[serde(deserialize_with = "or_default")]
    pub layer_key: String,
    /// With the memory of what runs.
    #[serde(deserialize_with = "or_default")]
    pub live: bool,
}

/// The body of `?action=fork`, which may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForkRequest {
    /// A snapshot of the same environment, instead of one that is taken for this.
    #[serde(deserialize_with = "or_default")]
    pub reuse_snapshot_id: String,
    /// Of the snapshot that is taken.
    #[serde(deserialize_with = "or_default")]
    pub comment: String,
}

/// What an environment was at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: String,
    /// The environment's id, which may be no more.
    pub vm_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_snapshot_id: Option<String>,
    pub mode: String,
    pub state: State,
    /// `disk`: nothing of its memory.
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub layer_key: String,
    pub arch: String,
    /// SHA-256 of what is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size_bytes: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub export_ref: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<SnapshotExport>,
}

/// Where somebody takes a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotExport {
    pub destination: String,
    pub status: String,
    pub requested_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A part of the list of snapshots, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotList {
    pub snapshots: Vec<Snapshot>,
    /// There if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Whether there is a snapshot of a layer: the newest that is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFound {
    pub found: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
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
