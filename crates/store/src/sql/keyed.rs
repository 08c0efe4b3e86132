//! Requests with a key; see [`crate::keyed`].

use jiff::Timestamp;

use super::column::Time;
use super::connection::{Connection, params};
use super::worker::Change;
use crate::error::{Error, Result};
use crate::keyed::{KeptAnswer, KeptRequest, KeyedRequest};

/// Keeps the request of a change, in the change's own transaction. Refuses the change if another server was faster.
pub(crate) fn keep(change: &Change<'_>, request: &KeyedRequest) -> Result<()> {
    if request.is_kept() {
        return Ok(());
    }
    let sql = "INSERT INTO keyed_requests (caller, key, fingerprint, created_at) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (caller, key) DO NOTHING";
    let (caller, key, fingerprint) =
        (request.caller.as_str(), request.key.as_str(), request.fingerprint.as_str());
    let kept = change.connection.execute(sql, params![caller, key, fingerprint, Time(change.now)])?;
    if kept == 0 {
        return Err(Error::KeyTaken);
    }
    request.note_kept();
    Ok(())
}

pub(crate) fn find(connection: &dyn Connection, caller: &str, key: &str) -> Result<Option<KeptRequest>> {
    let sql =
        "SELECT fingerprint, status, answer, created_at FROM keyed_requests WHERE caller = ?1 AND key = ?2";
    let found = connection.find(sql, params![caller, key], |row| {
        let status: Option<i64> = row.get(1)?;
        let body: Option<String> = row.get(2)?;
        let status = status.and_then(|status| u16::try_from(status).ok());
        Ok(KeptRequest {
            fingerprint: row.get(0)?,
            answer: status.map(|status| KeptAnswer { status, body }),
            created_at: row.get::<Time>(3)?.0,
        })
    })?;
    Ok(found)
}

pub(crate) fn answer(change: &Change<'_>, caller: &str, key: &str, answer: &KeptAnswer) -> Result<()> {
    let sql = "UPDATE keyed_requests SET status = ?3, answer = ?4 WHERE caller = ?1 AND key = ?2";
    let status = i64::from(answer.status);
    change.connection.send(sql, params![caller, key, status, answer.body.as_deref()])?;
    Ok(())
}

/// Forgets those from before `before`, and of the rest all but the newest `most`.
pub(crate) fn sweep(change: &Change<'_>, before: Timestamp, most: u32) -> Result<()> {
    let connection = change.connection;
    connection.execute("DELETE FROM keyed_requests WHERE created_at < ?1", params![Time(before)])?;
    let sql = "DELETE FROM keyed_requests WHERE created_at <=
               (SELECT created_at FROM keyed_requests ORDER BY created_at DESC LIMIT 1 OFFSET ?1)";
    connection.execute(sql, params![i64::from(most)])?;
    Ok(())
}
