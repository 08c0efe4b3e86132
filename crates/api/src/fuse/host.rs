//! Nodes, which this dialect calls hosts, on the wire.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a host has, or what of it is given away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCapacity {
    pub cpus: i64,
    pub ram_mb: i64,
    pub storage_gb: i64,
    pub vm_count: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arch: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    Active,
    /// Nothing new is put there.
    Cordoned,
}

/// A node that environments can be on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub id: String,
    pub url: String,
    pub state: HostState,
    pub capacity: HostCapacity,
    pub allocated: HostCapacity,
    pub last_seen: Timestamp,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// `docker` or `sim`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backend: String,
}

/// A part of the list of hosts, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostList {
    pub hosts: Vec<Host>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
