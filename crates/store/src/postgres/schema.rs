//! The tables in Postgres, brought up to date step by step, as [`crate::sqlite`]'s are: the steps have the same numbers.

use super::options::PostgresOptions;
use super::session::WRITE_LOCK;
use crate::error::{Error, Result};
use crate::sql::connection::{Connection, params};

/// The schema, step by step; a step that was released never changes.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/0001_begin.sql"),
    include_str!("../../migrations/postgres/0002_rollout.sql"),
    include_str!("../../migrations/postgres/0003_exits.sql"),
    include_str!("../../migrations/postgres/0004_access.sql"),
    include_str!("../../migrations/postgres/0005_keyed.sql"),
    include_str!("../../migrations/postgres/0006_environments.sql"),
    include_str!("../../migrations/postgres/0007_nodes.sql"),
    include_str!("../../migrations/postgres/0008_snapshots.sql"),
    include_str!("../../migrations/postgres/0009_agents.sql"),
    include_str!("../../migrations/postgres/0010_gone.sql"),
    include_str!("../../migrations/postgres/0011_leased.sql"),
    include_str!("../../migrations/postgres/0012_chosen.sql"),
];

/// Refuses what is not ours or newer, and makes what is missing. Servers that start together wait for each other.
/// Returns the step before and after.
pub(crate) fn migrate(database: &dyn Connection, options: &PostgresOptions) -> Result<(u32, u32)> {
    database.batch(&format!("BEGIN; {WRITE_LOCK}"))?;
    let migrated = steps(database, options);
    database.batch(if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    migrated
}

fn steps(database: &dyn Connection, options: &PostgresOptions) -> Result<(u32, u32)> {
    let there = |table: &str| -> Result<bool> {
        Ok(database.value("SELECT to_regclass(CAST(?1 AS TEXT)) IS NOT NULL", params![table])?)
    };
    if !there("chassis_migrations")? {
        if there("fleets")? || there("meta")? {
            return Err(Error::ForeignTables(options.place()));
        }
        database.batch(
            "CREATE TABLE chassis_migrations (
                 step       BIGINT PRIMARY KEY,
                 applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
             )",
        )?;
    }
    let found: u32 = database.value("SELECT coalesce(max(step), 0) FROM chassis_migrations", params![])?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(Error::Newer { path: options.place().into(), found, known });
    }
    for (step, sql) in (1_u32..).zip(MIGRATIONS).skip(found as usize) {
        database.batch(sql)?;
        database.execute("INSERT INTO chassis_migrations (step) VALUES (?1)", params![step])?;
    }
    Ok((found, known))
}
