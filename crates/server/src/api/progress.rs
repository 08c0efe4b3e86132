//! How far instances are on the way to what is wanted of them, told as it changes.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use chassis_api::{FleetStuck, Progress, ProgressGetQuery, ProgressQuery, ProgressState, Pull, Scope, Stuck};
use chassis_core::{HealthState, InstanceKey, Phase, RunState, Site, Wanted};
use chassis_spec::{AgentName, AgentSpec, FleetName};
use futures_util::stream::{self, Stream};
use jiff::{SignedDuration, Timestamp};

use super::SharedState;
use super::extract::{Body, Query};
use super::failure::{Failure, Result};
use super::instances::agents_in;
use crate::auth::Caller;
use crate::checks::has_check;
use crate::shared::Shared;
use crate::state::{AgentState, Slot};

/// News of many instances are told together.
const COALESCE: Duration = Duration::from_millis(40);
/// An agent that crashed since the change must run this long before it counts as running.
const PROVEN: SignedDuration = SignedDuration::from_secs(2);
/// Asked again at least this often: some answers change only with time.
const RECHECK: Duration = Duration::from_millis(500);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const MOST_STUCK: usize = 10;

/// How one instance stands to what is wanted of it.
enum Standing {
    Ready,
    /// On its way.
    Working,
    /// The same, once there is room for it.
    Waiting(String),
    /// Runs, and waits for its turn to be replaced.
    Held,
    Stuck(String),
}

pub(crate) async fn follow(
    State(shared): SharedState,
    caller: Caller,
    Body(query): Body<ProgressQuery>,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>>>> {
    for scope in &query.scopes {
        caller.require(&scope.fleet)?;
    }
    let changed = shared.changed.subscribe();
    let start = (shared, changed, (query, caller), None::<Progress>, false);
    let stream = stream::unfold(start, |(shared, mut changed, asked, told, done)| async move {
        if done {
            return None;
        }
        loop {
            changed.mark_unchanged();
            let progress = progress(&shared, &asked.1, &asked.0.scopes);
            let done = progress.state != ProgressState::Working;
            if told.as_ref() != Some(&progress) {
                let event = Event::default().json_data(&progress).unwrap_or_default();
                return Some((Ok(event), (shared, changed, asked, Some(progress), done)));
            }
            let _ = tokio::time::timeout(RECHECK, changed.changed()).await;
            // A first change may be the last one that is missing; only a crowd is worth waiting for.
            if progress.total - progress.ready > 1 {
                tokio::time::sleep(COALESCE).await;
            }
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// How far it is just now.
pub(crate) async fn show(
    State(shared): SharedState,
    caller: Caller,
    Query(asked): Query<ProgressGetQuery>,
) -> Result<Json<Progress>> {
    let ProgressGetQuery { fleet, agent, number } = asked;
    caller.require(&fleet)?;
    let names: Vec<&str> = agent.iter().flat_map(|names| names.split(',')).collect();
    if number.is_some() && names.len() != 1 {
        let detail = "a number names an instance only together with its agent";
        return Err(Failure::invalid("agent_needed", detail));
    }
    let agents = names.into_iter().map(str::parse::<AgentName>).collect::<std::result::Result<Vec<_>, _>>();
    let agents =
        agents.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, "invalid_query", error.to_string()))?;
    let scope = |agent| Scope { fleet: fleet.clone(), agent, number };
    let scopes = match agents.as_slice() {
        [] => vec![scope(None)],
        _ => agents.into_iter().map(|agent| scope(Some(agent))).collect(),
    };
    Ok(Json(progress(&shared, &caller, &scopes)))
}

pub(super) fn progress(shared: &Arc<Shared>, caller: &Caller, scopes: &[Scope]) -> Progress {
    let now = Timestamp::now();
    let mut progress = Progress {
        state: ProgressState::Working,
        total: 0,
        ready: 0,
        pulls: pulls(shared, caller),
        held: 0,
        stuck: Vec::new(),
        fleets: Vec::new(),
    };
    let (mut working, mut stuck) = (0, 0);
    let (mut rolling, mut goes_back) = (false, false);
    let mut seen = |key: InstanceKey, phase: Phase, standing: Standing| {
        progress.total += 1;
        match standing {
            Standing::Ready => progress.ready += 1,
            Standing::Working => working += 1,
            Standing::Waiting(message) => {
                working += 1;
                if progress.stuck.len() < MOST_STUCK {
                    progress.stuck.push(Stuck { instance: key, phase, message });
                }
            }
            Standing::Held => progress.held += 1,
            Standing::Stuck(message) => {
                stuck += 1;
                if progress.stuck.len() < MOST_STUCK {
                    progress.stuck.push(Stuck { instance: key, phase, message });
                }
            }
        }
    };
    let starts = shared.just_started();
    for scope in scopes {
        for agent in agents_in(shared, scope) {
            let state = agent.state();
            rolling |= scope.number.is_none() && state.is_taking_over();
            // What is stuck does not stay so: it is undone.
            goes_back |= !starts && state.can_roll_back();
            let slots = state.slots.values();
            for slot in slots.filter(|slot| scope.number.is_none_or(|number| slot.instance.number == number))
            {
                let standing = match shared.nodes.unknown(slot.placed.as_ref()) {
                    Some(_) if starts || shared.nodes.is_unheard(slot.placed.as_ref()) => Standing::Working,
                    Some(message) => {
                        goes_back = false;
                        Standing::Stuck(message)
                    }
                    None => match standing(&state, slot, now) {
                        Standing::Working
                            if slot.instance.site == Site::Nowhere
                                && slot.instance.desired.wanted == Wanted::Running =>
                        {
                            waiting(shared, &state.instance_key(slot.instance.number))
                        }
                        standing => standing,
                    },
                };
                seen(state.instance_key(slot.instance.number), slot.phase(&state.spec), standing);
            }
        }
    }
    progress.fleets = fleets_stuck(shared, scopes);
    let all_ready = progress.ready == progress.total;
    progress.state = if all_ready && !rolling && !is_ending(shared, scopes) {
        ProgressState::Done
    } else if (all_ready && !progress.fleets.is_empty()) || (working == 0 && stuck > 0 && !goes_back) {
        ProgressState::Stuck
    } else {
        ProgressState::Working
    };
    progress
}

/// Pulls under way: of images that the caller's agents run.
fn pulls(shared: &Shared, caller: &Caller) -> Vec<Pull> {
    let agents = shared.agents();
    let mut pulls: Vec<Pull> = shared.pulls().values().cloned().collect();
    if caller.only_fleets().is_some() {
        let own = agents.iter().filter(|agent| caller.reaches(&agent.key().fleet));
        let images: HashSet<String> = own.map(|agent| agent.state().spec.image.to_string()).collect();
        pulls.retain(|pull| images.contains(&pull.image));
    }
    pulls
}

/// Fleets that cannot be taken away as things are.
fn fleets_stuck(shared: &Shared, scopes: &[Scope]) -> Vec<FleetStuck> {
    let ending = shared.ending();
    let whole = scopes.iter().filter(|scope| scope.agent.is_none());
    let stuck = |fleet: &FleetName| Some((fleet.clone(), ending.get(fleet)?.clone()?));
    whole
        .filter_map(|scope| stuck(&scope.fleet))
        .map(|(fleet, message)| FleetStuck { fleet, message })
        .collect()
}

/// True if the deletion of a fleet or agent is not at its end, though all instances may be gone.
fn is_ending(shared: &Arc<Shared>, scopes: &[Scope]) -> bool {
    let whole = scopes.iter().filter(|scope| scope.number.is_none());
    whole.into_iter().any(|scope| {
        (scope.agent.is_none() && shared.ending().contains_key(&scope.fleet))
            || agents_in(shared, scope).iter().any(|agent| agent.state().deleting)
    })
}

fn standing(state: &AgentState, slot: &Slot, now: Timestamp) -> Standing {
    let instance = &slot.instance;
    let phase = slot.phase(&state.spec);
    if let Some(blocked) = &instance.memory.blocked
        && (instance.desired.wanted != Wanted::Running || !slot.runs_as_wanted(state.desired()))
    {
        return Standing::Stuck(blocked.message.clone());
    }
    // How an earlier revision ended says nothing about this one.
    let present = instance.observed.as_ref().is_some_and(|observed| state.desired().serves(observed));
    match (instance.desired.wanted, phase) {
        (Wanted::Stopped, Phase::Stopped) if !instance.busy => Standing::Ready,
        (Wanted::Running, Phase::Completed) if present && !instance.busy => Standing::Ready,
        (Wanted::Running, Phase::Running) if slot.runs_as_wanted(state.desired()) => {
            match instance.health.state() {
                // Nobody has begun to look yet.
                None if has_check(&state.spec, instance.observed.as_ref()) => return Standing::Working,
                None | Some(HealthState::Healthy) => {}
                Some(HealthState::Starting) => return Standing::Working,
                Some(HealthState::Unhealthy | HealthState::NotReady) => {
                    return Standing::Stuck(failing_message(slot, &state.spec));
                }
            }
            if instance.memory.failures == 0
                || runs_since(slot).is_some_and(|at| now.duration_since(at) >= PROVEN)
            {
                Standing::Ready
            } else {
                Standing::Working
            }
        }
        (Wanted::Running, Phase::Running) if !instance.busy && state.is_paused() => {
            let agent = &state.key.agent;
            Standing::Stuck(format!("its rollout is paused; `chassis rollout resume {agent}` lets it go on"))
        }
        (Wanted::Running, Phase::Running) if !instance.busy => match &slot.lacks {
            Some(lacks) => Standing::Waiting(lacks.clone()),
            None => Standing::Held,
        },
        (Wanted::Running, Phase::Failed) if present && !instance.busy => {
            Standing::Stuck(exit_message(slot, &state.spec))
        }
        (Wanted::Running, Phase::Backoff) if present && instance.memory.failures > 1 => {
            Standing::Stuck(exit_message(slot, &state.spec))
        }
        _ => Standing::Working,
    }
}

/// Of one that has no place yet. What no node will ever take is not on its way.
fn waiting(shared: &Shared, key: &InstanceKey) -> Standing {
    match shared.schedule.waiting(key) {
        None => Standing::Working,
        Some((_, refused)) if refused.is_final() => Standing::Stuck(refused.to_string()),
        Some((_, refused)) => Standing::Waiting(refused.to_string()),
    }
}

fn runs_since(slot: &Slot) -> Option<Timestamp> {
    match slot.instance.observed.as_ref()?.state {
        RunState::Running { started_at } => Some(started_at),
        _ => None,
    }
}

fn failing_message(slot: &Slot, spec: &AgentSpec) -> String {
    let what = match slot.instance.health.state() {
        Some(HealthState::NotReady) => "not ready",
        _ => "unhealthy",
    };
    let key = format!("{}-{}", spec.name, slot.instance.number);
    let error = slot.checks.error().unwrap_or("its check fails");
    format!("{what}: {error}; `chassis health {key}` shows its checks")
}

fn exit_message(slot: &Slot, spec: &AgentSpec) -> String {
    let memory = &slot.instance.memory;
    // What the node shows may not have been noted yet.
    let shown = slot.instance.observed.as_ref().and_then(|observed| match observed.state {
        RunState::Exited { exit, .. } => Some(exit),
        _ => None,
    });
    let how = shown
        .or(memory.exit)
        .map_or_else(|| "ended".to_owned(), |exit| chassis_core::EventKind::Exited(exit).to_string());
    let key = format!("{}-{}", spec.name, slot.instance.number);
    match memory.failures {
        0 | 1 => format!("{how}; `chassis logs {key}` shows what it said"),
        failures => format!("{how}, {failures} times in a row; `chassis logs {key}` shows what it said"),
    }
}
