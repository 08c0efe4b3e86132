//! Dead letters: listed, and taken away by whoever has seen to them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::fuse::{DeadLetter, DeadLetterList};

use crate::api::SharedState;
use crate::api::extract::Path;
use crate::api::failure::Result;

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

fn wire(letter: chassis_store::DeadLetter) -> DeadLetter {
    DeadLetter {
        kind: letter.kind,
        entity_id: letter.entity,
        task_id: letter.task_id,
        reason: letter.reason,
        retry_count: letter.retry_count,
        first_seen_at: letter.first_seen_at,
        last_seen_at: letter.last_seen_at,
    }
}
