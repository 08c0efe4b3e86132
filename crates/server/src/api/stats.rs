//! What instances use now.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State;
use chassis_api::{InstanceStats, Phase, Stats, StatsQuery};
use futures_util::future::join_all;

use super::SharedState;
use super::extract::Query;
use super::failure::{Failure, Result};
use super::instances::wire;
use super::select::Selection;
use crate::auth::Caller;
use crate::error::chain;
use crate::node_stats;
use crate::shared::Shared;

/// What the runtime says of a container, or why it says nothing.
type Answers = HashMap<Box<str>, std::result::Result<chassis_api::Usage, String>>;

pub(crate) async fn read(
    State(shared): SharedState,
    caller: Caller,
    Query(query): Query<StatsQuery>,
) -> Result<Json<Stats>> {
    caller.require_named(query.fleet.as_ref())?;
    if query.number.is_some() && query.agent.is_none() {
        let detail = "a number names an instance only together with its agent";
        return Err(Failure::invalid("agent_needed", detail));
    }
    let selection = Selection::read(&shared, query.labels.as_deref()).await?;
    let mut instances = instances(&shared, &caller, &query, &selection);
    let mut answers = ask(&shared, &instances).await;
    for stats in &mut instances {
        let Some(id) = stats.instance.container_id.as_deref() else { continue };
        match answers.remove(id) {
            Some(Ok(usage)) => stats.usage = Some(usage),
            Some(Err(message)) => stats.usage_error = Some(message),
            None => {}
        }
    }
    let node = node_stats::read(&shared.node);
    Ok(Json(Stats { nodes: node.into_iter().collect(), instances }))
}

fn instances(
    shared: &Shared,
    caller: &Caller,
    query: &StatsQuery,
    selection: &Selection,
) -> Vec<InstanceStats> {
    let mut instances = Vec::new();
    for agent in shared.agents() {
        let key = agent.key();
        if !caller.reaches(&key.fleet)
            || query.fleet.as_ref().is_some_and(|fleet| key.fleet != *fleet)
            || query.agent.as_ref().is_some_and(|name| key.agent != *name)
            || !selection.has_agent(&key.fleet, &agent.state().spec.labels)
        {
            continue;
        }
        let state = agent.state();
        let cpu_limit_cores = state.spec.resources.cpu.map(|cpu| f64::from(cpu.0) / 1000.0);
        let slots = state.slots.values();
        let slots = slots.filter(|slot| query.number.is_none_or(|number| slot.instance.number == number));
        instances.extend(slots.map(|slot| InstanceStats {
            instance: wire(shared, &state, slot),
            usage: None,
            usage_error: None,
            cpu_limit_cores,
        }));
    }
    instances
}

/// Asks for those that run, every node for its own. A runtime that fails as a whole is why nothing is known of any of them.
async fn ask(shared: &Shared, instances: &[InstanceStats]) -> Answers {
    let running =
        instances.iter().filter(|stats| matches!(stats.instance.phase, Phase::Running | Phase::Stopping));
    let mut by_node: BTreeMap<&str, Vec<Box<str>>> = BTreeMap::new();
    for stats in running {
        if let Some(id) = stats.instance.container_id.as_deref() {
            by_node.entry(&stats.instance.node).or_default().push(id.into());
        }
    }
    let asked = by_node.into_iter().map(|(name, ids)| async move {
        let Some(node) = name.parse().ok().and_then(|name| shared.nodes.get(&name)) else {
            return Answers::new();
        };
        match node.runtime.stats(&ids).await {
            Ok(answers) => {
                answers.into_iter().map(|(id, answer)| (id, answer.map_err(|error| chain(&error)))).collect()
            }
            Err(error) => {
                let message = chain(&error);
                ids.into_iter().map(|id| (id, Err(message.clone()))).collect()
            }
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}
