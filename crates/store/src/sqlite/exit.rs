//! How runs ended: written with the event that tells of it, and bounded for each instance.

use chassis_core::{ExitRecord, InstanceKey};
use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, params};

use super::column::Json;
use super::worker::Change;
use crate::error::Result;

/// Runs of one instance that are kept, and those of them with their last output.
const KEPT: u32 = 20;
const KEPT_WITH_LOG: u32 = 5;

/// A time as exact as the runtime tells it: by its start a run is known.
struct Exact(Timestamp);

pub(super) fn insert(change: &Change<'_>, key: &InstanceKey, exit: &ExitRecord) -> Result<()> {
    let (fleet, agent, number) = (key.fleet.as_str(), key.agent.as_str(), key.number);
    let sql = "INSERT OR REPLACE INTO exits
               (fleet, agent, number, container, started_at, finished_at, revision, code, out_of_memory, reason, log)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    change.connection.prepare_cached(sql)?.execute(params![
        fleet,
        agent,
        number,
        exit.container,
        Exact(exit.started_at),
        Exact(exit.finished_at),
        exit.revision,
        exit.code,
        exit.out_of_memory,
        Json(exit.reason),
        Json(&exit.log),
    ])?;
    for (kept, sql) in [
        (KEPT, "DELETE FROM exits WHERE fleet = ?1 AND agent = ?2 AND number = ?3 AND finished_at < "),
        (
            KEPT_WITH_LOG,
            "UPDATE exits SET log = '[]'
             WHERE fleet = ?1 AND agent = ?2 AND number = ?3 AND log <> '[]' AND finished_at < ",
        ),
    ] {
        let oldest = "(SELECT min(finished_at) FROM (SELECT finished_at FROM exits
                       WHERE fleet = ?1 AND agent = ?2 AND number = ?3 ORDER BY finished_at DESC LIMIT ?4))";
        let parameters = params![fleet, agent, number, kept];
        change.connection.prepare_cached(&format!("{sql}{oldest}"))?.execute(parameters)?;
    }
    Ok(())
}

/// The last runs of an instance that are over, the newest first.
pub(super) fn list(connection: &Connection, key: &InstanceKey) -> Result<Vec<ExitRecord>> {
    let sql =
        "SELECT container, started_at, finished_at, revision, code, out_of_memory, reason, log FROM exits
               WHERE fleet = ?1 AND agent = ?2 AND number = ?3 ORDER BY finished_at DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![key.fleet.as_str(), key.agent.as_str(), key.number], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<ExitRecord> {
    Ok(ExitRecord {
        container: row.get(0)?,
        started_at: row.get::<_, Exact>(1)?.0,
        finished_at: row.get::<_, Exact>(2)?.0,
        revision: row.get(3)?,
        code: row.get(4)?,
        out_of_memory: row.get(5)?,
        reason: row.get::<_, Json<_>>(6)?.0,
        log: row.get::<_, Json<_>>(7)?.0,
    })
}

impl FromSql for Exact {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Timestamp::from_nanosecond(value.as_i64()?.into()).map(Exact).map_err(FromSqlError::other)
    }
}

impl ToSql for Exact {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        // Only a clock that is off by centuries does not fit.
        Ok(i64::try_from(self.0.as_nanosecond()).unwrap_or_default().into())
    }
}
