//! How runs ended: written with the event that tells of it, and bounded for each instance.

use chassis_core::{ExitRecord, InstanceKey};

use super::column::{Exact, Json};
use super::connection::{Connection, Outcome, Row, params};
use super::worker::Change;
use crate::error::Result;

/// Runs of one instance that are kept, and those of them with their last output.
const KEPT: u32 = 20;
const KEPT_WITH_LOG: u32 = 5;

pub(crate) fn insert(change: &Change<'_>, key: &InstanceKey, exit: &ExitRecord) -> Result<()> {
    let (fleet, agent, number) = (key.fleet.as_str(), key.agent.as_str(), key.number);
    let sql = "INSERT INTO exits
               (fleet, agent, number, container, started_at, finished_at, revision, code, out_of_memory, reason, log)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
               ON CONFLICT (fleet, agent, number, finished_at, container, started_at) DO UPDATE
               SET revision = ?7, code = ?8, out_of_memory = ?9, reason = ?10, log = ?11";
    change.connection.send(
        sql,
        params![
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
        ],
    )?;
    for (kept, sql) in [
        (KEPT, "DELETE FROM exits WHERE fleet = ?1 AND agent = ?2 AND number = ?3 AND finished_at < "),
        (
            KEPT_WITH_LOG,
            "UPDATE exits SET log = '[]'
             WHERE fleet = ?1 AND agent = ?2 AND number = ?3 AND log <> '[]' AND finished_at < ",
        ),
    ] {
        let oldest = "(SELECT min(finished_at) FROM (SELECT finished_at FROM exits
                       WHERE fleet = ?1 AND agent = ?2 AND number = ?3 ORDER BY finished_at DESC LIMIT ?4) AS newest)";
        let parameters = params![fleet, agent, number, kept];
        change.connection.send(&format!("{sql}{oldest}"), parameters)?;
    }
    Ok(())
}

/// The last runs of an instance that are over, the newest first.
pub(crate) fn list(connection: &dyn Connection, key: &InstanceKey) -> Result<Vec<ExitRecord>> {
    let sql =
        "SELECT container, started_at, finished_at, revision, code, out_of_memory, reason, log FROM exits
               WHERE fleet = ?1 AND agent = ?2 AND number = ?3 ORDER BY finished_at DESC";
    Ok(connection.list(sql, params![key.fleet.as_str(), key.agent.as_str(), key.number], from_row)?)
}

fn from_row(row: &Row<'_>) -> Outcome<ExitRecord> {
    Ok(ExitRecord {
        container: row.get(0)?,
        started_at: row.get::<Exact>(1)?.0,
        finished_at: row.get::<Exact>(2)?.0,
        revision: row.get(3)?,
        code: row.get(4)?,
        out_of_memory: row.get(5)?,
        reason: row.get::<Json<_>>(6)?.0,
        log: row.get::<Json<_>>(7)?.0,
    })
}
