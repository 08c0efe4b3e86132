//! What goes into a runtime and what comes out of it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chassis_core::{InstanceKey, Observed};
use chassis_spec::{AgentSpec, HealthCheck, MountPath, Startup};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What a runtime says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// `docker` or `sim`.
    pub name: &'static str,
    /// The engine's own version.
    pub version: String,
    /// The machine's name.
    pub node: String,
    /// Tells this engine from every other, and stays the same when it is restarted.
    pub id: String,
}

/// An image on the node, with what it says about how it wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    /// The id under which the runtime runs exactly this image.
    pub id: String,
    /// `name@sha256:…` if it came from a registry.
    pub digest: Option<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub user: String,
    /// Its own HEALTHCHECK.
    pub health_check: Option<HealthCheck>,
}

/// All that a container is made of.
#[derive(Debug, Clone)]
pub struct InstanceConfig {
    pub key: InstanceKey,
    pub revision: u64,
    pub spec: Arc<AgentSpec>,
    pub image: Arc<Image>,
    /// Which placement of the instance this is; 0 on the server's own node, where there is but one.
    pub epoch: u64,
    /// The node ends it when no server has answered for it for as long as the lease says: it may run elsewhere then.
    pub leased: bool,
}

/// What only the agent may see. Handed over at each start; a node elsewhere keeps it encrypted, for a start without a server.
#[derive(Clone, Default)]
pub struct InstanceSecrets {
    /// Environment variables.
    pub env: Vec<(String, Zeroizing<String>)>,
    pub files: Vec<SecretFile>,
    /// Files that are the agent's own to change.
    pub placed: Vec<PlacedFile>,
    /// Run to its end before the agent starts.
    pub startup: Option<Startup>,
    /// The snapshot that a container goes on from when it is started for the first time.
    pub seed: Option<Box<str>>,
}

/// A file that is written before the agent starts.
#[derive(Clone)]
pub struct PlacedFile {
    pub path: MountPath,
    pub content: Zeroizing<Vec<u8>>,
    pub executable: bool,
}

impl PlacedFile {
    /// The file's mode: for the agent's user only.
    pub(crate) fn mode(&self) -> u32 {
        if self.executable { 0o700 } else { 0o600 }
    }
}

/// A secret as a file of mode 0400.
#[derive(Clone)]
pub struct SecretFile {
    pub path: MountPath,
    pub content: Zeroizing<Vec<u8>>,
}

/// What became of a snapshot that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotTaken {
    /// SHA-256 of what is in it, in hexadecimal digits: the same for the same state.
    pub digest: String,
    pub size_bytes: u64,
}

/// A container of this server's, and whose it is by its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    pub key: InstanceKey,
    /// As in [`InstanceConfig`].
    pub epoch: u64,
    /// As in [`InstanceConfig`].
    pub leased: bool,
    pub observed: Observed,
}

/// What a runtime tells unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RuntimeEvent {
    /// Something happened to this container of this server's: look at it again.
    Instance { key: InstanceKey, id: Box<str> },
    /// Something else went or came that may have blocked an instance: an image, a foreign container, a network.
    Surroundings,
}

/// How far a pull is: bytes over all layers known so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullProgress {
    pub layers: u32,
    pub layers_done: u32,
    pub bytes_done: u64,
    pub bytes_total: u64,
}

/// Which part of a container's output is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogOptions {
    pub follow: bool,
    /// Only output from this time on.
    pub since: Option<Timestamp>,
    /// Only the last so many lines of what is there already.
    pub tail: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    Stdout,
    Stderr,
}

/// One line of output, or a piece of a long one; with its line break, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    pub time: Timestamp,
    pub stream: LogStream,
    pub bytes: Bytes,
}

// === impl Debug for what holds secrets: names, never values ===

impl fmt::Debug for InstanceSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        formatter
            .debug_struct("InstanceSecrets")
            .field("env", &names)
            .field("files", &self.files)
            .field("placed", &self.placed)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PlacedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PlacedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SecretFile").field("path", &self.path).finish_non_exhaustive()
    }
}
