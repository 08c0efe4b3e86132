//! Dead letters: what an operator should look at.

use super::column::Time;
use super::connection::{Connection, Outcome, Row, params};
use super::worker::Change;
use crate::environment::{DeadLetter, Environment, EnvironmentEnd};
use crate::error::{Error, Result};
use crate::snapshot::Snapshot;

/// Of each kind so many are kept: the newest.
const KEPT: i64 = 1_000;

pub(crate) fn note(change: &Change<'_>, of: &Environment, why: &EnvironmentEnd) -> Result<()> {
    write(change, why.cause.word(), &of.id, &of.task_id, &why.reason, &of.request)
}

/// A snapshot that its runtime does not remove.
pub(crate) fn note_snapshot(change: &Change<'_>, of: &Snapshot, why: &str) -> Result<()> {
    write(change, "snapshot_delete", &of.id, &of.task_id, why, &of.details)
}

fn write(
    change: &Change<'_>,
    kind: &str,
    entity: &str,
    task_id: &str,
    reason: &str,
    payload: &str,
) -> Result<()> {
    let sql = "INSERT INTO dead_letters
                   (kind, entity, task_id, reason, retry_count, payload, first_seen_at, last_seen_at)
               VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?6)
               ON CONFLICT (kind, entity) DO UPDATE
               SET reason = ?4, retry_count = dead_letters.retry_count + 1, payload = ?5, last_seen_at = ?6";
    let now = Time(change.now);
    change.connection.execute(sql, params![kind, entity, task_id, reason, payload, now])?;
    let sql = "DELETE FROM dead_letters WHERE kind = ?1 AND last_seen_at <
               (SELECT last_seen_at FROM dead_letters WHERE kind = ?1
                ORDER BY last_seen_at DESC LIMIT 1 OFFSET ?2)";
    change.connection.execute(sql, params![kind, KEPT])?;
    Ok(())
}

/// The newest first.
pub(crate) fn list(connection: &dyn Connection) -> Result<Vec<DeadLetter>> {
    let sql = "SELECT kind, entity, task_id, reason, retry_count, payload, first_seen_at, last_seen_at
               FROM dead_letters ORDER BY last_seen_at DESC, kind, entity";
    Ok(connection.list(sql, params![], from_row)?)
}

pub(crate) fn delete(change: &Change<'_>, kind: &str, entity: &str) -> Result<()> {
    let sql = "DELETE FROM dead_letters WHERE kind = ?1 AND entity = ?2";
    match change.connection.execute(sql, params![kind, entity])? {
        0 => Err(Error::DeadLetterNotFound { kind: kind.to_owned(), entity: entity.to_owned() }),
        _ => Ok(()),
    }
}

fn from_row(row: &Row<'_>) -> Outcome<DeadLetter> {
    Ok(DeadLetter {
        kind: row.get(0)?,
        entity: row.get(1)?,
        task_id: row.get(2)?,
        reason: row.get(3)?,
        retry_count: row.get(4)?,
        payload: row.get(5)?,
        first_seen_at: row.get::<Time>(6)?.0,
        last_seen_at: row.get::<Time>(7)?.0,
    })
}
