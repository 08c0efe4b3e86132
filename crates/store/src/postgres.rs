//! The database in Postgres, for several servers.
//!
//! - [`options`] says where it is, [`tls`] how the way there is kept safe;
//! - [`link`] is one connection, [`session`] opens it again and again and ends transactions;
//! - [`schema`] brings the tables up to date; they are those of [`crate::sql`];
//! - [`lease`] finds out which server acts, and listens to the others; [`shared`] is what all threads know.

mod lease;
mod link;
mod options;
mod schema;
mod session;
mod shared;
mod tls;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;

use zeroize::Zeroizing;

pub use options::PostgresOptions;

use crate::error::{Error, Result};
use crate::sql::connection::{Connection, params};
use crate::sql::key::{self, KeySource, Keys};
use crate::sql::worker::{Reader, Writer, WriterState};
use crate::sql::{SqlStore, event};
use lease::Keeper;
pub(crate) use link::Link;
pub(crate) use schema::migrate;
use session::PostgresSession;
pub(crate) use session::WRITE_LOCK;
use shared::Shared;

/// Connections for reading.
const READERS: usize = 2;

impl SqlStore {
    /// Connects to a Postgres database, and makes its tables or brings them up to date. Blocks meanwhile, and fails with
    /// [`Error::DatabaseConnect`] if the database cannot be used now; later it may come and go. Several servers may have
    /// it open, with the same key for the secrets.
    pub fn open_postgres(options: &PostgresOptions, key: KeySource) -> Result<Self> {
        let begun = on_a_thread(|| begin(options, key))?;
        let owner: Zeroizing<String> = key::generate()?;
        let shared = Arc::new(Shared::new(owner[..16].to_owned(), begun.newest));
        let commits = Arc::new(AtomicU64::new(0));
        let key = begun.keys.in_use();
        let readers = (0..READERS).map(|_| {
            let (options, shared) = (options.clone(), Arc::clone(&shared));
            move || Ok(PostgresSession::reading(options, shared))
        });
        let reader = Reader::spawn(readers)?;
        let state = (options.clone(), Arc::clone(&shared), Arc::clone(&commits), begun.keys);
        let writer = Writer::spawn(move || {
            let (options, shared, commits, keys) = state;
            let newest = shared.newest.clone();
            let session = Box::new(PostgresSession::writing(options, shared));
            Ok(WriterState { session, keys, newest, commits })
        })?;
        let newest = shared.newest.subscribe();
        let peers = Box::new(Keeper::spawn(options.clone(), shared)?);
        Ok(SqlStore { server_id: begun.server_id, reader, writer, key, newest, commits, peers })
    }
}

/// Brings the tables of a database up to date, and returns the step of the schema before and after.
pub fn migrate_postgres(options: &PostgresOptions) -> Result<(u32, u32)> {
    on_a_thread(|| schema::migrate(&Link::first(options)?, options))
}

/// What a store begins with.
struct Begun {
    server_id: String,
    newest: u64,
    keys: Keys,
}

fn begin(options: &PostgresOptions, key: KeySource) -> Result<Begun> {
    let link = Link::first(options)?;
    schema::migrate(&link, options)?;
    let database: &dyn Connection = &link;
    // Another server may be changing the key.
    database.batch(&format!("BEGIN; {WRITE_LOCK}"))?;
    let keys = Keys::open(key, database)?;
    let server_id = database.value("SELECT value FROM meta WHERE name = 'server_id'", params![])?;
    let newest = event::newest(database)?;
    database.batch("COMMIT")?;
    Ok(Begun { server_id, newest, keys })
}

/// A link drives itself, which a thread that drives something else does not allow.
pub(crate) fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or(Err(Error::Closed))
}
