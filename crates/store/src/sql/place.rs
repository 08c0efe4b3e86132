//! On which node each instance is, and which has its data.

use std::collections::BTreeMap;

use chassis_core::environment;
use chassis_core::schedule::Next;
use chassis_core::{AgentKey, EventKind, InstanceKey, NodeName};
use chassis_spec::FleetName;

use super::column::{Json, Name};
use super::connection::{Connection, Outcome, Row, params};
use super::worker::Change;
use super::{agent, instance};
use crate::error::Result;
use crate::node::{Placed, PlacementUpdate};

/// The columns of an instance that [`from_row`] and [`home_from_row`] read.
pub(super) const COLUMNS: &str = "node, epoch, ending, leased,
    (SELECT homes.node FROM homes
     WHERE homes.fleet = instances.fleet AND homes.agent = instances.agent AND homes.number = instances.number)";

/// Keeps where instances are. Those that are gone are passed over. A node that is gone is no place: the book that gave it
/// out is about to hear of that, and gives out another.
pub(crate) fn record(change: &Change<'_>, updates: Vec<PlacementUpdate>) -> Result<()> {
    let mut known = BTreeMap::new();
    for PlacementUpdate { instance, placed, home } in updates {
        let Some(before) = instance::find(change.connection, &instance)? else { continue };
        let placed = match placed {
            Some(placed) if node_is_there(change, &mut known, &placed.node)? => Some(placed),
            _ => None,
        };
        write(change, &instance, before.placed.as_ref(), placed.as_ref())?;
        if let Some(home) = home.filter(|home| before.home.as_ref() != Some(home))
            && node_is_there(change, &mut known, &home)?
        {
            home_write(change, &instance, &home)?;
        }
    }
    Ok(())
}

fn node_is_there(change: &Change<'_>, known: &mut BTreeMap<NodeName, bool>, node: &NodeName) -> Result<bool> {
    if let Some(known) = known.get(node) {
        return Ok(*known);
    }
    let sql = "SELECT count(*) FROM nodes WHERE name = ?1";
    let is_there = change.connection.value::<u64>(sql, params![node.as_str()])? > 0;
    known.insert(node.clone(), is_there);
    Ok(is_there)
}

/// Gives an instance its place, or takes it away.
pub(super) fn write(
    change: &Change<'_>,
    key: &InstanceKey,
    before: Option<&Placed>,
    placed: Option<&Placed>,
) -> Result<()> {
    if before == placed {
        return Ok(());
    }
    change.touch(&key.fleet, &key.agent);
    let sql = "UPDATE instances SET node = ?4, epoch = ?5, ending = ?6, leased = ?7, version = version + 1
               WHERE fleet = ?1 AND agent = ?2 AND number = ?3";
    change.connection.send(
        sql,
        params![
            key.fleet.as_str(),
            key.agent.as_str(),
            key.number,
            placed.map(|placed| placed.node.as_str()),
            placed.map_or(0, |placed| placed.epoch),
            placed.and_then(|placed| placed.ending).map(Json),
            placed.is_some_and(|placed| placed.leased),
        ],
    )?;
    let left = before.filter(|before| placed.is_none_or(|placed| placed.node != before.node));
    if let Some(Placed { node, ending, .. }) = left.filter(|left| left.ending != Some(Next::Forget)) {
        let (node, down) = (node.clone(), ending.is_none());
        change.instance_event(key, EventKind::InstanceLeft { node, down })?;
    }
    let at = |placed: &Placed| (placed.node.clone(), placed.epoch);
    let Some(placed) = placed.filter(|placed| before.map(at) != Some(at(placed))) else { return Ok(()) };
    change.instance_event(key, EventKind::InstancePlaced { node: placed.node.clone() })?;
    if environment::is_fleet(&key.fleet) {
        let sql = "UPDATE environments SET node = ?2 WHERE agent = ?1";
        change.connection.send(sql, params![key.agent.as_str(), placed.node.as_str()])?;
        agent::touch(change, &key.agent_key())?;
    }
    Ok(())
}

fn home_write(change: &Change<'_>, key: &InstanceKey, home: &NodeName) -> Result<()> {
    change.touch(&key.fleet, &key.agent);
    let sql = "INSERT INTO homes (fleet, agent, number, node) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (fleet, agent, number) DO UPDATE SET node = ?4";
    let parameters = params![key.fleet.as_str(), key.agent.as_str(), key.number, home.as_str()];
    change.connection.send(sql, parameters)?;
    Ok(())
}

/// The data of an instance is nowhere any more.
pub(super) fn data_gone(change: &Change<'_>, key: &InstanceKey) -> Result<()> {
    let sql = "DELETE FROM homes WHERE fleet = ?1 AND agent = ?2 AND number = ?3";
    change.connection.send(sql, params![key.fleet.as_str(), key.agent.as_str(), key.number])?;
    Ok(())
}

/// Nor is that of any instance that the agent ever had.
pub(super) fn agent_data_gone(change: &Change<'_>, key: &AgentKey) -> Result<()> {
    let sql = "DELETE FROM homes WHERE fleet = ?1 AND agent = ?2";
    change.connection.send(sql, params![key.fleet.as_str(), key.agent.as_str()])?;
    Ok(())
}

/// Nor is that of any agent that the fleet ever had.
pub(super) fn fleet_data_gone(change: &Change<'_>, name: &FleetName) -> Result<()> {
    change.connection.send("DELETE FROM homes WHERE fleet = ?1", params![name.as_str()])?;
    Ok(())
}

/// All that there is belongs to this node, until now the only one: every instance, the data of those with volumes, and what
/// data of others was found.
pub(super) fn settle(change: &Change<'_>, own: &NodeName, kept: &[InstanceKey]) -> Result<()> {
    let connection = change.connection;
    for record in agent::load_all(connection)? {
        let key = &record.agent.key;
        change.touch(&key.fleet, &key.agent);
        if !record.agent.spec.volumes.is_empty() {
            for instance in record.instances {
                home_write(change, &key.instance(instance.number), own)?;
            }
        }
    }
    for key in kept {
        home_write(change, key, own)?;
    }
    let sql = "UPDATE instances SET node = ?1, epoch = 0, version = version + 1 WHERE node IS NULL";
    connection.execute(sql, params![own.as_str()])?;
    connection.execute("UPDATE environments SET node = ?1", params![own.as_str()])?;
    connection.execute("UPDATE snapshots SET node = ?1", params![own.as_str()])?;
    Ok(())
}

/// The instances that have a place, on one node or on any.
pub(crate) fn list(
    connection: &dyn Connection,
    node: Option<&NodeName>,
) -> Result<Vec<(InstanceKey, Placed)>> {
    let sql = "SELECT node, epoch, ending, leased, fleet, agent, number FROM instances
               WHERE node = coalesce(?1, node) ORDER BY fleet, agent, number";
    let found = connection.list(sql, params![node.map(NodeName::as_str)], |row| {
        let key = InstanceKey {
            fleet: row.get::<Name<_>>(4)?.0,
            agent: row.get::<Name<_>>(5)?.0,
            number: row.get(6)?,
        };
        Ok(from_row(row, 0)?.map(|placed| (key, placed)))
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// The instances whose data is on a node, also those that are no more.
pub(crate) fn homes(connection: &dyn Connection, node: &NodeName) -> Result<Vec<InstanceKey>> {
    let sql = "SELECT fleet, agent, number FROM homes WHERE node = ?1 ORDER BY fleet, agent, number";
    Ok(connection.list(sql, params![node.as_str()], |row| {
        let (fleet, agent) = (row.get::<Name<_>>(0)?.0, row.get::<Name<_>>(1)?.0);
        Ok(InstanceKey { fleet, agent, number: row.get(2)? })
    })?)
}

/// How many instances are on a node, or have their data there; also those that are no more, and may come back to it.
pub(super) fn count(connection: &dyn Connection, node: &NodeName) -> Result<u64> {
    let sql = "SELECT (SELECT count(*) FROM instances WHERE node = ?1)
             + (SELECT count(*) FROM homes WHERE node = ?1 AND NOT EXISTS
                  (SELECT 1 FROM instances WHERE instances.fleet = homes.fleet AND instances.agent = homes.agent
                   AND instances.number = homes.number AND instances.node = ?1))";
    Ok(connection.value(sql, params![node.as_str()])?)
}

/// Data that instances which are no more have left there is not looked for any more.
pub(super) fn node_forgotten(change: &Change<'_>, node: &NodeName) -> Result<()> {
    change.connection.send("DELETE FROM homes WHERE node = ?1", params![node.as_str()])?;
    Ok(())
}

/// The place of an instance, the first of whose [`COLUMNS`] is at `first`.
pub(super) fn from_row(row: &Row<'_>, first: usize) -> Outcome<Option<Placed>> {
    let Some(Name(node)) = row.get::<Option<Name<NodeName>>>(first)? else { return Ok(None) };
    let ending: Option<Json<Next>> = row.get(first + 2)?;
    let (epoch, leased) = (row.get(first + 1)?, row.get(first + 3)?);
    Ok(Some(Placed { node, epoch, leased, ending: ending.map(|next| next.0) }))
}

pub(super) fn home_from_row(row: &Row<'_>, first: usize) -> Outcome<Option<NodeName>> {
    Ok(row.get::<Option<Name<NodeName>>>(first + 4)?.map(|name| name.0))
}
