//! What runs instances on a machine, whether a server's own or a node elsewhere.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct RuntimeFlags {
    /// What runs the instances
    #[arg(
        id = "runtime",
        long = "runtime",
        value_name = "RUNTIME",
        value_enum,
        env = "CHASSIS_RUNTIME",
        hide_env_values = true,
        default_value = "docker"
    )]
    pub(crate) kind: Runtime,
    /// Docker Engine to use, as `unix:///path` or `tcp://host:port`
    #[arg(long, env = "DOCKER_HOST", value_name = "ADDRESS")]
    pub(crate) docker_host: Option<String>,
    /// Path of the host that agents' `hostPath` volumes may show, with what is in it; may be given several times. Also
    /// `CHASSIS_ALLOW_HOST_PATH`, with colons between
    #[arg(long, value_name = "PATH")]
    pub(crate) allow_host_path: Vec<PathBuf>,
    /// Directory of the seccomp profiles that a YAML may name
    #[arg(
        long,
        env = "CHASSIS_SECCOMP_DIR",
        hide_env_values = true,
        value_name = "DIR",
        default_value = "/etc/chassis/seccomp"
    )]
    pub(crate) seccomp_dir: PathBuf,
    /// Seed of what happens in the simulation
    #[arg(long, default_value_t = 0, hide = true)]
    pub(crate) sim_seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    Docker,
    /// In memory, for trying things out
    Sim,
}
