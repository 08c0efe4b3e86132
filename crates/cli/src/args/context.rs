//! Servers that commands talk to, by name.

use std::path::PathBuf;

use chassis_api::Fingerprint;
use clap::{Args, Subcommand};

use super::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Remember the server that `--server` names
    Add(ContextAdd),
    /// Talk to this server from now on; `local` is the one of this machine
    Use { name: String },
    /// List the servers that are known by name
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show what is known of a server
    Show {
        /// [default: the one in use]
        name: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Forget a server, and its token
    Remove { name: String },
}

#[derive(Debug, Args)]
pub(crate) struct ContextAdd {
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// File to read the token from, each time it is needed
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// By what a server is known; by this machine's certificate authorities otherwise.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// Fingerprint of its certificate, as `chassis server status` shows it there
    #[arg(long, value_name = "SHA256", conflicts_with = "ca")]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// File with the certificate of the authority that vouches for it, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// A context, or an address as `https://host:port` [default: the context in use]
    pub(crate) target: Option<String>,
    /// Name for the address [default: its host]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// File to take the token from, or - for standard input [default: ask]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// [default: the context in use]
    pub(crate) context: Option<String>,
}
