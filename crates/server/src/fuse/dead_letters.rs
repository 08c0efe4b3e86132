//! Dead letters: environments that were given up. They are listed, tried again, or taken away by whoever has seen to them.
//!
//! To try one again makes the environment anew, with the same id, of what was asked for then: the same files, secrets and
//! agent, with credentials of its own that are new. The letter stays, with the time of that, until somebody deletes it, or
//! until it comes again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chassis_api::fuse::{DeadLetter, DeadLetterList, Environment};
use serde::Deserialize;

use super::agent;
use super::body::invalid;
use super::environments::{self, Making};
use super::kept::{Kept, Private};
use crate::api::extract::{Path, Query};
use crate::api::failure::{Failure, Result};
use crate::api::{SharedState, to_end};
use crate::auth::Caller;
use crate::shared::Shared;

pub(super) async fn list(State(shared): SharedState) -> Result<Json<DeadLetterList>> {
    let found = shared.store.dead_letter_list().await?;
    Ok(Json(DeadLetterList { dead_letters: found.into_iter().map(wire).collect() }))
}

pub(super) async fn remove(
    State(shared): SharedState,
    Path((kind, id)): Path<(String, String)>,
) -> Result<StatusCode> {
    shared.store.dead_letter_delete(&kind, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ActionQuery {
    action: String,
}

pub(super) async fn act(
    State(shared): SharedState,
    caller: Caller,
    Path((kind, id)): Path<(String, String)>,
    Query(query): Query<ActionQuery>,
) -> Result<Response> {
    match query.action.as_str() {
        "redrive" => {
            let made = redrive(shared, caller, kind, id).await?;
            Ok((StatusCode::CREATED, Json(made)).into_response())
        }
        "" => Err(invalid("action is required: redrive")),
        other => Err(invalid(format!("unknown action: {other}"))),
    }
}

/// Makes the environment of a letter again, and waits until it runs.
pub(crate) async fn redrive(
    shared: Arc<Shared>,
    caller: Caller,
    kind: String,
    id: String,
) -> Result<Environment> {
    let (letter, private) = shared.store.dead_letter_read(&kind, &id).await?;
    caller.tell(format!("redrive {kind} {}", letter.task_id));
    let Some(private) = private else {
        let message = match kind.as_str() {
            "snapshot_delete" => format!("to delete a snapshot is tried again by DELETE /v1/snapshots/{id}"),
            _ => format!("dead letter {kind} of {id} was kept without its request; delete it, and ask anew"),
        };
        return Err(Failure::new(StatusCode::CONFLICT, "conflict", message));
    };
    let damaged = |_| chassis_store::Error::EnvironmentDamaged(id.clone());
    let private = Private::from_json(&private).map_err(damaged)?;
    let (task_id, mut kept) = (letter.task_id, Kept::from_json(&letter.payload));
    kept.wait = None;
    agent::ports_choose(&shared, &mut kept)?;
    let making = Making { caller, task_id, kept, private, seed: None, redrives: Some((kind, id)) };
    to_end(async move { environments::make(&shared, making).await }).await
}

fn wire(letter: chassis_store::DeadLetter) -> DeadLetter {
    DeadLetter {
        kind: letter.kind,
        entity_id: letter.entity,
        task_id: letter.task_id,
        reason: letter.reason,
        retry_count: letter.retry_count,
        first_seen_at: letter.first_seen_at,
        last_seen_at: letter.last_seen_at,
        redriven_at: letter.redriven_at,
    }
}
