//! What keeps a server's state, and which of several servers acts.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The header that says for how many seconds an answer may have been out of date, because the database does not answer.
pub const STALE_HEADER: &str = "chassis-stale";

/// What keeps a server's state, and which of the servers that use it acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateInfo {
    /// `sqlite` or `postgres`.
    pub store: String,
    /// Since when the database has not answered: what is shown of fleets and agents is as old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable_since: Option<Timestamp>,
    /// True of the one server that starts and stops instances.
    pub acting: bool,
    /// Why this server never acts, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The name of the server that has the lease, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_holder: Option<String>,
    /// Grows whenever another server takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_epoch: Option<u64>,
    /// This server's own name.
    pub server_name: String,
    /// Every server that has the database open, this one among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
}
