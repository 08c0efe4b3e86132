//! Keys for programs and people who call over the network.

use chassis_core::Role;
use chassis_spec::{ApiKeyName, FleetName};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKeyCreate {
    pub name: ApiKeyName,
    pub role: Role,
    /// Where the role holds; everywhere if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleets: Option<Vec<FleetName>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A key, without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    pub name: ApiKeyName,
    /// How it begins: enough to know it again.
    pub prefix: String,
    pub role: Role,
    /// As in [`ApiKeyCreate::fleets`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleets: Option<Vec<FleetName>>,
    pub created_at: Timestamp,
    /// Whoever made it.
    pub created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// To the minute; none if it was never used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

/// The answer to its creation, which alone has the key itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyCreated {
    #[serde(flatten)]
    pub key: ApiKey,
    /// What is sent as `Authorization: Bearer`.
    pub token: String,
}

impl std::fmt::Debug for ApiKeyCreated {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiKeyCreated").field("key", &self.key).finish_non_exhaustive()
    }
}
