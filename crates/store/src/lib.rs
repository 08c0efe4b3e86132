//! Durable state: the truth about what people want, and the history of what happened.
//!
//! [`Store`] is one operation for each thing that people or controllers do. Every operation is one transaction: when it
//! returns, its change and the events that tell of it are on disk, or nothing is. Objects carry a version that grows
//! with each change; a caller that passes the version it saw is refused if somebody was faster.
//!
//! What only controllers do is for the server that acts: such an operation (`*_forget`, `*_record`, `instance_event`,
//! `revision_pin`, `rollout_roll_back`) takes the [`Term`] in which it was decided, and fails with [`Error::NotActing`]
//! inside its transaction unless that is the present one.

mod access;
mod copy;
mod environment;
mod error;
mod file;
mod key_file;
mod keyed;
mod node;
mod postgres;
mod snapshot;
mod sql;
mod sqlite;
mod types;

pub use access::{ApiKey, ApiKeyUse, AuditChain, AuditEnd, AuditFilter, AuditRow};
pub use copy::{Copied, copy_to_postgres};
pub use environment::{
    AgentProfileRecord, DeadLetter, Environment, EnvironmentEnd, EnvironmentFilter, EnvironmentNew,
};
pub use error::{Cause, Error, ErrorKind, Result};
pub use key_file::KeyFile;
pub use keyed::{KeptAnswer, KeptRequest, KeyedRequest, inherit_keyed};
pub use node::{DataOwed, NodeChosen, NodeRecord, NodeRegistration, Placed, PlacementUpdate};
pub use postgres::{PostgresOptions, migrate_postgres};
pub use snapshot::{Snapshot, SnapshotDue, SnapshotFilter, SnapshotNew, SnapshotStep};
pub use sql::SqlStore;
pub use sql::audit_log::hash as audit_hash;
pub use sql::key::KeySource;
pub use sqlite::{Inspection, inspect, key_id, migrate_sqlite};
pub use types::{
    Agent, AgentChange, AgentOutcome, AgentRecord, Applied, Apply, Commit, CommitObserver, EventFilter,
    Fleet, InstanceChange, InstanceRecord, InstanceUpdate, Lease, Revision, RevisionOutcome, Scope,
    SecretInfo, Seen, Server, Term,
};

use async_trait::async_trait;
use chassis_core::{
    AgentKey, AuditEntry, Duty, Event, EventKind, ExitRecord, InstanceKey, Liveness, NodeName, NodeSpec, Pin,
    Rollout,
};
use chassis_spec::{AgentName, ApiKeyName, FleetName, ImageName, Labels, SecretName};
use jiff::Timestamp;
use tokio::sync::{broadcast, watch};
use zeroize::Zeroizing;

/// The most instances that an agent can have.
pub const MAX_INSTANCES: u32 = 10_000;

/// The size of the largest secret.
pub const MAX_SECRET_BYTES: usize = 64 << 10;

/// Where a server keeps its state. SQLite serves one server; a second back end serves many.
#[async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// A random name given to this state when it was made; containers carry it, so that two servers on one node never
    /// touch each other's.
    fn server_id(&self) -> &str;

    /// Whether this server is the one that acts: that runs controllers, and records what they see. Where a database
    /// serves one server only, that is always so.
    fn acting(&self) -> watch::Receiver<bool>;
    /// The same, asked of this machine's clock at this moment: false as soon as the lease may have run out, also in a
    /// process that was stopped and has not yet noticed. To be asked before each action on a runtime.
    fn is_acting(&self) -> bool;
    /// The present term, while [`Store::is_acting`].
    fn term(&self) -> Option<Term>;
    /// Who acts, as far as is known; none where a database serves one server only.
    fn lease(&self) -> Option<Lease>;
    /// Gives the lease back for good, so that another server acts at once: for the end of a server, once nothing
    /// acts any more.
    async fn resign(&self);
    /// What other servers changed. A receiver that lags behind has missed something: as [`Seen::Anything`].
    fn changes(&self) -> broadcast::Receiver<Seen>;
    /// Since when the database has not answered; none while it does.
    fn unavailable_since(&self) -> Option<Timestamp>;
    /// Has `observer` told of each commit of this server from now on, instead of whoever was told before.
    fn commit_observe(&self, observer: CommitObserver);
    /// The servers that have the database open, this one among them; none where it serves one server only.
    async fn server_list(&self) -> Result<Vec<Server>>;
    /// On which machine the instances of the own node run, in the servers' own words; none before one has acted.
    async fn node_claimed(&self) -> Result<Option<String>>;
    /// Keeps on which machine the instances run. Unless `replace`, what was kept first stays; returns what is kept.
    async fn node_claim(&self, term: Term, node: &str, replace: bool) -> Result<String>;
    /// Whether nothing new is put on the own node, in a chassis that is alone; see [`Store::node_list`].
    async fn node_is_cordoned(&self) -> Result<bool>;
    async fn node_cordon(&self, cordoned: bool) -> Result<()>;

    /// The nodes by name. None as long as no other than the server's own was ever registered: then the chassis is alone,
    /// and all instances are on the own node.
    async fn node_list(&self) -> Result<Vec<NodeRecord>>;
    async fn node_get(&self, name: &NodeName) -> Result<NodeRecord>;
    /// Keeps a node, or how it is asked from now on: its duty and its instances stay. With the first one the server's own,
    /// `own`, is kept too, and has every instance that there is, and the data of those in `kept`. Fails with
    /// [`Error::NodeIsOwn`] and [`Error::NodeTaken`].
    async fn node_register(
        &self,
        new: NodeRegistration,
        own: &NodeSpec,
        kept: Vec<InstanceKey>,
        expected: Option<u64>,
    ) -> Result<NodeRecord>;
    /// What the node lets this chassis in for; the own one has none.
    async fn node_token(&self, name: &NodeName) -> Result<Zeroizing<String>>;
    /// Keeps what people want of a node.
    async fn node_assign(&self, name: &NodeName, duty: Duty, expected: Option<u64>) -> Result<NodeRecord>;
    /// Forgets a node. Fails with [`Error::NodeInUse`] if an instance is there, or has its data there.
    async fn node_remove(&self, name: &NodeName, expected: Option<u64>) -> Result<()>;
    /// Forgets a node that is down and whose machine is gone for good: its instances have no place any more, its data is
    /// lost, and its environments end. Fails with [`Error::NodeNotDown`].
    async fn node_abandon(&self, name: &NodeName, expected: Option<u64>) -> Result<()>;
    /// Keeps what is known of a node. One that is gone is passed over.
    async fn node_note(&self, term: Term, name: &NodeName, liveness: Liveness) -> Result<()>;
    /// Tells that a node is empty that was to be.
    async fn node_drained(&self, term: Term, name: &NodeName) -> Result<()>;
    /// The instances that have a place, on one node or on any, by fleet, agent and number.
    async fn placement_list(&self, node: Option<&NodeName>) -> Result<Vec<(InstanceKey, Placed)>>;
    /// The instances whose data is on a node, also those that are no more.
    async fn home_list(&self, node: &NodeName) -> Result<Vec<InstanceKey>>;
    /// Notes that data which is at home on a node is to be removed there once it answers, and is at home nowhere any more.
    async fn data_owe(&self, term: Term, node: &NodeName, of: Scope) -> Result<()>;
    async fn data_owed(&self, node: &NodeName) -> Result<Vec<DataOwed>>;
    /// It is removed.
    async fn data_paid(&self, term: Term, owed: DataOwed) -> Result<()>;
    /// Counts the books that were begun by a scheduler, this one included: epochs and terms of nodes are numbered from there.
    async fn schedule_begin(&self, term: Term) -> Result<u32>;
    /// Keeps where instances are. Those that are gone are passed over.
    async fn placements_record(&self, term: Term, updates: Vec<PlacementUpdate>) -> Result<()>;

    /// Makes an empty fleet. Fails with [`Error::FleetExists`].
    async fn fleet_create(&self, name: &FleetName, labels: &Labels) -> Result<Fleet>;
    async fn fleet_get(&self, name: &FleetName) -> Result<Fleet>;
    /// All fleets by name.
    async fn fleet_list(&self) -> Result<Vec<Fleet>>;
    /// Marks the fleet, its agents and their instances for deletion; with their data if `cleanup`.
    async fn fleet_delete(&self, name: &FleetName, cleanup: bool, expected: Option<u64>) -> Result<Fleet>;
    /// Ends the deletion once the last agent is gone: takes away the fleet and its secrets.
    async fn fleet_forget(&self, term: Term, name: &FleetName) -> Result<()>;

    /// Declares agents of one fleet: new ones are created, changed ones get a revision, `replicas` scales.
    /// With `dry_run` it answers the same and changes nothing.
    async fn apply(&self, apply: &Apply) -> Result<Applied>;

    async fn agent_load(&self, key: &AgentKey) -> Result<AgentRecord>;
    /// Every agent with its instances, by name: what a server begins with.
    async fn agent_load_all(&self) -> Result<Vec<AgentRecord>>;
    /// Sets the count of an agent's instances; see [`chassis_core::scale`].
    async fn agent_scale(&self, key: &AgentKey, count: u32, expected: Option<u64>) -> Result<AgentRecord>;
    async fn agent_delete(&self, key: &AgentKey, cleanup: bool, expected: Option<u64>)
    -> Result<AgentRecord>;
    /// Ends the deletion once the last instance is gone.
    async fn agent_forget(&self, term: Term, key: &AgentKey) -> Result<()>;

    /// Every revision that is kept, oldest first.
    async fn revision_list(&self, key: &AgentKey) -> Result<Vec<Revision>>;
    async fn revision_get(&self, key: &AgentKey, revision: u64) -> Result<Revision>;
    /// Keeps which image a revision runs, and all that share its containers. The first one wins, and is returned.
    async fn revision_pin(&self, term: Term, key: &AgentKey, revision: u64, pin: &Pin) -> Result<Pin>;
    /// Makes a new revision with the definition and the image of an earlier one: of `to`, or of the last other one that
    /// was complete. With `dry_run` it answers the same and changes nothing.
    async fn revision_undo(
        &self,
        key: &AgentKey,
        to: Option<u64>,
        dry_run: bool,
        expected: Option<u64>,
    ) -> Result<AgentOutcome>;
    /// Makes a new revision with another image, or with another meaning of the present image's name; none if nothing
    /// would differ.
    async fn agent_upgrade(
        &self,
        key: &AgentKey,
        image: Option<&ImageName>,
        pin: Option<&Pin>,
        expected: Option<u64>,
    ) -> Result<AgentOutcome>;
    /// Keeps what became of the rollout `before`. False, and nothing is kept, if the agent's is another one by now.
    async fn rollout_record(
        &self,
        term: Term,
        key: &AgentKey,
        before: &Rollout,
        after: &Rollout,
        event: Option<EventKind>,
    ) -> Result<bool>;
    /// Makes a new revision with what [`Rollout::from`] names. False, and nothing is done, if the agent's rollout is
    /// another one by now.
    async fn rollout_roll_back(
        &self,
        term: Term,
        key: &AgentKey,
        before: &Rollout,
        why: &str,
    ) -> Result<bool>;
    /// Pauses the agent's rollouts, also those to come, or lets them go on. False if that is so already.
    async fn rollout_pause(&self, key: &AgentKey, paused: bool, expected: Option<u64>) -> Result<bool>;

    /// Asks for a start, stop or restart of one instance, of all of an agent or of all of a fleet, and returns the agents
    /// that this concerns. `expected` is the fleet's version if the scope is a fleet, and otherwise the agent's.
    async fn instance_change(
        &self,
        scope: &Scope,
        change: InstanceChange,
        expected: Option<u64>,
    ) -> Result<Vec<AgentKey>>;
    /// Takes one instance away, and so lowers its agent's count. `expected` is the agent's version.
    async fn instance_delete(
        &self,
        key: &InstanceKey,
        cleanup: bool,
        expected: Option<u64>,
    ) -> Result<AgentRecord>;
    /// Keeps what controllers noted, with the events that tell of it. Instances that are gone are passed over.
    async fn instance_record(&self, term: Term, updates: Vec<InstanceUpdate>) -> Result<()>;
    /// The last runs of an instance that are over, the newest first; none if there is no such instance.
    async fn instance_exits(&self, key: &InstanceKey) -> Result<Vec<ExitRecord>>;
    /// Appends an event of an instance that changes nothing of it.
    async fn instance_event(&self, term: Term, key: &InstanceKey, kind: EventKind) -> Result<()>;
    /// Ends the deletion of an instance whose container, and data if asked, are gone.
    async fn instance_forget(&self, term: Term, key: &InstanceKey, cleanup: bool) -> Result<()>;

    /// What is kept of a request with this key; see [`KeyedRequest`].
    async fn keyed_find(&self, caller: &str, key: &str) -> Result<Option<KeptRequest>>;
    /// Keeps the answer to a request that is kept.
    async fn keyed_answer(&self, caller: &str, key: &str, answer: KeptAnswer) -> Result<()>;
    /// Forgets requests from before `before`, and of the rest all but the newest `most`.
    async fn keyed_sweep(&self, before: Timestamp, most: u32) -> Result<()>;

    /// Events in the order in which they happened.
    async fn event_list(&self, filter: &EventFilter) -> Result<Vec<Event>>;
    /// The id of the newest event: followers wait for it to change and list what is new.
    fn event_watch(&self) -> watch::Receiver<u64>;

    /// Keeps a secret, encrypted. Fails with [`Error::SecretExists`] unless `replace`.
    async fn secret_write(
        &self,
        fleet: &FleetName,
        name: &SecretName,
        value: Zeroizing<Vec<u8>>,
        replace: bool,
        expected: Option<u64>,
    ) -> Result<SecretInfo>;
    /// The same for the same text, as long as the secrets' key is the same; tells nobody without that key what the text is.
    async fn secret_mark(&self, text: Zeroizing<Vec<u8>>) -> Result<Vec<u8>>;
    async fn secret_read(&self, fleet: &FleetName, name: &SecretName) -> Result<Zeroizing<Vec<u8>>>;
    /// Names and versions, never values; of all fleets without `fleet`.
    async fn secret_list(&self, fleet: Option<&FleetName>) -> Result<Vec<SecretInfo>>;
    async fn secret_delete(&self, fleet: &FleetName, name: &SecretName, expected: Option<u64>) -> Result<()>;
    /// Encrypts every secret anew: with `new_key` (64 hex digits) if the key comes from the environment, else with a
    /// fresh key in the key file. Returns how many were rewritten.
    async fn secret_rotate(&self, new_key: Option<Zeroizing<String>>) -> Result<u32>;

    /// Makes an environment with its agent and instance, and the fleet of all environments if there is none. Fails with
    /// [`Error::EnvironmentExists`].
    async fn environment_create(&self, new: EnvironmentNew) -> Result<Environment>;
    async fn environment_get(&self, id: &str) -> Result<Environment>;
    /// The environment of an agent, if it is one's.
    async fn environment_find(&self, key: &AgentKey) -> Result<Option<Environment>>;
    /// By id.
    async fn environment_list(&self, filter: &EnvironmentFilter) -> Result<Vec<Environment>>;
    /// Its token, secrets and files.
    async fn environment_private(&self, id: &str) -> Result<Zeroizing<Vec<u8>>>;
    /// Keeps others; only of one that runs or drains.
    async fn environment_private_write(&self, id: &str, private: Zeroizing<Vec<u8>>) -> Result<()>;
    /// It runs from now on. Returns it as it then is; none if it was not being provisioned any more.
    async fn environment_run(&self, term: Term, id: &str) -> Result<Option<Environment>>;
    /// It takes nothing new from now on, and its instance is to stop. Fails with [`Error::EnvironmentNotRunning`].
    async fn environment_drain(&self, id: &str) -> Result<Environment>;
    /// Its agent could not finish what it does: its instance is to run on, and it still drains. False if it does not any
    /// more.
    async fn environment_drain_failed(&self, term: Term, id: &str, error: &str) -> Result<bool>;
    /// Keeps what went wrong with it, or that nothing is wrong any more.
    async fn environment_note(&self, id: &str, error: Option<&str>) -> Result<Environment>;
    /// Ends it, with its instance and all its data.
    async fn environment_end(&self, id: &str) -> Result<Environment>;
    /// The same though nobody asked for it.
    async fn environment_expire(&self, term: Term, id: &str, why: EnvironmentEnd) -> Result<Environment>;

    /// Notes that a snapshot of an environment that runs is to be taken. Fails with [`Error::SnapshotQuota`].
    async fn snapshot_create(&self, new: SnapshotNew) -> Result<Snapshot>;
    async fn snapshot_get(&self, id: &str) -> Result<Snapshot>;
    /// The newest first.
    async fn snapshot_list(&self, filter: &SnapshotFilter) -> Result<Vec<Snapshot>>;
    /// Notes that its environment is to be taken back to it. Fails with [`Error::SnapshotState`].
    async fn snapshot_restore(&self, id: &str) -> Result<Snapshot>;
    /// Notes that it is to go; none if it is gone. Fails with [`Error::SnapshotHasChildren`].
    async fn snapshot_delete(&self, id: &str) -> Result<Option<Snapshot>>;
    /// Keeps what became of it on its runtime, unless it is in another state by now.
    async fn snapshot_step(&self, term: Term, id: &str, step: SnapshotStep) -> Result<()>;
    /// Those that something is to be done about by `now`, and when to ask again for others.
    async fn snapshot_due(&self, now: Timestamp) -> Result<(Vec<SnapshotDue>, Option<Timestamp>)>;

    /// The newest first.
    async fn dead_letter_list(&self) -> Result<Vec<DeadLetter>>;
    /// One, with the secrets, files and tokens of its environment, if they were kept.
    async fn dead_letter_read(
        &self,
        kind: &str,
        entity: &str,
    ) -> Result<(DeadLetter, Option<Zeroizing<Vec<u8>>>)>;
    async fn dead_letter_delete(&self, kind: &str, entity: &str) -> Result<()>;

    /// Keeps a profile of an agent, instead of the one that has the name.
    async fn agent_profile_write(
        &self,
        name: &AgentName,
        profile: Zeroizing<Vec<u8>>,
    ) -> Result<AgentProfileRecord>;
    /// Fails with [`Error::AgentProfileNotFound`].
    async fn agent_profile_read(&self, name: &AgentName) -> Result<AgentProfileRecord>;
    /// By name.
    async fn agent_profile_list(&self) -> Result<Vec<AgentProfileRecord>>;
    async fn agent_profile_delete(&self, name: &AgentName) -> Result<()>;

    /// Keeps a key of the API. Fails with [`Error::ApiKeyExists`].
    async fn api_key_create(&self, key: &ApiKey) -> Result<()>;
    /// All keys by name, also those that have expired or were revoked.
    async fn api_key_list(&self) -> Result<Vec<ApiKey>>;
    async fn api_key_delete(&self, name: &ApiKeyName) -> Result<()>;
    /// Lets nobody in with it from now on, and keeps it in the list. One that is revoked already stays so.
    async fn api_key_revoke(&self, name: &ApiKeyName) -> Result<()>;
    /// Notes when keys were last used.
    async fn api_key_used(&self, uses: Vec<ApiKeyUse>) -> Result<()>;

    /// Appends rows to the audit log, and returns their ids.
    async fn audit_append(&self, entries: Vec<AuditEntry>) -> Result<Vec<u64>>;
    async fn audit_list(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>>;
    /// The two ends of the audit log's chain.
    async fn audit_chain(&self) -> Result<AuditChain>;
    /// Takes away the oldest rows of the audit log, from before `time`. Returns how many.
    async fn audit_prune(&self, time: Timestamp) -> Result<u64>;
}
