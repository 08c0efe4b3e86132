//! Watches a node's runtime: hears its events, lists everything when it cannot have heard all, and knows whether it answers.
//!
//! ```text
//!   subscribe ──▶ list everything ──▶ Up: events wake one agent each ──stream ends──▶ subscribe again
//!       │               │
//!       └── no answer ──┴──▶ Down: controllers rest ──pause──▶ subscribe again
//! ```
//! The subscription comes before the list, so that what happens in between is in one of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis_core::{AgentKey, InstanceKey, RunState};
use chassis_runtime::{Owned, RuntimeEvent};
use chassis_spec::LogsSpec;
use chassis_store::Term;
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::time::MissedTickBehavior;

use crate::error::chain;
use crate::fleet;
use crate::journal;
use crate::kept_logs;
use crate::nodes::{Health, NodeLink};
use crate::owed;
use crate::shared::Shared;

/// The safety net: everything is listed this often even if nothing seems to happen.
const RESYNC: Duration = Duration::from_mins(5);
/// How long a runtime that does not answer is left alone; it comes back with a restart of seconds.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_CAP: Duration = Duration::from_secs(5);
/// Where others make containers, everything is listed because of one that is unknown no more often than this.
const RELIST_PAUSE: Duration = Duration::from_millis(300);
/// On a busy machine containers and images of others come and go all the time: what is blocked is tried again because
/// of that no more often than this.
const UNBLOCK_PAUSE: Duration = Duration::from_secs(1);

/// Runs for as long as the server does, or the node is one of its nodes.
pub(crate) async fn watch(shared: Arc<Shared>, node: Arc<NodeLink>) {
    let mut pause = PAUSE;
    loop {
        let began = Instant::now();
        let ended = watch_once(&shared, &node).await;
        tracing::warn!(node = %node.name, error = ended, "the runtime does not answer");
        set_health(&shared, &node, Health::Down { message: ended });
        if began.elapsed() > PAUSE_CAP {
            pause = PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_CAP);
    }
}

/// One connection, from subscription to its end. Returns why it ended.
async fn watch_once(shared: &Arc<Shared>, node: &Arc<NodeLink>) -> String {
    let runtime = &node.runtime;
    let mut events = match runtime.events().await {
        Ok(events) => events,
        Err(error) => return chain(&error),
    };
    let version = match runtime.info().await {
        Ok(info) => info.version,
        Err(error) => return chain(&error),
    };
    journal::ask(shared, node).await;
    match resync(shared, node).await {
        Ok(strays) => strays_remove(shared, node, strays),
        Err(error) => return chain(&error),
    }
    // Before anything can be made there.
    owed::pay(shared, node).await;
    set_health(shared, node, Health::Up { version });
    for agent in shared.agents() {
        agent.state().watch_anew(Timestamp::now());
    }
    unblock(shared);
    node.touch.notify_one();
    if node.is_own {
        look_after(shared, node).await;
    }
    let mut next_resync = tokio::time::interval_at(tokio::time::Instant::now() + RESYNC, RESYNC);
    let mut unblocks = tokio::time::interval(UNBLOCK_PAUSE);
    unblocks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut relists = tokio::time::interval(RELIST_PAUSE);
    relists.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut surroundings_changed, mut relist) = (false, false);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(RuntimeEvent::Surroundings)) => surroundings_changed = true,
                Some(Ok(RuntimeEvent::Instance { key, id })) => hear(shared, node, key, id),
                Some(Err(error)) => return chain(&error),
                None => return "the event stream ended".to_owned(),
            },
            _ = unblocks.tick(), if surroundings_changed => {
                surroundings_changed = false;
                unblock(shared);
            }
            () = node.relist.notified() => relist = true,
            _ = relists.tick(), if relist => {
                relist = false;
                if let Err(error) = resync(shared, node).await {
                    return chain(&error);
                }
            }
            _ = next_resync.tick() => {
                match resync(shared, node).await {
                    Ok(strays) => strays_remove(shared, node, strays),
                    Err(error) => return chain(&error),
                }
                networks_check(shared, node);
            }
            () = node.suspect.notified() => if let Err(error) = runtime.info().await {
                return chain(&error);
            },
        }
    }
}

/// Takes away what a node has of fleets that are no more, and has its networks looked at.
pub(crate) async fn look_after(shared: &Arc<Shared>, node: &Arc<NodeLink>) {
    owed::pay(shared, node).await;
    fleet::fleets_sweep(shared, node).await;
    networks_check(shared, node);
}

/// Lists every container of a node and gives each agent its own. Returns those that nobody wants there.
pub(crate) async fn resync(shared: &Arc<Shared>, node: &NodeLink) -> chassis_runtime::Result<Vec<Box<str>>> {
    let asked = Instant::now();
    let mut by_agent: HashMap<AgentKey, Vec<Owned>> = HashMap::new();
    for owned in node.runtime.instance_list().await? {
        by_agent.entry(owned.key.agent_key()).or_default().push(owned);
    }
    let mut strays = Vec::new();
    for agent in shared.agents() {
        let owned = by_agent.remove(agent.key()).unwrap_or_default();
        strays.extend(agent.state().seen_list(&shared.nodes, node, owned, asked));
        agent.wake();
    }
    let unknown = by_agent.into_values().flatten().filter(|owned| owned.observed.name_is_right);
    strays.extend(unknown.map(|owned| owned.observed.id));
    shared.changed.send_replace(());
    Ok(strays)
}

/// Has what guards the networks looked at: a firewall that was reloaded has forgotten it. Only who acts does.
pub(crate) fn networks_check(shared: &Arc<Shared>, node: &Arc<NodeLink>) {
    let Some(term) = shared.lead.term() else { return };
    let (shared, node) = (Arc::clone(shared), Arc::clone(node));
    tokio::spawn(async move {
        let Ok(runtime) = shared.hands_at(term, &node) else { return };
        if let Err(error) = runtime.networks_check().await {
            tracing::warn!(error = chain(&error), "cannot look at what guards the networks");
        }
    });
}

/// Something happened to a container of this server's.
fn hear(shared: &Arc<Shared>, node: &Arc<NodeLink>, key: InstanceKey, id: Box<str>) {
    let agent = shared.agent(&key.agent_key());
    match agent.filter(|agent| agent.state().look(&shared.nodes, node, key.number, id.clone())) {
        Some(agent) => agent.wake(),
        None => match shared.lead.term() {
            Some(term) => stray_look(shared, node, term, key, id),
            None => shared.relist_if_observing(),
        },
    }
}

/// Has every instance that is blocked try again.
pub(crate) fn unblock(shared: &Shared) {
    for agent in shared.agents() {
        agent.state().unblock(Timestamp::now());
        agent.wake();
    }
}

/// A container of an instance that does not exist: a server that was killed had asked for it, and it was made since.
fn stray_look(shared: &Arc<Shared>, node: &Arc<NodeLink>, term: Term, key: InstanceKey, id: Box<str>) {
    let (shared, node) = (Arc::clone(shared), Arc::clone(node));
    tokio::spawn(async move {
        let found = node.runtime.instance_inspect(&id).await;
        if let Ok(Some(owned)) = found
            && owned.observed.name_is_right
        {
            tracing::info!(instance = %key, "found a container that nobody wants");
            stray_remove(&shared, &node, term, id);
        }
    });
}

/// Removes what nobody wants. Of a server that does not act that cannot be said: it may be behind those who want it.
pub(crate) fn strays_remove(shared: &Arc<Shared>, node: &Arc<NodeLink>, strays: Vec<Box<str>>) {
    if let Some(term) = shared.lead.term() {
        for id in strays {
            stray_remove(shared, node, term, id);
        }
    }
}

fn stray_remove(shared: &Arc<Shared>, node: &Arc<NodeLink>, term: Term, id: Box<str>) {
    let (shared, node) = (Arc::clone(shared), Arc::clone(node));
    tokio::spawn(async move { stray_end(&shared, &node, term, &id).await });
}

/// The same, to its end.
pub(crate) async fn stray_end(shared: &Shared, node: &NodeLink, term: Term, id: &str) {
    if let Ok(Some(owned)) = node.runtime.instance_inspect(id).await
        && owned.observed.state != RunState::Created
    {
        let keep = LogsSpec::default().keep;
        kept_logs::keep(shared, &*node.runtime, term, &owned.key, id, keep).await;
    }
    let Ok(runtime) = shared.hands_at(term, node) else { return };
    if let Err(error) = runtime.instance_remove(id).await {
        tracing::warn!(container = %id, error = chain(&error), "cannot remove a container that nobody wants");
    }
}

pub(crate) fn set_health(shared: &Shared, node: &NodeLink, health: Health) {
    let changed = node.health.send_if_modified(|now| {
        let differs = *now != health;
        *now = health;
        differs
    });
    if changed {
        shared.agents().iter().for_each(|agent| agent.wake());
        shared.changed.send_replace(());
    }
}
