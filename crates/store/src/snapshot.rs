//! What the store keeps of snapshots.

use chassis_core::snapshot::{Life, State};
use jiff::Timestamp;

/// A snapshot as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub id: String,
    /// The id of the environment that it is of, which may be no more.
    pub environment: String,
    pub task_id: String,
    pub tenant: String,
    pub node: String,
    /// What the runtime calls what it keeps: the id, or that of the snapshot for which this one stands.
    pub data: String,
    /// The snapshot before it, which cannot be deleted first.
    pub parent: Option<String>,
    pub mode: String,
    pub state: State,
    pub name: String,
    pub layer_key: String,
    pub arch: String,
    /// What else was said of it, in JSON of the API's own.
    pub details: String,
    pub digest: Option<String>,
    pub size_bytes: Option<u64>,
    pub retention_until: Option<Timestamp>,
    /// How often the runtime was asked in vain to forget it.
    pub removals: u32,
    pub retry_at: Option<Timestamp>,
    pub error: Option<String>,
    pub created_at: Timestamp,
    /// Since when it is in its state.
    pub updated_at: Timestamp,
}

impl Snapshot {
    /// What it looks like to who decides.
    pub fn life(&self, may_expire: bool) -> Life {
        Life {
            state: self.state,
            since: self.updated_at,
            retry_at: self.retry_at,
            removals: self.removals,
            retention_until: self.retention_until,
            may_expire,
        }
    }

    /// True if it keeps something of its own.
    pub fn has_data(&self) -> bool {
        self.data == self.id
    }
}

/// A snapshot that is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotNew {
    pub id: String,
    pub environment: String,
    /// None for the task's id.
    pub tenant: Option<String>,
    pub mode: String,
    pub name: String,
    pub layer_key: String,
    pub arch: String,
    pub details: String,
    pub retention_until: Option<Timestamp>,
    /// The most that an environment may have; 0 for as many as it likes.
    pub quota: u32,
}

/// Which snapshots to list, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    pub environment: Option<String>,
    pub task_id: Option<String>,
    pub tenant: Option<String>,
    pub state: Option<State>,
    pub mode: Option<String>,
    pub name: Option<String>,
    pub layer_key: Option<String>,
    pub arch: Option<String>,
    /// Of the layers only this tenant's.
    pub scope: Option<String>,
    /// Only those that are older than the one that was made then and has this id.
    pub after: Option<(Timestamp, String)>,
    /// At most so many; 0 is none.
    pub limit: u32,
}

/// One that something is to be done about, now or later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDue {
    pub snapshot: Snapshot,
    pub may_expire: bool,
}

/// What became of a snapshot on its runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotStep {
    Taken {
        digest: String,
        size_bytes: u64,
    },
    Restored,
    /// It could not be taken, and is to be deleted; or it could not be restored.
    Failed(String),
    /// It was kept for long enough.
    Expired,
    Removed,
    /// It could not be removed; none if that is not tried again.
    NotRemoved {
        why: String,
        retry_at: Option<Timestamp>,
    },
    /// The runtime does not have it any more.
    Lost,
}
