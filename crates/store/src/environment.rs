//! What the store keeps of environments.

use std::fmt;

use chassis_core::AgentKey;
use chassis_core::environment::{Cause, State};
use chassis_spec::{AgentName, AgentSpec};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::node::Placed;

/// An environment as it is kept; its secrets aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    pub id: String,
    pub task_id: String,
    /// Whose only instance it is.
    pub key: AgentKey,
    pub node: String,
    pub state: State,
    /// What was asked for, in JSON of the API's own; without secrets.
    pub request: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Since when it runs; none if it never did.
    pub running_at: Option<Timestamp>,
    /// What went wrong last.
    pub error: Option<String>,
}

/// An environment that is to be.
#[derive(Clone)]
pub struct EnvironmentNew {
    pub id: String,
    pub task_id: String,
    pub node: String,
    /// The place of its instance; none if it waits for one, and in a chassis that is alone.
    pub placed: Option<Placed>,
    pub request: String,
    /// Its token, secrets and files; kept encrypted.
    pub private: Zeroizing<Vec<u8>>,
    /// How its instance runs. Its name and fleet are the store's to give.
    pub spec: AgentSpec,
    /// The snapshot that it begins from, which must be ready.
    pub seed: Option<String>,
    /// The kind of the dead letter that is tried again with it.
    pub redrives: Option<String>,
}

/// Which environments to list, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentFilter {
    pub task_id: Option<String>,
    pub state: Option<State>,
    pub node: Option<String>,
    /// Only those with a greater id.
    pub after: Option<String>,
    /// At most so many; 0 is none.
    pub limit: u32,
}

/// Why an environment is ended though nobody asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentEnd {
    pub cause: Cause,
    pub reason: String,
}

/// Something that an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Together with `entity`, its name.
    pub kind: String,
    pub entity: String,
    pub task_id: String,
    pub reason: String,
    /// How often it came again.
    pub retry_count: u32,
    /// What there was to know, in JSON.
    pub payload: String,
    pub first_seen_at: Timestamp,
    pub last_seen_at: Timestamp,
    /// When it was last tried again.
    pub redriven_at: Option<Timestamp>,
}

/// An agent that environments can choose by name.
#[derive(Clone)]
pub struct AgentProfileRecord {
    pub name: AgentName,
    /// Counts its changes.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// What it is, in JSON of the API's own; kept encrypted.
    pub profile: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for AgentProfileRecord {
    /// Never the profile.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AgentProfileRecord").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for EnvironmentNew {
    /// Never what is private.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EnvironmentNew").field("id", &self.id).finish_non_exhaustive()
    }
}
