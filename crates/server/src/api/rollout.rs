//! Revisions: shown, undone, paused, and given another image.

use std::slice::from_ref;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use chassis_api::{
    AgentOutcome, Changed, Revision, RevisionOutcome, RolloutStatus, RolloutUndo, Scope, Upgrade, Upgraded,
};
use chassis_core::{AgentKey, Pin, Wanted};
use chassis_spec::{AgentName, AgentSpec, FleetName, ImageName};
use chassis_store::{AgentOutcome as AgentOutcomeStored, Error as StoreError};
use jiff::Timestamp;

use super::admission::check_specs;
use super::agents::{agent_find, outcome_wire};
use super::condition::Expected;
use super::extract::{Body, Path};
use super::failure::{Failure, Result};
use super::page::{Paging, Part, digits};
use super::wait::Awaited;
use super::{SharedState, to_end};
use crate::auth::Caller;
use crate::controller::agents_changed;
use crate::failpoint::failpoint;
use crate::shared::Shared;

/// Of a change that begins anew because somebody else was faster.
const TRIES: u32 = 5;

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
        ready: tally.ready,
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
    caller: Caller,
    Path((fleet, agent)): Name,
    Expected(expected): Expected,
    Body(undo): Body<RolloutUndo>,
) -> Result<(Option<Extension<Awaited>>, Json<AgentOutcome>)> {
    let key = AgentKey { fleet, agent };
    to_end(async move {
        failpoint("undo:before");
        let outcome = undo_allowed(&shared, &caller, &key, expected, &undo).await?;
        if !undo.dry_run {
            failpoint("undo:stored");
            agents_changed(&shared, vec![key.clone()]).await;
        }
        Ok(((!undo.dry_run).then(|| awaited(key)), Json(outcome_wire(outcome))))
    })
    .await
}

/// What an earlier revision opens is asked of whoever takes it up again; and nobody changes the agent between the two.
async fn undo_allowed(
    shared: &Shared,
    caller: &Caller,
    key: &AgentKey,
    expected: Option<u64>,
    undo: &RolloutUndo,
) -> Result<AgentOutcomeStored> {
    let mut tries = 0;
    loop {
        let version = shared.store.agent_load(key).await?.agent.version;
        let planned = shared.store.revision_undo(key, undo.to_revision, true, expected).await?;
        if let Some(spec) = planned.new.as_deref() {
            check_specs(shared, caller, &key.fleet, from_ref(spec)).await?;
        }
        if undo.dry_run {
            return Ok(planned);
        }
        match shared.store.revision_undo(key, undo.to_revision, false, expected.or(Some(version))).await {
            Err(error) if begins_anew(&error, expected, &mut tries) => {}
            undone => return Ok(undone?),
        }
    }
}

/// Another image is another program with what the definition opens.
async fn upgrade_allowed(
    shared: &Shared,
    caller: &Caller,
    key: &AgentKey,
    expected: Option<u64>,
    image: Option<&ImageName>,
    pin: Option<&Pin>,
) -> Result<AgentOutcomeStored> {
    let mut tries = 0;
    loop {
        let agent = shared.store.agent_load(key).await?.agent;
        if let Some(expected) = expected.filter(|expected| *expected != agent.version) {
            let what = format!("agent `{key}`");
            return Err(StoreError::VersionConflict { what, expected, found: agent.version }.into());
        }
        let image_after = image.unwrap_or(&agent.spec.image).clone();
        let spec = AgentSpec { image: image_after, ..AgentSpec::clone(&agent.spec) };
        check_specs(shared, caller, &key.fleet, from_ref(&spec)).await?;
        match shared.store.agent_upgrade(key, image, pin, Some(agent.version)).await {
            Err(error) if begins_anew(&error, expected, &mut tries) => {}
            upgraded => return Ok(upgraded?),
        }
    }
}

/// True if the agent was changed since it was looked at, by somebody of whom the caller did not need to know.
fn begins_anew(error: &StoreError, expected: Option<u64>, tries: &mut u32) -> bool {
    *tries += 1;
    matches!(error, StoreError::VersionConflict { .. }) && expected.is_none() && *tries < TRIES
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
    Extension(Awaited::of(Scope { fleet: key.fleet, agent: Some(key.agent), number: None }))
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
    caller: Caller,
    Path((fleet, agent)): Name,
    Expected(expected): Expected,
    Body(upgrade): Body<Upgrade>,
) -> Result<(Extension<Awaited>, Json<Upgraded>)> {
    if upgrade.image.is_some() == upgrade.refresh {
        return Err(Failure::invalid("one_of_two", "give either `image` or `refresh`"));
    }
    let controller = agent_find(&shared, fleet, agent)?;
    let (key, spec, held) = {
        let state = controller.state();
        (state.key.clone(), Arc::clone(&state.spec), state.pin.clone())
    };
    check_specs(&shared, &caller, &key.fleet, from_ref(&*spec)).await?;
    let pin = match upgrade.image {
        Some(_) => None,
        None => Some(shared.own().runtime.image_refresh(&spec.image, held.as_ref()).await?),
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
        let (image, pinned) = (upgrade.image.as_ref(), pin.as_ref());
        let outcome = upgrade_allowed(&shared, &caller, &key, expected, image, pinned).await?;
        failpoint("upgrade:stored");
        agents_changed(&shared, vec![key.clone()]).await;
        Ok((awaited(key), Json(Upgraded { outcome: outcome_wire(outcome), pin })))
    })
    .await
}
