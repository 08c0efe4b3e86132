//! `POST /v1/environments/{id}?action=…`: what is done to an environment that is there.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chassis_core::{Role, environment};
use serde::Deserialize;

use super::body::{Bytes, LARGE, invalid};
use super::{drain, exec, fork, token};
use crate::api::SharedState;
use crate::api::extract::{Path, Query};
use crate::api::failure::{Failure, Result};
use crate::auth::Caller;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ActionQuery {
    pub(super) action: String,
}

pub(super) async fn act(
    State(shared): SharedState,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ActionQuery>,
    Bytes(body): Bytes<LARGE>,
) -> Result<Response> {
    caller.tell(query.action.clone());
    match query.action.as_str() {
        "exec" => {
            enters(&caller)?;
            let request = super::body::parse(&body)?;
            Ok(Json(exec::run(&shared, &caller, &id, request).await?).into_response())
        }
        "drain" => Ok(Json(drain::drain(shared, id).await?).into_response()),
        "rotate-token" => token::rotate(shared, id).await.map(IntoResponse::into_response),
        "fork" => {
            let request = super::body::parse_or_default(&body)?;
            Ok((StatusCode::CREATED, Json(fork::fork(shared, caller, id, request).await?)).into_response())
        }
        "migrate" => {
            shared.store.environment_get(&id).await?;
            let message = "there is no other host";
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message))
        }
        "" => Err(invalid("action is required: drain, exec, fork or rotate-token")),
        other => Err(invalid(format!("unknown action: {other}"))),
    }
}

/// Whoever makes environments may not for that alone run commands in everybody's.
pub(super) fn enters(caller: &Caller) -> Result<()> {
    if caller.is(Role::Admin, &environment::fleet()) {
        return Ok(());
    }
    let message =
        format!("{} may not run commands in environments; a key with the role admin may", caller.name());
    Err(Failure::new(StatusCode::FORBIDDEN, "unauthorized", message))
}

/// Why there is no snapshot of anything.
pub(super) fn no_snapshots(runtime: &str) -> Failure {
    let message = format!("{runtime} takes no snapshots of what runs; a microVM will");
    Failure::new(StatusCode::NOT_IMPLEMENTED, "unimplemented", message)
}
