//! The bodies and queries of the API.

use chassis_core::{Exit, HealthState, InstanceKey, Phase, Reason, Rollout};
use chassis_spec::{AgentName, AgentSpec, FleetName, Labels, SecretName};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Listening;

/// The server that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo {
    pub version: String,
    /// The name of its state, which the containers carry in a label.
    pub id: String,
    /// As all that is optional here and not about the runtime, for those with a role over all fleets only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    pub started_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    /// `docker` or `sim`.
    pub runtime: String,
    /// The engine's version; none while it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// Why the runtime does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_error: Option<String>,
    /// True if a command started it in the background.
    pub background: bool,
    /// What a YAML may open beyond its agent's sandbox, in the words of `chassis serve --allow`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// What of the host `hostPath` volumes may show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_host_paths: Vec<String>,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listening: Vec<Listening>,
    /// What keeps the state, and which server acts.
    pub state: crate::StateInfo,
}

/// A fleet, an agent of it, or one instance: the three things that a name can mean.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    pub fleet: FleetName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Only with an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
}

impl Scope {
    /// True for a fleet's instances, of these agents, with these numbers.
    pub fn has(&self, key: &InstanceKey) -> bool {
        self.fleet == key.fleet
            && self.agent.as_ref().is_none_or(|agent| key.agent == *agent)
            && self.number.is_none_or(|number| key.number == number)
    }
}

/// What a name that somebody typed means. An exact agent wins over an instance; a name without a fleet must be unique.
pub type Target = Scope;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetCreate {
    pub name: FleetName,
    #[serde(default)]
    pub labels: Labels,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    pub name: FleetName,
    pub labels: Labels,
    pub version: u64,
    pub created_at: Timestamp,
    pub deleting: bool,
    pub agents: u32,
    /// Instances that should run, and those that do.
    pub wanted: u32,
    pub running: u32,
    /// Set while the database does not answer: for how many seconds this may have been out of date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_seconds: Option<u64>,
}

/// Declares agents of one fleet: what `deploy`, `apply` and `diff` send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Apply {
    /// Make the fleet if there is none.
    #[serde(default)]
    pub create_fleet: bool,
    /// Labels of a fleet that is made.
    #[serde(default)]
    pub labels: Labels,
    pub agents: Vec<AgentSpec>,
    /// Delete agents of the fleet that are not declared; their data is kept.
    #[serde(default)]
    pub prune: bool,
    /// Change nothing; answer what would change.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    pub fleet: FleetName,
    pub fleet_created: bool,
    pub agents: Vec<AgentOutcome>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentOutcome {
    pub agent: AgentName,
    pub change: AgentChange,
    pub revision: u64,
    pub replicas_before: u32,
    pub replicas_after: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<AgentSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<AgentSpec>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AgentChange {
    Created,
    /// Has a new revision.
    Updated,
    /// Only its count changed.
    Scaled,
    Unchanged,
    Deleted,
    /// In the fleet but not declared, and left alone because `prune` was not asked for.
    Undeclared,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scale {
    pub count: u32,
    /// Which agent; may be left out in a fleet that has just one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
}

/// Asks for a start, stop or restart of what the scope names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    pub scope: Scope,
    pub change: ChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    Start,
    Stop,
    Restart,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    pub fleet: FleetName,
    pub name: AgentName,
    pub revision: u64,
    pub version: u64,
    pub created_at: Timestamp,
    pub deployed_at: Timestamp,
    pub deleting: bool,
    pub spec: AgentSpec,
    /// How far the present revision is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Instances that should exist, that should run, and that do run, at whatever revision.
    pub replicas: u32,
    pub wanted: u32,
    pub running: u32,
    /// Set while the database does not answer: for how many seconds this may have been out of date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_seconds: Option<u64>,
}

/// One instance as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    pub fleet: FleetName,
    pub agent: AgentName,
    pub number: u32,
    pub phase: Phase,
    /// Why it is in this phase, when that is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// The revision of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    pub restarts: u32,
    /// None if nothing is checked, or nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthState>,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// How it ended, if it does not run; else how its run before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Where it is; empty while it waits for a place.
    pub node: String,
    pub image: String,
    /// It is there only during a rollout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extra: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Set while the database does not answer: for how many seconds this may have been out of date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_seconds: Option<u64>,
}

/// Everything about one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceDetail {
    #[serde(flatten)]
    pub instance: Instance,
    pub container_name: String,
    pub spec: AgentSpec,
    /// The agent's present revision.
    pub agent_revision: u64,
    pub mounts: Vec<MountInfo>,
    /// What the YAML opened beyond the defaults, a line each; empty for an agent as closed as can be.
    pub open: Vec<String>,
    /// The newest events, oldest first.
    pub events: Vec<chassis_core::Event>,
    /// How its last runs ended, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exits: Vec<chassis_core::ExitRecord>,
}

/// A path that the agent sees, and what is behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MountInfo {
    pub path: String,
    /// `tier 1`, `tier 2`, `secret` or `host`.
    pub kind: String,
    /// The directory of the host, the size of the memory, or the secret's reference.
    pub source: String,
    pub read_only: bool,
}

/// What to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProgressQuery {
    pub scopes: Vec<Scope>,
}

/// How far instances are on the way to what is wanted of them. The stream ends after one with a state but `Working`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub state: ProgressState,
    pub total: u32,
    /// As wanted: running at the present revision, stopped, or gone.
    pub ready: u32,
    pub pulls: Vec<Pull>,
    /// Those that run as an earlier revision has them, and wait for their turn.
    #[serde(default)]
    pub held: u32,
    /// Instances that cannot get there as things are, with the reason. At most ten; they are tried again all the same.
    pub stuck: Vec<Stuck>,
    /// Fleets whose deletion cannot end as things are, though their instances are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fleets: Vec<FleetStuck>,
}

/// A fleet whose deletion cannot end, and what is in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetStuck {
    pub fleet: FleetName,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProgressState {
    Working,
    Done,
    /// Every instance is either ready or stuck, and at least one is stuck.
    Stuck,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pull {
    pub image: String,
    pub layers: u32,
    pub layers_done: u32,
    pub bytes_done: u64,
    pub bytes_total: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    pub instance: InstanceKey,
    pub phase: Phase,
    pub message: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Only events with a greater id. `Last-Event-ID` says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only events from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only events of these kinds, separated by commas; in capitals or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<String>,
    /// At most so many, the newest, or with `after` the next; 100 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default)]
    pub follow: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    pub fleet: FleetName,
    pub name: SecretName,
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Agents whose present revision uses it.
    pub used_by: Vec<AgentName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretDeleted {
    /// Agents that cannot be started again without it.
    pub used_by: Vec<AgentName>,
}

/// Asks for a new encryption key.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRotate {
    /// 64 hex digits; needed if the present key comes from the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRotated {
    pub secrets: u32,
}

impl std::fmt::Debug for KeyRotate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("KeyRotate")
    }
}
