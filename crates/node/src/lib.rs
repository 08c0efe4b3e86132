//! A node over the network: the Runtime trait over HTTP, both ends.
//!
//! ```text
//!   server                                             node
//!   RemoteRuntime ── GET  /node/v1/hello ────────────▶ router ──▶ Arc<dyn Runtime>
//!                 ── POST /node/v1/term {term} ──────▶   │ Terms: orders of one term only
//!                 ── POST /node/v1/heartbeat ────────▶   │ Lease: how long what may move goes on without a server
//!                        ◀── journal ─────────────────   │ Keeper: starts again what ends while no server is heard
//!                 ── POST /node/v1/call {operation} ─▶   │   ◀── blanks while it takes, then {ok} or {error}
//!                 ══ GET  /node/v1/stream, WebSocket ═▶  │   ◀══ frames, both ways
//! ```
//! Every request has `Authorization: Bearer …`, `Chassis-Node-Protocol: 1` (all versions that the server speaks, with commas
//! between; the answer has the one that was chosen) and `Chassis-Term`, the term in which the server decided.
//!
//! - A **call** is one method of the trait that gives one answer ([`wire::Call`]). While it takes, the node sends a blank
//!   every few seconds, so that a long stop and a dead node differ; then a result. Errors are those of the runtime, by code.
//! - A **stream** ([`wire::Ask`]) is a WebSocket: images, events, logs, commands, ports. Both ends send signs of life. When one
//!   end is gone the other ends what it carried: a command is ended, a follower of logs is told.
//!
//! What holds:
//! - an order of another term than the node's is refused, and a new term is taken over only when all orders of earlier
//!   ones have ended: what is listed then is all that they brought about (`chassis_core::node`);
//! - an order that was begun is carried out to its end, whether or not somebody still waits for the answer;
//! - secrets are only in bodies, in buffers that are zeroed;
//! - what hangs holds up nothing else: each call has a connection for itself while it takes.

mod carried;
mod error;
mod host;
pub mod probe;
mod remote;
mod socket;
pub mod wire;

pub use error::Error;
pub use host::{Host, Lease, Machine, Options, machine, router};
pub use remote::{RemoteRuntime, address, hello};
pub use wire::{Granted, Heartbeat, Hello};
