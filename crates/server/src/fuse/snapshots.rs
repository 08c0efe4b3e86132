//! Snapshots: no runtime here takes any, so that there are none; every request about one is answered as such.

use axum::Json;
use axum::extract::State;
use chassis_api::fuse::{LayerFound, SnapshotList};
use serde::Deserialize;

use super::actions::no_snapshots;
use super::body::invalid;
use crate::api::SharedState;
use crate::api::extract::{Path, Query};
use crate::api::failure::{Failure, Result};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LayerQuery {
    layer_key: String,
    arch: String,
}

pub(super) async fn create(State(shared): SharedState, Path(id): Path<String>) -> Failure {
    match shared.store.environment_get(&id).await {
        Ok(_) => no_snapshots(shared.runtime_name),
        Err(error) => error.into(),
    }
}

pub(super) async fn list() -> Json<SnapshotList> {
    Json(SnapshotList { snapshots: Vec::new() })
}

pub(super) async fn resolve(Query(query): Query<LayerQuery>) -> Result<Json<LayerFound>> {
    if query.layer_key.is_empty() || query.arch.is_empty() {
        return Err(invalid("layer_key and arch are required"));
    }
    Ok(Json(LayerFound { found: false }))
}

pub(super) async fn missing(Path(id): Path<String>) -> Failure {
    Failure::not_found("not_found", format!("snapshot not found: {id}"))
}
