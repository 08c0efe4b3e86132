//! The server's end: a node's runtime, as if it were here.

mod line;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chassis_api::Fingerprint;
use chassis_core::audit::Posture;
use chassis_core::{InstanceKey, NodeName, Observed, Pin, Usage};
use chassis_runtime::{
    Exec, ExecOptions, Image, InstanceConfig, InstanceSecrets, LogChunk, LogOptions, Owned, PortStream,
    PullProgress, Result, Runtime, RuntimeEvent, RuntimeInfo, SnapshotTaken,
};
use chassis_spec::{AgentSpec, FleetName, ImageName, Resources};
use futures_util::stream::BoxStream;
use serde::de::DeserializeOwned;

use crate::carried::{self, Config, Secrets};
use crate::wire::{
    Ask, CALL, Call, Engine, Failed, Granted, HEARTBEAT, HELLO, Heartbeat, HeartbeatRequest, Hello, TERM,
    TakeTerm,
};
use crate::{Error, wire};
use line::Line;

pub use line::address;

/// Asks a node who it is. With a fingerprint the node shows exactly that certificate; without one, one that this machine's
/// certificate authorities vouch for.
pub async fn hello(
    url: &str,
    fingerprint: Option<Fingerprint>,
    token: &str,
) -> std::result::Result<Hello, Error> {
    Line::new(None, url, fingerprint, token)?.get(HELLO).await
}

/// A node's runtime. What changes something there is done in the term that [`RemoteRuntime::set_term`] gave.
pub struct RemoteRuntime {
    line: Line,
    /// What agents can reach although nothing opened it, as the node said last.
    open_paths: Mutex<BTreeMap<String, Vec<String>>>,
}

impl RemoteRuntime {
    /// Connects to nothing yet. Fails if the address or the token cannot be one.
    pub fn new(
        node: &NodeName,
        url: &str,
        fingerprint: Option<Fingerprint>,
        token: &str,
    ) -> std::result::Result<RemoteRuntime, Error> {
        let line = Line::new(Some(node), url, fingerprint, token)?;
        Ok(RemoteRuntime { line, open_paths: Mutex::default() })
    }

    /// All that is asked from now on was decided in this term.
    pub fn set_term(&self, term: u64) {
        self.line.set_term(term);
    }

    /// Tells the node that from now on it takes orders of this term only; they are sent in it. Answered once every order of
    /// earlier terms has been carried out. Fails with [`Error::TermStale`] if the node is in a later one.
    pub async fn take_term(&self, term: u64) -> std::result::Result<(), Error> {
        self.line.set_term(term);
        self.line.post(TERM, &TakeTerm { term }).await?.map_err(|failed| self.line.refused(failed))
    }

    /// Who the node is.
    pub async fn hello(&self) -> std::result::Result<Hello, Error> {
        self.line.get(HELLO).await
    }

    /// Asks whether the node is there. `granted` is the last answer that counted ([`Heartbeat::granted`]): the lease of what
    /// may move runs from when the node sent that. `stored` is the last entry of the node's journal that is stored.
    pub async fn heartbeat(
        &self,
        granted: Option<Granted>,
        stored: Option<u64>,
    ) -> std::result::Result<Heartbeat, Error> {
        let answer = self.line.post(HEARTBEAT, &HeartbeatRequest { granted, stored }).await?;
        answer.map_err(|failed| self.line.refused(failed))
    }

    async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let answer: std::result::Result<T, Failed> = self.line.call(CALL, call.kind(), &call).await?;
        answer.map_err(|failed| {
            if failed.code == wire::TERM_STALE { self.line.refused(failed).into() } else { failed.into() }
        })
    }
}

impl fmt::Debug for RemoteRuntime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("RemoteRuntime").field(&self.line.node()).finish()
    }
}

#[async_trait]
impl Runtime for RemoteRuntime {
    async fn info(&self) -> Result<RuntimeInfo> {
        Ok(self.call::<Engine>(Call::Info).await?.into())
    }

    async fn spec_check(&self, spec: &AgentSpec) -> Result<()> {
        self.call(Call::SpecCheck { spec: Arc::new(spec.clone()) }).await
    }

    async fn image_prepare(
        &self,
        image: &ImageName,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Arc<Image>> {
        stream::image(&self.line, &Ask::ImagePrepare { image: image.clone() }, progress).await
    }

    async fn image_pinned(
        &self,
        image: &ImageName,
        pin: &Pin,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Arc<Image>> {
        let ask = Ask::ImagePinned { image: image.clone(), pin: pin.clone() };
        stream::image(&self.line, &ask, progress).await
    }

    async fn image_refresh(&self, image: &ImageName, held: Option<&Pin>) -> Result<Pin> {
        self.call(Call::ImageRefresh { image: image.clone(), held: held.cloned() }).await
    }

    async fn fleet_prepare(&self, fleet: &FleetName) -> Result<()> {
        self.call(Call::FleetPrepare { fleet: fleet.clone() }).await
    }

    async fn fleet_remove(&self, fleet: &FleetName) -> Result<()> {
        self.call(Call::FleetRemove { fleet: fleet.clone() }).await
    }

    async fn fleet_list(&self) -> Result<Vec<FleetName>> {
        self.call(Call::FleetList).await
    }

    async fn networks_check(&self) -> Result<()> {
        let open_paths = self.call(Call::NetworksCheck).await?;
        *self.open_paths.lock().unwrap_or_else(PoisonError::into_inner) = open_paths;
        Ok(())
    }

    fn open_paths(&self, fleet: &FleetName) -> Vec<String> {
        let open_paths = self.open_paths.lock().unwrap_or_else(PoisonError::into_inner);
        open_paths.get(fleet.as_str()).cloned().unwrap_or_default()
    }

    async fn instance_update(&self, id: &str, resources: &Resources) -> Result<()> {
        self.call(Call::InstanceUpdate { id: id.to_owned(), resources: resources.clone() }).await
    }

    async fn instance_create(&self, config: &InstanceConfig) -> Result<Observed> {
        let seen: carried::Seen = self.call(Call::InstanceCreate { config: Config::from(config) }).await?;
        Ok(seen.into())
    }

    async fn instance_start(&self, id: &str, secrets: InstanceSecrets) -> Result<()> {
        self.call(Call::InstanceStart { id: id.to_owned(), secrets: Secrets::from(secrets) }).await
    }

    async fn instance_started(&self, id: &str) -> Result<()> {
        self.call(Call::InstanceStarted { id: id.to_owned() }).await
    }

    async fn instance_stop(&self, id: &str) -> Result<()> {
        self.call(Call::InstanceStop { id: id.to_owned() }).await
    }

    async fn instance_remove(&self, id: &str) -> Result<()> {
        self.call(Call::InstanceRemove { id: id.to_owned() }).await
    }

    async fn instance_rename(&self, id: &str, key: &InstanceKey) -> Result<()> {
        self.call(Call::InstanceRename { id: id.to_owned(), key: key.clone() }).await
    }

    async fn data_list(&self, fleet: &FleetName) -> Result<Vec<InstanceKey>> {
        self.call(Call::DataList { fleet: fleet.clone() }).await
    }

    async fn data_remove(&self, key: &InstanceKey) -> Result<()> {
        self.call(Call::DataRemove { key: key.clone() }).await
    }

    async fn instance_inspect(&self, id: &str) -> Result<Option<Owned>> {
        let owned: Option<carried::Owned> = self.call(Call::InstanceInspect { id: id.to_owned() }).await?;
        Ok(owned.map(Owned::from))
    }

    async fn instance_list(&self) -> Result<Vec<Owned>> {
        let owned: Vec<carried::Owned> = self.call(Call::InstanceList).await?;
        Ok(owned.into_iter().map(Owned::from).collect())
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent>>> {
        stream::events(&self.line).await
    }

    async fn logs(&self, id: &str, options: &LogOptions) -> Result<BoxStream<'static, Result<LogChunk>>> {
        stream::logs(&self.line, id, options).await
    }

    async fn stats(&self, ids: &[Box<str>]) -> Result<Vec<(Box<str>, Result<Usage>)>> {
        let stats: Vec<(Box<str>, std::result::Result<Usage, Failed>)> =
            self.call(Call::Stats { ids: ids.to_vec() }).await?;
        Ok(stats.into_iter().map(|(id, usage)| (id, usage.map_err(Into::into))).collect())
    }

    async fn posture(&self, id: &str, spec: &AgentSpec) -> Result<Option<Posture>> {
        self.call(Call::Posture { id: id.to_owned(), spec: Arc::new(spec.clone()) }).await
    }

    async fn takes_snapshots(&self) -> Result<bool> {
        self.call(Call::TakesSnapshots).await
    }

    async fn snapshot_create(&self, id: &str, name: &str) -> Result<SnapshotTaken> {
        self.call(Call::SnapshotCreate { id: id.to_owned(), name: name.to_owned() }).await
    }

    async fn snapshot_restore(&self, id: &str, name: &str) -> Result<()> {
        self.call(Call::SnapshotRestore { id: id.to_owned(), name: name.to_owned() }).await
    }

    async fn snapshot_remove(&self, name: &str) -> Result<()> {
        self.call(Call::SnapshotRemove { name: name.to_owned() }).await
    }

    async fn snapshot_list(&self) -> Result<Vec<String>> {
        self.call(Call::SnapshotList).await
    }

    async fn exec(&self, id: &str, options: &ExecOptions) -> Result<Exec> {
        stream::exec(&self.line, id, options).await
    }

    async fn port_connect(&self, id: &str, port: u16) -> Result<Box<dyn PortStream>> {
        stream::port(&self.line, id, port).await
    }
}
