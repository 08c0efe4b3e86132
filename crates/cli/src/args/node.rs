//! Flags of a node, which runs instances for servers elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use chassis_client::ServerAddress;
use chassis_server::{Capacity, NodeName};
use clap::Args;

use super::{NodeCommand, Runtime, TlsMode};
use crate::parse;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Node {
    #[command(subcommand)]
    pub(crate) command: Option<NodeCommand>,
    #[command(flatten)]
    pub(crate) serve: NodeServe,
}

#[derive(Debug, Args)]
pub(crate) struct NodeServe {
    /// Address and port that servers reach it at, such as 0.0.0.0:7443 for all of this machine's
    #[arg(
        long,
        env = "CHASSIS_NODE_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS:PORT",
        value_parser = super::listen::address,
        required = true
    )]
    pub(crate) listen: Option<SocketAddr>,
    /// Its name [default: the machine's]
    #[arg(long, env = "CHASSIS_NODE_NAME", hide_env_values = true, value_name = "NAME")]
    pub(crate) name: Option<NodeName>,
    /// What runs the instances
    #[arg(long, value_enum, env = "CHASSIS_RUNTIME", hide_env_values = true, default_value = "docker")]
    pub(crate) runtime: Runtime,
    /// What it gives to instances; what is not named is all that the machine has, and 200 slots
    #[arg(
        long,
        value_name = "cpus=8,memory=16Gi,disk=100Gi,slots=200",
        value_parser = parse::capacity,
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) capacity: Capacity,
    /// Where it is, for those who want to be near
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<Box<str>>,
    /// A word about it, by which agents choose; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse::label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Where servers reach it, if something stands in front of the address that it listens at
    #[arg(long, value_name = "URL")]
    pub(crate) advertise: Option<ServerAddress>,
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
    /// Certificate to show, with its chain, in PEM; read again when it changes [default: one that the node makes]
    #[arg(long, env = "CHASSIS_TLS_CERT", hide_env_values = true, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, env = "CHASSIS_TLS_KEY", hide_env_values = true, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Whether to encrypt; `off` is for addresses that only this machine reaches
    #[arg(long, value_enum, value_name = "MODE", default_value = "on")]
    pub(crate) tls: TlsMode,
    /// Let `--tls off` show everything, the token and secrets too, to whoever is on the way: for a proxy in front that encrypts
    #[arg(long = "insecure-listen")]
    pub(crate) insecure: bool,
    /// Seed of what happens in the simulation
    #[arg(long, default_value_t = 0, hide = true)]
    pub(crate) sim_seed: u64,
}
