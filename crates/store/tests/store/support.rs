//! What the tests share: a store in a directory of its own, and short ways to say things.

use std::path::PathBuf;

use chassis_core::{AgentKey, Event, InstanceKey, Wanted};
use chassis_spec::{AgentSpec, FleetName, Labels, SecretName};
use chassis_store::{
    AgentRecord, Applied, Apply, Error, EventFilter, InstanceRecord, KeySource, Result, SqlStore, Store,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub(crate) struct Home {
    pub(crate) directory: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Home { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("chassis.db")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path("key")
    }

    pub(crate) fn try_open(&self) -> Result<SqlStore> {
        SqlStore::open_sqlite(&self.database(), KeySource::File(self.key()))
    }

    pub(crate) fn open(&self) -> SqlStore {
        self.try_open().unwrap()
    }

    /// A store with a fleet `f`.
    pub(crate) async fn open_with_fleet(&self) -> SqlStore {
        let store = self.open();
        store.fleet_create(&fleet("f"), &Labels::default()).await.unwrap();
        store
    }

    /// What a machine that lost its power now would find: the files as they are, while the store is open.
    pub(crate) fn crash(&self) -> Home {
        let copy = Home::new();
        for file in self.files() {
            // The log's index lives in memory and does not outlive a crash.
            if file.extension().is_none_or(|extension| extension != "db-shm") {
                std::fs::copy(&file, copy.path(file.file_name().unwrap().to_str().unwrap())).unwrap();
            }
        }
        copy
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
        files.sort();
        files
    }

    /// All bytes in the directory, file by file.
    pub(crate) fn bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = self.files().into_iter();
        files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// Whether the value stands in any file: the database, its log, its index.
    pub(crate) fn contains(&self, needle: &[u8]) -> bool {
        self.bytes().iter().any(|(_, bytes)| bytes.windows(needle.len()).any(|window| window == needle))
    }
}

pub(crate) fn fleet(name: &str) -> FleetName {
    name.parse().unwrap()
}

pub(crate) fn secret(name: &str) -> SecretName {
    name.parse().unwrap()
}

pub(crate) fn agent(fleet_name: &str, name: &str) -> AgentKey {
    AgentKey { fleet: fleet(fleet_name), agent: name.parse().unwrap() }
}

pub(crate) fn instance(fleet_name: &str, name: &str, number: u32) -> InstanceKey {
    agent(fleet_name, name).instance(number)
}

/// An agent's definition with what `more` adds to the least that is needed.
pub(crate) fn spec(name: &str, more: Value) -> AgentSpec {
    let mut value = json!({"name": name, "image": "busybox"});
    let Value::Object(more) = more else { panic!("{more} is no object") };
    value.as_object_mut().unwrap().extend(more);
    serde_json::from_value(value).unwrap()
}

pub(crate) fn declaration(fleet_name: &str, agents: Vec<AgentSpec>) -> Apply {
    Apply { fleet: fleet(fleet_name), create_fleet: None, agents, prune: false, dry_run: false }
}

pub(crate) async fn apply(store: &SqlStore, agents: Vec<AgentSpec>) -> Result<Applied> {
    store.apply(&declaration("f", agents)).await
}

pub(crate) fn value(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

pub(crate) fn numbers(record: &AgentRecord, chosen: impl Fn(Wanted) -> bool) -> Vec<u32> {
    let chosen = |record: &&InstanceRecord| chosen(record.desired.wanted);
    record.instances.iter().filter(chosen).map(|record| record.number).collect()
}

pub(crate) fn alive(record: &AgentRecord) -> Vec<u32> {
    numbers(record, |wanted| !wanted.is_absent())
}

pub(crate) async fn events(store: &SqlStore) -> Vec<Event> {
    store.event_list(&EventFilter { limit: u32::MAX, ..EventFilter::default() }).await.unwrap()
}

/// Everything there is to see, as one comparable text.
pub(crate) async fn picture(store: &SqlStore) -> String {
    format!(
        "{:#?}",
        (
            store.server_id(),
            store.fleet_list().await.unwrap(),
            store.agent_load_all().await.unwrap(),
            store.secret_list(None).await.unwrap(),
            events(store).await,
        )
    )
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.map_err(|error: Error| error.code()).unwrap_err()
}
