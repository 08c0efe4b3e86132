//! The history. It is appended to in the transaction that makes it true, and bounded.

use chassis_core::{AgentKey, Event, EventKind, InstanceKey};
use chassis_spec::{AgentName, FleetName};
use jiff::Timestamp;

use super::column::{Json, Name, Time};
use super::connection::{Connection, Outcome, Row, ToColumn, params};
use super::worker::Change;
use crate::error::Result;
use crate::types::EventFilter;

/// Events that are kept at least.
const KEPT: u64 = 100_000;

/// How many more there may be before the oldest are taken away.
const PRUNED_AT_ONCE: u64 = 1_000;

/// What stands in the column of the fleet, where there is none.
const NO_FLEET: &str = "";

impl Change<'_> {
    pub(crate) fn fleet_event(&self, fleet: &FleetName, kind: EventKind) -> Result<()> {
        self.event(self.now, Some(fleet), None, None, kind)
    }

    pub(crate) fn agent_event(&self, key: &AgentKey, kind: EventKind) -> Result<()> {
        self.event(self.now, Some(&key.fleet), Some(&key.agent), None, kind)
    }

    pub(crate) fn instance_event(&self, key: &InstanceKey, kind: EventKind) -> Result<()> {
        self.instance_event_at(self.now, key, kind)
    }

    /// What happened then, and is known only now.
    pub(crate) fn instance_event_at(
        &self,
        time: Timestamp,
        key: &InstanceKey,
        kind: EventKind,
    ) -> Result<()> {
        self.event(time, Some(&key.fleet), Some(&key.agent), Some(key.number), kind)
    }

    /// Of no fleet.
    pub(crate) fn node_event(&self, kind: EventKind) -> Result<()> {
        self.nodes_touch();
        self.event(self.now, None, None, None, kind)
    }

    fn event(
        &self,
        time: Timestamp,
        fleet: Option<&FleetName>,
        agent: Option<&AgentName>,
        number: Option<u32>,
        kind: EventKind,
    ) -> Result<()> {
        let sql = "INSERT INTO events (id, time, fleet, agent, number, kind) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        if let Some((fleet, agent)) = fleet.zip(agent) {
            self.touch(fleet, agent);
        }
        let fleet = fleet.map_or(NO_FLEET, FleetName::as_str);
        let agent = agent.map(AgentName::as_str);
        let id = self.event_id()?;
        let parameters = params![id, Time(time), fleet, agent, number, Json(kind)];
        self.connection.send(sql, parameters)?;
        if id % PRUNED_AT_ONCE == 0 {
            let last = id.saturating_sub(KEPT);
            self.connection.send("DELETE FROM events WHERE id <= ?1", params![last])?;
        }
        Ok(())
    }
}

/// The id of the newest event, 0 if there never was one.
pub(crate) fn newest(connection: &dyn Connection) -> Outcome<u64> {
    connection.value("SELECT coalesce(max(id), 0) FROM events", params![])
}

pub(crate) fn list(connection: &dyn Connection, filter: &EventFilter) -> Result<Vec<Event>> {
    // The index finds the events of one instance. For more than that it would be sorted as a whole, while walking the
    // table by id ends after `limit` matches or, for a follower, with the few events that are new.
    let table = if filter.number.is_some() { "events".to_owned() } else { connection.unindexed("events") };
    let after = filter.after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
    let fleet = filter.fleet.as_ref().map(FleetName::as_str);
    let agent = filter.agent.as_ref().map(AgentName::as_str);
    let since = filter.since.map(Time);
    // How the JSON of such an event begins.
    let kinds = filter.kinds.iter().map(|kind| format!("{{\"kind\":\"{}\"", kind.to_lowercase()));
    let kinds: Vec<String> = kinds.collect();

    let mut parameters: Vec<&dyn ToColumn> = vec![&after, &filter.limit];
    let mut conditions = vec!["id > ?1".to_owned()];
    let mut narrow = |condition: &str, value| {
        parameters.push(value);
        conditions.push(condition.replace('?', &format!("?{}", parameters.len())));
    };
    if let Some(fleet) = &fleet {
        narrow("fleet = ?", fleet);
    }
    if let Some(agent) = &agent {
        narrow("agent = ?", agent);
    }
    if let Some(number) = &filter.number {
        narrow("number = ?", number);
    }
    if let Some(since) = &since {
        narrow("time >= ?", since);
    }
    let one_of: Vec<String> = (parameters.len() + 1..)
        .zip(&kinds)
        .map(|(at, _)| format!("substr(lower(kind), 1, length(CAST(?{at} AS TEXT))) = ?{at}"))
        .collect();
    parameters.extend(kinds.iter().map(|kind| kind as &dyn ToColumn));
    if !one_of.is_empty() {
        conditions.push(format!("({})", one_of.join(" OR ")));
    }
    let order = if filter.newest { "id DESC" } else { "id" };
    let sql = format!(
        "SELECT id, time, fleet, agent, number, kind FROM {table} WHERE {} ORDER BY {order} LIMIT ?2",
        conditions.join(" AND ")
    );
    let mut events = connection.list(&sql, &parameters, from_row)?;
    if filter.newest {
        events.reverse();
    }
    Ok(events)
}

fn from_row(row: &Row<'_>) -> Outcome<Event> {
    let fleet: String = row.get(2)?;
    Ok(Event {
        id: row.get(0)?,
        time: row.get::<Time>(1)?.0,
        fleet: if fleet == NO_FLEET { None } else { Some(row.get::<Name<_>>(2)?.0) },
        agent: row.get::<Option<Name<_>>>(3)?.map(|name| name.0),
        number: row.get(4)?,
        kind: row.get::<Json<_>>(5)?.0,
    })
}
