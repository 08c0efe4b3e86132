//! What to do, decided without I/O, clock or randomness: everything here is a function of its arguments.
//!
//! The server observes a fleet, asks [`plan()`] what to do about it, carries the actions out, and asks again. That a
//! fleet converges, that no number is ever run twice and that nothing foreign is touched is decided, and tested, here.

pub mod access;
pub mod address;
pub mod audit;
pub mod audit_log;
pub mod backoff;
pub mod budget;
pub mod cidr;
pub mod environment;
pub mod event;
pub mod exit_record;
pub mod health;
pub mod instance;
pub mod journal;
pub mod key;
pub mod node;
pub mod plan;
pub mod policy;
pub mod rate;
pub mod rollout;
pub mod scale;
pub mod schedule;
pub mod snapshot;
pub mod usage;

pub use access::{Grant, Need, Place, Reach, Role};
pub use address::address_is_public;
pub use audit_log::{AuditEntry, AuditStep};
pub use budget::RestartBudget;
pub use cidr::{Cidr, CidrError};
pub use event::{Event, EventKind};
pub use exit_record::{ExitLine, ExitReason, ExitRecord};
pub use health::{Check, CheckKind, Health, HealthState, Probe, Verdict};
pub use instance::{
    Blocked, Condemned, Desired, Exit, Instance, Limits, Memory, Observed, Phase, Reason, Run, RunState,
    Site, Wanted,
};
pub use journal::{Entry, Happened, Told};
pub use key::{AgentKey, InstanceKey};
pub use node::{Amounts, Architecture, Drain, Duty, Liveness, Node, NodeName, NodeSpec, NodeState};
pub use plan::{Action, AgentDesired, Plan, plan};
pub use policy::{Opening, Refusal};
pub use rollout::{Pin, Rollout, RolloutState, Undone};
pub use schedule::{Rules, Scheduler};
pub use usage::Usage;
