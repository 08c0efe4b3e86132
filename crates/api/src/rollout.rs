//! Revisions of an agent, and how one takes over from another.

use chassis_core::{Pin, Rollout};
use chassis_spec::{AgentName, AgentSpec, FleetName, ImageName};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::AgentOutcome;

/// How far an agent's present revision is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    pub fleet: FleetName,
    pub agent: AgentName,
    pub revision: u64,
    /// None for a revision that was deployed before there were rollouts, which is as good as complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Instances that should run; those of them that have a container of the present revision; those that are ready with it.
    pub wanted: u32,
    pub updated: u32,
    pub ready: u32,
    /// Extra instances that run meanwhile.
    pub extra: u32,
    /// When it fails if nothing happens before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fails_at: Option<Timestamp>,
}

/// One definition that an agent has or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    pub revision: u64,
    /// The revision at which containers were last to be made anew: those of revisions with the same one serve each other.
    pub template: u64,
    pub deployed_at: Timestamp,
    /// `deploy`, `upgrade`, `undo of 3, back to 2`, `rollback from 3: …`.
    pub cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RevisionOutcome>,
    /// What its instances run, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    pub spec: AgentSpec,
    /// It is the present one.
    pub present: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RevisionOutcome {
    /// Every instance was ready with it.
    Complete,
    Failed,
}

/// Asks for the definition of an earlier revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutUndo {
    /// Without it the last other one that was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<u64>,
    /// Change nothing; answer what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// Whether a request changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    pub changed: bool,
}

/// Asks for another image, or for what the present image's name means by now. Exactly one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upgrade {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageName>,
    #[serde(default)]
    pub refresh: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upgraded {
    /// `Updated` or `Unchanged`.
    pub outcome: AgentOutcome,
    /// What the name means, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
}
