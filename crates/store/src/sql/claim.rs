//! On which machine a chassis that is alone has its instances, and which servers look after them.

use super::column::Time;
use super::connection::{Connection, params};
use super::worker::Change;
use crate::error::Result;
use crate::types::Server;

pub(crate) fn get(connection: &dyn Connection) -> Result<Option<String>> {
    Ok(connection.find("SELECT value FROM meta WHERE name = 'node'", params![], |row| row.get(0))?)
}

pub(crate) fn claim(change: &Change<'_>, node: &str, replace: bool) -> Result<String> {
    let sql = if replace {
        "INSERT INTO meta (name, value) VALUES ('node', ?1) ON CONFLICT (name) DO UPDATE SET value = ?1"
    } else {
        "INSERT INTO meta (name, value) VALUES ('node', ?1) ON CONFLICT (name) DO NOTHING"
    };
    change.connection.execute(sql, params![node])?;
    Ok(change.connection.value("SELECT value FROM meta WHERE name = 'node'", params![])?)
}

pub(crate) fn is_cordoned(connection: &dyn Connection) -> Result<bool> {
    let sql = "SELECT value FROM meta WHERE name = 'node_cordoned'";
    Ok(connection.find(sql, params![], |row| row.get::<String>(0))?.is_some())
}

pub(crate) fn cordon(change: &Change<'_>, cordoned: bool) -> Result<()> {
    let sql = if cordoned {
        "INSERT INTO meta (name, value) VALUES ('node_cordoned', 'true') ON CONFLICT (name) DO NOTHING"
    } else {
        "DELETE FROM meta WHERE name = 'node_cordoned'"
    };
    change.connection.execute(sql, params![])?;
    Ok(())
}

/// Counts a book that a scheduler begins.
pub(crate) fn schedule_begin(change: &Change<'_>) -> Result<u32> {
    let sql = "SELECT value FROM meta WHERE name = 'schedules'";
    let before: Option<String> = change.connection.find(sql, params![], |row| row.get(0))?;
    // Never written by anybody else; whatever it is, the next is above what it was.
    let count = before.and_then(|count| count.parse::<u32>().ok()).unwrap_or_default() + 1;
    let sql =
        "INSERT INTO meta (name, value) VALUES ('schedules', ?1) ON CONFLICT (name) DO UPDATE SET value = ?1";
    change.connection.execute(sql, params![count.to_string()])?;
    Ok(count)
}

/// `sql` finds names, and times in microseconds.
pub(crate) fn servers(connection: &dyn Connection, sql: &str) -> Result<Vec<Server>> {
    let servers = connection.list(sql, params![], |row| {
        let Time(since) = row.get(1)?;
        Ok(Server { name: row.get(0)?, since })
    })?;
    Ok(servers)
}
