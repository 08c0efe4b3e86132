//! Dead letters of environments, as operators see to them. The same is at `/v1/dead-letters`, for programs of Fuse's.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::{DeadLetter, Redriven};
use chassis_core::environment;

use super::SharedState;
use super::extract::Path;
use super::failure::Result;
use super::page::{Paging, Part};
use crate::auth::Caller;
use crate::fuse;

pub(crate) async fn list(
    State(shared): SharedState,
    caller: Caller,
    paging: Paging,
) -> Result<Part<DeadLetter>> {
    let mut part = paging.part();
    if !caller.reaches(&environment::fleet()) {
        return Ok(part);
    }
    let mut letters = shared.store.dead_letter_list().await?;
    letters.sort_by(|a, b| (&a.kind, &a.entity).cmp(&(&b.kind, &b.entity)));
    for letter in letters {
        if !part.offer(format!("{}/{}", letter.kind, letter.entity), || wire(letter)) {
            break;
        }
    }
    Ok(part)
}

/// Answers when its environment runs again, or has failed to and is cleaned up.
pub(crate) async fn redrive(
    State(shared): SharedState,
    caller: Caller,
    Path((kind, environment)): Path<(String, String)>,
) -> Result<(StatusCode, Json<Redriven>)> {
    caller.require(&environment::fleet())?;
    let made = fuse::redrive(Arc::clone(&shared), caller, kind, environment).await?;
    Ok((StatusCode::CREATED, Json(Redriven { environment: made.id, task_id: made.task_id })))
}

pub(crate) async fn remove(
    State(shared): SharedState,
    caller: Caller,
    Path((kind, environment)): Path<(String, String)>,
) -> Result<StatusCode> {
    caller.require(&environment::fleet())?;
    shared.store.dead_letter_delete(&kind, &environment).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn wire(letter: chassis_store::DeadLetter) -> DeadLetter {
    DeadLetter {
        kind: letter.kind,
        environment: letter.entity,
        task_id: letter.task_id,
        reason: letter.reason,
        retry_count: letter.retry_count,
        first_seen_at: letter.first_seen_at,
        last_seen_at: letter.last_seen_at,
        redriven_at: letter.redriven_at,
    }
}
