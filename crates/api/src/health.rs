//! What is known of an instance's health.

use chassis_core::{CheckKind, HealthState, Probe, Verdict};
use chassis_spec::HealthCheck;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The verdict on one instance, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthReport {
    /// `agent-number`.
    pub instance: String,
    /// None if nothing is checked, or nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<HealthState>,
    /// When an unhealthy instance may be restarted, if its fleet's budget is used up until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_held_until: Option<Timestamp>,
    pub checks: Vec<CheckReport>,
}

/// One check, and what it has shown of the present run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    pub kind: CheckKind,
    /// What is looked at, and how often.
    pub check: HealthCheck,
    /// It is the image's HEALTHCHECK.
    pub of_image: bool,
    /// None if the instance does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Failures in a row.
    pub failures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_since: Option<Timestamp>,
    /// The last looks, oldest first.
    pub probes: Vec<Probe>,
}
