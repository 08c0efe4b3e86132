//! Snapshots: asked for by a row, which the server that acts carries out; answered when that is done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::fuse::{LayerFound, Snapshot, SnapshotExport, SnapshotList, SnapshotRequest};
use chassis_core::environment;
use chassis_core::snapshot::State as SnapshotState;
use chassis_store::{Error, SnapshotFilter, SnapshotNew};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::actions::{ActionQuery, no_snapshots};
use super::api_keys::scope;
use super::body::{Bytes, SMALL, invalid, parse_or_default};
use super::request::own_arch;
use super::{cursor, exec};
use crate::api::extract::{Path, Query};
use crate::api::failure::{Failure, Result};
use crate::api::{SharedState, to_end};
use crate::auth::{Caller, random_id};
use crate::failpoint::failpoint;
use crate::nodes::NodeLink;
use crate::shared::Shared;

/// Longer than what a snapshot waits for may take.
const PATIENCE: Duration = Duration::from_secs(58);
const MANUAL: &str = "manual";
const PENDING: &str = "pending";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListQuery {
    vm_id: Option<String>,
    task_id: Option<String>,
    tenant_id: Option<String>,
    state: Option<String>,
    mode: Option<String>,
    name: Option<String>,
    layer_key: Option<String>,
    arch: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LayerQuery {
    layer_key: String,
    arch: String,
}

/// What is kept of a request, besides what is looked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Details {
    comment: String,
    metadata: BTreeMap<String, String>,
    export_ref: String,
    export_status: String,
}

/// Answers when it is ready.
pub(super) async fn create(
    State(shared): SharedState,
    caller: Caller,
    Path(id): Path<String>,
    Bytes(body): Bytes<SMALL>,
) -> Result<(StatusCode, Json<Snapshot>)> {
    let request: SnapshotRequest = parse_or_default(&body)?;
    check_able(&shared, &id).await?;
    if request.live {
        let found = shared.store.environment_get(&id).await?;
        let node = shared.node_of(&found.key.instance(environment::NUMBER));
        let message = format!("{} takes no live snapshots; ask again without `live`", node.runtime_word());
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, "unimplemented", message));
    }
    let new = asked(&shared, &caller, id, request).await?;
    to_end(async move { Ok((StatusCode::CREATED, Json(wire(take(&shared, new).await?)))) }).await
}

/// Refuses what a runtime without snapshots cannot do, what only an environment that runs can, and what a host that does not
/// answer can not now.
pub(super) async fn check_able(shared: &Shared, id: &str) -> Result<()> {
    let found = shared.store.environment_get(id).await?;
    takes_snapshots(shared, &shared.node_of(&found.key.instance(environment::NUMBER))).await?;
    exec::check_running(shared, &found).map(drop)
}

async fn takes_snapshots(shared: &Shared, node: &NodeLink) -> Result<()> {
    if shared.is_silent(node) {
        return Err(away(&node.name));
    }
    if node.runtime.takes_snapshots().await.map_err(|error| exec::refused(&error))? {
        return Ok(());
    }
    Err(no_snapshots(node.runtime_word()))
}

fn away(host: impl std::fmt::Display) -> Failure {
    let message = format!("host {host}, which has it, does not answer; ask again when it does");
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
}

/// The node that has what a snapshot keeps.
pub(super) fn home(shared: &Shared, of: &chassis_store::Snapshot) -> Result<Arc<NodeLink>> {
    shared.snapshot_node(of).ok_or_else(|| away(&of.node))
}

/// A snapshot from which an environment can begin.
pub(super) async fn seed(shared: &Shared, caller: &Caller, id: &str) -> Result<chassis_store::Snapshot> {
    let found = find(shared, caller, id).await?;
    takes_snapshots(shared, &*home(shared, &found)?).await?;
    Ok(found)
}

async fn asked(
    shared: &Shared,
    caller: &Caller,
    of: String,
    request: SnapshotRequest,
) -> Result<SnapshotNew> {
    if request.retention_seconds < 0 {
        return Err(invalid("retention_seconds cannot be negative"));
    }
    let kept = SignedDuration::from_secs(request.retention_seconds);
    let until = Timestamp::now().checked_add(kept);
    let until = until.map_err(|_| invalid("retention_seconds is beyond all time"))?;
    let or = |word: String, usual: &str| if word.is_empty() { usual.to_owned() } else { word };
    // A layer is its builder's own; what else is kept is its task's.
    let tenant = scope(caller).filter(|_| !request.layer_key.is_empty());
    let export_status = if request.export_ref.is_empty() {
        request.export_status
    } else {
        or(request.export_status, PENDING)
    };
    let name = request.metadata.get("name").cloned().unwrap_or_default();
    let details = Details {
        comment: request.comment,
        metadata: request.metadata,
        export_ref: request.export_ref,
        export_status,
    };
    Ok(SnapshotNew {
        id: new_id()?,
        arch: arch(shared, &of).await?,
        environment: of,
        tenant,
        mode: or(request.mode, MANUAL),
        name,
        layer_key: request.layer_key,
        details: serde_json::to_string(&details).unwrap_or_default(),
        retention_until: (request.retention_seconds > 0).then_some(until),
        quota: shared.snapshot_quota,
    })
}

/// One for a fork, which keeps it for as long as it needs it.
pub(super) async fn for_fork(
    shared: &Shared,
    of: String,
    comment: String,
    kept: SignedDuration,
) -> Result<SnapshotNew> {
    let details = Details { comment, ..Details::default() };
    Ok(SnapshotNew {
        id: new_id()?,
        arch: arch(shared, &of).await?,
        environment: of,
        mode: "auto".to_owned(),
        details: serde_json::to_string(&details).unwrap_or_default(),
        retention_until: Some(Timestamp::now().saturating_add(kept).unwrap_or(Timestamp::MAX)),
        quota: shared.snapshot_quota,
        ..SnapshotNew::default()
    })
}

/// That of the machine on which an environment is.
async fn arch(shared: &Shared, of: &str) -> Result<String> {
    let found = shared.store.environment_get(of).await?;
    let nodes = shared.nodes_known().await?;
    let node = nodes.iter().find(|node| node.name().as_str() == found.node);
    Ok(node.map_or_else(own_arch, |node| node.record.spec.architecture.word()).to_owned())
}

fn new_id() -> Result<String> {
    Ok(format!("snap-{}", random_id().map_err(super::environments::no_randomness)?))
}

/// Has a snapshot taken, and waits until it is ready.
pub(super) async fn take(shared: &Arc<Shared>, new: SnapshotNew) -> Result<chassis_store::Snapshot> {
    failpoint("snapshot_create:before");
    let made = shared.store.snapshot_create(new).await?;
    failpoint("snapshot_create:stored");
    shared.snapshots.wake();
    let found = settled(shared, &made.id, |found| found.state != SnapshotState::Creating).await?;
    match found {
        Some(ready) if ready.state == SnapshotState::Ready => Ok(ready),
        found => Err(failed(shared, &made, found.and_then(|found| found.error), "taken").await),
    }
}

/// Waits until a snapshot is as it should be, or is gone.
async fn settled(
    shared: &Shared,
    id: &str,
    is_settled: impl Fn(&chassis_store::Snapshot) -> bool,
) -> Result<Option<chassis_store::Snapshot>> {
    let mut events = shared.store.event_watch();
    let settled = async {
        loop {
            events.mark_unchanged();
            match shared.store.snapshot_get(id).await {
                Ok(found) if is_settled(&found) => return Ok(Some(found)),
                Ok(_) => {}
                Err(Error::SnapshotNotFound(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            if events.changed().await.is_err() {
                return Ok(None);
            }
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.unwrap_or_else(|_| {
        let message = format!("snapshot {id} takes longer than a request may; look at it later");
        Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message))
    })
}

/// Something went wrong; if that is because its environment went, nobody is to blame.
async fn failed(shared: &Shared, of: &chassis_store::Snapshot, why: Option<String>, what: &str) -> Failure {
    let environment = shared.store.environment_get(&of.environment).await;
    let runs = environment.is_ok_and(|found| found.state == environment::State::Running);
    let why = why.unwrap_or_else(|| "it was deleted meanwhile".to_owned());
    let message = format!("snapshot {} was not {what}: {why}", of.id);
    if runs {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    } else {
        Failure::new(StatusCode::CONFLICT, "conflict", message)
    }
}

pub(super) async fn list(
    State(shared): SharedState,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<SnapshotList>> {
    let limit = cursor::limit(query.limit.as_deref());
    let after = cursor::read(query.cursor.as_deref())?.map(|text| place(&text)).transpose()?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let state = match given(query.state).map(|word| word.parse()) {
        Some(Ok(state)) => Some(state),
        Some(Err(_)) => return Ok(Json(SnapshotList { snapshots: Vec::new(), next_cursor: None })),
        None => None,
    };
    let filter = SnapshotFilter {
        environment: given(query.vm_id),
        task_id: given(query.task_id),
        tenant: given(query.tenant_id),
        state,
        mode: given(query.mode),
        name: given(query.name),
        layer_key: given(query.layer_key),
        arch: given(query.arch),
        scope: scope(&caller),
        after,
        limit: limit + 1,
    };
    let mut found = shared.store.snapshot_list(&filter).await?;
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_cursor = found
        .last()
        .filter(|_| has_more)
        .map(|last| cursor::write(&format!("{}/{}", last.created_at.as_microsecond(), last.id)));
    Ok(Json(SnapshotList { snapshots: found.into_iter().map(wire).collect(), next_cursor }))
}

/// When the last one of a part was made, and its id.
fn place(text: &str) -> Result<(Timestamp, String)> {
    let split = text.split_once('/').and_then(|(time, id)| Some((time.parse().ok()?, id)));
    let place = split.and_then(|(time, id)| Some((Timestamp::from_microsecond(time).ok()?, id.to_owned())));
    place.ok_or_else(|| invalid("invalid cursor"))
}

pub(super) async fn resolve(
    State(shared): SharedState,
    caller: Caller,
    Query(query): Query<LayerQuery>,
) -> Result<Json<LayerFound>> {
    if query.layer_key.is_empty() || query.arch.is_empty() {
        return Err(invalid("layer_key and arch are required"));
    }
    let filter = SnapshotFilter {
        layer_key: Some(query.layer_key),
        arch: Some(query.arch),
        scope: scope(&caller),
        state: Some(SnapshotState::Ready),
        limit: 1,
        ..SnapshotFilter::default()
    };
    let snapshot = shared.store.snapshot_list(&filter).await?.pop().map(wire);
    Ok(Json(LayerFound { found: snapshot.is_some(), snapshot }))
}

pub(super) async fn show(
    State(shared): SharedState,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Snapshot>> {
    Ok(Json(wire(find(&shared, &caller, &id).await?)))
}

/// A snapshot that the caller may know of: a layer that another key has built is not there for this one.
pub(super) async fn find(shared: &Shared, caller: &Caller, id: &str) -> Result<chassis_store::Snapshot> {
    let found = shared.store.snapshot_get(id).await?;
    let is_foreign = |scope: String| !found.layer_key.is_empty() && found.tenant != scope;
    if scope(caller).is_some_and(is_foreign) {
        return Err(Error::SnapshotNotFound(id.to_owned()).into());
    }
    Ok(found)
}

pub(super) async fn act(
    State(shared): SharedState,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ActionQuery>,
) -> Result<StatusCode> {
    caller.tell(query.action.clone());
    match query.action.as_str() {
        "restore" => {
            find(&shared, &caller, &id).await?;
            to_end(async move { restore(&shared, &id).await }).await
        }
        "" => Err(invalid("action is required: restore")),
        other => Err(invalid(format!("unknown action: {other}"))),
    }
}

/// Answers when its environment is what it was.
async fn restore(shared: &Arc<Shared>, id: &str) -> Result<StatusCode> {
    let found = shared.store.snapshot_get(id).await?;
    match check_able(shared, &found.environment).await {
        Ok(()) => {}
        Err(_)
            if matches!(
                shared.store.environment_get(&found.environment).await,
                Err(Error::EnvironmentNotFound(_))
            ) =>
        {
            let message = format!("vm not running: {} is no more", found.environment);
            return Err(Failure::new(StatusCode::CONFLICT, "conflict", message));
        }
        Err(failure) => return Err(failure),
    }
    failpoint("snapshot_ask:before");
    shared.store.snapshot_restore(id).await?;
    failpoint("snapshot_ask:stored");
    shared.snapshots.wake();
    match settled(shared, id, |found| found.state != SnapshotState::Restoring).await? {
        Some(done) if done.error.is_none() => Ok(StatusCode::NO_CONTENT),
        done => Err(failed(shared, &found, done.and_then(|done| done.error), "restored").await),
    }
}

/// Answers when nothing of it is left.
pub(super) async fn remove(
    State(shared): SharedState,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode> {
    find(&shared, &caller, &id).await?;
    to_end(async move { delete(&shared, &id).await }).await
}

/// Deletes a snapshot, and waits until nothing of it is left.
pub(super) async fn delete(shared: &Shared, id: &str) -> Result<StatusCode> {
    failpoint("snapshot_delete:before");
    let Some(deleting) = shared.store.snapshot_delete(id).await? else {
        return Ok(StatusCode::NO_CONTENT);
    };
    failpoint("snapshot_delete:stored");
    shared.snapshots.wake();
    let node = shared.snapshot_node(&deleting);
    if node.is_some_and(|node| shared.is_silent(&node)) {
        let message =
            format!("host {} does not answer; snapshot {id} is gone when it is back", deleting.node);
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message));
    }
    match settled(shared, &deleting.id, |found| found.removals > 0).await? {
        None => Ok(StatusCode::NO_CONTENT),
        Some(left) => {
            let why = left.error.unwrap_or_default();
            let message = format!("snapshot {id} is still being deleted ({why}); that goes on by itself");
            Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message))
        }
    }
}

fn wire(found: chassis_store::Snapshot) -> Snapshot {
    let details: Details = serde_json::from_str(&found.details).unwrap_or_default();
    let export = SnapshotExport {
        destination: details.export_ref.clone(),
        status: details.export_status,
        requested_at: found.created_at,
        updated_at: found.created_at,
    };
    Snapshot {
        vm_id: found.environment,
        task_id: found.task_id,
        tenant_id: found.tenant,
        parent_snapshot_id: found.parent,
        mode: found.mode,
        state: found.state,
        kind: "disk".to_owned(),
        comment: details.comment,
        name: found.name,
        layer_key: found.layer_key,
        arch: found.arch,
        digest: found.digest,
        size_bytes: found.size_bytes.unwrap_or_default(),
        created_at: found.created_at,
        updated_at: found.updated_at,
        retention_until: found.retention_until,
        last_error: found.error,
        exports: Some(export).filter(|export| !export.destination.is_empty()).into_iter().collect(),
        export_ref: details.export_ref,
        id: found.id,
    }
}
