//! Dead letters: what an operator should look at.

use zeroize::Zeroizing;

use super::column::Time;
use super::connection::{Connection, Outcome, Row, params};
use super::environment::private_read;
use super::key::Key;
use super::worker::Change;
use crate::environment::{DeadLetter, Environment, EnvironmentEnd};
use crate::error::{Error, Result};
use crate::snapshot::Snapshot;

/// Of each kind so many are kept: the newest.
const KEPT: i64 = 1_000;

const SELECT: &str = "SELECT kind, entity, task_id, reason, retry_count, payload, first_seen_at, last_seen_at, redriven_at FROM dead_letters";

/// What was private of an environment that was given up, encrypted: its key's id, a nonce, and it.
type Sealed = (String, Vec<u8>, Vec<u8>);

/// With what it takes to make the environment again.
pub(crate) fn note(change: &mut Change<'_>, of: &Environment, why: &EnvironmentEnd) -> Result<()> {
    let kind = why.cause.word();
    let sealed = match private_read(change, &of.id) {
        Ok(private) => {
            let key = change.keys.for_writing(change.connection)?;
            let (nonce, private) = key.seal(&context(kind, &of.id), private)?;
            Some((key.id.clone(), nonce.to_vec(), private))
        }
        // It ends all the same, and is not tried again.
        Err(Error::EnvironmentDamaged(_)) => None,
        Err(error) => return Err(error),
    };
    write(change, [kind, &of.id, &of.task_id, &why.reason, &of.request], sealed.as_ref())
}

/// A snapshot that its runtime does not remove.
pub(crate) fn note_snapshot(change: &Change<'_>, of: &Snapshot, why: &str) -> Result<()> {
    write(change, ["snapshot_delete", &of.id, &of.task_id, why, &of.details], None)
}

fn write(
    change: &Change<'_>,
    [kind, entity, task_id, reason, payload]: [&str; 5],
    sealed: Option<&Sealed>,
) -> Result<()> {
    let sql = "INSERT INTO dead_letters
                   (kind, entity, task_id, reason, retry_count, payload, first_seen_at, last_seen_at,
                    private_key_id, private_nonce, private)
               VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?6, ?7, ?8, ?9)
               ON CONFLICT (kind, entity) DO UPDATE
               SET reason = ?4, retry_count = dead_letters.retry_count + 1, payload = ?5, last_seen_at = ?6,
                   redriven_at = NULL, private_key_id = ?7, private_nonce = ?8, private = ?9";
    let now = Time(change.now);
    let (key, nonce, private) = match sealed {
        Some((key, nonce, private)) => (Some(key.as_str()), Some(&nonce[..]), Some(&private[..])),
        None => (None, None, None),
    };
    let parameters = params![kind, entity, task_id, reason, payload, now, key, nonce, private];
    change.connection.execute(sql, parameters)?;
    let sql = "DELETE FROM dead_letters WHERE kind = ?1 AND last_seen_at <
               (SELECT last_seen_at FROM dead_letters WHERE kind = ?1
                ORDER BY last_seen_at DESC LIMIT 1 OFFSET ?2)";
    change.connection.execute(sql, params![kind, KEPT])?;
    Ok(())
}

/// The newest first.
pub(crate) fn list(connection: &dyn Connection) -> Result<Vec<DeadLetter>> {
    Ok(connection.list(&format!("{SELECT} ORDER BY last_seen_at DESC, kind, entity"), params![], from_row)?)
}

/// One, and the secrets, files and tokens of its environment; none of those if it was kept by an earlier version.
pub(crate) fn read(
    change: &mut Change<'_>,
    kind: &str,
    entity: &str,
) -> Result<(DeadLetter, Option<Zeroizing<Vec<u8>>>)> {
    let sql = format!("{SELECT} WHERE kind = ?1 AND entity = ?2");
    let found = change.connection.find(&sql, params![kind, entity], from_row)?;
    let letter = found.ok_or_else(|| not_found(kind, entity))?;
    Ok((letter, private(change, kind, entity)?))
}

/// Its environment is made again.
pub(crate) fn redriven(change: &Change<'_>, kind: &str, entity: &str) -> Result<()> {
    let sql = "UPDATE dead_letters SET redriven_at = ?3 WHERE kind = ?1 AND entity = ?2";
    match change.connection.execute(sql, params![kind, entity, Time(change.now)])? {
        0 => Err(not_found(kind, entity)),
        _ => Ok(()),
    }
}

/// Encrypts what is private in them anew. Returns in how many.
pub(crate) fn reencrypt(change: &mut Change<'_>, new: &Key) -> Result<u32> {
    let mut count = 0;
    for DeadLetter { kind, entity, .. } in list(change.connection)? {
        let Some(value) = private(change, &kind, &entity)? else { continue };
        let (nonce, private) = new.seal(&context(&kind, &entity), value)?;
        let sql = "UPDATE dead_letters SET private_key_id = ?3, private_nonce = ?4, private = ?5
                   WHERE kind = ?1 AND entity = ?2";
        change.connection.execute(sql, params![kind, entity, new.id, &nonce[..], &private[..]])?;
        count += 1;
    }
    Ok(count)
}

fn private(change: &mut Change<'_>, kind: &str, entity: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let sql = "SELECT private_nonce, private FROM dead_letters
               WHERE kind = ?1 AND entity = ?2 AND private IS NOT NULL";
    let found = change.connection.find(sql, params![kind, entity], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some((nonce, private)): Option<(Vec<u8>, Vec<u8>)> = found else { return Ok(None) };
    change.keys.refresh(change.connection)?;
    let key = change.keys.for_reading();
    let opened = key.and_then(|key| key.unseal(&context(kind, entity), &nonce, private));
    opened.map(Some).ok_or_else(|| Error::EnvironmentDamaged(entity.to_owned()))
}

/// What a ciphertext is bound to.
fn context(kind: &str, entity: &str) -> String {
    format!("chassis-dead-letter\0{kind}\0{entity}")
}

fn not_found(kind: &str, entity: &str) -> Error {
    Error::DeadLetterNotFound { kind: kind.to_owned(), entity: entity.to_owned() }
}

pub(crate) fn delete(change: &Change<'_>, kind: &str, entity: &str) -> Result<()> {
    let sql = "DELETE FROM dead_letters WHERE kind = ?1 AND entity = ?2";
    match change.connection.execute(sql, params![kind, entity])? {
        0 => Err(not_found(kind, entity)),
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
        redriven_at: row.get::<Option<Time>>(8)?.map(|time| time.0),
    })
}
