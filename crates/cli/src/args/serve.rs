//! Flags of the server, and of the commands that look after it.

use std::path::PathBuf;

use chassis_server::{Cidr, Opening};
use chassis_spec::{Bytes, Strategy};
use clap::{Args, Subcommand};
use jiff::SignedDuration;

use super::{Environments, Listen, Output, RuntimeFlags};
use crate::parse;

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// This server's name where several share a database [default: the machine's]
    #[arg(long, env = "CHASSIS_SERVER_NAME", hide_env_values = true, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// The instances of the database were moved to this machine's Docker and data directory: take them over, once
    #[arg(long)]
    pub(crate) claim_node: bool,
    #[command(flatten)]
    pub(crate) runtime: RuntimeFlags,
    /// What a YAML may open beyond its agent's sandbox: privileged, host-network, host-pid, host-ipc, unconfined,
    /// all-capabilities, host-userns; with commas between. Also `CHASSIS_ALLOW`
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub(crate) allow: Vec<Opening>,
    /// Which of the nodes that have room an instance gets: the one with the most left (spread), or the least (binpack)
    #[arg(
        long,
        env = "CHASSIS_PLACEMENT",
        hide_env_values = true,
        value_name = "STRATEGY",
        default_value = "spread"
    )]
    pub(crate) placement: Strategy,
    /// How long requests that are being answered get to end when the server is told to. Also `ORCH_SHUTDOWN_TIMEOUT_SECONDS`
    #[arg(
        long,
        env = "CHASSIS_SHUTDOWN_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION",
        value_parser = parse::some_time
    )]
    pub(crate) shutdown_timeout: Option<SignedDuration>,
    /// The most snapshots that one environment may have; 0 for as many as it likes
    #[arg(
        long,
        env = "CHASSIS_SNAPSHOT_QUOTA",
        hide_env_values = true,
        value_name = "COUNT",
        default_value_t = 0
    )]
    pub(crate) snapshot_quota: u32,
    /// What the output of containers that are no more may take on the disk [default: 2Gi, or 5 % of the file system]
    #[arg(long, value_name = "SIZE")]
    pub(crate) kept_logs_max: Option<Bytes>,
    /// File with the token that may do everything over the network. Also `CHASSIS_MASTER_TOKEN`, with the token itself
    /// [default: `master-token` in the server's directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) master_token_file: Option<PathBuf>,
    /// Addresses that clients of the network may come from, as 10.0.0.0/8; may be given several times. Also
    /// `CHASSIS_ALLOW_FROM`, with commas between [default: from anywhere]
    #[arg(long, visible_alias = "allowed-cidrs", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) allow_from: Vec<Cidr>,
    /// Addresses of proxies whose `X-Forwarded-For` says who a client is; may be given several times. Also
    /// `CHASSIS_TRUSTED_PROXY`, with commas between
    #[arg(long, value_name = "CIDR")]
    pub(crate) trusted_proxy: Vec<Cidr>,
    /// Requests in each second that one API key may make for long; 0 for as many as it likes
    #[arg(
        long,
        env = "CHASSIS_RATE_LIMIT",
        hide_env_values = true,
        value_name = "COUNT",
        default_value_t = 200
    )]
    pub(crate) rate_limit: u32,
    /// How long rows of the audit log are kept; at least 1d
    #[arg(
        long,
        env = "CHASSIS_AUDIT_LOG_KEEP",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "365d",
        value_parser = parse::days_at_least_one
    )]
    pub(crate) audit_log_keep: SignedDuration,
    #[command(flatten)]
    pub(crate) environments: Environments,
    #[command(flatten)]
    pub(crate) listen: Listen,
    /// Belong to no terminal; what a command passes that starts a server
    #[arg(long, hide = true)]
    pub(crate) background: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// Show whether a server runs, and how
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// End the server; agents go on running
    Stop,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Bring the database of `DATABASE_URL`, or else of the data directory, up to date
    Migrate,
    /// Copy the database of a single server to Postgres, where several can serve it
    Copy(DbCopy),
}

#[derive(Debug, Args)]
pub(crate) struct DbCopy {
    /// The database to copy, which stays as it is; without it that of the data directory
    #[arg(long, value_name = "sqlite:PATH")]
    pub(crate) from: Option<String>,
    /// An empty Postgres database, without a password; `DATABASE_URL` without it
    #[arg(long, value_name = "postgres://…")]
    pub(crate) to: Option<String>,
}
