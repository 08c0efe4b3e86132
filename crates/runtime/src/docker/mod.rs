//! Instances as hardened Docker containers.
//!
//! What this server made carries a label with its id; nothing else is ever changed. Names come second: a container of
//! the right name without the label is somebody else's.

mod body;
mod confine;
mod events;
mod exec;
mod facts;
mod failure;
mod firewall;
mod host_paths;
mod image_check;
mod images;
mod instances;
mod labels;
mod limits;
mod links;
mod logs;
mod mounts;
mod networks;
mod observe;
mod port;
mod posture;
mod refresh;
mod report;
mod secrets;
mod stats;
mod transport;
mod users;
mod volumes;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bollard::Docker;
use bollard::errors::Error as DockerError;
use chassis_core::audit::Posture;
use chassis_core::{InstanceKey, Observed, Pin, Usage};
use chassis_spec::{AgentSpec, FleetName, ImageName, Resources};
use futures_util::stream::BoxStream;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

pub use self::report::{DockerReport, docker_containers, docker_report};

use self::facts::Facts;
use self::firewall::Firewall;
use self::host_paths::HostPaths;
use self::images::Images;
use self::instances::Known;
use self::links::Link;
use self::secrets::SecretFiles;
use self::transport::Address;
use self::users::Users;
use crate::tier1::Tier1;
use crate::{
    Error, Exec, ExecOptions, Image, InstanceConfig, InstanceSecrets, LogChunk, LogOptions, Owned,
    PortStream, PullProgress, Result, Runtime, RuntimeEvent, RuntimeInfo,
};

/// What a Docker runtime needs to know.
#[derive(Debug, Clone)]
pub struct DockerOptions {
    /// As in `DOCKER_HOST`: `unix:///path` or `tcp://host:port`; without it, Docker's own default.
    pub docker_host: Option<String>,
    /// The root of tier 1.
    pub data_dir: PathBuf,
    /// Tells this server's containers from others'.
    pub server_id: String,
    /// Paths of the host that agents may mount, with all that is in them.
    pub allowed_host_paths: Vec<PathBuf>,
    /// Where the seccomp profiles are that a YAML may name.
    pub seccomp_dir: PathBuf,
}

/// Runs instances on a Docker Engine.
#[derive(Debug)]
pub struct DockerRuntime(Arc<Daemon>);

/// What all operations share.
#[derive(Debug)]
pub(crate) struct Daemon {
    address: Address,
    server_id: String,
    host_paths: HostPaths,
    seccomp_dir: PathBuf,
    /// What the daemon said of itself when it was last asked.
    facts: Mutex<Option<Arc<Facts>>>,
    /// The user of every agent, if the server is not root and can give files to no other.
    only_user: Option<String>,
    tier1: Tier1,
    secret_files: SecretFiles,
    images: Images,
    users: Users,
    /// Containers of this server's, by id.
    known: Mutex<HashMap<String, Arc<Known>>>,
    firewall: Firewall,
    /// Networks that were there when they were last looked at.
    networks: Mutex<HashSet<String>>,
    /// Networks that are being removed: no container is brought back into them.
    closing: Mutex<HashSet<String>>,
    /// Held while a network is made.
    network_making: tokio::sync::Mutex<()>,
    /// Container names with secret files from before this server started, until it is known whose they are.
    leftovers: Mutex<HashSet<String>>,
    /// Removals that a killed server had begun were ended.
    trash_looked_at: AtomicBool,
    /// Commands that are being ended because nobody waits for them any more.
    endings: TaskTracker,
}

impl DockerRuntime {
    /// Prepares everything but a connection: each call makes its own, so that Docker may come and go.
    pub fn connect(options: DockerOptions) -> Result<Self> {
        let host = options.docker_host.as_deref();
        let address = Address::parse(host).ok_or_else(|| {
            Error::unavailable(format!(
                "DOCKER_HOST is {}; chassis speaks unix:///path and tcp://host:port",
                host.unwrap_or_default()
            ))
        })?;
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let secret_files = SecretFiles::new(&options.server_id);
        let own = std::iter::once(options.data_dir.clone()).chain(address.socket().map(Into::into));
        Ok(DockerRuntime(Arc::new(Daemon {
            host_paths: HostPaths::new(options.allowed_host_paths, own),
            seccomp_dir: options.seccomp_dir,
            facts: Mutex::default(),
            address,
            only_user: (!user.is_root()).then(|| format!("{}:{}", user.as_raw(), group.as_raw())),
            tier1: Tier1::new(options.data_dir),
            images: Images::default(),
            users: Users::default(),
            known: Mutex::default(),
            firewall: Firewall::new(&options.server_id),
            networks: Mutex::default(),
            closing: Mutex::default(),
            network_making: tokio::sync::Mutex::default(),
            leftovers: Mutex::new(secret_files.list().into_iter().collect()),
            trash_looked_at: AtomicBool::new(false),
            endings: TaskTracker::new(),
            secret_files,
            server_id: options.server_id,
        })))
    }
}

impl Daemon {
    fn client(&self) -> Result<Docker> {
        self.address.client().map_err(|error| self.explain(error))
    }

    fn patient_client(&self) -> Result<Docker> {
        self.address.patient_client().map_err(|error| self.explain(error))
    }

    fn notifying_client(&self, answered: Arc<Notify>) -> Result<Docker> {
        self.address.notifying_client(answered).map_err(|error| self.explain(error))
    }

    /// True if a path of the host is, or holds, the socket of a container engine.
    fn has_socket(&self, path: &Path) -> bool {
        let socket = self.address.socket();
        let resolved = socket.and_then(|socket| socket.canonicalize().ok());
        let name = path.file_name().and_then(|name| name.to_str());
        matches!(name, Some("docker.sock" | "containerd.sock" | "podman.sock" | "crio.sock"))
            || socket.into_iter().chain(resolved.as_deref()).any(|socket| socket.starts_with(path))
    }

    fn explain(&self, error: DockerError) -> Error {
        failure::explain(&self.address, error)
    }

    /// Runs what touches the disk where it holds up nobody.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Daemon) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let daemon = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&daemon)).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Error::storage("work on the data directory was cut off").caused_by(error)),
        }
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    async fn info(&self) -> Result<RuntimeInfo> {
        let info = self.0.client()?.info().await.map_err(|error| self.0.explain(error))?;
        facts::note(&self.0, &info).await?;
        Ok(RuntimeInfo {
            name: "docker",
            version: info.server_version.unwrap_or_default(),
            node: info.name.unwrap_or_default(),
            id: info.id.unwrap_or_default(),
        })
    }

    async fn posture(&self, id: &str, spec: &AgentSpec) -> Result<Option<Posture>> {
        posture::posture(&self.0, id, spec).await
    }

    async fn spec_check(&self, spec: &AgentSpec) -> Result<()> {
        instances::check(&self.0, spec).await?;
        limits::check(&self.0, spec).await
    }

    async fn image_prepare(
        &self,
        image: &ImageName,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Arc<Image>> {
        self.0.images.prepare(&self.0, image, progress).await
    }

    async fn image_pinned(
        &self,
        image: &ImageName,
        pin: &Pin,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Arc<Image>> {
        self.0.images.pinned(&self.0, image, pin, progress).await
    }

    async fn image_refresh(&self, image: &ImageName, held: Option<&Pin>) -> Result<Pin> {
        refresh::refresh(&self.0, image, held).await
    }

    async fn fleet_prepare(&self, fleet: &FleetName) -> Result<()> {
        let name = fleet.clone();
        self.0.blocking(move |daemon| daemon.tier1.fleet_prepare(&name)).await?;
        networks::prepare(&self.0, &Link::Fleet(fleet.clone())).await?;
        instances::look_at_guests(&self.0, fleet).await;
        Ok(())
    }

    async fn fleet_remove(&self, fleet: &FleetName) -> Result<()> {
        networks::remove(&self.0, fleet).await?;
        let fleet = fleet.clone();
        self.0.blocking(move |daemon| daemon.tier1.fleet_remove(&fleet)).await
    }

    async fn fleet_list(&self) -> Result<Vec<FleetName>> {
        networks::fleets(&self.0).await
    }

    async fn networks_check(&self) -> Result<()> {
        firewall::check(&self.0).await
    }

    fn open_paths(&self, fleet: &FleetName) -> Vec<String> {
        self.0.firewall.open_paths(fleet)
    }

    async fn instance_update(&self, id: &str, resources: &Resources) -> Result<()> {
        limits::update(&self.0, id, resources).await
    }

    async fn instance_create(&self, config: &InstanceConfig) -> Result<Observed> {
        instances::create(&self.0, config).await
    }

    async fn instance_start(&self, id: &str, secrets: InstanceSecrets) -> Result<()> {
        instances::start(&self.0, id, secrets).await
    }

    async fn instance_started(&self, id: &str) -> Result<()> {
        exec::wait_started(self, id).await
    }

    async fn instance_stop(&self, id: &str) -> Result<()> {
        instances::stop(&self.0, id).await
    }

    async fn instance_remove(&self, id: &str) -> Result<()> {
        instances::remove(&self.0, id).await
    }

    async fn instance_rename(&self, id: &str, key: &InstanceKey) -> Result<()> {
        instances::rename(&self.0, id, key).await
    }

    async fn data_list(&self, fleet: &FleetName) -> Result<Vec<InstanceKey>> {
        let mut keys = volumes::list(&self.0, fleet).await?;
        let fleet = fleet.clone();
        keys.extend(self.0.blocking(move |daemon| daemon.tier1.list(&fleet)).await?);
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    async fn data_remove(&self, key: &InstanceKey) -> Result<()> {
        volumes::remove(&self.0, key).await?;
        let key = key.clone();
        self.0.blocking(move |daemon| daemon.tier1.remove(&key)).await
    }

    async fn instance_inspect(&self, id: &str) -> Result<Option<Owned>> {
        instances::inspect(&self.0, id).await
    }

    async fn instance_list(&self) -> Result<Vec<Owned>> {
        instances::list(&self.0).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent>>> {
        events::events(&self.0).await
    }

    async fn logs(&self, id: &str, options: &LogOptions) -> Result<BoxStream<'static, Result<LogChunk>>> {
        logs::logs(&self.0, id, options).await
    }

    async fn stats(&self, ids: &[Box<str>]) -> Result<Vec<(Box<str>, Result<Usage>)>> {
        stats::stats(&self.0, ids).await
    }

    async fn exec(&self, id: &str, options: &ExecOptions) -> Result<Exec> {
        exec::exec(&self.0, id, options).await
    }

    async fn port_connect(&self, id: &str, port: u16) -> Result<Box<dyn PortStream>> {
        port::connect(&self.0, id, port).await
    }

    async fn settle(&self) {
        self.0.endings.close();
        self.0.endings.wait().await;
    }
}

/// A panic elsewhere leaves these maps whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
