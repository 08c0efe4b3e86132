//! Where `chassis serve` listens besides its unix socket.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use chassis_server::{Role, SocketGroup};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[command(next_help_heading = "Over the network")]
pub(crate) struct Listen {
    /// Address and port to listen on, such as 0.0.0.0:7443 for all of this machine's; may be given several times
    #[arg(
        long = "listen",
        env = "CHASSIS_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS:PORT",
        value_delimiter = ',',
        value_parser = address
    )]
    pub(crate) addresses: Vec<SocketAddr>,
    #[command(flatten)]
    pub(crate) tls: TlsFlags,
    /// Let members of a group of this machine in by a socket of their own, `<server dir>.socket`, with a role in all fleets:
    /// viewer (the default), operator or admin
    #[arg(
        long,
        env = "CHASSIS_SOCKET_GROUP",
        hide_env_values = true,
        value_name = "NAME[=ROLE]",
        value_parser = group
    )]
    pub(crate) socket_group: Option<SocketGroup>,
    /// Connections over the network, at most [default: 2048]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_connections: Option<NonZeroUsize>,
    /// Connections from one address, at most [default: 512]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_connections_per_address: Option<NonZeroUsize>,
}

/// Who it shows itself to be, to servers and clients alike.
#[derive(Debug, Args)]
pub(crate) struct TlsFlags {
    /// Certificate to show, with its chain, in PEM; read again when it changes [default: one that it makes for itself]
    #[arg(
        id = "tls_cert",
        long = "tls-cert",
        env = "CHASSIS_TLS_CERT",
        hide_env_values = true,
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub(crate) cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(
        id = "tls_key",
        long = "tls-key",
        env = "CHASSIS_TLS_KEY",
        hide_env_values = true,
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub(crate) key: Option<PathBuf>,
    /// Whether to encrypt; `off` is for addresses that only this machine reaches
    #[arg(long = "tls", value_enum, value_name = "MODE", default_value = "on")]
    pub(crate) mode: TlsMode,
    /// Let `--tls off` show everything, tokens and secrets too, to whoever is on the way: for a proxy in front that encrypts
    #[arg(long = "insecure-listen")]
    pub(crate) insecure: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsMode {
    On,
    Off,
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "write an address and a port, such as 127.0.0.1:7443, 0.0.0.0:7443 for all of this machine's, or [::]:7443".to_owned()
    })
}

fn group(text: &str) -> Result<SocketGroup, String> {
    let (name, role) = text.split_once('=').unwrap_or_else(|| (text, Role::Viewer.word()));
    let role = role.parse::<Role>().map_err(|error| error.to_string())?;
    Ok(SocketGroup { name: name.to_owned(), role })
}
