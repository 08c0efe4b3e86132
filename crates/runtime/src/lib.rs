//! How a node runs instances: one trait, and what implements it.
//!
//! A [`Runtime`] carries out single steps and shows what is there; it decides nothing. What it runs carries labels with
//! the instance's identity, so that a server that knows nothing but its own id finds everything again.

mod docker;
mod error;
mod exec;
mod hash;
mod init_program;
mod registry_auth;
mod sim;
mod tier1;
mod types;

pub use docker::{DockerOptions, DockerReport, DockerRuntime, docker_containers, docker_report};
pub use error::{Error, Result, Source, chain};
pub use exec::{
    Exec, ExecChunk, ExecControl, ExecInput, ExecOptions, ExecRun, PortStream, TerminalSize, exec_run,
};
pub use sim::{SimHandle, SimOperation, SimOptions, SimRuntime};
pub use tier1::lease_directory;
pub use types::{
    Image, InstanceConfig, InstanceSecrets, LogChunk, LogOptions, LogStream, Owned, PlacedFile, PullProgress,
    RuntimeEvent, RuntimeInfo, SecretFile, SnapshotTaken,
};

use std::sync::Arc;

use async_trait::async_trait;
use chassis_core::audit::Posture;
use chassis_core::{InstanceKey, Observed, Pin, Usage};
use chassis_spec::{AgentSpec, FleetName, ImageName, Resources};
use futures_util::stream::BoxStream;

/// A node's way of running instances. Every operation may be repeated: one that finds its work done succeeds.
#[async_trait]
pub trait Runtime: std::fmt::Debug + Send + Sync + 'static {
    /// What this runtime is and whether it answers.
    async fn info(&self) -> Result<RuntimeInfo>;

    /// Makes sure, before anything is changed for it, that this node can give an agent what its YAML asks for and may:
    /// paths of the host, profiles, cores. The same is checked again when a container is made and started.
    async fn spec_check(&self, _spec: &AgentSpec) -> Result<()> {
        Ok(())
    }

    /// Finds the image on the node, and pulls it if it is not there. `progress` is called as layers come in.
    async fn image_prepare(
        &self,
        image: &ImageName,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Arc<Image>>;

    /// Finds exactly the image that was pinned, and pulls it by its digest if it is not there. Fails with
    /// [`Error::ImageUnavailable`] if it is gone and was never in a registry.
    async fn image_pinned(
        &self,
        image: &ImageName,
        pin: &Pin,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Arc<Image>>;
    /// What the image's name means by now: in its registry, or on the node if it was never in one. `held` is what it meant
    /// before. Pulls nothing.
    async fn image_refresh(&self, _image: &ImageName, _held: Option<&Pin>) -> Result<Pin> {
        Err(Error::unsupported("ask a registry what an image's name means"))
    }

    /// Makes the fleet's network and directory.
    async fn fleet_prepare(&self, fleet: &FleetName) -> Result<()>;
    /// Takes the fleet's network away, and its directory if it is empty.
    async fn fleet_remove(&self, fleet: &FleetName) -> Result<()>;
    /// The fleets that have a network of this server's here.
    async fn fleet_list(&self) -> Result<Vec<FleetName>>;

    /// Puts right what guards the fleets' networks, if somebody changed it.
    async fn networks_check(&self) -> Result<()> {
        Ok(())
    }
    /// What the agents of a fleet can reach although nothing opened it, and what helps; as it was last seen.
    fn open_paths(&self, _fleet: &FleetName) -> Vec<String> {
        Vec::new()
    }

    /// Changes the limits of a container that runs or not, all but that on open files.
    async fn instance_update(&self, _id: &str, _resources: &Resources) -> Result<()> {
        Err(Error::unsupported("change the limits of an instance that is there"))
    }
    /// Makes the instance's directory and its container, not started. Fails with [`Error::NameTaken`] if somebody
    /// else's container has the name; one of the same key, revision and epoch that is there already is the answer.
    async fn instance_create(&self, config: &InstanceConfig) -> Result<Observed>;
    /// Starts a created or stopped container, handing it the secrets of its agent.
    async fn instance_start(&self, id: &str, secrets: InstanceSecrets) -> Result<()>;
    /// Waits until the files of a running container are written and its startup script, if it has one, has ended well.
    async fn instance_started(&self, _id: &str) -> Result<()> {
        Ok(())
    }
    /// Sends the stop signal, and kills what is left after the grace period.
    async fn instance_stop(&self, id: &str) -> Result<()>;
    /// Removes a container, killing it if it runs. Tier 1 data stays.
    async fn instance_remove(&self, id: &str) -> Result<()>;
    /// Gives a container that was renamed its name back.
    async fn instance_rename(&self, id: &str, key: &InstanceKey) -> Result<()>;
    /// The instances of a fleet that have tier 1 data here, whether or not they exist.
    async fn data_list(&self, fleet: &FleetName) -> Result<Vec<InstanceKey>>;
    /// Removes an instance's tier 1 data.
    async fn data_remove(&self, key: &InstanceKey) -> Result<()>;

    /// One container of this server's, or `None` if it is gone or not this server's.
    async fn instance_inspect(&self, id: &str) -> Result<Option<Owned>>;
    /// Every container of this server's, running or not.
    async fn instance_list(&self) -> Result<Vec<Owned>>;

    /// What happens from now on, until the connection to the runtime ends. A reader that reconnects lists everything
    /// again, so that nothing that happened in between is missed.
    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent>>>;

    /// The output of a container, oldest first. With `follow` it ends when the container stops.
    async fn logs(&self, id: &str, options: &LogOptions) -> Result<BoxStream<'static, Result<LogChunk>>>;

    /// What running containers use, in any order. One that cannot be read has its own error, and hides no other.
    async fn stats(&self, _ids: &[Box<str>]) -> Result<Vec<(Box<str>, Result<Usage>)>> {
        Err(Error::unsupported("tell what instances use"))
    }

    /// What a container really is, as far as its safety is concerned, held against its spec where only the node can do
    /// that; `None` if it is gone.
    async fn posture(&self, _id: &str, _spec: &AgentSpec) -> Result<Option<Posture>> {
        Err(Error::unsupported("audit an instance"))
    }

    /// Runs a command in a running container, as the agent's user and with no more rights than the agent has.
    async fn exec(&self, _id: &str, _options: &ExecOptions) -> Result<Exec> {
        Err(Error::unsupported("run commands in an instance"))
    }

    /// Connects to a TCP port inside a running container, whatever address of the sandbox it listens on. Nothing need be
    /// published, and the container may be without a network. Fails with [`Error::Rejected`] if nothing listens there.
    async fn port_connect(&self, _id: &str, _port: u16) -> Result<Box<dyn PortStream>> {
        Err(Error::unsupported("connect to a port of an instance"))
    }

    /// Whether it can keep what a running container is, and go back to it.
    async fn takes_snapshots(&self) -> Result<bool> {
        Ok(false)
    }

    /// Keeps what a running container is, under a name of the caller's: one that is there already is the answer. Fails
    /// with [`Error::Rejected`] if the container does not run.
    async fn snapshot_create(&self, _id: &str, _name: &str) -> Result<SnapshotTaken> {
        Err(Error::no_snapshots())
    }
    /// Takes a running container back to what was kept of it, or of another. Fails with [`Error::Rejected`] if the
    /// snapshot is gone.
    async fn snapshot_restore(&self, _id: &str, _name: &str) -> Result<()> {
        Err(Error::no_snapshots())
    }
    /// Forgets a snapshot, with all that it takes up.
    async fn snapshot_remove(&self, _name: &str) -> Result<()> {
        Err(Error::no_snapshots())
    }
    /// The names of this server's snapshots.
    async fn snapshot_list(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Waits until it has done what was left to it when streams were dropped, before the process ends.
    async fn settle(&self) {}
}
