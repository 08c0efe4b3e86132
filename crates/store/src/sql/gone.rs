//! A node whose machine is gone for good: what it had goes on elsewhere, without its data.
//!
//! All of it is one transaction, so that a server that is killed has either done it or not. Who schedules makes new places
//! from what is without one then.

use chassis_core::environment::Cause;
use chassis_core::{EventKind, InstanceKey, NodeName};

use super::connection::params;
use super::worker::Change;
use super::{environment, node, owed, place};
use crate::environment::EnvironmentEnd;
use crate::error::{Error, Result};

/// Forgets a node that is down, with all that it had. Environments end with it: they are never made again behind their
/// makers' backs.
pub(crate) fn abandon(change: &mut Change<'_>, name: &NodeName, expected: Option<u64>) -> Result<()> {
    let found = node::get(change.connection, name)?;
    super::check_version(|| format!("node `{name}`"), expected, found.version)?;
    if found.is_own() {
        return Err(Error::NodeIsOwn(name.clone()));
    }
    if !found.is_down {
        return Err(Error::NodeNotDown(name.clone()));
    }
    let placed = place::list(change.connection, Some(name))?;
    let homes = place::homes(change.connection, name)?;
    let concerned = placed.iter().map(|(key, _)| key).chain(&homes);
    for key in concerned {
        environment_end(change, key, name)?;
    }
    for (key, before) in &placed {
        place::write(change, key, Some(before), None)?;
    }
    for key in &homes {
        change.touch(&key.fleet, &key.agent);
        change.instance_event(key, EventKind::DataLost { node: name.clone() })?;
    }
    place::node_forgotten(change, name)?;
    owed::node_forgotten(change, name)?;
    change.connection.execute("DELETE FROM nodes WHERE name = ?1", params![name.as_str()])?;
    change.node_event(EventKind::NodeRemoved { node: name.clone(), gone: true })
}

fn environment_end(change: &mut Change<'_>, key: &InstanceKey, node: &NodeName) -> Result<()> {
    let Some(found) = environment::find(change.connection, &key.agent_key())? else { return Ok(()) };
    let why = EnvironmentEnd {
        cause: Cause::Lost,
        reason: format!("the machine that it was on, node {node}, is gone for good"),
    };
    environment::end(change, &found.id, Some(&why)).map(drop)
}
