//! API keys: made, listed, revoked. A key itself is in one answer only.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::{ApiKey, ApiKeyCreate, ApiKeyCreated};
use chassis_core::{Grant, Reach, Role};
use chassis_spec::{ApiKeyName, FleetName};
use jiff::Timestamp;

use super::extract::{Body, Path};
use super::failure::{Failure, Result};
use super::page::{Paging, Part};
use super::targets::nearest;
use super::{SharedState, to_end};
use crate::auth::{Caller, KeyFailure};
use crate::shared::Shared;

/// A key for more fleets than this is one for all.
const FLEETS_MOST: usize = 64;

pub(crate) async fn create(
    State(shared): SharedState,
    caller: Caller,
    Body(create): Body<ApiKeyCreate>,
) -> Result<(StatusCode, Json<ApiKeyCreated>)> {
    let reach = match create.fleets {
        None => Reach::All,
        Some(fleets) if fleets.is_empty() || fleets.len() > FLEETS_MOST => {
            let detail = format!(
                "a key is for 1 to {FLEETS_MOST} fleets, not {}; leave `fleets` out for all of them",
                fleets.len()
            );
            return Err(Failure::invalid("fleets_wrong", detail));
        }
        Some(fleets) => Reach::Fleets(fleets.into_iter().collect()),
    };
    if let (Reach::Fleets(fleets), true) = (&reach, create.role < Role::Admin) {
        check_fleets(&shared, fleets).await?;
    }
    if create.expires_at.is_some_and(|at| at <= Timestamp::now()) {
        return Err(Failure::invalid("expired_already", "`expiresAt` is in the past; give a time to come"));
    }
    let grant = Grant { role: create.role, reach };
    caller.tell(format!("{}: {grant}", create.name));
    to_end(async move {
        let shared = Arc::clone(&shared);
        let made =
            shared.auth.key_create(&*shared.store, create.name, grant, create.expires_at, caller.name());
        let (key, token) = made.await.map_err(|failure| match failure {
            KeyFailure::Store(error) => error.into(),
            KeyFailure::NoRandomness => {
                let detail = "the random number generator of the system does not answer; nothing was made";
                Failure::new(StatusCode::SERVICE_UNAVAILABLE, "no_randomness", detail)
            }
        })?;
        Ok((StatusCode::CREATED, Json(ApiKeyCreated { key: wire(key), token: token.to_string() })))
    })
    .await
}

pub(crate) async fn list(State(shared): SharedState, paging: Paging) -> Result<Part<ApiKey>> {
    let mut part = paging.part();
    let keys = shared.store.api_key_list().await?.into_iter();
    for key in keys.filter(|key| key.revoked_at.is_none()) {
        if !part.offer(key.name.to_string(), || wire(key)) {
            break;
        }
    }
    Ok(part)
}

/// A key for a fleet that is not there is a slip, unless it may make the fleet.
async fn check_fleets(shared: &Shared, fleets: &BTreeSet<FleetName>) -> Result<()> {
    let known: Vec<String> =
        shared.fleet_list().await?.into_iter().map(|fleet| fleet.name.to_string()).collect();
    let Some(absent) = fleets.iter().find(|fleet| !known.iter().any(|known| known == fleet.as_str())) else {
        return Ok(());
    };
    let next = match nearest(absent.as_str(), &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("make it first, with `chassis create fleet {absent}`"),
    };
    Err(Failure::invalid("fleets_wrong", format!("there is no fleet `{absent}`; {next}")))
}

pub(crate) async fn revoke(State(shared): SharedState, Path(name): Path<ApiKeyName>) -> Result<StatusCode> {
    to_end(async move {
        shared.auth.key_revoke(&*shared.store, &name).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

fn wire(key: chassis_store::ApiKey) -> ApiKey {
    ApiKey {
        name: key.name,
        prefix: key.prefix,
        role: key.grant.role,
        fleets: match key.grant.reach {
            Reach::All => None,
            Reach::Fleets(fleets) => Some(fleets.into_iter().collect()),
        },
        created_at: key.created_at,
        created_by: key.created_by,
        expires_at: key.expires_at,
        last_used_at: key.last_used_at,
    }
}
