//! The server itself.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::{ServerInfo, StateInfo};

use super::SharedState;
use crate::auth::Caller;
use crate::nodes::Health;
use crate::shared::Shared;

/// How long the database may take to list the servers.
const LIST_LIMIT: Duration = Duration::from_secs(1);

pub(crate) async fn info(State(shared): SharedState, caller: Caller) -> Json<ServerInfo> {
    // Whoever has a few fleets deploys into them, and has nothing to do with the machine.
    let sees_all = caller.only_fleets().is_none();
    let host_paths = shared.allowed_host_paths.iter().filter(|_| sees_all);
    let health = shared.own().health.borrow().clone();
    let (runtime_version, runtime_error) = match health {
        Health::Unknown => (None, None),
        Health::Up { version } => (Some(version), None),
        Health::Down { message } => (None, Some(message)),
    };
    let state = state(&shared).await;
    Json(ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        id: shared.store.server_id().to_owned(),
        pid: sees_all.then(std::process::id),
        started_at: shared.started_at,
        data_dir: sees_all.then(|| shared.data_dir.root().display().to_string()),
        runtime: shared.runtime_name.to_owned(),
        runtime_version,
        runtime_error,
        background: shared.background,
        allowed: shared.allowed.iter().map(ToString::to_string).collect(),
        allowed_host_paths: host_paths.map(|path| path.display().to_string()).collect(),
        listening: if sees_all { shared.doors.describe() } else { Vec::new() },
        state,
    })
}

async fn state(shared: &Shared) -> StateInfo {
    let lease = shared.store.lease();
    let (lease_holder, lease_epoch) = lease.map(|lease| (lease.holder, lease.epoch)).unzip();
    let listed = tokio::time::timeout(LIST_LIMIT, shared.store.server_list()).await;
    let servers = listed.ok().and_then(Result::ok).unwrap_or_default();
    StateInfo {
        store: if shared.lead.is_alone() { "sqlite" } else { "postgres" }.to_owned(),
        unavailable_since: shared.store.unavailable_since(),
        acting: shared.lead.acts(),
        refusal: shared.lead.refusal().map(str::to_owned),
        lease_holder,
        lease_epoch,
        server_name: shared.server_name.clone(),
        servers: servers.into_iter().map(|server| server.name).collect(),
    }
}

pub(crate) async fn stop(State(shared): SharedState) -> StatusCode {
    shared.stop.notify_one();
    StatusCode::ACCEPTED
}
