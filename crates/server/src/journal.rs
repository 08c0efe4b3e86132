//! What nodes tell of the time in which no server reached them: handed to the agents that it is about, and asked for again
//! until it is stored.

use std::sync::Arc;

use chassis_core::Entry;

use crate::nodes::NodeLink;
use crate::shared::Shared;

/// Asks a node for it before its containers are listed, so that what happened is noted in its order. Who does not get it now
/// gets it with a heartbeat.
pub(crate) async fn ask(shared: &Arc<Shared>, node: &NodeLink) {
    if let Some(remote) = &node.remote
        && let Ok(beat) = remote.heartbeat(None, None).await
    {
        hand_over(shared, node, &beat.journal);
    }
}

/// Gives each agent what is told of its instances.
pub(crate) fn hand_over(shared: &Arc<Shared>, node: &NodeLink, entries: &[Entry]) {
    for entry in entries {
        if let Some(agent) = shared.agent(&entry.instance.agent_key()) {
            agent.state().journal_add(&node.name, entry);
            agent.wake();
        }
    }
}

/// The last of these entries that is stored with all before it.
pub(crate) fn stored(shared: &Shared, node: &NodeLink, entries: &[Entry]) -> Option<u64> {
    let is_stored = |entry: &&Entry| {
        let agent = shared.agent(&entry.instance.agent_key());
        agent.is_none_or(|agent| agent.state().journal_has(&node.name, entry))
    };
    entries.iter().take_while(is_stored).last().map(|entry| entry.number)
}
