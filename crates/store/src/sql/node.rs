//! Nodes: the machines that run instances, as soon as there are more than the server's own.

use chassis_core::{Duty, EventKind, InstanceKey, Liveness, NodeName, NodeSpec};
use zeroize::Zeroizing;

use super::column::{Json, Time};
use super::connection::{Connection, Outcome, Row, params};
use super::key::Key;
use super::worker::Change;
use super::{claim, owed, place, snapshot};
use crate::error::{Error, Result};
use crate::node::{NodeRecord, NodeRegistration};

const SELECT: &str = "SELECT spec, url, fingerprint, duty, is_down, version, registered_at, updated_at, identity, chosen FROM nodes";

/// By name; none as long as the chassis is alone.
pub(crate) fn list(connection: &dyn Connection) -> Result<Vec<NodeRecord>> {
    Ok(connection.list(&format!("{SELECT} ORDER BY name"), params![], from_row)?)
}

pub(crate) fn get(connection: &dyn Connection, name: &NodeName) -> Result<NodeRecord> {
    find(connection, name)?.ok_or_else(|| Error::NodeNotFound(name.clone()))
}

fn find(connection: &dyn Connection, name: &NodeName) -> Result<Option<NodeRecord>> {
    Ok(connection.find(&format!("{SELECT} WHERE name = ?1"), params![name.as_str()], from_row)?)
}

pub(crate) fn register(
    change: &mut Change<'_>,
    new: NodeRegistration,
    own: &NodeSpec,
    kept: &[InstanceKey],
    expected: Option<u64>,
) -> Result<NodeRecord> {
    let connection = change.connection;
    let name = new.spec.name.clone();
    let known = find(connection, &name)?;
    if name == own.name || known.as_ref().is_some_and(NodeRecord::is_own) {
        return Err(Error::NodeIsOwn(name));
    }
    let sql = "SELECT name FROM nodes WHERE (url = ?1 OR identity = ?3) AND name <> ?2";
    let parameters = params![new.url, name.as_str(), new.identity];
    if let Some(node) = connection.find(sql, parameters, |row| row.get(0))? {
        return Err(Error::NodeTaken { url: new.url, node });
    }
    let version = known.as_ref().map_or(0, |known| known.version);
    super::check_version(|| format!("node `{name}`"), expected, version)?;
    let there = list(connection)?;
    if there.is_empty() {
        own_insert(change, own, kept)?;
    } else if there.iter().all(NodeRecord::is_own) {
        // It was alone again: what was made since has no place yet.
        place::settle(change, &own.name, kept)?;
    }
    if known.is_none() {
        insert(change, &new.spec, Duty::Open)?;
    }
    let sql = "SELECT token_version FROM nodes WHERE name = ?1";
    let token_version = connection.value::<u64>(sql, params![name.as_str()])? + 1;
    let token = Zeroizing::new(new.token.as_bytes().to_vec());
    let key = change.keys.for_writing(connection)?;
    let (nonce, token) = key.seal(&context(&name, token_version), token)?;
    let sql = "UPDATE nodes SET url = ?2, fingerprint = ?3, spec = ?4, version = ?5, updated_at = ?6,
                      token_version = ?7, token_key_id = ?8, token_nonce = ?9, token = ?10, identity = ?11,
                      chosen = ?12
               WHERE name = ?1";
    connection.execute(
        sql,
        params![
            name.as_str(),
            new.url,
            new.fingerprint,
            Json(&new.spec),
            version + 1,
            Time(change.now),
            token_version,
            key.id,
            &nonce[..],
            &token[..],
            new.identity,
            Json(&new.chosen),
        ],
    )?;
    change.node_event(EventKind::NodeRegistered { node: name.clone(), url: new.url })?;
    get(connection, &name)
}

/// From now on the chassis is not alone any more: what it has is on its own node, which is a node like others.
fn own_insert(change: &Change<'_>, own: &NodeSpec, kept: &[InstanceKey]) -> Result<()> {
    let duty = if claim::is_cordoned(change.connection)? { Duty::Cordoned } else { Duty::Open };
    claim::cordon(change, false)?;
    insert(change, own, duty)?;
    place::settle(change, &own.name, kept)
}

fn insert(change: &Change<'_>, spec: &NodeSpec, duty: Duty) -> Result<()> {
    let sql =
        "INSERT INTO nodes (name, spec, duty, is_down, version, registered_at, updated_at, token_version)
               VALUES (?1, ?2, ?3, FALSE, 1, ?4, ?4, 0)";
    let parameters = params![spec.name.as_str(), Json(spec), Json(duty), Time(change.now)];
    change.connection.execute(sql, parameters)?;
    Ok(())
}

/// What people want of it from now on.
pub(crate) fn assign(
    change: &Change<'_>,
    name: &NodeName,
    duty: Duty,
    expected: Option<u64>,
) -> Result<NodeRecord> {
    let found = get(change.connection, name)?;
    super::check_version(|| format!("node `{name}`"), expected, found.version)?;
    if found.duty == duty {
        return Ok(found);
    }
    let sql = "UPDATE nodes SET duty = ?2, version = version + 1, updated_at = ?3 WHERE name = ?1";
    change.connection.execute(sql, params![name.as_str(), Json(duty), Time(change.now)])?;
    let node = name.clone();
    change.node_event(match duty {
        Duty::Open => EventKind::NodeOpened { node },
        Duty::Cordoned => EventKind::NodeCordoned { node },
        Duty::Draining(drain) => EventKind::NodeDraining { node, deadline: drain.deadline },
    })?;
    get(change.connection, name)
}

/// What is known of it, which is told once. One that is gone is passed over.
pub(crate) fn note(change: &Change<'_>, name: &NodeName, liveness: Liveness) -> Result<()> {
    let sql = "SELECT is_down, is_suspect FROM nodes WHERE name = ?1";
    let before = change.connection.find(sql, params![name.as_str()], |row| {
        Ok(match (row.get(0)?, row.get(1)?) {
            (true, _) => Liveness::Down,
            (false, true) => Liveness::Suspect,
            (false, false) => Liveness::Alive,
        })
    })?;
    if before.is_none_or(|before| before == liveness) {
        return Ok(());
    }
    let sql = "UPDATE nodes SET is_down = ?2, is_suspect = ?3, updated_at = ?4 WHERE name = ?1";
    let (is_down, is_suspect) = (liveness == Liveness::Down, liveness == Liveness::Suspect);
    change.connection.execute(sql, params![name.as_str(), is_down, is_suspect, Time(change.now)])?;
    let node = name.clone();
    change.node_event(match liveness {
        Liveness::Alive => EventKind::NodeUp { node },
        Liveness::Suspect => EventKind::NodeSuspect { node },
        Liveness::Down => EventKind::NodeDown { node },
    })
}

/// It is empty, as it was to be. One that is gone, or is not to be any more, is passed over.
pub(crate) fn drained(change: &Change<'_>, name: &NodeName) -> Result<()> {
    match find(change.connection, name)? {
        Some(NodeRecord { duty: Duty::Draining(_), .. }) => {
            change.node_event(EventKind::NodeDrained { node: name.clone() })
        }
        _ => Ok(()),
    }
}

/// Forgets a node that has nothing: no instance, and the data of none.
pub(crate) fn remove(change: &Change<'_>, name: &NodeName, expected: Option<u64>) -> Result<()> {
    let found = get(change.connection, name)?;
    super::check_version(|| format!("node `{name}`"), expected, found.version)?;
    if found.is_own() {
        return Err(Error::NodeIsOwn(name.clone()));
    }
    let count = place::count(change.connection, name)?;
    if count > 0 {
        return Err(Error::NodeInUse { node: name.clone(), count, is_down: found.is_down });
    }
    let count = snapshot::count_on(change.connection, name)?;
    if count > 0 {
        return Err(Error::NodeHasSnapshots { node: name.clone(), count });
    }
    place::node_forgotten(change, name)?;
    owed::node_forgotten(change, name)?;
    change.connection.execute("DELETE FROM nodes WHERE name = ?1", params![name.as_str()])?;
    change.node_event(EventKind::NodeRemoved { node: name.clone(), gone: false })
}

/// What the node lets this chassis in for.
pub(crate) fn token(change: &mut Change<'_>, name: &NodeName) -> Result<Zeroizing<String>> {
    let sql = "SELECT token_version, token_nonce, token FROM nodes WHERE name = ?1 AND token IS NOT NULL";
    let found = change
        .connection
        .find(sql, params![name.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (version, nonce, token): (u64, Vec<u8>, Vec<u8>) =
        found.ok_or_else(|| Error::NodeNotFound(name.clone()))?;
    change.keys.refresh(change.connection)?;
    let key = change.keys.for_reading();
    let text = key
        .and_then(|key| key.unseal(&context(name, version), &nonce, token))
        .and_then(|mut bytes| String::from_utf8(std::mem::take(&mut *bytes)).ok());
    text.map(Zeroizing::new).ok_or_else(|| Error::NodeDamaged(name.clone()))
}

/// Encrypts the tokens anew. Returns how many.
pub(crate) fn reencrypt(change: &mut Change<'_>, new: &Key) -> Result<u32> {
    let connection = change.connection;
    let mut count = 0;
    for node in list(connection)?.into_iter().filter(|node| !node.is_own()) {
        let name = node.name();
        let sql = "SELECT token_version FROM nodes WHERE name = ?1";
        let version: u64 = connection.value(sql, params![name.as_str()])?;
        let value = Zeroizing::new(token(change, name)?.as_bytes().to_vec());
        let (nonce, token) = new.seal(&context(name, version), value)?;
        let sql = "UPDATE nodes SET token_key_id = ?2, token_nonce = ?3, token = ?4 WHERE name = ?1";
        connection.execute(sql, params![name.as_str(), new.id, &nonce[..], &token[..]])?;
        count += 1;
    }
    Ok(count)
}

/// What a ciphertext is bound to.
fn context(name: &NodeName, version: u64) -> String {
    format!("chassis-node\0{name}\0{version}")
}

fn from_row(row: &Row<'_>) -> Outcome<NodeRecord> {
    Ok(NodeRecord {
        spec: row.get::<Json<_>>(0)?.0,
        url: row.get(1)?,
        fingerprint: row.get(2)?,
        duty: row.get::<Json<_>>(3)?.0,
        is_down: row.get(4)?,
        version: row.get(5)?,
        registered_at: row.get::<Time>(6)?.0,
        updated_at: row.get::<Time>(7)?.0,
        identity: row.get(8)?,
        chosen: row.get::<Option<Json<_>>>(9)?.map(|chosen| chosen.0).unwrap_or_default(),
    })
}
