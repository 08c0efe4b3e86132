//! Hosts, which are nodes: listed, registered, closed, emptied and removed in this dialect.
//!
//! What its server gets wrong is right here: a host that registers again keeps what it has, its age and its state.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::fuse::{Host, HostCapacity, HostList, HostRegister, HostState};
use chassis_api::{NodeDrain, NodeRemoveQuery, Problem};
use chassis_core::node::{InvalidNodeName, UnknownArchitecture};
use chassis_core::{Amounts, Architecture, Drain, Duty, Liveness, NodeName};
use chassis_store::EnvironmentFilter;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::body::{Body, Bytes, SMALL, invalid, parse_or_default};
use super::{actions::ActionQuery, cursor};
use crate::api::extract::{Path, Query};
use crate::api::failure::{Failure, Result};
use crate::api::{SharedState, to_end};
use crate::auth::Caller;
use crate::node_join::{Joined, Joining};
use crate::node_known::KnownNode;
use crate::shared::Shared;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(shared): SharedState,
    Query(query): Query<ListQuery>,
) -> Result<Json<HostList>> {
    let after = cursor::read(query.cursor.as_deref())?;
    let limit = cursor::limit(query.limit.as_deref()) as usize;
    let mut nodes = shared.nodes_known().await?;
    nodes.retain(|node| after.as_deref().is_none_or(|after| node.name().as_str() > after));
    let has_more = nodes.len() > limit;
    nodes.truncate(limit);
    let next_cursor = nodes.last().filter(|_| has_more).map(|last| cursor::write(last.name().as_str()));
    let hosts = nodes.iter().map(|node| host(&shared, node, Vec::new())).collect();
    Ok(Json(HostList { hosts, next_cursor }))
}

pub(super) async fn show(State(shared): SharedState, Path(id): Path<String>) -> Result<Json<Host>> {
    let node = find(&shared, &id).await?;
    Ok(Json(host(&shared, &node, Vec::new())))
}

pub(super) async fn register(
    State(shared): SharedState,
    caller: Caller,
    Body(asked): Body<HostRegister, SMALL>,
) -> Result<(StatusCode, Json<Host>)> {
    caller.tell(format!("{}, at {}", asked.id, asked.url));
    let name: NodeName =
        asked.id.parse().map_err(|error: InvalidNodeName| invalid(format!("invalid id: {error}")))?;
    if asked.capacity.vm_count <= 0 {
        return Err(invalid("capacity.vm_count must be greater than 0"));
    }
    let capacity = amounts(&asked.capacity)?;
    let is_declared = capacity.cpu_millis > 0 && capacity.memory_bytes > 0 && capacity.disk_bytes > 0;
    let architecture: Option<Architecture> = match asked.capacity.arch.as_str() {
        "" => None,
        word => Some(
            word.parse()
                .map_err(|error: UnknownArchitecture| invalid(format!("invalid capacity.arch: {error}")))?,
        ),
    };
    let joining = || Joining {
        url: asked.url.clone(),
        fingerprint: asked.fingerprint,
        token: Zeroizing::new(asked.token.clone()),
        name: Some(name.clone()),
        region: Some(asked.region.as_str()).filter(|region| !region.is_empty()).map(Into::into),
        labels: asked.labels.clone().unwrap_or_default(),
        capacity,
        architecture,
    };
    let (heard, unheard) = (joining(), joining());
    to_end(async move {
        let joined = match shared.node_join(heard, None).await {
            Ok(joined) => joined,
            Err(failure) => {
                let problem = Problem::from(failure.clone());
                let is_away = matches!(problem.code.as_str(), "node_unreachable" | "node_silent");
                if problem.code == "node_token" {
                    return Err(Failure::new(StatusCode::BAD_GATEWAY, "unauthorized", problem.detail));
                }
                if !is_away || !is_declared {
                    return Err(failure);
                }
                let joined = shared.node_join_unheard(unheard, capacity).await?;
                Joined { warnings: vec![problem.detail], ..joined }
            }
        };
        let node = shared.node_known(&joined.name).await?;
        Ok((StatusCode::CREATED, Json(host(&shared, &node, joined.warnings))))
    })
    .await
}

pub(super) async fn act(
    State(shared): SharedState,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ActionQuery>,
    Bytes(body): Bytes<SMALL>,
) -> Result<StatusCode> {
    caller.tell(query.action.clone());
    let duty = match query.action.as_str() {
        "cordon" => Duty::Cordoned,
        "uncordon" => Duty::Open,
        "drain" => {
            let NodeDrain { deadline, parallelism } = parse_or_default(&body)?;
            let deadline =
                deadline.map(|seconds| Timestamp::now() + SignedDuration::from_secs(seconds.into()));
            Duty::Draining(Drain { deadline, parallelism: parallelism.unwrap_or(1).max(1) })
        }
        "" => return Err(invalid("action is required: cordon, uncordon or drain")),
        other => return Err(invalid(format!("unknown action: {other}"))),
    };
    let node = find(&shared, &id).await?;
    to_end(async move {
        shared.node_assign(node.name(), duty, None).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// With `force`, which is chassis's own, a host that is gone for good goes with all that it had.
pub(super) async fn remove(
    State(shared): SharedState,
    Path(id): Path<String>,
    Query(NodeRemoveQuery { force }): Query<NodeRemoveQuery>,
) -> Result<StatusCode> {
    let node = find(&shared, &id).await?;
    if force {
        return to_end(async move {
            shared.node_remove(node.name(), None, true).await?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await;
    }
    let here = EnvironmentFilter { node: Some(id.clone()), limit: 1, ..EnvironmentFilter::default() };
    if let Some(found) = shared.store.environment_list(&here).await?.first() {
        let message = format!("host {id} still has vm {} assigned", found.id);
        return Err(Failure::new(StatusCode::CONFLICT, "conflict", message));
    }
    to_end(async move {
        shared.node_remove(node.name(), None, false).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

async fn find(shared: &Shared, id: &str) -> Result<KnownNode> {
    let nodes = shared.nodes_known().await?;
    let found = nodes.into_iter().find(|node| node.name().as_str() == id);
    found.ok_or_else(|| Failure::not_found("not_found", format!("host not found: {id}")))
}

fn host(shared: &Shared, node: &KnownNode, mut warnings: Vec<String>) -> Host {
    let (record, spec) = (&node.record, &node.record.spec);
    // Of all that is there: what runs for fleets takes room too.
    let used = node.live.used;
    let allocated = HostCapacity {
        cpus: whole(used.cpu_millis.div_ceil(1000)),
        ram_mb: whole(used.memory_bytes.div_ceil(MIB)),
        storage_gb: whole(used.disk_bytes.div_ceil(GIB)),
        vm_count: whole(used.slots),
        arch: String::new(),
    };
    if node.live.liveness != Liveness::Alive {
        warnings.push(format!("the host is {}: it gets nothing new", node.state()));
    }
    let backend = spec.runtimes.first().map(|runtime| runtime.word().to_owned()).unwrap_or_default();
    let url = record.url.clone().unwrap_or_else(|| format!("{}://{}", shared.runtime_name, spec.name));
    Host {
        id: spec.name.to_string(),
        url,
        state: match record.duty {
            Duty::Open => HostState::Active,
            Duty::Cordoned => HostState::Cordoned,
            Duty::Draining(_) => HostState::Draining,
        },
        capacity: HostCapacity {
            cpus: whole(spec.capacity.cpu_millis / 1000),
            ram_mb: whole(spec.capacity.memory_bytes / MIB),
            storage_gb: whole(spec.capacity.disk_bytes / GIB),
            vm_count: whole(spec.capacity.slots),
            arch: spec.architecture.word().to_owned(),
        },
        allocated,
        last_seen: node.live.heard_at.unwrap_or(record.registered_at),
        created_at: record.registered_at,
        updated_at: record.updated_at,
        backend,
        region: spec.region.as_deref().unwrap_or_default().to_owned(),
        labels: spec.labels.clone(),
        warnings,
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn amounts(declared: &HostCapacity) -> Result<Amounts> {
    let amount = |name: &str, number: i64, unit: u64| -> Result<u64> {
        let number = u64::try_from(number).map_err(|_| invalid(format!("capacity.{name} is negative")))?;
        Ok(number.saturating_mul(unit))
    };
    Ok(Amounts {
        cpu_millis: amount("cpus", declared.cpus, 1000)?,
        memory_bytes: amount("ram_mb", declared.ram_mb, MIB)?,
        disk_bytes: amount("storage_gb", declared.storage_gb, GIB)?,
        slots: amount("vm_count", declared.vm_count, 1)?,
    })
}
