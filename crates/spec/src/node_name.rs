//! What a node is called, and what its processor is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// As long as a host name may be.
const LENGTH_MAX: usize = 253;

/// A node's name: letters, digits, `.`, `_` and `-`, beginning and ending with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct NodeName(Arc<str>);

/// A text that is no [`NodeName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name for a node; write up to {LENGTH_MAX} letters, digits, `.`, `_` and `-`, the first and last of them a letter or digit"
)]
pub struct InvalidNodeName(String);

/// The processor that a node has, or that an image is made for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    #[default]
    #[serde(alias = "x86_64")]
    Amd64,
    #[serde(alias = "aarch64")]
    Arm64,
}

/// A word that is no [`Architecture`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no architecture that nodes have; write amd64 or arm64")]
pub struct UnknownArchitecture(String);

// === impl NodeName ===

impl NodeName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a node on the machine that calls itself so: what no name may have is a `-`, and nothing is `local`.
    pub fn of_machine(machine: &str) -> NodeName {
        let is_kept = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let cleaned: String = machine
            .chars()
            .take(LENGTH_MAX)
            .map(|letter| if is_kept(letter) { letter } else { '-' })
            .collect();
        let trimmed = cleaned.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
        NodeName(if trimmed.is_empty() { "local".into() } else { trimmed.into() })
    }
}

impl FromStr for NodeName {
    type Err = InvalidNodeName;

    fn from_str(text: &str) -> Result<Self, InvalidNodeName> {
        let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let is_valid = bytes.len() <= LENGTH_MAX
            && is_end(bytes.first())
            && is_end(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
        if is_valid { Ok(NodeName(text.into())) } else { Err(InvalidNodeName(text.to_owned())) }
    }
}

impl TryFrom<String> for NodeName {
    type Error = InvalidNodeName;

    fn try_from(text: String) -> Result<Self, InvalidNodeName> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> String {
        name.as_str().to_owned()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

// === impl Architecture ===

impl Architecture {
    /// As in an image's platform.
    pub fn word(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    fn from_str(word: &str) -> Result<Self, UnknownArchitecture> {
        match word {
            "amd64" | "x86_64" => Ok(Architecture::Amd64),
            "arm64" | "aarch64" => Ok(Architecture::Arm64),
            other => Err(UnknownArchitecture(other.to_owned())),
        }
    }
}
