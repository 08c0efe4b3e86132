//! The audit log: appended to, never changed, and taken away only from its old end. Each row's hash covers the one before,
//! so that a row that was changed, left out or put in between is seen by whoever walks it; the chain's two ends are kept
//! apart from the rows, so that a cut at either end is seen too.

use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use chassis_core::audit_log::AuditEntry;
use jiff::Timestamp;

use super::column::Time;
use super::connection::{Connection, Fault, Mismatch, Outcome, Row, params};
use super::worker::Change;
use crate::access::{AuditChain, AuditEnd, AuditFilter, AuditRow};
use crate::error::Result;

const ANCHOR: &str = "audit_anchor";
const HEAD: &str = "audit_head";

/// Appends rows, and returns their ids.
pub(crate) fn append(change: &mut Change<'_>, entries: &[AuditEntry]) -> Result<Vec<u64>> {
    let connection = change.connection;
    let mut head = end(connection, HEAD)?;
    let mut ids = Vec::with_capacity(entries.len());
    for entry in entries {
        let entry = serde_json::to_string(entry).map_err(Fault::damaged)?;
        let id = head.id + 1;
        head = AuditEnd { id, hash: hash(&head.hash, id, change.now, &entry) };
        let sql = "INSERT INTO audit_log (id, time, entry, hash) VALUES (?1, ?2, ?3, ?4)";
        connection.send(sql, params![id, Time(change.now), entry, &head.hash[..]])?;
        ids.push(id);
    }
    set_end(connection, HEAD, &head)?;
    Ok(ids)
}

/// In the order in which they were appended.
pub(crate) fn list(connection: &dyn Connection, filter: &AuditFilter) -> Result<Vec<AuditRow>> {
    let order = if filter.newest { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT id, time, entry, hash FROM audit_log WHERE id > ?1 AND time >= ?2 ORDER BY id {order} LIMIT ?3"
    );
    let after = i64::try_from(filter.after).unwrap_or(i64::MAX);
    let since = Time(filter.since.unwrap_or(Timestamp::UNIX_EPOCH));
    let mut rows = connection.list(&sql, params![after, since, filter.limit], from_row)?;
    if filter.newest {
        rows.reverse();
    }
    Ok(rows)
}

pub(crate) fn chain(connection: &dyn Connection) -> Result<AuditChain> {
    Ok(AuditChain { anchor: end(connection, ANCHOR)?, head: end(connection, HEAD)? })
}

/// Takes away the rows from before `time`, up to the first one that is not. Returns how many.
pub(crate) fn prune(change: &mut Change<'_>, time: Timestamp) -> Result<u64> {
    let connection = change.connection;
    let sql = "SELECT id FROM audit_log WHERE time >= ?1 ORDER BY id LIMIT 1";
    let first_kept: Option<u64> = connection.find(sql, params![Time(time)], |row| row.get(0))?;
    let first_kept = first_kept.map_or(i64::MAX, |id| i64::try_from(id).unwrap_or(i64::MAX));
    let sql = "SELECT id, hash FROM audit_log WHERE id < ?1 ORDER BY id DESC LIMIT 1";
    let last = connection
        .find(sql, params![first_kept], |row| Ok(AuditEnd { id: row.get(0)?, hash: row.get(1)? }))?;
    let Some(last) = last else { return Ok(0) };
    let pruned = connection.execute("DELETE FROM audit_log WHERE id <= ?1", params![last.id])?;
    set_end(connection, ANCHOR, &last)?;
    Ok(pruned)
}

/// What the hash of a row must be.
pub fn hash(before: &[u8], id: u64, time: Timestamp, entry: &str) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(&id.to_be_bytes());
    context.update(&time.as_microsecond().to_be_bytes());
    context.update(entry.as_bytes());
    context.finish().as_ref().to_vec()
}

fn end(connection: &dyn Connection, name: &str) -> Result<AuditEnd> {
    let value: Option<String> =
        connection.find("SELECT value FROM meta WHERE name = ?1", params![name], |row| row.get(0))?;
    let Some(value) = value else { return Ok(AuditEnd::default()) };
    Ok(value.parse().map_err(|()| Fault::damaged(Mismatch("row's id and hash")))?)
}

fn set_end(connection: &dyn Connection, name: &str, end: &AuditEnd) -> Result<()> {
    let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
    connection.send(sql, params![name, end.to_string()])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> Outcome<AuditRow> {
    Ok(AuditRow { id: row.get(0)?, time: row.get::<Time>(1)?.0, entry: row.get(2)?, hash: row.get(3)? })
}

impl std::fmt::Display for AuditEnd {
    /// `17:<hex digits>`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:", self.id)?;
        self.hash.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl FromStr for AuditEnd {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let (id, digits) = text.split_once(':').ok_or(())?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(());
        }
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| ());
        let hash = (0..64).step_by(2).map(byte).collect::<std::result::Result<_, _>>()?;
        Ok(AuditEnd { id: id.parse().map_err(|_| ())?, hash })
    }
}

impl Default for AuditEnd {
    /// Before the first row.
    fn default() -> Self {
        AuditEnd { id: 0, hash: vec![0; 32] }
    }
}
