//! The health of one instance: as it is known, or looked at just now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chassis_api::HealthReport;
use chassis_core::{CheckKind, Run};
use chassis_spec::{AgentName, FleetName};

use super::SharedState;
use super::agents::agent_find;
use super::extract::Path;
use super::failure::Result;
use super::instances::no_instance;
use crate::controller::AgentController;
use crate::prober::{self, Watch};

type Named = Path<(FleetName, AgentName, u32)>;

pub(crate) async fn show(
    State(shared): SharedState,
    Path((fleet, agent, number)): Named,
) -> Result<Json<HealthReport>> {
    let agent = agent_find(&shared, fleet, agent)?;
    report(&agent, number).map(Json)
}

/// Looks at once, without waiting for the interval, and answers what came of it.
pub(crate) async fn look(
    State(shared): SharedState,
    Path((fleet, agent, number)): Named,
) -> Result<Json<HealthReport>> {
    let agent = agent_find(&shared, fleet, agent)?;
    report(&agent, number)?;
    let looks = watches(&agent, number);
    futures_util::future::join_all(looks.iter().map(|watch| prober::look(&shared, &agent, watch))).await;
    report(&agent, number).map(Json)
}

fn watches(agent: &Arc<AgentController>, number: u32) -> Vec<Watch> {
    let state = agent.state();
    let instance = state.slots.get(&number).map(|slot| &slot.instance);
    let running =
        instance.and_then(|instance| Some((instance.observed.as_ref()?, instance.running_since()?)));
    let Some((observed, started_at)) = running else { return Vec::new() };
    let run = Run { id: observed.id.clone(), started_at };
    let watch = |kind| Watch { number, kind, run: run.clone(), pause: std::time::Duration::ZERO };
    [CheckKind::Health, CheckKind::Readiness].map(watch).into()
}

fn report(agent: &AgentController, number: u32) -> Result<HealthReport> {
    let state = agent.state();
    let key = state.instance_key(number);
    let slot = state.slots.get(&number).ok_or_else(|| no_instance(&key))?;
    Ok(HealthReport {
        instance: key.short_name(),
        state: slot.instance.health.state(),
        restart_held_until: slot.checks.held_until,
        checks: slot.checks.report(&state.spec, slot.instance.observed.as_ref()),
    })
}
