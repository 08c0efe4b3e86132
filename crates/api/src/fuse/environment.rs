//! Environments on the wire.

use std::collections::BTreeMap;

use chassis_core::environment::State;
use chassis_spec::{AgentProfile, Seconds};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

/// What an environment is to have. Zero and empty mean: whatever is usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceSpec {
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub cpus: i32,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub ram_mb: i32,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub storage_gb: i32,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub gpus: i32,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub gpu_kind: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub gpu_profile: String,
    /// A Docker image on nodes that run Docker.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub image: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub region: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub arch: String,
    /// The node that it must be on.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub host_id: String,
    /// Labels that its node must have.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// After which it is destroyed; 0 for two hours.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub max_runtime_seconds: i64,
    /// Unused for so long, it is destroyed; 0 for never, else at least 60.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub idle_timeout_seconds: i64,
}

/// The body of `POST /v1/environments`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnvironmentCreate {
    #[serde(deserialize_with = "or_default")]
    pub task_id: String,
    #[serde(deserialize_with = "or_default")]
    pub spec: ResourceSpec,
    /// Base64 of a JSON document.
    #[serde(deserialize_with = "or_default")]
    pub manifest_inline: String,
    #[serde(deserialize_with = "or_default")]
    pub secrets: BTreeMap<String, String>,
    /// Run with `sh -lc` before the environment counts as running.
    #[serde(deserialize_with = "or_default")]
    pub startup_script: String,
    /// 0 for 30.
    #[serde(deserialize_with = "or_default")]
    pub startup_script_timeout_seconds: i64,
    /// Base64 by absolute path.
    #[serde(deserialize_with = "or_default")]
    pub files: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub gateway_url: String,
    #[serde(deserialize_with = "or_default")]
    pub gateway_token: String,
    #[serde(deserialize_with = "or_default")]
    pub expose: Vec<Expose>,
    pub healthcheck: Option<GuestCheck>,
    pub desktop: Option<Desktop>,
    #[serde(deserialize_with = "or_default")]
    pub seed_snapshot_id: String,
    /// What runs in it, beside what is asked for; not of Fuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentProfile>,
    /// How long it may wait for a place where all hosts are full; without it that is refused at once. Not of Fuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Seconds>,
    /// Of those that wait, who has more is served first: 0 to 255; not of Fuse.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub priority: i64,
}

/// A port that is reached from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expose {
    pub port: i64,
    /// What it is called among the endpoints.
    #[serde(rename = "as", deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A look at the agent in an environment that is repeated: exactly one of `http` and `exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestCheck {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<GuestHttp>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<String>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub interval_seconds: i64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub timeout_seconds: i64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub start_period_seconds: i64,
}

/// A request that is answered well by a healthy agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestHttp {
    pub port: i64,
    #[serde(deserialize_with = "or_default")]
    pub path: String,
}

/// The size of a screen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Desktop {
    pub width: i64,
    pub height: i64,
}

/// An environment as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    pub id: String,
    pub state: State,
    /// Empty while it is being torn down: its task may be given to another.
    pub task_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host_id: String,
    /// What runs it: `docker://<container>`. Empty before there is something.
    pub url: String,
    pub spec: ResourceSpec,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<EnvironmentHealth>,
    /// The profile of the agent that was chosen; not of Fuse.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// There while it waits for a place; not of Fuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
}

/// How an environment stands that has no place yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// So many are before it. The shares of those who asked may put it before or behind some of them.
    pub ahead: u64,
    /// What each host lacks for it.
    pub reasons: BTreeMap<String, String>,
}

/// Where an exposed port is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    #[serde(rename = "as", default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `host:port`.
    pub url: String,
    /// The port inside.
    pub port: u16,
    /// The host on whose loopback that is, if it is not the server's own; not of Fuse.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
}

/// What the environment's check says; not there before its first verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentHealth {
    /// `starting`, `passing` or `failing`.
    pub state: String,
    pub since: Timestamp,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A part of the list of environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentList {
    pub environments: Vec<Environment>,
    /// There if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl std::fmt::Debug for EnvironmentCreate {
    /// Names of secrets and files, never what is in them.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secrets: Vec<&String> = self.secrets.keys().collect();
        formatter
            .debug_struct("EnvironmentCreate")
            .field("task_id", &self.task_id)
            .field("spec", &self.spec)
            .field("secrets", &secrets)
            .finish_non_exhaustive()
    }
}

/// Clients in some languages send `null` for what is not there.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

pub(super) fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}
