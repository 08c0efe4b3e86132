//! Secrets: encrypted before they reach the database, bound to their fleet, name and version, so that no record can be passed
//! off as another. Values are never in an event, an error or a log.

use chassis_core::EventKind;
use chassis_spec::{FleetName, SecretName};
use zeroize::Zeroizing;

use super::column::{Name, Time};
use super::connection::{Connection, Outcome, Row, params};
use super::key::{self, Key, Sealed};
use super::worker::{Change, WriterState};
use super::{agent_profile, dead_letter, environment, fleet, node};
use crate::MAX_SECRET_BYTES;
use crate::error::{Error, Result};
use crate::types::SecretInfo;

pub(crate) fn write(
    change: &mut Change<'_>,
    fleet: &FleetName,
    name: &SecretName,
    value: Zeroizing<Vec<u8>>,
    replace: bool,
    expected: Option<u64>,
) -> Result<SecretInfo> {
    match value.len() {
        0 => return Err(Error::SecretEmpty),
        length if length > MAX_SECRET_BYTES => return Err(Error::SecretTooLarge(length)),
        _ => {}
    }
    let connection = change.connection;
    fleet::get_usable(connection, fleet)?;
    let existing = find(connection, fleet, name)?;
    let version = existing.as_ref().map_or(0, |secret| secret.version);
    super::check_version(|| format!("secret `{fleet}/{name}`"), expected, version)?;
    if existing.is_some() && !replace {
        return Err(Error::SecretExists { fleet: fleet.clone(), name: name.clone() });
    }
    let version = version + 1;
    let key = change.keys.for_writing(connection)?;
    let (nonce, ciphertext) = key.seal(&context(fleet, name, version), value)?;
    let sql = "INSERT INTO secrets (fleet, name, version, key_id, nonce, ciphertext, created_at, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
               ON CONFLICT (fleet, name) DO UPDATE
               SET version = ?3, key_id = ?4, nonce = ?5, ciphertext = ?6, updated_at = ?7";
    connection.execute(
        sql,
        params![
            fleet.as_str(),
            name.as_str(),
            version,
            key.id,
            &nonce[..],
            &ciphertext[..],
            Time(change.now),
        ],
    )?;
    change.fleet_event(fleet, EventKind::SecretWritten { name: name.to_string() })?;
    find(connection, fleet, name)?.ok_or_else(|| not_found(connection, fleet, name))
}

/// What is kept of a text that holds a secret, to know it again.
pub(crate) fn mark(change: &mut Change<'_>, text: &[u8]) -> Result<Vec<u8>> {
    Ok(change.keys.for_writing(change.connection)?.mark(text))
}

pub(crate) fn sealed(connection: &dyn Connection, fleet: &FleetName, name: &SecretName) -> Result<Sealed> {
    let sql = "SELECT version, key_id, nonce, ciphertext FROM secrets WHERE fleet = ?1 AND name = ?2";
    let found = connection.find(sql, params![fleet.as_str(), name.as_str()], |row| {
        let context = context(fleet, name, row.get(0)?);
        Ok(Sealed { context, key_id: row.get(1)?, nonce: row.get(2)?, ciphertext: row.get(3)? })
    })?;
    found.ok_or_else(|| not_found(connection, fleet, name))
}

pub(crate) fn read(
    change: &mut Change<'_>,
    fleet: &FleetName,
    name: &SecretName,
) -> Result<Zeroizing<Vec<u8>>> {
    let sealed = sealed(change.connection, fleet, name)?;
    let opened = change.keys.unseal(change.connection, sealed)?;
    opened.ok_or_else(|| Error::SecretDamaged { fleet: fleet.clone(), name: name.clone() })
}

pub(crate) fn exists(connection: &dyn Connection, fleet: &FleetName, name: &SecretName) -> Result<bool> {
    Ok(find(connection, fleet, name)?.is_some())
}

pub(crate) fn list(connection: &dyn Connection, fleet: Option<&FleetName>) -> Result<Vec<SecretInfo>> {
    let sql = "SELECT fleet, name, version, created_at, updated_at FROM secrets
               WHERE fleet = coalesce(?1, fleet) ORDER BY fleet, name";
    if let Some(name) = fleet {
        fleet::get(connection, name)?;
    }
    Ok(connection.list(sql, params![fleet.map(FleetName::as_str)], from_row)?)
}

pub(crate) fn delete(
    change: &Change<'_>,
    fleet: &FleetName,
    name: &SecretName,
    expected: Option<u64>,
) -> Result<()> {
    if expected.is_some() {
        let found = find(change.connection, fleet, name)?;
        let found = found.ok_or_else(|| not_found(change.connection, fleet, name))?;
        super::check_version(|| format!("secret `{fleet}/{name}`"), expected, found.version)?;
    }
    let sql = "DELETE FROM secrets WHERE fleet = ?1 AND name = ?2";
    if change.connection.execute(sql, params![fleet.as_str(), name.as_str()])? == 0 {
        return Err(not_found(change.connection, fleet, name));
    }
    change.fleet_event(fleet, EventKind::SecretDeleted { name: name.to_string() })
}

/// See [`key`] for the order of steps.
pub(crate) fn rotate(state: &mut WriterState, new_key: Option<Zeroizing<String>>) -> Result<u32> {
    let file = state.keys.file.clone();
    let digits = match (new_key, &file) {
        (Some(digits), None) => digits,
        (None, Some(_)) => key::generate()?,
        (None, None) => return Err(Error::KeyNeeded),
        (Some(_), Some(path)) => return Err(Error::KeyNotNeeded(path.clone())),
    };
    let new = Key::parse(&digits, "the new key")?;
    if state.keys.for_reading().is_some_and(|present| present.id == new.id) {
        return Err(Error::KeyInUse);
    }
    let rewritten = state.transaction(|change| {
        if let Some(path) = &file {
            key::settle(path, key::known_id(change.connection)?.as_deref())?;
            key::write_new(path, &digits)?;
        }
        reencrypt(change, &new)
    })?;
    let id = new.id.clone();
    state.keys.replace(new);
    if let Some(path) = &file {
        key::install_new(path, &id)?;
    }
    // What was encrypted with the old key must not be left behind.
    state.session.scrub()?;
    Ok(rewritten)
}

fn reencrypt(change: &mut Change<'_>, new: &Key) -> Result<u32> {
    let connection = change.connection;
    let mut all = 0;
    for fleet in fleet::list(connection)? {
        let mut secrets = 0;
        for SecretInfo { name, version, .. } in list(connection, Some(&fleet.name))? {
            let value = read(change, &fleet.name, &name)?;
            let (nonce, ciphertext) = new.seal(&context(&fleet.name, &name, version), value)?;
            let sql =
                "UPDATE secrets SET key_id = ?3, nonce = ?4, ciphertext = ?5 WHERE fleet = ?1 AND name = ?2";
            let parameters = params![fleet.name.as_str(), name.as_str(), new.id, &nonce[..], &ciphertext[..]];
            connection.execute(sql, parameters)?;
            secrets += 1;
        }
        if secrets > 0 {
            change.fleet_event(&fleet.name, EventKind::KeyRotated { secrets })?;
        }
        all += secrets;
    }
    all += environment::reencrypt(change, new)?;
    all += node::reencrypt(change, new)?;
    all += agent_profile::reencrypt(change, new)?;
    all += dead_letter::reencrypt(change, new)?;
    key::set_known_id(connection, &new.id)?;
    Ok(all)
}

/// What a ciphertext is bound to.
fn context(fleet: &FleetName, name: &SecretName, version: u64) -> String {
    format!("chassis-secret\0{fleet}\0{name}\0{version}")
}

fn find(connection: &dyn Connection, fleet: &FleetName, name: &SecretName) -> Result<Option<SecretInfo>> {
    let sql =
        "SELECT fleet, name, version, created_at, updated_at FROM secrets WHERE fleet = ?1 AND name = ?2";
    Ok(connection.find(sql, params![fleet.as_str(), name.as_str()], from_row)?)
}

fn not_found(connection: &dyn Connection, fleet: &FleetName, name: &SecretName) -> Error {
    match fleet::get(connection, fleet) {
        Ok(_) => Error::SecretNotFound { fleet: fleet.clone(), name: name.clone() },
        Err(error) => error,
    }
}

fn from_row(row: &Row<'_>) -> Outcome<SecretInfo> {
    Ok(SecretInfo {
        fleet: row.get::<Name<_>>(0)?.0,
        name: row.get::<Name<_>>(1)?.0,
        version: row.get(2)?,
        created_at: row.get::<Time>(3)?.0,
        updated_at: row.get::<Time>(4)?.0,
    })
}
