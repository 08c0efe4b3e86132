//! Audits: what containers really are, held against their YAML.

use std::sync::Arc;

use axum::extract::State;
use chassis_api::{AuditQuery, InstanceAudit};
use chassis_core::InstanceKey;
use chassis_core::audit::{Finding, Subject, audit};
use chassis_spec::AgentSpec;
use futures_util::{StreamExt, stream};

use super::SharedState;
use super::extract::Query;
use super::failure::{Failure, Result};
use super::page::{Paging, Part, digits, place};
use crate::auth::Caller;
use crate::error::chain;
use crate::shared::Shared;

/// How many containers are looked at at once.
const LOOKS: usize = 8;

/// An instance to be audited.
struct Candidate {
    key: InstanceKey,
    spec: Arc<AgentSpec>,
    container_id: Option<Box<str>>,
    has_health_check: bool,
}

pub(crate) async fn read(
    State(shared): SharedState,
    caller: Caller,
    Query(query): Query<AuditQuery>,
    paging: Paging,
) -> Result<Part<InstanceAudit>> {
    caller.require_named(query.fleet.as_ref())?;
    if query.number.is_some() && query.agent.is_none() {
        let detail = "a number names an instance only together with its agent";
        return Err(Failure::invalid("agent_needed", detail));
    }
    let mut part = paging.part();
    for candidate in candidates(&shared, &caller, &query) {
        let InstanceKey { fleet, agent, number } = &candidate.key;
        let place = place(&[fleet.as_str(), agent.as_str(), &digits(*number)]);
        if !part.offer(place, || candidate) {
            break;
        }
    }
    let (candidates, part) = part.take();
    let audits = stream::iter(candidates).map(|candidate| {
        let shared = &shared;
        async move { examine(shared, candidate).await }
    });
    Ok(part.of(audits.buffered(LOOKS).collect().await))
}

fn candidates(shared: &Shared, caller: &Caller, query: &AuditQuery) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for agent in shared.agents() {
        let key = agent.key();
        if !caller.reaches(&key.fleet)
            || query.fleet.as_ref().is_some_and(|fleet| key.fleet != *fleet)
            || query.agent.as_ref().is_some_and(|name| key.agent != *name)
        {
            continue;
        }
        let state = agent.state();
        let has_own_check = state.spec.health_check.is_some() || state.spec.readiness_check.is_some();
        let slots = state
            .slots
            .values()
            .filter(|slot| query.number.is_none_or(|number| slot.instance.number == number));
        candidates.extend(slots.map(|slot| {
            let observed = slot.instance.observed.as_ref();
            Candidate {
                key: state.instance_key(slot.instance.number),
                spec: Arc::clone(&state.spec),
                container_id: observed.map(|observed| observed.id.clone()),
                has_health_check: has_own_check
                    || observed.is_some_and(|observed| observed.image_check.is_some()),
            }
        }));
    }
    candidates
}

async fn examine(shared: &Shared, candidate: Candidate) -> InstanceAudit {
    let down = shared.node_of(&candidate.key).down_message();
    let findings = match (&candidate.container_id, down) {
        (_, Some(down)) => Err(down),
        (None, None) => Err("it has no container yet".to_owned()),
        (Some(id), None) => findings(shared, &candidate, id).await,
    };
    let (findings, skipped) = match findings {
        Ok(findings) => (findings, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let InstanceKey { fleet, agent, number } = candidate.key;
    InstanceAudit {
        fleet,
        agent,
        number,
        container_id: candidate.container_id.map(String::from),
        findings,
        skipped,
    }
}

async fn findings(
    shared: &Shared,
    candidate: &Candidate,
    id: &str,
) -> std::result::Result<Vec<Finding>, String> {
    let posture = shared
        .runtime_of(&candidate.key)
        .posture(id, &candidate.spec)
        .await
        .map_err(|error| chain(&error))?;
    let posture = posture.ok_or("its container is gone; it is made anew")?;
    let subject =
        Subject { spec: &candidate.spec, posture: &posture, has_health_check: candidate.has_health_check };
    Ok(audit(&subject))
}
