//! Looks at the health of one run, again and again, while no server does.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis_core::{Check, Happened, Verdict};
use chassis_runtime::{InstanceConfig, Owned};
use chassis_spec::HealthCheck;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, Semaphore};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::Host;
use crate::probe::probe;

/// Commands in the sandboxes of one agent at once, as on a server.
pub(super) const COMMANDS: usize = 4;
/// Between two questions whether the agent was started, if the runtime could not tell.
const AGAIN: Duration = Duration::from_secs(1);
/// Those that are there already are first looked at within this, not all at the same moment.
const SPREAD_MILLIS: u64 = 1000;

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) started_at: Timestamp,
    check: Arc<Mutex<Check>>,
    _task: AbortOnDropHandle<()>,
}

/// A run to look at.
pub(super) struct Watched {
    pub(super) owned: Owned,
    pub(super) started_at: Timestamp,
    pub(super) config: Arc<InstanceConfig>,
    pub(super) rules: HealthCheck,
    /// For commands in the agent's sandboxes.
    pub(super) slots: Arc<Semaphore>,
    /// Is told of a verdict.
    pub(super) changed: Arc<Notify>,
}

impl Watch {
    pub(super) fn begin(host: &Arc<Host>, run: Watched) -> Watch {
        let (started_at, check) = (run.started_at, Arc::default());
        let task = tokio::spawn(watch(Arc::clone(host), run, Arc::clone(&check)));
        Watch { started_at, check, _task: AbortOnDropHandle::new(task) }
    }

    /// Why it is unhealthy, and whether it had been healthy for long; nothing if it is not.
    pub(super) fn failure(&self, now: Timestamp) -> Option<(String, bool)> {
        let check = lock(&self.check);
        let is_unhealthy = check.verdict == Verdict::Unhealthy;
        is_unhealthy.then(|| (check.last_error().unwrap_or_default().to_owned(), check.was_good(now)))
    }
}

async fn watch(host: Arc<Host>, run: Watched, check: Arc<Mutex<Check>>) {
    let id = &*run.owned.observed.id;
    let prepares = run.config.spec.startup.is_some() || !run.config.spec.files.is_empty();
    while prepares && host.runtime.instance_started(id).await.is_err() {
        sleep(AGAIN).await;
    }
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let mut pause = Duration::from_millis(hasher.finish() % SPREAD_MILLIS);
    loop {
        sleep(pause).await;
        let slot = match &run.rules.exec {
            Some(_) => run.slots.acquire().await.ok(),
            None => None,
        };
        let seen = probe(&*host.runtime, id, &run.rules).await;
        drop(slot);
        let verdict = {
            let mut check = lock(&check);
            let before = check.verdict;
            let (at, changed) = match seen {
                Some(seen) => (seen.time, check.note(&run.rules, run.started_at, seen)),
                None => (Timestamp::now(), false),
            };
            pause = unsigned(check.pause(&run.rules));
            changed.then(|| match check.verdict {
                Verdict::Unhealthy => Some(Happened::Unhealthy {
                    at,
                    message: check.last_error().unwrap_or_default().to_owned(),
                }),
                // That one which was well still is says nothing.
                _ => (before == Verdict::Unhealthy).then_some(Happened::Healthy { at }),
            })
        };
        if let Some(happened) = verdict.flatten() {
            if let Err(error) = host.journal.add(&run.owned, happened).await {
                tracing::warn!(instance = %run.owned.key, %error, "a verdict is not written down");
            }
            run.changed.notify_one();
        }
    }
}

fn lock(check: &Mutex<Check>) -> MutexGuard<'_, Check> {
    check.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unsigned(time: SignedDuration) -> Duration {
    time.try_into().unwrap_or_default()
}
