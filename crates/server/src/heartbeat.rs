//! Keeps in touch with one node, so that the scheduler knows whether it is there and what it has.
//!
//! ```text
//!   every BEAT: heartbeat ──▶ the book: it counts ────────────────▶ its lease goes on with the next one
//!                                 └─ it does not, in this term yet: take the term over ▶ list ▶ report ─┐
//!                                                         ▲                                             │
//!                                                         └── remove what is not its own ◀──────────────┘
//! ```
//! Only the server that acts does so. The own node is asked by asking its runtime, and has no lease.

use std::sync::Arc;
use std::time::Duration;

use chassis_core::rollout::is_extra;
use chassis_core::schedule::{Held, Pulse};
use chassis_node::{Granted, Heartbeat, RemoteRuntime};
use chassis_store::Term;
use tokio::time::MissedTickBehavior;

use crate::error::chain;
use crate::journal;
use crate::nodes::NodeLink;
use crate::owed;
use crate::shared::Shared;
use crate::watch;

/// A third of the time after which a node is suspect.
const BEAT: Duration = Duration::from_secs(5);
/// What is not its own is removed and listed again this often before the next heartbeat.
const REPORTS: usize = 3;

/// Runs for as long as the node is one of this chassis.
pub(crate) async fn keep_in_touch(shared: Arc<Shared>, node: Arc<NodeLink>) {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut granted = None;
    // What it told last of the time in which nobody reached it.
    let mut told = Vec::new();
    // In which it was made to count through this link: another one, with another address or token, begins anew.
    let mut joined_term = 0;
    let mut had_lease = false;
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            () = node.touch.notified() => {}
        }
        let Some(term) = shared.lead.term().filter(|_| shared.schedule.is_open()) else {
            granted = None;
            continue;
        };
        let was_granted = granted.is_some();
        let heard = match &node.remote {
            None if node.is_up() => Some(Heard { term: joined_term, next: None, has_lease: false }),
            None => None,
            Some(remote) => {
                let stored = journal::stored(&shared, &node, &told);
                let beat = beat(&node, remote, granted.take(), stored).await;
                beat.map(|beat| {
                    journal::hand_over(&shared, &node, &beat.journal);
                    let heard =
                        Heard { term: beat.term, next: Some(beat.granted()), has_lease: beat.lease > 0 };
                    told = beat.journal;
                    heard
                })
            }
        };
        let Some(Heard { term: node_term, next, has_lease }) = heard else { continue };
        if has_lease && !had_lease {
            // What it could not start without one.
            watch::unblock(&shared);
        }
        had_lease = has_lease;
        let node_term = if node_term == joined_term { node_term } else { 0 };
        if node_term != 0 && shared.is_silent(&node) {
            // Before it counts as there, and gets anything that could find what is to be removed.
            owed::pay(&shared, &node).await;
        }
        match shared.schedule.heard(term, &node.name, node_term) {
            Some(Ok(Pulse::Alive)) => {
                granted = next;
                if granted.is_some() && !has_lease && !was_granted {
                    node.touch.notify_one();
                }
            }
            Some(Ok(Pulse::Report { term: wanted })) => {
                if join(&shared, term, &node, wanted).await {
                    joined_term = wanted;
                    node.touch.notify_one();
                    node.relist.notify_one();
                    watch::look_after(&shared, &node).await;
                    watch::unblock(&shared);
                    shared.agents().iter().for_each(|agent| agent.wake());
                }
            }
            // The book does not have it yet, or is another's.
            Some(Err(_)) | None => {}
        }
    }
}

/// What a node answers to a heartbeat.
struct Heard {
    term: u64,
    /// What its lease goes on from, if the answer counts.
    next: Option<Granted>,
    /// It may run what may move.
    has_lease: bool,
}

/// Asks whether it is there, and in which term. Nothing if it or what runs its instances does not answer.
async fn beat(
    node: &NodeLink,
    remote: &RemoteRuntime,
    granted: Option<Granted>,
    stored: Option<u64>,
) -> Option<Heartbeat> {
    match remote.heartbeat(granted, stored).await {
        Ok(beat @ Heartbeat { engine: Ok(_), .. }) => {
            if beat.dropped > 0 {
                tracing::warn!(node = %node.name, entries = beat.dropped, "the node could not keep all that happened while no server reached it");
            }
            Some(beat)
        }
        Ok(Heartbeat { engine: Err(failed), .. }) => {
            tracing::debug!(node = %node.name, error = failed.message, "what runs its instances does not answer");
            None
        }
        Err(error) => {
            tracing::debug!(node = %node.name, error = chain(&error), "no answer to a heartbeat");
            None
        }
    }
}

/// Has the node take a term over and tell what it has, until that is only its own. True if it counts then.
async fn join(shared: &Arc<Shared>, term: Term, node: &Arc<NodeLink>, wanted: u64) -> bool {
    if let Some(remote) = &node.remote
        && let Err(error) = remote.take_term(wanted).await
    {
        tracing::warn!(node = %node.name, error = chain(&error), "the node cannot be taken over yet");
        return false;
    }
    owed::pay(shared, node).await;
    for _ in 0..REPORTS {
        let listed = match node.runtime.instance_list().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(node = %node.name, error = chain(&error), "the node does not tell what it has");
                return false;
            }
        };
        // Extra instances of rollouts have no places; their agents know what becomes of them.
        let listed: Vec<_> = listed
            .into_iter()
            .filter(|owned| owned.observed.name_is_right && !is_extra(owned.key.number))
            .map(|owned| (Held { instance: owned.key, epoch: owned.epoch }, owned.observed.id))
            .collect();
        let held: Vec<Held> = listed.iter().map(|(held, _)| held.clone()).collect();
        let Some(Ok(orders)) = shared.schedule.reported(term, &node.name, wanted, &held) else {
            return false;
        };
        if orders.joined {
            tracing::info!(node = %node.name, instances = held.len(), "the node is there");
            return true;
        }
        for end in &orders.end {
            for (_, id) in listed.iter().filter(|(held, _)| held == end) {
                tracing::info!(node = %node.name, instance = %end.instance, "removes what is elsewhere by now, or no more");
                watch::stray_end(shared, node, term, id).await;
            }
        }
    }
    false
}
