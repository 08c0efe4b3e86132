//! Snapshots: rows that say what is to be done on a runtime, and outlive the environments that they are of.

use chassis_core::environment::{self, State as EnvironmentState};
use chassis_core::snapshot::{BUILD, State, Told};
use chassis_core::{AgentKey, EventKind, NodeName};
use jiff::{SignedDuration, Timestamp};

use super::column::{Name, Time};
use super::connection::{Connection, Outcome, Row, ToColumn, params};
use super::worker::Change;
use super::{dead_letter, environment as environments};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::snapshot::{Snapshot, SnapshotDue, SnapshotFilter, SnapshotNew, SnapshotStep};

const COLUMNS: &str =
    "id, environment, task_id, tenant, node, data, parent, mode, state, name, layer_key, arch, details,
     digest, size_bytes, retention_until, removals, retry_at, error, created_at, updated_at";

/// How the record of a fork's seed is called.
const SEED: &str = "fork-seed-";

/// A snapshot of an environment that runs, to be taken.
pub(crate) fn create(change: &Change<'_>, new: &SnapshotNew) -> Result<Snapshot> {
    let of = running(change, &new.environment)?;
    let sql = "SELECT count(*) FROM snapshots WHERE environment = ?1 AND data = id";
    let count: u32 = change.connection.value(sql, params![of.id])?;
    if new.quota > 0 && count >= new.quota {
        return Err(Error::SnapshotQuota { environment: of.id, most: new.quota });
    }
    let parent = latest_ready(change.connection, &of.id)?;
    let tenant = new.tenant.clone().unwrap_or_else(|| of.task_id.clone());
    let snapshot = Snapshot {
        id: new.id.clone(),
        environment: of.id.clone(),
        task_id: of.task_id.clone(),
        tenant,
        node: of.node.clone(),
        data: new.id.clone(),
        parent,
        mode: new.mode.clone(),
        state: State::Creating,
        name: new.name.clone(),
        layer_key: new.layer_key.clone(),
        arch: new.arch.clone(),
        details: new.details.clone(),
        digest: None,
        size_bytes: None,
        retention_until: new.retention_until,
        removals: 0,
        retry_at: None,
        error: None,
        created_at: change.now,
        updated_at: change.now,
    };
    insert(change, &snapshot)?;
    tell(change, &snapshot, Told::Creating, None)?;
    Ok(snapshot)
}

/// The snapshot that a new environment begins from, which cannot be deleted as long as that is there.
pub(crate) fn seed(change: &Change<'_>, id: &str, new: &Environment) -> Result<()> {
    let seed = get(change.connection, id)?;
    check_state(&seed, State::Ready)?;
    let record = Snapshot {
        id: format!("{SEED}{}", suffix(&new.id)),
        environment: new.id.clone(),
        task_id: new.task_id.clone(),
        tenant: new.task_id.clone(),
        parent: Some(seed.id.clone()),
        mode: "auto".to_owned(),
        name: String::new(),
        layer_key: String::new(),
        details: "{}".to_owned(),
        retention_until: None,
        created_at: change.now,
        updated_at: change.now,
        ..seed
    };
    insert(change, &record)
}

/// What tells an environment from others: what comes after the `fork-` that forks have in their ids.
fn suffix(id: &str) -> &str {
    id.rsplit_once("fork-").map_or(id, |(_, suffix)| suffix)
}

/// An environment that was seeded is gone: nothing keeps its seed but snapshots of it.
pub(crate) fn environment_gone(change: &Change<'_>, id: &str) -> Result<()> {
    let sql = "DELETE FROM snapshots WHERE environment = ?1 AND data <> id
               AND NOT EXISTS (SELECT 1 FROM snapshots child WHERE child.parent = snapshots.id)";
    change.connection.execute(sql, params![id])?;
    let sql = "UPDATE snapshots SET retention_until = ?2 WHERE environment = ?1 AND data <> id";
    change.connection.execute(sql, params![id, Time(change.now)])?;
    Ok(())
}

pub(crate) fn get(connection: &dyn Connection, id: &str) -> Result<Snapshot> {
    let sql = format!("SELECT {COLUMNS} FROM snapshots WHERE id = ?1");
    let found = connection.find(&sql, params![id], from_row)?;
    found.ok_or_else(|| Error::SnapshotNotFound(id.to_owned()))
}

/// How many a node keeps.
pub(super) fn count_on(connection: &dyn Connection, node: &NodeName) -> Result<u64> {
    let sql = "SELECT count(*) FROM snapshots WHERE node = ?1 AND data = id";
    Ok(connection.value(sql, params![node.as_str()])?)
}

/// The newest first.
pub(crate) fn list(connection: &dyn Connection, filter: &SnapshotFilter) -> Result<Vec<Snapshot>> {
    let state = filter.state.map(State::word);
    let after = filter.after.as_ref().map(|(time, id)| (Time(*time), id));
    let mut parameters: Vec<&dyn ToColumn> = vec![&filter.limit];
    let mut conditions = vec!["1 = 1".to_owned()];
    let mut narrow = |column: &str, value| {
        parameters.push(value);
        conditions.push(format!("{column} = ?{}", parameters.len()));
    };
    let words = [
        ("environment", &filter.environment),
        ("task_id", &filter.task_id),
        ("tenant", &filter.tenant),
        ("mode", &filter.mode),
        ("name", &filter.name),
        ("layer_key", &filter.layer_key),
        ("arch", &filter.arch),
    ];
    for (column, word) in &words {
        if let Some(word) = word {
            narrow(column, word);
        }
    }
    if let Some(state) = &state {
        narrow("state", state);
    }
    if let Some(scope) = &filter.scope {
        parameters.push(scope);
        conditions.push(format!("(layer_key = '' OR tenant = ?{})", parameters.len()));
    }
    if let Some((time, id)) = &after {
        let at = parameters.len();
        parameters.extend([time as &dyn ToColumn, id]);
        conditions.push(format!("(created_at, id) < (?{}, ?{})", at + 1, at + 2));
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM snapshots WHERE {} ORDER BY created_at DESC, id DESC LIMIT ?1",
        conditions.join(" AND ")
    );
    Ok(connection.list(&sql, &parameters, from_row)?)
}

/// Those that something is to be done about by now, and when to ask again for others.
pub(crate) fn due(
    connection: &dyn Connection,
    now: Timestamp,
) -> Result<(Vec<SnapshotDue>, Option<Timestamp>)> {
    let columns: Vec<String> = COLUMNS.split(',').map(|column| format!("s.{}", column.trim())).collect();
    let sql = format!(
        "SELECT {}, (s.mode <> ?2
             AND NOT EXISTS (SELECT 1 FROM snapshots child WHERE child.parent = s.id)
             AND NOT (EXISTS (SELECT 1 FROM environments WHERE environments.id = s.environment)
                      AND NOT EXISTS (SELECT 1 FROM snapshots newer WHERE newer.environment = s.environment
                                      AND (newer.created_at, newer.id) > (s.created_at, s.id))))
         FROM snapshots s
         WHERE s.state IN ('creating', 'restoring', 'deleting') OR s.retention_until <= ?1",
        columns.join(", ")
    );
    let from_row = |row: &Row<'_>| Ok(SnapshotDue { snapshot: from_row(row)?, may_expire: row.get(21)? });
    let due = connection.list(&sql, params![Time(now), BUILD], from_row)?;
    let sql = "SELECT min(retention_until) FROM snapshots WHERE retention_until > ?1";
    let next: Option<Time> = connection.value(sql, params![Time(now)])?;
    Ok((due, next.map(|time| time.0)))
}

/// Its environment is to be taken back to it.
pub(crate) fn restore(change: &Change<'_>, id: &str) -> Result<Snapshot> {
    let found = get(change.connection, id)?;
    check_state(&found, State::Ready)?;
    running(change, &found.environment)?;
    set_state(change, &found, State::Restoring, None)?;
    tell(change, &found, Told::Restoring, None)?;
    get(change.connection, id)
}

/// It is to go. One that is going already is tried again at once. None if it is gone.
pub(crate) fn delete(change: &Change<'_>, id: &str) -> Result<Option<Snapshot>> {
    let found = get(change.connection, id)?;
    if matches!(found.state, State::Creating | State::Restoring) {
        return Err(Error::SnapshotState { id: found.id, state: found.state });
    }
    check_childless(change.connection, id)?;
    if !found.has_data() {
        forget(change, &found)?;
        return Ok(None);
    }
    let sql = "UPDATE snapshots SET removals = 0, retry_at = NULL WHERE id = ?1";
    change.connection.execute(sql, params![id])?;
    if found.state != State::Deleting {
        set_state(change, &found, State::Deleting, None)?;
        tell(change, &found, Told::Deleting, None)?;
    }
    get(change.connection, id).map(Some)
}

/// Keeps what became of it on its runtime. Nothing happens to one that is in another state by now.
pub(crate) fn step(change: &Change<'_>, id: &str, step: &SnapshotStep) -> Result<()> {
    let found = match get(change.connection, id) {
        Err(Error::SnapshotNotFound(_)) => return Ok(()),
        found => found?,
    };
    match (step, found.state) {
        (SnapshotStep::Taken { digest, size_bytes }, State::Creating) => {
            let sql = "UPDATE snapshots SET digest = ?2, size_bytes = ?3 WHERE id = ?1";
            change.connection.execute(sql, params![id, digest, size_bytes])?;
            set_state(change, &found, State::Ready, None)?;
            tell(change, &found, Told::Created, None)
        }
        (SnapshotStep::Restored, State::Restoring) => {
            set_state(change, &found, State::Ready, None)?;
            tell(change, &found, Told::Restored, None)
        }
        (SnapshotStep::Failed(why), State::Creating) => {
            // Whoever waits for it is to read why before it is gone.
            let soon = change.now.saturating_add(SignedDuration::from_secs(1)).unwrap_or(change.now);
            let sql = "UPDATE snapshots SET retry_at = ?2 WHERE id = ?1";
            change.connection.execute(sql, params![id, Time(soon)])?;
            set_state(change, &found, State::Deleting, Some(why))?;
            tell(change, &found, Told::Deleting, Some(why))
        }
        (SnapshotStep::Failed(why), State::Restoring) => {
            set_state(change, &found, State::Ready, Some(why))?;
            tell(change, &found, Told::RestoreFailed, Some(why))
        }
        (SnapshotStep::Expired, State::Ready | State::Error) => {
            match check_childless(change.connection, id) {
                Ok(()) if found.has_data() => {
                    set_state(change, &found, State::Deleting, None)?;
                    tell(change, &found, Told::Expired, None)
                }
                Ok(()) => forget(change, &found),
                // Somebody built on it meanwhile.
                Err(_) => Ok(()),
            }
        }
        (SnapshotStep::Removed, State::Deleting) => forget(change, &found),
        (SnapshotStep::NotRemoved { why, retry_at }, State::Deleting) => {
            let sql = "UPDATE snapshots SET removals = removals + 1, retry_at = ?2 WHERE id = ?1";
            change.connection.execute(sql, params![id, retry_at.map(Time)])?;
            let state = if retry_at.is_some() { State::Deleting } else { State::Error };
            set_state(change, &found, state, Some(why))?;
            if retry_at.is_none() {
                dead_letter::note_snapshot(change, &found, why)?;
            }
            tell(change, &found, Told::DeleteFailed, Some(why))
        }
        (SnapshotStep::Lost, State::Ready | State::Restoring) => {
            let why = "the runtime does not have it any more";
            set_state(change, &found, State::Error, Some(why))?;
            tell(change, &found, Told::Lost, Some(why))
        }
        _ => Ok(()),
    }
}

fn running(change: &Change<'_>, id: &str) -> Result<Environment> {
    let found = environments::get(change.connection, id)?;
    match found.state {
        EnvironmentState::Running => Ok(found),
        state => Err(Error::EnvironmentNotRunning { id: found.id, state }),
    }
}

fn latest_ready(connection: &dyn Connection, environment: &str) -> Result<Option<String>> {
    let sql = "SELECT id FROM snapshots WHERE environment = ?1 AND state = 'ready'
               ORDER BY created_at DESC, id DESC LIMIT 1";
    Ok(connection.find(sql, params![environment], |row| row.get(0))?)
}

fn check_state(found: &Snapshot, wanted: State) -> Result<()> {
    if found.state == wanted {
        return Ok(());
    }
    Err(Error::SnapshotState { id: found.id.clone(), state: found.state })
}

fn check_childless(connection: &dyn Connection, id: &str) -> Result<()> {
    let sql = "SELECT id FROM snapshots WHERE parent = ?1 ORDER BY id LIMIT 1";
    match connection.find(sql, params![id], |row| row.get(0))? {
        Some(child) => Err(Error::SnapshotHasChildren { id: id.to_owned(), child }),
        None => Ok(()),
    }
}

fn forget(change: &Change<'_>, found: &Snapshot) -> Result<()> {
    change.connection.execute("DELETE FROM snapshots WHERE id = ?1", params![found.id])?;
    tell(change, found, Told::Deleted, None)
}

fn set_state(change: &Change<'_>, found: &Snapshot, state: State, error: Option<&str>) -> Result<()> {
    let sql = "UPDATE snapshots SET state = ?2, error = ?3, updated_at = ?4 WHERE id = ?1";
    change.connection.execute(sql, params![found.id, state.word(), error, Time(change.now)])?;
    Ok(())
}

/// Among the events of its environment, while there is one.
fn tell(change: &Change<'_>, of: &Snapshot, state: Told, error: Option<&str>) -> Result<()> {
    let kind = EventKind::Snapshot {
        id: of.id.clone(),
        environment: of.environment.clone(),
        state,
        error: error.map(str::to_owned),
    };
    let sql = "SELECT agent FROM environments WHERE id = ?1";
    let agent = change.connection.find(sql, params![of.environment], |row| Ok(row.get::<Name<_>>(0)?.0))?;
    let fleet = environment::fleet();
    match agent {
        Some(agent) => change.agent_event(&AgentKey { fleet, agent }, kind),
        None => change.fleet_event(&fleet, kind),
    }
}

fn insert(change: &Change<'_>, new: &Snapshot) -> Result<()> {
    let places: Vec<String> = (1..=21).map(|at| format!("?{at}")).collect();
    let sql = format!("INSERT INTO snapshots ({COLUMNS}) VALUES ({})", places.join(", "));
    change.connection.execute(
        &sql,
        params![
            new.id,
            new.environment,
            new.task_id,
            new.tenant,
            new.node,
            new.data,
            new.parent,
            new.mode,
            new.state.word(),
            new.name,
            new.layer_key,
            new.arch,
            new.details,
            new.digest,
            new.size_bytes,
            new.retention_until.map(Time),
            new.removals,
            new.retry_at.map(Time),
            new.error,
            Time(new.created_at),
            Time(new.updated_at),
        ],
    )?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> Outcome<Snapshot> {
    let time = |at: usize| row.get::<Option<Time>>(at).map(|found| found.map(|time| time.0));
    Ok(Snapshot {
        id: row.get(0)?,
        environment: row.get(1)?,
        task_id: row.get(2)?,
        tenant: row.get(3)?,
        node: row.get(4)?,
        data: row.get(5)?,
        parent: row.get(6)?,
        mode: row.get(7)?,
        state: row.get::<Name<State>>(8)?.0,
        name: row.get(9)?,
        layer_key: row.get(10)?,
        arch: row.get(11)?,
        details: row.get(12)?,
        digest: row.get(13)?,
        size_bytes: row.get(14)?,
        retention_until: time(15)?,
        removals: row.get(16)?,
        retry_at: time(17)?,
        error: row.get(18)?,
        created_at: row.get::<Time>(19)?.0,
        updated_at: row.get::<Time>(20)?.0,
    })
}
