//! Agents, and how many instances they have.

use std::collections::BTreeSet;
use std::sync::Arc;

use chassis_core::scale::scale;
use chassis_core::{AgentKey, EventKind, Wanted};
use chassis_spec::{AgentName, AgentSpec, FleetName};

use super::column::{Json, Name, Numbers, Time};
use super::connection::{Connection, Outcome, Row, params};
use super::worker::Change;
use super::{environment, fleet, instance, place, revision};
use crate::MAX_INSTANCES;
use crate::error::{Error, Result};
use crate::types::{Agent, AgentRecord, InstanceRecord};

const SELECT: &str =
    "SELECT agents.fleet, name, agents.revision, spec, version, created_at, deployed_at, deleting, cleanup,
        template, image_id, image_digest, rollout,
        (SELECT string_agg(CAST(serving.revision AS TEXT), ',') FROM revisions AS serving
         WHERE serving.fleet = agents.fleet AND serving.agent = name AND serving.template = revisions.template)
    FROM agents JOIN revisions
    ON revisions.fleet = agents.fleet AND agent = name AND revisions.revision = agents.revision";

pub(crate) fn get(connection: &dyn Connection, key: &AgentKey) -> Result<Agent> {
    let agent = find(connection, key)?;
    agent.ok_or_else(|| fleet::missing(connection, &key.fleet, &key.agent))
}

pub(crate) fn find(connection: &dyn Connection, key: &AgentKey) -> Result<Option<Agent>> {
    let sql = format!("{SELECT} WHERE agents.fleet = ?1 AND name = ?2");
    let parameters = params![key.fleet.as_str(), key.agent.as_str()];
    Ok(connection.find(&sql, parameters, from_row)?)
}

/// The names of a fleet's agents, those that are being deleted among them, in order.
pub(crate) fn names(connection: &dyn Connection, fleet: &FleetName) -> Result<Vec<AgentName>> {
    let sql = "SELECT name FROM agents WHERE fleet = ?1 ORDER BY name";
    Ok(connection.list(sql, params![fleet.as_str()], |row| Ok(row.get::<Name<_>>(0)?.0))?)
}

pub(crate) fn load(connection: &dyn Connection, key: &AgentKey) -> Result<AgentRecord> {
    Ok(AgentRecord { agent: get(connection, key)?, instances: instance::list(connection, key)? })
}

pub(crate) fn load_all(connection: &dyn Connection) -> Result<Vec<AgentRecord>> {
    let agents = connection.list(&format!("{SELECT} ORDER BY agents.fleet, name"), params![], from_row)?;
    let load = |agent: Agent| {
        let instances = instance::list(connection, &agent.key)?;
        Ok(AgentRecord { agent, instances })
    };
    agents.into_iter().map(load).collect()
}

pub(crate) fn insert(change: &Change<'_>, key: &AgentKey, spec: &AgentSpec) -> Result<()> {
    let sql = "INSERT INTO agents (fleet, name, revision, version, created_at, deleting)
               VALUES (?1, ?2, 0, 1, ?3, FALSE)";
    let parameters = params![key.fleet.as_str(), key.agent.as_str(), Time(change.now)];
    change.connection.send(sql, parameters)?;
    fleet::touch(change, &key.fleet)?;
    let new = revision::New { spec, template: None, pin: None, cause: "deploy".to_owned(), undoes: None };
    revision::add(change, key, None, new).map(drop)
}

/// Notes that the agent is not what it was.
pub(crate) fn touch(change: &Change<'_>, key: &AgentKey) -> Result<()> {
    change.touch(&key.fleet, &key.agent);
    let sql = "UPDATE agents SET version = version + 1 WHERE fleet = ?1 AND name = ?2";
    change.connection.send(sql, params![key.fleet.as_str(), key.agent.as_str()])?;
    fleet::touch(change, &key.fleet)
}

pub(crate) fn scale_to(
    change: &Change<'_>,
    key: &AgentKey,
    count: u32,
    expected: Option<u64>,
) -> Result<AgentRecord> {
    environment::check_not_reserved(&key.fleet)?;
    let agent = get(change.connection, key)?;
    super::check_version(|| format!("agent `{key}`"), expected, agent.version)?;
    if agent.deleting {
        return Err(Error::AgentDeleting { fleet: key.fleet.clone(), agent: key.agent.clone() });
    }
    check_count(&agent.spec, count)?;
    if set_count(change, key, count)? != count {
        touch(change, key)?;
    }
    load(change.connection, key)
}

/// Makes and takes away instances until there are `count`. Returns how many there were.
pub(crate) fn set_count(change: &Change<'_>, key: &AgentKey, count: u32) -> Result<u32> {
    set_count_of(change, key, &instance::list(change.connection, key)?, count)
}

/// The same for an agent that has these instances.
pub(crate) fn set_count_of(
    change: &Change<'_>,
    key: &AgentKey,
    instances: &[InstanceRecord],
    count: u32,
) -> Result<u32> {
    let numbers = |chosen: fn(Wanted) -> bool| -> BTreeSet<u32> {
        instances.iter().filter(|record| chosen(record.desired.wanted)).map(|record| record.number).collect()
    };
    let alive = numbers(|wanted| !wanted.is_absent());
    let taken = numbers(|wanted| wanted == Wanted::Absent { cleanup: true });
    let from = u32::try_from(alive.len()).unwrap_or(u32::MAX);
    let difference = scale(&alive, &taken, count);
    for number in difference.add {
        match instances.binary_search_by_key(&number, |record| record.number) {
            Ok(at) => instance::revive(change, key, &instances[at])?,
            Err(_) => instance::insert(change, &key.instance(number))?,
        }
    }
    for number in difference.remove {
        instance::remove(change, &key.instance(number), false)?;
    }
    if from != count {
        change.agent_event(key, EventKind::Scaled { from, to: count })?;
    }
    Ok(from)
}

pub(crate) fn check_count(spec: &AgentSpec, count: u32) -> Result<()> {
    if count > MAX_INSTANCES {
        return Err(Error::TooManyInstances { agent: spec.name.clone(), count });
    }
    if count > 1 && spec.ports.iter().any(|port| port.host_port.is_some()) {
        return Err(Error::HostPortFixed { agent: spec.name.clone(), count });
    }
    Ok(())
}

pub(crate) fn delete(
    change: &Change<'_>,
    key: &AgentKey,
    cleanup: bool,
    expected: Option<u64>,
) -> Result<AgentRecord> {
    let agent = get(change.connection, key)?;
    super::check_version(|| format!("agent `{key}`"), expected, agent.version)?;
    environment::agent_deleting(change, key)?;
    let removed = instance::remove_all(change, key, cleanup)?;
    if removed > 0 || !agent.deleting || cleanup && !agent.cleanup {
        let sql = "UPDATE agents SET deleting = TRUE, cleanup = cleanup OR ?3 WHERE fleet = ?1 AND name = ?2";
        let parameters = params![key.fleet.as_str(), key.agent.as_str(), cleanup];
        change.connection.send(sql, parameters)?;
        touch(change, key)?;
        change.agent_event(key, EventKind::DeleteRequested { cleanup })?;
    }
    load(change.connection, key)
}

pub(crate) fn forget(change: &Change<'_>, key: &AgentKey) -> Result<()> {
    let what = || format!("agent `{key}`");
    let agent = get(change.connection, key)?;
    if !agent.deleting {
        return Err(Error::NotDeleting(what()));
    }
    if !instance::list(change.connection, key)?.is_empty() {
        return Err(Error::NotEmpty { what: what(), holds: "instances" });
    }
    let sql = "DELETE FROM agents WHERE fleet = ?1 AND name = ?2";
    change.connection.send(sql, params![key.fleet.as_str(), key.agent.as_str()])?;
    if agent.cleanup {
        place::agent_data_gone(change, key)?;
    }
    change.agent_event(key, EventKind::AgentDeleted)?;
    environment::agent_forgotten(change, key)
}

fn from_row(row: &Row<'_>) -> Outcome<Agent> {
    Ok(Agent {
        key: AgentKey { fleet: row.get::<Name<_>>(0)?.0, agent: row.get::<Name<_>>(1)?.0 },
        revision: row.get(2)?,
        spec: Arc::new(row.get::<Json<_>>(3)?.0),
        version: row.get(4)?,
        created_at: row.get::<Time>(5)?.0,
        deployed_at: row.get::<Time>(6)?.0,
        deleting: row.get(7)?,
        cleanup: row.get(8)?,
        template: row.get(9)?,
        pin: revision::pin_of(row.get(10)?, row.get(11)?),
        rollout: row.get::<Option<Json<_>>>(12)?.map(|rollout| rollout.0),
        serving: row.get::<Numbers>(13)?.0.into(),
    })
}
