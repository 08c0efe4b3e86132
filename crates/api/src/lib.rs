//! What server and client share: the paths, the types on the wire, the error document.
//!
//! What is said here is about the native API, `/api/v1`; beside it there is that of environments, [`fuse`].
//!
//! Everything is JSON over HTTP/1.1. Lists are arrays; `…/events` and `…/progress` are server-sent events; `…/logs` is
//! too if that is accepted, and one JSON object to a line otherwise. Errors are RFC 9457 problems.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /api/v1/server` | | [`ServerInfo`] |
//! | `POST /api/v1/server/stop` | | 202 |
//! | `GET /api/v1/openapi.json` | | [`openapi()`] |
//! | `GET /api/v1/docs` | | a page to browse it |
//! | `GET /api/v1/nodes` | | `[`[`Node`]`]` |
//! | `POST /api/v1/nodes` | [`NodeJoin`] | [`NodeJoined`] |
//! | `GET /api/v1/nodes/{node}` | | [`NodeDetail`] |
//! | `DELETE /api/v1/nodes/{node}` | | 204 |
//! | `POST /api/v1/nodes/{node}/cordon`, `…/uncordon` | | [`Node`] |
//! | `POST /api/v1/nodes/{node}/drain` | [`NodeDrain`] | [`Node`] |
//! | `GET /api/v1/resolve?name=&fleet=&kept=` | | [`Target`]: what a name that somebody typed means; with `kept` also of what is no more, if its output was kept |
//! | `GET /api/v1/fleets` | | `[`[`Fleet`]`]` |
//! | `POST /api/v1/fleets` | [`FleetCreate`] | [`Fleet`] |
//! | `GET /api/v1/fleets/{fleet}` | | [`Fleet`] |
//! | `DELETE /api/v1/fleets/{fleet}?cleanup=` | | 202 |
//! | `POST /api/v1/fleets/{fleet}/apply` | [`Apply`] | [`Applied`] |
//! | `POST /api/v1/fleets/{fleet}/scale` | [`Scale`] | [`Fleet`] |
//! | `GET /api/v1/agents?fleet=` | | `[`[`Agent`]`]` |
//! | `GET /api/v1/fleets/{fleet}/agents/{agent}` | | [`Agent`] |
//! | `DELETE /api/v1/fleets/{fleet}/agents/{agent}?cleanup=` | | 202 |
//! | `POST /api/v1/fleets/{fleet}/agents/{agent}/upgrade` | [`Upgrade`] | [`Upgraded`] |
//! | `GET /api/v1/fleets/{fleet}/agents/{agent}/revisions` | | `[`[`Revision`]`]`, oldest first |
//! | `GET /api/v1/fleets/{fleet}/agents/{agent}/rollout` | | [`RolloutStatus`] |
//! | `POST /api/v1/fleets/{fleet}/agents/{agent}/rollout/undo` | [`RolloutUndo`] | [`AgentOutcome`] |
//! | `POST /api/v1/fleets/{fleet}/agents/{agent}/rollout/pause`, `…/resume` | | [`Changed`] |
//! | `GET /api/v1/fleets/{fleet}/agents/{agent}/instances` | | `[`[`Instance`]`]` |
//! | `GET /api/v1/instances?fleet=&agent=` | | `[`[`Instance`]`]` |
//! | `GET /api/v1/fleets/{fleet}/agents/{agent}/instances/{number}` | | [`InstanceDetail`] |
//! | `DELETE /api/v1/fleets/{fleet}/agents/{agent}/instances/{number}?cleanup=` | | 202 |
//! | `GET /api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/exits` | | `[`[`ExitRecord`]`]`, the newest first |
//! | `GET /api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/health` | | [`HealthReport`] |
//! | `POST /api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/health` | | [`HealthReport`], after a look just now |
//! | `GET /api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/exec` | WebSocket: [`hands`] | a command in the instance |
//! | `GET /api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/ports/{port}` | WebSocket: [`hands`] | a TCP connection into the instance |
//! | `POST /api/v1/change` | [`Change`] | 202 |
//! | `GET /api/v1/progress?fleet=&agent=&number=` | | [`Progress`] just now |
//! | `POST /api/v1/progress` | [`ProgressQuery`] | server-sent [`Progress`] until done |
//! | `GET /api/v1/logs?…` ([`LogQuery`]) | | lines or events of [`LogLine`], [`LogGone`] |
//! | `GET /api/v1/events?…` ([`EventQuery`]) | | `[`[`Event`]`]`, or server-sent events with `follow=true` |
//! | `GET /api/v1/stats?…` ([`StatsQuery`]) | | [`Stats`] |
//! | `GET /api/v1/audit?…` ([`AuditQuery`]) | | `[`[`InstanceAudit`]`]` |
//! | `GET /api/v1/secrets?fleet=` | | `[`[`Secret`]`]` |
//! | `PUT /api/v1/secrets/{fleet}/{name}?replace=` | the value's bytes | [`Secret`] |
//! | `DELETE /api/v1/secrets/{fleet}/{name}` | | [`SecretDeleted`] |
//! | `POST /api/v1/secrets/rotate-key` | [`KeyRotate`] | [`KeyRotated`] |
//! | `GET /api/v1/api-keys` | | `[`[`ApiKey`]`]` |
//! | `POST /api/v1/api-keys` | [`ApiKeyCreate`] | [`ApiKeyCreated`]: the only answer that ever has the key |
//! | `DELETE /api/v1/api-keys/{name}` | | 204 |
//! | `GET /api/v1/agent-profiles` | | `[`[`AgentProfileShown`]`]` |
//! | `GET /api/v1/agent-profiles/{profile}` | | [`AgentProfileShown`] |
//! | `PUT /api/v1/agent-profiles/{profile}` | [`chassis_spec::AgentProfile`] | [`AgentProfileShown`] |
//! | `DELETE /api/v1/agent-profiles/{profile}` | | 204 |
//! | `GET /api/v1/dead-letters` | | `[`[`DeadLetter`]`]` |
//! | `POST /api/v1/dead-letters/{kind}/{environment}/redrive` | | [`Redriven`], once it runs |
//! | `DELETE /api/v1/dead-letters/{kind}/{environment}` | | 204 |
//! | `GET /api/v1/audit-log?…` ([`AuditLogQuery`]) | | `[`[`AuditRecord`]`]` |
//! | `GET /api/v1/audit-log/verify?noted=` | | [`AuditVerified`] |
//! | `GET /health` | | [`Alive`] |
//! | `GET /ready` | | [`Readiness`], with 503 unless all is well |
//! | `GET /metrics` | | figures, as Prometheus reads them |

mod agent_profile;
mod api_key;
mod audit;
mod audit_log;
mod dead_letter;
pub mod fuse;
pub mod hands;
mod health;
mod listening;
mod logs;
mod node;
pub mod openapi;
mod problem;
mod query;
mod ready;
mod rollout;
pub mod route;
mod selector;
mod state;
mod stats;
mod types;

pub use agent_profile::{AgentProfileShown, ProfileFileShown};
pub use api_key::{ApiKey, ApiKeyCreate, ApiKeyCreated};
pub use audit::{AuditQuery, InstanceAudit};
pub use audit_log::{AuditBroken, AuditLogQuery, AuditRecord, AuditVerified, AuditVerifyQuery};
pub use chassis_core::audit::{AuditVerdict, Finding};
pub use chassis_core::environment::FLEET as ENVIRONMENTS;
pub use chassis_core::{
    Amounts, Architecture, AuditEntry, AuditStep, CheckKind, Drain, Duty, Event, EventKind, Exit, ExitLine,
    ExitReason, ExitRecord, HealthState, InstanceKey, NodeName, NodeState, Phase, Pin, Probe, Reason, Role,
    Rollout, RolloutState, Undone, Usage, Verdict,
};
pub use dead_letter::{DeadLetter, Redriven};
pub use health::{CheckReport, HealthReport};
pub use listening::{Certificate, Fingerprint, Listening, NoFingerprint};
pub use logs::{LogGone, LogLevel, LogLine, LogQuery, NoLevel};
pub use node::{Node, NodeDetail, NodeDrain, NodeInstance, NodeJoin, NodeJoined, NodeRemoveQuery};
pub use openapi::openapi;
pub use problem::{PROBLEM_JSON, Problem};
pub use query::{
    AgentListQuery, DeleteQuery, FleetListQuery, InstanceListQuery, Page, ProgressGetQuery, ResolveQuery,
    SecretListQuery, SecretWriteQuery, WaitQuery,
};
pub use ready::{Alive, Readiness, ReadyCheck};
pub use rollout::{Changed, Revision, RevisionOutcome, RolloutStatus, RolloutUndo, Upgrade, Upgraded};
pub use selector::{BadSelector, Selector};
pub use state::{STALE_HEADER, StateInfo};
pub use stats::{InstanceStats, NodeStats, Stats, StatsQuery};
pub use types::{
    Agent, AgentChange, AgentOutcome, Applied, Apply, Change, ChangeKind, EventQuery, Fleet, FleetCreate,
    FleetStuck, Instance, InstanceDetail, KeyRotate, KeyRotated, MountInfo, Progress, ProgressQuery,
    ProgressState, Pull, Scale, Scope, Secret, SecretDeleted, ServerInfo, Stuck, Target,
};
