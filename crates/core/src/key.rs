//! Who an agent or an instance is. An instance's key is its identity: its container's name, its directory and its data
//! are found by it, whatever happens to the container.

use std::fmt;

use chassis_spec::{AgentName, FleetName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An agent of a fleet, written `fleet/agent`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AgentKey {
    pub fleet: FleetName,
    pub agent: AgentName,
}

/// An instance of an agent, written `fleet/agent-number`. Numbers begin at 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct InstanceKey {
    pub fleet: FleetName,
    pub agent: AgentName,
    pub number: u32,
}

impl AgentKey {
    pub fn instance(&self, number: u32) -> InstanceKey {
        InstanceKey { fleet: self.fleet.clone(), agent: self.agent.clone(), number }
    }

    /// True if both would give their instances the same container names: `a` and `b-c`, `a-b` and `c`.
    pub fn container_names_collide(&self, other: &AgentKey) -> bool {
        self != other
            && format!("{}-{}", self.fleet, self.agent) == format!("{}-{}", other.fleet, other.agent)
    }

    /// True if an instance of one would have the other's name: agent `web` and agent `web-1`.
    pub fn instance_names_collide(&self, other: &AgentKey) -> bool {
        let taken = |agent: &AgentName, other: &AgentName| {
            parse_instance_name(other.as_str()).is_some_and(|(name, _)| name == agent.as_str())
        };
        self.fleet == other.fleet && (taken(&self.agent, &other.agent) || taken(&other.agent, &self.agent))
    }
}

impl InstanceKey {
    pub fn agent_key(&self) -> AgentKey {
        AgentKey { fleet: self.fleet.clone(), agent: self.agent.clone() }
    }

    /// `agent-number`: what people type.
    pub fn short_name(&self) -> String {
        format!("{}-{}", self.agent, self.number)
    }

    /// `chassis-<fleet>-<agent>-<number>`.
    pub fn container_name(&self) -> String {
        format!("chassis-{}-{}-{}", self.fleet, self.agent, self.number)
    }
}

impl fmt::Display for AgentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.fleet, self.agent)
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}-{}", self.fleet, self.agent, self.number)
    }
}

/// Splits `agent-7` into `agent` and 7. Numbers have no leading zero, so that a name has one reading.
pub fn parse_instance_name(name: &str) -> Option<(&str, u32)> {
    let (agent, digits) = name.rsplit_once('-')?;
    if agent.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((agent, digits.parse().ok()?))
}
