//! Desktops of environments: no node here has any.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::fuse::Display;

use crate::api::SharedState;
use crate::api::extract::Path;
use crate::api::failure::{Failure, Result};

const NONE: &str = "environments of this server have no display";

pub(super) async fn show(State(shared): SharedState, Path(id): Path<String>) -> Result<Json<Display>> {
    shared.store.environment_get(&id).await?;
    Ok(Json(Display { up: false, width: 0, height: 0, error: NONE.to_owned() }))
}

pub(super) async fn act(State(shared): SharedState, Path(id): Path<String>) -> Failure {
    match shared.store.environment_get(&id).await {
        Ok(_) => Failure::new(StatusCode::NOT_IMPLEMENTED, "unimplemented", NONE),
        Err(error) => error.into(),
    }
}
