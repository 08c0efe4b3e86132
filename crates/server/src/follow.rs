//! Follows what other servers change in the same database, so that this one shows it, and acts on it if it is the one that
//! acts. What is missed is found by a full load, now and then.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chassis_core::{AgentKey, EventKind};
use chassis_spec::FleetName;
use chassis_store::{EventFilter, Fleet, Seen};
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;

use crate::controller::{agent_take, agents_reload};
use crate::error::chain;
use crate::fleet::fleet_finish_if_deleting;
use crate::nodes;
use crate::shared::Shared;

/// The safety net: everything is outcome this often even if nothing seems to happen.
const RELOAD: Duration = Duration::from_mins(1);
/// News that come together are looked at together.
const COALESCE: Duration = Duration::from_millis(100);
/// A database that takes longer over a short answer is away.
const ANSWER: Duration = Duration::from_secs(2);
/// Events that are read at a time.
const PAGE: u32 = 500;

/// The fleets as they were last seen: what is shown while the database is away.
#[derive(Debug, Default)]
pub(crate) struct Fleets(RwLock<Vec<Fleet>>);

impl Fleets {
    fn get(&self) -> Vec<Fleet> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, fleets: Vec<Fleet>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fleets;
    }
}

impl Shared {
    /// All fleets by name; while the database is away, as they were last seen.
    pub(crate) async fn fleet_list(&self) -> chassis_store::Result<Vec<Fleet>> {
        Ok(self.unless_away(self.store.fleet_list()).await?.unwrap_or_else(|| self.fleets.get()))
    }

    /// One fleet; while the database is away, as it was last seen.
    pub(crate) async fn fleet_get(&self, name: &FleetName) -> chassis_store::Result<Fleet> {
        if let Some(fleet) = self.unless_away(self.store.fleet_get(name)).await? {
            return Ok(fleet);
        }
        let seen = self.fleets.get().into_iter().find(|fleet| fleet.name == *name);
        seen.ok_or_else(|| chassis_store::Error::FleetNotFound(name.clone()))
    }

    /// What the database says; none while it is away.
    pub(crate) async fn unless_away<T>(
        &self,
        read: impl Future<Output = chassis_store::Result<T>>,
    ) -> chassis_store::Result<Option<T>> {
        if self.lead.is_alone() {
            return read.await.map(Some);
        }
        if self.store.unavailable_since().is_some() {
            return Ok(None);
        }
        match tokio::time::timeout(ANSWER, read).await {
            Ok(Err(chassis_store::Error::Unavailable { .. })) | Err(_) => Ok(None),
            Ok(answer) => answer.map(Some),
        }
    }
}

/// Runs for as long as the server does. One that is alone on its database has nobody to follow.
pub(crate) async fn follow(shared: Arc<Shared>) {
    if shared.lead.is_alone() {
        return;
    }
    let mut changes = shared.store.changes();
    let mut events = shared.store.event_watch();
    let mut after = *events.borrow_and_update();
    let mut reload = tokio::time::interval(RELOAD);
    reload.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (mut agents, mut everything) = (HashSet::new(), false);
        tokio::select! {
            seen = changes.recv() => {
                let mut take = |seen| match seen {
                    Ok(Seen::Agents(keys)) => agents.extend(keys),
                    Ok(Seen::Nodes | Seen::Anything) | Err(RecvError::Lagged(_)) => everything = true,
                    Err(RecvError::Closed) => {}
                };
                if matches!(seen, Err(RecvError::Closed)) {
                    return;
                }
                take(seen);
                while let Ok(seen) = changes.try_recv() {
                    take(Ok(seen));
                }
            }
            newer = events.changed() => if newer.is_err() { return },
            _ = reload.tick() => everything = true,
        }
        let outcome = if everything {
            agents_load(&shared).await
        } else {
            agents_reload(&shared, agents.into_iter().collect()).await
        };
        if let Err(error) = outcome {
            // That the database is away the store has said.
            if shared.store.unavailable_since().is_none() {
                tracing::warn!(
                    error = chain(&error),
                    "cannot load what another server changed, will try again"
                );
            }
            reload.reset_after(COALESCE * 10);
        }
        let newest = *events.borrow_and_update();
        if everything {
            nodes::refresh_surely(Arc::clone(&shared)).await;
        }
        if newest != after || everything {
            fleets_refresh(&shared).await;
            secrets_notice(&shared, after).await;
            after = newest;
        }
        tokio::time::sleep(COALESCE).await;
    }
}

/// Loads every agent, and ends the controllers of those that are no more.
pub(crate) async fn agents_load(shared: &Arc<Shared>) -> chassis_store::Result<()> {
    let mut outcome = HashSet::new();
    for record in shared.store.agent_load_all().await? {
        outcome.insert(record.agent.key.clone());
        agent_take(shared, record).await;
    }
    // One that was made since is asked for by itself.
    let missing = shared.agents().into_iter().map(|agent| agent.key().clone());
    let missing: Vec<AgentKey> = missing.filter(|key| !outcome.contains(key)).collect();
    agents_reload(shared, missing).await
}

/// Sees which fleets there are, and which are being deleted.
pub(crate) async fn fleets_refresh(shared: &Arc<Shared>) {
    let fleets = match shared.store.fleet_list().await {
        Ok(fleets) => fleets,
        Err(error) => {
            tracing::debug!(error = chain(&error), "cannot list the fleets");
            return;
        }
    };
    let deleting: Vec<FleetName> =
        fleets.iter().filter(|fleet| fleet.deleting).map(|fleet| fleet.name.clone()).collect();
    shared.fleets.set(fleets);
    if shared.lead.acts() {
        for name in &deleting {
            fleet_finish_if_deleting(shared, name).await;
        }
    } else {
        let mut ending = shared.ending();
        ending.retain(|name, _| deleting.contains(name));
        for name in deleting {
            ending.entry(name).or_default();
        }
    }
    shared.changed.send_replace(());
}

/// An instance that is blocked for want of a secret need not wait when another server has stored it.
async fn secrets_notice(shared: &Shared, after: u64) {
    let filter = EventFilter { after: Some(after), limit: PAGE, newest: true, ..EventFilter::default() };
    let Ok(events) = shared.store.event_list(&filter).await else { return };
    let written = |kind: &EventKind| matches!(kind, EventKind::SecretWritten { .. });
    let fleets: HashSet<FleetName> =
        events.into_iter().filter(|event| written(&event.kind)).filter_map(|event| event.fleet).collect();
    for agent in shared.agents().iter().filter(|agent| fleets.contains(&agent.key().fleet)) {
        agent.state().unblock(Timestamp::now());
        agent.wake();
    }
}
