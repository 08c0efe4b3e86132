//! Which node an agent's instances run on, where there are several.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Architecture, Labels, NodeName};

/// What a node must be like, which of those that would do is taken, and what follows when it is away. A change of it moves
/// nothing that has a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PlacementSpec {
    /// This node and no other, by its name in `chassis node list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// A node that was registered with this region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A node with this processor: `amd64` or `arm64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// A node that was registered with all of these labels.
    #[serde(alias = "nodeSelector", skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Which of the nodes that would do; without it as the server was started with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Who waits for a place is served in this order, the highest first.
    #[serde(skip_serializing_if = "is_usual")]
    pub priority: u8,
    /// What becomes of the instances of a node that does not answer for 99 s.
    #[serde(alias = "when_node_down", skip_serializing_if = "is_usual")]
    pub when_node_down: WhenDown,
}

/// Which of the nodes that would do is chosen.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The one that has the most room left: few are hit when one fails.
    #[default]
    Spread,
    /// The one that has the least room left: others stay empty for what is large.
    Binpack,
}

/// What becomes of an instance when its node is down.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum WhenDown {
    /// It stays the node's, runs on there for as long as the machine does, and is there when the node is.
    #[default]
    Stay,
    /// It runs on another node. Where no server has answered for its node for 60 s it ends, so that it never runs twice.
    Move,
}

/// A word that is no [`Strategy`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no way to choose a node; write spread or binpack")]
pub struct UnknownStrategy(String);

impl PlacementSpec {
    pub(crate) fn is_default(&self) -> bool {
        *self == PlacementSpec::default()
    }
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(word: &str) -> Result<Self, UnknownStrategy> {
        match word {
            "spread" => Ok(Strategy::Spread),
            "binpack" => Ok(Strategy::Binpack),
            other => Err(UnknownStrategy(other.to_owned())),
        }
    }
}

fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
