//! The [`Store`] on SQL: the tables, and the threads that work on them, for SQLite and Postgres alike.
//!
//! - [`connection`] is what the tables need of a database;
//! - [`worker`] has the threads, and commits together what comes together;
//! - [`key`] has the encryption key;
//! - the rest are tables, and [`apply`] is what ties them together.

mod agent;
mod agent_profile;
mod api_key;
mod apply;
pub(crate) mod audit_log;
mod claim;
pub(crate) mod column;
pub(crate) mod connection;
mod dead_letter;
mod environment;
pub(crate) mod event;
mod exit;
mod fleet;
mod gone;
mod instance;
pub(crate) mod key;
mod keyed;
mod node;
mod owed;
mod place;
mod revision;
mod secret;
mod snapshot;
pub(crate) mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use chassis_core::{
    AgentKey, AuditEntry, Duty, Event, EventKind, ExitRecord, InstanceKey, Liveness, NodeName, NodeSpec, Pin,
    Rollout,
};
use chassis_spec::{AgentName, ApiKeyName, FleetName, ImageName, Labels, SecretName};
use jiff::Timestamp;
use tokio::sync::{broadcast, watch};
use zeroize::Zeroizing;

use crate::Store;
use crate::access::{ApiKey, ApiKeyUse, AuditChain, AuditFilter, AuditRow};
use crate::environment::{
    AgentProfileRecord, DeadLetter, Environment, EnvironmentEnd, EnvironmentFilter, EnvironmentNew,
};
use crate::error::{Error, Result};
use crate::keyed::{KeptAnswer, KeptRequest};
use crate::node::{DataOwed, NodeRecord, NodeRegistration, Placed, PlacementUpdate};
use crate::snapshot::{Snapshot, SnapshotDue, SnapshotFilter, SnapshotNew, SnapshotStep};
use crate::types::{
    AgentOutcome, AgentRecord, Applied, Apply, CommitObserver, EventFilter, Fleet, InstanceChange,
    InstanceUpdate, Lease, Revision, Scope, SecretInfo, Seen, Server, Term,
};
use key::SharedKey;
use worker::{Reader, Writer};

/// See the [`Store`] that it is.
pub struct SqlStore {
    pub(crate) server_id: String,
    // Dropped first: the connection that closes last takes SQLite's log away.
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) key: SharedKey,
    pub(crate) newest: watch::Receiver<u64>,
    pub(crate) commits: Arc<AtomicU64>,
    pub(crate) peers: Box<dyn Peers>,
}

/// The other servers of the same database.
#[async_trait]
pub(crate) trait Peers: Send + Sync {
    fn acting(&self) -> watch::Receiver<bool>;
    /// None as soon as the lease may have run out.
    fn term(&self) -> Option<Term>;
    fn lease(&self) -> Option<Lease>;
    async fn resign(&self);
    fn changes(&self) -> broadcast::Receiver<Seen>;
    fn unavailable_since(&self) -> Option<Timestamp>;
    /// Lists the servers that are there, as [`claim::servers`] understands it; none where there is only one.
    fn servers_sql(&self) -> Option<&'static str>;
}

impl SqlStore {
    /// Transactions committed since the store was opened: fewer than operations, where those came together.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for SqlStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SqlStore").field("server_id", &self.server_id).finish_non_exhaustive()
    }
}

/// Refuses a change by somebody who saw another version than there is.
fn check_version(what: impl FnOnce() -> String, expected: Option<u64>, found: u64) -> Result<()> {
    match expected {
        Some(expected) if expected != found => Err(Error::VersionConflict { what: what(), expected, found }),
        _ => Ok(()),
    }
}

#[async_trait]
impl Store for SqlStore {
    fn server_id(&self) -> &str {
        &self.server_id
    }

    fn acting(&self) -> watch::Receiver<bool> {
        self.peers.acting()
    }

    fn is_acting(&self) -> bool {
        self.peers.term().is_some()
    }

    fn term(&self) -> Option<Term> {
        self.peers.term()
    }

    fn lease(&self) -> Option<Lease> {
        self.peers.lease()
    }

    async fn resign(&self) {
        self.peers.resign().await;
    }

    fn changes(&self) -> broadcast::Receiver<Seen> {
        self.peers.changes()
    }

    fn unavailable_since(&self) -> Option<Timestamp> {
        self.peers.unavailable_since()
    }

    fn commit_observe(&self, observer: CommitObserver) {
        self.writer.observe(observer);
    }

    async fn server_list(&self) -> Result<Vec<Server>> {
        let Some(sql) = self.peers.servers_sql() else { return Ok(Vec::new()) };
        self.reader.read(move |connection| claim::servers(connection, sql)).await
    }

    async fn node_claimed(&self) -> Result<Option<String>> {
        self.reader.read(claim::get).await
    }

    async fn node_claim(&self, term: Term, node: &str, replace: bool) -> Result<String> {
        let node = node.to_owned();
        self.writer.act(term, move |change| claim::claim(change, &node, replace)).await
    }

    async fn node_is_cordoned(&self) -> Result<bool> {
        self.reader.read(claim::is_cordoned).await
    }

    async fn node_cordon(&self, cordoned: bool) -> Result<()> {
        self.writer.write(move |change| claim::cordon(change, cordoned)).await
    }

    async fn node_list(&self) -> Result<Vec<NodeRecord>> {
        self.reader.read(node::list).await
    }

    async fn node_get(&self, name: &NodeName) -> Result<NodeRecord> {
        let name = name.clone();
        self.reader.read(move |connection| node::get(connection, &name)).await
    }

    async fn node_register(
        &self,
        new: NodeRegistration,
        own: &NodeSpec,
        kept: Vec<InstanceKey>,
        expected: Option<u64>,
    ) -> Result<NodeRecord> {
        let own = own.clone();
        self.writer.write(move |change| node::register(change, new, &own, &kept, expected)).await
    }

    async fn node_token(&self, name: &NodeName) -> Result<Zeroizing<String>> {
        let name = name.clone();
        self.writer.write(move |change| node::token(change, &name)).await
    }

    async fn node_assign(&self, name: &NodeName, duty: Duty, expected: Option<u64>) -> Result<NodeRecord> {
        let name = name.clone();
        self.writer.write(move |change| node::assign(change, &name, duty, expected)).await
    }

    async fn node_remove(&self, name: &NodeName, expected: Option<u64>) -> Result<()> {
        let name = name.clone();
        self.writer.write(move |change| node::remove(change, &name, expected)).await
    }

    async fn node_abandon(&self, name: &NodeName, expected: Option<u64>) -> Result<()> {
        let name = name.clone();
        self.writer.write(move |change| gone::abandon(change, &name, expected)).await
    }

    async fn node_note(&self, term: Term, name: &NodeName, liveness: Liveness) -> Result<()> {
        let name = name.clone();
        self.writer.act(term, move |change| node::note(change, &name, liveness)).await
    }

    async fn node_drained(&self, term: Term, name: &NodeName) -> Result<()> {
        let name = name.clone();
        self.writer.act(term, move |change| node::drained(change, &name)).await
    }

    async fn placement_list(&self, node: Option<&NodeName>) -> Result<Vec<(InstanceKey, Placed)>> {
        let node = node.cloned();
        self.reader.read(move |connection| place::list(connection, node.as_ref())).await
    }

    async fn home_list(&self, node: &NodeName) -> Result<Vec<InstanceKey>> {
        let node = node.clone();
        self.reader.read(move |connection| place::homes(connection, &node)).await
    }

    async fn data_owe(&self, term: Term, node: &NodeName, of: Scope) -> Result<()> {
        let node = node.clone();
        self.writer.act(term, move |change| owed::owe(change, &node, &of)).await
    }

    async fn data_owed(&self, node: &NodeName) -> Result<Vec<DataOwed>> {
        let node = node.clone();
        self.reader.read(move |connection| owed::list(connection, &node)).await
    }

    async fn data_paid(&self, term: Term, owed: DataOwed) -> Result<()> {
        self.writer.act(term, move |change| owed::paid(change, &owed)).await
    }

    async fn schedule_begin(&self, term: Term) -> Result<u32> {
        self.writer.act(term, |change| claim::schedule_begin(change)).await
    }

    async fn placements_record(&self, term: Term, updates: Vec<PlacementUpdate>) -> Result<()> {
        self.writer.act(term, move |change| place::record(change, updates)).await
    }

    async fn fleet_create(&self, name: &FleetName, labels: &Labels) -> Result<Fleet> {
        environment::check_not_reserved(name)?;
        let (name, labels) = (name.clone(), labels.clone());
        self.writer.write(move |change| fleet::create(change, &name, &labels)).await
    }

    async fn fleet_get(&self, name: &FleetName) -> Result<Fleet> {
        let name = name.clone();
        self.reader.read(move |connection| fleet::get(connection, &name)).await
    }

    async fn fleet_list(&self) -> Result<Vec<Fleet>> {
        self.reader.read(fleet::list).await
    }

    async fn fleet_delete(&self, name: &FleetName, cleanup: bool, expected: Option<u64>) -> Result<Fleet> {
        let name = name.clone();
        self.writer.write(move |change| fleet::delete(change, &name, cleanup, expected)).await
    }

    async fn fleet_forget(&self, term: Term, name: &FleetName) -> Result<()> {
        let name = name.clone();
        self.writer.act(term, move |change| fleet::forget(change, &name)).await
    }

    async fn apply(&self, apply: &Apply) -> Result<Applied> {
        let apply = apply.clone();
        self.writer.write(move |change| apply::apply(change, &apply)).await
    }

    async fn agent_load(&self, key: &AgentKey) -> Result<AgentRecord> {
        let key = key.clone();
        self.reader.read(move |connection| agent::load(connection, &key)).await
    }

    async fn agent_load_all(&self) -> Result<Vec<AgentRecord>> {
        self.reader.read(agent::load_all).await
    }

    async fn agent_scale(&self, key: &AgentKey, count: u32, expected: Option<u64>) -> Result<AgentRecord> {
        let key = key.clone();
        self.writer.write(move |change| agent::scale_to(change, &key, count, expected)).await
    }

    async fn agent_delete(
        &self,
        key: &AgentKey,
        cleanup: bool,
        expected: Option<u64>,
    ) -> Result<AgentRecord> {
        let key = key.clone();
        self.writer.write(move |change| agent::delete(change, &key, cleanup, expected)).await
    }

    async fn agent_forget(&self, term: Term, key: &AgentKey) -> Result<()> {
        let key = key.clone();
        self.writer.act(term, move |change| agent::forget(change, &key)).await
    }

    async fn revision_list(&self, key: &AgentKey) -> Result<Vec<Revision>> {
        let key = key.clone();
        self.reader.read(move |connection| revision::list(connection, &key)).await
    }

    async fn revision_get(&self, key: &AgentKey, number: u64) -> Result<Revision> {
        let key = key.clone();
        self.reader.read(move |connection| revision::get(connection, &key, number)).await
    }

    async fn revision_pin(&self, term: Term, key: &AgentKey, number: u64, pin: &Pin) -> Result<Pin> {
        let (key, pin) = (key.clone(), pin.clone());
        self.writer.act(term, move |change| revision::pin(change, &key, number, &pin)).await
    }

    async fn revision_undo(
        &self,
        key: &AgentKey,
        to: Option<u64>,
        dry_run: bool,
        expected: Option<u64>,
    ) -> Result<AgentOutcome> {
        let key = key.clone();
        let undo = move |change: &worker::Change<'_>| revision::undo(change, &key, to, expected);
        self.writer.write(move |change| apply::perhaps(change, dry_run, undo)).await
    }

    async fn agent_upgrade(
        &self,
        key: &AgentKey,
        image: Option<&ImageName>,
        pin: Option<&Pin>,
        expected: Option<u64>,
    ) -> Result<AgentOutcome> {
        let (key, image, pin) = (key.clone(), image.cloned(), pin.cloned());
        self.writer
            .write(move |change| revision::upgrade(change, &key, image.as_ref(), pin.as_ref(), expected))
            .await
    }

    async fn rollout_record(
        &self,
        term: Term,
        key: &AgentKey,
        before: &Rollout,
        after: &Rollout,
        event: Option<EventKind>,
    ) -> Result<bool> {
        let (key, before, after) = (key.clone(), before.clone(), after.clone());
        self.writer.act(term, move |change| revision::record(change, &key, &before, &after, event)).await
    }

    async fn rollout_roll_back(
        &self,
        term: Term,
        key: &AgentKey,
        before: &Rollout,
        why: &str,
    ) -> Result<bool> {
        let (key, before, why) = (key.clone(), before.clone(), why.to_owned());
        self.writer.act(term, move |change| revision::roll_back(change, &key, &before, &why)).await
    }

    async fn rollout_pause(&self, key: &AgentKey, paused: bool, expected: Option<u64>) -> Result<bool> {
        let key = key.clone();
        self.writer.write(move |change| revision::pause(change, &key, paused, expected)).await
    }

    async fn instance_change(
        &self,
        scope: &Scope,
        asked: InstanceChange,
        expected: Option<u64>,
    ) -> Result<Vec<AgentKey>> {
        let scope = scope.clone();
        self.writer.write(move |change| instance::request(change, &scope, asked, expected)).await
    }

    async fn instance_delete(
        &self,
        key: &InstanceKey,
        cleanup: bool,
        expected: Option<u64>,
    ) -> Result<AgentRecord> {
        let key = key.clone();
        self.writer.write(move |change| instance::delete(change, &key, cleanup, expected)).await
    }

    async fn instance_record(&self, term: Term, updates: Vec<InstanceUpdate>) -> Result<()> {
        self.writer.act(term, move |change| instance::record(change, updates)).await
    }

    async fn instance_exits(&self, key: &InstanceKey) -> Result<Vec<ExitRecord>> {
        let key = key.clone();
        self.reader.read(move |connection| exit::list(connection, &key)).await
    }

    async fn instance_event(&self, term: Term, key: &InstanceKey, kind: EventKind) -> Result<()> {
        let key = key.clone();
        self.writer.act(term, move |change| change.instance_event(&key, kind)).await
    }

    async fn instance_forget(&self, term: Term, key: &InstanceKey, cleanup: bool) -> Result<()> {
        let key = key.clone();
        self.writer.act(term, move |change| instance::forget(change, &key, cleanup)).await
    }

    async fn keyed_find(&self, caller: &str, key: &str) -> Result<Option<KeptRequest>> {
        let (caller, key) = (caller.to_owned(), key.to_owned());
        self.reader.read(move |connection| keyed::find(connection, &caller, &key)).await
    }

    async fn keyed_answer(&self, caller: &str, key: &str, answer: KeptAnswer) -> Result<()> {
        let (caller, key) = (caller.to_owned(), key.to_owned());
        self.writer.write(move |change| keyed::answer(change, &caller, &key, &answer)).await
    }

    async fn keyed_sweep(&self, before: Timestamp, most: u32) -> Result<()> {
        self.writer.write(move |change| keyed::sweep(change, before, most)).await
    }

    async fn event_list(&self, filter: &EventFilter) -> Result<Vec<Event>> {
        let filter = filter.clone();
        self.reader.read(move |connection| event::list(connection, &filter)).await
    }

    fn event_watch(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }

    async fn secret_write(
        &self,
        fleet: &FleetName,
        name: &SecretName,
        value: Zeroizing<Vec<u8>>,
        replace: bool,
        expected: Option<u64>,
    ) -> Result<SecretInfo> {
        let (fleet, name) = (fleet.clone(), name.clone());
        self.writer.write(move |change| secret::write(change, &fleet, &name, value, replace, expected)).await
    }

    async fn secret_mark(&self, text: Zeroizing<Vec<u8>>) -> Result<Vec<u8>> {
        self.writer.write(move |change| secret::mark(change, &text)).await
    }

    async fn secret_read(&self, fleet: &FleetName, name: &SecretName) -> Result<Zeroizing<Vec<u8>>> {
        let (of, called) = (fleet.clone(), name.clone());
        let sealed = self.reader.read(move |connection| secret::sealed(connection, &of, &called)).await?;
        if let Some(opened) = self.key.unseal(sealed) {
            return Ok(opened);
        }
        // Who writes finds out whether there is another key by now.
        let (fleet, name) = (fleet.clone(), name.clone());
        self.writer.write(move |change| secret::read(change, &fleet, &name)).await
    }

    async fn secret_list(&self, fleet: Option<&FleetName>) -> Result<Vec<SecretInfo>> {
        let fleet = fleet.cloned();
        self.reader.read(move |connection| secret::list(connection, fleet.as_ref())).await
    }

    async fn secret_delete(&self, fleet: &FleetName, name: &SecretName, expected: Option<u64>) -> Result<()> {
        let (fleet, name) = (fleet.clone(), name.clone());
        self.writer.write(move |change| secret::delete(change, &fleet, &name, expected)).await
    }

    async fn secret_rotate(&self, new_key: Option<Zeroizing<String>>) -> Result<u32> {
        self.writer.alone(move |state| secret::rotate(state, new_key)).await
    }

    async fn environment_create(&self, new: EnvironmentNew) -> Result<Environment> {
        self.writer.write(move |change| environment::create(change, new)).await
    }

    async fn environment_get(&self, id: &str) -> Result<Environment> {
        let id = id.to_owned();
        self.reader.read(move |connection| environment::get(connection, &id)).await
    }

    async fn environment_find(&self, key: &AgentKey) -> Result<Option<Environment>> {
        let key = key.clone();
        self.reader.read(move |connection| environment::find(connection, &key)).await
    }

    async fn environment_list(&self, filter: &EnvironmentFilter) -> Result<Vec<Environment>> {
        let filter = filter.clone();
        self.reader.read(move |connection| environment::list(connection, &filter)).await
    }

    async fn environment_private(&self, id: &str) -> Result<Zeroizing<Vec<u8>>> {
        let of = id.to_owned();
        let sealed = self.reader.read(move |connection| environment::private_find(connection, &of)).await?;
        if let Some(opened) = self.key.unseal(sealed) {
            return Ok(opened);
        }
        let id = id.to_owned();
        self.writer.write(move |change| environment::private_read(change, &id)).await
    }

    async fn environment_private_write(&self, id: &str, private: Zeroizing<Vec<u8>>) -> Result<()> {
        let id = id.to_owned();
        self.writer.write(move |change| environment::private_write(change, &id, private)).await
    }

    async fn environment_run(&self, term: Term, id: &str) -> Result<Option<Environment>> {
        let id = id.to_owned();
        self.writer.act(term, move |change| environment::run(change, &id)).await
    }

    async fn environment_drain(&self, id: &str) -> Result<Environment> {
        let id = id.to_owned();
        self.writer.write(move |change| environment::drain(change, &id)).await
    }

    async fn environment_drain_failed(&self, term: Term, id: &str, error: &str) -> Result<bool> {
        let (id, error) = (id.to_owned(), error.to_owned());
        self.writer.act(term, move |change| environment::drain_failed(change, &id, &error)).await
    }

    async fn environment_note(&self, id: &str, error: Option<&str>) -> Result<Environment> {
        let (id, error) = (id.to_owned(), error.map(str::to_owned));
        self.writer.write(move |change| environment::note(change, &id, error.as_deref())).await
    }

    async fn environment_end(&self, id: &str) -> Result<Environment> {
        let id = id.to_owned();
        self.writer.write(move |change| environment::end(change, &id, None)).await
    }

    async fn environment_expire(&self, term: Term, id: &str, why: EnvironmentEnd) -> Result<Environment> {
        let id = id.to_owned();
        self.writer.act(term, move |change| environment::end(change, &id, Some(&why))).await
    }

    async fn snapshot_create(&self, new: SnapshotNew) -> Result<Snapshot> {
        self.writer.write(move |change| snapshot::create(change, &new)).await
    }

    async fn snapshot_get(&self, id: &str) -> Result<Snapshot> {
        let id = id.to_owned();
        self.reader.read(move |connection| snapshot::get(connection, &id)).await
    }

    async fn snapshot_list(&self, filter: &SnapshotFilter) -> Result<Vec<Snapshot>> {
        let filter = filter.clone();
        self.reader.read(move |connection| snapshot::list(connection, &filter)).await
    }

    async fn snapshot_restore(&self, id: &str) -> Result<Snapshot> {
        let id = id.to_owned();
        self.writer.write(move |change| snapshot::restore(change, &id)).await
    }

    async fn snapshot_delete(&self, id: &str) -> Result<Option<Snapshot>> {
        let id = id.to_owned();
        self.writer.write(move |change| snapshot::delete(change, &id)).await
    }

    async fn snapshot_step(&self, term: Term, id: &str, step: SnapshotStep) -> Result<()> {
        let id = id.to_owned();
        self.writer.act(term, move |change| snapshot::step(change, &id, &step)).await
    }

    async fn snapshot_due(&self, now: Timestamp) -> Result<(Vec<SnapshotDue>, Option<Timestamp>)> {
        self.reader.read(move |connection| snapshot::due(connection, now)).await
    }

    async fn dead_letter_list(&self) -> Result<Vec<DeadLetter>> {
        self.reader.read(dead_letter::list).await
    }

    async fn dead_letter_read(
        &self,
        kind: &str,
        entity: &str,
    ) -> Result<(DeadLetter, Option<Zeroizing<Vec<u8>>>)> {
        let (kind, entity) = (kind.to_owned(), entity.to_owned());
        self.writer.write(move |change| dead_letter::read(change, &kind, &entity)).await
    }

    async fn agent_profile_write(
        &self,
        name: &AgentName,
        profile: Zeroizing<Vec<u8>>,
    ) -> Result<AgentProfileRecord> {
        let name = name.clone();
        self.writer.write(move |change| agent_profile::write(change, &name, profile)).await
    }

    async fn agent_profile_read(&self, name: &AgentName) -> Result<AgentProfileRecord> {
        let name = name.clone();
        self.writer.write(move |change| agent_profile::read(change, &name)).await
    }

    async fn agent_profile_list(&self) -> Result<Vec<AgentProfileRecord>> {
        self.writer.write(agent_profile::list).await
    }

    async fn agent_profile_delete(&self, name: &AgentName) -> Result<()> {
        let name = name.clone();
        self.writer.write(move |change| agent_profile::delete(change, &name)).await
    }

    async fn dead_letter_delete(&self, kind: &str, entity: &str) -> Result<()> {
        let (kind, entity) = (kind.to_owned(), entity.to_owned());
        self.writer.write(move |change| dead_letter::delete(change, &kind, &entity)).await
    }

    async fn api_key_create(&self, key: &ApiKey) -> Result<()> {
        let key = key.clone();
        self.writer.write(move |change| api_key::create(change, &key)).await
    }

    async fn api_key_list(&self) -> Result<Vec<ApiKey>> {
        self.reader.read(api_key::list).await
    }

    async fn api_key_delete(&self, name: &ApiKeyName) -> Result<()> {
        let name = name.clone();
        self.writer.write(move |change| api_key::delete(change, &name)).await
    }

    async fn api_key_revoke(&self, name: &ApiKeyName) -> Result<()> {
        let name = name.clone();
        self.writer.write(move |change| api_key::revoke(change, &name)).await
    }

    async fn api_key_used(&self, uses: Vec<ApiKeyUse>) -> Result<()> {
        self.writer.write(move |change| api_key::used(change, &uses)).await
    }

    async fn audit_append(&self, entries: Vec<AuditEntry>) -> Result<Vec<u64>> {
        self.writer.write(move |change| audit_log::append(change, &entries)).await
    }

    async fn audit_list(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>> {
        let filter = filter.clone();
        self.reader.read(move |connection| audit_log::list(connection, &filter)).await
    }

    async fn audit_chain(&self) -> Result<AuditChain> {
        self.reader.read(audit_log::chain).await
    }

    async fn audit_prune(&self, time: Timestamp) -> Result<u64> {
        self.writer.write(move |change| audit_log::prune(change, time)).await
    }
}
