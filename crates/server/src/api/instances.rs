//! Instances: listed, described, started, stopped, restarted, deleted.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::{Change, ChangeKind, DeleteQuery, Instance, InstanceDetail, InstanceListQuery, MountInfo};
use chassis_core::{ExitRecord, InstanceKey, Phase, Reason};
use chassis_spec::{AgentName, AgentSpec, FleetName, Security};
use chassis_store::{EventFilter, InstanceChange, Placed, Scope};

use super::agents::agent_find;
use super::condition::{Expected, Versioned};
use super::extract::{Body, Path, Query};
use super::failure::{Failure, Result};
use super::page::{Paging, Part, digits, place};
use super::select::Selection;
use super::targets::target_name;
use super::wait::Awaited;
use super::{SharedState, reach, to_end};
use crate::auth::Caller;
use crate::controller::{AgentController, agents_changed};
use crate::failpoint::failpoint;
use crate::shared::Shared;
use crate::state::{AgentState, Slot};

/// How many events a description ends with.
const LAST_EVENTS: u32 = 15;

pub(crate) async fn list(
    State(shared): SharedState,
    caller: Caller,
    Query(query): Query<InstanceListQuery>,
    paging: Paging,
) -> Result<Part<Instance>> {
    caller.require_named(query.fleet.as_ref())?;
    let selection = Selection::read(&shared, query.labels.as_deref()).await?;
    let mut agents = shared.agents();
    agents.retain(|agent| {
        let key = agent.key();
        caller.reaches(&key.fleet)
            && query.fleet.as_ref().is_none_or(|fleet| key.fleet == *fleet)
            && query.agent.as_ref().is_none_or(|name| key.agent == *name)
            && selection.has_agent(&key.fleet, &agent.state().spec.labels)
    });
    Ok(part_of(&shared, &agents, paging))
}

pub(crate) async fn list_of_agent(
    State(shared): SharedState,
    Path((fleet, agent)): Path<(FleetName, AgentName)>,
    paging: Paging,
) -> Result<Part<Instance>> {
    let agent = agent_find(&shared, fleet, agent)?;
    Ok(part_of(&shared, &[agent], paging))
}

/// Instances of agents that come in the order of their names.
fn part_of(shared: &Shared, agents: &[Arc<AgentController>], paging: Paging) -> Part<Instance> {
    let mut part = paging.part();
    for agent in agents {
        let state = agent.state();
        let (fleet, name) = (state.key.fleet.as_str(), state.key.agent.as_str());
        let is_full = state.slots.values().any(|slot| {
            let place = place(&[fleet, name, &digits(slot.instance.number)]);
            !part.offer(place, || wire(shared, &state, slot))
        });
        if is_full {
            break;
        }
    }
    part
}

pub(crate) async fn show(
    State(shared): SharedState,
    Path((fleet, agent, number)): Path<(FleetName, AgentName, u32)>,
) -> Result<Versioned<InstanceDetail>> {
    let filter = EventFilter {
        fleet: Some(fleet.clone()),
        agent: Some(agent.clone()),
        number: Some(number),
        limit: LAST_EVENTS,
        newest: true,
        ..EventFilter::default()
    };
    // What is only in the database is left out while that is away.
    let events = shared.unless_away(shared.store.event_list(&filter)).await?.unwrap_or_default();
    let key = InstanceKey { fleet: fleet.clone(), agent: agent.clone(), number };
    let mut exits = shared.unless_away(shared.store.instance_exits(&key)).await?.unwrap_or_default();
    // Of the runs before the last one `…/exits` has the output.
    exits.iter_mut().skip(1).for_each(|exit| exit.log.clear());
    let controller = agent_find(&shared, fleet, agent)?;
    let state = controller.state();
    let key = state.instance_key(number);
    let slot = state.slots.get(&number).ok_or_else(|| no_instance(&key))?;
    let node = shared.nodes.of(slot.placed.as_ref());
    let detail = InstanceDetail {
        instance: wire(&shared, &state, slot),
        container_name: key.container_name(),
        spec: AgentSpec::clone(&state.spec),
        agent_revision: state.revision,
        mounts: mounts(&shared, slot.placed.as_ref(), &key, &state.spec),
        open: [opened(&state.spec), reach::network(node.as_deref(), &key, &state.spec)].concat(),
        events,
        exits,
    };
    Ok(Versioned(state.version, detail))
}

pub(crate) async fn exits(
    State(shared): SharedState,
    Path((fleet, agent, number)): Path<(FleetName, AgentName, u32)>,
    paging: Paging,
) -> Result<Part<ExitRecord>> {
    let key = InstanceKey { fleet: fleet.clone(), agent: agent.clone(), number };
    let exits = shared.store.instance_exits(&key).await?;
    if !agent_find(&shared, fleet, agent)?.state().slots.contains_key(&number) {
        return Err(no_instance(&key));
    }
    let mut part = paging.part();
    for exit in exits {
        // The newest come first.
        let age = i64::MAX.abs_diff(i64::try_from(exit.finished_at.as_nanosecond()).unwrap_or(0));
        if !part.offer(place(&[&digits(age), &exit.container]), || exit) {
            break;
        }
    }
    Ok(part)
}

pub(crate) async fn remove(
    State(shared): SharedState,
    Path((fleet, agent, number)): Path<(FleetName, AgentName, u32)>,
    Query(query): Query<DeleteQuery>,
    Expected(expected): Expected,
) -> Result<(StatusCode, Extension<Awaited>)> {
    let key = InstanceKey { fleet, agent, number };
    to_end(async move {
        failpoint("instance_delete:before");
        shared.store.instance_delete(&key, query.cleanup, expected).await?;
        failpoint("instance_delete:stored");
        agents_changed(&shared, vec![key.agent_key()]).await;
        let scope = chassis_api::Scope { fleet: key.fleet, agent: Some(key.agent), number: Some(key.number) };
        Ok((StatusCode::ACCEPTED, Extension(Awaited::of(scope))))
    })
    .await
}

pub(crate) async fn change(
    State(shared): SharedState,
    caller: Caller,
    Expected(expected): Expected,
    Body(change): Body<Change>,
) -> Result<(StatusCode, Extension<Awaited>)> {
    caller.require(&change.scope.fleet)?;
    caller.tell(format!("{:?} {}", change.change, target_name(&change.scope)).to_lowercase());
    let asked = change.scope.clone();
    let scope = Scope { fleet: change.scope.fleet, agent: change.scope.agent, number: change.scope.number };
    if scope.number.is_some() && scope.agent.is_none() {
        return Err(Failure::invalid(
            "agent_needed",
            "a number names an instance only together with its agent",
        ));
    }
    let change = match change.change {
        ChangeKind::Start => InstanceChange::Start,
        ChangeKind::Stop => InstanceChange::Stop,
        ChangeKind::Restart => InstanceChange::Restart,
    };
    to_end(async move {
        failpoint("change:before");
        let agents = shared.store.instance_change(&scope, change, expected).await?;
        failpoint("change:stored");
        agents_changed(&shared, agents).await;
        Ok((StatusCode::ACCEPTED, Extension(Awaited::of(asked))))
    })
    .await
}

pub(crate) fn wire(shared: &Shared, state: &AgentState, slot: &Slot) -> Instance {
    let instance = &slot.instance;
    let memory = &instance.memory;
    let observed = instance.observed.as_ref();
    let mut phase = slot.phase(&state.spec);
    let (mut reason, mut message) =
        memory.blocked.as_ref().map(|blocked| (blocked.reason, blocked.message.clone())).unzip();
    if let Some(down) = shared.nodes.unknown(slot.placed.as_ref()) {
        phase = Phase::Unknown;
        reason = Some(Reason::RuntimeUnavailable);
        message = Some(down);
    }
    if message.is_none() && phase == Phase::Pending {
        let waiting = shared.schedule.waiting(&state.instance_key(instance.number));
        message = waiting.map(|(ahead, why)| format!("waits for a place, with {ahead} before it: {why}"));
    }
    if message.is_none() && !matches!(phase, Phase::Stopped | Phase::Removing) {
        message.clone_from(&slot.lacks);
    }
    if message.is_none() && phase == Phase::Running {
        message = slot.checks.error().map(str::to_owned);
    }
    let retry_at = match phase {
        Phase::Running => slot.checks.held_until,
        Phase::Blocked => memory.blocked.as_ref().map(|blocked| blocked.retry_at),
        Phase::Backoff => memory.retry_at,
        _ => None,
    };
    Instance {
        fleet: state.key.fleet.clone(),
        agent: state.key.agent.clone(),
        number: instance.number,
        phase,
        reason,
        message,
        retry_at,
        revision: observed.map(|observed| state.revision_shown(observed)),
        restarts: memory.restarts,
        health: instance.health.state(),
        created_at: slot.created_at,
        started_at: memory.run.as_ref().filter(|_| memory.exit.is_none()).map(|run| run.started_at),
        last_exit: memory.exit.or(memory.last_exit),
        node: match &slot.placed {
            Some(placed) => placed.node.to_string(),
            None if shared.nodes.is_alone() => shared.node.clone(),
            None => String::new(),
        },
        image: state.spec.image.to_string(),
        extra: slot.is_extra(),
        container_id: observed.map(|observed| observed.id.to_string()),
        stale_seconds: shared.stale_seconds(),
    }
}

pub(crate) fn no_instance(key: &InstanceKey) -> Failure {
    let detail = format!("there is no instance `{key}`; `chassis ps` shows what there is");
    Failure::not_found("instance_not_found", detail)
}

/// What the agent sees where.
fn mounts(shared: &Shared, placed: Option<&Placed>, key: &InstanceKey, spec: &AgentSpec) -> Vec<MountInfo> {
    let memory = |path: String, size: chassis_spec::Bytes| MountInfo {
        path,
        kind: "tier 2".to_owned(),
        source: size.to_string(),
        read_only: false,
    };
    let mut mounts = Vec::new();
    for volume in &spec.volumes {
        let (kind, source) = reach::source(shared, placed, key, volume);
        mounts.push(MountInfo {
            path: volume.mount_path.to_string(),
            kind: kind.to_owned(),
            source,
            read_only: volume.read_only || volume.secret.is_some(),
        });
        for scratch in &volume.scratch {
            mounts.push(memory(format!("{}/{}", volume.mount_path, scratch.path), scratch.size));
        }
    }
    mounts.push(memory("/tmpfs".to_owned(), spec.tmpfs.size));
    mounts.push(memory("/tmp".to_owned(), spec.tmpfs.size));
    mounts
}

/// What the YAML opens beyond the defaults, in its own words.
fn opened(spec: &AgentSpec) -> Vec<String> {
    let mut open = Vec::new();
    if let Some(user) = spec.user.as_ref().filter(|user| user.is_root()) {
        open.push(format!("user: {user} (runs as root)"));
    }
    if spec.security.writable_root {
        open.push("security.writableRoot: true".to_owned());
    }
    open.extend(opened_security(&spec.security));
    for port in &spec.ports {
        if let Some(host_port) = port.host_port {
            let ip = port.host_ip.map_or_else(|| "127.0.0.1".to_owned(), |ip| ip.to_string());
            open.push(format!("ports: {ip}:{host_port} on the host reaches {}", port.container_port));
        }
    }
    for volume in &spec.volumes {
        if let Some(host) = &volume.host_path {
            let mode = if volume.read_only { "read-only" } else { "writable" };
            open.push(format!("volumes: {host} of the host at {} ({mode})", volume.mount_path));
        }
    }
    open
}

fn opened_security(security: &Security) -> Vec<String> {
    let capabilities = security.capabilities.iter().map(|name| format!("security.capabilities: {name}"));
    let flags = [
        (security.privileged, "privileged: true (nearly nothing keeps it in its sandbox)"),
        (security.host_network, "hostNetwork: true (the host's network)"),
        (security.host_pid, "hostPid: true (sees the host's processes)"),
        (security.host_ipc, "hostIpc: true (the host's shared memory)"),
        (security.userns.is_some(), "userns: host (its users are the host's)"),
    ];
    let flags = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| format!("security.{flag}"));
    let profiles = [
        security.app_armor.as_ref().map(|profile| format!("security.appArmor: {profile}")),
        security.seccomp.as_ref().map(|profile| format!("security.seccomp: {profile}")),
    ];
    let label = security.se_linux.as_ref().map(|label| {
        let parts: Vec<String> = label.parts().map(|(name, value)| format!("{name}: {value}")).collect();
        format!("security.seLinux: {}", parts.join(", "))
    });
    capabilities.chain(flags).chain(profiles.into_iter().flatten()).chain(label).collect()
}

/// Agents that a scope reaches.
pub(crate) fn agents_in(shared: &Arc<Shared>, scope: &chassis_api::Scope) -> Vec<Arc<AgentController>> {
    let mut agents = shared.agents();
    agents.retain(|agent| {
        agent.key().fleet == scope.fleet && scope.agent.as_ref().is_none_or(|name| agent.key().agent == *name)
    });
    agents
}
