//! What a server is started with.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chassis_core::{Opening, Role};
use chassis_spec::{ImageName, RuntimeKind, Strategy};
use chassis_store::PostgresOptions;
use zeroize::Zeroizing;

use crate::auth::AccessOptions;
use crate::download::DownloadOptions;

/// Everything a server needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// The root of all state.
    pub data_dir: PathBuf,
    /// Where this server has its socket, lock and log; without it, the directory that servers of the data directory share.
    pub server_dir: Option<PathBuf>,
    /// The database that several servers share; without it the state is in the data directory.
    pub database: Option<PostgresOptions>,
    /// What this server is called where there are several.
    pub server_name: String,
    /// The instances were moved to this node: take it for theirs from now on.
    pub claim_node: bool,
    pub runtime: RuntimeChoice,
    /// Host paths that `volumes[].hostPath` may lie in.
    pub allowed_host_paths: Vec<PathBuf>,
    /// What a YAML may open beyond its agent's sandbox.
    pub allowed: BTreeSet<Opening>,
    /// Where the seccomp profiles are that a YAML may name.
    pub seccomp_dir: PathBuf,
    /// Which node an instance gets that several could take, where its YAML does not say it.
    pub placement: Strategy,
    /// The most snapshots that one environment may have; 0 for as many as it likes.
    pub snapshot_quota: u32,
    pub environments: EnvironmentOptions,
    /// How long requests that are being answered get to end when the server is told to.
    pub shutdown_timeout: Duration,
    /// What the output of containers that are no more may take, in bytes; without it 2 GiB, or a twentieth of the file
    /// system if that is less.
    pub kept_logs_max: Option<u64>,
    /// 64 hex digits; without it a key file in the data directory is used.
    pub encryption_key: Option<Zeroizing<String>>,
    /// Who may call, and from where.
    pub access: AccessOptions,
    /// Where it listens, besides its unix socket.
    pub listen: Listen,
    /// A command started this server and no terminal belongs to it.
    pub background: bool,
}

/// What holds for environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentOptions {
    /// What those run that name no image.
    pub image: Option<ImageName>,
    /// What their ids begin with.
    pub prefix: String,
    /// Seconds of a startup script that names none.
    pub startup_script: u32,
    /// Seconds of a startup script, at most.
    pub startup_script_most: u32,
    /// What may be fetched for their agents.
    pub downloads: DownloadOptions,
    /// The cookie of a session is for https alone, whether or not this server encrypts.
    pub secure_cookies: bool,
}

/// TCP addresses, and how what is said there is protected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listen {
    pub addresses: Vec<SocketAddr>,
    pub tls: TlsFiles,
    /// Listen unencrypted where other machines come in.
    pub insecure: bool,
    /// A group of this machine whose members have a role, by a socket of their own.
    pub group: Option<SocketGroup>,
    /// Connections over TCP, at most; 2048 without it, and never more than half of the files that the process may open.
    pub max_connections: Option<usize>,
    /// Those from one address; 512 without it.
    pub max_connections_per_address: Option<usize>,
}

/// Who besides root and the server's own user comes in on this machine, and what they may do, in all fleets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketGroup {
    /// A name in `/etc/group`, or a number.
    pub name: String,
    pub role: Role,
}

/// Where the certificate comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TlsFiles {
    /// The server makes one for itself.
    #[default]
    Own,
    /// PEM files that somebody looks after; read again when they change.
    Given { certificate: PathBuf, key: PathBuf },
    /// None: in the clear.
    Off,
}

/// How the local node runs instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// With `host` as in `DOCKER_HOST`; the local socket without it.
    Docker { host: Option<String> },
    /// In memory, for trying things out and for tests of scale.
    Sim { seed: u64 },
}

impl RuntimeChoice {
    pub(crate) fn kind(&self) -> RuntimeKind {
        match self {
            RuntimeChoice::Docker { .. } => RuntimeKind::Docker,
            RuntimeChoice::Sim { .. } => RuntimeKind::Sim,
        }
    }

    /// `docker` or `sim`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            RuntimeChoice::Docker { .. } => "docker",
            RuntimeChoice::Sim { .. } => "sim",
        }
    }
}
