//! Which node an agent's instances run on, where there are several.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Architecture, Labels, NodeName};

/// What a node must be like, and which of those that would do is taken. A change of it moves nothing that has a place.
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_usual(priority: &u8) -> bool {
    *priority == 0
}
