//! What a container really is, as far as its safety is concerned.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Facts about one container, as its runtime tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Posture {
    pub user: String,
    pub privileged: bool,
    pub read_only_root: bool,
    pub no_new_privileges: bool,
    /// Docker's default capabilities were not dropped.
    pub keeps_default_capabilities: bool,
    /// Added ones, without `CAP_`.
    pub capabilities: Vec<String>,
    pub seccomp: Confinement,
    /// The AppArmor profile; empty without one.
    pub app_armor: String,
    /// SELinux does not confine it.
    pub label_disabled: bool,
    /// Paths of the host, without those that chassis itself keeps for the instance.
    pub mounts: Vec<MountPosture>,
    /// Devices of the host.
    pub devices: Vec<String>,
    /// In bytes; 0 for no limit.
    pub memory: u64,
    /// In billionths of a core; 0 for no limit.
    pub nano_cpus: u64,
    /// Its weight against other containers; 0 for none of its own.
    pub cpu_shares: u64,
    /// 0 for no limit.
    pub pids: u64,
    pub core_dumps_off: bool,
    /// Open files of one process, as init was told.
    pub files: Option<u64>,
    /// `host`, or a network's name.
    pub network_mode: String,
    /// Networks that it is on and that no server of chassis made.
    pub foreign_networks: Vec<String>,
    pub ports: Vec<PublishedPort>,
    pub pid_mode: String,
    pub ipc_mode: String,
    pub uts_mode: String,
    pub userns_mode: String,
    pub cgroup_parent: String,
    /// `no`, `always`, `on-failure:5`.
    pub restart_policy: String,
    /// The id of its image, and of the one that the YAML's name means on the node now.
    pub image: String,
    pub image_now: Option<String>,
    /// What is executed in it now, beside the agent.
    pub execs: Vec<ExecPosture>,
    /// The names of the programs that run in it; unknown if it does not run.
    pub programs: Option<Vec<String>>,
    pub daemon: DaemonPosture,
}

impl Posture {
    /// The weight of every instance against other containers: Docker's own, written down so that it is nobody else's
    /// choice.
    pub const CPU_SHARES: u64 = 1024;
}

/// What keeps an agent from system calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Confinement {
    /// The daemon's own profile.
    #[default]
    Default,
    /// One that the YAML named, as it is on the node now.
    Own,
    /// One that is not the YAML's as it is now.
    Other,
    Unconfined,
}

/// A path of the host in the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountPosture {
    pub source: String,
    pub target: String,
    pub writable: bool,
    /// Mounts made later spread between it and the host.
    pub is_shared: bool,
    /// Why the source is sensitive, if it is.
    pub sensitive: Option<String>,
    /// It is, or holds, the daemon's socket.
    pub has_docker_socket: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPort {
    /// None for all addresses of the host.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecPosture {
    pub user: String,
    pub privileged: bool,
}

/// What the daemon has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DaemonPosture {
    pub app_armor: bool,
    pub se_linux: bool,
    /// It gives a seccomp profile to those who bring none.
    pub seccomp: bool,
    pub maps_users: bool,
    pub swarm: bool,
}
