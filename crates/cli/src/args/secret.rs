//! Flags of `chassis secret`.

use std::path::PathBuf;

use chassis_spec::FleetName;
use clap::Subcommand;

use super::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Store a secret, from a file or standard input
    Create {
        /// `fleet/name`, or `name` if there is only one fleet
        name: String,
        /// File with the value, or - for standard input
        #[arg(long, value_name = "PATH")]
        from_file: Option<PathBuf>,
        /// Replace the secret if there is one
        #[arg(long)]
        replace: bool,
        /// Takes a value that somebody put on the command line, to say why that is refused.
        #[arg(hide = true)]
        value: Option<String>,
        #[arg(long, alias = "value", hide = true)]
        from_literal: Option<String>,
    },
    /// List secrets; never their values
    List {
        fleet: Option<FleetName>,
        #[command(flatten)]
        output: Output,
    },
    /// Delete a secret
    Delete {
        /// `fleet/name`, or `name` if there is only one fleet
        name: String,
    },
    /// Encrypt all secrets with a new key
    RotateKey {
        /// File with the new key (64 hex digits), or - for standard input [default: a random one]
        #[arg(long, value_name = "PATH")]
        new_key_file: Option<PathBuf>,
    },
}
