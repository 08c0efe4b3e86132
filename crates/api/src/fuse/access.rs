//! Keys and sessions, on the wire.

use std::fmt;

use chassis_core::Role;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::environment::or_default;

/// The body of `POST /login`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Login {
    #[serde(deserialize_with = "or_default")]
    pub token: String,
}

/// The body of `POST /v1/api-keys`. What Fuse does not know makes a key that may more or less than usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyCreate {
    #[serde(deserialize_with = "or_default")]
    pub label: String,
    /// In the fleet of environments; operator without it, who may do all but run commands.
    pub role: Option<Role>,
    /// Without it, until it is revoked.
    pub expires_in_seconds: Option<u32>,
}

/// A key, without what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    pub role: Role,
}

/// The only answer that ever has the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCreated {
    #[serde(flatten)]
    pub about: Key,
    pub key: String,
}

/// All keys, the newest first; revoked ones too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    pub api_keys: Vec<Key>,
}

// === impl Debug for what holds secrets ===

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Login").finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyCreated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyCreated").field("about", &self.about).finish_non_exhaustive()
    }
}
