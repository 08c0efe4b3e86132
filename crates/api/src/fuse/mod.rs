//! The wire of environments, as Fuse's clients speak it: `/v1/…`, `/login`, `/logout`.
//!
//! It is a dialect of its own on the same server: errors are [`Envelope`]s, fields that are not there are left out and never
//! `null`, numbers that are zero are left out of a [`ResourceSpec`], unknown fields of a request are ignored.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /v1/version` | | [`Version`] |
//! | `POST /v1/environments` | [`EnvironmentCreate`] | 201 [`Environment`], once it runs |
//! | `GET /v1/environments?task_id=&state=&host_id=&limit=&cursor=` | | [`EnvironmentList`], by id |
//! | `GET /v1/environments/{id}` | | [`Environment`] |
//! | `DELETE /v1/environments/{id}` | | 204, once it is gone |
//! | `POST /v1/environments/{id}?action=exec` | [`ExecRequest`] | [`ExecResult`] |
//! | `POST /v1/environments/{id}?action=drain` | | [`Environment`], once its agent has ended |
//! | `POST /v1/environments/{id}?action=rotate-token` | | 204 |
//! | `GET /v1/environments/{id}/attach?tty=1&rows=&cols=&cmd=` | upgrade to `fuse-attach/1` | a command in a terminal |
//! | `GET /v1/environments/{id}/events` | | server-sent [`StateEvent`] until it is gone |
//! | `GET /v1/api-keys` | | [`KeyList`] |
//! | `POST /v1/api-keys` | [`KeyCreate`], or none | 201 [`KeyCreated`] |
//! | `DELETE /v1/api-keys/{id}` | | 204 |
//! | `GET /v1/hosts`, `/v1/hosts/{id}` | | [`HostList`], [`Host`] |
//! | `POST /v1/hosts` | [`HostRegister`] | [`Host`] |
//! | `POST /v1/hosts/{id}?action=cordon`, `uncordon` or `drain` | | 204 |
//! | `DELETE /v1/hosts/{id}` | | 204 |
//! | `POST /v1/environments/{id}?action=fork` | [`ForkRequest`], or none | 201 [`Environment`], once it runs |
//! | `POST /v1/environments/{id}/snapshots` | [`SnapshotRequest`], or none | 201 [`Snapshot`], once it is ready |
//! | `GET /v1/snapshots?vm_id=&task_id=&tenant_id=&state=&mode=&name=&layer_key=&arch=&limit=&cursor=` | | [`SnapshotList`], the newest first |
//! | `GET /v1/snapshots/resolve?layer_key=&arch=` | | [`LayerFound`] |
//! | `GET /v1/snapshots/{id}` | | [`Snapshot`] |
//! | `POST /v1/snapshots/{id}?action=restore` | | 204, once it is restored |
//! | `DELETE /v1/snapshots/{id}` | | 204, once nothing of it is left |
//! | `GET /v1/environments/{id}/computer` | | [`Display`] |
//! | `GET /v1/dead-letters` | | [`DeadLetterList`]; not of Fuse |
//! | `POST /v1/dead-letters/{kind}/{id}?action=redrive` | | 201 [`Environment`], once it runs; not of Fuse |
//! | `DELETE /v1/dead-letters/{kind}/{id}` | | 204; not of Fuse |
//! | `POST /login` | [`Login`] | 204, and a cookie |
//! | `POST /logout` | | 204 |

mod access;
mod dead_letter;
mod environment;
mod event;
mod exec;
mod host;
mod snapshot;

pub use access::{Key, KeyCreate, KeyCreated, KeyList, Login};
pub use dead_letter::{DeadLetter, DeadLetterList};
pub use environment::{
    Desktop, Endpoint, Environment, EnvironmentCreate, EnvironmentHealth, EnvironmentList, Expose,
    GuestCheck, GuestHttp, ResourceSpec, Waiting,
};

pub use event::StateEvent;
pub use exec::{ExecRequest, ExecResult};
pub use host::{Host, HostCapacity, HostList, HostRegister, HostState};
pub use snapshot::{
    Display, ForkRequest, LayerFound, Snapshot, SnapshotExport, SnapshotList, SnapshotRequest,
};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What `GET /v1/version` answers; clients look at the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Always [`SERVICE`].
    pub service: String,
    pub version: String,
}

/// By this name Fuse's clients know a server.
pub const SERVICE: &str = "fuse-orchestrator";

/// Every error of the dialect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub error: EnvelopeError,
}

/// What is in an [`Envelope`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeError {
    /// One of [`CODES`].
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// The words that say what sort of error it is.
pub const CODES: [&str; 10] = [
    "not_found",
    "route_not_found",
    "conflict",
    "invalid_argument",
    "unauthorized",
    "forbidden",
    "unavailable",
    "internal",
    "unimplemented",
    "payload_too_large",
];
