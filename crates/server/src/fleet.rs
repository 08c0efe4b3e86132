//! What a fleet itself needs: its network while it lives, and a clean end.

use std::sync::Arc;
use std::time::Duration;

use chassis_core::InstanceKey;
use chassis_spec::{AgentName, FleetName};
use chassis_store::{ErrorKind, Scope, Term};

use crate::error::chain;
use crate::failpoint::failpoint;
use crate::nodes::NodeLink;
use crate::owed;
use crate::shared::Shared;

/// After so many failures whoever waits for a fleet's deletion is told what is in its way.
const TRIES_TOLD: u32 = 3;

/// Makes the fleet's network and directory on the own node, ahead of its first instance. A runtime that does not answer is
/// no failure: the first instance makes them too, on whatever node. So is a server that does not act.
pub(crate) async fn fleet_prepare(shared: &Shared, fleet: &FleetName) {
    let Some(term) = shared.lead.term() else { return };
    let Ok(runtime) = shared.hands_at(term, shared.own()) else { return };
    if let Err(error) = runtime.fleet_prepare(fleet).await {
        tracing::warn!(%fleet, error = chain(&error), "cannot prepare the fleet's network yet");
    }
}

/// Goes on with every deletion that was under way, and takes away what a node has of fleets that are no more.
pub(crate) async fn fleets_sweep(shared: &Arc<Shared>, node: &NodeLink) {
    let Some(term) = shared.lead.term() else { return };
    // The networks first: a fleet is in the store before its network is made, so one that is made meanwhile is known.
    let found = node.runtime.fleet_list().await.unwrap_or_else(|error| {
        tracing::warn!(error = chain(&error), "cannot list the networks");
        Vec::new()
    });
    let known = match shared.store.fleet_list().await {
        Ok(fleets) => fleets,
        Err(error) => {
            tracing::warn!(%error, "cannot list the fleets");
            return;
        }
    };
    for fleet in known.iter().filter(|fleet| fleet.deleting) {
        fleet_finish_if_deleting(shared, &fleet.name).await;
    }
    for stray in found.iter().filter(|found| !known.iter().any(|fleet| fleet.name == **found)) {
        let Ok(runtime) = shared.hands_at(term, node) else { return };
        if let Err(error) = runtime.fleet_remove(stray).await {
            tracing::warn!(fleet = %stray, error = chain(&error), "cannot remove a network left behind");
        }
    }
}

/// Takes away a fleet that is marked for deletion and has no agents left, trying until it succeeds.
pub(crate) async fn fleet_finish_if_deleting(shared: &Arc<Shared>, name: &FleetName) {
    shared.ending().entry(name.clone()).or_default();
    if !shared.lead.acts() {
        // Who acts does it; `follow` sees when it is done.
        return;
    }
    if !shared.store.fleet_get(name).await.is_ok_and(|fleet| fleet.deleting) {
        shared.ending().remove(name);
        return;
    }
    let has_agents = shared.agents().iter().any(|agent| agent.key().fleet == *name);
    // One at a time: a second one could meet a fleet of the same name that was made since.
    if has_agents || !shared.finishing().insert(name.clone()) {
        return;
    }
    let shared = Arc::clone(shared);
    let name = name.clone();
    tokio::spawn(async move {
        let (mut pause, mut tries) = (Duration::from_millis(100), 0);
        loop {
            let Some(term) = shared.lead.term() else {
                // The server that acts by now ends it.
                shared.finishing().remove(&name);
                return;
            };
            let Err(message) = fleet_finish(&shared, term, &name).await else { break };
            if shared.lead.term() != Some(term) {
                continue;
            }
            tracing::warn!(fleet = %name, message, "cannot end the fleet's deletion, will try again");
            tries += 1;
            // What is only just ending is no news.
            if tries >= TRIES_TOLD {
                shared.ending().insert(name.clone(), Some(message));
                shared.changed.send_replace(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(15));
        }
        shared.finishing().remove(&name);
        shared.ending().remove(&name);
        shared.changed.send_replace(());
    });
}

/// Removes the tier 1 data and the kept output of a fleet's instances, or of one agent's, whether or not they still exist. A
/// node that is away is not waited for: what is there goes when it is back.
pub(crate) async fn data_remove(
    shared: &Shared,
    term: Term,
    fleet: &FleetName,
    agent: Option<&AgentName>,
) -> Result<(), String> {
    let matches = |key: &InstanceKey| agent.is_none_or(|agent| key.agent == *agent);
    let of = Scope { fleet: fleet.clone(), agent: agent.cloned(), number: None };
    let answering = shared.nodes_answering();
    owed::owe(shared, term, &of, &answering).await.map_err(|error| chain(&error))?;
    for node in answering {
        let hands = || shared.hands_at(term, &node).map_err(|error| error.to_string());
        let found = hands()?.data_list(fleet).await.map_err(|error| chain(&error))?;
        for key in found.iter().filter(|key| matches(key)) {
            hands()?.data_remove(key).await.map_err(|error| chain(&error))?;
        }
    }
    for key in shared.kept_logs.instances_of(fleet).iter().filter(|key| matches(key)) {
        shared.kept_logs.remove(key).await;
    }
    Ok(())
}

async fn fleet_finish(shared: &Shared, term: Term, name: &FleetName) -> Result<(), String> {
    failpoint("fleet_forget:before");
    let fleet = match shared.store.fleet_get(name).await {
        Ok(fleet) if fleet.deleting => fleet,
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(chain(&error)),
        _ => return Ok(()),
    };
    if fleet.cleanup {
        data_remove(shared, term, name, None).await?;
        failpoint("fleet_forget:cleaned");
    }
    for node in shared.nodes.there() {
        let runtime = shared.hands_at(term, &node).map_err(|error| error.to_string())?;
        runtime.fleet_remove(name).await.map_err(|error| chain(&error))?;
    }
    failpoint("fleet_forget:removed");
    match shared.store.fleet_forget(term, name).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(chain(&error)),
        _ => Ok(()),
    }
}
