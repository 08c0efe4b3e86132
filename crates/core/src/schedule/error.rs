//! Why the scheduler does not do what it is asked.

use crate::key::InstanceKey;
use crate::node::NodeName;

use super::gates::Refused;

/// What it was asked cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is no node `{0}`; `chassis node list` shows those that there are")]
    UnknownNode(NodeName),
    #[error("{0} is not known to the scheduler")]
    UnknownInstance(InstanceKey),
    #[error("{0} has a place or waits for one already; end it first")]
    AlreadyKnown(InstanceKey),
    /// A request that does not wait.
    #[error("{0}")]
    NoPlace(Refused),
    #[error(
        "{queued} requests are waiting for a place already; wait until some have one, or ask for it without waiting"
    )]
    QueueFull { queued: usize },
    #[error("the reservation {0} has been confirmed or released, or has expired; reserve again")]
    NotReserved(u64),
    #[error(
        "node {node} still has {count} instances; drain it first, or say that the machine is gone for good"
    )]
    NodeInUse { node: NodeName, count: usize },
}

impl Error {
    /// A word for programs; never changes for a variant.
    pub fn code(&self) -> &'static str {
        match self {
            Error::UnknownNode(_) => "node_unknown",
            Error::UnknownInstance(_) => "instance_unknown",
            Error::AlreadyKnown(_) => "instance_known",
            Error::NoPlace(_) => "no_place",
            Error::QueueFull { .. } => "queue_full",
            Error::NotReserved(_) => "not_reserved",
            Error::NodeInUse { .. } => "node_in_use",
        }
    }
}
