//! What the threads of one store on Postgres know together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chassis_core::AgentKey;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{broadcast, watch};

use crate::sql::connection::Fault;
use crate::sql::worker::News;
use crate::types::{Lease, Seen, Term};

/// Notices that a slow follower may leave waiting.
const NOTICES: usize = 256;

pub(super) struct Shared {
    /// Random for each start: tells our notices and our lease from others'.
    pub owner: String,
    /// The epoch of our lease; 0 without one.
    epoch: AtomicU64,
    /// Until when the lease is ours for certain, by [`now`].
    valid_until: AtomicU64,
    pub acting: watch::Sender<bool>,
    pub lease: Mutex<Option<Lease>>,
    pub changes: broadcast::Sender<Seen>,
    pub newest: watch::Sender<u64>,
    lost_since: Mutex<Option<Timestamp>>,
}

/// Time since the machine started, also while it slept: what a process that was stopped cannot miss.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// `fleet/agent`
fn agent(word: &str) -> Option<AgentKey> {
    let (fleet, agent) = word.split_once('/')?;
    Some(AgentKey { fleet: fleet.parse().ok()?, agent: agent.parse().ok()? })
}

impl Shared {
    pub(super) fn new(owner: String, newest: u64) -> Self {
        Shared {
            owner,
            epoch: AtomicU64::new(0),
            valid_until: AtomicU64::new(0),
            acting: watch::Sender::new(false),
            lease: Mutex::new(None),
            changes: broadcast::Sender::new(NOTICES),
            newest: watch::Sender::new(newest),
            lost_since: Mutex::new(None),
        }
    }

    /// The term of our lease, as long as that is ours for certain.
    pub(super) fn term(&self) -> Option<Term> {
        let epoch = self.epoch.load(Ordering::Acquire);
        (epoch != 0 && !self.left().is_zero()).then_some(Term(epoch))
    }

    /// How long the lease is ours for certain.
    pub(super) fn left(&self) -> Duration {
        Duration::from_nanos(self.valid_until.load(Ordering::Acquire)).saturating_sub(now())
    }

    /// The lease is ours, until `end` at least.
    pub(super) fn hold(&self, epoch: u64, end: Duration) {
        let end = u64::try_from(end.as_nanos()).unwrap_or(0);
        self.valid_until.store(end, Ordering::Release);
        self.epoch.store(epoch, Ordering::Release);
        self.acting.send_if_modified(|acting| !std::mem::replace(acting, true));
    }

    /// The lease is not ours, or perhaps not.
    pub(super) fn let_go(&self) {
        self.epoch.store(0, Ordering::Release);
        self.valid_until.store(0, Ordering::Release);
        self.acting.send_if_modified(|acting| std::mem::replace(acting, false));
    }

    /// The database does not answer.
    pub(super) fn lost(&self, fault: &Fault) {
        let mut since = self.lost_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            tracing::warn!(error = crate::error::chain(&fault.cause), "the database does not answer");
            *since = Some(Timestamp::now());
        }
    }

    /// It answers.
    pub(super) fn found(&self) {
        let mut since = self.lost_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.take().is_some() {
            tracing::info!("the database answers again");
        }
    }

    pub(super) fn lost_since(&self) -> Option<Timestamp> {
        *self.lost_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A newest event that somebody told of; they may be told of out of order.
    pub(super) fn raise_newest(&self, id: u64) {
        self.newest.send_if_modified(|known| std::mem::replace(known, id.max(*known)) < id);
    }

    /// What to tell other servers: who we are, the newest event, `@` if the nodes changed, and the agents that did, or `*`
    /// if those are more than `most` bytes. None if there is nothing to tell.
    pub(super) fn notice(&self, news: &News, most: usize) -> Option<String> {
        if news.newest.is_none() && news.agents.is_empty() && !news.nodes {
            return None;
        }
        let newest = news.newest.unwrap_or(0);
        let agents: Vec<String> =
            news.agents.iter().map(|key| format!("{}/{}", key.fleet, key.agent)).collect();
        let agents = agents.join(" ");
        let agents = if agents.len() > most { "*" } else { &agents };
        let nodes = if news.nodes { "@ " } else { "" };
        Some(format!("{} {newest} {nodes}{agents}", self.owner).trim_end().to_owned())
    }

    /// Takes another server's notice.
    pub(super) fn take_notice(&self, notice: &str) {
        let mut words = notice.split(' ');
        if words.next() == Some(&self.owner) {
            return;
        }
        if let Some(newest) = words.next().and_then(|word| word.parse().ok()) {
            self.raise_newest(newest);
        }
        let mut words = words.peekable();
        if words.next_if_eq(&"@").is_some() {
            self.tell(Seen::Nodes);
        }
        let keys: Option<Vec<_>> = words.map(agent).collect();
        match keys {
            Some(keys) if keys.is_empty() => {}
            Some(keys) => self.tell(Seen::Agents(keys)),
            None => self.tell(Seen::Anything),
        }
    }

    pub(super) fn tell(&self, seen: Seen) {
        // Nobody needs to listen.
        let _ = self.changes.send(seen);
    }
}
