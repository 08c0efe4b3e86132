//! Data that is to be removed from nodes that did not answer when it was: owed until they do.

use chassis_core::NodeName;
use chassis_spec::AgentName;

use super::column::Name;
use super::connection::{Connection, params};
use super::worker::Change;
use crate::error::Result;
use crate::node::DataOwed;
use crate::types::Scope;

/// What of this data is on the node is owed from now on, instead of being at home there.
pub(crate) fn owe(change: &Change<'_>, node: &NodeName, of: &Scope) -> Result<()> {
    let agent = of.agent.as_ref().map(AgentName::as_str);
    let parameters = params![node.as_str(), of.fleet.as_str(), agent, of.number];
    let which = "node = ?1 AND fleet = ?2 AND agent = coalesce(?3, agent) AND number = coalesce(?4, number)";
    let sql = format!(
        "INSERT INTO owed (node, fleet, agent, number) SELECT node, fleet, agent, number FROM homes WHERE {which}
         ON CONFLICT (node, fleet, agent, number) DO NOTHING"
    );
    change.connection.execute(&sql, parameters)?;
    change.connection.execute(&format!("DELETE FROM homes WHERE {which}"), parameters)?;
    Ok(())
}

/// By fleet, agent and number.
pub(crate) fn list(connection: &dyn Connection, node: &NodeName) -> Result<Vec<DataOwed>> {
    let sql = "SELECT node, fleet, agent, number FROM owed WHERE node = ?1 ORDER BY fleet, agent, number";
    Ok(connection.list(sql, params![node.as_str()], |row| {
        let fleet = row.get::<Name<_>>(1)?.0;
        let agent = row.get::<Name<_>>(2)?.0;
        let instance = chassis_core::AgentKey { fleet, agent }.instance(row.get(3)?);
        Ok(DataOwed { node: row.get::<Name<_>>(0)?.0, instance })
    })?)
}

/// It is removed.
pub(crate) fn paid(change: &Change<'_>, owed: &DataOwed) -> Result<()> {
    let DataOwed { node, instance } = owed;
    let sql = "DELETE FROM owed WHERE node = ?1 AND fleet = ?2 AND agent = ?3 AND number = ?4";
    let parameters =
        params![node.as_str(), instance.fleet.as_str(), instance.agent.as_str(), instance.number];
    change.connection.execute(sql, parameters)?;
    Ok(())
}

pub(super) fn node_forgotten(change: &Change<'_>, node: &NodeName) -> Result<()> {
    change.connection.execute("DELETE FROM owed WHERE node = ?1", params![node.as_str()])?;
    Ok(())
}
