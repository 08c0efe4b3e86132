//! What a store operation can fail with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chassis_core::environment::State;
use chassis_core::snapshot::State as SnapshotState;
use chassis_core::{AgentKey, InstanceKey, NodeName};
use chassis_spec::{AgentName, ApiKeyName, FleetName, SecretName, SecretRef};

pub type Result<T> = std::result::Result<T, Error>;

/// The back end's own error. Shared, because all operations that were to be committed together fail together.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Every variant has a stable [`Error::code`] and says what to do next where the caller can do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no fleet `{0}`; `chassis ps --fleets` shows those that are there")]
    FleetNotFound(FleetName),
    #[error("fleet `{0}` exists already")]
    FleetExists(FleetName),
    #[error("fleet `{0}` is being deleted; wait until `chassis ps` no longer shows it")]
    FleetDeleting(FleetName),
    #[error("there is no agent `{agent}` in fleet `{fleet}`")]
    AgentNotFound { fleet: FleetName, agent: AgentName },
    #[error(
        "agent `{agent}` of fleet `{fleet}` is being deleted; wait until `chassis ps` no longer shows it"
    )]
    AgentDeleting { fleet: FleetName, agent: AgentName },
    #[error("agent `{0}` is declared twice; leave one out or rename it")]
    AgentRepeated(AgentName),
    #[error(
        "agent `{new}` would share instance or container names with agent `{existing}`; choose another name"
    )]
    NameCollision { new: AgentKey, existing: AgentKey },
    #[error(
        "agent `{key}` has no revision {revision}; `chassis rollout history {key}` shows those that it has"
    )]
    RevisionNotFound { key: AgentKey, revision: u64 },
    #[error(
        "agent `{0}` has no other revision to go back to; `chassis rollout history {0}` shows those that it has"
    )]
    NothingToUndo(AgentKey),
    #[error("there is no instance `{0}`")]
    InstanceNotFound(InstanceKey),
    #[error("{what} was changed meanwhile: it is at version {found}, not {expected}; look at it again")]
    VersionConflict { what: String, expected: u64, found: u64 },
    #[error("another server carries out the first request with this key")]
    KeyTaken,
    #[error("{0} is not being deleted, or no longer in that way")]
    NotDeleting(String),
    #[error("{what} still has {holds}")]
    NotEmpty { what: String, holds: &'static str },
    #[error("agent `{agent}` cannot have {count} instances; the most is {most}", most = crate::MAX_INSTANCES)]
    TooManyInstances { agent: AgentName, count: u32 },
    #[error(
        "agent `{agent}` has a fixed hostPort, so that only one instance fits on a host, not {count}; take the hostPort \
         out of its definition or keep it at 1"
    )]
    HostPortFixed { agent: AgentName, count: u32 },
    #[error("there is no secret `{name}` in fleet `{fleet}`; `chassis secret list` shows those that exist")]
    SecretNotFound { fleet: FleetName, name: SecretName },
    #[error("secret `{fleet}/{name}` exists already; give --replace to overwrite it")]
    SecretExists { fleet: FleetName, name: SecretName },
    #[error("agent `{agent}` needs secrets that do not exist; make them with {}", commands(fleet, names))]
    SecretMissing { fleet: FleetName, agent: AgentName, names: Vec<SecretName> },
    #[error(
        "agent `{agent}` of fleet `{fleet}` refers to {secret}, but may only use secrets of its own fleet"
    )]
    SecretForeign { fleet: FleetName, agent: AgentName, secret: SecretRef },
    #[error(
        "API key `{0}` exists already; choose another name, or revoke it with `chassis api-key revoke {0}`"
    )]
    ApiKeyExists(ApiKeyName),
    #[error("there is no API key `{0}`; `chassis api-key list` shows those that exist")]
    ApiKeyNotFound(ApiKeyName),
    #[error(
        "the fleet `{0}` is for what is made at /v1/environments; make one there, or choose another fleet for your agents"
    )]
    FleetReserved(FleetName),
    #[error("there is no environment `{0}`")]
    EnvironmentNotFound(String),
    #[error("task already assigned: `{0}` has an environment")]
    EnvironmentExists(String),
    #[error("environment `{id}` is {state}, not running")]
    EnvironmentNotRunning { id: String, state: State },
    #[error(
        "the secrets of environment `{0}` cannot be decrypted: its record was altered or damaged; destroy it"
    )]
    EnvironmentDamaged(String),
    #[error("there is no node `{0}`; `chassis node list` shows those that there are")]
    NodeNotFound(NodeName),
    #[error(
        "node `{0}` is the server's own: it comes and goes with the server; choose another name for another machine"
    )]
    NodeIsOwn(NodeName),
    #[error(
        "{url} is node `{node}` already; a machine is one node: register it by that name, or remove that one first"
    )]
    NodeTaken { url: String, node: String },
    #[error("{}", node_in_use(.node, *.count, *.is_down))]
    NodeInUse { node: NodeName, count: u64, is_down: bool },
    #[error(
        "node `{0}` is not down, and only the machine of one that is can be gone for good; `chassis node drain {0}` sends \
         elsewhere what it has, and then `chassis node remove {0}` forgets it"
    )]
    NodeNotDown(NodeName),
    #[error("node `{node}` still keeps {count} snapshots; delete them first, `GET /v1/snapshots` lists them")]
    NodeHasSnapshots { node: NodeName, count: u64 },
    #[error("the token of node `{0}` cannot be decrypted: its record was altered or damaged; join it again")]
    NodeDamaged(NodeName),
    #[error("there is no snapshot `{0}`")]
    SnapshotNotFound(String),
    #[error(
        "snapshot `{id}` is {state}; only one that is ready can be used, and none that is in use deleted"
    )]
    SnapshotState { id: String, state: SnapshotState },
    #[error("snapshot `{id}` has children, `{child}` for one; delete those first")]
    SnapshotHasChildren { id: String, child: String },
    #[error("environment `{environment}` has {most} snapshots, which is all that it may have; delete one")]
    SnapshotQuota { environment: String, most: u32 },
    #[error("there is no agent profile `{0}`; `chassis agent-profile list` shows those that there are")]
    AgentProfileNotFound(AgentName),
    #[error("agent profile `{0}` cannot be decrypted: its record was altered or damaged; apply it again")]
    AgentProfileDamaged(AgentName),
    #[error("there is no dead letter `{kind}` of `{entity}`")]
    DeadLetterNotFound { kind: String, entity: String },
    #[error("a secret cannot be empty")]
    SecretEmpty,
    #[error("the secret has {0} bytes; the most is {most}", most = crate::MAX_SECRET_BYTES)]
    SecretTooLarge(usize),
    #[error("secret `{fleet}/{name}` cannot be decrypted: its record was altered or damaged; write it again")]
    SecretDamaged { fleet: FleetName, name: SecretName },
    #[error(
        "{0} is not an encryption key; a key is 64 hexadecimal digits, as `openssl rand -hex 32` makes them"
    )]
    KeyMalformed(String),
    #[error("other users can read the key file; run `chmod 600 {}`", .0.display())]
    KeyExposed(PathBuf),
    #[error(
        "the key file {} is missing, but there are secrets that were encrypted with its key; put it back from a \
         backup, or set TOKEN_ENCRYPTION_KEY if the key came from there",
        .0.display()
    )]
    KeyMissing(PathBuf),
    #[error("{origin} holds key {found}, but the secrets were encrypted with key {expected}; give that one")]
    KeyMismatch { origin: String, expected: String, found: String },
    #[error(
        "the key comes from TOKEN_ENCRYPTION_KEY, so that only you can change it; give the new key as well"
    )]
    KeyNeeded,
    #[error("the key is kept in the file {}, which gets a fresh key; give none", .0.display())]
    KeyNotNeeded(PathBuf),
    #[error(
        "the new key is the one that is in use already, so that nothing was changed; `openssl rand -hex 32` makes another"
    )]
    KeyInUse,
    #[error("the key file {} cannot be read or written", path.display())]
    KeyFile { path: PathBuf, source: std::io::Error },
    #[error("the random number generator of the system does not answer")]
    NoRandomness,
    #[error(
        "the disk of the data directory is full, so that nothing was changed; free some space and try again"
    )]
    StorageFull(#[source] Cause),
    #[error("the database cannot be read or written just now, so that nothing was changed")]
    Storage(#[source] Cause),
    #[error("the storage failed under another change, and this one was undone with it; try again")]
    Undone,
    #[error(
        "another server acts for this database, so that nothing was changed; `chassis server status` shows which one"
    )]
    NotActing,
    #[error(
        "the database cannot be reached, so that nothing was changed; try again in {} s, and see the server's log if it \
         stays so",
        retry_after.as_secs()
    )]
    Unavailable { retry_after: Duration, source: Cause },
    /// At the start, when somebody is there who can mend it.
    #[error("the database {place} cannot be used: {hint}")]
    DatabaseConnect { place: String, hint: &'static str, source: Cause },
    #[error(
        "the database was lost while it kept a change, which may have been made or not; look before you repeat it"
    )]
    Uncertain(#[source] Cause),
    #[error("the database was closed")]
    Closed,
    #[error(
        "{} was written by a newer chassis (schema {found}, this one knows {known}); use that version or a later one",
        path.display()
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("{} is an SQLite database, but not one of chassis; choose another data directory", .0.display())]
    Foreign(PathBuf),
    #[error("{} is damaged ({detail}) and was left as it is; restore it from a backup", path.display())]
    Corrupt { path: PathBuf, detail: String },
    #[error(
        "a record of the database is damaged; stop the server and restore the data directory from a backup"
    )]
    Damaged(#[source] Cause),
    #[error("the database refused a change that it should have taken; please report this")]
    Unexpected(#[source] Cause),
    #[error("{0}")]
    DatabaseOptions(String),
    #[error("nothing was copied to {place}: {why}; give an empty database that no server uses")]
    CopyRefused { place: String, why: String },
    #[error("{0} has tables that are not of chassis; give it a database of its own")]
    ForeignTables(String),
    #[error("the database {} cannot be opened or made", path.display())]
    Open { path: PathBuf, source: Cause },
}

/// What sort of failure it is: who has to do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    NotFound,
    /// The request makes sense, but not in the present state.
    Conflict,
    /// The request makes no sense in any state.
    Invalid,
    /// May work later: the storage is full or does not answer.
    Unavailable,
    Internal,
}

// === impl Error ===

impl Error {
    /// A word for programs; never changes for a variant.
    pub fn code(&self) -> &'static str {
        self.code_and_kind().0
    }

    pub fn kind(&self) -> ErrorKind {
        self.code_and_kind().1
    }

    fn code_and_kind(&self) -> (&'static str, ErrorKind) {
        use ErrorKind::{Conflict, Internal, Invalid, NotFound, Unavailable};
        match self {
            Error::FleetNotFound(_) => ("fleet_not_found", NotFound),
            Error::FleetExists(_) => ("fleet_exists", Conflict),
            Error::FleetDeleting(_) => ("fleet_deleting", Conflict),
            Error::AgentNotFound { .. } => ("agent_not_found", NotFound),
            Error::RevisionNotFound { .. } => ("revision_not_found", NotFound),
            Error::NothingToUndo(_) => ("nothing_to_undo", Conflict),
            Error::AgentDeleting { .. } => ("agent_deleting", Conflict),
            Error::AgentRepeated(_) => ("agent_repeated", Invalid),
            Error::NameCollision { .. } => ("name_collision", Conflict),
            Error::InstanceNotFound(_) => ("instance_not_found", NotFound),
            Error::VersionConflict { .. } => ("version_conflict", Conflict),
            Error::NotDeleting(_) => ("not_deleting", Conflict),
            Error::NotEmpty { .. } => ("not_empty", Conflict),
            Error::TooManyInstances { .. } => ("too_many_instances", Invalid),
            Error::HostPortFixed { .. } => ("host_port_fixed", Invalid),
            Error::SecretNotFound { .. } => ("secret_not_found", NotFound),
            Error::SecretExists { .. } => ("secret_exists", Conflict),
            Error::SecretMissing { .. } => ("secret_missing", Conflict),
            Error::SecretForeign { .. } => ("secret_foreign", Invalid),
            Error::ApiKeyExists(_) => ("api_key_exists", Conflict),
            Error::ApiKeyNotFound(_) => ("api_key_not_found", NotFound),
            Error::FleetReserved(_) => ("fleet_reserved", Invalid),
            Error::EnvironmentNotFound(_) => ("environment_not_found", NotFound),
            Error::EnvironmentExists(_) => ("environment_exists", Conflict),
            Error::EnvironmentNotRunning { .. } => ("environment_not_running", Conflict),
            Error::EnvironmentDamaged(_) => ("environment_damaged", Internal),
            Error::NodeNotFound(_) => ("node_not_found", NotFound),
            Error::NodeIsOwn(_) => ("node_is_own", Conflict),
            Error::NodeTaken { .. } => ("node_taken", Conflict),
            Error::NodeInUse { .. } => ("node_in_use", Conflict),
            Error::NodeNotDown(_) => ("node_not_down", Conflict),
            Error::NodeHasSnapshots { .. } => ("node_has_snapshots", Conflict),
            Error::NodeDamaged(_) => ("node_damaged", Internal),
            Error::SnapshotNotFound(_) => ("snapshot_not_found", NotFound),
            Error::SnapshotState { .. } => ("snapshot_state", Conflict),
            Error::SnapshotHasChildren { .. } => ("snapshot_has_children", Conflict),
            Error::SnapshotQuota { .. } => ("snapshot_quota", Conflict),
            Error::AgentProfileNotFound(_) => ("agent_profile_not_found", NotFound),
            Error::AgentProfileDamaged(_) => ("agent_profile_damaged", Internal),
            Error::DeadLetterNotFound { .. } => ("dead_letter_not_found", NotFound),
            Error::SecretEmpty => ("secret_empty", Invalid),
            Error::SecretTooLarge(_) => ("secret_too_large", Invalid),
            Error::SecretDamaged { .. } => ("secret_damaged", Internal),
            Error::KeyMalformed(_) => ("key_malformed", Invalid),
            Error::KeyExposed(_) => ("key_exposed", Conflict),
            Error::KeyMissing(_) => ("key_missing", Conflict),
            Error::KeyMismatch { .. } => ("key_mismatch", Conflict),
            Error::KeyNeeded => ("key_needed", Invalid),
            Error::KeyNotNeeded(_) => ("key_not_needed", Invalid),
            Error::KeyInUse => ("key_in_use", Conflict),
            Error::KeyFile { .. } => ("key_file", Unavailable),
            Error::NoRandomness => ("no_randomness", Unavailable),
            Error::StorageFull(_) => ("storage_full", Unavailable),
            Error::Storage(_) => ("storage_failed", Unavailable),
            Error::Undone => ("undone", Unavailable),
            Error::KeyTaken => ("idempotency_in_flight", Conflict),
            Error::NotActing => ("not_acting", Unavailable),
            Error::Unavailable { .. } => ("database_unavailable", Unavailable),
            Error::DatabaseConnect { .. } => ("database_connect", Unavailable),
            Error::Uncertain(_) => ("outcome_unknown", Unavailable),
            Error::Closed => ("store_closed", Unavailable),
            Error::Newer { .. } => ("database_newer", Conflict),
            Error::Foreign(_) | Error::ForeignTables(_) => ("database_foreign", Conflict),
            Error::Corrupt { .. } => ("database_corrupt", Internal),
            Error::Damaged(_) => ("record_damaged", Internal),
            Error::Unexpected(_) => ("store_unexpected", Internal),
            Error::DatabaseOptions(_) => ("database_options", Invalid),
            Error::CopyRefused { .. } => ("copy_refused", Conflict),
            Error::Open { .. } => ("database_unusable", Unavailable),
        }
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn commands(fleet: &FleetName, names: &[SecretName]) -> String {
    let command = |name| format!("`chassis secret create {fleet}/{name} --from-file <file>`");
    names.iter().map(command).collect::<Vec<_>>().join(", ")
}

fn node_in_use(node: &NodeName, count: u64, is_down: bool) -> String {
    let held = if count == 1 {
        "1 instance or its data".to_owned()
    } else {
        format!("{count} instances or their data")
    };
    if is_down {
        return format!(
            "node `{node}` still has {held}, and is down; if its machine is gone for good, `chassis node remove {node} --force` \
             gives up what it has, and else that is there again when it is back"
        );
    }
    format!(
        "node `{node}` still has {held}; `chassis node drain {node}` sends elsewhere what can go, and `chassis delete … \
         --cleanup` removes data that is kept"
    )
}
