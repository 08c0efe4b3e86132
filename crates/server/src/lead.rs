//! Which of several servers acts, and how this one begins and ends to.
//!
//! ```text
//!   observing ──the store says that we may act──▶ load everything ─▶ list every container ─▶ acting
//!       ▲                                                                                      │
//!       └──── the lease ran out, a write was refused, or the database is away ─────────────────┘
//! ```
//! What holds:
//! - nothing is changed on the runtime but through [`Shared::hands_at`], which asks this machine's clock whether the lease
//!   still holds, at that moment;
//! - a term begins from what the store has and the node shows, never from what this server remembers: another one may
//!   have acted in between;
//! - what was decided in one term is neither done nor written in another: who decides asks for the term first, and hands
//!   it over with each change;
//! - what was noted and could not be stored is forgotten with the end of the term, and noted again by whoever acts next.
//!
//! A server alone on its database acts from its start to its end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chassis_runtime::Runtime;
use chassis_store::{Store, Term};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::error::chain;
use crate::fleet;
use crate::follow;
use crate::node::{self, Owner};
use crate::nodes::{Health, NodeLink};
use crate::shared::Shared;
use crate::watch as runtime_watch;

/// Before a term that could not begin is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the steps that are under way get to end before the lease is given back.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether this server acts.
#[derive(Debug)]
pub(crate) struct Lead {
    /// Controllers plan and record only within a term.
    term: watch::Sender<Option<Term>>,
    /// The term is to end, or the next one to begin.
    wake: Notify,
    /// Steps that are under way.
    steps: AtomicUsize,
    /// This server is the only one there can be.
    alone: bool,
    /// Why this server never acts.
    refusal: OnceLock<String>,
}

/// This server does not act.
#[derive(Debug, thiserror::Error)]
#[error("this server does not act, or no more")]
pub(crate) struct NotActing;

/// Counts a step from its beginning to its end.
#[derive(Debug)]
pub(crate) struct StepGuard<'a>(&'a Lead);

impl Lead {
    pub(crate) fn new(several_servers: bool, store: &dyn Store) -> Self {
        Lead {
            term: watch::Sender::new(store.term().filter(|_| !several_servers)),
            wake: Notify::new(),
            steps: AtomicUsize::new(0),
            alone: !several_servers,
            refusal: OnceLock::new(),
        }
    }

    /// True if no other server can use the same database.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether controllers plan and record, or only look.
    pub(crate) fn acts(&self) -> bool {
        self.term().is_some()
    }

    /// The term in which controllers plan and record; none while they only look.
    pub(crate) fn term(&self) -> Option<Term> {
        *self.term.borrow()
    }

    /// Why this server never acts, if that is so, and what to do about it.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Term>> {
        self.term.subscribe()
    }

    pub(crate) fn step(&self) -> StepGuard<'_> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        StepGuard(self)
    }

    fn end(&self) -> bool {
        let ended = self.term.send_replace(None);
        self.wake.notify_one();
        ended.is_some()
    }
}

impl Drop for StepGuard<'_> {
    fn drop(&mut self) {
        self.0.steps.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// A node's runtime, for those who decided in this term to change something on it. To be asked for right before each
    /// change.
    pub(crate) fn hands_at<'a>(
        &self,
        term: Term,
        node: &'a NodeLink,
    ) -> Result<&'a Arc<dyn Runtime>, NotActing> {
        if self.lead.term() == Some(term) {
            if self.term_holds(term) {
                return Ok(&node.runtime);
            }
            self.stand_down();
        }
        Err(NotActing)
    }

    /// True as long as the lease is that of the term, by this machine's clock.
    fn term_holds(&self, term: Term) -> bool {
        self.store.term() == Some(term)
    }

    /// Ends to act, quietly: somebody else may act already.
    pub(crate) fn stand_down(&self) {
        if !self.lead.alone && self.lead.end() {
            tracing::info!("this server no longer acts");
        }
    }

    /// Ends the term if the store no longer lets this server act in it. True if it does not.
    pub(crate) fn is_fenced(&self, term: Term, error: &chassis_store::Error) -> bool {
        use chassis_store::Error;
        let fenced = matches!(
            error,
            Error::NotActing | Error::Unavailable { .. } | Error::Uncertain(_) | Error::Closed
        );
        // The next one may have begun since.
        if fenced && self.lead.term() == Some(term) {
            self.stand_down();
        }
        fenced && !self.lead.alone
    }
}

/// Begins a term whenever the store lets this server act, for as long as the server runs.
pub(crate) async fn lead(shared: Arc<Shared>) {
    if shared.lead.alone {
        return;
    }
    let mut may_act = shared.store.acting();
    // Told at once, and not only when it is this server's turn.
    while !shared.lead.acts() {
        match begin_to_look(&shared).await {
            Ok(Owner::Us) => break,
            Ok(Owner::Other(why)) => return refuse(&shared, why).await,
            Err(message) => {
                tracing::warn!(message, "cannot find out yet whether the instances run on this node");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    loop {
        if may_act.wait_for(|may_act| *may_act).await.is_err() {
            return;
        }
        let Some(term) = shared.store.term() else {
            // It has run out, and the store is about to say so.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        match begin(&shared, term).await {
            Ok(Owner::Us) => {}
            Ok(Owner::Other(why)) => return refuse(&shared, why).await,
            Err(message) => {
                if shared.store.unavailable_since().is_none() {
                    tracing::warn!(message, "cannot begin to act yet");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        while shared.lead.acts() && shared.term_holds(term) {
            tokio::select! {
                changed = may_act.changed() => if changed.is_err() { return },
                () = shared.lead.wake.notified() => {}
            }
        }
        shared.stand_down();
        // Whatever was noted and not stored is forgotten: the store and the node say what there is.
        if let Err(error) = follow::agents_load(&shared).await {
            tracing::debug!(error = chain(&error), "cannot load what there is");
        }
    }
}

async fn begin_to_look(shared: &Arc<Shared>) -> Result<Owner, String> {
    runtime_wait(shared).await?;
    node::owner(shared).await
}

/// Leaves it to others to act, for good.
pub(crate) async fn refuse(shared: &Shared, why: String) {
    tracing::error!("{why}");
    shared.lead.refusal.get_or_init(|| why);
    shared.store.resign().await;
}

async fn runtime_wait(shared: &Shared) -> Result<(), String> {
    let mut health = shared.own().health.subscribe();
    health.wait_for(Health::is_up).await.map(drop).map_err(|error| error.to_string())
}

/// Takes over: everything as the store has it, then as the node shows it, and only then is anything planned.
async fn begin(shared: &Arc<Shared>, term: Term) -> Result<Owner, String> {
    runtime_wait(shared).await?;
    if let Owner::Other(why) = node::claim(shared, term).await? {
        return Ok(Owner::Other(why));
    }
    follow::agents_load(shared).await.map_err(|error| chain(&error))?;
    let own = Arc::clone(shared.nodes.own());
    let strays = runtime_watch::resync(shared, &own).await.map_err(|error| chain(&error))?;
    if !shared.term_holds(term) {
        return Err("the lease was lost while everything was loaded".to_owned());
    }
    for agent in shared.agents() {
        let mut state = agent.state();
        state.extras_forget();
        state.watch_anew(Timestamp::now());
    }
    shared.lead.term.send_replace(Some(term));
    tracing::info!(epoch = term.epoch(), "this server acts");
    runtime_watch::strays_remove(shared, &own, strays);
    runtime_watch::unblock(shared);
    fleet::fleets_sweep(shared, &own).await;
    runtime_watch::networks_check(shared, &own);
    Ok(Owner::Us)
}

/// Ends to act for good, once what is under way has ended, and lets another server act at once.
pub(crate) async fn resign(shared: &Shared) {
    if shared.lead.alone {
        return;
    }
    shared.stand_down();
    let ended = async {
        while shared.lead.steps.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, ended).await.is_err() {
        tracing::info!("a step goes on beyond the end; the server that acts next finds what became of it");
    }
    shared.store.resign().await;
}
