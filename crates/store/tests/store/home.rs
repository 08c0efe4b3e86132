//! An SQLite store in a directory of its own.

use std::path::PathBuf;

use chassis_spec::Labels;
use chassis_store::{KeySource, Result, SqlStore, Store};

use crate::support::fleet;

pub(crate) struct Home {
    pub(crate) directory: tempfile::TempDir,
}

impl Home {
    /// Random histories that are tried.
    pub(crate) const CASES: u32 = 48;

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
