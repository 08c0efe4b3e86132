//! Environments as they are shown: what the store keeps, with what is seen of the instance.

use chassis_api::fuse::{Endpoint, Environment, EnvironmentHealth, Waiting};
use chassis_core::environment::{NUMBER, State};
use chassis_core::{CheckKind, Probe, Verdict};

use super::kept::Kept;
use super::request;
use crate::shared::Shared;
use crate::state::{AgentState, Slot};

pub(super) fn environment(shared: &Shared, found: chassis_store::Environment) -> Environment {
    let kept = Kept::from_json(&found.request);
    let agent = shared.agent(&found.key);
    let state = agent.as_ref().map(|agent| agent.state());
    let container = state.as_ref().and_then(|state| {
        let slot = state.slots.get(&NUMBER)?;
        let node = shared.nodes.of(slot.placed.as_ref())?;
        Some(format!("{}://{}", node.runtime_word(), slot.instance.observed.as_ref()?.id))
    });
    let is_placed = shared.nodes.is_alone() || state.as_deref().is_none_or(has_place);
    let host_id = if is_placed { found.node } else { String::new() };
    let host = Some(&host_id).filter(|host| *host != shared.own().name.as_str()).cloned().unwrap_or_default();
    let endpoints = kept.ports.iter().map(|port| Endpoint {
        name: port.name.clone(),
        url: format!("127.0.0.1:{}", port.host_port),
        port: port.port,
        host: host.clone(),
    });
    Environment {
        state: found.state,
        task_id: if found.state == State::Destroying { String::new() } else { found.task_id },
        host_id,
        url: container.unwrap_or_default(),
        created_at: found.created_at,
        updated_at: found.updated_at,
        error: found.error,
        endpoints: endpoints.collect(),
        health: state.as_deref().and_then(health),
        agent: kept.agent.map(|agent| agent.name).unwrap_or_default(),
        waiting: state.as_deref().and_then(|state| waiting(shared, state)),
        id: found.id,
        spec: kept.spec,
    }
}

/// False if it waits for a place. What is there had none while its node was the only one.
fn has_place(state: &AgentState) -> bool {
    let is_homeless =
        |slot: &Slot| slot.placed.is_none() && slot.instance.observed.is_none() && !slot.instance.busy;
    !state.slots.get(&NUMBER).is_some_and(|slot| is_homeless(slot))
}

/// How it stands, if it has no place yet.
fn waiting(shared: &Shared, state: &AgentState) -> Option<Waiting> {
    let slot = state.slots.get(&NUMBER).filter(|slot| slot.placed.is_none())?;
    let (ahead, refused) = shared.schedule.waiting(&state.instance_key(slot.instance.number))?;
    Some(Waiting { ahead: ahead as u64, reasons: request::reasons(&refused) })
}

/// What its check says, once it says anything.
fn health(state: &AgentState) -> Option<EnvironmentHealth> {
    let slot = state.slots.get(&NUMBER)?;
    let reports = slot.checks.report(&state.spec, slot.instance.observed.as_ref());
    let report = reports.into_iter().find(|report| report.kind == CheckKind::Readiness)?;
    let word = match report.verdict? {
        Verdict::Starting => "starting",
        Verdict::Healthy => "passing",
        Verdict::Unhealthy => "failing",
    };
    let last = report.probes.last()?;
    // Since the first look in a row that said the same; older ones than are kept do not matter to anybody.
    let same = |probe: &&Probe| probe.error.is_some() == last.error.is_some();
    let since = report.probes.iter().rev().take_while(same).last().map_or(last.time, |probe| probe.time);
    Some(EnvironmentHealth {
        state: word.to_owned(),
        since: report.healthy_since.unwrap_or(since),
        failures: report.failures,
        message: last.error.clone(),
    })
}
