//! The database in one file, for one server.
//!
//! [`database`] opens the file, checks it and brings its schema up to date. The tables are those of [`crate::sql`].

mod connection;
mod database;
mod inspect;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

pub use inspect::{Inspection, inspect, key_id};

use crate::error::{Error, Result};
use crate::sql::connection::{Connection, params};
use crate::sql::key::{KeySource, Keys};
use crate::sql::worker::{Reader, Writer, WriterState};
use crate::sql::{Peers, SqlStore, event};
use crate::types::{Lease, Seen, Term};
use connection::SqliteSession;

/// Opens a database that must be there, and brings its schema up to date.
pub(crate) fn open_existing(path: &Path) -> Result<rusqlite::Connection> {
    std::fs::metadata(path)
        .map_err(|error| Error::Open { path: path.to_owned(), source: Arc::new(error) })?;
    database::open(path)
}

/// Brings the schema of a database up to date, which no server may have open, and returns its step before and after.
pub fn migrate_sqlite(path: &Path) -> Result<(u32, u32)> {
    let before = database::step(path)?;
    open_existing(path)?;
    Ok((before, database::step(path)?))
}

impl SqlStore {
    /// Opens the SQLite database at `path`, or makes it. Blocks while it checks the file. Only one server may have it
    /// open.
    pub fn open_sqlite(path: &Path, key: KeySource) -> Result<Self> {
        let connection = database::open(path)?;
        let database: &dyn Connection = &connection;
        let keys = Keys::open(key, database)?;
        let key = keys.in_use();
        let server_id = database.value("SELECT value FROM meta WHERE name = 'server_id'", params![])?;
        let (newest, followed) = watch::channel(event::newest(database)?);
        let commits = Arc::new(AtomicU64::new(0));
        let reading = database::open_reader(path)?;
        let reader = Reader::spawn([move || Ok(SqliteSession::reading(reading))])?;
        let counted = Arc::clone(&commits);
        let writer = Writer::spawn(move || {
            let session = Box::new(SqliteSession::writing(connection));
            Ok(WriterState { session, keys, newest, commits: counted })
        })?;
        let peers = Box::new(Alone { acting: watch::Sender::new(true), changes: broadcast::Sender::new(1) });
        Ok(SqlStore { server_id, reader, writer, key, newest: followed, commits, peers })
    }
}

/// Nobody else has the database open.
struct Alone {
    acting: watch::Sender<bool>,
    changes: broadcast::Sender<Seen>,
}

#[async_trait]
impl Peers for Alone {
    fn acting(&self) -> watch::Receiver<bool> {
        self.acting.subscribe()
    }

    fn term(&self) -> Option<Term> {
        Some(Term::ONLY)
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

    fn servers_sql(&self) -> Option<&'static str> {
        None
    }
}
