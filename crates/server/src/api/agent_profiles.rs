//! Profiles of agents: kept, listed, shown, deleted. What runs already keeps the one that it was made with.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::AgentProfileShown;
use chassis_spec::{AgentName, AgentProfile};
use chassis_store::AgentProfileRecord;
use zeroize::Zeroizing;

use super::extract::{Body, Path};
use super::failure::{Failure, Result};
use super::page::{Paging, Part};
use super::{SharedState, to_end};
use crate::auth::Caller;

pub(crate) async fn write(
    State(shared): SharedState,
    caller: Caller,
    Path(name): Path<AgentName>,
    Body(mut profile): Body<AgentProfile>,
) -> Result<Json<AgentProfileShown>> {
    if let Some(other) = profile.name.replace(name.clone()).filter(|other| *other != name) {
        let detail =
            format!("the profile calls itself `{other}`, and the request `{name}`; give it one name");
        return Err(Failure::invalid("name_mismatch", detail));
    }
    caller.tell(name.to_string());
    let bytes = Zeroizing::new(serde_json::to_vec(&profile).unwrap_or_default());
    to_end(async move {
        let record = shared.store.agent_profile_write(&name, bytes).await?;
        Ok(Json(shown(record)?))
    })
    .await
}

pub(crate) async fn list(State(shared): SharedState, paging: Paging) -> Result<Part<AgentProfileShown>> {
    let mut part = paging.part();
    for record in shared.store.agent_profile_list().await? {
        let profile = shown(record)?;
        if !part.offer(profile.name.to_string(), || profile) {
            break;
        }
    }
    Ok(part)
}

pub(crate) async fn show(
    State(shared): SharedState,
    Path(name): Path<AgentName>,
) -> Result<Json<AgentProfileShown>> {
    Ok(Json(shown(shared.store.agent_profile_read(&name).await?)?))
}

pub(crate) async fn remove(
    State(shared): SharedState,
    caller: Caller,
    Path(name): Path<AgentName>,
) -> Result<StatusCode> {
    caller.tell(name.to_string());
    to_end(async move {
        shared.store.agent_profile_delete(&name).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

fn shown(record: AgentProfileRecord) -> chassis_store::Result<AgentProfileShown> {
    let damaged = |_| chassis_store::Error::AgentProfileDamaged(record.name.clone());
    let profile: AgentProfile = serde_json::from_slice(&record.profile).map_err(damaged)?;
    Ok(AgentProfileShown::of(record.name, &profile, record.version, record.created_at, record.updated_at))
}
