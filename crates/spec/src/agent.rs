//! One agent as data: what to run, with what, and how it is kept running.
//!
//! Fields appear in the order in which people write them. Defaults are in the types, so that a spec that was read,
//! stored and read again is equal to itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::changes::changes;
use crate::logs::LogsSpec;
use crate::storage::Backend;
use crate::text::{self, Text};
use crate::value::EnvPrefix;
use crate::{
    AgentName, Bytes, ClusterId, Cpu, DockerVolume, EnvName, File, FileName, FleetName, HostPath, ImageName,
    Labels, MountPath, Network, NfsVolume, PlacementSpec, RolloutSpec, Seconds, SecretRef, Security, Signal,
    Startup, User, VolumeName,
};

/// The definition of one agent in a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct AgentSpec {
    /// The agent's name within its fleet; its instances are `<name>-1`, `<name>-2` and so on.
    pub name: AgentName,
    /// The fleet that the agent belongs to; without it, `--fleet` or the only fleet there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    /// The cluster that the agent belongs to; becomes a label of its instances.
    #[serde(default, alias = "cluster_id", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<ClusterId>,
    /// The image to run, as `docker pull` takes it.
    pub image: ImageName,
    /// What kind of sandbox an instance runs in.
    #[serde(default)]
    pub runtime: RuntimeKind,
    /// How many instances to run. Without it a new agent gets one and an existing agent keeps its count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Replaces the image's entry point.
    #[serde(default, deserialize_with = "text::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Text>")]
    pub command: Vec<String>,
    /// Replaces the image's command.
    #[serde(default, deserialize_with = "text::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Text>")]
    pub args: Vec<String>,
    /// Runs the agent as this user. Without it: the image's user if that is not root, else 64646:64646.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The directory that the agent starts in; without it the image's own.
    #[serde(default, alias = "working_dir", skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<MountPath>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Environment variables from whole secrets; a later entry wins over an earlier one.
    #[serde(default, alias = "env_from", skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFrom>,
    /// The directories and files that are the agent's own, or shared with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Files that are written before each start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// What prepares the sandbox before each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Startup>,
    /// The memory at `/tmpfs` and `/tmp`.
    #[serde(default)]
    pub tmpfs: Tmpfs,
    /// The most that one instance may use.
    #[serde(default)]
    pub resources: Resources,
    /// The ports that the agent listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Whom the agent can reach.
    #[serde(default, skip_serializing_if = "Network::is_default")]
    pub network: Network,
    /// Put on every instance.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// When an instance whose agent ended is started again.
    #[serde(default, alias = "restart_policy")]
    pub restart_policy: RestartPolicy,
    /// How an instance is stopped.
    #[serde(default)]
    pub stop: StopSpec,
    /// What tells a healthy instance from an unhealthy one, which is restarted. Without it the image's own HEALTHCHECK.
    #[serde(default, alias = "health_check", skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// What tells an instance that does its work from one that cannot yet, or not just now. It is not restarted for that;
    /// updates and restarts of others wait for it.
    #[serde(default, alias = "readiness_check", skip_serializing_if = "Option::is_none")]
    pub readiness_check: Option<HealthCheck>,
    /// What is kept of what the agent prints.
    #[serde(default, skip_serializing_if = "LogsSpec::is_default")]
    pub logs: LogsSpec,
    /// How a new revision replaces the one before, and how a restart goes through the instances.
    #[serde(default, skip_serializing_if = "RolloutSpec::is_default")]
    pub rollout: RolloutSpec,
    /// Which node the instances run on, where there are several.
    #[serde(default, skip_serializing_if = "PlacementSpec::is_default")]
    pub placement: PlacementSpec,
    /// What the sandbox leaves open.
    #[serde(default)]
    pub security: Security,
}

impl Serialize for AgentSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        AgentSpec::serialize(self, serializer)
    }
}

/// The derive's own reader, which only the YAML reader calls, is the inherent `AgentSpec::deserialize`: it checks each
/// field, and nothing between them. serde itself always comes through here.
impl<'de> Deserialize<'de> for AgentSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let agent = AgentSpec::deserialize(deserializer)?;
        agent.check().map_err(serde::de::Error::custom)?;
        Ok(agent)
    }
}

impl AgentSpec {
    /// Every secret that the agent refers to; one that is used twice comes twice.
    pub fn secret_refs(&self) -> impl Iterator<Item = &SecretRef> {
        let env = self.env.iter().filter_map(|variable| variable.value_from.as_ref());
        let env_from = self.env_from.iter().map(|source| &source.secret);
        let volumes = self.volumes.iter().filter_map(|volume| volume.secret.as_ref());
        let files = self.files.iter().filter_map(|file| file.secret.as_ref());
        env.chain(env_from).chain(volumes).chain(files)
    }

    /// Whether an instance of `other` is one of `self` too: they differ in `fleet`, `replicas` and order at most.
    pub fn runs_same(&self, other: &AgentSpec) -> bool {
        self == other
            || changes(self, other).iter().all(|change| matches!(change.path.as_str(), "fleet" | "replicas"))
    }
}

/// What kind of sandbox an instance runs in.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// A hardened Docker container.
    #[default]
    Docker,
    /// A Firecracker microVM.
    Firecracker,
    /// Nothing at all: an instance in the memory of a server started with `--runtime sim`.
    Sim,
}

impl RuntimeKind {
    /// As in an agent's YAML.
    pub fn word(self) -> &'static str {
        match self {
            RuntimeKind::Docker => "docker",
            RuntimeKind::Firecracker => "firecracker",
            RuntimeKind::Sim => "sim",
        }
    }
}

/// One environment variable: a plain value, or a secret's. Exactly one of the two is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvVar {
    /// The variable's name.
    pub name: EnvName,
    /// The value as it is; a number or a boolean stands for the text that was written.
    #[serde(default, deserialize_with = "text::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Text>")]
    pub value: Option<String>,
    /// `secret://<fleet>/<name>`. One trailing line break of the secret is left out.
    #[serde(default, alias = "value_from", skip_serializing_if = "Option::is_none")]
    pub value_from: Option<SecretRef>,
}

/// Environment variables from a secret that holds `NAME=value` lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvFrom {
    /// `secret://<fleet>/<name>`.
    pub secret: SecretRef,
    /// Put before every name.
    #[serde(
        default,
        deserialize_with = "crate::value::env_prefix",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(with = "EnvPrefix")]
    pub prefix: String,
}

/// A directory or file of the agent. Without `secret` and `hostPath` it belongs to tier 1: the instance's own, kept across
/// restarts, updates and deletion; a directory on the host, unless `nfs` or `dockerVolume` say where else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// The volume's name, and its directory's in tier 1.
    pub name: VolumeName,
    /// Where the agent sees it.
    #[serde(alias = "mount_path")]
    pub mount_path: MountPath,
    /// The agent cannot write to it.
    #[serde(default, alias = "read_only", skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Paths below `mountPath` that live in memory and are gone when the instance stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scratch: Vec<ScratchPath>,
    /// `secret://<fleet>/<name>`: the volume is one file of mode 0400, at `mountPath`, with the secret's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// A path of the host, which the server's own configuration must allow.
    #[serde(default, alias = "host_path", skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPath>,
    /// The most that it holds, by a quota of the host's file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// Keeps it on an NFS server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nfs: Option<NfsVolume>,
    /// Keeps it in a named volume of Docker's; `{}` is one of the instance's own.
    #[serde(default, alias = "docker_volume", skip_serializing_if = "Option::is_none")]
    pub docker_volume: Option<DockerVolume>,
}

impl Volume {
    /// What keeps the files of a volume of tier 1; none for a secret and a path of the host.
    pub fn backend(&self) -> Option<Backend<'_>> {
        if self.secret.is_some() || self.host_path.is_some() {
            return None;
        }
        Some(match (&self.nfs, &self.docker_volume) {
            (Some(nfs), _) => Backend::Nfs(nfs),
            (None, Some(volume)) => Backend::Docker(volume),
            (None, None) => Backend::Local,
        })
    }
}

/// A memory-backed path below a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScratchPath {
    /// Relative to the volume's `mountPath`.
    pub path: FileName,
    /// The most that it holds; counted as memory of the instance.
    #[serde(default = "Tmpfs::default_size")]
    pub size: Bytes,
}

/// Tier 2: the memory at `/tmpfs`, and a second one of the same size at `/tmp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tmpfs {
    /// The most that it holds; counted as memory of the instance.
    #[serde(default = "Tmpfs::default_size")]
    pub size: Bytes,
}

impl Tmpfs {
    /// 64 MiB per agent: the spec's section 3.1.
    fn default_size() -> Bytes {
        Bytes(64 << 20)
    }
}

impl Default for Tmpfs {
    fn default() -> Self {
        Tmpfs { size: Self::default_size() }
    }
}

/// The most that one instance may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// Cores. Without it: no limit but the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory, tier 2 included.
    #[serde(default = "Resources::default_memory")]
    pub memory: Bytes,
    /// Processes and threads.
    #[serde(default = "Resources::default_pids")]
    pub pids: u32,
    /// Open files of one process.
    #[serde(default = "Resources::default_files")]
    pub files: u32,
}

impl Resources {
    fn default_memory() -> Bytes {
        Bytes(512 << 20)
    }

    fn default_pids() -> u32 {
        512
    }

    fn default_files() -> u32 {
        65_536
    }
}

impl Default for Resources {
    fn default() -> Self {
        Resources {
            cpu: None,
            memory: Self::default_memory(),
            pids: Self::default_pids(),
            files: Self::default_files(),
        }
    }
}

/// A port that the agent listens on. It is published on the host only with `hostPort`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// The port in the sandbox.
    #[serde(alias = "container_port")]
    pub container_port: u16,
    /// Its transport.
    #[serde(default)]
    pub protocol: Protocol,
    /// The port of the host to publish it on.
    #[serde(default, alias = "host_port", skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// The host's address to publish on; 127.0.0.1 without it.
    #[serde(default, alias = "host_ip", alias = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<std::net::IpAddr>,
    /// A name for people; a DNS label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A port's transport.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    #[serde(alias = "TCP")]
    Tcp,
    #[serde(alias = "UDP")]
    Udp,
}

/// When an instance whose agent ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    #[default]
    #[serde(alias = "Always")]
    Always,
    /// After any exit but 0.
    #[serde(alias = "OnFailure", alias = "onFailure", alias = "on_failure")]
    OnFailure,
    #[serde(alias = "Never", alias = "no")]
    Never,
}

/// How an instance is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StopSpec {
    /// Without it the image's own, else SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// How long after the signal the instance is killed.
    #[serde(default = "StopSpec::default_grace")]
    pub grace: Seconds,
    /// What is asked of the agent before the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

impl StopSpec {
    /// Docker's own default.
    fn default_grace() -> Seconds {
        Seconds(10)
    }
}

impl Default for StopSpec {
    fn default() -> Self {
        StopSpec { signal: None, grace: Self::default_grace(), drain: None }
    }
}

/// Asks a running agent to finish its work before it is stopped. Exactly one of `exec` and `http` is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drain {
    /// A command in the sandbox; the agent is drained when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecProbe>,
    /// A request to the agent; it is drained when the answer is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<DrainRequest>,
    /// After this time the agent gets its signal all the same.
    #[serde(default = "Drain::default_timeout")]
    pub timeout: Seconds,
}

impl Drain {
    fn default_timeout() -> Seconds {
        Seconds(30)
    }
}

/// A request with an empty body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainRequest {
    #[serde(default)]
    pub method: DrainMethod,
    pub path: String,
    pub port: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// The method of a request to drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DrainMethod {
    #[default]
    Post,
    Get,
    Put,
}

/// A look at an instance that is repeated. Exactly one of `http`, `tcp` and `exec` is given, unless it is `disabled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// Nothing is checked, though the image has a HEALTHCHECK.
    #[serde(default, alias = "disable", skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecProbe>,
    /// Time from one check to the next.
    #[serde(default = "HealthCheck::default_interval")]
    pub interval: Seconds,
    /// A check that takes longer has failed.
    #[serde(default = "HealthCheck::default_timeout")]
    pub timeout: Seconds,
    /// Failures in a row after which the instance is unhealthy.
    #[serde(default = "HealthCheck::default_retries")]
    pub retries: u32,
    /// Failures do not count before this much time has passed.
    #[serde(default, alias = "start_period")]
    pub start_period: Seconds,
}

impl HealthCheck {
    fn default_interval() -> Seconds {
        Seconds(10)
    }

    fn default_timeout() -> Seconds {
        Seconds(2)
    }

    fn default_retries() -> u32 {
        3
    }
}

/// Healthy if a GET request is answered well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    #[serde(default = "HttpProbe::default_path")]
    pub path: String,
    pub port: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The status that means healthy; without it, any of 200 to 399.
    #[serde(default, alias = "expected_status", skip_serializing_if = "Option::is_none")]
    pub expected_status: Option<u16>,
}

impl HttpProbe {
    /// The spec's section 4.
    fn default_path() -> String {
        "/healthz".to_owned()
    }
}

/// Healthy if a connection is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpProbe {
    pub port: u16,
}

/// Healthy if a command in the sandbox ends with exit code 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecProbe {
    /// Run in the sandbox; exit code 0 means healthy.
    #[serde(deserialize_with = "text::list")]
    #[schemars(with = "Vec<Text>")]
    pub command: Vec<String>,
}
