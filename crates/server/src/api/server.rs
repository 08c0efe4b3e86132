//! The server itself.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::ServerInfo;

use super::SharedState;
use crate::shared::Health;

pub(crate) async fn info(State(shared): SharedState) -> Json<ServerInfo> {
    let health = shared.health.borrow().clone();
    let (runtime_version, runtime_error) = match health {
        Health::Unknown => (None, None),
        Health::Up { version } => (Some(version), None),
        Health::Down { message } => (None, Some(message)),
    };
    Json(ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        id: shared.store.server_id().to_owned(),
        pid: std::process::id(),
        started_at: shared.started_at,
        data_dir: shared.data_dir.root().display().to_string(),
        runtime: shared.runtime_name.to_owned(),
        runtime_version,
        runtime_error,
        background: shared.background,
        allowed: shared.allowed.iter().map(ToString::to_string).collect(),
        allowed_host_paths: shared.allowed_host_paths.iter().map(|path| path.display().to_string()).collect(),
        listening: shared.doors.describe(),
    })
}

pub(crate) async fn stop(State(shared): SharedState) -> StatusCode {
    shared.stop.notify_one();
    StatusCode::ACCEPTED
}
