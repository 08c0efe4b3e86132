//! Agents that environments can choose by name. What is sent is a [`chassis_spec::AgentProfile`]; it is never shown whole.

use chassis_spec::{AgentName, AgentProfile, MountPath, Seconds};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A profile, without its tokens and what is in its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentProfileShown {
    pub name: AgentName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Seconds>,
    /// Without what follows a `?`, which may be a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_path: Option<MountPath>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ProfileFileShown>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    pub has_auth_token: bool,
    pub has_gateway_token: bool,
    /// Counts its changes.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A file of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileFileShown {
    pub path: MountPath,
    pub bytes: u64,
    pub executable: bool,
}

impl AgentProfileShown {
    /// What may be shown of a profile, with its name.
    pub fn of(
        name: AgentName,
        profile: &AgentProfile,
        version: u64,
        created_at: Timestamp,
        updated_at: Timestamp,
    ) -> AgentProfileShown {
        let without_query =
            |url: &String| url.split_once('?').map_or(url.as_str(), |(before, _)| before).to_owned();
        let file = |file: &chassis_spec::ProfileFile| ProfileFileShown {
            path: file.path.clone(),
            bytes: file.bytes().map_or(0, |bytes| bytes.len() as u64),
            executable: file.executable,
        };
        AgentProfileShown {
            name,
            description: profile.description.clone(),
            command: profile.command.clone(),
            drain_command: profile.drain_command.clone(),
            drain_timeout: profile.drain_timeout,
            download_url: profile.download_url.as_ref().map(without_query),
            download_sha256: profile.download_sha256.clone(),
            download_path: profile.download_to(),
            files: profile.files.iter().map(file).collect(),
            gateway: profile.gateway.clone(),
            has_auth_token: profile.auth_token.is_some(),
            has_gateway_token: profile.gateway_token.is_some(),
            version,
            created_at,
            updated_at,
        }
    }
}
