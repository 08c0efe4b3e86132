//! The database file: making it, checking it before it is trusted, bringing its schema up to date.
//!
//! What holds: a file that is damaged, foreign or newer than this program is refused before a byte of it or of its log
//! is changed. A new database gets its name only when it is complete, so that an empty or half-made file under that name
//! is damage and never a reason to begin anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::{Error, Result};
use crate::file::{install_new, remove_if_there, suffixed};

/// The schema, step by step; a step that was released never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_begin.sql"),
    include_str!("../../migrations/0002_rollout.sql"),
    include_str!("../../migrations/0003_exits.sql"),
    include_str!("../../migrations/0004_access.sql"),
    include_str!("../../migrations/0005_keyed.sql"),
    include_str!("../../migrations/0006_environments.sql"),
    include_str!("../../migrations/0007_nodes.sql"),
    include_str!("../../migrations/0008_snapshots.sql"),
    include_str!("../../migrations/0009_agents.sql"),
    include_str!("../../migrations/0010_gone.sql"),
    include_str!("../../migrations/0011_leased.sql"),
    include_str!("../../migrations/0012_chosen.sql"),
];

/// `chas`: tells our databases from others'.
const APPLICATION_ID: u32 = 0x6368_6173;

/// Statements that are kept prepared; there are fewer different ones than this.
const STATEMENTS: usize = 96;

/// Opens the database for the writer, and makes it if there is none.
pub(super) fn open(path: &Path) -> Result<Connection> {
    match fs::exists(path) {
        Ok(true) => check_header(path)?,
        Ok(false) => create(path)?,
        Err(error) => return Err(unusable(path, error)),
    }
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let prepared = check(&connection, path).and_then(|()| Ok(migrate(&mut connection)?));
    match prepared {
        Ok(()) => Ok(connection),
        Err(Error::Damaged(cause)) => Err(corrupt(path, &cause.to_string())),
        Err(error) => Err(error),
    }
}

/// Opens the database for reading once [`open`] has succeeded.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    configure(&connection)?;
    Ok(connection)
}

/// Opens the database for reading, changed by nothing, and refuses what [`open`] would.
pub(super) fn open_to_inspect(path: &Path) -> Result<Connection> {
    check_header(path)?;
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let verified = configure(&connection).map_err(Error::from).and_then(|()| verify(&connection, path));
    match verified {
        Ok(()) => Ok(connection),
        Err(Error::Damaged(cause)) => Err(corrupt(path, &cause.to_string())),
        Err(error) => Err(error),
    }
}

/// How far the schema is.
pub(super) fn step(path: &Path) -> Result<u32> {
    check_header(path)?;
    Ok(pragma(&connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?, "user_version")?)
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).map_err(|error| unusable(path, error))
}

/// Settings of every connection. Caches are small because the server has to be. Plans depend on statements alone: else
/// SQLite makes most of them anew at each use, to have a look at the parameters, which costs more than the use itself.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(
        "PRAGMA busy_timeout = 5000;
         PRAGMA foreign_keys = ON;
         PRAGMA cache_size = -1024;",
    )?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

fn create(path: &Path) -> Result<()> {
    let log = suffixed(path, "-wal");
    if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        return Err(corrupt(path, &format!("it is missing, though its log {} is there", log.display())));
    }
    let new = suffixed(path, ".new");
    let begin = || -> io::Result<()> {
        remove_if_there(&new)?;
        remove_if_there(&suffixed(path, ".new-journal"))?;
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map(drop)
    };
    begin().map_err(|error| unusable(path, error))?;

    let mut connection = connect(&new, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    migrate(&mut connection)?;
    connection.close().map_err(|(_, error)| error)?;

    install_new(path).map_err(|error| unusable(path, error))
}

fn check_header(path: &Path) -> Result<()> {
    let mut header = [0; 16];
    match File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) if header == *b"SQLite format 3\0" => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(unusable(path, error)),
        _ => Err(corrupt(path, "it is not a database")),
    }
}

/// Refuses what is not ours to change. Until it has passed, closing the connection leaves the log where it is.
fn check(connection: &Connection, path: &Path) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    configure(connection)?;
    verify(connection, path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    // A log that has grown is cut down again, and what is deleted is overwritten: a secret that was encrypted with a key
    // that has been given up must not outlive it in a free page.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = 4194304;
         PRAGMA secure_delete = ON;",
    )?;
    Ok(())
}

/// Ours, not newer than this program, and whole.
fn verify(connection: &Connection, path: &Path) -> Result<()> {
    if pragma(connection, "application_id")? != APPLICATION_ID {
        return Err(Error::Foreign(path.to_owned()));
    }
    let found = pragma(connection, "user_version")?;
    let known = known_version();
    if found > known {
        return Err(Error::Newer { path: path.to_owned(), found, known });
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(corrupt(path, &verdict.replace('\n', " "))) }
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let present = pragma(connection, "user_version")?;
    for (version, sql) in (1..).zip(MIGRATIONS).skip(present as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

fn known_version() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<u32> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

fn corrupt(path: &Path, detail: &str) -> Error {
    Error::Corrupt { path: path.to_owned(), detail: detail.to_owned() }
}

fn unusable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Open { path: path.to_owned(), source: Arc::new(error) }
}
