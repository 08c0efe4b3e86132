//! Profiles of agents: encrypted as secrets are, since they hold tokens and files.

use chassis_spec::AgentName;
use zeroize::Zeroizing;

use super::column::{Name, Time};
use super::connection::{Connection, Outcome, Row, params};
use super::key::Key;
use super::worker::Change;
use crate::environment::AgentProfileRecord;
use crate::error::{Error, Result};

/// A record without its profile, and what that is when it is encrypted.
type Sealed = (AgentProfileRecord, Vec<u8>, Vec<u8>);

pub(crate) fn write(
    change: &mut Change<'_>,
    name: &AgentName,
    profile: Zeroizing<Vec<u8>>,
) -> Result<AgentProfileRecord> {
    let connection = change.connection;
    let sql = "SELECT version FROM agent_profiles WHERE name = ?1";
    let version: Option<u64> = connection.find(sql, params![name.as_str()], |row| row.get(0))?;
    let version = version.unwrap_or_default() + 1;
    let key = change.keys.for_writing(connection)?;
    let (nonce, ciphertext) = key.seal(&context(name, version), profile)?;
    let sql = "INSERT INTO agent_profiles (name, version, key_id, nonce, ciphertext, created_at, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
               ON CONFLICT (name) DO UPDATE
               SET version = ?2, key_id = ?3, nonce = ?4, ciphertext = ?5, updated_at = ?6";
    let parameters = params![name.as_str(), version, key.id, &nonce[..], &ciphertext[..], Time(change.now)];
    connection.execute(sql, parameters)?;
    read(change, name)
}

pub(crate) fn read(change: &mut Change<'_>, name: &AgentName) -> Result<AgentProfileRecord> {
    let found = sealed(change.connection, Some(name))?.pop();
    open(change, found.ok_or_else(|| Error::AgentProfileNotFound(name.clone()))?)
}

/// By name.
pub(crate) fn list(change: &mut Change<'_>) -> Result<Vec<AgentProfileRecord>> {
    sealed(change.connection, None)?.into_iter().map(|found| open(change, found)).collect()
}

pub(crate) fn delete(change: &Change<'_>, name: &AgentName) -> Result<()> {
    match change.connection.execute("DELETE FROM agent_profiles WHERE name = ?1", params![name.as_str()])? {
        0 => Err(Error::AgentProfileNotFound(name.clone())),
        _ => Ok(()),
    }
}

/// Encrypts all of them anew. Returns how many.
pub(crate) fn reencrypt(change: &mut Change<'_>, new: &Key) -> Result<u32> {
    let mut count = 0;
    for found in list(change)? {
        let (nonce, ciphertext) = new.seal(&context(&found.name, found.version), found.profile)?;
        let sql = "UPDATE agent_profiles SET key_id = ?2, nonce = ?3, ciphertext = ?4 WHERE name = ?1";
        let parameters = params![found.name.as_str(), new.id, &nonce[..], &ciphertext[..]];
        change.connection.execute(sql, parameters)?;
        count += 1;
    }
    Ok(count)
}

fn open(change: &mut Change<'_>, (mut record, nonce, ciphertext): Sealed) -> Result<AgentProfileRecord> {
    change.keys.refresh(change.connection)?;
    let key = change.keys.for_reading();
    let opened = key.and_then(|key| key.unseal(&context(&record.name, record.version), &nonce, ciphertext));
    record.profile = opened.ok_or_else(|| Error::AgentProfileDamaged(record.name.clone()))?;
    Ok(record)
}

fn sealed(connection: &dyn Connection, name: Option<&AgentName>) -> Result<Vec<Sealed>> {
    let sql = "SELECT name, version, created_at, updated_at, nonce, ciphertext FROM agent_profiles
               WHERE name = coalesce(?1, name) ORDER BY name";
    Ok(connection.list(sql, params![name.map(AgentName::as_str)], from_row)?)
}

/// What a ciphertext is bound to.
fn context(name: &AgentName, version: u64) -> String {
    format!("chassis-agent-profile\0{name}\0{version}")
}

fn from_row(row: &Row<'_>) -> Outcome<Sealed> {
    let record = AgentProfileRecord {
        name: row.get::<Name<_>>(0)?.0,
        version: row.get(1)?,
        created_at: row.get::<Time>(2)?.0,
        updated_at: row.get::<Time>(3)?.0,
        profile: Zeroizing::default(),
    };
    Ok((record, row.get(4)?, row.get(5)?))
}
