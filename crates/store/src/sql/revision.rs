//! Revisions: every definition that an agent had, what image each runs, and how the present one takes over.

use std::sync::Arc;

use chassis_core::{AgentKey, EventKind, Pin, Rollout, RolloutState, Undone};
use chassis_spec::{AgentSpec, ImageName};

use super::agent;
use super::apply;
use super::column::{Json, Time};
use super::connection::{Connection, Outcome, Row, params};
use super::environment;
use super::worker::Change;
use crate::error::{Error, Result};
use crate::types::{Agent, AgentChange, AgentOutcome, InstanceRecord, Revision, RevisionOutcome};

/// How many revisions are kept at least. Older ones go unless containers of them may still serve.
const KEPT: u64 = 100;

const SELECT: &str = "SELECT revision, template, spec, cause, image_id, image_digest, outcome, deployed_at
    FROM revisions";

/// A revision that is to be made.
pub(crate) struct New<'a> {
    pub spec: &'a AgentSpec,
    /// The revision whose containers serve this one; itself without one.
    pub template: Option<u64>,
    pub pin: Option<Pin>,
    pub cause: String,
    pub undoes: Option<Undone>,
}

pub(crate) fn list(connection: &dyn Connection, key: &AgentKey) -> Result<Vec<Revision>> {
    agent::get(connection, key)?;
    let sql = format!("{SELECT} WHERE fleet = ?1 AND agent = ?2 ORDER BY revision");
    Ok(connection.list(&sql, params![key.fleet.as_str(), key.agent.as_str()], from_row)?)
}

pub(crate) fn get(connection: &dyn Connection, key: &AgentKey, revision: u64) -> Result<Revision> {
    let sql = format!("{SELECT} WHERE fleet = ?1 AND agent = ?2 AND revision = ?3");
    let parameters = params![key.fleet.as_str(), key.agent.as_str(), revision];
    let found = connection.find(&sql, parameters, from_row)?;
    found.ok_or_else(|| Error::RevisionNotFound { key: key.clone(), revision })
}

/// Makes the next revision and begins its rollout. `before` is the agent as it was, if there was one.
pub(crate) fn add(change: &Change<'_>, key: &AgentKey, before: Option<&Agent>, new: New<'_>) -> Result<u64> {
    let (fleet, name) = (key.fleet.as_str(), key.agent.as_str());
    let revision = before.map_or(1, |agent| agent.revision + 1);
    let pin = new.pin.unwrap_or_default();
    let sql = "INSERT INTO revisions
                   (fleet, agent, revision, template, spec, cause, image_id, image_digest, deployed_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let parameters = params![
        fleet,
        name,
        revision,
        new.template.unwrap_or(revision),
        Json(new.spec),
        new.cause,
        pin.id,
        pin.digest,
        Time(change.now)
    ];
    change.connection.send(sql, parameters)?;
    let from = match before {
        Some(agent) => goes_back_to(change.connection, agent)?,
        None => None,
    };
    let paused = before.and_then(|agent| agent.rollout.as_ref()).is_some_and(Rollout::is_paused);
    let rollout = Rollout::begin(revision, from, paused, new.undoes, change.now);
    // An environment has one revision, and ends if that cannot run: there is nothing to watch.
    let rollout = Some(rollout).filter(|_| !chassis_core::environment::is_fleet(&key.fleet));
    let sql = "UPDATE agents SET revision = ?3, rollout = ?4 WHERE fleet = ?1 AND name = ?2";
    change.connection.send(sql, params![fleet, name, revision, rollout.as_ref().map(Json)])?;
    let image = new.spec.image.to_string();
    change.agent_event(key, EventKind::AgentDeployed { revision, image })?;
    if let Some(before) = before {
        change.agent_event(key, EventKind::RolloutStarted { revision, from: before.revision })?;
    }
    if revision > KEPT {
        prune(change, key, revision, rollout.and_then(|rollout| rollout.from))?;
    }
    Ok(revision)
}

/// The revision to go back to should the next one fail.
fn goes_back_to(connection: &dyn Connection, agent: &Agent) -> Result<Option<u64>> {
    if let Some(revision) = last_complete(connection, &agent.key)? {
        return Ok(Some(revision));
    }
    // A first revision may be followed by another before it is known to be complete.
    let progressing = agent.rollout.as_ref().is_some_and(Rollout::is_progressing);
    Ok((progressing && is_untroubled(connection, &agent.key)?).then_some(agent.revision))
}

/// True if none of the agent's instances is known to fail.
fn is_untroubled(connection: &dyn Connection, key: &AgentKey) -> Result<bool> {
    let untroubled = |record: &InstanceRecord| record.memory.blocked.is_none() && record.memory.failures == 0;
    Ok(super::instance::list(connection, key)?.iter().all(untroubled))
}

fn last_complete(connection: &dyn Connection, key: &AgentKey) -> Result<Option<u64>> {
    let sql = "SELECT max(revision) FROM revisions WHERE fleet = ?1 AND agent = ?2 AND outcome = 'complete'";
    let parameters = params![key.fleet.as_str(), key.agent.as_str()];
    Ok(connection.value(sql, parameters)?)
}

fn prune(change: &Change<'_>, key: &AgentKey, revision: u64, from: Option<u64>) -> Result<()> {
    let sql = "DELETE FROM revisions WHERE fleet = ?1 AND agent = ?2 AND revision <= ?3 AND revision IS DISTINCT FROM ?5
               AND template <> (SELECT template FROM revisions WHERE fleet = ?1 AND agent = ?2 AND revision = ?4)";
    let last = revision.saturating_sub(KEPT);
    let parameters = params![key.fleet.as_str(), key.agent.as_str(), last, revision, from];
    change.connection.send(sql, parameters)?;
    Ok(())
}

/// Keeps which image a revision runs. Whoever comes first wins; returns what holds.
pub(crate) fn pin(change: &Change<'_>, key: &AgentKey, revision: u64, pin: &Pin) -> Result<Pin> {
    if let Some(held) = get(change.connection, key, revision)?.pin {
        return Ok(held);
    }
    change.touch(&key.fleet, &key.agent);
    // Revisions that share their containers share the image.
    let sql = "UPDATE revisions SET image_id = ?4, image_digest = ?5 WHERE fleet = ?1 AND agent = ?2
               AND image_id IS NULL AND image_digest IS NULL
               AND template = (SELECT template FROM revisions WHERE fleet = ?1 AND agent = ?2 AND revision = ?3)";
    let parameters = params![key.fleet.as_str(), key.agent.as_str(), revision, pin.id, pin.digest];
    change.connection.send(sql, parameters)?;
    Ok(pin.clone())
}

/// Keeps what became of a rollout, unless it is another one by now. Returns whether it was kept.
pub(crate) fn record(
    change: &Change<'_>,
    key: &AgentKey,
    before: &Rollout,
    after: &Rollout,
    event: Option<EventKind>,
) -> Result<bool> {
    if agent::get(change.connection, key)?.rollout.as_ref() != Some(before) {
        return Ok(false);
    }
    set(change, key, after)?;
    match after.state {
        RolloutState::Complete | RolloutState::RolledBack => {
            conclude(change, key, after.revision, "complete")?;
        }
        RolloutState::Failed => conclude(change, key, after.revision, "failed")?,
        RolloutState::Progressing | RolloutState::Paused => {}
    }
    if let Some(event) = event {
        change.agent_event(key, event)?;
    }
    Ok(true)
}

/// Undoes a revision that failed, unless the rollout is another one by now. Returns whether it was undone.
pub(crate) fn roll_back(change: &Change<'_>, key: &AgentKey, before: &Rollout, why: &str) -> Result<bool> {
    let agent = agent::get(change.connection, key)?;
    let Some(to) = before.from.filter(|_| agent.rollout.as_ref() == Some(before)) else { return Ok(false) };
    let from = before.revision;
    conclude(change, key, from, "failed")?;
    change.agent_event(key, EventKind::RolloutFailed { revision: from, message: why.to_owned() })?;
    let target = get(change.connection, key, to)?;
    let undoes = Some(Undone { revision: from, to, why: why.to_owned() });
    let cause = format!("rollback from {from}: {why}");
    let revision = add(change, key, Some(&agent), as_before(&target, cause, undoes))?;
    agent::touch(change, key)?;
    change.agent_event(key, EventKind::RolledBack { from, to, revision })?;
    Ok(true)
}

/// Makes the definition of an earlier revision the present one again: of the last that was complete, without `to`.
pub(crate) fn undo(
    change: &Change<'_>,
    key: &AgentKey,
    to: Option<u64>,
    expected: Option<u64>,
) -> Result<AgentOutcome> {
    let agent = usable(change, key, expected)?;
    let present = get(change.connection, key, agent.revision)?;
    let is_other = |other: &Revision| !same(other, &present);
    let target = if let Some(revision) = to {
        get(change.connection, key, revision)?
    } else {
        let mut others = list(change.connection, key)?;
        others.retain(is_other);
        let complete = others.iter().rposition(|one| one.outcome == Some(RevisionOutcome::Complete));
        let chosen = complete.or_else(|| others.len().checked_sub(1));
        chosen.map(|index| others.swap_remove(index)).ok_or_else(|| Error::NothingToUndo(key.clone()))?
    };
    let count = super::instance::count(change.connection, key)?;
    if !is_other(&target) {
        return Ok(outcome(&agent, AgentChange::Unchanged, agent.revision, count, &agent.spec));
    }
    apply::check_secrets(change.connection, key, &target.spec)?;
    agent::check_count(&target.spec, count)?;
    let cause = format!("undo of {}, back to {}", agent.revision, target.revision);
    let revision = add(change, key, Some(&agent), as_before(&target, cause, None))?;
    agent::touch(change, key)?;
    Ok(outcome(&agent, AgentChange::Updated, revision, count, &target.spec))
}

/// Gives the agent another image, or another meaning of the same name.
pub(crate) fn upgrade(
    change: &Change<'_>,
    key: &AgentKey,
    image: Option<&ImageName>,
    pin: Option<&Pin>,
    expected: Option<u64>,
) -> Result<AgentOutcome> {
    let agent = usable(change, key, expected)?;
    let count = super::instance::count(change.connection, key)?;
    let image = image.unwrap_or(&agent.spec.image);
    if *image == agent.spec.image && (pin.is_none() || pin == agent.pin.as_ref()) {
        return Ok(outcome(&agent, AgentChange::Unchanged, agent.revision, count, &agent.spec));
    }
    let spec = Arc::new(AgentSpec { image: image.clone(), ..AgentSpec::clone(&agent.spec) });
    let new =
        New { spec: &spec, template: None, pin: pin.cloned(), cause: "upgrade".to_owned(), undoes: None };
    let revision = add(change, key, Some(&agent), new)?;
    agent::touch(change, key)?;
    Ok(outcome(&agent, AgentChange::Updated, revision, count, &spec))
}

/// Stops an agent's rollouts from replacing instances, or lets them go on. Returns whether that is news.
pub(crate) fn pause(
    change: &Change<'_>,
    key: &AgentKey,
    paused: bool,
    expected: Option<u64>,
) -> Result<bool> {
    let agent = usable(change, key, expected)?;
    let revision = agent.revision;
    let rollout = agent.rollout.unwrap_or_else(|| Rollout::begin(revision, None, false, None, change.now));
    if rollout.is_paused() == paused {
        return Ok(false);
    }
    let (state, event) = if paused {
        (RolloutState::Paused, EventKind::RolloutPaused { revision })
    } else {
        (RolloutState::Progressing, EventKind::RolloutResumed { revision })
    };
    set(change, key, &Rollout { state, message: None, progressed_at: change.now, ..rollout })?;
    agent::touch(change, key)?;
    change.agent_event(key, event)?;
    Ok(true)
}

fn usable(change: &Change<'_>, key: &AgentKey, expected: Option<u64>) -> Result<Agent> {
    environment::check_not_reserved(&key.fleet)?;
    let agent = agent::get(change.connection, key)?;
    super::check_version(|| format!("agent `{key}`"), expected, agent.version)?;
    if agent.deleting {
        return Err(Error::AgentDeleting { fleet: key.fleet.clone(), agent: key.agent.clone() });
    }
    Ok(agent)
}

fn same(one: &Revision, other: &Revision) -> bool {
    one.template == other.template && one.spec.runs_same(&other.spec)
}

fn as_before(target: &Revision, cause: String, undoes: Option<Undone>) -> New<'_> {
    New { spec: &target.spec, template: Some(target.template), pin: target.pin.clone(), cause, undoes }
}

fn outcome(
    agent: &Agent,
    change: AgentChange,
    revision: u64,
    count: u32,
    new: &Arc<AgentSpec>,
) -> AgentOutcome {
    AgentOutcome {
        agent: agent.key.agent.clone(),
        change,
        revision,
        replicas: (count, count),
        old: Some(Arc::clone(&agent.spec)),
        new: Some(Arc::clone(new)),
    }
}

fn set(change: &Change<'_>, key: &AgentKey, rollout: &Rollout) -> Result<()> {
    change.touch(&key.fleet, &key.agent);
    let sql = "UPDATE agents SET rollout = ?3 WHERE fleet = ?1 AND name = ?2";
    let parameters = params![key.fleet.as_str(), key.agent.as_str(), Json(rollout)];
    change.connection.send(sql, parameters)?;
    Ok(())
}

fn conclude(change: &Change<'_>, key: &AgentKey, revision: u64, outcome: &str) -> Result<()> {
    let sql = "UPDATE revisions SET outcome = ?4 WHERE fleet = ?1 AND agent = ?2 AND revision = ?3";
    let parameters = params![key.fleet.as_str(), key.agent.as_str(), revision, outcome];
    change.connection.send(sql, parameters)?;
    Ok(())
}

/// An image that neither has an id nor a digest is not known yet.
pub(crate) fn pin_of(id: Option<String>, digest: Option<String>) -> Option<Pin> {
    (id.is_some() || digest.is_some()).then_some(Pin { id, digest })
}

fn from_row(row: &Row<'_>) -> Outcome<Revision> {
    let outcome: Option<String> = row.get(6)?;
    Ok(Revision {
        revision: row.get(0)?,
        template: row.get(1)?,
        spec: Arc::new(row.get::<Json<_>>(2)?.0),
        cause: row.get(3)?,
        pin: pin_of(row.get(4)?, row.get(5)?),
        outcome: outcome.map(|outcome| match outcome.as_str() {
            "complete" => RevisionOutcome::Complete,
            _ => RevisionOutcome::Failed,
        }),
        deployed_at: row.get::<Time>(7)?.0,
    })
}
