//! What the audit log has of a request: who did what, on what, from where, and how it ended. Never a body, a query or a
//! secret.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One row, without what the store adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// `uid 1000`, `the master token`, `key deploy-bot (chs_Zm9vYmF)`, `somebody unknown`.
    pub who: String,
    /// The client's address, or `this machine`.
    pub from: String,
    /// The route's name, as `fleet_create`.
    pub operation: String,
    /// The path.
    pub on: String,
    /// What the path does not say, as `restart collector/data-collector-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    #[serde(flatten)]
    pub step: AuditStep,
}

/// At what moment of a request it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum AuditStep {
    /// Before anything is changed: it was allowed, and how it ends is not known yet.
    Intent,
    /// How the one whose row is `of` ended: the answer's HTTP status.
    Result { of: u64, status: u16 },
    /// Nothing was done. `count` such requests, of which only the first is told in full.
    Denied { status: u16, count: u32 },
}
