//! The audit log: who did what.

use chassis_core::AuditEntry;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which rows: the newest, or those after a row that was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditLogQuery {
    /// Only rows with a greater id, the oldest of them first: where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// 100 unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
}

/// What the whole log is held against.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditVerifyQuery {
    /// A `head` that was told earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9]+:[0-9a-f]{64}$"))]
    pub noted: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// Grows by one with each row.
    pub id: u64,
    pub time: Timestamp,
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// SHA-256 in hex, over the hash of the row before, id, time and entry.
    pub hash: String,
}

/// What came of walking the whole log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditVerified {
    /// Rows that are as they were written.
    pub rows: u64,
    /// The newest row as `id:hash`. Noted elsewhere, it later proves that nothing up to it was written anew.
    pub head: String,
    /// The first row that is not as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<AuditBroken>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditBroken {
    pub id: u64,
    pub why: String,
}
