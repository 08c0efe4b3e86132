//! Repeats the checks of running instances: one task for each run and check, which ends with the run.

use std::sync::Arc;
use std::time::Duration;

use chassis_core::{CheckKind, Run};
use chassis_node::probe::probe;
use tokio::sync::Semaphore;

use crate::checks::prepares;
use crate::controller::AgentController;
use crate::shared::Shared;

/// Commands in sandboxes cost the runtime a process each; more at once would only slow one another. Each agent has slots of
/// its own, so that commands that hang hold up nobody else's.
const COMMANDS: usize = 4;

/// Between two questions whether the agent is started, if the runtime could not tell.
const AGAIN: Duration = Duration::from_secs(1);

/// A check of one run, to be repeated.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(crate) number: u32,
    pub(crate) kind: CheckKind,
    pub(crate) run: Run,
    /// Before the first look.
    pub(crate) pause: Duration,
}

/// Looks until the run or its check is no more, once what prepares it has ended: the agent cannot answer before.
pub(crate) async fn watch(shared: Arc<Shared>, agent: Arc<AgentController>, watch: Watch) {
    let mut pause = watch.pause;
    let prepares = prepares(&agent.state().spec);
    if prepares && !started(&shared, &agent, &watch).await {
        return;
    }
    loop {
        tokio::time::sleep(pause).await;
        let Some(next) = look(&shared, &agent, &watch).await else { return };
        pause = next;
    }
}

/// Waits until the agent is started. False if the run or its check ended first.
async fn started(shared: &Shared, agent: &AgentController, watch: &Watch) -> bool {
    while agent.state().check_spec(watch.number, watch.kind, &watch.run).is_some() {
        let node = shared.node_of(&agent.key().instance(watch.number));
        if node.is_up() && node.runtime.instance_started(&watch.run.id).await.is_ok() {
            return true;
        }
        tokio::time::sleep(AGAIN).await;
    }
    false
}

/// One look. Returns how long to wait before the next.
pub(crate) async fn look(shared: &Shared, agent: &AgentController, watch: &Watch) -> Option<Duration> {
    let check = agent.state().check_spec(watch.number, watch.kind, &watch.run)?;
    let _slot = match &check.exec {
        Some(_) => Some(agent.probing.acquire().await.ok()?),
        None => None,
    };
    // While the runtime is away nobody knows which process is whose.
    let node = shared.node_of(&agent.key().instance(watch.number));
    let seen = if node.is_up() { probe(&*node.runtime, &watch.run.id, &check).await } else { None };
    shared.metrics.looked(watch.kind, seen.as_ref());
    let noted = agent.state().note_probe(watch, seen)?;
    if noted.changed {
        agent.wake();
        shared.changed.send_replace(());
    }
    Some(noted.pause)
}

/// Slots for commands in one agent's sandboxes.
pub(crate) fn slots() -> Semaphore {
    Semaphore::new(COMMANDS)
}
