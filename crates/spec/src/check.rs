//! What must hold between fields. Every check says which field it is about, so that a YAML error can point there.

use std::collections::BTreeMap;
use std::fmt;

use crate::text::quoted;
use crate::yaml::Step::{self, Field, Index};
use crate::{
    AgentSpec, Backend, Bytes, EnvVar, ExecProbe, FleetSpec, HealthCheck, HttpProbe, LogsSpec, MountPath,
    Port, Resources, Seconds, StopSpec, Volume, WhenDown, files, grammar, network, storage,
};

/// A spec whose fields contradict each other, or one whose value cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSpec {
    pub(crate) path: Vec<Step>,
    pub(crate) message: String,
}

impl InvalidSpec {
    /// Stable, for scripts.
    pub fn code(&self) -> &'static str {
        "invalid_value"
    }

    pub(crate) fn under(mut self, around: &[Step]) -> Self {
        self.path.splice(0..0, around.iter().cloned());
        self
    }
}

impl fmt::Display for InvalidSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.path.iter().enumerate() {
            match step {
                Field(name) if position > 0 => write!(formatter, ".{name}")?,
                Field(name) => formatter.write_str(name)?,
                Index(index) => write!(formatter, "[{index}]")?,
            }
        }
        write!(formatter, ": {}", self.message)
    }
}

impl std::error::Error for InvalidSpec {}

pub(crate) type Checked = Result<(), InvalidSpec>;

const REPLICAS_MAX: u32 = 10_000;
/// Docker refuses less.
const MEMORY_MIN: Bytes = Bytes(6 << 20);
/// The kernel's own limit of process ids.
const PIDS_MAX: u32 = 1 << 22;
/// The kernel's own limit of `RLIMIT_NOFILE`.
const FILES_MAX: u32 = 1 << 30;
const DAY: Seconds = Seconds(24 * 3600);
/// A file that holds less would be replaced all the time.
const LOG_SIZE_MIN: Bytes = Bytes(64 << 10);
const LOG_SIZE_MAX: Bytes = Bytes(1 << 30);
const LOG_FILES_MAX: u32 = 100;
const LOG_KEEP_MAX: Seconds = Seconds(90 * 24 * 3600);
/// The kernel passes no longer argument or variable to a program.
const ARGUMENT_MAX: usize = 128 * 1024 - 1;
/// More than any agent needs; pairs of them are compared with each other.
const VOLUMES_MAX: usize = 256;
pub(crate) const PORTS_MAX: usize = 256;
const ENV_MAX: usize = 4096;
/// Where the sandbox has mounts of its own.
const RESERVED: [&str; 6] = ["/proc", "/sys", "/dev", "/.chassis", "/tmpfs", "/tmp"];

impl FleetSpec {
    /// Checks what must hold between fields, in the fleet and in each of its agents. Deserializing does it; changing a
    /// field by hand calls for it again.
    pub fn check(&self) -> Checked {
        self.labels.check().map_err(|invalid| wrong("labels", invalid.0))?;
        let mut names = BTreeMap::new();
        for (index, agent) in self.agents.iter().enumerate() {
            let here = [Field("agents"), Index(index)];
            if names.insert(agent.name.as_str(), index).is_some() {
                return Err(wrong("name", format!("the agent `{}` is there twice", agent.name)).under(&here));
            }
            if let Some(other) = agent.fleet.as_ref().filter(|other| **other != self.name) {
                let message =
                    format!("`{other}` is another fleet than `{}`, which this document describes", self.name);
                return Err(wrong("fleet", message).under(&here));
            }
            agent.check().map_err(|invalid| invalid.under(&here))?;
        }
        Ok(())
    }
}

impl AgentSpec {
    /// Checks what must hold between fields. Deserializing does it; changing a field by hand calls for it again.
    pub fn check(&self) -> Checked {
        if self.replicas.is_some_and(|replicas| replicas > REPLICAS_MAX) {
            return Err(wrong("replicas", format!("write at most {REPLICAS_MAX}")));
        }
        self.labels.check().map_err(|invalid| wrong("labels", invalid.0))?;
        check_command(&self.command, "command")?;
        check_arguments(&self.args, "args")?;
        check_env(&self.env)?;
        check_volumes(&self.volumes)?;
        files::check(self)?;
        check_positive(self.tmpfs.size.0, "size", "no memory at all")
            .map_err(|e| e.under(&[Field("tmpfs")]))?;
        check_resources(&self.resources).map_err(|e| e.under(&[Field("resources")]))?;
        check_ports(&self.ports, self.replicas)?;
        check_rollout(self)?;
        check_placement(self).map_err(|invalid| invalid.under(&[Field("placement")]))?;
        check_security(self)?;
        network::check(self)?;
        check_day(self.stop.grace, "grace").map_err(|invalid| invalid.under(&[Field("stop")]))?;
        check_logs(&self.logs).map_err(|invalid| invalid.under(&[Field("logs")]))?;
        check_drain(&self.stop).map_err(|invalid| invalid.under(&[Field("stop"), Field("drain")]))?;
        for (check, field) in [(&self.health_check, "healthCheck"), (&self.readiness_check, "readinessCheck")]
        {
            if let Some(check) = check {
                check_health(check).map_err(|invalid| invalid.under(&[Field(field)]))?;
            }
        }
        Ok(())
    }
}

/// What moves leaves nothing behind: its volumes are where every node reaches them.
fn check_placement(agent: &AgentSpec) -> Checked {
    if agent.placement.when_node_down == WhenDown::Stay {
        return Ok(());
    }
    if let Some(node) = &agent.placement.node {
        let message = format!("it runs on `{node}` and no other; leave `node` out, or write `stay`");
        return Err(wrong("whenNodeDown", message));
    }
    let stays = |volume: &&Volume| matches!(volume.backend(), Some(Backend::Local | Backend::Docker(_)));
    match agent.volumes.iter().find(stays) {
        Some(volume) => Err(wrong(
            "whenNodeDown",
            format!(
                "volume `{}` is on the node, so that an instance that moves would begin without its data; keep it on an \
                 NFS server (`nfs`), use the memory at /tmpfs, or write `stay`",
                volume.name
            ),
        )),
        None => Ok(()),
    }
}

fn check_command(command: &[String], field: &'static str) -> Checked {
    if command.first().is_some_and(String::is_empty) {
        return Err(wrong(field, "the program's name is empty").then(Index(0)));
    }
    check_arguments(command, field)
}

fn check_arguments(arguments: &[String], field: &'static str) -> Checked {
    for (index, argument) in arguments.iter().enumerate() {
        check_passable(argument, field).map_err(|invalid| invalid.then(Index(index)))?;
    }
    Ok(())
}

/// A program can be started with this text.
pub(crate) fn check_passable(text: &str, field: &'static str) -> Checked {
    if text.contains('\0') {
        return Err(wrong(field, "a NUL character cannot be passed to a program"));
    }
    if text.len() > ARGUMENT_MAX {
        return Err(wrong(field, "at most 128 KiB can be passed to a program; use a volume"));
    }
    Ok(())
}

fn check_env(env: &[EnvVar]) -> Checked {
    check_count(env.len(), ENV_MAX, "env")?;
    let mut names = BTreeMap::new();
    for (index, variable) in env.iter().enumerate() {
        let here = [Field("env"), Index(index)];
        if names.insert(variable.name.as_str(), index).is_some() {
            return Err(
                wrong("name", format!("{} is there twice", quoted(variable.name.as_str()))).under(&here)
            );
        }
        match (&variable.value, &variable.value_from) {
            (Some(value), None) => check_passable(value, "value").map_err(|invalid| invalid.under(&here))?,
            (None, Some(_)) => {}
            (Some(_), Some(_)) => {
                return Err(wrong("valueFrom", "write either `value` or `valueFrom`, not both").under(&here));
            }
            (None, None) => {
                return Err(
                    wrong("value", "write `value` or `valueFrom`; `value: \"\"` is empty text").under(&here)
                );
            }
        }
    }
    Ok(())
}

fn check_volumes(volumes: &[Volume]) -> Checked {
    check_count(volumes.len(), VOLUMES_MAX, "volumes")?;
    for (index, volume) in volumes.iter().enumerate() {
        let here = [Field("volumes"), Index(index)];
        check_volume(volume).map_err(|invalid| invalid.under(&here))?;
        for earlier in &volumes[..index] {
            check_volume_pair(earlier, volume).map_err(|invalid| invalid.under(&here))?;
        }
    }
    Ok(())
}

fn check_volume(volume: &Volume) -> Checked {
    let path = volume.mount_path.as_str();
    if path == "/" {
        return Err(wrong("mountPath", "a volume cannot be the whole root; write a directory such as /data"));
    }
    if let Some(reserved) = RESERVED.iter().find(|reserved| is_at_or_below(path, reserved)) {
        return Err(wrong(
            "mountPath",
            format!("{reserved} is the sandbox's own; write another directory such as /data"),
        ));
    }
    if volume.secret.is_some() && !volume.scratch.is_empty() {
        return Err(wrong("scratch", "a secret is one file; there is nothing below it"));
    }
    storage::check(volume)?;
    check_count(volume.scratch.len(), VOLUMES_MAX, "scratch")?;
    for (index, scratch) in volume.scratch.iter().enumerate() {
        let here = [Field("scratch"), Index(index)];
        if volume.scratch[..index].iter().any(|earlier| earlier.path == scratch.path) {
            return Err(
                wrong("path", format!("{} is there twice", quoted(scratch.path.as_str()))).under(&here)
            );
        }
        check_positive(scratch.size.0, "size", "no memory at all").map_err(|invalid| invalid.under(&here))?;
    }
    Ok(())
}

fn check_volume_pair(earlier: &Volume, later: &Volume) -> Checked {
    if earlier.name == later.name {
        return Err(wrong("name", format!("the volume `{}` is there twice", later.name)));
    }
    if earlier.mount_path == later.mount_path {
        return Err(wrong(
            "mountPath",
            format!(
                "{} is where the volume `{}` is mounted",
                quoted(later.mount_path.as_str()),
                earlier.name
            ),
        ));
    }
    for (file, inside) in [(earlier, later), (later, earlier)] {
        if file.secret.is_some() && is_at_or_below(inside.mount_path.as_str(), file.mount_path.as_str()) {
            let message =
                format!("the volume `{}` would be inside of `{}`, which is a file", inside.name, file.name);
            return Err(wrong("mountPath", message));
        }
    }
    for (outer, inner) in [(earlier, later), (later, earlier)] {
        if outer
            .scratch
            .iter()
            .any(|scratch| joined(&outer.mount_path, scratch.path.as_str()) == inner.mount_path.as_str())
        {
            let message =
                format!("the volume `{}` has scratch at the mount path of `{}`", outer.name, inner.name);
            return Err(wrong("mountPath", message));
        }
    }
    Ok(())
}

fn joined(base: &MountPath, below: &str) -> String {
    format!("{}/{below}", base.as_str().trim_end_matches('/'))
}

pub(crate) fn is_at_or_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn check_resources(resources: &Resources) -> Checked {
    if resources.memory < MEMORY_MIN {
        return Err(wrong(
            "memory",
            format!("{} is too little: write at least {MEMORY_MIN}", resources.memory),
        ));
    }
    for (count, highest, field) in [(resources.pids, PIDS_MAX, "pids"), (resources.files, FILES_MAX, "files")]
    {
        if !(1..=highest).contains(&count) {
            return Err(wrong(field, format!("write a number from 1 to {highest}")));
        }
    }
    Ok(())
}

fn check_logs(logs: &LogsSpec) -> Checked {
    if !(LOG_SIZE_MIN..=LOG_SIZE_MAX).contains(&logs.max_size) {
        return Err(wrong(
            "maxSize",
            format!("{} is out of range: write {LOG_SIZE_MIN} to {LOG_SIZE_MAX}", logs.max_size),
        ));
    }
    if !(1..=LOG_FILES_MAX).contains(&logs.max_files) {
        return Err(wrong("maxFiles", format!("write a number from 1 to {LOG_FILES_MAX}")));
    }
    if logs.keep > LOG_KEEP_MAX {
        return Err(wrong("keep", format!("{} is too long: write at most {LOG_KEEP_MAX}", logs.keep)));
    }
    Ok(())
}

fn check_ports(ports: &[Port], replicas: Option<u32>) -> Checked {
    check_count(ports.len(), PORTS_MAX, "ports")?;
    for (index, port) in ports.iter().enumerate() {
        check_port(port, &ports[..index], replicas)
            .map_err(|invalid| invalid.under(&[Field("ports"), Index(index)]))?;
    }
    Ok(())
}

fn check_port(port: &Port, earlier: &[Port], replicas: Option<u32>) -> Checked {
    check_positive(port.container_port.into(), "containerPort", "not a port")?;
    if let Some(name) = &port.name {
        grammar::label(name, "port's name").map_err(|invalid| wrong("name", invalid.to_string()))?;
        if earlier.iter().any(|other| other.name.as_ref() == Some(name)) {
            return Err(wrong("name", format!("the port `{name}` is there twice")));
        }
    }
    let Some(host_port) = port.host_port else {
        return match port.host_ip {
            Some(_) => Err(wrong("hostIp", "an address of the host needs a `hostPort`")),
            None => Ok(()),
        };
    };
    check_positive(host_port.into(), "hostPort", "not a port")?;
    if let Some(replicas) = replicas.filter(|replicas| *replicas > 1) {
        let message =
            format!("{replicas} instances cannot share one port of the host; leave out hostPort or replicas");
        return Err(wrong("hostPort", message));
    }
    let clashes = |other: &&Port| {
        let same_address = match (other.host_ip, port.host_ip) {
            (Some(one), Some(two)) => one == two || one.is_unspecified() || two.is_unspecified(),
            (Some(one), None) | (None, Some(one)) => one.is_loopback() || one.is_unspecified(),
            (None, None) => true,
        };
        other.host_port == Some(host_port) && other.protocol == port.protocol && same_address
    };
    if earlier.iter().any(|other| clashes(&other)) {
        return Err(wrong("hostPort", format!("the host's port {host_port} is there twice")));
    }
    Ok(())
}

fn check_rollout(agent: &AgentSpec) -> Checked {
    let rollout = &agent.rollout;
    let here = [Field("rollout")];
    check_positive(rollout.deadline.0.into(), "deadline", "no time at all").map_err(|e| e.under(&here))?;
    check_day(rollout.deadline, "deadline").map_err(|invalid| invalid.under(&here))?;
    if rollout.max_surge.is_zero() {
        return if rollout.max_unavailable.is_zero() {
            let message = "with `maxSurge: 0` no instance could ever be replaced; write at least 1";
            Err(wrong("maxUnavailable", message).under(&here))
        } else {
            Ok(())
        };
    }
    let keeps = |volume: &Volume| volume.secret.is_none() && volume.host_path.is_none() && !volume.read_only;
    if let Some(index) = agent.volumes.iter().position(keeps) {
        let message = format!(
            "the volume `{}` is each instance's own, so none can run beyond them: leave out `rollout.maxSurge`, or \
             make the volume `readOnly`",
            agent.volumes[index].name
        );
        return Err(wrong("name", message).under(&[Field("volumes"), Index(index)]));
    }
    if let Some(index) = agent.ports.iter().position(|port| port.host_port.is_some()) {
        let message =
            "two instances cannot share one port of the host: leave out `rollout.maxSurge` or `hostPort`";
        return Err(wrong("hostPort", message).under(&[Field("ports"), Index(index)]));
    }
    Ok(())
}

fn check_security(agent: &AgentSpec) -> Checked {
    let security = &agent.security;
    if security.host_network && agent.ports.iter().any(|port| port.host_port.is_some()) {
        let message =
            "on the host's network the agent opens the host's ports itself; leave out `hostPort` of `ports`";
        return Err(wrong("hostNetwork", message).under(&[Field("security")]));
    }
    if security.se_linux.as_ref().is_some_and(|label| label.parts().next().is_none()) {
        let message = "write one of `user`, `role`, `type` and `level`";
        return Err(wrong("seLinux", message).under(&[Field("security")]));
    }
    Ok(())
}

fn check_health(check: &HealthCheck) -> Checked {
    let given: Vec<&'static str> =
        [("http", check.http.is_some()), ("tcp", check.tcp.is_some()), ("exec", check.exec.is_some())]
            .into_iter()
            .filter_map(|(field, given)| given.then_some(field))
            .collect();
    match given[..] {
        [] if check.disabled => {}
        [given, ..] if check.disabled => {
            return Err(wrong(given, "a check that is disabled has nothing to do"));
        }
        [_] => {}
        [] => {
            return Err(InvalidSpec {
                path: Vec::new(),
                message: "write one of `http`, `tcp` and `exec`".to_owned(),
            });
        }
        [_, second, ..] => return Err(wrong(second, "write only one of `http`, `tcp` and `exec`")),
    }
    if let Some(probe) = &check.http {
        check_http(probe).map_err(|invalid| invalid.under(&[Field("http")]))?;
    }
    if let Some(probe) = &check.tcp {
        check_positive(probe.port.into(), "port", "not a port")
            .map_err(|invalid| invalid.under(&[Field("tcp")]))?;
    }
    if let Some(probe) = &check.exec {
        check_exec(probe)?;
    }
    check_times(check)
}

fn check_exec(probe: &ExecProbe) -> Checked {
    let checked = if probe.command.is_empty() {
        Err(wrong("command", "write what to run, such as [\"/bin/check\"]"))
    } else {
        check_command(&probe.command, "command")
    };
    checked.map_err(|invalid| invalid.under(&[Field("exec")]))
}

fn check_drain(stop: &StopSpec) -> Checked {
    let Some(drain) = &stop.drain else { return Ok(()) };
    match (&drain.exec, &drain.http) {
        (Some(exec), None) => check_exec(exec)?,
        (None, Some(request)) => check_request(&request.path, request.port, &request.headers)
            .map_err(|invalid| invalid.under(&[Field("http")]))?,
        (Some(_), Some(_)) => return Err(wrong("http", "write only one of `exec` and `http`")),
        (None, None) => {
            return Err(InvalidSpec {
                path: Vec::new(),
                message: "write one of `exec` and `http`".to_owned(),
            });
        }
    }
    check_positive(drain.timeout.0.into(), "timeout", "no time at all")?;
    check_day(drain.timeout, "timeout")
}

fn check_times(check: &HealthCheck) -> Checked {
    check_positive(check.interval.0.into(), "interval", "no time at all")?;
    check_positive(check.timeout.0.into(), "timeout", "no time at all")?;
    check_positive(check.retries.into(), "retries", "not a number of failures")?;
    for (time, field) in
        [(check.interval, "interval"), (check.timeout, "timeout"), (check.start_period, "startPeriod")]
    {
        check_day(time, field)?;
    }
    Ok(())
}

fn check_http(probe: &HttpProbe) -> Checked {
    check_request(&probe.path, probe.port, &probe.headers)?;
    if probe.expected_status.is_some_and(|status| !(100..=599).contains(&status)) {
        return Err(wrong("expectedStatus", "write a status from 100 to 599"));
    }
    Ok(())
}

fn check_request(path: &str, port: u16, headers: &BTreeMap<String, String>) -> Checked {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let is_plain = |text: &str| !text.chars().any(char::is_control);
    if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong("path", format!("{} is not a path of a URL; begin with /", quoted(path))));
    }
    check_positive(port.into(), "port", "not a port")?;
    if let Some((name, _)) = headers.iter().find(|(name, value)| !is_token(name) || !is_plain(value)) {
        return Err(wrong("headers", format!("{} is not a header of HTTP", quoted(name))));
    }
    Ok(())
}

pub(crate) fn check_count(count: usize, highest: usize, field: &'static str) -> Checked {
    if count > highest {
        Err(wrong(field, format!("{count} are too many: write at most {highest}")))
    } else {
        Ok(())
    }
}

fn check_day(time: Seconds, field: &'static str) -> Checked {
    if time > DAY { Err(wrong(field, format!("{time} is too long: write at most 24h"))) } else { Ok(()) }
}

pub(crate) fn check_positive(number: u64, field: &'static str, zero_is: &str) -> Checked {
    if number == 0 { Err(wrong(field, format!("0 is {zero_is}"))) } else { Ok(()) }
}

pub(crate) fn wrong(field: &'static str, message: impl Into<String>) -> InvalidSpec {
    InvalidSpec { path: vec![Field(field)], message: message.into() }
}

impl InvalidSpec {
    pub(crate) fn then(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }
}
