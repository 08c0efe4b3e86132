//! What a name that somebody typed means: `fleet/agent-n`, `agent-n`, `fleet/agent`, `agent` or a fleet.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::{ResolveQuery, Target};
use chassis_core::key::parse_instance_name;

use super::SharedState;
use super::extract::Query;
use super::failure::{Failure, Result};
use crate::auth::Caller;
use crate::controller::AgentController;
use crate::shared::Shared;

pub(crate) async fn resolve(
    State(shared): SharedState,
    caller: Caller,
    Query(query): Query<ResolveQuery>,
) -> Result<Json<Target>> {
    let (fleet, name) = match query.name.split_once('/') {
        Some((fleet, name)) => (Some(fleet.to_owned()), name),
        None => (query.fleet.map(|fleet| fleet.to_string()), query.name.as_str()),
    };
    if let Some(fleet) = fleet.as_deref().and_then(|fleet| fleet.parse().ok()) {
        caller.require(&fleet)?;
    }
    let mut fleets = shared.fleet_list().await?;
    fleets.retain(|fleet| caller.reaches(&fleet.name));
    let mut agents = shared.agents();
    agents.retain(|agent| caller.reaches(&agent.key().fleet));
    let mut found = agents_named(&agents, fleet.as_deref(), name);
    if found.is_empty() && fleet.is_none() {
        let fleet = fleets.iter().find(|fleet| fleet.name.as_str() == name);
        found.extend(fleet.map(|fleet| Target { fleet: fleet.name.clone(), agent: None, number: None }));
    }
    if found.is_empty() && query.kept {
        found = kept_named(&shared, &caller, fleet.as_deref(), name);
    }
    match found.len() {
        1 => Ok(Json(found.swap_remove(0))),
        0 => {
            let mut known: Vec<String> = fleets.iter().map(|fleet| fleet.name.to_string()).collect();
            known.extend(names(&agents));
            Err(nothing_named(&query.name, &known))
        }
        _ => {
            let names: Vec<String> = found.iter().map(target_name).collect();
            let detail = format!("`{}` is in several fleets; say which: {}", query.name, names.join(", "));
            Err(Failure::new(StatusCode::CONFLICT, "ambiguous_name", detail))
        }
    }
}

/// Agents of this name, or else instances.
fn agents_named(agents: &[Arc<AgentController>], fleet: Option<&str>, name: &str) -> Vec<Target> {
    let agents = agents.iter().filter(|agent| fleet.is_none_or(|fleet| agent.key().fleet.as_str() == fleet));
    let exact: Vec<Target> = agents
        .clone()
        .filter(|agent| agent.key().agent.as_str() == name)
        .map(|agent| target(agent.key(), None))
        .collect();
    if !exact.is_empty() {
        return exact;
    }
    let Some((agent_name, number)) = parse_instance_name(name) else { return Vec::new() };
    agents
        .filter(|agent| agent.key().agent.as_str() == agent_name)
        .filter(|agent| agent.state().slots.contains_key(&number))
        .map(|agent| target(agent.key(), Some(number)))
        .collect()
}

/// As [`agents_named`] and fleets, among those of which output was kept.
fn kept_named(shared: &Shared, caller: &Caller, fleet: Option<&str>, name: &str) -> Vec<Target> {
    let mut instances = shared.kept_logs.instances();
    instances
        .retain(|key| caller.reaches(&key.fleet) && fleet.is_none_or(|fleet| key.fleet.as_str() == fleet));
    let agents = instances.iter().filter(|key| key.agent.as_str() == name);
    let mut found: Vec<Target> = agents.map(|key| target(&key.agent_key(), None)).collect();
    if found.is_empty() {
        let named = instances.iter().filter(|key| key.short_name() == name);
        found.extend(named.map(|key| target(&key.agent_key(), Some(key.number))));
    }
    if found.is_empty() && fleet.is_none() {
        let named = instances.iter().filter(|key| key.fleet.as_str() == name);
        found.extend(named.map(|key| Target { fleet: key.fleet.clone(), agent: None, number: None }));
    }
    found.dedup();
    found
}

fn target(key: &chassis_core::AgentKey, number: Option<u32>) -> Target {
    Target { fleet: key.fleet.clone(), agent: Some(key.agent.clone()), number }
}

/// As people type it.
pub(crate) fn target_name(target: &Target) -> String {
    let agent = target.agent.as_ref().map(|agent| format!("/{agent}")).unwrap_or_default();
    let number = target.number.map(|number| format!("-{number}")).unwrap_or_default();
    format!("{}{agent}{number}", target.fleet)
}

/// Agents and instances, as people type them.
fn names(agents: &[Arc<AgentController>]) -> Vec<String> {
    let mut names = Vec::new();
    for agent in agents {
        names.push(agent.key().agent.to_string());
        names.extend(agent.state().slots.keys().map(|number| format!("{}-{number}", agent.key().agent)));
    }
    names
}

fn nothing_named(name: &str, known: &[String]) -> Failure {
    let wanted = name.rsplit('/').next().unwrap_or(name);
    let hint = match nearest(wanted, known) {
        Some(known) => format!("did you mean `{known}`?"),
        None => "`chassis ps` shows what there is".to_owned(),
    };
    Failure::not_found("no_such_name", format!("there is nothing named `{name}`; {hint}"))
}

/// The same for who wants something put into a fleet: without a likely name, how to make it.
pub(crate) async fn with_suggestion_to_create(
    shared: &Shared,
    caller: &Caller,
    error: chassis_store::Error,
) -> Failure {
    let fleet = match &error {
        chassis_store::Error::FleetNotFound(name) => Some(name.clone()),
        _ => None,
    };
    let (code, likely) = (error.code(), likely_fleet(shared, caller, &error).await);
    match (fleet, likely) {
        (Some(name), None) => Failure::not_found(
            code,
            format!("there is no fleet `{name}`; make it with `chassis create fleet {name}`"),
        ),
        _ => with_suggestion(shared, caller, error).await,
    }
}

/// The store's error; for a fleet that is not there, with the name that was probably meant.
pub(crate) async fn with_suggestion(
    shared: &Shared,
    caller: &Caller,
    error: chassis_store::Error,
) -> Failure {
    match (&error, likely_fleet(shared, caller, &error).await) {
        (chassis_store::Error::NameCollision { new, existing }, _) if !caller.reaches(&existing.fleet) => {
            let detail = format!(
                "agent `{new}` would share container names with an agent of another fleet; choose another name"
            );
            Failure::new(StatusCode::CONFLICT, error.code(), detail)
        }
        (chassis_store::Error::FleetNotFound(name), Some(known)) => {
            let detail = format!("there is no fleet `{name}`; did you mean `{known}`?");
            Failure::not_found(error.code(), detail)
        }
        _ => error.into(),
    }
}

/// The fleet that was probably meant, if the error is that there is none of this name.
async fn likely_fleet(shared: &Shared, caller: &Caller, error: &chassis_store::Error) -> Option<String> {
    let chassis_store::Error::FleetNotFound(name) = error else { return None };
    let fleets = shared.fleet_list().await.unwrap_or_default();
    let known = fleets.iter().filter(|fleet| caller.reaches(&fleet.name));
    let known: Vec<String> = known.map(|fleet| fleet.name.to_string()).collect();
    nearest(name.as_str(), &known).map(str::to_owned)
}

/// The name that somebody who typed another one may have meant.
pub(crate) fn nearest<'a>(typed: &str, known: &'a [String]) -> Option<&'a str> {
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(typed, known), known.as_str()))
        .filter(|(distance, _)| *distance <= 1 + typed.len() / 4)
        .min()
        .map(|(_, known)| known)
}
