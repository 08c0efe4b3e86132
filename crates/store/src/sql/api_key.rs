//! API keys: what they may do, and never the keys themselves.

use chassis_core::{Grant, Reach, Role, environment};
use chassis_spec::{ApiKeyName, FleetName};

use super::column::{Json, Name, Time};
use super::connection::{Connection, Outcome, Row, params};
use super::worker::Change;
use crate::access::{ApiKey, ApiKeyUse};
use crate::error::{Error, Result};

pub(crate) fn create(change: &mut Change<'_>, key: &ApiKey) -> Result<()> {
    let fleets = match &key.grant.reach {
        Reach::All => None,
        Reach::Fleets(fleets) => Some(Json(fleets)),
    };
    let sql = "INSERT INTO api_keys
               (name, prefix, hash, role, fleets, created_at, created_by, expires_at, last_used_at, label)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (name) DO NOTHING";
    let made = change.connection.execute(
        sql,
        params![
            key.name.as_str(),
            key.prefix,
            &key.hash[..],
            key.grant.role.word(),
            fleets,
            Time(key.created_at),
            key.created_by,
            key.expires_at.map(Time),
            key.last_used_at.map(Time),
            key.label,
        ],
    )?;
    if made == 0 { Err(Error::ApiKeyExists(key.name.clone())) } else { Ok(()) }
}

/// All keys by name, also those that have expired or were revoked.
pub(crate) fn list(connection: &dyn Connection) -> Result<Vec<ApiKey>> {
    let sql = "SELECT name, prefix, hash, role, fleets, created_at, created_by, expires_at, last_used_at,
                   label, revoked_at
               FROM api_keys ORDER BY name";
    Ok(connection.list(sql, params![], from_row)?)
}

pub(crate) fn delete(change: &mut Change<'_>, name: &ApiKeyName) -> Result<()> {
    match change.connection.execute("DELETE FROM api_keys WHERE name = ?1", params![name.as_str()])? {
        0 => Err(Error::ApiKeyNotFound(name.clone())),
        _ => Ok(()),
    }
}

/// Takes a fleet that is no more out of what keys are for: another of its name may be somebody else's. Those who may make it
/// again keep it.
pub(crate) fn fleet_gone(change: &Change<'_>, fleet: &FleetName) -> Result<()> {
    if environment::is_fleet(fleet) {
        // The next environment makes it again, and it is nobody's own.
        return Ok(());
    }
    for key in list(change.connection)? {
        let Reach::Fleets(mut fleets) = key.grant.reach else { continue };
        if key.grant.role < Role::Admin && fleets.remove(fleet) {
            let sql = "UPDATE api_keys SET fleets = ?2 WHERE name = ?1";
            change.connection.execute(sql, params![key.name.as_str(), Json(&fleets)])?;
        }
    }
    Ok(())
}

pub(crate) fn revoke(change: &mut Change<'_>, name: &ApiKeyName) -> Result<()> {
    let sql = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?2) WHERE name = ?1";
    match change.connection.execute(sql, params![name.as_str(), Time(change.now)])? {
        0 => Err(Error::ApiKeyNotFound(name.clone())),
        _ => Ok(()),
    }
}

/// Notes when keys were last used; of keys that are gone nothing.
pub(crate) fn used(change: &mut Change<'_>, uses: &[ApiKeyUse]) -> Result<()> {
    for ApiKeyUse { name, at } in uses {
        let sql = "UPDATE api_keys SET last_used_at = ?2
                   WHERE name = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)";
        change.connection.send(sql, params![name.as_str(), Time(*at)])?;
    }
    Ok(())
}

fn from_row(row: &Row<'_>) -> Outcome<ApiKey> {
    let fleets: Option<Json<_>> = row.get(4)?;
    Ok(ApiKey {
        name: row.get::<Name<_>>(0)?.0,
        prefix: row.get(1)?,
        hash: row.get(2)?,
        grant: Grant {
            role: row.get::<Name<Role>>(3)?.0,
            reach: fleets.map_or(Reach::All, |Json(fleets): Json<std::collections::BTreeSet<FleetName>>| {
                Reach::Fleets(fleets)
            }),
        },
        created_at: row.get::<Time>(5)?.0,
        created_by: row.get(6)?,
        expires_at: row.get::<Option<Time>>(7)?.map(|time| time.0),
        last_used_at: row.get::<Option<Time>>(8)?.map(|time| time.0),
        label: row.get(9)?,
        revoked_at: row.get::<Option<Time>>(10)?.map(|time| time.0),
    })
}
