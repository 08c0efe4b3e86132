//! Data that was to be removed while its node did not answer: the store keeps what is owed, and it is removed as soon as the
//! node is back, before an instance of the same name can find it.

use std::sync::Arc;

use chassis_core::InstanceKey;
use chassis_store::{DataOwed, Scope, Term};

use crate::error::chain;
use crate::failpoint::failpoint;
use crate::nodes::NodeLink;
use crate::shared::Shared;

/// Notes of every node but those that are asked at once that this data is to go from there too.
pub(crate) async fn owe(
    shared: &Shared,
    term: Term,
    of: &Scope,
    asked: &[Arc<NodeLink>],
) -> chassis_store::Result<()> {
    let is_asked = |node: &NodeLink| asked.iter().any(|asked| asked.name == node.name);
    for node in shared.nodes.others().into_values().filter(|node| !is_asked(node)) {
        shared.store.data_owe(term, &node.name, of.clone()).await?;
    }
    failpoint("owe:after");
    Ok(())
}

/// Removes what is owed on a node that answers. What cannot be removed stays owed, and is tried again with the next look.
pub(crate) async fn pay(shared: &Shared, node: &NodeLink) {
    let Some(term) = shared.lead.term().filter(|_| !shared.nodes.is_alone()) else { return };
    let owed = match shared.store.data_owed(&node.name).await {
        Ok(owed) => owed,
        Err(error) => {
            return tracing::warn!(node = %node.name, error = chain(&error), "cannot list what is to be removed");
        }
    };
    for one in owed {
        if let Err(message) = pay_one(shared, node, term, one.clone()).await {
            tracing::warn!(node = %node.name, instance = %one.instance, message, "cannot remove data yet, will try again");
        }
    }
}

async fn pay_one(shared: &Shared, node: &NodeLink, term: Term, owed: DataOwed) -> Result<(), String> {
    if is_used(shared, node, &owed.instance) {
        // It was given to another of that name before it could be removed: it stays owed until that one is no more.
        return Ok(());
    }
    let runtime = shared.hands_at(term, node).map_err(|error| error.to_string())?;
    failpoint("pay:before");
    runtime.data_remove(&owed.instance).await.map_err(|error| chain(&error))?;
    shared.store.data_paid(term, owed).await.map_err(|error| chain(&error))
}

/// True if an instance of that name is on the node, or has its data there.
fn is_used(shared: &Shared, node: &NodeLink, key: &InstanceKey) -> bool {
    let agent = shared.agent(&key.agent_key());
    let (placed, home) = agent.map(|agent| agent.state().place_of(key.number)).unwrap_or_default();
    placed.is_some_and(|placed| placed.node == node.name) || home.is_some_and(|home| home == node.name)
}
