//! Writes the audit log.
//!
//! What holds: before a change reaches its handler, the intent is on disk, so that no change is ever unaudited; if it
//! cannot be written, the change is refused. How it ended is on disk before it is answered; if the server dies in between,
//! the intent stands alone. What is denied is written once for each caller and then counted, so that nobody can fill the
//! log by asking.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis_core::{AuditEntry, AuditStep};
use chassis_store::Store;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::api::failure::Failure;
use crate::error::chain;
use crate::shared::lock;

/// Rows that are written together.
const BATCH: usize = 256;
/// How often denials of the same sort are written again, with their count.
const DENIALS_TOLD: SignedDuration = SignedDuration::from_mins(1);
/// Of so many sorts of denials it is known how often they came; beyond that they are counted together.
const DENIALS_MOST: usize = 1_000;
/// How often rows that are too old are taken away.
pub(super) const PRUNE: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(crate) struct Trail {
    rows: mpsc::UnboundedSender<Row>,
    denials: Mutex<HashMap<String, Denial>>,
}

type Written = std::result::Result<u64, Failure>;

#[derive(Debug)]
struct Row {
    entry: AuditEntry,
    written: Option<oneshot::Sender<Written>>,
}

#[derive(Debug)]
struct Denial {
    entry: AuditEntry,
    since: Timestamp,
    /// Those that were not written yet.
    count: u32,
}

impl Trail {
    /// Must be called within the runtime, whose task writes.
    pub(super) fn new(store: Arc<dyn Store>) -> Trail {
        let (rows, waiting) = mpsc::unbounded_channel();
        tokio::spawn(write(store, waiting));
        Trail { rows, denials: Mutex::default() }
    }

    /// Appends a row, and returns its id once it is on disk.
    pub(super) async fn append(&self, entry: AuditEntry) -> Written {
        let (written, answer) = oneshot::channel();
        let gone = || {
            let detail = "the audit log is closed, because the server ends; nothing was changed";
            Failure::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, "store_closed", detail)
        };
        self.rows.send(Row { entry, written: Some(written) }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Notes that `entry`, a denial, happened once more. `sort` is what makes it the same as others.
    pub(super) fn denied(&self, sort: String, entry: AuditEntry, now: Timestamp) {
        let mut denials = lock(&self.denials);
        let sort =
            if denials.len() >= DENIALS_MOST && !denials.contains_key(&sort) { String::new() } else { sort };
        if let Some(denial) = denials.get_mut(&sort) {
            denial.count = denial.count.saturating_add(1);
            return;
        }
        let _ = self.rows.send(Row { entry: entry.clone(), written: None });
        denials.insert(sort, Denial { entry, since: now, count: 0 });
    }

    /// Writes the counts of what was denied for a while.
    pub(super) fn sweep(&self, now: Timestamp) {
        lock(&self.denials).retain(|sort, denial| {
            if now.duration_since(denial.since) < DENIALS_TOLD {
                return true;
            }
            if denial.count == 0 {
                return false;
            }
            let mut entry = denial.entry.clone();
            if let AuditStep::Denied { count, .. } = &mut entry.step {
                *count = denial.count;
            }
            if sort.is_empty() {
                "several".clone_into(&mut entry.who);
                "several addresses".clone_into(&mut entry.from);
            }
            let _ = self.rows.send(Row { entry, written: None });
            (denial.since, denial.count) = (now, 0);
            true
        });
    }
}

/// Writes what is waiting together, for as long as there is a server.
async fn write(store: Arc<dyn Store>, mut waiting: mpsc::UnboundedReceiver<Row>) {
    let mut rows = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut rows, BATCH).await > 0 {
        let entries = rows.iter().map(|row| row.entry.clone()).collect();
        match store.audit_append(entries).await {
            Ok(ids) => {
                for (row, id) in rows.drain(..).zip(ids) {
                    // Whoever gave up waiting does not want the answer.
                    drop(row.written.map(|written| written.send(Ok(id))));
                }
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), rows = rows.len(), "cannot write the audit log");
                let failure = Failure::from(error);
                for row in rows.drain(..) {
                    drop(row.written.map(|written| written.send(Err(failure.clone()))));
                }
            }
        }
    }
}
