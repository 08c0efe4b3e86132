//! Arguments of the commands about who may do what, and who did.

use chassis_api::Role;
use chassis_spec::{ApiKeyName, FleetName};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};

use super::Output;
use crate::parse;

#[derive(Debug, Subcommand)]
pub(crate) enum ApiKey {
    /// Make a key, and print it: once, and never again
    Create {
        /// What it is called in lists and in the audit log
        name: ApiKeyName,
        /// What it may do: viewer, operator or admin
        #[arg(long)]
        role: Role,
        /// Fleet in which it may; may be given several times [default: all, and those to come]
        #[arg(long, value_name = "NAME")]
        fleet: Vec<FleetName>,
        /// How long it is good for, as 90d or 12h [default: until it is revoked]
        #[arg(long, value_name = "DURATION", value_parser = parse::days)]
        expires: Option<SignedDuration>,
        #[command(flatten)]
        output: Output,
    },
    /// List keys; never the keys themselves
    List {
        #[command(flatten)]
        output: Output,
    },
    /// End a key at once, and what was opened with it
    Revoke { name: ApiKeyName },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AuditLog {
    #[command(subcommand)]
    pub(crate) command: Option<AuditLogCommand>,
    /// Only what came after this time, as 10m, 1h30m or 2026-11-22T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse::since)]
    pub(crate) since: Option<Timestamp>,
    /// The newest so many rows, at most 1000
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditLogCommand {
    /// Check that every row is as it was written; exits 1 and names the first that is not
    Verify {
        /// A head that this command printed earlier: proves that nothing up to it was written anew
        #[arg(long, value_name = "ID:HASH", value_parser = parse::audit_head)]
        noted: Option<String>,
    },
}
