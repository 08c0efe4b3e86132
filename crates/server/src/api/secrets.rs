//! Secrets go in; they never come out of the API again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::{KeyRotate, KeyRotated, Secret, SecretDeleted, SecretListQuery, SecretWriteQuery};
use chassis_spec::{AgentName, FleetName, SecretName};
use zeroize::Zeroizing;

use super::SharedState;
use super::condition::{Expected, Versioned};
use super::extract::{Body, Path, Query, Raw};
use super::failure::Result;
use super::page::{Paging, Part, place};
use super::targets::{with_suggestion, with_suggestion_to_create};
use crate::auth::Caller;
use crate::failpoint::failpoint;
use crate::shared::Shared;

pub(crate) async fn list(
    State(shared): SharedState,
    caller: Caller,
    Query(query): Query<SecretListQuery>,
    paging: Paging,
) -> Result<Part<Secret>> {
    caller.require_named(query.fleet.as_ref())?;
    let mut secrets = match shared.store.secret_list(query.fleet.as_ref()).await {
        Ok(secrets) => secrets,
        Err(error) => return Err(with_suggestion(&shared, &caller, error).await),
    };
    secrets.retain(|secret| caller.reaches(&secret.fleet));
    let mut part = paging.part();
    for secret in secrets {
        if !part.offer(place(&[secret.fleet.as_str(), secret.name.as_str()]), || wire(&shared, secret)) {
            break;
        }
    }
    Ok(part)
}

pub(crate) async fn write(
    State(shared): SharedState,
    caller: Caller,
    Path((fleet, name)): Path<(FleetName, SecretName)>,
    Query(query): Query<SecretWriteQuery>,
    Expected(expected): Expected,
    Raw(body): Raw,
) -> Result<(StatusCode, Versioned<Secret>)> {
    failpoint("secret_write:before");
    let value = Zeroizing::new(body.to_vec());
    let info = match shared.store.secret_write(&fleet, &name, value, query.replace, expected).await {
        Ok(info) => info,
        Err(error) => return Err(with_suggestion_to_create(&shared, &caller, error).await),
    };
    failpoint("secret_write:stored");
    for agent in shared.agents() {
        // One that is blocked for want of this secret need not wait.
        if agent.key().fleet == fleet {
            agent.state().unblock(jiff::Timestamp::now());
            agent.wake();
        }
    }
    let status = if info.version == 1 { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Versioned(info.version, wire(&shared, info))))
}

pub(crate) async fn remove(
    State(shared): SharedState,
    caller: Caller,
    Path((fleet, name)): Path<(FleetName, SecretName)>,
    Expected(expected): Expected,
) -> Result<Json<SecretDeleted>> {
    if let Err(error) = shared.store.secret_delete(&fleet, &name, expected).await {
        return Err(with_suggestion(&shared, &caller, error).await);
    }
    Ok(Json(SecretDeleted { used_by: used_by(&shared, &fleet, &name) }))
}

pub(crate) async fn rotate_key(
    State(shared): SharedState,
    Body(rotate): Body<KeyRotate>,
) -> Result<Json<KeyRotated>> {
    let secrets = shared.store.secret_rotate(rotate.new_key.map(Zeroizing::new)).await?;
    Ok(Json(KeyRotated { secrets }))
}

fn wire(shared: &Shared, info: chassis_store::SecretInfo) -> Secret {
    Secret {
        used_by: used_by(shared, &info.fleet, &info.name),
        fleet: info.fleet,
        name: info.name,
        version: info.version,
        created_at: info.created_at,
        updated_at: info.updated_at,
    }
}

fn used_by(shared: &Shared, fleet: &FleetName, name: &SecretName) -> Vec<AgentName> {
    let agents = shared.agents();
    let uses = agents.iter().filter(|agent| {
        let state = agent.state();
        state.spec.secret_refs().any(|reference| reference.fleet == *fleet && reference.name == *name)
    });
    uses.map(|agent| agent.key().agent.clone()).collect()
}
