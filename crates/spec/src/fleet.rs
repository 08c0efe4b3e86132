//! A whole fleet in one document: what `chassis apply` makes true.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{AgentSpec, FleetName, Labels};

/// A fleet and all its agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct FleetSpec {
    /// The fleet's name; `name` is understood too.
    #[serde(rename = "fleet", alias = "name")]
    pub name: FleetName,
    /// Put on the fleet.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// All agents of the fleet. One that names a fleet names this one.
    #[serde(deserialize_with = "unchecked_agents")]
    pub agents: Vec<AgentSpec>,
}

impl Serialize for FleetSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FleetSpec::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for FleetSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fleet = FleetSpec::deserialize(deserializer)?;
        fleet.check().map_err(serde::de::Error::custom)?;
        Ok(fleet)
    }
}

/// The fleet's own check goes through its agents, and knows the way to each of their fields.
fn unchecked_agents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AgentSpec>, D::Error> {
    #[derive(Deserialize)]
    struct Unchecked(#[serde(deserialize_with = "AgentSpec::deserialize")] AgentSpec);

    Ok(Vec::<Unchecked>::deserialize(deserializer)?.into_iter().map(|agent| agent.0).collect())
}
