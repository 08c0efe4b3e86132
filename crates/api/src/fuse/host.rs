//! Nodes, which this dialect calls hosts, on the wire.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Fingerprint;

/// What a host has, or what of it is given away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostCapacity {
    pub cpus: i64,
    pub ram_mb: i64,
    pub storage_gb: i64,
    pub vm_count: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arch: String,
}

/// A machine that is to be a host.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRegister {
    pub id: String,
    pub url: String,
    #[serde(default)]
    pub token: String,
    #[serde(default)]
    pub region: String,
    #[serde(default)]
    pub backend: String,
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// What is 0 is as the machine says.
    #[serde(default)]
    pub capacity: HostCapacity,
    /// SHA-256 of its certificate, which is an addition to this dialect: nodes make their certificates themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    Active,
    /// Nothing new is put there.
    Cordoned,
    /// What is there goes elsewhere.
    Draining,
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
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What is not as it was declared, or not as it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl std::fmt::Debug for HostRegister {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HostRegister").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A part of the list of hosts, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostList {
    pub hosts: Vec<Host>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
