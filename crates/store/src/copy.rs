//! Takes the state of an SQLite database to Postgres: all of it, in one transaction, or nothing.
//!
//! The copy is the same chassis: it has the same name (`server_id`), so that containers are recognised, and the secrets are
//! copied as they are, encrypted with the same key.

use std::path::Path;

use crate::error::{Error, Result};
use crate::postgres::{Link, PostgresOptions, WRITE_LOCK, migrate, on_a_thread};
use crate::sql::connection::{Column, Connection, Outcome, ToColumn, params};
use crate::sqlite;

/// Rows that are written at once.
const ROWS: usize = 100;

/// Tables that others refer to, in the order in which they can be filled; the rest comes behind.
const FIRST: [&str; 5] = ["meta", "fleets", "agents", "revisions", "instances"];

/// What was copied: a table, and how many rows of it.
pub type Copied = Vec<(String, u64)>;

/// Copies the SQLite database at `from`, which no server may have open, into an empty database. Its schema, and that of
/// the copy, are brought up to date. Fails with [`Error::CopyRefused`] if there is something in the target already.
pub fn copy_to_postgres(from: &Path, to: &PostgresOptions) -> Result<Copied> {
    let source = sqlite::open_existing(from)?;
    on_a_thread(move || {
        let target = Link::first(to)?;
        migrate(&target, to)?;
        target.batch(&format!("BEGIN; {WRITE_LOCK}"))?;
        let copied = copy_all(&source, &target, to);
        target.batch(if copied.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        copied
    })
}

fn copy_all(source: &dyn Connection, target: &dyn Connection, to: &PostgresOptions) -> Result<Copied> {
    let refused = |why: String| Error::CopyRefused { place: to.place(), why };
    let held: u64 =
        target.value("SELECT count(*) FROM lease WHERE expires_at > clock_timestamp()", params![])?;
    if held > 0 {
        return Err(refused("a server uses it".to_owned()));
    }
    let tables = tables(source)?;
    for table in tables.iter().filter(|table| *table != "meta") {
        let rows = count(target, table)?;
        if rows > 0 {
            return Err(refused(format!("it is not empty: `{table}` has {rows} rows")));
        }
    }
    target.execute("DELETE FROM meta", params![])?;
    let mut copied = Copied::new();
    for table in tables {
        copy_table(source, target, &table)?;
        let (before, after) = (count(source, &table)?, count(target, &table)?);
        if before != after {
            return Err(refused(format!("of {before} rows of `{table}` only {after} arrived")));
        }
        copied.push((table, after));
    }
    Ok(copied)
}

fn tables(source: &dyn Connection) -> Result<Vec<String>> {
    let sql =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let mut tables: Vec<String> = source.list(sql, params![], |row| row.get(0))?;
    tables.sort_by_key(|table| FIRST.iter().position(|first| first == table).unwrap_or(FIRST.len()));
    Ok(tables)
}

fn count(database: &dyn Connection, table: &str) -> Outcome<u64> {
    database.value(&format!("SELECT count(*) FROM {table}"), params![])
}

fn copy_table(source: &dyn Connection, target: &dyn Connection, table: &str) -> Outcome<()> {
    let columns: Vec<String> =
        source.list("SELECT name FROM pragma_table_info(?1)", params![table], |row| row.get(0))?;
    let mut waiting: Vec<Column<'static>> = Vec::new();
    let names = columns.join(", ");
    source.each(&format!("SELECT {names} FROM {table}"), params![], &mut |row| {
        for index in 0..columns.len() {
            waiting.push(row.0.column(index)?.into_owned());
        }
        if waiting.len() == ROWS * columns.len() {
            insert(target, table, &columns, &waiting)?;
            waiting.clear();
        }
        Ok(())
    })?;
    waiting.chunks(columns.len()).try_for_each(|row| insert(target, table, &columns, row))
}

fn insert(
    target: &dyn Connection,
    table: &str,
    columns: &[String],
    values: &[Column<'static>],
) -> Outcome<()> {
    let places: Vec<String> = (1..=values.len()).map(|at| format!("?{at}")).collect();
    let rows: Vec<String> = places.chunks(columns.len()).map(|row| format!("({})", row.join(", "))).collect();
    let sql = format!("INSERT INTO {table} ({}) VALUES {}", columns.join(", "), rows.join(", "));
    let values: Vec<&dyn ToColumn> = values.iter().map(|value| value as _).collect();
    target.execute(&sql, &values).map(drop)
}
