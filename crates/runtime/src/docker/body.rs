//! What Docker is told about an instance: a pure function of its configuration.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, NetworkingConfig, PortBinding,
    PortMap, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use chassis_spec::{AgentSpec, LogsSpec, Port, Protocol};

use super::mounts::{self, Sources};
use super::{confine, labels, links};
use crate::{Error, Image, InstanceConfig, Result};

/// The user of an agent that runs as nobody in particular.
const DEFAULT_USER: &str = "64646:64646";

/// The weight among all containers that compete for the processor, which is Docker's own; written down so that it is
/// nobody else's choice.
const CPU_SHARES: i64 = 1024;
/// Docker's own size of `/dev/shm`, whatever the daemon's configuration says.
const SHARED_MEMORY: i64 = 64 << 20;
/// The name by which an agent reaches ports of the host.
const HOST_NAME: &str = "host.chassis.internal";

/// The networks of a container, as far as it is told of them when it is made.
#[derive(Debug, Default)]
pub(crate) struct Net {
    /// The fleet's own; without it the container has none.
    pub(crate) name: Option<String>,
    /// The host's address, for an agent that reaches ports of it.
    pub(crate) host: Option<String>,
}

impl Net {
    fn mode(&self, spec: &AgentSpec) -> String {
        let without = if spec.security.host_network { "host" } else { "none" };
        self.name.clone().unwrap_or_else(|| without.to_owned())
    }
}

/// True if something is given to the instance at each start over init's standard input: secrets of its environment, files,
/// a startup script.
pub(crate) fn takes_secrets(spec: &AgentSpec) -> bool {
    !spec.env_from.is_empty()
        || spec.env.iter().any(|variable| variable.value_from.is_some())
        || !spec.files.is_empty()
        || spec.startup.is_some()
}

/// Who the agent runs as. `only_user` is the one user there is when the server is not root.
pub(crate) fn user(spec: &AgentSpec, image: &Image, only_user: Option<&str>) -> String {
    if let Some(user) = only_user {
        return user.to_owned();
    }
    match &spec.user {
        // Images without an /etc/passwd have a root too.
        Some(user) if user.as_str() == "root" => return "0:0".to_owned(),
        Some(user) => return user.to_string(),
        None => {}
    }
    match image.user.split(':').next() {
        None | Some("" | "0" | "root") => DEFAULT_USER.to_owned(),
        Some(_) => image.user.clone(),
    }
}

/// The body of the request that creates the instance's container.
pub(crate) fn container_body(
    config: &InstanceConfig,
    server_id: &str,
    user: &str,
    sources: &Sources,
    net: &Net,
) -> Result<ContainerCreateBody> {
    let (key, spec, image) = (&config.key, &*config.spec, &*config.image);
    let secrets = takes_secrets(spec);
    let published = spec.ports.iter().filter(|port| port.host_port.is_some());
    let endpoint = net.name.iter().map(|name| (name.clone(), links::endpoint(key)));
    Ok(ContainerCreateBody {
        image: Some(image.id.clone()),
        hostname: Some(key.short_name()),
        user: Some(user.to_owned()),
        entrypoint: Some(entrypoint(config)?),
        cmd: Some(Vec::new()),
        env: Some(plain_env(spec)),
        working_dir: spec.working_dir.as_ref().map(ToString::to_string),
        labels: Some(labels::with_host_paths(labels::of_instance(server_id, config), &sources.host_paths)),
        stop_signal: spec.stop.signal.as_ref().map(ToString::to_string),
        stop_timeout: Some(spec.stop.grace.0.into()),
        open_stdin: Some(secrets),
        stdin_once: Some(secrets),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        tty: Some(false),
        exposed_ports: Some(published.map(port_name).collect()),
        // The server makes the image's check too, so that one place decides what unhealthy means.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        networking_config: Some(NetworkingConfig { endpoints_config: Some(endpoint.collect()) }),
        host_config: Some(host_config(config, net, sources)),
        ..ContainerCreateBody::default()
    })
}

/// init, what it needs to know, and the agent's own command. As in Kubernetes, a command drops the image's arguments.
fn entrypoint(config: &InstanceConfig) -> Result<Vec<String>> {
    let (spec, image) = (&config.spec, &config.image);
    let command = if spec.command.is_empty() { &image.entrypoint } else { &spec.command };
    let arguments = match (spec.args.is_empty(), spec.command.is_empty()) {
        (true, true) => &image.command,
        (_, _) => &spec.args,
    };
    if command.is_empty() && arguments.is_empty() {
        return Err(Error::rejected(format!("image {} has no command; set `command:`", spec.image)));
    }
    let mut line = vec![chassis_init::PROGRAM.to_owned(), "--instance".to_owned(), config.key.to_string()];
    line.extend(["--files".to_owned(), spec.resources.files.to_string()]);
    for volume in spec.volumes.iter().filter(|volume| volume.backend().is_some() && !volume.read_only) {
        line.extend(["--volume".to_owned(), format!("{}={}", volume.name, volume.mount_path)]);
    }
    if takes_secrets(spec) {
        line.push("--secrets".to_owned());
    }
    if config.leased {
        line.push("--leased".to_owned());
    }
    line.push("--".to_owned());
    line.extend(command.iter().chain(arguments).cloned());
    Ok(line)
}

fn plain_env(spec: &AgentSpec) -> Vec<String> {
    spec.env
        .iter()
        .filter_map(|variable| Some(format!("{}={}", variable.name, variable.value.as_ref()?)))
        .collect()
}

fn host_config(config: &InstanceConfig, net: &Net, sources: &Sources) -> HostConfig {
    let spec = &*config.spec;
    let memory = i64::try_from(spec.resources.memory.0).unwrap_or(i64::MAX);
    let security = &spec.security;
    let of_host = |shared: bool| shared.then(|| "host".to_owned());
    HostConfig {
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(security.capabilities.iter().map(ToString::to_string).collect()),
        security_opt: Some(confine::options(spec, sources.seccomp.as_deref())),
        privileged: Some(security.privileged),
        pid_mode: of_host(security.host_pid),
        userns_mode: of_host(security.userns.is_some()),
        readonly_rootfs: Some(!security.writable_root),
        // A core dump may hold secrets, and goes wherever the host's own setting says.
        ulimits: Some(vec![ResourcesUlimits { name: Some("core".to_owned()), soft: Some(0), hard: Some(0) }]),
        shm_size: Some(SHARED_MEMORY),
        sysctls: (sources.open_low_ports && !security.host_network)
            .then(|| [("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())].into()),
        cpu_shares: Some(CPU_SHARES),
        pids_limit: Some(spec.resources.pids.into()),
        memory: Some(memory),
        // The same: no swap.
        memory_swap: Some(memory),
        nano_cpus: spec.resources.cpu.map(|cpu| i64::from(cpu.0) * 1_000_000),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log_options(&spec.logs)),
        }),
        init: Some(false),
        ipc_mode: of_host(security.host_ipc).or_else(|| Some("private".to_owned())),
        network_mode: Some(net.mode(spec)),
        extra_hosts: net.host.as_ref().map(|address| vec![format!("{HOST_NAME}:{address}")]),
        mounts: Some(mounts::binds(config, sources)),
        tmpfs: Some(mounts::memory(spec, sources.owner)),
        port_bindings: Some(port_bindings(&spec.ports)),
        ..HostConfig::default()
    }
}

fn log_options(logs: &LogsSpec) -> HashMap<String, String> {
    // Docker refuses to compress where no file but the newest is kept.
    let compress = logs.compress && logs.max_files > 1;
    [
        ("max-size", logs.max_size.0.to_string()),
        ("max-file", logs.max_files.to_string()),
        ("compress", compress.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn port_bindings(ports: &[Port]) -> PortMap {
    let mut bindings = PortMap::new();
    for port in ports {
        let Some(host_port) = port.host_port else { continue };
        let host_ip = port.host_ip.map_or_else(|| "127.0.0.1".to_owned(), |ip| ip.to_string());
        let binding = PortBinding { host_ip: Some(host_ip), host_port: Some(host_port.to_string()) };
        bindings.entry(port_name(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

/// `80/tcp`.
fn port_name(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{}/{protocol}", port.container_port)
}
