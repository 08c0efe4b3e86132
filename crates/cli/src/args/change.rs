//! Flags of the commands that change what is wanted: create, deploy, scale, upgrade, start, stop, delete, apply.

use std::path::PathBuf;

use chassis_spec::{AgentName, FleetName, ImageName};
use clap::{Args, Subcommand};
use jiff::SignedDuration;

use super::show::Selector;
use crate::parse;

#[derive(Debug, Subcommand)]
pub(crate) enum Create {
    /// Create an empty fleet
    Fleet {
        name: FleetName,
        /// Label to put on the fleet; may be given several times
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse::label)]
        label: Vec<(String, String)>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Deploy {
    /// Deploy the agents that files describe
    Agent(DeployAgent),
}

#[derive(Debug, Args)]
pub(crate) struct DeployAgent {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Fleet, if the YAML names none [default: the only fleet there is]
    #[arg(long)]
    pub(crate) fleet: Option<FleetName>,
    /// Number of instances, instead of the YAML's
    #[arg(long, value_name = "COUNT")]
    pub(crate) replicas: Option<u32>,
    /// Show what would change, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Files {
    /// YAML file, or - for standard input; may be given several times
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) file: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Do not wait until the instances are there
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Stop waiting after this time; the change itself goes on
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse::duration)]
    pub(crate) timeout: SignedDuration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Scale {
    /// Scale the agent of a fleet
    Fleet {
        name: FleetName,
        count: u32,
        /// Agent, if the fleet has several
        #[arg(long)]
        agent: Option<AgentName>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Scale an agent, as `agent` or `fleet/agent`
    Agent {
        name: String,
        count: u32,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Upgrade {
    /// Give an agent another image, or what its image's name means by now
    Agent(UpgradeAgent),
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["image", "refresh"])]
pub(crate) struct UpgradeAgent {
    /// `data-collector`, or `collector/data-collector`
    pub(crate) name: String,
    /// Image to run from now on
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<ImageName>,
    /// Ask the registry what the image's name means by now
    #[arg(long)]
    pub(crate) refresh: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Names (`data-collector-1`), or a kind and names (`fleet collector`, `agent data-collector`)
    #[arg(value_name = "[KIND] NAME", num_args = 1.., required_unless_present = "labels")]
    pub(crate) target: Vec<String>,
    #[command(flatten)]
    pub(crate) selector: Selector,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Delete {
    /// Delete an agent with all its instances, or one instance
    Agent {
        /// Agent or instance: data-collector, data-collector-5
        id: String,
        /// Delete its data too
        #[arg(long)]
        cleanup: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Delete one instance, and so lower its agent's count
    Instance {
        /// data-collector-5
        id: String,
        /// Delete its data too
        #[arg(long)]
        cleanup: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Delete a fleet and its agents
    Fleet {
        name: FleetName,
        /// Delete its data too
        #[arg(long)]
        cleanup: bool,
        /// The fleet's name again, where nobody can be asked for it
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Delete agents of these fleets that the files do not declare; their data is kept
    #[arg(long)]
    pub(crate) prune: bool,
    /// Show what would change, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) files: Files,
    /// As with `apply --prune`
    #[arg(long)]
    pub(crate) prune: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Validate {
    #[command(flatten)]
    pub(crate) files: Files,
}
