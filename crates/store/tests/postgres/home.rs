//! A store in a database of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use chassis_spec::Labels;
use chassis_store::{KeySource, PostgresOptions, Result, SqlStore, Store};
use chassis_testkit::{Postgres, eventually, expect};

use crate::support::fleet;

pub(crate) struct Home {
    postgres: Arc<Mutex<Postgres>>,
    url: String,
    directory: tempfile::TempDir,
}

/// The server that homes share as long as there are any.
static PRESENT: Mutex<Weak<Mutex<Postgres>>> = Mutex::new(Weak::new());

impl Home {
    /// Random histories that are tried.
    pub(crate) const CASES: u32 = 16;

    pub(crate) fn new() -> Self {
        let mut present = PRESENT.lock().unwrap_or_else(PoisonError::into_inner);
        let postgres = present.upgrade().unwrap_or_else(|| Arc::new(Mutex::new(start())));
        *present = Arc::downgrade(&postgres);
        let url = postgres.lock().unwrap().database();
        Home { postgres, url, directory: tempfile::tempdir().unwrap() }
    }

    /// On a Postgres whose settings are such.
    pub(crate) fn with(settings: &[&str]) -> Self {
        let postgres = Postgres::start_with(settings).unwrap_or_else(|| skip());
        let url = postgres.database();
        Home { postgres: Arc::new(Mutex::new(postgres)), url, directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn postgres(&self) -> MutexGuard<'_, Postgres> {
        self.postgres.lock().unwrap()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn database(&self) -> &str {
        self.url.strip_prefix("postgres:///").and_then(|rest| rest.split('?').next()).unwrap()
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    /// As another server, which may act or not.
    pub(crate) fn join(&self, name: &str) -> Result<SqlStore> {
        SqlStore::open_postgres(&PostgresOptions::new(&self.url, name)?, KeySource::File(self.key()))
    }

    /// The only server, which acts.
    pub(crate) fn open(&self) -> SqlStore {
        let store = self.join("only").unwrap();
        acts(&store);
        store
    }

    /// A store with a fleet `f`.
    pub(crate) async fn open_with_fleet(&self) -> SqlStore {
        let store = self.open();
        store.fleet_create(&fleet("f"), &Labels::default()).await.unwrap();
        store
    }
}

/// Waits until the server acts.
pub(crate) fn acts(store: &SqlStore) {
    eventually(chassis_testkit::SOON, || expect(store.is_acting(), || format!("{:?} acts", store.lease())));
}

fn start() -> Postgres {
    Postgres::start().unwrap_or_else(|| skip())
}

#[expect(clippy::exit, reason = "the test is the process")]
fn skip() -> ! {
    std::process::exit(0)
}
