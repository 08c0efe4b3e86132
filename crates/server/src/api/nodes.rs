//! The machines that run instances.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::{Node, NodeDetail, NodeDrain, NodeInstance, NodeJoin, NodeJoined, NodeRemoveQuery};
use chassis_core::{AgentKey, Drain, Duty, InstanceKey, NodeName, Phase};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::condition::{Expected, Versioned};
use super::extract::{Body, Path, Query};
use super::failure::{Failure, Result};
use super::page::{Paging, Part};
use super::{SharedState, to_end};
use crate::auth::Caller;
use crate::node_join::{Joined, Joining};
use crate::node_known::KnownNode;
use crate::node_stats;
use crate::nodes::Health;
use crate::shared::Shared;

/// Deadlines are within a year.
const DEADLINE_MOST: u32 = 31_536_000;

pub(crate) async fn list(State(shared): SharedState, caller: Caller, paging: Paging) -> Result<Part<Node>> {
    let nodes = shared.nodes_known().await?;
    let mut held = HashMap::new();
    if let [only] = &nodes[..] {
        held.insert(only.name().clone(), held_by(&shared, &caller, only).await?);
    } else {
        for (key, placed) in shared.store.placement_list(None).await? {
            if let Some(instance) = instance_on(&shared, &caller, &key, placed.ending.is_some()) {
                held.entry(placed.node).or_insert_with(Vec::new).push(instance);
            }
        }
    }
    let mut part = paging.part();
    for node in nodes {
        let held = held.remove(node.name()).unwrap_or_default();
        if !part.offer(node.name().to_string(), || wire(&shared, &node, &held)) {
            break;
        }
    }
    Ok(part)
}

pub(crate) async fn join(
    State(shared): SharedState,
    caller: Caller,
    Expected(version): Expected,
    Body(join): Body<NodeJoin>,
) -> Result<(StatusCode, Json<NodeJoined>)> {
    caller.tell(match &join.name {
        Some(name) => format!("{name}, at {}", join.url),
        None => join.url.clone(),
    });
    let joining = Joining {
        url: join.url,
        fingerprint: join.fingerprint,
        token: Zeroizing::new(join.token),
        name: join.name,
        region: join.region.map(Into::into),
        labels: join.labels,
        capacity: join.capacity,
        architecture: None,
    };
    to_end(async move {
        let Joined { name, again, warnings } = shared.node_join(joining, version).await?;
        let node = shared.node_known(&name).await?;
        let held = held_by(&shared, &caller, &node).await?;
        Ok((StatusCode::CREATED, Json(NodeJoined { node: wire(&shared, &node, &held), again, warnings })))
    })
    .await
}

pub(crate) async fn show(
    State(shared): SharedState,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<Versioned<NodeDetail>> {
    let node = shared.node_known(&name).await?;
    let mut held = held_by(&shared, &caller, &node).await?;
    let mut data_of = shared.store.home_list(&name).await?;
    data_of.retain(|key| caller.reaches(&key.fleet));
    for one in &mut held {
        let is_its =
            |key: &InstanceKey| key.fleet == one.fleet && key.agent == one.agent && key.number == one.number;
        if let Some(at) = data_of.iter().position(is_its) {
            one.data = true;
            data_of.remove(at);
        }
    }
    Ok(Versioned(node.record.version, NodeDetail { node: wire(&shared, &node, &held), held, data_of }))
}

pub(crate) async fn cordon(
    State(shared): SharedState,
    caller: Caller,
    Path(name): Path<NodeName>,
    Expected(version): Expected,
) -> Result<Json<Node>> {
    assign(shared, caller, name, Duty::Cordoned, version).await
}

pub(crate) async fn uncordon(
    State(shared): SharedState,
    caller: Caller,
    Path(name): Path<NodeName>,
    Expected(version): Expected,
) -> Result<Json<Node>> {
    assign(shared, caller, name, Duty::Open, version).await
}

pub(crate) async fn drain(
    State(shared): SharedState,
    caller: Caller,
    Path(name): Path<NodeName>,
    Expected(version): Expected,
    Body(drain): Body<NodeDrain>,
) -> Result<Json<Node>> {
    let parallelism = drain.parallelism.unwrap_or(1);
    if parallelism == 0 {
        let detail = "`parallelism` is at least 1: how many may be on their way at once";
        return Err(Failure::invalid("parallelism_wrong", detail));
    }
    let deadline = match drain.deadline {
        None => None,
        Some(seconds) if seconds <= DEADLINE_MOST => {
            Some(Timestamp::now() + SignedDuration::from_secs(seconds.into()))
        }
        Some(seconds) => {
            let detail = format!("`deadline` is at most {DEADLINE_MOST} seconds, a year, not {seconds}");
            return Err(Failure::invalid("deadline_wrong", detail));
        }
    };
    let until = deadline.map_or_else(|| "no deadline".to_owned(), |at| format!("by {at:.0}"));
    caller.tell(format!("{until}, {parallelism} at a time"));
    assign(shared, caller, name, Duty::Draining(Drain { deadline, parallelism }), version).await
}

pub(crate) async fn remove(
    State(shared): SharedState,
    caller: Caller,
    Path(name): Path<NodeName>,
    Query(query): Query<NodeRemoveQuery>,
    Expected(version): Expected,
) -> Result<StatusCode> {
    if query.force {
        caller.tell("gone for good");
    }
    to_end(async move {
        shared.node_remove(&name, version, query.force).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

async fn assign(
    shared: Arc<Shared>,
    caller: Caller,
    name: NodeName,
    duty: Duty,
    version: Option<u64>,
) -> Result<Json<Node>> {
    to_end(async move {
        let node = shared.node_assign(&name, duty, version).await?;
        let held = held_by(&shared, &caller, &node).await?;
        Ok(Json(wire(&shared, &node, &held)))
    })
    .await
}

/// What a node has, of what the caller may see.
async fn held_by(shared: &Shared, caller: &Caller, node: &KnownNode) -> Result<Vec<NodeInstance>> {
    if !node.is_alone {
        let placed = shared.store.placement_list(Some(node.name())).await?.into_iter();
        let on = |(key, placed): (InstanceKey, chassis_store::Placed)| {
            instance_on(shared, caller, &key, placed.ending.is_some())
        };
        let mut held: Vec<NodeInstance> = placed.filter_map(on).collect();
        if let Duty::Draining(_) = node.record.duty {
            for one in &mut held {
                let key =
                    AgentKey { fleet: one.fleet.clone(), agent: one.agent.clone() }.instance(one.number);
                one.stays = shared.schedule.stays(&key).map(|refused| refused.to_string());
            }
        }
        return Ok(held);
    }
    let agents = shared.agents().into_iter();
    let keys = agents.flat_map(|agent| {
        let state = agent.state();
        let there = state.slots.iter().filter(|(_, slot)| !slot.is_extra());
        there.map(|(number, _)| state.instance_key(*number)).collect::<Vec<_>>()
    });
    Ok(keys.filter_map(|key| instance_on(shared, caller, &key, false)).collect())
}

fn instance_on(shared: &Shared, caller: &Caller, key: &InstanceKey, leaving: bool) -> Option<NodeInstance> {
    if !caller.reaches(&key.fleet) {
        return None;
    }
    let agent = shared.agent(&key.agent_key())?;
    let state = agent.state();
    let slot = state.slots.get(&key.number)?;
    let leaving = leaving || slot.instance.desired.wanted.is_absent();
    let moves = slot.placed.as_ref().is_some_and(|placed| placed.leased);
    let (fleet, agent) = (key.fleet.clone(), key.agent.clone());
    let is_known = shared.nodes.unknown(slot.placed.as_ref()).is_none();
    let phase = if is_known { slot.phase(&state.spec) } else { Phase::Unknown };
    Some(NodeInstance { fleet, agent, number: key.number, phase, leaving, data: false, moves, stays: None })
}

fn wire(shared: &Shared, node: &KnownNode, held: &[NodeInstance]) -> Node {
    let (record, spec) = (&node.record, &node.record.spec);
    let is_own = record.is_own();
    let health = shared.nodes.get(&spec.name).map(|node| node.health.borrow().clone());
    let (runtime_version, runtime_error) = match health {
        Some(Health::Up { version }) => (Some(version), None),
        Some(Health::Down { message }) => (None, Some(message)),
        _ => (None, None),
    };
    let running = held.iter().filter(|one| one.phase == Phase::Running).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let runtime = spec.runtimes.first().copied().unwrap_or_default();
    Node {
        name: spec.name.to_string(),
        url: record.url.clone(),
        fingerprint: record.fingerprint.clone(),
        state: node.state(),
        duty: record.duty,
        runtime: runtime.word().to_owned(),
        runtimes: spec.runtimes.clone(),
        runtime_version,
        runtime_error,
        architecture: spec.architecture,
        region: spec.region.as_deref().map(str::to_owned),
        labels: spec.labels.clone(),
        capacity: spec.capacity,
        used: node.live.used,
        free: spec.capacity.minus(node.live.used),
        instances: count(held.iter().filter(|one| !one.leaving).count()),
        running: count(running),
        heard_at: node.live.heard_at,
        registered_at: (!node.is_alone).then_some(record.registered_at),
        version: record.version,
        stats: if is_own { node_stats::read(&shared.node) } else { None },
    }
}
