//! The server: controllers that keep agents as people want them, and the HTTP API over a unix socket and TLS.
//!
//! ```text
//!   API handler ──one transaction──▶ store ──reload──▶ AgentController ──▶ core::plan ──▶ act ──▶ Runtime
//!                                                          ▲  ▲                           │
//!   watch: runtime events, full lists ─────────────────────┘  └──── result, what is there ┘
//! ```
//!
//! What holds:
//! - a change is on disk before it is answered, and before anything is done about it;
//! - one controller owns an agent: only it writes that agent's state and acts on its instances, one action each;
//! - what is remembered of a run is on disk before the next step of that instance is taken;
//! - nothing in memory is needed after a crash: the store and the labels on the containers are enough.

mod act;
mod api;
mod auth;
mod checks;
mod closing;
mod controller;
mod data_dir;
mod download;
mod environment;
mod error;
mod failpoint;
mod fleet;
mod follow;
mod fuse;
mod heartbeat;
mod journal;
mod kept_logs;
mod last_words;
mod lead;
mod listen;
mod log_filter;
mod log_line;
mod log_place;
mod log_source;
mod metrics;
mod node;
mod node_join;
mod node_known;
mod node_serve;
mod node_stats;
mod nodes;
mod options;
mod owed;
mod policy;
mod prober;
mod request_id;
mod rolling;
mod schedule;
mod serve;
mod shared;
mod snapshot;
mod state;
mod traces;
mod watch;

pub use auth::AccessOptions;
pub use chassis_core::{Cidr, NodeName, Opening, Role};
/// What can be looked at without a server, for `chassis doctor`.
pub use chassis_runtime::{DockerReport, docker_containers, docker_report};
/// What `chassis db` does to databases that no server uses.
pub use chassis_store::{Copied, copy_to_postgres, migrate_postgres, migrate_sqlite};
pub use chassis_store::{Inspection, PostgresOptions, inspect, key_id};
pub use data_dir::DataDir;
pub use download::{DOWNLOAD_MOST, DOWNLOAD_TIME, DownloadOptions, DownloadSource, UsualDownload};
pub use error::{Error, Result};
pub use node_serve::{Capacity, NodeOptions, NodeServer, node_serve};
pub use options::{EnvironmentOptions, Listen, Options, RuntimeChoice, SocketGroup, TlsFiles};
pub use serve::serve;
pub use traces::{TRACE_TARGET, Traces};
