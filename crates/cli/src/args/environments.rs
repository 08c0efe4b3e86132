//! Arguments about environments: flags of their server, and the commands that look after them.

use std::path::PathBuf;

use chassis_server::DownloadSource;
use chassis_spec::{AgentName, Bytes, ImageName};
use clap::{Args, Subcommand};
use jiff::SignedDuration;

use super::Output;
use crate::parse;

#[derive(Debug, Args)]
#[command(next_help_heading = "Environments")]
pub(crate) struct Environments {
    /// What environments run that are made at /v1/environments and name no image
    #[arg(long, env = "CHASSIS_ENVIRONMENT_IMAGE", hide_env_values = true, value_name = "IMAGE")]
    pub(crate) environment_image: Option<ImageName>,
    /// What the ids of environments begin with, before their task's
    #[arg(
        long,
        env = "ORCH_VM_PREFIX",
        hide_env_values = true,
        value_name = "TEXT",
        default_value = "fuse-"
    )]
    pub(crate) vm_prefix: String,
    /// How long a startup script may take that names no time
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse::startup)]
    pub(crate) startup_script_timeout: u32,
    /// How long a startup script may take at most
    #[arg(long, value_name = "DURATION", default_value = "55s", value_parser = parse::startup)]
    pub(crate) max_startup_script_timeout: u32,
    /// Program that is fetched for an agent that has a place for one, and no address. Also `AGENT_DOWNLOAD_URL`
    #[arg(long, value_name = "URL", requires = "agent_download_sha256")]
    pub(crate) agent_download_url: Option<String>,
    /// What it must be: its SHA-256, in hex
    #[arg(long, env = "AGENT_DOWNLOAD_SHA256", hide_env_values = true, value_name = "HEX")]
    pub(crate) agent_download_sha256: Option<String>,
    /// Host, address or block of addresses that agents may be fetched from though it is not public; may be given several
    /// times. Also `CHASSIS_AGENT_DOWNLOAD_ALLOW`, with commas between
    #[arg(long, value_name = "HOST|CIDR", value_delimiter = ',')]
    pub(crate) agent_download_allow: Vec<DownloadSource>,
    /// Let agents be fetched in the clear, by http; they have a checksum all the same
    #[arg(long, env = "CHASSIS_AGENT_DOWNLOAD_HTTP", hide_env_values = true)]
    pub(crate) agent_download_http: bool,
    /// The most that one may have
    #[arg(
        long,
        env = "CHASSIS_AGENT_DOWNLOAD_MAX",
        hide_env_values = true,
        value_name = "SIZE",
        default_value = "64Mi",
        value_parser = parse::download
    )]
    pub(crate) agent_download_max: Bytes,
    /// How long fetching one may take
    #[arg(
        long,
        env = "CHASSIS_AGENT_DOWNLOAD_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = parse::some_time
    )]
    pub(crate) agent_download_timeout: SignedDuration,
    /// Mark the cookie of `/login` as one for https alone, though this server does not encrypt: for a proxy in front that does
    #[arg(long, env = "ORCH_SECURE_COOKIES", hide_env_values = true)]
    pub(crate) secure_cookies: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentProfileCommand {
    /// Keep the agents of files, instead of those that have their names
    Apply {
        /// YAML or JSON file with profiles, or - for standard input; may be given several times
        #[arg(short, long, value_name = "PATH", required = true)]
        file: Vec<PathBuf>,
    },
    /// List the agents that environments can choose
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show one; never its tokens, and what is in its files
    Describe {
        name: AgentName,
        #[command(flatten)]
        output: Output,
    },
    /// Forget one; environments that run it keep it
    Delete { name: AgentName },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    /// List environments that were given up
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Make the environment of one again, of what was asked for then
    Redrive {
        /// `kind/environment`, as they are listed; the environment alone if it has only one
        letter: String,
    },
    /// Forget one
    Delete {
        /// `kind/environment`, as they are listed; the environment alone if it has only one
        letter: String,
    },
}
