//! Flags of a node, which runs instances for servers elsewhere.

use std::net::SocketAddr;

use chassis_client::ServerAddress;
use chassis_server::{Capacity, NodeName};
use clap::Args;
use jiff::SignedDuration;

use super::{NodeCommand, RuntimeFlags, TlsFlags};
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
    #[command(flatten)]
    pub(crate) runtime: RuntimeFlags,
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
    /// Start what crashes without being told to when no server has been heard for this long, 10s or more
    #[arg(long, value_name = "TIME", value_parser = parse::alone, default_value = "30s")]
    pub(crate) alone_after: SignedDuration,
    #[command(flatten)]
    pub(crate) tls: TlsFlags,
}
