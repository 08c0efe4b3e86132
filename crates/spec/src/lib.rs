//! The YAML that people write, and nothing else: types, parsing, errors that point at a line, JSON Schema.
//!
//! A parsed [`AgentSpec`] is valid: every name, quantity and path was checked while it was read, so that no other
//! crate checks again. Its JSON form (camelCase, as in Kubernetes) is what the API carries and the store keeps.
//!
//! ```text
//! bytes ──yaml──▶ tree with places ──de──▶ unchecked spec ──check──▶ spec
//!                        ▲                                    │
//!                        └────── where does it say that? ─────┘ on error
//! ```

mod agent;
mod changes;
mod check;
mod de;
mod fault;
mod files;
mod fleet;
mod grammar;
mod logs;
mod network;
mod node_name;
mod parse;
mod placement;
mod profile;
mod quantity;
mod rollout;
mod same;
mod schema;
mod security;
mod storage;
mod suggest;
mod text;
mod value;
mod yaml;

pub use agent::{
    AgentSpec, Drain, DrainMethod, DrainRequest, EnvFrom, EnvVar, ExecProbe, HealthCheck, HttpProbe, Port,
    Protocol, Resources, RestartPolicy, RuntimeKind, ScratchPath, StopSpec, TcpProbe, Tmpfs, Volume,
};
pub use changes::{Change, changes};
pub use check::InvalidSpec;
pub use files::{File, Startup};
pub use fleet::FleetSpec;
pub use logs::LogsSpec;
pub use network::{Network, Reach};
pub use node_name::{Architecture, InvalidNodeName, NodeName, UnknownArchitecture};
pub use parse::{Document, ParseError, parse, parse_profiles};
pub use placement::{PlacementSpec, Strategy, UnknownStrategy, WhenDown};
pub use profile::{AGENT_DIRECTORY, AgentProfile, ProfileFile};
pub use quantity::{Bytes, Cpu, Seconds};
pub use rollout::{Amount, RolloutSpec};
pub use schema::schema;
pub use security::{SeLinux, Security, UserNamespace};
pub use storage::{Backend, DockerVolume, NfsVolume};
pub use suggest::closest;
pub use value::{
    AgentName, ApiKeyName, AppArmorProfile, Capability, ClusterId, DockerVolumeName, EnvName, FileName,
    FleetName, HostPath, ImageName, InvalidValue, Labels, MountPath, NfsOptions, NfsPath, NfsServer,
    SeLinuxWord, SeccompProfile, SecretName, SecretRef, Signal, User, VolumeName,
};
