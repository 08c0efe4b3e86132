//! The agent that a request chooses for its environment: given with it, or registered under a name.

use chassis_api::fuse::ResourceSpec;
use chassis_spec::{AgentName, AgentProfile};

use super::body::invalid;
use super::credentials::Certificate;
use super::kept::{Kept, KeptAgent, Private};
use crate::api::failure::{Failure, Result};
use crate::auth::generate_token;
use crate::download::DownloadError;
use crate::shared::Shared;
use axum::http::StatusCode;

/// What is asked for, over what the profile says that it names, and what the server has where both are silent.
pub(super) async fn resolve(shared: &Shared, asked: AgentProfile) -> Result<AgentProfile> {
    let mut agent = match &asked.name {
        Some(name) => {
            let base = registered(shared, name).await?;
            asked.over(base)
        }
        None => asked,
    };
    if agent.download_path.is_some()
        && agent.download_url.is_none()
        && let Some(usual) = shared.downloads.usual()
    {
        agent.download_url = Some(usual.url.clone());
        agent.download_sha256 = Some(usual.sha256.clone());
    }
    agent.check().map_err(|error| invalid(format!("agent.{error}")))?;
    Ok(agent)
}

async fn registered(shared: &Shared, name: &AgentName) -> Result<AgentProfile> {
    let record = match shared.store.agent_profile_read(name).await {
        Err(chassis_store::Error::AgentProfileNotFound(_)) => {
            return Err(Failure::not_found("not_found", format!("agent profile not found: {name}")));
        }
        found => found?,
    };
    let damaged = |_| chassis_store::Error::AgentProfileDamaged(name.clone());
    Ok(serde_json::from_slice(&record.profile).map_err(damaged)?)
}

/// Fetches what the agent needs, so that whoever asked is told if that fails.
pub(super) async fn fetch(shared: &Shared, agent: &AgentProfile) -> Result<()> {
    let (Some(url), Some(sha256)) = (&agent.download_url, &agent.download_sha256) else { return Ok(()) };
    match shared.downloads.get(url, sha256).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_passing() => {
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", refused(&error)))
        }
        Err(error) => Err(invalid(refused(&error))),
    }
}

fn refused(error: &DownloadError) -> String {
    format!("agent.downloadUrl: {}", crate::error::chain(error))
}

/// Puts the agent among what is kept of the environment.
pub(super) fn keep(agent: AgentProfile, kept: &mut Kept, private: &mut Private) {
    if kept.gateway_url.is_empty() {
        kept.gateway_url = agent.gateway.clone().unwrap_or_default();
    }
    if private.gateway_token.is_empty() {
        private.gateway_token = agent.gateway_token.clone().unwrap_or_default();
    }
    kept.agent = Some(KeptAgent {
        name: agent.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        command: agent.command.clone(),
        drain_command: agent.drain_command.clone(),
        drain_timeout: agent.drain_timeout,
        program: agent.download_url.as_ref().and_then(|_| agent.download_to()),
    });
    private.agent = Some(agent);
}

/// Gives the environment what its agent is called with: a token of its own unless it brought one, and a certificate if there
/// is an agent that could serve with it. `is_new`: never those that it had.
pub(super) fn credentials(spec: &ResourceSpec, private: &mut Private, is_new: bool) -> Result<()> {
    let none = || {
        let detail = "the random number generator of the system does not answer; nothing was made";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    };
    let given = private.agent.as_ref().and_then(|agent| agent.auth_token.clone()).filter(|_| !is_new);
    private.token = match given {
        Some(token) => token,
        None => generate_token().map_err(|_| none())?.to_string(),
    };
    if private.agent.as_ref().is_some_and(|agent| agent.command.is_some()) {
        private.tls = Some(Certificate::make(spec.max_runtime_seconds).map_err(|_| none())?);
    }
    Ok(())
}
