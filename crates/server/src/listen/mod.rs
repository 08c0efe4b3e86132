//! Where the server is reached: its unix socket, and TCP addresses, encrypted unless somebody insists.
//!
//! ```text
//!   accept ──slot──▶ TLS handshake ──▶ connection: HTTP/1.1, HTTP/2 ──ConnectInfo<Peer>──▶ router
//! ```
//! What holds:
//! - nothing is reachable from another machine without TLS, unless `insecure` was given;
//! - what a caller may hold before it is known is bounded (`limits`), in memory, connections and time, for each address;
//! - callers over TCP, and those of a group, take no slot of those at the unix socket, through which one can always look what is the matter;
//! - a new certificate takes effect with the next handshake, and ends no connection.

mod accept;
mod activity;
mod body;
mod connection;
mod group;
mod limits;
mod refusal;
mod tls;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chassis_api::{Certificate, Listening};
use chassis_core::Cidr;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener};

use crate::data_dir::DataDir;
use crate::error::{Error, Result};
use crate::options::{Listen, TlsFiles};

pub(crate) use accept::Serving;
use group::GroupDoor;
pub(crate) use limits::{body_time, is_head_large};
pub(crate) use tls::Certificates;

/// Everything that the server listens on, which nobody is served at yet.
#[derive(Debug)]
pub(crate) struct Doors {
    /// None for a node, which commands of this machine do not talk to.
    socket: Option<PathBuf>,
    group: Option<GroupDoor>,
    tcp: Vec<(StdTcpListener, SocketAddr)>,
    certificates: Option<Arc<Certificates>>,
    max_connections: usize,
    max_per_address: usize,
    /// Behind these are many callers: they count overall only.
    proxies: Vec<Cidr>,
}

/// What there is to say about them.
#[derive(Debug, Clone)]
pub(crate) struct DoorPlates {
    socket: Option<PathBuf>,
    group_socket: Option<PathBuf>,
    tcp: Vec<SocketAddr>,
    certificates: Option<Arc<Certificates>>,
}

impl Doors {
    /// Takes the TCP addresses, and reads or makes the certificate.
    pub(crate) fn open(options: &Listen, proxies: &[Cidr], data_dir: &DataDir) -> Result<Doors> {
        let certificates = match &options.tls {
            _ if options.addresses.is_empty() => None,
            TlsFiles::Own => Some(Certificates::own(&data_dir.server_dir().join("tls"), &options.addresses)?),
            TlsFiles::Given { certificate, key } => Some(Certificates::given(certificate, key)?),
            TlsFiles::Off => None,
        };
        if certificates.is_none() && !options.insecure {
            let open = options.addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
            if let Some(address) = open {
                return Err(Error::Unencrypted { address: *address });
            }
        }
        let tcp = options.addresses.iter().map(|address| bind(*address)).collect::<Result<_>>()?;
        let files = raise_file_limit();
        Ok(Doors {
            socket: Some(data_dir.socket()),
            group: options.group.as_ref().map(|group| GroupDoor::new(group, data_dir)).transpose()?,
            tcp,
            certificates: certificates.map(Arc::new),
            max_connections: options.max_connections.unwrap_or(limits::OVERALL).min(files / 2),
            max_per_address: options.max_connections_per_address.unwrap_or(limits::PER_ADDRESS),
            proxies: proxies.to_vec(),
        })
    }

    /// The first TCP address, with the port that it got.
    pub(crate) fn first_address(&self) -> Option<SocketAddr> {
        self.tcp.first().map(|(_, address)| *address)
    }

    /// Without the unix socket.
    pub(crate) fn tcp_only(mut self) -> Doors {
        self.socket = None;
        self
    }

    pub(crate) fn plates(&self) -> DoorPlates {
        DoorPlates {
            socket: self.socket.clone(),
            group_socket: self.group.as_ref().map(|group| group.path.clone()),
            tcp: self.tcp.iter().map(|(_, address)| *address).collect(),
            certificates: self.certificates.clone(),
        }
    }
}

impl DoorPlates {
    pub(crate) fn describe(&self) -> Vec<Listening> {
        let local =
            |path: &PathBuf| Listening { address: format!("unix://{}", path.display()), certificate: None };
        let certificate = self.certificates.as_ref().map(|certificates| certificates.describe());
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let tcp = self.tcp.iter().map(|address| Listening {
            address: format!("{scheme}://{address}"),
            certificate: certificate.clone(),
        });
        let group = self.group_socket.as_ref().map(local);
        self.socket.iter().map(local).chain(tcp).chain(group).collect()
    }

    /// Says at the start where the server is, and by what it is known.
    pub(crate) fn announce(&self) {
        let all = self.describe().into_iter();
        for Listening { address, certificate } in all.skip(self.socket.iter().len()) {
            if address.starts_with("unix:") {
                tracing::info!("listening on {address}, for its group");
                continue;
            }
            let Some(Certificate { fingerprint, expires_at, .. }) = certificate else {
                tracing::warn!("listening on {address}, unencrypted");
                continue;
            };
            tracing::info!(%fingerprint, %expires_at, "listening on {address}");
        }
    }

    /// Takes away the sockets, which nobody answers at any more.
    pub(crate) fn take_down(&self) {
        for path in self.socket.iter().chain(&self.group_socket) {
            let _ = fs::remove_file(path);
        }
    }

    pub(crate) fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }
}

fn bind(address: SocketAddr) -> Result<(StdTcpListener, SocketAddr)> {
    let bound = || {
        let listener = StdTcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound().map_err(|source| Error::ListenTcp { address, source })
}

/// Listens on the socket, which only this user can reach, or members of the group too. One that a killed server left is in the
/// way and nobody's: the lock is ours.
fn bind_socket(path: &Path, group: Option<u32>) -> Result<UnixListener> {
    let failed = |source: io::Error| Error::Listen { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // The group first: nobody but the owner may come in before.
    if group.is_some() {
        chown(path, None, group).map_err(failed)?;
    }
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

fn tokio_listener(listener: StdTcpListener, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::from_std(listener).map_err(|source| Error::ListenTcp { address, source })
}

/// As many files as this user may have, of which shells allow few at first. Returns how many.
fn raise_file_limit() -> usize {
    let given = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: given.maximum, maximum: given.maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { given.maximum } else { given.current };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}
