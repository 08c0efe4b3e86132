//! What is kept of a request that made an environment: what everybody may see, and what is encrypted.

use std::collections::BTreeMap;

use chassis_api::fuse::{GuestCheck, ResourceSpec};
use chassis_spec::{AgentProfile, MountPath, Seconds};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::credentials::Certificate;

/// What everybody may see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    pub(crate) spec: ResourceSpec,
    pub(crate) workspace: String,
    pub(crate) ports: Vec<KeptPort>,
    pub(crate) healthcheck: Option<GuestCheck>,
    pub(crate) gateway_url: String,
    /// Seconds that the startup script may take; none if there is no script.
    pub(crate) startup_timeout: Option<u32>,
    /// What the runtime calls the snapshot that it begins from.
    pub(crate) seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<KeptAgent>,
    /// Seconds that it may wait for a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wait: Option<u32>,
    pub(crate) priority: u8,
}

/// What the definition of an environment's instance has of the agent that was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KeptAgent {
    /// Its profile's; empty if it was given with the request.
    pub(crate) name: String,
    pub(crate) command: Option<String>,
    pub(crate) drain_command: Option<String>,
    pub(crate) drain_timeout: Option<Seconds>,
    /// Where its program is put that is downloaded.
    pub(crate) program: Option<MountPath>,
}

/// A port that is published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KeptPort {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) host_port: u16,
}

/// What only the environment may see.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Private {
    /// What its agent is called with.
    #[serde(default)]
    pub(crate) token: String,
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, String>,
    /// Variables of its environment, from the manifest.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Base64 by absolute path.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// The document, as it was sent.
    #[serde(default)]
    pub(crate) manifest: String,
    #[serde(default)]
    pub(crate) startup_script: String,
    #[serde(default)]
    pub(crate) gateway_token: String,
    /// The agent that was chosen, with its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<AgentProfile>,
    /// What it serves with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<Certificate>,
}

impl Kept {
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What cannot be read is as good as nothing: the environment can still be seen, and destroyed.
    pub(crate) fn from_json(text: &str) -> Kept {
        serde_json::from_str(text).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was asked of an environment cannot be read");
            Kept::default()
        })
    }
}

impl Private {
    pub(crate) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(crate) fn from_json(bytes: &[u8]) -> serde_json::Result<Private> {
        serde_json::from_slice(bytes)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        for text in [&mut self.token, &mut self.manifest, &mut self.startup_script, &mut self.gateway_token] {
            text.zeroize();
        }
        for values in [&mut self.secrets, &mut self.env, &mut self.files] {
            values.values_mut().for_each(Zeroize::zeroize);
        }
        if let Some(agent) = &mut self.agent {
            for token in [&mut agent.auth_token, &mut agent.gateway_token].into_iter().flatten() {
                token.zeroize();
            }
        }
    }
}
