//! The history. It is appended to in the transaction that makes it true, and bounded.

use chassis_core::{AgentKey, Event, EventKind, InstanceKey};
use chassis_spec::{AgentName, FleetName};
use rusqlite::{Connection, OptionalExtension, params};

use super::column::{Json, Name, Time};
use super::worker::Change;
use crate::error::Result;
use crate::types::EventFilter;

/// Events that are kept at least.
const KEPT: i64 = 100_000;

/// How many more there may be before the oldest are taken away.
const PRUNED_AT_ONCE: i64 = 1_000;

impl Change<'_> {
    pub(super) fn fleet_event(&self, fleet: &FleetName, kind: EventKind) -> Result<()> {
        self.event(fleet, None, None, kind)
    }

    pub(super) fn agent_event(&self, key: &AgentKey, kind: EventKind) -> Result<()> {
        self.event(&key.fleet, Some(&key.agent), None, kind)
    }

    pub(super) fn instance_event(&self, key: &InstanceKey, kind: EventKind) -> Result<()> {
        self.event(&key.fleet, Some(&key.agent), Some(key.number), kind)
    }

    fn event(
        &self,
        fleet: &FleetName,
        agent: Option<&AgentName>,
        number: Option<u32>,
        kind: EventKind,
    ) -> Result<()> {
        let sql = "INSERT INTO events (time, fleet, agent, number, kind) VALUES (?1, ?2, ?3, ?4, ?5)";
        let agent = agent.map(AgentName::as_str);
        let id = self.connection.prepare_cached(sql)?.insert(params![
            Time(self.now),
            fleet.as_str(),
            agent,
            number,
            Json(kind)
        ])?;
        if id % PRUNED_AT_ONCE == 0 {
            self.connection.prepare_cached("DELETE FROM events WHERE id <= ?1")?.execute([id - KEPT])?;
        }
        Ok(())
    }
}

/// The id of the newest event, 0 if there never was one.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<u64> {
    let newest = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'events'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(newest.unwrap_or(0))
}

pub(super) fn list(connection: &Connection, filter: &EventFilter) -> Result<Vec<Event>> {
    // The index finds the events of one instance. For more than that it would be sorted as a whole, while walking the
    // table by id ends after `limit` matches or, for a follower, with the few events that are new.
    let table = if filter.number.is_some() { "events" } else { "events NOT INDEXED" };
    let mut sql = format!("SELECT id, time, fleet, agent, number, kind FROM {table} WHERE id > ?1");
    for (given, condition) in [
        (filter.fleet.is_some(), " AND fleet = ?2"),
        (filter.agent.is_some(), " AND agent = ?3"),
        (filter.number.is_some(), " AND number = ?4"),
    ] {
        if given {
            sql.push_str(condition);
        }
    }
    sql.push_str(
        " AND (?6 IS NULL OR time >= ?6) AND (?7 = ',,' OR instr(?7, ',' || lower(kind ->> '$.kind') || ',') > 0)",
    );
    sql.push_str(if filter.newest { " ORDER BY id DESC LIMIT ?5" } else { " ORDER BY id LIMIT ?5" });
    let mut statement = connection.prepare_cached(&sql)?;
    let after = filter.after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
    let parameters = params![
        after,
        filter.fleet.as_ref().map(FleetName::as_str),
        filter.agent.as_ref().map(AgentName::as_str),
        filter.number,
        filter.limit,
        filter.since.map(Time),
        format!(",{},", filter.kinds.join(",").to_lowercase()),
    ];
    let rows = statement.query_map(parameters, |row| {
        Ok(Event {
            id: row.get(0)?,
            time: row.get::<_, Time>(1)?.0,
            fleet: row.get::<_, Name<_>>(2)?.0,
            agent: row.get::<_, Option<Name<_>>>(3)?.map(|name| name.0),
            number: row.get(4)?,
            kind: row.get::<_, Json<_>>(5)?.0,
        })
    })?;
    let mut events = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    if filter.newest {
        events.reverse();
    }
    Ok(events)
}
