//! What travels between a server and a node, besides the bytes of streams.

use std::sync::Arc;

use chassis_core::{Entry, InstanceKey, NodeSpec, Pin};
use chassis_runtime::{
    ExecOptions, Image, LogOptions, PullProgress, RuntimeEvent, RuntimeInfo, TerminalSize,
};
use chassis_spec::{AgentSpec, FleetName, ImageName, Resources};
use serde::{Deserialize, Serialize};

pub use crate::carried::{Config, Secrets};

/// The versions of the protocol that this program speaks. Nodes of version 1 do not end by themselves what is leased.
pub const PROTOCOLS: &[u32] = &[2];
/// In a request: all versions that the server speaks. In an answer: the one that the node chose, or all that it has.
pub const PROTOCOL_HEADER: &str = "chassis-node-protocol";
/// The term in which the server decided what it asks.
pub const TERM_HEADER: &str = "chassis-term";

pub const HELLO: &str = "/node/v1/hello";
pub const TERM: &str = "/node/v1/term";
pub const HEARTBEAT: &str = "/node/v1/heartbeat";
pub const CALL: &str = "/node/v1/call";
pub const STREAM: &str = "/node/v1/stream";

/// The code of an order of another term than the node's.
pub const TERM_STALE: &str = "term_stale";

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The versions of the protocol that it speaks.
    pub protocols: Vec<u32>,
    /// The random name of its data directory, which stays when all else changes.
    pub id: String,
    /// The version of its program.
    pub version: String,
    /// Its name, capacity, architecture, runtimes, region and labels.
    #[serde(flatten)]
    pub spec: NodeSpec,
    /// The term whose orders it takes; 0 if it has never had one.
    pub term: u64,
    /// The engine that runs its instances; none while that does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
}

/// A [`RuntimeInfo`], whose names are of this program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    pub name: String,
    pub version: String,
    pub node: String,
    pub id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeTerm {
    pub term: u64,
}

/// What a server asks every few seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatRequest {
    /// The last answer that the server received and that counted: the node's lease runs from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Granted>,
    /// The last entry of the node's journal that is stored, with all before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
}

/// A moment on a node's own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    /// Since when it counts.
    pub boot: String,
    pub stamp: u64,
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// Milliseconds since its machine was booted, when it answered.
    pub stamp: u64,
    /// Of that boot: stamps of another mean nothing.
    pub boot: String,
    /// The term whose orders it takes. A heartbeat of another prolongs no lease.
    pub term: u64,
    /// Milliseconds for which what may move still goes on without a server.
    pub lease: u64,
    /// Whether its runtime answers, or why not.
    pub engine: Result<Engine, Failed>,
    /// What happened while no server listened, oldest first, until it is said to be stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<Entry>,
    /// How many older entries could not be kept.
    #[serde(default)]
    pub dropped: u64,
}

impl Heartbeat {
    /// What the next request is to say, if this answer counts.
    pub fn granted(&self) -> Granted {
        Granted { boot: self.boot.clone(), stamp: self.stamp }
    }
}

/// One method of the Runtime trait that gives one answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Call {
    Info,
    SpecCheck {
        spec: Arc<AgentSpec>,
    },
    ImageRefresh {
        image: ImageName,
        held: Option<Pin>,
    },
    FleetPrepare {
        fleet: FleetName,
    },
    FleetRemove {
        fleet: FleetName,
    },
    FleetList,
    /// Answers with what agents can reach although nothing opened it, by fleet.
    NetworksCheck,
    InstanceUpdate {
        id: String,
        resources: Resources,
    },
    InstanceCreate {
        config: Config,
    },
    InstanceStart {
        id: String,
        secrets: Secrets,
    },
    InstanceStarted {
        id: String,
    },
    InstanceStop {
        id: String,
    },
    InstanceRemove {
        id: String,
    },
    InstanceRename {
        id: String,
        key: InstanceKey,
    },
    DataList {
        fleet: FleetName,
    },
    DataRemove {
        key: InstanceKey,
    },
    InstanceInspect {
        id: String,
    },
    InstanceList,
    Stats {
        ids: Vec<Box<str>>,
    },
    Posture {
        id: String,
        spec: Arc<AgentSpec>,
    },
    TakesSnapshots,
    SnapshotCreate {
        id: String,
        name: String,
    },
    SnapshotRestore {
        id: String,
        name: String,
    },
    SnapshotRemove {
        name: String,
    },
    SnapshotList,
}

/// What the node makes sure of before it carries a call out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only looks, and soon.
    Look,
    /// It only looks, and takes as long as it takes.
    Wait,
    /// It changes what is there: only in the node's own term.
    Order,
}

impl Call {
    pub fn kind(&self) -> Kind {
        match self {
            Call::Info
            | Call::SpecCheck { .. }
            | Call::FleetList
            | Call::DataList { .. }
            | Call::InstanceInspect { .. }
            | Call::InstanceList
            | Call::Stats { .. }
            | Call::Posture { .. }
            | Call::TakesSnapshots
            | Call::SnapshotList => Kind::Look,
            // A registry may be slow, and a startup script.
            Call::ImageRefresh { .. } | Call::InstanceStarted { .. } => Kind::Wait,
            Call::FleetPrepare { .. }
            | Call::FleetRemove { .. }
            | Call::NetworksCheck
            | Call::InstanceUpdate { .. }
            | Call::InstanceCreate { .. }
            | Call::InstanceStart { .. }
            | Call::InstanceStop { .. }
            | Call::InstanceRemove { .. }
            | Call::InstanceRename { .. }
            | Call::DataRemove { .. }
            | Call::SnapshotCreate { .. }
            | Call::SnapshotRestore { .. }
            | Call::SnapshotRemove { .. } => Kind::Order,
        }
    }
}

impl Call {
    /// The container that an order changes, if it is about one that is there.
    pub(crate) fn container(&self) -> Option<&str> {
        match self {
            Call::InstanceUpdate { id, .. }
            | Call::InstanceStart { id, .. }
            | Call::InstanceStop { id }
            | Call::InstanceRemove { id }
            | Call::InstanceRename { id, .. }
            | Call::SnapshotCreate { id, .. }
            | Call::SnapshotRestore { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// The end of a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer<T> {
    Ok(T),
    Error(Failed),
}

/// An error, by its code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub code: String,
    pub message: String,
    /// What lies beneath it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// What a server says on a stream in frames of [`CONTROL`](crate::wire); the first says what the stream is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ask {
    ImagePrepare {
        image: ImageName,
    },
    ImagePinned {
        image: ImageName,
        pin: Pin,
    },
    Events,
    Logs {
        id: String,
        options: LogOptions,
    },
    Exec {
        id: String,
        options: ExecOptions,
    },
    PortConnect {
        id: String,
        port: u16,
    },
    Resize(TerminalSize),
    /// No more bytes come from this side.
    Eof,
}

/// What a node says on a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Said {
    /// What was asked for goes on from here.
    Open,
    Progress(PullProgress),
    Image(Image),
    Event(RuntimeEvent),
    /// A command's exit code: the last of all.
    Exit(i32),
    /// No more bytes come from this side.
    Eof,
    /// It ended as it should.
    End,
    /// It ended so.
    Failed(Failed),
}

/// Frames begin with one of these: bytes to a command or a port, bytes from one, and JSON ([`Ask`], [`Said`]).
pub const INPUT: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const CONTROL: u8 = 3;

// === impl Engine ===

impl From<RuntimeInfo> for Engine {
    fn from(info: RuntimeInfo) -> Engine {
        Engine { name: info.name.to_owned(), version: info.version, node: info.node, id: info.id }
    }
}

impl From<Engine> for RuntimeInfo {
    fn from(engine: Engine) -> RuntimeInfo {
        let name = match engine.name.as_str() {
            "docker" => "docker",
            "sim" => "sim",
            "firecracker" => "firecracker",
            _ => "unknown",
        };
        RuntimeInfo { name, version: engine.version, node: engine.node, id: engine.id }
    }
}

// === impl Failed ===

impl From<chassis_runtime::Error> for Failed {
    fn from(error: chassis_runtime::Error) -> Failed {
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        let cause = (!causes.is_empty()).then(|| causes.join(": "));
        Failed { code: error.code().to_owned(), message: error.to_string(), cause }
    }
}

impl From<Failed> for chassis_runtime::Error {
    /// The same variant as on the other side; one that this program does not know is a refusal.
    fn from(failed: Failed) -> chassis_runtime::Error {
        use chassis_runtime::Error;
        let Failed { code, message, cause } = failed;
        let source = None;
        let error = match code.as_str() {
            "image-unavailable" => Error::ImageUnavailable { message, source },
            "name-taken" => Error::NameTaken { message, source },
            "runtime-unavailable" => Error::Unavailable { message, source },
            "storage-unusable" => Error::Storage { message, source },
            "unsupported" => Error::Unsupported { message, source },
            _ => Error::Rejected { message, source },
        };
        match cause {
            Some(cause) => error.caused_by(cause),
            None => error,
        }
    }
}
