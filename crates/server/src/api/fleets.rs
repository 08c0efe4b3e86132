//! Fleets: made, listed, scaled, deleted.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use chassis_api::{DeleteQuery, Fleet, FleetCreate, FleetListQuery, Scale, Scope};
use chassis_core::AgentKey;
use chassis_spec::FleetName;

use super::admission::check_labels;
use super::condition::{Expected, Versioned};
use super::extract::{Body, Path, Query};
use super::failure::{Failure, Result};
use super::page::{Paging, Part};
use super::select::Selection;
use super::targets::with_suggestion;
use super::wait::Awaited;
use super::{SharedState, to_end};
use crate::auth::Caller;
use crate::controller::agents_changed;
use crate::failpoint::failpoint;
use crate::fleet::{fleet_finish_if_deleting, fleet_prepare};
use crate::shared::Shared;

pub(crate) async fn create(
    State(shared): SharedState,
    caller: Caller,
    Body(create): Body<FleetCreate>,
) -> Result<(StatusCode, Json<Fleet>)> {
    caller.require(&create.name)?;
    caller.tell(create.name.as_str());
    check_labels(&create.labels)?;
    // A fleet of this name may have gone a moment ago, and with it what keys could do there.
    shared.auth.keys_refresh(&*shared.store).await;
    failpoint("fleet_create:before");
    let fleet = shared.store.fleet_create(&create.name, &create.labels).await?;
    failpoint("fleet_create:stored");
    fleet_prepare(&shared, &create.name).await;
    failpoint("fleet_create:prepared");
    Ok((StatusCode::CREATED, Json(wire(&shared, fleet))))
}

pub(crate) async fn list(
    State(shared): SharedState,
    caller: Caller,
    Query(query): Query<FleetListQuery>,
    paging: Paging,
) -> Result<Part<Fleet>> {
    let selection = Selection::read(&shared, query.labels.as_deref()).await?;
    let mut fleets = shared.fleet_list().await?;
    fleets.retain(|fleet| caller.reaches(&fleet.name) && selection.has_fleet(&fleet.labels));
    let mut part = paging.part();
    for fleet in fleets {
        if !part.offer(fleet.name.to_string(), || wire(&shared, fleet)) {
            break;
        }
    }
    Ok(part)
}

pub(crate) async fn show(
    State(shared): SharedState,
    caller: Caller,
    Path(name): Path<FleetName>,
) -> Result<Versioned<Fleet>> {
    let fleet = wire(&shared, find(&shared, &caller, &name).await?);
    Ok(Versioned(fleet.version, fleet))
}

pub(crate) async fn remove(
    State(shared): SharedState,
    caller: Caller,
    Path(name): Path<FleetName>,
    Query(query): Query<DeleteQuery>,
    Expected(version): Expected,
) -> Result<(StatusCode, Extension<Awaited>)> {
    to_end(async move {
        failpoint("fleet_delete:before");
        if let Err(error) = shared.store.fleet_delete(&name, query.cleanup, version).await {
            return Err(with_suggestion(&shared, &caller, error).await);
        }
        failpoint("fleet_delete:stored");
        agents_changed(&shared, agent_keys(&shared, &name)).await;
        fleet_finish_if_deleting(&shared, &name).await;
        let scope = Scope { fleet: name, agent: None, number: None };
        Ok((StatusCode::ACCEPTED, Extension(Awaited::of(scope))))
    })
    .await
}

pub(crate) async fn scale(
    State(shared): SharedState,
    caller: Caller,
    Path(name): Path<FleetName>,
    Expected(version): Expected,
    Body(scale): Body<Scale>,
) -> Result<(Extension<Awaited>, Json<Fleet>)> {
    caller.tell(format!("to {}", scale.count));
    let fleet = find(&shared, &caller, &name).await?;
    let agents = agent_keys(&shared, &name);
    let agent = match (scale.agent, agents.as_slice()) {
        (Some(agent), _) => agent,
        (None, [only]) => only.agent.clone(),
        (None, []) => {
            let detail = format!(
                "fleet `{name}` has no agents to scale; deploy one with `chassis deploy agent -f FILE`"
            );
            return Err(Failure::invalid("fleet_empty", detail));
        }
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|key| key.agent.as_str()).collect();
            let detail = format!(
                "fleet `{name}` has several agents ({}); say which: `chassis scale agent {} {}`",
                names.join(", "),
                names[0],
                scale.count
            );
            return Err(Failure::invalid("agent_needed", detail));
        }
    };
    let key = AgentKey { fleet: name, agent };
    to_end(async move {
        failpoint("scale:before");
        shared.store.agent_scale(&key, scale.count, version).await?;
        failpoint("scale:stored");
        let scope = Scope { fleet: key.fleet.clone(), agent: Some(key.agent.clone()), number: None };
        agents_changed(&shared, vec![key]).await;
        Ok((Extension(Awaited::of(scope)), Json(wire(&shared, fleet))))
    })
    .await
}

async fn find(shared: &Shared, caller: &Caller, name: &FleetName) -> Result<chassis_store::Fleet> {
    match shared.fleet_get(name).await {
        Ok(fleet) => Ok(fleet),
        Err(error) => Err(with_suggestion(shared, caller, error).await),
    }
}

pub(crate) fn agent_keys(shared: &Arc<Shared>, fleet: &FleetName) -> Vec<AgentKey> {
    let agents = shared.agents();
    agents.iter().map(|agent| agent.key().clone()).filter(|key| key.fleet == *fleet).collect()
}

fn wire(shared: &Arc<Shared>, fleet: chassis_store::Fleet) -> Fleet {
    let mut wire = Fleet {
        name: fleet.name,
        labels: fleet.labels,
        version: fleet.version,
        created_at: fleet.created_at,
        deleting: fleet.deleting,
        agents: 0,
        wanted: 0,
        running: 0,
        stale_seconds: shared.stale_seconds(),
    };
    for agent in shared.agents().iter().filter(|agent| agent.key().fleet == wire.name) {
        let (_, wanted, running) = agent.state().counts(&shared.nodes);
        wire.agents += 1;
        wire.wanted += wanted;
        wire.running += running;
    }
    wire
}
