//! Environments: rows that live and die with their agents.

use chassis_core::environment::{self, State, Told};
use chassis_core::{AgentKey, EventKind};
use chassis_spec::{AgentName, AgentSpec, FleetName, Labels};
use zeroize::Zeroizing;

use super::column::{Name, Time};
use super::connection::{Connection, Outcome, Row, ToColumn, params};
use super::key::{Key, Sealed};
use super::worker::Change;
use super::{agent, dead_letter, fleet, instance, place, snapshot};
use crate::environment::{Environment, EnvironmentEnd, EnvironmentFilter, EnvironmentNew};
use crate::error::{Error, Result};
use crate::types::{InstanceChange, Scope};

const SELECT: &str = "SELECT id, task_id, agent, node, state, request, created_at, updated_at, running_at, error FROM environments";

/// Refuses what people would do to the fleet of all environments as if it were theirs.
pub(crate) fn check_not_reserved(fleet: &FleetName) -> Result<()> {
    if environment::is_fleet(fleet) { Err(Error::FleetReserved(fleet.clone())) } else { Ok(()) }
}

pub(crate) fn create(change: &mut Change<'_>, new: EnvironmentNew) -> Result<Environment> {
    let connection = change.connection;
    let sql = "SELECT id FROM environments WHERE id = ?1 OR (task_id = ?2 AND state <> 'destroying')";
    let taken: Vec<String> = connection.list(sql, params![new.id, new.task_id], |row| row.get(0))?;
    if !taken.is_empty() {
        return Err(Error::EnvironmentExists(new.task_id));
    }
    let fleet = environment::fleet();
    match fleet::get_usable(connection, &fleet) {
        Err(Error::FleetNotFound(_)) => drop(fleet::create(change, &fleet, &Labels::default())?),
        found => drop(found?),
    }
    let key = free_name(connection, &fleet, &new.id)?;
    let spec = AgentSpec { name: key.agent.clone(), fleet: Some(fleet), replicas: None, ..new.spec.clone() };
    agent::insert(change, &key, &spec)?;
    agent::set_count(change, &key, 1)?;

    let secret = change.keys.for_writing(connection)?;
    let (nonce, private) = secret.seal(&context(&new.id, 1), new.private)?;
    let sql = "INSERT INTO environments (id, task_id, agent, node, state, request, created_at, updated_at,
                                         private_version, private_key_id, private_nonce, private)
               VALUES (?1, ?2, ?3, ?4, 'provisioning', ?5, ?6, ?6, 1, ?7, ?8, ?9)";
    connection.execute(
        sql,
        params![
            new.id,
            new.task_id,
            key.agent.as_str(),
            new.node,
            new.request,
            Time(change.now),
            secret.id,
            &nonce[..],
            &private[..],
        ],
    )?;
    if let Some(kind) = &new.redrives {
        dead_letter::redriven(change, kind, &new.id)?;
    }
    tell(change, &key, &new.id, Told::Provisioning, None)?;
    place::write(change, &key.instance(environment::NUMBER), None, new.placed.as_ref())?;
    let made = get(connection, &new.id)?;
    if let Some(seed) = &new.seed {
        snapshot::seed(change, seed, &made)?;
    }
    Ok(made)
}

/// The first of the names that it may have that is nobody else's. With many thousands in the fleet they are not all looked
/// at: only those that could be in the way.
fn free_name(connection: &dyn Connection, fleet: &FleetName, id: &str) -> Result<AgentKey> {
    let mut taken = None;
    for agent in environment::agent_names(id) {
        let key = AgentKey { fleet: fleet.clone(), agent };
        match in_the_way(connection, &key)? {
            None => return Ok(key),
            Some(existing) => taken = Some(Error::NameCollision { new: key, existing }),
        }
    }
    Err(taken.unwrap_or_else(|| Error::EnvironmentExists(id.to_owned())))
}

fn in_the_way(connection: &dyn Connection, key: &AgentKey) -> Result<Option<AgentKey>> {
    let name = key.agent.as_str();
    let stem = chassis_core::key::parse_instance_name(name).map_or(name, |(stem, _)| stem);
    // `-` and `.` stand beside each other: between them are the names that begin with this one and a hyphen. Each of these
    // asks the index; as one condition they would walk the whole fleet.
    let sql = "SELECT fleet, name FROM agents WHERE fleet = ?1 AND name IN (?2, ?3)
               UNION ALL
               SELECT fleet, name FROM agents WHERE fleet = ?1 AND name > ?2 || '-' AND name < ?2 || '.'
               UNION ALL
               SELECT fleet, name FROM agents
               WHERE fleet > ?1 || '-' AND fleet < ?1 || '.' AND fleet || '-' || name = ?4";
    let whole = format!("{}-{name}", key.fleet);
    let found = connection.list(sql, params![key.fleet.as_str(), name, stem, whole], |row| {
        Ok(AgentKey { fleet: row.get::<Name<_>>(0)?.0, agent: row.get::<Name<_>>(1)?.0 })
    })?;
    let collides = |other: &AgentKey| {
        key == other || key.container_names_collide(other) || key.instance_names_collide(other)
    };
    Ok(found.into_iter().find(collides))
}

pub(crate) fn get(connection: &dyn Connection, id: &str) -> Result<Environment> {
    let found = connection.find(&format!("{SELECT} WHERE id = ?1"), params![id], from_row)?;
    found.ok_or_else(|| Error::EnvironmentNotFound(id.to_owned()))
}

/// The environment of an agent, if it is one's.
pub(crate) fn find(connection: &dyn Connection, key: &AgentKey) -> Result<Option<Environment>> {
    if !environment::is_fleet(&key.fleet) {
        return Ok(None);
    }
    let sql = format!("{SELECT} WHERE agent = ?1");
    Ok(connection.find(&sql, params![key.agent.as_str()], from_row)?)
}

/// By id.
pub(crate) fn list(connection: &dyn Connection, filter: &EnvironmentFilter) -> Result<Vec<Environment>> {
    let after = filter.after.as_deref().unwrap_or_default();
    let state = filter.state.map(State::word);
    let mut parameters: Vec<&dyn ToColumn> = vec![&after, &filter.limit];
    let mut conditions = vec!["id > ?1".to_owned()];
    let mut narrow = |column: &str, value| {
        parameters.push(value);
        conditions.push(format!("{column} = ?{}", parameters.len()));
    };
    if let Some(task_id) = &filter.task_id {
        narrow("task_id", task_id);
    }
    if let Some(state) = &state {
        narrow("state", state);
    }
    if let Some(node) = &filter.node {
        narrow("node", node);
    }
    let sql = format!("{SELECT} WHERE {} ORDER BY id LIMIT ?2", conditions.join(" AND "));
    Ok(connection.list(&sql, &parameters, from_row)?)
}

/// It runs from now on. None if it was not being provisioned any more.
pub(crate) fn run(change: &Change<'_>, id: &str) -> Result<Option<Environment>> {
    let found = get(change.connection, id)?;
    if found.state != State::Provisioning {
        return Ok(None);
    }
    let sql = "UPDATE environments SET running_at = ?2 WHERE id = ?1";
    change.connection.execute(sql, params![id, Time(change.now)])?;
    set_state(change, &found, State::Running, None)?;
    get(change.connection, id).map(Some)
}

/// It takes nothing new, and its instance is to stop. One that drains already stays so.
pub(crate) fn drain(change: &Change<'_>, id: &str) -> Result<Environment> {
    let found = get(change.connection, id)?;
    match found.state {
        State::Running => set_state(change, &found, State::Draining, None)?,
        State::Draining if found.error.is_some() => set_state(change, &found, State::Draining, None)?,
        State::Draining => {}
        state => return Err(Error::EnvironmentNotRunning { id: found.id, state }),
    }
    let AgentKey { fleet, agent } = found.key;
    let scope = Scope { fleet, agent: Some(agent), number: Some(environment::NUMBER) };
    instance::request(change, &scope, InstanceChange::Stop, None)?;
    get(change.connection, id)
}

/// Its agent could not finish: it goes on, and takes nothing new. False if it does not drain any more.
pub(crate) fn drain_failed(change: &Change<'_>, id: &str, error: &str) -> Result<bool> {
    let found = get(change.connection, id)?;
    if found.state != State::Draining {
        return Ok(false);
    }
    instance::stop_withdraw(change, &found.key.instance(environment::NUMBER))?;
    set_state(change, &found, State::Draining, Some(error))?;
    Ok(true)
}

/// What went wrong with it, or no longer is.
pub(crate) fn note(change: &Change<'_>, id: &str, error: Option<&str>) -> Result<Environment> {
    let found = get(change.connection, id)?;
    if found.error.as_deref() != error {
        set_state(change, &found, found.state, error)?;
    }
    get(change.connection, id)
}

/// Ends it, with its instance and all its data. One that is ending already goes on to.
pub(crate) fn end(change: &mut Change<'_>, id: &str, why: Option<&EnvironmentEnd>) -> Result<Environment> {
    let found = get(change.connection, id)?;
    if found.state != State::Destroying {
        let reason = why.map(|why| why.reason.as_str());
        if let Some(why) = why.filter(|why| why.cause.is_dead_letter()) {
            dead_letter::note(change, &found, why)?;
        }
        set_state(change, &found, State::Destroying, reason)?;
    }
    agent::delete(change, &found.key, true, None)?;
    get(change.connection, id)
}

/// Notes that the agent of an environment, if it is one's, is being deleted.
pub(crate) fn agent_deleting(change: &Change<'_>, key: &AgentKey) -> Result<()> {
    match find(change.connection, key)? {
        Some(found) if found.state != State::Destroying => set_state(change, &found, State::Destroying, None),
        _ => Ok(()),
    }
}

/// Forgets the environment of an agent, if it is one's, with the agent.
pub(crate) fn agent_forgotten(change: &Change<'_>, key: &AgentKey) -> Result<()> {
    let Some(found) = find(change.connection, key)? else { return Ok(()) };
    change.connection.execute("DELETE FROM environments WHERE id = ?1", params![found.id])?;
    snapshot::environment_gone(change, &found.id)?;
    let failed = found.running_at.is_none() && found.error.is_some();
    let told = if failed { Told::Failed } else { Told::Destroyed };
    tell(change, key, &found.id, told, found.error)
}

/// What only an environment and who drives it may know, as it is kept.
pub(crate) fn private_find(connection: &dyn Connection, id: &str) -> Result<Sealed> {
    let sql =
        "SELECT private_version, private_key_id, private_nonce, private FROM environments WHERE id = ?1";
    let found = connection.find(sql, params![id], |row| {
        let context = context(id, row.get(0)?);
        Ok(Sealed { context, key_id: row.get(1)?, nonce: row.get(2)?, ciphertext: row.get(3)? })
    })?;
    found.ok_or_else(|| Error::EnvironmentNotFound(id.to_owned()))
}

pub(crate) fn private_read(change: &mut Change<'_>, id: &str) -> Result<Zeroizing<Vec<u8>>> {
    let sealed = private_find(change.connection, id)?;
    let opened = change.keys.unseal(change.connection, sealed)?;
    opened.ok_or_else(|| Error::EnvironmentDamaged(id.to_owned()))
}

/// Keeps a new token, secrets and files, of an environment that runs.
pub(crate) fn private_write(change: &mut Change<'_>, id: &str, private: Zeroizing<Vec<u8>>) -> Result<()> {
    let connection = change.connection;
    let found = get(connection, id)?;
    if !matches!(found.state, State::Running | State::Draining) {
        return Err(Error::EnvironmentNotRunning { id: found.id, state: found.state });
    }
    let sql = "SELECT private_version FROM environments WHERE id = ?1";
    let version = connection.value::<u64>(sql, params![id])? + 1;
    let (nonce, private) = change.keys.for_writing(connection)?.seal(&context(id, version), private)?;
    let key_id = change.keys.for_writing(connection)?.id.clone();
    let sql =
        "UPDATE environments SET private_version = ?2, private_key_id = ?3, private_nonce = ?4, private = ?5,
                   updated_at = ?6 WHERE id = ?1";
    let parameters = params![id, version, key_id, &nonce[..], &private[..], Time(change.now)];
    connection.execute(sql, parameters)?;
    agent::touch(change, &found.key)?;
    change.agent_event(&found.key, EventKind::TokenRotated)
}

/// Encrypts what is private anew. Returns of how many environments.
pub(crate) fn reencrypt(change: &mut Change<'_>, new: &Key) -> Result<u32> {
    let connection = change.connection;
    let ids: Vec<(String, u64)> =
        connection.list("SELECT id, private_version FROM environments ORDER BY id", params![], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let mut count = 0;
    for (id, version) in ids {
        let value = private_read(change, &id)?;
        let (nonce, private) = new.seal(&context(&id, version), value)?;
        let sql =
            "UPDATE environments SET private_key_id = ?2, private_nonce = ?3, private = ?4 WHERE id = ?1";
        connection.execute(sql, params![id, new.id, &nonce[..], &private[..]])?;
        count += 1;
    }
    Ok(count)
}

/// What a ciphertext is bound to.
fn context(id: &str, version: u64) -> String {
    format!("chassis-environment\0{id}\0{version}")
}

fn set_state(change: &Change<'_>, found: &Environment, state: State, error: Option<&str>) -> Result<()> {
    let sql = "UPDATE environments SET state = ?2, error = ?3, updated_at = ?4 WHERE id = ?1";
    change.connection.execute(sql, params![found.id, state.word(), error, Time(change.now)])?;
    agent::touch(change, &found.key)?;
    tell(change, &found.key, &found.id, state.into(), error.map(str::to_owned))
}

fn tell(change: &Change<'_>, key: &AgentKey, id: &str, state: Told, error: Option<String>) -> Result<()> {
    change.agent_event(key, EventKind::Environment { id: id.to_owned(), state, error })
}

fn from_row(row: &Row<'_>) -> Outcome<Environment> {
    let agent: AgentName = row.get::<Name<_>>(2)?.0;
    Ok(Environment {
        id: row.get(0)?,
        task_id: row.get(1)?,
        key: AgentKey { fleet: environment::fleet(), agent },
        node: row.get(3)?,
        state: row.get::<Name<State>>(4)?.0,
        request: row.get(5)?,
        created_at: row.get::<Time>(6)?.0,
        updated_at: row.get::<Time>(7)?.0,
        running_at: row.get::<Option<Time>>(8)?.map(|time| time.0),
        error: row.get(9)?,
    })
}
