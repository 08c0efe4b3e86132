//! What the store keeps of those who call: their keys, and what they did.

use chassis_core::Grant;
use chassis_spec::ApiKeyName;
use jiff::Timestamp;

/// A key of the API, without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub name: ApiKeyName,
    /// How it begins.
    pub prefix: String,
    /// SHA-256.
    pub hash: Vec<u8>,
    pub grant: Grant,
    pub created_at: Timestamp,
    /// Whoever made it, as the audit log calls them.
    pub created_by: String,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    /// What it is for, in the words of whoever made it.
    pub label: Option<String>,
    /// Since when nobody is let in with it.
    pub revoked_at: Option<Timestamp>,
}

/// When a key was last used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyUse {
    pub name: ApiKeyName,
    pub at: Timestamp,
}

/// A row of the audit log as it is kept: what was hashed must not be read and written again before it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub id: u64,
    pub time: Timestamp,
    /// A [`chassis_core::AuditEntry`] in JSON.
    pub entry: String,
    /// SHA-256 over the hash of the row before, id, time and entry; see [`crate::audit_hash`].
    pub hash: Vec<u8>,
}

/// One end of the chain: a row's id and hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEnd {
    pub id: u64,
    pub hash: Vec<u8>,
}

/// What is kept of the audit log's chain apart from its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditChain {
    /// The last row that was taken away for its age.
    pub anchor: AuditEnd,
    /// The newest row.
    pub head: AuditEnd,
}

/// Which rows of the audit log to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only rows with a greater id.
    pub after: u64,
    pub since: Option<Timestamp>,
    /// At most so many; 0 is none.
    pub limit: u32,
    /// The newest `limit` rather than the oldest; still in the order in which they were written.
    pub newest: bool,
}
