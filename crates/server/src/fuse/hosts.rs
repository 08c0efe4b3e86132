//! Hosts: for now the server's own node, which can be looked at, and closed to new environments.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::fuse::{Host, HostCapacity, HostList, HostState};
use chassis_store::EnvironmentFilter;
use jiff::Timestamp;
use serde::Deserialize;

use super::body::invalid;
use super::kept::Kept;
use super::{actions::ActionQuery, cursor};
use crate::api::SharedState;
use crate::api::extract::{Path, Query};
use crate::api::failure::{Failure, Result};
use crate::node_stats;
use crate::shared::Shared;

/// Environments on one node, at most: as many as the fleet's network has addresses.
const MOST: i64 = 10_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListQuery {
    cursor: Option<String>,
}

pub(super) async fn list(
    State(shared): SharedState,
    Query(query): Query<ListQuery>,
) -> Result<Json<HostList>> {
    let after = cursor::read(query.cursor.as_deref())?;
    let host = own(&shared).await?;
    let hosts = if after.is_some_and(|after| after >= host.id) { Vec::new() } else { vec![host] };
    Ok(Json(HostList { hosts, next_cursor: None }))
}

pub(super) async fn show(State(shared): SharedState, Path(id): Path<String>) -> Result<Json<Host>> {
    check_own(&shared, &id)?;
    Ok(Json(own(&shared).await?))
}

pub(super) async fn register() -> Failure {
    let message = "other hosts cannot be registered yet; this server runs environments on its own node";
    Failure::new(StatusCode::NOT_IMPLEMENTED, "unimplemented", message)
}

pub(super) async fn act(
    State(shared): SharedState,
    Path(id): Path<String>,
    Query(query): Query<ActionQuery>,
) -> Result<StatusCode> {
    let cordoned = match query.action.as_str() {
        "cordon" => true,
        "uncordon" => false,
        other => return Err(invalid(format!("unknown action: {other}"))),
    };
    check_own(&shared, &id)?;
    shared.store.node_cordon(cordoned).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(State(shared): SharedState, Path(id): Path<String>) -> Result<StatusCode> {
    check_own(&shared, &id)?;
    let first = EnvironmentFilter { limit: 1, ..EnvironmentFilter::default() };
    let message = match shared.store.environment_list(&first).await?.first() {
        Some(found) => format!("host {id} still has vm {} assigned", found.id),
        None => format!("host {id} is the server's own; cordon it instead"),
    };
    Err(Failure::new(StatusCode::CONFLICT, "conflict", message))
}

fn check_own(shared: &Shared, id: &str) -> Result<()> {
    if id == shared.node {
        return Ok(());
    }
    Err(Failure::not_found("not_found", format!("host not found: {id}")))
}

async fn own(shared: &Shared) -> Result<Host> {
    let all = EnvironmentFilter { limit: u32::MAX, ..EnvironmentFilter::default() };
    let mut allocated = HostCapacity::default();
    for found in shared.store.environment_list(&all).await? {
        let spec = Kept::from_json(&found.request).spec;
        allocated.cpus += i64::from(spec.cpus);
        allocated.ram_mb += i64::from(spec.ram_mb);
        allocated.storage_gb += i64::from(spec.storage_gb);
        allocated.vm_count += 1;
    }
    let state = if shared.store.node_is_cordoned().await? { HostState::Cordoned } else { HostState::Active };
    let now = Timestamp::now();
    Ok(Host {
        id: shared.node.clone(),
        url: format!("{}://{}", shared.runtime_name, shared.node),
        state,
        capacity: capacity(shared),
        allocated,
        last_seen: if shared.is_up() { now } else { shared.started_at },
        created_at: shared.started_at,
        updated_at: now,
        backend: shared.runtime_name.to_owned(),
    })
}

fn capacity(shared: &Shared) -> HostCapacity {
    let stats = node_stats::read(&shared.node);
    let storage = rustix::fs::statvfs(shared.data_dir.root()).ok();
    let bytes = storage.map_or(0, |found| found.f_blocks.saturating_mul(found.f_frsize));
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    HostCapacity {
        cpus: stats.as_ref().map_or(0, |stats| stats.cores.into()),
        ram_mb: stats.map_or(0, |stats| whole(stats.memory_bytes >> 20)),
        storage_gb: whole(bytes >> 30),
        vm_count: MOST,
        arch: super::request::own_arch().to_owned(),
    }
}
