//! The definition of an environment's instance, made from what was asked for.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use axum::http::StatusCode;
use chassis_api::fuse::GuestCheck;
use chassis_core::environment;
use chassis_spec::{AGENT_DIRECTORY, AgentSpec, ImageName};
use serde_json::{Value, json};

use super::body::invalid;
use super::given;
use super::kept::Kept;
use crate::api::failure::{Failure, Result};
use crate::shared::Shared;

/// What runs where only others bring work: it does nothing until a signal ends it.
const IDLE: [&str; 2] = ["/.chassis/chassis-init", "idle"];
/// What stands in the definition, which everybody can see, instead of the script.
const SCRIPT: &str = ": given at each start";
/// Memory of tier 2, if the environment has so little that the usual would be most of it.
const TMPFS_SHARE: i32 = 8;
const TMPFS_USUAL: i32 = 64;
/// What the runtime says then.
const PORT_TAKEN: &str = "choose another `hostPort`";
/// Tries to find a port of the host that is nobody's.
const PORT_TRIES: usize = 32;

/// The image that the environment runs, or what to do about there being none.
pub(super) fn image(shared: &Shared, asked: &str) -> Result<ImageName> {
    let is_sim = shared.runtime_name == "sim";
    let usual = "environment".parse().ok().filter(|_| is_sim);
    if asked.is_empty() {
        return shared.environments.image.clone().or(usual).ok_or_else(|| {
            invalid(
                "spec.image is needed: this server has no image of its own for environments; give one, or start the \
                 server with --environment-image",
            )
        });
    }
    match (asked.parse(), usual) {
        (Ok(image), _) => Ok(image),
        // Nothing is run there: any word will do.
        (Err(_), Some(usual)) => Ok(usual),
        (Err(error), None) => Err(invalid(format!("spec.image: {error}"))),
    }
}

/// Gives each exposed port one of the host that is free.
pub(super) fn ports_choose(shared: &Shared, kept: &mut Kept) -> Result<()> {
    if kept.ports.is_empty() {
        return Ok(());
    }
    // One that was chosen before turned out not to be free.
    let mut taken: BTreeSet<u16> = kept.ports.iter().map(|port| port.host_port).collect();
    for agent in shared.agents() {
        taken.extend(agent.state().spec.ports.iter().filter_map(|port| port.host_port));
    }
    for port in &mut kept.ports {
        let free = (0..PORT_TRIES).find_map(|_| free_port().filter(|free| !taken.contains(free)));
        let free = free.ok_or_else(no_port)?;
        taken.insert(free);
        port.host_port = free;
    }
    Ok(())
}

pub(super) fn no_port() -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "no port of the host is free")
}

/// Has the definition publish the ports that were chosen.
pub(super) fn ports_set(spec: &mut AgentSpec, kept: &Kept) {
    for (port, chosen) in spec.ports.iter_mut().zip(&kept.ports) {
        port.host_port = Some(chosen.host_port);
    }
}

/// True of what is said of an environment that did not start because a port that it publishes is somebody else's.
pub(super) fn port_is_taken(message: &str) -> bool {
    message.contains(PORT_TAKEN)
}

/// One that the kernel gives just now.
fn free_port() -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    Some(listener.local_addr().ok()?.port())
}

/// The definition. Its name and fleet are given by the store.
pub(super) fn spec(task_id: &str, kept: &Kept, image: &ImageName) -> Result<AgentSpec> {
    let mut resources = json!({});
    let mut tmpfs = TMPFS_USUAL;
    if kept.spec.cpus > 0 {
        resources["cpu"] = json!(kept.spec.cpus);
    }
    if kept.spec.ram_mb > 0 {
        resources["memory"] = json!(format!("{}Mi", kept.spec.ram_mb));
        tmpfs = (kept.spec.ram_mb / TMPFS_SHARE).clamp(1, TMPFS_USUAL);
    }
    let ports: Vec<Value> = kept
        .ports
        .iter()
        .map(|port| json!({ "containerPort": port.port, "hostPort": port.host_port }))
        .collect();
    let mut volumes = vec![json!({ "name": "workspace", "mountPath": kept.workspace })];
    let agent = kept.agent.clone().unwrap_or_default();
    let command = agent.command.as_deref().map_or_else(|| json!(IDLE), shell);
    let directory = format!("{AGENT_DIRECTORY}/");
    if agent.program.is_some_and(|program| program.as_str().starts_with(&directory)) {
        volumes.push(json!({ "name": "agent", "mountPath": AGENT_DIRECTORY }));
    }
    let mut spec = json!({
        "name": "environment",
        "fleet": environment::FLEET,
        "image": image,
        "command": command,
        // The first of the files that are given at each start, and the only one that is no secret.
        "files": [{ "path": given::TASK_FILE, "content": task_id }],
        "volumes": volumes,
        "workingDir": kept.workspace,
        "tmpfs": { "size": format!("{tmpfs}Mi") },
        "resources": resources,
        "ports": ports,
        // It is a machine of its own to whoever made it, who may write where its user may.
        "security": { "writableRoot": true },
    });
    if kept.spec.storage_gb > 0 {
        spec["volumes"][0]["size"] = json!(format!("{}Gi", kept.spec.storage_gb));
    }
    let asked = &kept.spec;
    for (field, value) in [("node", &asked.host_id), ("region", &asked.region), ("architecture", &asked.arch)]
    {
        if !value.is_empty() {
            spec["placement"][field] = json!(value);
        }
    }
    if !asked.labels.is_empty() {
        spec["placement"]["labels"] = json!(asked.labels);
    }
    if kept.priority > 0 {
        spec["placement"]["priority"] = json!(kept.priority);
    }
    if let Some(seconds) = kept.startup_timeout {
        spec["startup"] = json!({ "script": SCRIPT, "timeout": format!("{seconds}s") });
    }
    if let Some(command) = &agent.drain_command {
        let mut drain = json!({ "exec": { "command": shell(command) } });
        if let Some(timeout) = agent.drain_timeout {
            drain["timeout"] = json!(timeout);
        }
        spec["stop"] = json!({ "drain": drain });
    }
    if let Some(check) = &kept.healthcheck {
        // Told, and nothing more: what runs in an environment is not started again behind its maker's back.
        spec["readinessCheck"] = health(check);
    }
    serde_json::from_value(spec).map_err(|error| invalid(error.to_string()))
}

fn shell(command: &str) -> Value {
    json!(["sh", "-lc", command])
}

fn health(check: &GuestCheck) -> Value {
    let or = |number: i64, usual: i64| if number > 0 { number } else { usual };
    let mut rules = json!({
        "interval": format!("{}s", or(check.interval_seconds, 10)),
        "timeout": format!("{}s", or(check.timeout_seconds, 2)),
        "retries": or(check.retries, 3),
        "startPeriod": format!("{}s", check.start_period_seconds),
    });
    match &check.http {
        Some(http) => {
            let path = if http.path.is_empty() { "/" } else { &http.path };
            rules["http"] = json!({ "port": http.port, "path": path });
        }
        None => rules["exec"] = json!({ "command": check.exec }),
    }
    rules
}
