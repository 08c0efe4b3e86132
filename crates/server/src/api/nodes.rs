//! The machines that run instances: for now the server's own.

use axum::extract::State;
use chassis_api::Node;

use super::SharedState;
use super::page::{Paging, Part};
use crate::auth::Caller;
use crate::node_stats;
use crate::shared::Health;

pub(crate) async fn list(State(shared): SharedState, caller: Caller, paging: Paging) -> Part<Node> {
    let health = shared.health.borrow().clone();
    let (runtime_version, runtime_error) = match health {
        Health::Unknown => (None, None),
        Health::Up { version } => (Some(version), None),
        Health::Down { message } => (None, Some(message)),
    };
    let is_up = runtime_error.is_none();
    let (mut instances, mut running) = (0, 0);
    for agent in shared.agents().iter().filter(|agent| caller.reaches(&agent.key().fleet)) {
        let (all, _, run) = agent.state().counts();
        instances += all;
        running += if is_up { run } else { 0 };
    }
    let mut part = paging.part();
    part.offer(shared.node.clone(), || Node {
        name: shared.node.clone(),
        runtime: shared.runtime_name.to_owned(),
        runtime_version,
        runtime_error,
        instances,
        running,
        stats: node_stats::read(&shared.node),
    });
    part
}
