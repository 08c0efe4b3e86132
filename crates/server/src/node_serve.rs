//! Serves this machine's runtime to servers elsewhere: what `chassis node` does. Instances go on running when it ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chassis_api::Fingerprint;
use chassis_core::{Amounts, NodeName, NodeSpec};
use chassis_node::Host;
use chassis_runtime::Runtime;
use chassis_spec::RuntimeKind;
use prometheus_client::metrics::counter::Counter;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

use crate::auth::node_token;
use crate::data_dir::{DataDir, DataDirLock};
use crate::error::{Error, Result};
use crate::listen::{Certificates, Doors, Serving};
use crate::node::directory_id;
use crate::options::{Listen, RuntimeChoice};
use crate::serve::{DRAIN, has_terminal, runtime_make};

/// Everything that a node needs to know before it starts.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    pub data_dir: DataDir,
    pub runtime: RuntimeChoice,
    /// Host paths that `volumes[].hostPath` may lie in.
    pub allowed_host_paths: Vec<PathBuf>,
    /// Where the seccomp profiles are that a YAML may name.
    pub seccomp_dir: PathBuf,
    pub listen: Listen,
    /// The machine's own without it.
    pub name: Option<NodeName>,
    /// What it gives to instances, where that is not all that it has.
    pub capacity: Capacity,
    pub region: Option<Box<str>>,
    pub labels: BTreeMap<String, String>,
    /// Where servers reach it, if that is not where it listens.
    pub advertise: Option<String>,
    /// Without a server for this long, it keeps its instances running by itself.
    pub alone_after: Duration,
}

/// What of a machine's capacity somebody has decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    pub cpu_millis: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    pub slots: Option<u64>,
}

/// A node that is served.
#[derive(Debug)]
pub struct NodeServer {
    serving: Serving,
    tasks: [AbortHandle; 2],
    certificates: Option<Arc<Certificates>>,
    name: NodeName,
    url: String,
    token: Zeroizing<String>,
    token_file: PathBuf,
}

/// A data directory that is this process's.
#[derive(Debug)]
struct Home {
    _lock: DataDirLock,
    id: String,
}

impl Home {
    fn take(options: &NodeOptions) -> Result<Home> {
        let data_dir = &options.data_dir;
        let lock = data_dir.lock(false)?;
        data_dir.claim_runtime(options.runtime.name())?;
        let id = directory_id(&data_dir.node_file());
        let id = id.map_err(|source| Error::DataDir { path: data_dir.root().to_owned(), source })?;
        Ok(Home { _lock: lock, id })
    }
}

/// Serves until SIGTERM or SIGINT. `say` is told where, as soon as it is.
pub async fn node_serve(options: NodeOptions, say: impl FnOnce(&NodeServer)) -> Result<()> {
    let home = Home::take(&options)?;
    let runtime = runtime_make(
        &options.runtime,
        &options.data_dir,
        &home.id,
        &options.allowed_host_paths,
        &options.seccomp_dir,
    )?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    let server = NodeServer::new(&options, &home.id, Arc::clone(&runtime))?;
    if let Some(certificates) = &server.certificates {
        tokio::spawn(Arc::clone(certificates).keep_current());
    }
    say(&server);
    tracing::info!(data_dir = %options.data_dir.root().display(), runtime = options.runtime.name(), "serving as a node");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell systemd that the node is ready");
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                if has_terminal() {
                    break;
                }
                if let Some(certificates) = &server.certificates {
                    certificates.look.notify_one();
                }
            }
        }
    }
    tracing::info!("ending; instances go on running");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    server.serving.end(DRAIN).await;
    runtime.settle().await;
    Ok(())
}

impl NodeServer {
    /// Serves a runtime in a data directory that nobody else uses.
    pub fn start(options: &NodeOptions, runtime: Arc<dyn Runtime>) -> Result<NodeServer> {
        let root = options.data_dir.root();
        let failed = |source| Error::DataDir { path: root.to_owned(), source };
        std::fs::create_dir_all(options.data_dir.server_dir()).map_err(failed)?;
        let id = directory_id(&options.data_dir.node_file()).map_err(failed)?;
        NodeServer::new(options, &id, runtime)
    }

    fn new(options: &NodeOptions, id: &str, runtime: Arc<dyn Runtime>) -> Result<NodeServer> {
        let data_dir = &options.data_dir;
        let spec = spec(options)?;
        let name = spec.name.clone();
        let token_file = data_dir.node_token();
        let token = node_token(&token_file)?;
        // A server has a connection for each stream, and all of them come from one address.
        let listen = Listen { max_connections_per_address: Some(usize::MAX), ..options.listen.clone() };
        let doors = Doors::open(&listen, &[], data_dir)?.tcp_only();
        let plates = doors.plates();
        let address = doors.first_address().ok_or(Error::NoAddress)?;
        let certificates = plates.certificates().cloned();
        let directory = data_dir.server_dir().to_owned();
        let lease = chassis_runtime::lease_directory(data_dir.root());
        let alone_after = options.alone_after;
        let host = chassis_node::Options { spec, id: id.to_owned(), directory, lease, alone_after };
        let host = Host::open(runtime, host, &token)
            .map_err(|source| Error::DataDir { path: data_dir.root().to_owned(), source })?;
        let serving = Serving::start(doors, &chassis_node::router(Arc::clone(&host)), Counter::default())?;
        let leases = tokio::spawn(Arc::clone(&host).leases_enforce()).abort_handle();
        let keeper = tokio::spawn(host.instances_keep()).abort_handle();
        plates.announce();
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let url = options.advertise.clone().unwrap_or_else(|| format!("{scheme}://{}", reachable(address)));
        Ok(NodeServer { serving, tasks: [leases, keeper], certificates, name, url, token, token_file })
    }

    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// Where servers reach it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Of its certificate; none if it is reached without encryption.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.certificates.as_ref().map(|certificates| certificates.describe().fingerprint)
    }

    /// True if it made its certificate itself, so that nobody vouches for it.
    pub fn is_certificate_own(&self) -> bool {
        self.certificates.as_ref().is_some_and(|certificates| certificates.describe().generated)
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn token_file(&self) -> &std::path::Path {
        &self.token_file
    }

    /// Cuts what goes on.
    pub async fn end(self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.serving.end(Duration::ZERO).await;
    }
}

fn spec(options: &NodeOptions) -> Result<NodeSpec> {
    let machine = chassis_node::machine(options.data_dir.root()).map_err(Error::Machine)?;
    let name = if let Some(name) = &options.name {
        name.clone()
    } else {
        let name = machine.host_name;
        name.parse().map_err(|source| Error::NodeName { name, source })?
    };
    let (wanted, found) = (options.capacity, machine.capacity);
    let capacity = Amounts {
        cpu_millis: wanted.cpu_millis.unwrap_or(found.cpu_millis),
        memory_bytes: wanted.memory_bytes.unwrap_or(found.memory_bytes),
        disk_bytes: wanted.disk_bytes.unwrap_or(found.disk_bytes),
        slots: wanted.slots.unwrap_or(found.slots),
    };
    let kind = match options.runtime {
        RuntimeChoice::Docker { .. } => RuntimeKind::Docker,
        RuntimeChoice::Sim { .. } => RuntimeKind::Sim,
    };
    Ok(NodeSpec {
        name,
        capacity,
        architecture: machine.architecture.ok_or(Error::Architecture)?,
        runtimes: [kind].into(),
        region: options.region.clone(),
        labels: options.labels.clone(),
    })
}

/// The same, or this machine's own address where it listens at all of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    // Nothing is sent: the kernel only says from where it would be. The addresses are for documentation.
    let (from, to): (SocketAddr, SocketAddr) = if address.is_ipv4() {
        ((IpAddr::from([0, 0, 0, 0]), 0).into(), (IpAddr::from([192, 0, 2, 1]), 9).into())
    } else {
        ((IpAddr::from([0u16; 8]), 0).into(), (IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]), 9).into())
    };
    let own = UdpSocket::bind(from).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    own.map_or(address, |own| SocketAddr::new(own.ip(), address.port()))
}
