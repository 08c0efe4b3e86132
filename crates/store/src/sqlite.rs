//! The store in one SQLite file, for one server.
//!
//! Each operation of [`Store`] is a function of the module that has the table; here it is only handed to the thread
//! that has the connection. The modules:
//!
//! - [`database`] opens the file, checks it and brings its schema up to date;
//! - [`worker`] has the threads, and commits together what comes together;
//! - [`key`] has the encryption key;
//! - the rest are tables, and [`apply`] is what ties them together.

mod agent;
mod apply;
mod column;
mod database;
mod event;
mod exit;
mod file;
mod fleet;
mod inspect;
mod instance;
mod key;
mod revision;
mod secret;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use chassis_core::{AgentKey, Event, EventKind, ExitRecord, InstanceKey, Pin, Rollout};
use chassis_spec::{FleetName, ImageName, Labels, SecretName};
use jiff::Timestamp;
use tokio::sync::{broadcast, watch};
use zeroize::Zeroizing;

pub use inspect::{Inspection, inspect, key_id};
pub use key::KeySource;

use crate::Store;
use crate::error::{Error, Result};
use crate::types::{
    AgentOutcome, AgentRecord, Applied, Apply, EventFilter, Fleet, InstanceChange, InstanceUpdate, Lease,
    Revision, Scope, SecretInfo, Seen,
};
use worker::{Reader, Writer, WriterState};

/// See the [`Store`] that it is.
pub struct SqliteStore {
    server_id: String,
    // Dropped first: the connection that closes last takes the log away.
    reader: Reader,
    writer: Writer,
    newest: watch::Receiver<u64>,
    commits: Arc<AtomicU64>,
    /// Always true, and never anything: nobody else has this database open.
    acting: watch::Sender<bool>,
    changes: broadcast::Sender<Seen>,
}

impl SqliteStore {
    /// Opens the database at `path`, or makes it. Blocks while it checks the file. Only one server may have it open.
    pub fn open(path: &Path, key: KeySource) -> Result<Self> {
        let connection = database::open(path)?;
        let keys = key::Keys::open(key, &connection)?;
        let sql = "SELECT value FROM meta WHERE name = 'server_id'";
        let server_id = connection.query_row(sql, [], |row| row.get(0))?;
        let (newest, followed) = watch::channel(event::newest(&connection)?);
        let commits = Arc::new(AtomicU64::new(0));
        let thread_failed = |source| Error::Open { path: path.to_owned(), source: Arc::new(source) };
        let reader = Reader::spawn(database::open_reader(path)?).map_err(thread_failed)?;
        let state = WriterState { connection, keys, newest, commits: commits.clone() };
        let writer = Writer::spawn(state).map_err(thread_failed)?;
        let (acting, changes) = (watch::Sender::new(true), broadcast::Sender::new(1));
        Ok(SqliteStore { server_id, reader, writer, newest: followed, commits, acting, changes })
    }

    /// Transactions committed since the store was opened: fewer than operations, where those came together.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SqliteStore").field("server_id", &self.server_id).finish_non_exhaustive()
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
impl Store for SqliteStore {
    fn server_id(&self) -> &str {
        &self.server_id
    }

    fn acting(&self) -> watch::Receiver<bool> {
        self.acting.subscribe()
    }

    fn is_acting(&self) -> bool {
        true
    }

    fn lease(&self) -> Option<Lease> {
        None
    }

    async fn resign(&self) {}

    fn changes(&self) -> broadcast::Receiver<Seen> {
        self.changes.subscribe()
    }

    fn unavailable_since(&self) -> Option<Timestamp> {
        None
    }

    async fn fleet_create(&self, name: &FleetName, labels: &Labels) -> Result<Fleet> {
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

    async fn fleet_forget(&self, name: &FleetName) -> Result<()> {
        let name = name.clone();
        self.writer.write(move |change| fleet::forget(change, &name)).await
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

    async fn agent_forget(&self, key: &AgentKey) -> Result<()> {
        let key = key.clone();
        self.writer.write(move |change| agent::forget(change, &key)).await
    }

    async fn revision_list(&self, key: &AgentKey) -> Result<Vec<Revision>> {
        let key = key.clone();
        self.reader.read(move |connection| revision::list(connection, &key)).await
    }

    async fn revision_get(&self, key: &AgentKey, number: u64) -> Result<Revision> {
        let key = key.clone();
        self.reader.read(move |connection| revision::get(connection, &key, number)).await
    }

    async fn revision_pin(&self, key: &AgentKey, number: u64, pin: &Pin) -> Result<Pin> {
        let (key, pin) = (key.clone(), pin.clone());
        self.writer.write(move |change| revision::pin(change, &key, number, &pin)).await
    }

    async fn revision_undo(&self, key: &AgentKey, to: Option<u64>, dry_run: bool) -> Result<AgentOutcome> {
        let key = key.clone();
        self.writer
            .write(move |change| apply::perhaps(change, dry_run, |change| revision::undo(change, &key, to)))
            .await
    }

    async fn agent_upgrade(
        &self,
        key: &AgentKey,
        image: Option<&ImageName>,
        pin: Option<&Pin>,
    ) -> Result<AgentOutcome> {
        let (key, image, pin) = (key.clone(), image.cloned(), pin.cloned());
        self.writer.write(move |change| revision::upgrade(change, &key, image.as_ref(), pin.as_ref())).await
    }

    async fn rollout_record(
        &self,
        key: &AgentKey,
        before: &Rollout,
        after: &Rollout,
        event: Option<EventKind>,
    ) -> Result<bool> {
        let (key, before, after) = (key.clone(), before.clone(), after.clone());
        self.writer.write(move |change| revision::record(change, &key, &before, &after, event)).await
    }

    async fn rollout_roll_back(&self, key: &AgentKey, before: &Rollout, why: &str) -> Result<bool> {
        let (key, before, why) = (key.clone(), before.clone(), why.to_owned());
        self.writer.write(move |change| revision::roll_back(change, &key, &before, &why)).await
    }

    async fn rollout_pause(&self, key: &AgentKey, paused: bool) -> Result<bool> {
        let key = key.clone();
        self.writer.write(move |change| revision::pause(change, &key, paused)).await
    }

    async fn instance_change(&self, scope: &Scope, asked: InstanceChange) -> Result<Vec<AgentKey>> {
        let scope = scope.clone();
        self.writer.write(move |change| instance::request(change, &scope, asked)).await
    }

    async fn instance_delete(&self, key: &InstanceKey, cleanup: bool) -> Result<AgentRecord> {
        let key = key.clone();
        self.writer.write(move |change| instance::delete(change, &key, cleanup)).await
    }

    async fn instance_record(&self, updates: Vec<InstanceUpdate>) -> Result<()> {
        self.writer.write(move |change| instance::record(change, updates)).await
    }

    async fn instance_exits(&self, key: &InstanceKey) -> Result<Vec<ExitRecord>> {
        let key = key.clone();
        self.reader.read(move |connection| exit::list(connection, &key)).await
    }

    async fn instance_event(&self, key: &InstanceKey, kind: EventKind) -> Result<()> {
        let key = key.clone();
        self.writer.write(move |change| change.instance_event(&key, kind)).await
    }

    async fn instance_forget(&self, key: &InstanceKey, cleanup: bool) -> Result<()> {
        let key = key.clone();
        self.writer.write(move |change| instance::forget(change, &key, cleanup)).await
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
    ) -> Result<SecretInfo> {
        let (fleet, name) = (fleet.clone(), name.clone());
        self.writer.write(move |change| secret::write(change, &fleet, &name, value, replace)).await
    }

    // On the writer's thread, because that is where the key is.
    async fn secret_read(&self, fleet: &FleetName, name: &SecretName) -> Result<Zeroizing<Vec<u8>>> {
        let (fleet, name) = (fleet.clone(), name.clone());
        self.writer.write(move |change| secret::read(change, &fleet, &name)).await
    }

    async fn secret_list(&self, fleet: Option<&FleetName>) -> Result<Vec<SecretInfo>> {
        let fleet = fleet.cloned();
        self.reader.read(move |connection| secret::list(connection, fleet.as_ref())).await
    }

    async fn secret_delete(&self, fleet: &FleetName, name: &SecretName) -> Result<()> {
        let (fleet, name) = (fleet.clone(), name.clone());
        self.writer.write(move |change| secret::delete(change, &fleet, &name)).await
    }

    async fn secret_rotate(&self, new_key: Option<Zeroizing<String>>) -> Result<u32> {
        self.writer.alone(move |state| secret::rotate(state, new_key)).await
    }
}
