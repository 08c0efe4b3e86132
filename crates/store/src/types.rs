//! What the store keeps, as data.

use std::sync::Arc;
use std::time::Duration;

use chassis_core::{AgentKey, Desired, EventKind, ExitRecord, InstanceKey, Memory, NodeName, Pin, Rollout};
use chassis_spec::{AgentName, AgentSpec, FleetName, Labels, SecretName};
use jiff::Timestamp;

use crate::node::Placed;

/// A named group of agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    pub name: FleetName,
    pub labels: Labels,
    pub version: u64,
    pub created_at: Timestamp,
    /// Marked for deletion: it takes no new agents and goes with its last one.
    pub deleting: bool,
    /// The deletion takes all data along, also that of instances and agents that are no more.
    pub cleanup: bool,
}

/// An agent at its present revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub key: AgentKey,
    /// Counts the definitions that this agent has had, from 1.
    pub revision: u64,
    /// With its `fleet`, and without `replicas`: the count is that of the instances.
    pub spec: Arc<AgentSpec>,
    /// Grows with each revision, each change of the count, and the deletion.
    pub version: u64,
    pub created_at: Timestamp,
    /// When the present revision was deployed.
    pub deployed_at: Timestamp,
    pub deleting: bool,
    /// The deletion takes all data along, also that of instances that are no more.
    pub cleanup: bool,
    /// The revision at which containers were last to be made anew.
    pub template: u64,
    /// The revisions whose containers serve the present one, which is among them.
    pub serving: Arc<[u64]>,
    /// The image of the present revision, once that is known.
    pub pin: Option<Pin>,
    /// None for a revision from before there were rollouts, and of an environment.
    pub rollout: Option<Rollout>,
}

/// One definition that an agent has or had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub revision: u64,
    /// The revision at which containers were last to be made anew.
    pub template: u64,
    /// As in [`Agent::spec`].
    pub spec: Arc<AgentSpec>,
    /// Where it came from, for people: `deploy`, `upgrade`, `undo of 3, back to 2`, `rollback from 3: …`.
    pub cause: String,
    pub pin: Option<Pin>,
    /// None until it is known.
    pub outcome: Option<RevisionOutcome>,
    pub deployed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionOutcome {
    /// Every instance was ready with it.
    Complete,
    Failed,
}

/// One instance as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceRecord {
    pub number: u32,
    pub desired: Desired,
    pub memory: Memory,
    pub version: u64,
    pub created_at: Timestamp,
    /// None while it waits for a place; in a chassis that is alone always, where it means the server's own node.
    pub placed: Option<Placed>,
    /// The node that has the data of its volumes, once there is some; none in a chassis that is alone.
    pub home: Option<NodeName>,
}

/// An agent with its instances, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    pub agent: Agent,
    pub instances: Vec<InstanceRecord>,
}

/// Agents to declare in one fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apply {
    pub fleet: FleetName,
    /// Make the fleet, with these labels, if there is none.
    pub create_fleet: Option<Labels>,
    pub agents: Vec<AgentSpec>,
    /// Delete the fleet's agents that are not among `agents`; their data is kept.
    pub prune: bool,
    pub dry_run: bool,
    /// The version that the fleet must still have.
    pub expected: Option<u64>,
}

/// What an [`Apply`] did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub fleet_created: bool,
    /// One for each declared agent in the order given, then those to prune by name.
    pub agents: Vec<AgentOutcome>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOutcome {
    pub agent: AgentName,
    pub change: AgentChange,
    /// The revision after it.
    pub revision: u64,
    /// The count of instances before and after it.
    pub replicas: (u32, u32),
    /// What was there before, and what is there now; as in [`Agent::spec`].
    pub old: Option<Arc<AgentSpec>>,
    pub new: Option<Arc<AgentSpec>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentChange {
    Created,
    /// Has a new revision.
    Updated,
    /// Only its count changed.
    Scaled,
    Unchanged,
    Deleted,
    /// In the fleet but not declared, and left alone because `prune` was not asked for.
    Undeclared,
}

/// A fleet, an agent of it, or one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub fleet: FleetName,
    pub agent: Option<AgentName>,
    pub number: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceChange {
    /// Wanted running. One that is not running starts now, whatever its backoff or restart policy says.
    Start,
    Stop,
    /// Wanted running, in a run that begins after now.
    Restart,
}

/// What a controller noted of an instance, and the events that tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceUpdate {
    pub key: InstanceKey,
    pub memory: Memory,
    /// What its node told of earlier, with the times.
    pub past: Vec<(Timestamp, EventKind)>,
    pub events: Vec<EventKind>,
    /// Runs that ended.
    pub exits: Vec<ExitRecord>,
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    pub fleet: FleetName,
    pub name: SecretName,
    /// Grows with each new value.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Which events to list. The empty filter lists the oldest `limit` events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub fleet: Option<FleetName>,
    pub agent: Option<AgentName>,
    pub number: Option<u32>,
    /// Only events with a greater id.
    pub after: Option<u64>,
    /// Only events from then on.
    pub since: Option<Timestamp>,
    /// Only events of these kinds; in capitals or not. All if there are none.
    pub kinds: Vec<String>,
    /// At most so many; 0 is none.
    pub limit: u32,
    /// The newest `limit` rather than the oldest; still in the order in which they happened.
    pub newest: bool,
}

/// The right to act, which one of several servers on a database has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The server that has it, by the name that it gave itself.
    pub holder: String,
    /// Grows whenever another server takes over.
    pub epoch: u64,
    /// It is this server.
    pub ours: bool,
}

/// One time that a server acts, from its taking the lease to its losing it. Whoever decides something as the server that
/// acts asks for it before looking at what the decision rests on, and hands it over with each write that follows: should
/// another server have acted in between, the write is refused, also if this server acts again by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term(pub(crate) u64);

impl Term {
    /// Of a server that is alone on its database.
    pub(crate) const ONLY: Term = Term(0);

    /// That of the lease, which grows with each takeover; 0 where there is no lease.
    pub fn epoch(self) -> u64 {
        self.0
    }
}

/// A server that has the database open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The name that it gave itself.
    pub name: String,
    /// Since when, by the database's clock.
    pub since: Timestamp,
}

/// What another server changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// These agents, their instances or revisions; also agents that are no more.
    Agents(Vec<AgentKey>),
    /// The nodes: which there are, or what is wanted of them.
    Nodes,
    /// Perhaps everything: notices were lost, or there were too many.
    Anything,
}

/// One transaction that was committed, or was not for a failure of the database.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    /// The writes that shared it.
    pub operations: usize,
    pub took: Duration,
}

/// Is told of each commit, on the thread that writes: it must not wait for anything.
pub type CommitObserver = Box<dyn Fn(Commit) + Send>;
