//! Revisions: shown, undone, paused, and given another image.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use chassis_api::{
    AgentOutcome, Changed, Revision, RevisionOutcome, RolloutStatus, RolloutUndo, Scope, Upgrade, Upgraded,
};
use chassis_core::{AgentKey, Wanted};
use chassis_spec::{AgentName, AgentSpec, FleetName};
use jiff::Timestamp;

use super::agents::{agent_find, outcome_wire};
use super::condition::Expected;
use super::extract::{Body, Path};
use super::failure::{Failure, Result};
use super::page::{Paging, Part, digits};
use super::wait::Awaited;
use super::{SharedState, to_end};
use crate::controller::agents_changed;
use crate::failpoint::failpoint;
use crate::shared::Shared;

type Name = Path<(FleetName, AgentName)>;

pub(crate) async fn status(
    State(shared): SharedState,
    Path((fleet, agent)): Name,
) -> Result<Json<RolloutStatus>> {
    let controller = agent_find(&shared, fleet, agent)?;
    let state = controller.state();
    let tally = state.tally(Timestamp::now());
    let count = |matches: &dyn Fn(&crate::state::Slot) -> bool| {
        let running = state.slots.values().filter(|slot| slot.instance.desired.wanted == Wanted::Running);
        u32::try_from(running.filter(|slot| matches(slot)).count()).unwrap_or(u32::MAX)
    };
    let serves = |slot: &crate::state::Slot| {
        slot.instance.observed.as_ref().is_some_and(|observed| state.desired().serves(observed))
    };
    let fails_at = state.rollout.as_ref().and_then(|rollout| rollout.fails_at(&state.spec.rollout));
    Ok(Json(RolloutStatus {
        fleet: state.key.fleet.clone(),
        agent: state.key.agent.clone(),
        revision: state.revision,
        rollout: state.rollout.clone(),
        wanted: tally.wanted,
        updated: count(&|slot| !slot.is_extra() && serves(slot)),
        ready: if shared.is_up() { tally.ready } else { 0 },
        extra: count(&|slot| slot.is_extra()),
        fails_at: fails_at.filter(|_| tally.wanted > 0),
    }))
}

pub(crate) async fn revisions(
    State(shared): SharedState,
    Path((fleet, agent)): Name,
    paging: Paging,
) -> Result<Part<Revision>> {
    let key = AgentKey { fleet, agent };
    let revisions = shared.store.revision_list(&key).await?;
    let present = revisions.last().map(|revision| revision.revision);
    let wire = |revision: chassis_store::Revision| Revision {
        revision: revision.revision,
        template: revision.template,
        deployed_at: revision.deployed_at,
        cause: revision.cause,
        outcome: revision.outcome.map(|outcome| match outcome {
            chassis_store::RevisionOutcome::Complete => RevisionOutcome::Complete,
            chassis_store::RevisionOutcome::Failed => RevisionOutcome::Failed,
        }),
        pin: revision.pin,
        spec: AgentSpec::clone(&revision.spec),
        present: Some(revision.revision) == present,
    };
    let mut part = paging.part();
    for revision in revisions {
        if !part.offer(digits(revision.revision), || wire(revision)) {
            break;
        }
    }
    Ok(part)
}

pub(crate) async fn undo(
    State(shared): SharedState,
    Path((fleet, agent)): Name,
    Expected(expected): Expected,
    Body(undo): Body<RolloutUndo>,
) -> Result<(Option<Extension<Awaited>>, Json<AgentOutcome>)> {
    let key = AgentKey { fleet, agent };
    to_end(async move {
        failpoint("undo:before");
        let outcome = shared.store.revision_undo(&key, undo.to_revision, undo.dry_run, expected).await?;
        if !undo.dry_run {
            failpoint("undo:stored");
            agents_changed(&shared, vec![key.clone()]).await;
        }
        Ok(((!undo.dry_run).then(|| awaited(key)), Json(outcome_wire(outcome))))
    })
    .await
}

pub(crate) async fn pause(
    State(shared): SharedState,
    Path((fleet, agent)): Name,
    Expected(expected): Expected,
) -> Result<Json<Changed>> {
    set_paused(shared, AgentKey { fleet, agent }, true, expected).await
}

pub(crate) async fn resume(
    State(shared): SharedState,
    Path((fleet, agent)): Name,
    Expected(expected): Expected,
) -> Result<Json<Changed>> {
    set_paused(shared, AgentKey { fleet, agent }, false, expected).await
}

fn awaited(key: AgentKey) -> Extension<Awaited> {
    Extension(Awaited(Scope { fleet: key.fleet, agent: Some(key.agent), number: None }))
}

async fn set_paused(
    shared: Arc<Shared>,
    key: AgentKey,
    paused: bool,
    expected: Option<u64>,
) -> Result<Json<Changed>> {
    to_end(async move {
        failpoint("pause:before");
        let changed = shared.store.rollout_pause(&key, paused, expected).await?;
        failpoint("pause:stored");
        agents_changed(&shared, vec![key]).await;
        Ok(Json(Changed { changed }))
    })
    .await
}

pub(crate) async fn upgrade(
    State(shared): SharedState,
    Path((fleet, agent)): Name,
    Expected(expected): Expected,
    Body(upgrade): Body<Upgrade>,
) -> Result<(Extension<Awaited>, Json<Upgraded>)> {
    if upgrade.image.is_some() == upgrade.refresh {
        return Err(Failure::invalid("one_of_two", "give either `image` or `refresh`"));
    }
    let controller = agent_find(&shared, fleet, agent)?;
    let (key, name, held) = {
        let state = controller.state();
        (state.key.clone(), state.spec.image.clone(), state.pin.clone())
    };
    let pin = match upgrade.image {
        Some(_) => None,
        None => Some(shared.runtime.image_refresh(&name, held.as_ref()).await?),
    };
    // A registry tells a digest, and nothing of what is on the node.
    let is_same =
        pin.as_ref().zip(held.as_ref()).is_some_and(|(pin, held)| match (&pin.digest, &held.digest) {
            (Some(now), Some(before)) => now == before,
            _ => pin.id.is_some() && pin.id == held.id,
        });
    let pin = if is_same { held } else { pin };
    to_end(async move {
        failpoint("upgrade:before");
        let image = upgrade.image.as_ref();
        let outcome = shared.store.agent_upgrade(&key, image, pin.as_ref(), expected).await?;
        failpoint("upgrade:stored");
        agents_changed(&shared, vec![key.clone()]).await;
        Ok((awaited(key), Json(Upgraded { outcome: outcome_wire(outcome), pin })))
    })
    .await
}
