//! What a container really is, for an audit: nothing is taken from what it was asked to be.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum as Status, HostConfig, MountPoint};
use bollard::query_parameters::TopOptions;
use chassis_core::audit::{Confinement, DaemonPosture, ExecPosture, MountPosture, Posture, PublishedPort};
use chassis_spec::AgentSpec;
use serde_json::Value;

use super::facts::{self, Facts};
use super::{Daemon, confine, failure, instances, labels};
use crate::Result;

/// The posture of a container of this server's; `None` if it is gone.
pub(crate) async fn posture(daemon: &Arc<Daemon>, id: &str, spec: &AgentSpec) -> Result<Option<Posture>> {
    let Some(container) = instances::look(daemon, id).await? else { return Ok(None) };
    let own = container.config.as_ref().and_then(|config| config.labels.as_ref());
    if own.is_none_or(|own| labels::owner(&daemon.server_id, own).is_none()) {
        return Ok(None);
    }
    let facts = facts::facts(daemon).await?;
    let running = container.state.as_ref().is_some_and(|state| state.status == Some(Status::RUNNING));
    let execs = execs(daemon, container.exec_ids.as_deref().unwrap_or_default()).await?;
    let programs = if running { programs(daemon, id).await } else { None };
    let image_now = image_now(daemon, spec).await?;
    let spec = spec.clone();
    let read = daemon.blocking(move |daemon| Ok(read(daemon, &facts, &container, &spec))).await?;
    Ok(Some(Posture { execs, programs, image_now, ..read }))
}

fn read(daemon: &Daemon, facts: &Facts, container: &ContainerInspectResponse, spec: &AgentSpec) -> Posture {
    let empty = HostConfig::default();
    let host = container.host_config.as_ref().unwrap_or(&empty);
    let options = host.security_opt.as_deref().unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    let names = |names: &Option<Vec<String>>| -> Vec<String> {
        let names = names.iter().flatten().map(|name| name.to_uppercase());
        names.map(|name| name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)).collect()
    };
    Posture {
        user: container.config.as_ref().and_then(|config| config.user.clone()).unwrap_or_default(),
        privileged: host.privileged.unwrap_or_default(),
        read_only_root: host.readonly_rootfs.unwrap_or_default(),
        no_new_privileges: options.iter().any(|option| {
            matches!(
                option.as_str(),
                "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true"
            )
        }),
        keeps_default_capabilities: !names(&host.cap_drop).iter().any(|name| name == "ALL"),
        capabilities: names(&host.cap_add),
        seccomp: seccomp(daemon, options, spec),
        app_armor: text(&container.app_armor_profile),
        label_disabled: options
            .iter()
            .any(|option| matches!(option.as_str(), "label=disable" | "label:disable")),
        mounts: mounts(daemon, facts, container.mounts.as_deref().unwrap_or_default(), spec),
        devices: devices(host),
        memory: number(host.memory),
        nano_cpus: number(host.nano_cpus),
        cpu_shares: number(host.cpu_shares),
        pids: number(host.pids_limit),
        core_dumps_off: host
            .ulimits
            .iter()
            .flatten()
            .any(|limit| limit.name.as_deref() == Some("core") && limit.hard == Some(0)),
        files: files(container.args.as_deref().unwrap_or_default()),
        network_mode: text(&host.network_mode),
        foreign_networks: foreign_networks(container),
        ports: ports(host),
        pid_mode: text(&host.pid_mode),
        ipc_mode: text(&host.ipc_mode),
        uts_mode: text(&host.uts_mode),
        userns_mode: text(&host.userns_mode),
        cgroup_parent: text(&host.cgroup_parent),
        restart_policy: restart_policy(host),
        image: text(&container.image),
        daemon: DaemonPosture {
            app_armor: facts.app_armor,
            se_linux: facts.se_linux,
            seccomp: facts.seccomp,
            maps_users: facts.remapped.is_some(),
            swarm: facts.swarm,
        },
        ..Posture::default()
    }
}

fn seccomp(daemon: &Daemon, options: &[String], spec: &AgentSpec) -> Confinement {
    let given = options
        .iter()
        .find_map(|option| option.strip_prefix("seccomp=").or_else(|| option.strip_prefix("seccomp:")));
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    match given {
        None => Confinement::Default,
        Some("unconfined") => Confinement::Unconfined,
        Some(given) => match confine::seccomp(spec, &daemon.seccomp_dir) {
            Ok(Some(named)) if parse(&named) == parse(given) => Confinement::Own,
            _ => Confinement::Other,
        },
    }
}

/// Paths of the host, without those that chassis itself puts there: init, tier 1 and secrets.
fn mounts(daemon: &Daemon, facts: &Facts, mounts: &[MountPoint], spec: &AgentSpec) -> Vec<MountPosture> {
    let is_own = |target: &str| {
        let volume = spec.volumes.iter().find(|volume| volume.mount_path.as_str() == target);
        [chassis_init::DIRECTORY, chassis_init::lease::DIRECTORY].contains(&target)
            || volume.is_some_and(|volume| volume.host_path.is_none())
    };
    let binds = mounts.iter().filter(|mount| mount.typ.as_deref() == Some("bind"));
    binds
        .filter_map(|mount| {
            let (source, target) = (mount.source.clone()?, mount.destination.clone()?);
            (!is_own(&target)).then(|| MountPosture {
                writable: mount.rw.unwrap_or(true),
                is_shared: mount.propagation.as_ref().is_some_and(|mode| mode.contains("shared")),
                sensitive: daemon.host_paths.why_sensitive(Path::new(&source), &facts.root_dir),
                has_docker_socket: daemon.has_socket(Path::new(&source)),
                source,
                target,
            })
        })
        .collect()
}

fn devices(host: &HostConfig) -> Vec<String> {
    let devices = host.devices.iter().flatten().filter_map(|device| device.path_on_host.clone());
    let requests = host.device_requests.iter().flatten().filter_map(|request| request.driver.clone());
    devices.chain(requests).chain(host.device_cgroup_rules.iter().flatten().cloned()).collect()
}

/// What init was told.
fn files(arguments: &[String]) -> Option<u64> {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    own.skip_while(|argument| *argument != "--files").nth(1)?.parse().ok()
}

/// Docker's own networks and those of others: chassis's begin with its name.
fn foreign_networks(container: &ContainerInspectResponse) -> Vec<String> {
    let networks = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let names = networks.into_iter().flat_map(|networks| networks.keys());
    let mut foreign: Vec<String> = names
        .filter(|name| !name.starts_with("chassis-") && !matches!(name.as_str(), "none" | "host"))
        .cloned()
        .collect();
    foreign.sort();
    foreign
}

fn ports(host: &HostConfig) -> Vec<PublishedPort> {
    let mut ports = Vec::new();
    for (container_port, bindings) in host.port_bindings.iter().flatten() {
        let container_port = container_port.split('/').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        ports.extend(bindings.iter().flatten().map(|binding| {
            PublishedPort {
                host_ip: binding
                    .host_ip
                    .as_deref()
                    .and_then(|ip| ip.parse::<IpAddr>().ok())
                    .filter(|ip| !ip.is_unspecified()),
                host_port: binding.host_port.as_deref().and_then(|port| port.parse().ok()).unwrap_or(0),
                container_port,
            }
        }));
    }
    ports
}

fn restart_policy(host: &HostConfig) -> String {
    let Some(policy) = &host.restart_policy else { return String::new() };
    let name = policy.name.map(|name| name.to_string()).unwrap_or_default();
    match policy.maximum_retry_count {
        Some(count) if count > 0 => format!("{name}:{count}"),
        _ => name,
    }
}

/// What is executed in the container now. One that has ended is forgotten by Docker, or is about to be.
async fn execs(daemon: &Daemon, ids: &[String]) -> Result<Vec<ExecPosture>> {
    let mut execs = Vec::new();
    for id in ids {
        match daemon.client()?.inspect_exec(id).await {
            Ok(exec) if exec.running == Some(true) => {
                let process = exec.process_config.unwrap_or_default();
                execs.push(ExecPosture {
                    user: process.user.unwrap_or_default(),
                    privileged: process.privileged.unwrap_or_default(),
                });
            }
            Err(error) if !failure::is_not_found(&error) => return Err(daemon.explain(error)),
            _ => {}
        }
    }
    Ok(execs)
}

/// The names of what runs in the container. Docker asks the host's `ps`, which may be missing: no reason to fail.
async fn programs(daemon: &Daemon, id: &str) -> Option<Vec<String>> {
    let options = TopOptions { ps_args: "-eo pid,comm".to_owned() };
    let top = daemon.client().ok()?.top_processes(id, Some(options)).await.ok()?;
    let column = top.titles?.iter().position(|title| title == "COMMAND")?;
    Some(top.processes?.into_iter().filter_map(|process| process.into_iter().nth(column)).collect())
}

/// What the image's name means on this node now.
async fn image_now(daemon: &Daemon, spec: &AgentSpec) -> Result<Option<String>> {
    match daemon.client()?.inspect_image(spec.image.as_str()).await {
        Ok(image) => Ok(image.id),
        Err(error) if failure::is_not_found(&error) => Ok(None),
        Err(error) => Err(daemon.explain(error)),
    }
}
