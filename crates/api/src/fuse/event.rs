//! What those who follow an environment are sent, as server-sent events.

use chassis_core::environment::Told;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The data of one event. Its id is that of the server's own event, in 32 hex digits: sent back as `Last-Event-ID` it
/// brings what came since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEvent {
    pub id: String,
    /// Always `state`.
    pub event: String,
    pub vm_id: String,
    pub state: Told,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub updated_at: Timestamp,
}
