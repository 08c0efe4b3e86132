//! Declaring agents: all of them, or none.

use std::collections::BTreeSet;
use std::sync::Arc;

use chassis_core::AgentKey;
use chassis_spec::{AgentName, AgentSpec, FleetName};

use super::column::Name;
use super::connection::{Connection, params};
use super::worker::Change;
use super::{agent, environment, fleet, instance, revision, secret};
use crate::error::{Error, Result};
use crate::types::{Agent, AgentChange, AgentOutcome, Applied, Apply};

pub(crate) fn apply(change: &Change<'_>, apply: &Apply) -> Result<Applied> {
    environment::check_not_reserved(&apply.fleet)?;
    perhaps(change, apply.dry_run, |change| declare_all(change, apply))
}

/// Makes a change, or with `dry_run` only finds out what it would answer.
pub(crate) fn perhaps<T>(
    change: &Change<'_>,
    dry_run: bool,
    make: impl FnOnce(&Change<'_>) -> Result<T>,
) -> Result<T> {
    if !dry_run {
        return make(change);
    }
    change.connection.send("SAVEPOINT dry_run", params![])?;
    let answer = make(change)?;
    change.undo("dry_run")?;
    change.connection.send("RELEASE dry_run", params![])?;
    Ok(answer)
}

fn declare_all(change: &Change<'_>, apply: &Apply) -> Result<Applied> {
    let fleet_created = match (fleet::get_usable(change.connection, &apply.fleet), &apply.create_fleet) {
        (Err(Error::FleetNotFound(_)), Some(labels)) => {
            super::check_version(|| format!("fleet `{}`", apply.fleet), apply.expected, 0)?;
            fleet::create(change, &apply.fleet, labels)?;
            true
        }
        (found, _) => {
            let fleet = found?;
            super::check_version(|| format!("fleet `{}`", fleet.name), apply.expected, fleet.version)?;
            false
        }
    };
    let mut declared = BTreeSet::new();
    let mut agents = Vec::with_capacity(apply.agents.len());
    for spec in &apply.agents {
        if !declared.insert(&spec.name) {
            return Err(Error::AgentRepeated(spec.name.clone()));
        }
        agents.push(declare(change, &apply.fleet, spec)?);
    }
    // What is left alone is told only to those who ask what would be: a fleet may have thousands that nobody asked about.
    let others = if apply.prune || apply.dry_run {
        agent::names(change.connection, &apply.fleet)?
    } else {
        Vec::new()
    };
    for name in others {
        if !declared.contains(&name) {
            agents.extend(undeclared(change, &apply.fleet, name, apply.prune)?);
        }
    }
    Ok(Applied { fleet_created, agents })
}

fn declare(change: &Change<'_>, fleet: &FleetName, spec: &AgentSpec) -> Result<AgentOutcome> {
    let key = AgentKey { fleet: fleet.clone(), agent: spec.name.clone() };
    check_secrets(change.connection, &key, spec)?;
    // The count of an agent is that of its instances; a second one in its definition would grow old.
    let kept = AgentSpec { fleet: Some(fleet.clone()), replicas: None, ..spec.clone() };
    match agent::find(change.connection, &key)? {
        None => create(change, &key, kept, spec.replicas.unwrap_or(1)),
        Some(agent) if agent.deleting => Err(Error::AgentDeleting { fleet: fleet.clone(), agent: key.agent }),
        Some(agent) => update(change, agent, kept, spec.replicas),
    }
}

fn create(change: &Change<'_>, key: &AgentKey, spec: AgentSpec, count: u32) -> Result<AgentOutcome> {
    check_name(change.connection, key)?;
    agent::check_count(&spec, count)?;
    agent::insert(change, key, &spec)?;
    agent::set_count_of(change, key, &[], count)?;
    Ok(AgentOutcome {
        agent: key.agent.clone(),
        change: AgentChange::Created,
        revision: 1,
        replicas: (0, count),
        old: None,
        new: Some(Arc::new(spec)),
    })
}

fn update(change: &Change<'_>, agent: Agent, spec: AgentSpec, replicas: Option<u32>) -> Result<AgentOutcome> {
    let key = agent.key.clone();
    let before = instance::count(change.connection, &key)?;
    let count = replicas.unwrap_or(before);
    agent::check_count(&spec, count)?;
    let same = agent.spec.runs_same(&spec);
    let (revision, new) = if same {
        (agent.revision, Arc::clone(&agent.spec))
    } else {
        let serves = agent.spec.same_container(&spec);
        let new = revision::New {
            spec: &spec,
            template: serves.then_some(agent.template),
            pin: agent.pin.clone().filter(|_| serves),
            cause: "deploy".to_owned(),
            undoes: None,
        };
        (revision::add(change, &agent.key, Some(&agent), new)?, Arc::new(spec))
    };
    if before != count {
        agent::set_count(change, &key, count)?;
    }
    let kind = match (same, before == count) {
        (false, _) => AgentChange::Updated,
        (true, false) => AgentChange::Scaled,
        (true, true) => AgentChange::Unchanged,
    };
    if kind != AgentChange::Unchanged {
        agent::touch(change, &key)?;
    }
    Ok(AgentOutcome {
        agent: key.agent,
        change: kind,
        revision,
        replicas: (before, count),
        old: Some(agent.spec),
        new: Some(new),
    })
}

/// An agent that the declaration does not name; nothing is said of one that is being deleted already.
fn undeclared(
    change: &Change<'_>,
    fleet: &FleetName,
    name: AgentName,
    prune: bool,
) -> Result<Option<AgentOutcome>> {
    let key = AgentKey { fleet: fleet.clone(), agent: name };
    let agent = agent::get(change.connection, &key)?;
    if agent.deleting {
        return Ok(None);
    }
    let count = instance::count(change.connection, &key)?;
    if prune {
        agent::delete(change, &key, false, None)?;
    }
    let (kind, after, new) = if prune {
        (AgentChange::Deleted, 0, None)
    } else {
        (AgentChange::Undeclared, count, Some(agent.spec.clone()))
    };
    Ok(Some(AgentOutcome {
        agent: key.agent,
        change: kind,
        revision: agent.revision,
        replicas: (count, after),
        old: Some(agent.spec),
        new,
    }))
}

pub(crate) fn check_secrets(connection: &dyn Connection, key: &AgentKey, spec: &AgentSpec) -> Result<()> {
    let (fleet, agent) = (key.fleet.clone(), key.agent.clone());
    let mut names = BTreeSet::new();
    for secret in spec.secret_refs() {
        if secret.fleet != key.fleet {
            return Err(Error::SecretForeign { fleet, agent, secret: secret.clone() });
        }
        if !secret::exists(connection, &key.fleet, &secret.name)? {
            names.insert(secret.name.clone());
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::SecretMissing { fleet, agent, names: names.into_iter().collect() })
}

fn check_name(connection: &dyn Connection, key: &AgentKey) -> Result<()> {
    // Not all of a fleet, which may have thousands: in it, only agents named as one of this one's instances would be, or
    // the one of which this one is named as an instance. `:` is what follows the last digit.
    let sql = "SELECT fleet, name FROM agents WHERE fleet || '-' || name = ?1
               UNION ALL SELECT fleet, name FROM agents WHERE fleet = ?2 AND name = ?3
               UNION ALL SELECT fleet, name FROM agents WHERE fleet = ?2 AND name > ?4 AND name < ?5";
    let (fleet, agent) = (key.fleet.as_str(), key.agent.as_str());
    let stem = agent.rsplit_once('-').map_or(agent, |(stem, _)| stem);
    let parameters =
        params![format!("{fleet}-{agent}"), fleet, stem, format!("{agent}-0"), format!("{agent}-:")];
    let near = connection.list(sql, parameters, |row| {
        Ok(AgentKey { fleet: row.get::<Name<_>>(0)?.0, agent: row.get::<Name<_>>(1)?.0 })
    })?;
    let collides = |other: &AgentKey| key.container_names_collide(other) || key.instance_names_collide(other);
    match near.into_iter().find(collides) {
        Some(existing) => Err(Error::NameCollision { new: key.clone(), existing }),
        None => Ok(()),
    }
}
