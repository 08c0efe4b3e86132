//! Fleets.

use chassis_core::{AgentKey, EventKind};
use chassis_spec::{AgentName, FleetName, Labels};

use super::column::{Json, Name, Time};
use super::connection::{Connection, Outcome, Row, params};
use super::worker::Change;
use super::{agent, api_key, place};
use crate::error::{Error, Result};
use crate::types::Fleet;

pub(crate) fn create(change: &Change<'_>, name: &FleetName, labels: &Labels) -> Result<Fleet> {
    match get(change.connection, name) {
        Ok(fleet) if fleet.deleting => return Err(Error::FleetDeleting(name.clone())),
        Ok(_) => return Err(Error::FleetExists(name.clone())),
        Err(Error::FleetNotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let sql =
        "INSERT INTO fleets (name, labels, version, created_at, deleting) VALUES (?1, ?2, 1, ?3, FALSE)";
    change.connection.send(sql, params![name.as_str(), Json(labels), Time(change.now)])?;
    change.fleet_event(name, EventKind::FleetCreated)?;
    get(change.connection, name)
}

pub(crate) fn get(connection: &dyn Connection, name: &FleetName) -> Result<Fleet> {
    let sql = "SELECT name, labels, version, created_at, deleting, cleanup FROM fleets WHERE name = ?1";
    let fleet = connection.find(sql, params![name.as_str()], from_row)?;
    fleet.ok_or_else(|| Error::FleetNotFound(name.clone()))
}

/// The fleet, if it takes changes.
pub(crate) fn get_usable(connection: &dyn Connection, name: &FleetName) -> Result<Fleet> {
    let fleet = get(connection, name)?;
    if fleet.deleting { Err(Error::FleetDeleting(name.clone())) } else { Ok(fleet) }
}

pub(crate) fn list(connection: &dyn Connection) -> Result<Vec<Fleet>> {
    let sql = "SELECT name, labels, version, created_at, deleting, cleanup FROM fleets ORDER BY name";
    Ok(connection.list(sql, params![], from_row)?)
}

/// Notes that what is wanted of the fleet is not what it was.
pub(crate) fn touch(change: &Change<'_>, name: &FleetName) -> Result<()> {
    let sql = "UPDATE fleets SET version = version + 1 WHERE name = ?1";
    change.connection.send(sql, params![name.as_str()])?;
    Ok(())
}

pub(crate) fn delete(
    change: &Change<'_>,
    name: &FleetName,
    cleanup: bool,
    expected: Option<u64>,
) -> Result<Fleet> {
    let fleet = get(change.connection, name)?;
    super::check_version(|| format!("fleet `{name}`"), expected, fleet.version)?;
    if !fleet.deleting || cleanup && !fleet.cleanup {
        let sql = "UPDATE fleets SET deleting = TRUE, cleanup = cleanup OR ?2, version = version + 1
                   WHERE name = ?1";
        change.connection.send(sql, params![name.as_str(), cleanup])?;
        change.fleet_event(name, EventKind::DeleteRequested { cleanup })?;
    }
    for agent in agent::names(change.connection, name)? {
        agent::delete(change, &AgentKey { fleet: name.clone(), agent }, cleanup, None)?;
    }
    get(change.connection, name)
}

pub(crate) fn forget(change: &Change<'_>, name: &FleetName) -> Result<()> {
    let what = || format!("fleet `{name}`");
    let fleet = get(change.connection, name)?;
    if !fleet.deleting {
        return Err(Error::NotDeleting(what()));
    }
    if !agent::names(change.connection, name)?.is_empty() {
        return Err(Error::NotEmpty { what: what(), holds: "agents" });
    }
    change.connection.send("DELETE FROM fleets WHERE name = ?1", params![name.as_str()])?;
    if fleet.cleanup {
        place::fleet_data_gone(change, name)?;
    }
    api_key::fleet_gone(change, name)?;
    change.fleet_event(name, EventKind::FleetDeleted)
}

/// The fleet of an agent that was not found, if that is what is missing; else the agent.
pub(crate) fn missing(connection: &dyn Connection, fleet: &FleetName, agent: &AgentName) -> Error {
    match get(connection, fleet) {
        Ok(_) => Error::AgentNotFound { fleet: fleet.clone(), agent: agent.clone() },
        Err(error) => error,
    }
}

fn from_row(row: &Row<'_>) -> Outcome<Fleet> {
    Ok(Fleet {
        name: row.get::<Name<_>>(0)?.0,
        labels: row.get::<Json<_>>(1)?.0,
        version: row.get(2)?,
        created_at: row.get::<Time>(3)?.0,
        deleting: row.get(4)?,
        cleanup: row.get(5)?,
    })
}
