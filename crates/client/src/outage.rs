//! What a client does while its server's database is away: it tells how old answers are, and tries again what was refused.
//!
//! Only what was refused with the word that nothing was changed is tried again, so that nothing is done twice.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chassis_api::{Problem, STALE_HEADER};
use http::HeaderMap;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// The code of a refusal that changed nothing.
const AWAY: &str = "database_unavailable";

/// What is worth telling whoever waits. Each is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// What is shown may have been out of date for so many seconds.
    Stale { seconds: u64 },
    /// The request is repeated for so long.
    Waiting { patience: Duration },
}

type Tell = Box<dyn Fn(Notice) + Send + Sync>;

/// How long to wait for the database, and whom to tell.
#[derive(Default)]
pub(crate) struct Outage {
    patience: Duration,
    tell: Option<Tell>,
    told_stale: AtomicBool,
    told_waiting: AtomicBool,
}

impl Outage {
    pub(crate) fn new(patience: Duration, tell: impl Fn(Notice) + Send + Sync + 'static) -> Outage {
        Outage { patience, tell: Some(Box::new(tell)), ..Outage::default() }
    }

    /// Looks how old an answer is.
    pub(crate) fn note(&self, headers: &HeaderMap) {
        let seconds = headers.get(STALE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(seconds) = seconds {
            self.tell_once(&self.told_stale, Notice::Stale { seconds });
        }
    }

    /// Waits before a request that was refused so is repeated. False if it is not to be.
    pub(crate) async fn waits(&self, began: Instant, problem: &Problem) -> bool {
        if problem.code != AWAY || began.elapsed() + PAUSE > self.patience {
            return false;
        }
        self.tell_once(&self.told_waiting, Notice::Waiting { patience: self.patience });
        tokio::time::sleep(PAUSE).await;
        true
    }

    fn tell_once(&self, told: &AtomicBool, notice: Notice) {
        if let Some(tell) = &self.tell
            && !told.swap(true, Ordering::Relaxed)
        {
            tell(notice);
        }
    }
}

impl fmt::Debug for Outage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Outage").field("patience", &self.patience).finish_non_exhaustive()
    }
}
