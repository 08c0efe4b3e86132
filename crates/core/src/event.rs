//! What happened, as data. Each event is appended to the store in the transaction that made it true.

use std::fmt;

use chassis_spec::{AgentName, FleetName};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environment::Told;
use crate::exit_record::LEASE_ENDED;
use crate::instance::{Exit, Reason};
use crate::node::NodeName;
use crate::snapshot;

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Grows by one with each event; a reader resumes after the last id that it saw.
    pub id: u64,
    pub time: Timestamp,
    /// None for what happened to a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened, with what is worth knowing about it. Never a secret's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "detail")]
pub enum EventKind {
    FleetCreated,
    FleetDeleted,
    /// The agent has a new revision.
    AgentDeployed {
        revision: u64,
        image: String,
    },
    AgentDeleted,
    Scaled {
        from: u32,
        to: u32,
    },
    StartRequested,
    StopRequested,
    RestartRequested,
    DeleteRequested {
        cleanup: bool,
    },
    Started,
    /// Started again by its node while no server could be reached.
    RestartedByNode,
    /// Ended because somebody asked for it.
    Stopped,
    /// Ended though nobody asked for it.
    Exited(Exit),
    /// The container went without an exit being seen.
    Lost,
    /// Its node does not answer, and has ended it by now, so that it can run elsewhere.
    LeaseEnded,
    /// Its health check succeeds, for the first time in this run or again.
    Healthy,
    /// Its health check has failed as often as it may.
    Unhealthy {
        message: String,
    },
    /// It is unhealthy, and is stopped to be started again.
    Condemned {
        message: String,
    },
    /// Its readiness check succeeds.
    Ready,
    /// Its readiness check has failed as often as it may.
    NotReady {
        message: String,
    },
    /// It could not be drained before it was stopped.
    DrainFailed {
        message: String,
    },
    /// An action failed; said once for each reason, not for each try.
    Blocked {
        reason: Reason,
        message: String,
    },
    Deleted {
        cleanup: bool,
    },
    /// What a container had printed could not be copied before it was removed.
    OutputLost {
        message: String,
    },
    /// A revision begins to take over from another.
    RolloutStarted {
        revision: u64,
        from: u64,
    },
    /// Every instance is ready with it.
    RolloutCompleted {
        revision: u64,
    },
    RolloutFailed {
        revision: u64,
        message: String,
    },
    /// A failed revision is undone by a new one, with the definition of an earlier one.
    RolledBack {
        from: u64,
        to: u64,
        revision: u64,
    },
    RolloutPaused {
        revision: u64,
    },
    RolloutResumed {
        revision: u64,
    },
    SecretWritten {
        name: String,
    },
    SecretDeleted {
        name: String,
    },
    KeyRotated {
        secrets: u32,
    },
    /// An environment is in another state.
    Environment {
        id: String,
        state: Told,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// An environment has a new token, and the one before is refused.
    TokenRotated,
    /// An instance has a place, for the first time or another one.
    InstancePlaced {
        node: NodeName,
    },
    /// An instance has no place on this node any more.
    InstanceLeft {
        node: NodeName,
        /// It was not asked to: the node does not answer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        down: bool,
    },
    /// A machine runs instances from now on, or is asked in another way.
    NodeRegistered {
        node: NodeName,
        url: String,
    },
    /// It keeps what it has and gets nothing new.
    NodeCordoned {
        node: NodeName,
    },
    /// What it has is to go elsewhere.
    NodeDraining {
        node: NodeName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// It takes instances again.
    NodeOpened {
        node: NodeName,
    },
    /// What was to leave it has left.
    NodeDrained {
        node: NodeName,
    },
    /// It has not been heard for a while.
    NodeSuspect {
        node: NodeName,
    },
    /// It has been silent for so long that it is not waited for any more.
    NodeDown {
        node: NodeName,
    },
    NodeUp {
        node: NodeName,
    },
    NodeRemoved {
        node: NodeName,
        /// Somebody said that its machine is gone for good.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        gone: bool,
    },
    /// What an instance had in its volumes was on a machine that is gone for good.
    DataLost {
        node: NodeName,
    },
    /// A snapshot of an environment is in another state.
    Snapshot {
        id: String,
        environment: String,
        state: snapshot::Told,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

impl EventKind {
    /// The node that it happened to.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            EventKind::NodeRegistered { node, .. }
            | EventKind::NodeCordoned { node }
            | EventKind::NodeDraining { node, .. }
            | EventKind::NodeOpened { node }
            | EventKind::NodeDrained { node }
            | EventKind::NodeSuspect { node }
            | EventKind::NodeDown { node }
            | EventKind::NodeUp { node }
            | EventKind::NodeRemoved { node, .. } => Some(node),
            _ => None,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventKind::FleetCreated => write!(formatter, "fleet created"),
            EventKind::FleetDeleted => write!(formatter, "fleet deleted"),
            EventKind::AgentDeployed { revision, image } => {
                write!(formatter, "revision {revision} deployed, image {image}")
            }
            EventKind::AgentDeleted => write!(formatter, "agent deleted"),
            EventKind::Scaled { from, to } => write!(formatter, "scaled from {from} to {to}"),
            EventKind::StartRequested => write!(formatter, "start requested"),
            EventKind::StopRequested => write!(formatter, "stop requested"),
            EventKind::RestartRequested => write!(formatter, "restart requested"),
            EventKind::DeleteRequested { cleanup: false } => {
                write!(formatter, "deletion requested, data is kept")
            }
            EventKind::DeleteRequested { cleanup: true } => {
                write!(formatter, "deletion requested, with its data")
            }
            EventKind::Started => write!(formatter, "started"),
            EventKind::RestartedByNode => {
                write!(formatter, "restarted by its node while no server was reached")
            }
            EventKind::Stopped => write!(formatter, "stopped"),
            EventKind::Exited(exit) if exit.unhealthy => {
                write!(formatter, "stopped because it was unhealthy (exit code {})", exit.code)
            }
            EventKind::Exited(exit) if exit.unleased => {
                write!(formatter, "ended: {LEASE_ENDED} (exit code {})", exit.code)
            }
            EventKind::LeaseEnded => write!(formatter, "ended: {LEASE_ENDED}"),
            EventKind::Exited(exit) => match (exit.out_of_memory, exit.signal()) {
                (true, _) => write!(formatter, "ran out of memory (exit code {})", exit.code),
                (false, Some(signal)) => {
                    write!(formatter, "killed by signal {signal} (exit code {})", exit.code)
                }
                (false, None) => write!(formatter, "exited with code {}", exit.code),
            },
            EventKind::Lost => {
                write!(formatter, "its container is gone, though nobody asked chassis for that")
            }
            EventKind::Healthy => write!(formatter, "healthy"),
            EventKind::Unhealthy { message } => write!(formatter, "unhealthy: {message}"),
            EventKind::Condemned { message } => {
                write!(formatter, "restarted because it is unhealthy: {message}")
            }
            EventKind::Ready => write!(formatter, "ready"),
            EventKind::NotReady { message } => write!(formatter, "not ready: {message}"),
            EventKind::DrainFailed { message } => write!(formatter, "not drained: {message}"),
            EventKind::Blocked { message, .. } => write!(formatter, "{message}"),
            EventKind::Deleted { cleanup: false } => write!(formatter, "deleted, data kept"),
            EventKind::Deleted { cleanup: true } => write!(formatter, "deleted with its data"),
            EventKind::OutputLost { message } => write!(formatter, "output not kept: {message}"),
            EventKind::RolloutStarted { revision, from } => {
                write!(formatter, "revision {revision} takes over from revision {from}")
            }
            EventKind::RolloutCompleted { revision } => write!(formatter, "revision {revision} is complete"),
            EventKind::RolloutFailed { revision, message } => {
                write!(formatter, "revision {revision} failed: {message}")
            }
            EventKind::RolledBack { from, to, revision } => {
                write!(formatter, "rolled back from revision {from} to revision {to}, as revision {revision}")
            }
            EventKind::RolloutPaused { revision } => {
                write!(formatter, "rollout of revision {revision} paused")
            }
            EventKind::RolloutResumed { revision } => {
                write!(formatter, "rollout of revision {revision} resumed")
            }
            EventKind::SecretWritten { name } => write!(formatter, "secret {name} written"),
            EventKind::SecretDeleted { name } => write!(formatter, "secret {name} deleted"),
            EventKind::KeyRotated { secrets } => {
                write!(formatter, "encryption key rotated, {secrets} secrets rewritten")
            }
            EventKind::Environment { id, state, error: None } => {
                write!(formatter, "environment {id} {}", state.word())
            }
            EventKind::Environment { id, state, error: Some(error) } => {
                write!(formatter, "environment {id} {}: {error}", state.word())
            }
            EventKind::TokenRotated => write!(formatter, "token rotated"),
            EventKind::InstancePlaced { node } => write!(formatter, "placed on node {node}"),
            EventKind::InstanceLeft { node, down: true } => {
                write!(formatter, "taken from node {node}, which does not answer, to run elsewhere")
            }
            EventKind::InstanceLeft { node, down: false } => write!(formatter, "moves away from node {node}"),
            EventKind::NodeRegistered { url, .. } => write!(formatter, "node registered, at {url}"),
            EventKind::NodeCordoned { .. } => write!(formatter, "node cordoned: it gets nothing new"),
            EventKind::NodeDraining { deadline: None, .. } => {
                write!(formatter, "node draining: what it has goes elsewhere where it can")
            }
            EventKind::NodeDraining { deadline: Some(deadline), .. } => {
                write!(formatter, "node draining: what it has goes elsewhere, all of it by {deadline:.0}")
            }
            EventKind::NodeOpened { .. } => write!(formatter, "node open: it takes instances again"),
            EventKind::NodeDown { .. } => {
                write!(
                    formatter,
                    "node down: it does not answer; what may move is placed elsewhere, all else stays its own"
                )
            }
            EventKind::NodeDrained { .. } => write!(formatter, "node drained: it has nothing any more"),
            EventKind::NodeSuspect { .. } => {
                write!(formatter, "node suspect: it does not answer, and gets nothing new")
            }
            EventKind::NodeUp { .. } => write!(formatter, "node back"),
            EventKind::NodeRemoved { gone: false, .. } => write!(formatter, "node removed"),
            EventKind::NodeRemoved { gone: true, .. } => {
                write!(formatter, "node removed: its machine is gone for good")
            }
            EventKind::DataLost { node } => {
                write!(formatter, "data lost: it was on node {node}, which is gone for good")
            }
            EventKind::Snapshot { id, environment, state, error } => {
                write!(formatter, "snapshot {id} of {environment} {}", state.word())?;
                error.as_ref().map_or(Ok(()), |error| write!(formatter, ": {error}"))
            }
        }
    }
}
