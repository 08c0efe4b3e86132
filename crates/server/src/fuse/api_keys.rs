//! API keys as this dialect has them: made with a label, and listed also when they are revoked.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::fuse::{Key, KeyCreate, KeyCreated, KeyList};
use chassis_core::{Grant, Reach, Role, environment};
use chassis_spec::ApiKeyName;
use jiff::{SignedDuration, Timestamp};

use super::body::{Bytes, SMALL, parse_or_default};
use crate::api::extract::Path;
use crate::api::failure::{Failure, Result};
use crate::api::{SharedState, to_end};
use crate::auth::{Caller, KeyFailure};

/// Ids are `ak_…` on the wire, and names `ak-…` where names have no underscores.
const ID: &str = "ak_";
const NAME: &str = "ak-";

pub(super) async fn create(
    State(shared): SharedState,
    caller: Caller,
    Bytes(body): Bytes<SMALL>,
) -> Result<(StatusCode, Json<KeyCreated>)> {
    let create: KeyCreate = parse_or_default(&body)?;
    let grant = Grant {
        role: create.role.unwrap_or(Role::Operator),
        reach: Reach::Fleets([environment::fleet()].into()),
    };
    let expires_at = create
        .expires_in_seconds
        .map(|seconds| Timestamp::now().saturating_add(SignedDuration::from_secs(seconds.into())))
        .transpose()
        .map_err(|error| super::body::invalid(error.to_string()))?;
    let label = Some(create.label).filter(|label| !label.is_empty());
    caller.tell(format!("{}: {grant}", label.as_deref().unwrap_or("no label")));
    to_end(async move {
        let shared = Arc::clone(&shared);
        let made = shared.auth.key_create_labelled(&*shared.store, label, grant, expires_at, caller.name());
        let (about, key) = made.await.map_err(|failure| match failure {
            KeyFailure::Store(error) => Failure::from(error),
            KeyFailure::NoRandomness => {
                let detail = "the random number generator of the system does not answer; nothing was made";
                Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            }
        })?;
        Ok((StatusCode::CREATED, Json(KeyCreated { about: wire(about), key: key.to_string() })))
    })
    .await
}

pub(super) async fn list(State(shared): SharedState) -> Result<Json<KeyList>> {
    let mut keys = shared.store.api_key_list().await?;
    keys.retain(|key| key.name.as_str().starts_with(NAME));
    keys.sort_by_key(|key| std::cmp::Reverse(key.created_at));
    Ok(Json(KeyList { api_keys: keys.into_iter().map(wire).collect() }))
}

pub(super) async fn revoke(State(shared): SharedState, Path(id): Path<String>) -> Result<StatusCode> {
    let missing = || Failure::not_found("not_found", format!("api key not found: {id}"));
    let name = id.strip_prefix(ID).map(|rest| format!("{NAME}{rest}")).ok_or_else(missing)?;
    let name: ApiKeyName = name.parse().map_err(|_| missing())?;
    to_end(async move {
        shared.auth.key_revoke_listed(&*shared.store, &name).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// A key's id on the wire.
fn id(name: &str) -> String {
    name.strip_prefix(NAME).map_or_else(|| name.to_owned(), |rest| format!("{ID}{rest}"))
}

/// Whose own the layers are that the caller keeps: its key's id; none for those who see everybody's.
pub(super) fn scope(caller: &Caller) -> Option<String> {
    caller.key_name().map(id)
}

fn wire(key: chassis_store::ApiKey) -> Key {
    Key {
        id: id(key.name.as_str()),
        label: key.label,
        created_at: key.created_at,
        last_used_at: key.last_used_at,
        revoked_at: key.revoked_at,
        expires_at: key.expires_at,
        role: key.grant.role,
    }
}
