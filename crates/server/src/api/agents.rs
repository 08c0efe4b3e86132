//! Agents: declared, listed, deleted.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use chassis_api::{Agent, AgentChange, AgentListQuery, AgentOutcome, Applied, Apply, DeleteQuery, Scope};
use chassis_core::{AgentKey, Role};
use chassis_spec::{AgentName, AgentSpec, FleetName};
use chassis_store::AgentChange as StoredChange;

use super::admission::{check_labels, check_specs};
use super::condition::{Expected, Versioned};
use super::extract::{Body, Path, Query};
use super::failure::{Failure, Result};
use super::page::{Paging, Part, place};
use super::select::Selection;
use super::targets::with_suggestion_to_create;
use super::wait::Awaited;
use super::{SharedState, to_end};
use crate::auth::Caller;
use crate::controller::{AgentController, agents_changed};
use crate::failpoint::failpoint;
use crate::shared::Shared;

/// Of so many agents of an apply the audit log has the names.
const DECLARED_TOLD: usize = 20;

pub(crate) async fn apply(
    State(shared): SharedState,
    caller: Caller,
    Path(fleet): Path<FleetName>,
    Expected(expected): Expected,
    Body(apply): Body<Apply>,
) -> Result<(Option<Extension<Awaited>>, Json<Applied>)> {
    let declared =
        apply.agents.iter().take(DECLARED_TOLD).map(|spec| format!("{} ({})", spec.name, spec.image));
    caller.tell(declared.collect::<Vec<_>>().join(", "));
    check_labels(&apply.labels)?;
    check_specs(&shared, &caller, &fleet, &apply.agents).await?;
    // A fleet is made by an admin. For others it is as if they had not asked for it.
    let create_fleet = apply.create_fleet && caller.is(Role::Admin, &fleet);
    if create_fleet {
        // As when a fleet is made by itself.
        shared.auth.keys_refresh(&*shared.store).await;
    }
    let request = chassis_store::Apply {
        fleet: fleet.clone(),
        create_fleet: create_fleet.then_some(apply.labels),
        agents: apply.agents,
        prune: apply.prune,
        dry_run: apply.dry_run,
        expected,
    };
    to_end(async move {
        failpoint("apply:before");
        let applied = match shared.store.apply(&request).await {
            Ok(applied) => applied,
            Err(error) => return Err(with_suggestion_to_create(&shared, &caller, error).await),
        };
        if !request.dry_run {
            failpoint("apply:stored");
            agents_changed(&shared, changed_keys(&fleet, &applied)).await;
        }
        // What else the fleet has is none of this request's business.
        let declared = applied.agents.iter().filter(|outcome| outcome.change != StoredChange::Undeclared);
        let awaited = Awaited::agents(&fleet, declared.map(|outcome| outcome.agent.clone()));
        let applied = Applied {
            fleet,
            fleet_created: applied.fleet_created,
            agents: applied.agents.into_iter().map(outcome_wire).collect(),
        };
        Ok(((!request.dry_run).then_some(Extension(awaited)), Json(applied)))
    })
    .await
}

pub(crate) async fn list(
    State(shared): SharedState,
    caller: Caller,
    Query(query): Query<AgentListQuery>,
    paging: Paging,
) -> Result<Part<Agent>> {
    caller.require_named(query.fleet.as_ref())?;
    let selection = Selection::read(&shared, query.labels.as_deref()).await?;
    let mut agents = shared.agents();
    agents.retain(|agent| {
        caller.reaches(&agent.key().fleet)
            && query.fleet.as_ref().is_none_or(|fleet| agent.key().fleet == *fleet)
    });
    let mut part = paging.part();
    for agent in agents {
        let key = agent.key();
        if selection.has_agent(&key.fleet, &agent.state().spec.labels)
            && !part.offer(place(&[key.fleet.as_str(), key.agent.as_str()]), || wire(&shared, &agent))
        {
            break;
        }
    }
    Ok(part)
}

pub(crate) async fn show(
    State(shared): SharedState,
    Path((fleet, agent)): Path<(FleetName, AgentName)>,
) -> Result<Versioned<Agent>> {
    let agent = agent_find(&shared, fleet, agent)?;
    let agent = wire(&shared, &agent);
    Ok(Versioned(agent.version, agent))
}

pub(crate) async fn remove(
    State(shared): SharedState,
    Path((fleet, agent)): Path<(FleetName, AgentName)>,
    Query(query): Query<DeleteQuery>,
    Expected(version): Expected,
) -> Result<(StatusCode, Extension<Awaited>)> {
    let key = AgentKey { fleet, agent };
    to_end(async move {
        failpoint("agent_delete:before");
        shared.store.agent_delete(&key, query.cleanup, version).await?;
        failpoint("agent_delete:stored");
        let scope = Scope { fleet: key.fleet.clone(), agent: Some(key.agent.clone()), number: None };
        agents_changed(&shared, vec![key]).await;
        Ok((StatusCode::ACCEPTED, Extension(Awaited::of(scope))))
    })
    .await
}

pub(crate) fn agent_find(
    shared: &Arc<Shared>,
    fleet: FleetName,
    agent: AgentName,
) -> Result<Arc<AgentController>> {
    let key = AgentKey { fleet, agent };
    shared.agent(&key).ok_or_else(|| {
        Failure::not_found(
            "agent_not_found",
            format!("there is no agent `{key}`; `chassis ps` shows what there is"),
        )
    })
}

fn changed_keys(fleet: &FleetName, applied: &chassis_store::Applied) -> Vec<AgentKey> {
    let changed = applied.agents.iter().filter(|outcome| changes(outcome.change));
    changed.map(|outcome| AgentKey { fleet: fleet.clone(), agent: outcome.agent.clone() }).collect()
}

fn changes(change: StoredChange) -> bool {
    match change {
        StoredChange::Created | StoredChange::Updated | StoredChange::Scaled | StoredChange::Deleted => true,
        StoredChange::Unchanged | StoredChange::Undeclared => false,
    }
}

fn wire(shared: &Shared, agent: &AgentController) -> Agent {
    let state = agent.state();
    let (replicas, wanted, running) = state.counts(&shared.nodes);
    Agent {
        fleet: state.key.fleet.clone(),
        name: state.key.agent.clone(),
        revision: state.revision,
        version: state.version,
        created_at: state.created_at,
        deployed_at: state.deployed_at,
        deleting: state.deleting,
        spec: AgentSpec::clone(&state.spec),
        rollout: state.rollout.clone(),
        replicas,
        wanted,
        running,
        stale_seconds: shared.stale_seconds(),
    }
}

pub(crate) fn outcome_wire(outcome: chassis_store::AgentOutcome) -> AgentOutcome {
    AgentOutcome {
        agent: outcome.agent,
        change: match outcome.change {
            StoredChange::Created => AgentChange::Created,
            StoredChange::Updated => AgentChange::Updated,
            StoredChange::Scaled => AgentChange::Scaled,
            StoredChange::Unchanged => AgentChange::Unchanged,
            StoredChange::Deleted => AgentChange::Deleted,
            StoredChange::Undeclared => AgentChange::Undeclared,
        },
        revision: outcome.revision,
        replicas_before: outcome.replicas.0,
        replicas_after: outcome.replicas.1,
        old: outcome.old.map(|spec| AgentSpec::clone(&spec)),
        new: outcome.new.map(|spec| AgentSpec::clone(&spec)),
    }
}
