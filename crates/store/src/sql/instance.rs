//! Instances: what is wanted of each and what is remembered of it.

use chassis_core::environment;
use chassis_core::{AgentKey, Desired, EventKind, InstanceKey, Memory, Wanted};

use super::column::{Json, Time, WantedColumn};
use super::connection::{Connection, Outcome, Row, params};
use super::worker::Change;
use super::{agent, exit, fleet, place};
use crate::error::{Error, Result};
use crate::types::{AgentRecord, InstanceChange, InstanceRecord, InstanceUpdate, Scope};

/// Of [`from_row`].
const COLUMNS: &str = "number, wanted, started_after, memory, version, created_at";

/// All instances of an agent by number, those that are to go among them.
pub(crate) fn list(connection: &dyn Connection, key: &AgentKey) -> Result<Vec<InstanceRecord>> {
    let sql = select("WHERE fleet = ?1 AND agent = ?2 ORDER BY number");
    Ok(connection.list(&sql, params![key.fleet.as_str(), key.agent.as_str()], from_row)?)
}

/// How many instances of an agent are to stay.
pub(crate) fn count(connection: &dyn Connection, key: &AgentKey) -> Result<u32> {
    let sql = "SELECT count(*) FROM instances
               WHERE fleet = ?1 AND agent = ?2 AND wanted NOT IN ('absent', 'cleanup')";
    let parameters = params![key.fleet.as_str(), key.agent.as_str()];
    Ok(connection.value(sql, parameters)?)
}

fn get(connection: &dyn Connection, key: &InstanceKey) -> Result<InstanceRecord> {
    find(connection, key)?.ok_or_else(|| Error::InstanceNotFound(key.clone()))
}

pub(super) fn find(connection: &dyn Connection, key: &InstanceKey) -> Result<Option<InstanceRecord>> {
    let sql = select("WHERE fleet = ?1 AND agent = ?2 AND number = ?3");
    let parameters = params![key.fleet.as_str(), key.agent.as_str(), key.number];
    Ok(connection.find(&sql, parameters, from_row)?)
}

fn select(which: &str) -> String {
    format!("SELECT {COLUMNS}, {} FROM instances {which}", place::COLUMNS)
}

/// A new instance that should run.
pub(crate) fn insert(change: &Change<'_>, key: &InstanceKey) -> Result<()> {
    let sql = "INSERT INTO instances (fleet, agent, number, wanted, memory, version, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)";
    change.connection.send(
        sql,
        params![
            key.fleet.as_str(),
            key.agent.as_str(),
            key.number,
            WantedColumn(Wanted::Running),
            Json(Memory::default()),
            Time(change.now),
        ],
    )?;
    Ok(())
}

/// An instance that was to go is to run after all.
pub(crate) fn revive(change: &Change<'_>, key: &AgentKey, record: &InstanceRecord) -> Result<()> {
    let (desired, memory) = run_anew(change, &record.memory);
    save(change, &key.instance(record.number), desired, &memory)
}

/// Wants the instance gone; its data too if `cleanup`.
pub(crate) fn remove(change: &Change<'_>, key: &InstanceKey, cleanup: bool) -> Result<()> {
    change.touch(&key.fleet, &key.agent);
    let sql = "UPDATE instances SET wanted = ?4, version = version + 1
               WHERE fleet = ?1 AND agent = ?2 AND number = ?3";
    let wanted = WantedColumn(Wanted::Absent { cleanup });
    let parameters = params![key.fleet.as_str(), key.agent.as_str(), key.number, wanted];
    change.connection.send(sql, parameters)?;
    Ok(())
}

/// Wants all instances of an agent gone, and returns for how many that is news. Data that was to go still does.
pub(crate) fn remove_all(change: &Change<'_>, key: &AgentKey, cleanup: bool) -> Result<u64> {
    change.touch(&key.fleet, &key.agent);
    let sql = "UPDATE instances SET wanted = ?3, version = version + 1
               WHERE fleet = ?1 AND agent = ?2 AND wanted NOT IN (?3, 'cleanup')";
    let wanted = WantedColumn(Wanted::Absent { cleanup });
    let parameters = params![key.fleet.as_str(), key.agent.as_str(), wanted];
    Ok(change.connection.execute(sql, parameters)?)
}

pub(crate) fn request(
    change: &Change<'_>,
    scope: &Scope,
    asked: InstanceChange,
    expected: Option<u64>,
) -> Result<Vec<AgentKey>> {
    let connection = change.connection;
    let fleet = fleet::get(connection, &scope.fleet)?;
    let key = |agent| AgentKey { fleet: scope.fleet.clone(), agent };
    let Some(name) = &scope.agent else {
        super::check_version(|| format!("fleet `{}`", fleet.name), expected, fleet.version)?;
        if fleet.deleting {
            return Err(Error::FleetDeleting(fleet.name));
        }
        let mut concerned = Vec::new();
        for key in agent::names(connection, &scope.fleet)?.into_iter().map(key) {
            if !agent::get(connection, &key)?.deleting {
                request_all(change, &key, asked)?;
                concerned.push(key);
            }
        }
        return Ok(concerned);
    };
    let agent = agent::get(connection, &key(name.clone()))?;
    super::check_version(|| format!("agent `{}`", agent.key), expected, agent.version)?;
    if let Some(number) = scope.number {
        let key = agent.key.instance(number);
        let record = get(connection, &key)?;
        if record.desired.wanted.is_absent() {
            return Err(Error::InstanceNotFound(key));
        }
        if request_one(change, &agent.key, &record, asked)? {
            agent::touch(change, &agent.key)?;
        }
    } else if agent.deleting {
        return Err(Error::AgentDeleting { fleet: agent.key.fleet, agent: agent.key.agent });
    } else {
        request_all(change, &agent.key, asked)?;
    }
    Ok(vec![agent.key])
}

/// Wants an instance running that was to stop and has not: in the same run.
pub(crate) fn stop_withdraw(change: &Change<'_>, key: &InstanceKey) -> Result<()> {
    let record = get(change.connection, key)?;
    if record.desired.wanted == Wanted::Stopped {
        let desired = Desired { wanted: Wanted::Running, ..record.desired };
        save(change, key, desired, &record.memory)?;
    }
    Ok(())
}

fn request_all(change: &Change<'_>, key: &AgentKey, asked: InstanceChange) -> Result<()> {
    let mut is_news = false;
    for record in list(change.connection, key)? {
        if !record.desired.wanted.is_absent() {
            is_news |= request_one(change, key, &record, asked)?;
        }
    }
    if is_news { agent::touch(change, key) } else { Ok(()) }
}

/// Returns whether that is news.
fn request_one(
    change: &Change<'_>,
    key: &AgentKey,
    record: &InstanceRecord,
    asked: InstanceChange,
) -> Result<bool> {
    let wanted = record.desired.wanted;
    let runs = record.memory.run.is_some() && record.memory.exit.is_none();
    let (desired, memory, event) = match asked {
        InstanceChange::Start if wanted == Wanted::Running && runs => return Ok(false),
        InstanceChange::Stop if wanted == Wanted::Stopped => return Ok(false),
        InstanceChange::Stop => {
            let desired = Desired { wanted: Wanted::Stopped, ..record.desired };
            (desired, record.memory.clone(), EventKind::StopRequested)
        }
        InstanceChange::Start => {
            let (desired, memory) = run_anew(change, &record.memory);
            (desired, memory, EventKind::StartRequested)
        }
        InstanceChange::Restart => {
            let (desired, memory) = run_anew(change, &record.memory);
            (desired, memory, EventKind::RestartRequested)
        }
    };
    let key = key.instance(record.number);
    save(change, &key, desired, &memory)?;
    change.instance_event(&key, event)?;
    Ok(true)
}

/// A run that begins after now, whatever backoff there was.
fn run_anew(change: &Change<'_>, memory: &Memory) -> (Desired, Memory) {
    let desired = Desired { wanted: Wanted::Running, started_after: Some(change.now) };
    (desired, Memory { retry_at: None, blocked: None, failures: 0, ..memory.clone() })
}

fn save(change: &Change<'_>, key: &InstanceKey, desired: Desired, memory: &Memory) -> Result<()> {
    change.touch(&key.fleet, &key.agent);
    let sql = "UPDATE instances SET wanted = ?4, started_after = ?5, memory = ?6, version = version + 1
               WHERE fleet = ?1 AND agent = ?2 AND number = ?3";
    change.connection.send(
        sql,
        params![
            key.fleet.as_str(),
            key.agent.as_str(),
            key.number,
            WantedColumn(desired.wanted),
            desired.started_after.map(Time),
            Json(memory),
        ],
    )?;
    Ok(())
}

pub(crate) fn delete(
    change: &Change<'_>,
    key: &InstanceKey,
    cleanup: bool,
    expected: Option<u64>,
) -> Result<AgentRecord> {
    let agent = key.agent_key();
    let version = agent::get(change.connection, &agent)?.version;
    super::check_version(|| format!("agent `{agent}`"), expected, version)?;
    if environment::is_fleet(&agent.fleet) {
        // An environment is its one instance.
        return agent::delete(change, &agent, cleanup, None);
    }
    let wanted = get(change.connection, key)?.desired.wanted;
    // One that is going can still be told to take its data along.
    if wanted.is_absent() && (!cleanup || wanted == (Wanted::Absent { cleanup: true })) {
        return Err(Error::InstanceNotFound(key.clone()));
    }
    remove(change, key, cleanup)?;
    agent::touch(change, &agent)?;
    change.instance_event(key, EventKind::DeleteRequested { cleanup })?;
    agent::load(change.connection, &agent)
}

pub(crate) fn record(change: &Change<'_>, updates: Vec<InstanceUpdate>) -> Result<()> {
    let sql = "UPDATE instances SET memory = ?4, version = version + 1
               WHERE fleet = ?1 AND agent = ?2 AND number = ?3";
    for InstanceUpdate { key, memory, past, events, exits } in updates {
        let parameters = params![key.fleet.as_str(), key.agent.as_str(), key.number, Json(memory)];
        let found = change.connection.execute(sql, parameters)?;
        if found > 0 {
            change.touch(&key.fleet, &key.agent);
            for (time, event) in past {
                change.instance_event_at(time, &key, event)?;
            }
            for event in events {
                change.instance_event(&key, event)?;
            }
            for ended in exits {
                exit::insert(change, &key, &ended)?;
            }
        }
    }
    Ok(())
}

pub(crate) fn forget(change: &Change<'_>, key: &InstanceKey, cleanup: bool) -> Result<()> {
    // Somebody may have wanted it back, or its data gone as well, since it was taken down.
    if get(change.connection, key)?.desired.wanted != (Wanted::Absent { cleanup }) {
        return Err(Error::NotDeleting(format!("instance `{key}`")));
    }
    let sql = "DELETE FROM instances WHERE fleet = ?1 AND agent = ?2 AND number = ?3";
    let parameters = params![key.fleet.as_str(), key.agent.as_str(), key.number];
    change.connection.send(sql, parameters)?;
    if cleanup {
        place::data_gone(change, key)?;
    }
    change.instance_event(key, EventKind::Deleted { cleanup })
}

fn from_row(row: &Row<'_>) -> Outcome<InstanceRecord> {
    Ok(InstanceRecord {
        number: row.get(0)?,
        desired: Desired {
            wanted: row.get::<WantedColumn>(1)?.0,
            started_after: row.get::<Option<Time>>(2)?.map(|time| time.0),
        },
        memory: row.get::<Json<_>>(3)?.0,
        version: row.get(4)?,
        created_at: row.get::<Time>(5)?.0,
        placed: place::from_row(row, 6)?,
        home: place::home_from_row(row, 6)?,
    })
}
