//! Has the runtime take, restore and forget snapshots, as their rows say.
//!
//! A row is there before anything is done, and changes after it was done: whoever acts next goes on from it, and what the
//! runtime has without a row is removed. `chassis_core::snapshot` decides; each step runs by itself, so that one that is slow
//! holds up no other.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chassis_core::environment::{NUMBER, State};
use chassis_core::snapshot::State::{Ready, Restoring};
use chassis_core::snapshot::{Decision, Origin, decide, removal_retry};
use chassis_core::{AgentKey, NodeName, Reason, RunState};
use chassis_store::{Error, NodeRecord, Snapshot, SnapshotFilter, SnapshotStep, Term};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::error::chain;
use crate::failpoint::failpoint;
use crate::nodes::NodeLink;
use crate::shared::{Shared, lock};

/// Rows and runtime are held against each other this often, even if nothing seems to happen.
const SWEEP: Duration = Duration::from_mins(5);
/// Whether a node that is away is back.
const AWAY: Duration = Duration::from_secs(2);
/// Before an instance that should be running is looked at again.
const COMING: Duration = Duration::from_millis(200);
/// News that come together are looked at together.
const COALESCE: Duration = Duration::from_millis(50);
/// Before a store or runtime that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// What is known of the work on snapshots, besides their rows.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    wake: Notify,
    /// Something is being done about these.
    busy: Mutex<HashSet<String>>,
}

impl Snapshots {
    /// A row has changed: look what is to be done.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

/// The container of an environment, if it runs.
pub(crate) fn container(shared: &Shared, key: &AgentKey) -> Option<Box<str>> {
    let agent = shared.agent(key)?;
    let state = agent.state();
    let observed = state.slots.get(&NUMBER)?.instance.observed.as_ref()?;
    matches!(observed.state, RunState::Running { .. }).then(|| observed.id.clone())
}

/// Runs for as long as the server does.
pub(crate) async fn look_after(shared: Arc<Shared>) {
    let mut terms = shared.lead.subscribe();
    let mut events = shared.store.event_watch();
    let mut swept: HashMap<NodeName, (Term, Instant)> = HashMap::new();
    loop {
        let Some(term) = shared.lead.term() else {
            if terms.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut wait = SWEEP;
        for node in shared.nodes.all() {
            let is_swept = swept.get(&node.name).is_some_and(|(of, at)| *of == term && at.elapsed() < SWEEP);
            if is_swept {
                continue;
            }
            if !node.is_up() {
                // It is swept as soon as it is there.
                wait = wait.min(AWAY);
                continue;
            }
            if sweep(&shared, term, &node).await {
                swept.insert(node.name.clone(), (term, Instant::now()));
            } else {
                wait = wait.min(PAUSE);
            }
        }
        let (due, rests) = round(&shared, term).await.unwrap_or_else(|error| {
            if !shared.is_fenced(term, &error) {
                tracing::warn!(error = chain(&error), "cannot see what is to be done about snapshots");
            }
            (PAUSE, false)
        });
        let wait = wait.min(due);
        tokio::select! {
            () = shared.snapshots.wake.notified() => {}
            // Only events tell of other servers, and of the end of what one must not go before.
            changed = events.changed(), if rests || !shared.lead.is_alone() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(COALESCE).await;
                events.mark_unchanged();
            }
            changed = terms.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Begins what is to be done by now. Returns when to look again, and whether something that should be gone has others that rest
/// on it.
async fn round(shared: &Arc<Shared>, term: Term) -> chassis_store::Result<(Duration, bool)> {
    let now = Timestamp::now();
    let (due, next) = shared.store.snapshot_due(now).await?;
    let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
    let mut wait = next.map_or(SWEEP, until).min(SWEEP);
    let mut rests = false;
    let known = if due.is_empty() { Vec::new() } else { shared.store.node_list().await? };
    for found in due {
        let snapshot = found.snapshot;
        let node = match home(shared, &known, &snapshot) {
            Home::Node(node) if node.is_up() => Some(node),
            Home::Gone => None,
            // There is nothing to be done about it before that answers.
            Home::Node(_) | Home::Away => {
                wait = wait.min(AWAY);
                continue;
            }
        };
        let (origin, container) = origin(shared, &snapshot).await?;
        let decision = decide(&snapshot.life(found.may_expire), origin, now);
        if let Decision::Wait(at) = decision {
            let at = if origin == Origin::Coming { Some(COMING) } else { at.map(until) };
            wait = wait.min(at.unwrap_or(SWEEP));
            rests |= at.is_none();
            continue;
        }
        if !lock(&shared.snapshots.busy).insert(snapshot.id.clone()) {
            continue;
        }
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let stored = carry_out(&shared, term, &snapshot, node, decision, container).await;
            if let Err(error) = stored
                && !shared.is_fenced(term, &error)
            {
                let id = snapshot.id.as_str();
                tracing::warn!(snapshot = id, error = chain(&error), "cannot store what became of it");
                tokio::time::sleep(PAUSE).await;
            }
            lock(&shared.snapshots.busy).remove(&snapshot.id);
            shared.snapshots.wake();
        });
    }
    Ok((wait, rests))
}

async fn origin(shared: &Shared, of: &Snapshot) -> chassis_store::Result<(Origin, Option<Box<str>>)> {
    let found = match shared.store.environment_get(&of.environment).await {
        Err(Error::EnvironmentNotFound(_)) => return Ok((Origin::Gone, None)),
        found => found?,
    };
    if found.state != State::Running {
        return Ok((Origin::Gone, None));
    }
    Ok(match container(shared, &found.key) {
        Some(container) => (Origin::Running, Some(container)),
        None => (Origin::Coming, None),
    })
}

async fn carry_out(
    shared: &Shared,
    term: Term,
    of: &Snapshot,
    node: Option<Arc<NodeLink>>,
    decision: Decision,
    container: Option<Box<str>>,
) -> chassis_store::Result<()> {
    let Ok(_slot) = shared.work.acquire().await else { return Ok(()) };
    let container = container.unwrap_or_default();
    let Some(node) = node else {
        // With its node is gone what it kept.
        let step = if decision == Decision::Remove { SnapshotStep::Removed } else { SnapshotStep::Lost };
        return shared.store.snapshot_step(term, &of.id, step).await;
    };
    let Ok(hands) = shared.hands_at(term, &node) else { return Ok(()) };
    let step = match decision {
        Decision::Wait(_) => return Ok(()),
        Decision::Take => {
            failpoint("snapshot_take:before");
            let taken = hands.snapshot_create(&container, &of.data).await;
            failpoint("snapshot_take:after");
            match taken {
                Ok(taken) => SnapshotStep::Taken { digest: taken.digest, size_bytes: taken.size_bytes },
                Err(error) => SnapshotStep::Failed(chain(&error)),
            }
        }
        Decision::Restore => {
            failpoint("snapshot_restore:before");
            let restored = hands.snapshot_restore(&container, &of.data).await;
            failpoint("snapshot_restore:after");
            restored.map_or_else(|error| SnapshotStep::Failed(chain(&error)), |()| SnapshotStep::Restored)
        }
        Decision::Remove => {
            failpoint("snapshot_remove:before");
            let removed = hands.snapshot_remove(&of.data).await;
            failpoint("snapshot_remove:after");
            match removed {
                Ok(()) => SnapshotStep::Removed,
                Err(error) if error.reason() == Reason::RuntimeUnavailable => {
                    // It goes when its node is back, however often that is asked meanwhile.
                    node.suspect.notify_one();
                    tokio::time::sleep(PAUSE).await;
                    return Ok(());
                }
                Err(error) => {
                    let retry_at = removal_retry(of.removals + 1, Timestamp::now());
                    SnapshotStep::NotRemoved { why: chain(&error), retry_at }
                }
            }
        }
        Decision::Fail => SnapshotStep::Failed(format!("environment {} does not run", of.environment)),
        Decision::Expire => SnapshotStep::Expired,
    };
    shared.store.snapshot_step(term, &of.id, step).await
}

/// Removes what a node has and no row tells of, and marks rows whose snapshot it does not have. True if that was done.
async fn sweep(shared: &Shared, term: Term, node: &NodeLink) -> bool {
    match try_sweep(shared, term, node).await {
        Ok(()) => true,
        Err(error) => {
            let node = node.name.as_str();
            tracing::warn!(
                node,
                error,
                "cannot hold the snapshots against those of the runtime, will try again"
            );
            false
        }
    }
}

async fn try_sweep(shared: &Shared, term: Term, node: &NodeLink) -> Result<(), String> {
    if !node.runtime.takes_snapshots().await.map_err(|error| chain(&error))? {
        return Ok(());
    }
    let all = SnapshotFilter { limit: u32::MAX, ..SnapshotFilter::default() };
    let nodes = shared.store.node_list().await.map_err(|error| chain(&error))?;
    let is_here = |row: &Snapshot| match home(shared, &nodes, row) {
        Home::Node(home) => home.name == node.name,
        Home::Away => false,
        Home::Gone => true,
    };
    // Rows from before the list must be in it, and what is in the list must have a row after it.
    let before = shared.store.snapshot_list(&all).await.map_err(|error| chain(&error))?;
    let names: HashSet<String> =
        node.runtime.snapshot_list().await.map_err(|error| chain(&error))?.into_iter().collect();
    let after = shared.store.snapshot_list(&all).await.map_err(|error| chain(&error))?;
    let known: HashSet<&str> =
        after.iter().filter(|row| is_here(row)).map(|snapshot| snapshot.data.as_str()).collect();
    for name in names.iter().filter(|name| !known.contains(name.as_str())) {
        tracing::info!(snapshot = name, node = %node.name, "removing a snapshot that nobody knows");
        let hands = shared.hands_at(term, node).map_err(|error| error.to_string())?;
        hands.snapshot_remove(name).await.map_err(|error| chain(&error))?;
    }
    let is_kept = |row: &Snapshot| matches!(row.state, Ready | Restoring);
    // Those of a node that is none any more are lost with it.
    let is_lost = |row: &&Snapshot| is_kept(row) && is_here(row) && !names.contains(&row.data);
    for lost in before.iter().filter(is_lost) {
        let stored = shared.store.snapshot_step(term, &lost.id, SnapshotStep::Lost).await;
        stored.map_err(|error| chain(&error))?;
    }
    Ok(())
}

/// Where what a snapshot keeps is.
enum Home {
    Node(Arc<NodeLink>),
    /// On a node of the store's with which this server is not in touch, or not yet.
    Away,
    /// Nowhere: the store knows its node no more.
    Gone,
}

/// That a node is gone for good only the store says; `known` are its nodes.
fn home(shared: &Shared, known: &[NodeRecord], of: &Snapshot) -> Home {
    let is_known = known.iter().any(|record| record.name().as_str() == of.node);
    match shared.snapshot_node(of) {
        // Alone, this machine may have had another name when that was written.
        Some(node) if node.name.as_str() == of.node || !is_known => Home::Node(node),
        _ if is_known => Home::Away,
        _ => Home::Gone,
    }
}

impl Shared {
    /// The node that has what a snapshot keeps, if this server knows it. Alone, that is the only one.
    pub(crate) fn snapshot_node(&self, of: &Snapshot) -> Option<Arc<NodeLink>> {
        if self.nodes.is_alone() {
            return Some(Arc::clone(self.nodes.own()));
        }
        self.nodes.get(&of.node.parse().ok()?)
    }
}
