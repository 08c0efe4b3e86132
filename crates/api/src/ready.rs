//! Whether a server lives, and whether it can work: what load balancers and people ask without saying who they are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer of `GET /health`: there is always one while the server lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alive {
    /// `ok`.
    pub status: String,
    pub version: String,
}

/// The answer of `GET /ready`: with 200 if all is well, else with 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    pub ready: bool,
    /// The same in a word: `ready` or `not_ready`.
    #[serde(default)]
    pub status: String,
    pub checks: Vec<ReadyCheck>,
}

/// One thing that the server needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadyCheck {
    /// `store`, `runtime` or `look` (at what runs, which a server does first).
    pub name: String,
    pub ok: bool,
    /// What is wrong and what to do about it; none if all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
