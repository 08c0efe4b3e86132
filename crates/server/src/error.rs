//! Why a server cannot start or go on.

pub(crate) use chassis_runtime::chain;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the data directory {}; choose another with --data-dir or CHASSIS_DATA_DIR", path.display())]
    DataDir { path: PathBuf, source: io::Error },
    #[error(
        "another server (pid {pid}) runs on {}; `chassis server status` asks it, `chassis server stop` ends it",
        path.display()
    )]
    AlreadyServed { path: PathBuf, pid: String },
    #[error(
        "another server uses the data directory {}, with a database of its own or another one; servers share a data \
         directory only if all of them are started with the same DATABASE_URL",
        path.display()
    )]
    DataDirInUse { path: PathBuf },
    #[error(
        "the instances of {} run on {found}, not on {runtime}; start it with `--runtime {found}`, or choose another data \
         directory with --data-dir",
        path.display()
    )]
    OtherRuntime { path: PathBuf, found: String, runtime: &'static str },
    #[error("cannot listen on {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error(
        "there is no group `{name}` in /etc/group; make it with `groupadd {name}`, or give its number to --socket-group"
    )]
    NoGroup { name: String },
    #[error("cannot read or write the master token in {}; give another with --master-token-file", path.display())]
    MasterToken { path: PathBuf, source: io::Error },
    #[error(
        "the master token has {length} characters; give at least {least}, as `openssl rand -hex 32` makes them"
    )]
    MasterTokenWeak { length: usize, least: usize },
    #[error("cannot read or write the node's token in {}; remove it, and the next start makes another", path.display())]
    NodeToken { path: PathBuf, source: io::Error },
    #[error("`{name}` cannot be the node's name; give one with --name")]
    NodeName { name: String, source: chassis_core::node::InvalidNodeName },
    #[error("a node is reached over the network; give the address with --listen, such as 0.0.0.0:7443")]
    NoAddress,
    #[error("cannot find out what this machine has")]
    Machine(#[source] io::Error),
    #[error("nodes have amd64 or arm64 processors, and this machine has neither")]
    Architecture,
    #[error("the random number generator of the system does not answer")]
    NoRandomness,
    #[error("cannot listen on {address}; {}", listen_hint(source))]
    ListenTcp { address: SocketAddr, source: io::Error },
    #[error(
        "{address} can be reached from other machines, and --tls off would show them everything, tokens too; leave out \
         --tls off, or name a certificate with --tls-cert and --tls-key; if something in front of it encrypts, say \
         --insecure-listen"
    )]
    Unencrypted { address: SocketAddr },
    #[error("cannot use the certificate or key {}", path.display())]
    Certificate { path: PathBuf, source: io::Error },
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    #[error("cannot open the server's state")]
    Store(#[from] chassis_store::Error),
    #[error("cannot set up the runtime")]
    Runtime(#[from] chassis_runtime::Error),
    #[error("{variable} is not the address of a collector; write http://host:port or https://host:port")]
    Traces { variable: &'static str },
    #[error("cannot set up TLS for the collector of traces")]
    CollectorTls(#[source] rustls::Error),
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
}

fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "ports below 1024 are root's: --listen takes another",
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: `ip addr` shows those that it has"
        }
        _ => "`ss -ltnp` shows who does, and --listen takes another",
    }
}

impl Error {
    /// A word for programs; never changes for a variant.
    pub fn code(&self) -> &'static str {
        match self {
            Error::DataDir { .. } => "data_dir_unusable",
            Error::AlreadyServed { .. } => "already_served",
            Error::DataDirInUse { .. } => "data_dir_in_use",
            Error::OtherRuntime { .. } => "other_runtime",
            Error::NoGroup { .. } => "no_group",
            Error::MasterToken { .. } => "master_token_unusable",
            Error::MasterTokenWeak { .. } => "master_token_weak",
            Error::NodeToken { .. } => "node_token_unusable",
            Error::NodeName { .. } => "node_name",
            Error::NoAddress => "no_address",
            Error::Machine(_) => "machine_unknown",
            Error::Architecture => "architecture_unknown",
            Error::NoRandomness => "no_randomness",
            Error::Listen { .. } | Error::ListenTcp { .. } => "cannot_listen",
            Error::Unencrypted { .. } => "listen_unencrypted",
            Error::Certificate { .. } => "certificate_unusable",
            Error::Tls(_) => "tls",
            Error::Store(error) => error.code(),
            Error::Runtime(_) => "runtime_unusable",
            Error::Traces { .. } => "traces_misconfigured",
            Error::CollectorTls(_) => "collector_tls",
            Error::Signals(_) => "signals",
        }
    }
}
