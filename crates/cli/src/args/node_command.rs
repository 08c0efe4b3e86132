//! Flags of the commands about nodes.

use std::path::PathBuf;

use chassis_api::Fingerprint;
use chassis_server::{Capacity, NodeName};
use clap::{Args, Subcommand};
use jiff::SignedDuration;

use super::Output;
use crate::parse;

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Show the machines that run instances
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show everything about a node, and what it has
    Describe {
        #[arg(value_name = "NODE")]
        name: NodeName,
        #[command(flatten)]
        output: Output,
    },
    /// Have a machine run instances, on which `chassis node --listen` runs; again, to ask it in another way
    Join(NodeJoinArgs),
    /// Put nothing new on a node; it keeps what it has
    Cordon {
        #[arg(value_name = "NODE")]
        name: NodeName,
    },
    /// Put instances on a node again, also on one that was drained
    Uncordon {
        #[arg(value_name = "NODE")]
        name: NodeName,
    },
    /// Have what a node has go elsewhere
    Drain(NodeDrainArgs),
    /// Forget a node that has nothing any more, or whose machine is gone for good
    Remove {
        #[arg(value_name = "NODE")]
        name: NodeName,
        /// Its machine is gone for good: make what it had anew elsewhere, without its data; environments on it end
        #[arg(long)]
        force: bool,
        /// Do not ask whether that is meant
        #[arg(long, requires = "force")]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NodeJoinArgs {
    /// As `chassis node` prints it, such as <https://10.0.0.7:7443>
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// The node's token is in this file [default: `CHASSIS_NODE_TOKEN`]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// What its certificate must be, as `chassis node` prints it [default: one that the server's machine believes]
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// What it is called here [default: as it calls itself]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<NodeName>,
    /// A label besides its own; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse::label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Where it is, instead of what it says
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// What of it is given to instances, instead of what it says
    #[arg(
        long,
        value_name = "cpus=8,memory=16Gi,disk=100Gi,slots=200",
        value_parser = parse::capacity,
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) capacity: Capacity,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct NodeDrainArgs {
    #[arg(value_name = "NODE")]
    pub(crate) name: NodeName,
    /// After so long, as 10m, stop what could not go elsewhere too [default: never]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    pub(crate) deadline: Option<SignedDuration>,
    /// How many may be on their way at once
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) parallelism: u32,
    /// Wait until it has nothing any more
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, requires = "wait", default_value = "15m")]
    pub(crate) timeout: SignedDuration,
}
