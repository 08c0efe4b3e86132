//! One controller for each agent: it sleeps until something concerns its agent, decides, and carries out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use chassis_core::schedule::Refused;
use chassis_core::{AgentKey, EventKind};
use chassis_store::{AgentRecord, ErrorKind, InstanceUpdate, Term};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};

use crate::act;
use crate::environment::{self, Tended};
use crate::error::chain;
use crate::failpoint::failpoint;
use crate::fleet;
use crate::last_words;
use crate::prober;
use crate::rolling;
use crate::schedule::Rebooking;
use crate::shared::{Shared, lock};
use crate::state::{AT_ONCE, AgentState, Next, Outcome, Step, told_by};

/// The owner of one agent's state. Others may read it, reload it from the store, or say that something happened.
#[derive(Debug)]
pub(crate) struct AgentController {
    key: AgentKey,
    state: Mutex<AgentState>,
    wake: Notify,
    /// When it was woken, until it decides.
    woken: Mutex<Option<Instant>>,
    /// Held while the agent is loaded from the store, so that an older record never follows a newer.
    loading: tokio::sync::Mutex<()>,
    /// Held while it is found out which image the present revision runs.
    pub(crate) pinning: tokio::sync::Mutex<()>,
    /// Slots for checks that run a command.
    pub(crate) probing: Semaphore,
    /// What is known of the environment that it is, if it is one.
    pub(crate) environment: Option<Box<Tended>>,
}

/// Reloads several agents. One that fails does not keep the others from hearing of their change.
pub(crate) async fn agents_reload(shared: &Arc<Shared>, keys: Vec<AgentKey>) -> chassis_store::Result<()> {
    let mut result = Ok(());
    for key in keys {
        match agent_reload(shared, &key).await {
            // It was deleted meanwhile: there is nothing left to tell.
            Err(error) if error.kind() != ErrorKind::NotFound => result = Err(error),
            _ => {}
        }
    }
    result
}

/// The same after a change that is stored. Whoever made it is answered in any case; what cannot be loaded now is loaded
/// when that is possible.
pub(crate) async fn agents_changed(shared: &Arc<Shared>, keys: Vec<AgentKey>) {
    let Err(error) = agents_reload(shared, keys.clone()).await else { return };
    tracing::warn!(error = chain(&error), "a change is stored and cannot be loaded yet, will try again");
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        while agents_reload(&shared, keys.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

/// Loads the agent from the store into its controller, which is started if there is none, and wakes it.
async fn agent_reload(shared: &Arc<Shared>, key: &AgentKey) -> chassis_store::Result<()> {
    loop {
        let Some(agent) = shared.agent(key) else {
            agent_take(shared, shared.store.agent_load(key).await?).await;
            return Ok(());
        };
        let _loading = agent.loading.lock().await;
        if agent.state().gone {
            continue;
        }
        match shared.store.agent_load(key).await {
            Ok(record) => agent.take(shared, record),
            Err(error) => {
                // Who acts ends the deletion itself, and the controller with it.
                if error.kind() == ErrorKind::NotFound && !shared.lead.acts() {
                    agent.end(shared);
                }
                return Err(error);
            }
        }
        return Ok(());
    }
}

/// Gives a record to the agent's controller, which is started if there is none.
pub(crate) async fn agent_take(shared: &Arc<Shared>, record: AgentRecord) {
    match shared.agent_or_insert(record) {
        (agent, None) => {
            agent.wake();
            tokio::spawn(agent.run(Arc::clone(shared)));
            shared.relist_if_observing();
            shared.changed.send_replace(());
        }
        (agent, Some(record)) => {
            let _loading = agent.loading.lock().await;
            agent.take(shared, record);
        }
    }
}

impl AgentController {
    pub(crate) fn new(state: AgentState) -> Self {
        let key = state.key.clone();
        AgentController {
            key: key.clone(),
            state: Mutex::new(state),
            wake: Notify::new(),
            woken: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            pinning: tokio::sync::Mutex::default(),
            probing: prober::slots(),
            environment: Tended::of(&key),
        }
    }

    pub(crate) fn key(&self) -> &AgentKey {
        &self.key
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, AgentState> {
        lock(&self.state)
    }

    pub(crate) fn wake(&self) {
        lock(&self.woken).get_or_insert_with(Instant::now);
        self.wake.notify_one();
    }

    fn environment_gone(&self) {
        if let Some(tended) = &self.environment {
            tended.gone();
        }
    }

    fn take(&self, shared: &Shared, record: AgentRecord) {
        if self.state().take(record, shared.lead.term()) {
            // Their containers may have been seen before they were known.
            shared.relist_if_observing();
        }
        self.wake();
        shared.changed.send_replace(());
    }

    /// The agent is no more, by the doing of another server.
    fn end(self: &Arc<Self>, shared: &Shared) {
        self.state().gone = true;
        self.environment_gone();
        shared.agent_remove(self);
        self.wake();
    }

    /// Runs until the agent is deleted. Boxed, because an agent that is deployed again at its end has its successor
    /// started from here.
    pub(crate) fn run(self: Arc<Self>, shared: Arc<Shared>) -> BoxFuture<'static, ()> {
        Box::pin(self.run_to_end(shared))
    }

    async fn run_to_end(self: Arc<Self>, shared: Arc<Shared>) {
        let mut acts = shared.lead.subscribe();
        loop {
            let (mut wake_at, mut tend_at) = (None, None);
            if self.state().gone {
                return;
            }
            if !shared.nodes.is_alone() {
                // How long it may wait for a place.
                environment::look(&shared, &self).await;
            }
            if shared.nodes.any_up() {
                let began = Instant::now();
                let lag = lock(&self.woken).take().map(|woken| began.duration_since(woken));
                let next = self.decide(&shared);
                wake_at = next.wake_at;
                let begins = next.updates.iter().any(begins);
                // There are many thousands of controllers, and most of them sleep: what they do then is put elsewhere.
                let advance = Box::pin(async {
                    let is_gone = self.advance(&shared, next).await;
                    shared.metrics.reconciled(lag, began.elapsed());
                    is_gone
                });
                let is_gone = if begins && self.environment.is_some() {
                    // That the run is noted and that the environment runs is one wait for the disk.
                    let tended = tokio::join!(advance, Box::pin(environment::tend(&shared, &self)));
                    tend_at = tended.1;
                    tended.0
                } else {
                    advance.await
                };
                if is_gone {
                    return;
                }
            }
            if tend_at.is_none() {
                tend_at = Box::pin(environment::tend(&shared, &self)).await;
            }
            let wake_at = wake_at.into_iter().chain(tend_at).min();
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep_until(wake_at) => {}
                _ = acts.changed() => {}
            }
        }
    }

    fn decide(&self, shared: &Shared) -> Next {
        let now = Timestamp::now();
        // Counted only when it matters, and before this agent's own state is held.
        let unhealthy = self.state().has_unhealthy();
        let size = if unhealthy { shared.fleet_size(&self.key.fleet) } else { 0 };
        let asked = self.state().restart_asked();
        let held = asked.is_some_and(|asked| shared.restarts_earlier(&self.key, asked, now));
        let term = shared.lead.term();
        self.state().sites_refresh(&shared.nodes);
        if let Some(term) = term {
            self.places_ask(shared, term);
        }
        self.state().next(now, term, held, || shared.restart_allow(&self.key.fleet, size, now))
    }

    /// Asks for places for those that have none, and says which have left theirs.
    fn places_ask(&self, shared: &Shared, term: Term) {
        let (wanting, left) = self.state().placing(shared.schedule.usual());
        for mut request in wanting {
            if let Some(tended) = &self.environment {
                let Some(wait) = tended.waits() else { continue };
                request.wait = wait;
            }
            if let Err(refused) = shared.schedule.want(term, request) {
                self.refuse(refused);
            }
        }
        for (key, epoch) in left {
            shared.schedule.left(term, &key, epoch);
        }
        if !shared.nodes.is_alone() && shared.schedule.is_open() {
            let asking = self.state().rebooking(term, shared.schedule.usual());
            let rebook = |asked: Rebooking| (asked.number, shared.schedule.rebook(term, asked));
            let answers = asking.into_iter().map(rebook).collect::<Vec<_>>();
            if !answers.is_empty() {
                self.state().rebooked(term, answers);
            }
        }
    }

    /// No node has a place for it, and it is not to wait any longer.
    pub(crate) fn refuse(&self, refused: Refused) {
        if let Some(tended) = &self.environment {
            tended.refuse(refused);
        }
    }

    /// Stores what was noted, then starts the steps. True if the agent is gone.
    async fn advance(self: &Arc<Self>, shared: &Arc<Shared>, mut next: Next) -> bool {
        if let Some(term) = next.term {
            if next.finished {
                return self.forget(shared, term).await;
            }
            if !self.store(shared, term, &mut next).await {
                self.state().abandon(&next.steps);
                return false;
            }
        }
        for watch in next.watches {
            tokio::spawn(prober::watch(Arc::clone(shared), Arc::clone(self), watch));
        }
        let lines = self.state().lines(next.steps);
        for line in lines {
            let takers = line.len().min(AT_ONCE);
            let line = Arc::new(Mutex::new(line));
            for _ in 0..takers {
                let (agent, shared) = (Arc::clone(self), Arc::clone(shared));
                tokio::spawn(agent.take_steps(shared, next.term, Arc::clone(&line)));
            }
        }
        false
    }

    /// Takes one step of a line after the other. Those that have not begun count for nobody who waits until this server has ended
    /// what it does: they are not taken any more then.
    async fn take_steps(
        self: Arc<Self>,
        shared: Arc<Shared>,
        term: Option<Term>,
        line: Arc<Mutex<VecDeque<Step>>>,
    ) {
        let next = || lock(&line).pop_front();
        while let Some(step) = next() {
            Box::pin(self.take_step(&shared, term, step)).await;
        }
    }

    /// Stores what was noted and decided. False if that belongs to a term that is over.
    async fn store(&self, shared: &Arc<Shared>, term: Term, next: &mut Next) -> bool {
        if !next.updates.is_empty() {
            shared.metrics.noted(&next.updates);
            failpoint("record:before");
            let mut updates = std::mem::take(&mut next.updates);
            last_words::fill(shared, &mut updates).await;
            let told = told_by(&updates);
            match record(shared, term, updates).await {
                Recorded::Stored => self.state().journal_stored(told),
                Recorded::Failed => self.state().journal_keep(told),
                Recorded::Fenced => return false,
            }
            failpoint("record:after");
            shared.changed.send_replace(());
        }
        match next.judgement.take() {
            Some(judgement) => rolling::conclude(shared, self, term, judgement).await,
            None => true,
        }
    }

    async fn take_step(&self, shared: &Arc<Shared>, term: Option<Term>, step: Step) {
        let _under_way = shared.lead.step();
        let outcome = act::act(shared, self, term, &step).await;
        let is_forgotten = matches!(outcome, Outcome::Forgotten);
        let update = self.state().finish(&step, outcome, Timestamp::now());
        if let Some(term) = term.filter(|_| is_forgotten) {
            // After it is not in the state any more: a book that is made meanwhile looks there.
            shared.schedule.forgotten(term, &self.key.instance(step.number()));
        }
        let update = update.filter(|_| shared.lead.term() == term);
        if let (Some(term), Some(update)) = (term, update) {
            record(shared, term, vec![update]).await;
        }
        shared.changed.send_replace(());
        self.wake();
    }

    async fn forget(self: &Arc<Self>, shared: &Arc<Shared>, term: Term) -> bool {
        if let Err(message) = self.try_forget(shared, term).await {
            tracing::warn!(agent = %self.key, message, "cannot end the agent's deletion, will try again");
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.wake();
            return false;
        }
        shared.agent_remove(self);
        self.environment_gone();
        // Somebody may have deployed it again since: that found this controller, which ends now.
        if let Err(error) = agent_reload(shared, &self.key).await {
            tracing::debug!(agent = %self.key, %error, "gone");
        }
        fleet::fleet_finish_if_deleting(shared, &self.key.fleet).await;
        true
    }

    async fn try_forget(&self, shared: &Shared, term: Term) -> Result<(), String> {
        failpoint("agent_forget:before");
        if self.state().cleanup {
            fleet::data_remove(shared, term, &self.key.fleet, Some(&self.key.agent)).await?;
            failpoint("agent_forget:cleaned");
        }
        match shared.store.agent_forget(term, &self.key).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(chain(&error)),
            _ => {}
        }
        failpoint("agent_forget:after");
        Ok(())
    }
}

/// True of an instance whose run is noted that goes on.
fn begins(update: &InstanceUpdate) -> bool {
    update.events.last() == Some(&EventKind::Started)
}

/// What became of what was noted.
enum Recorded {
    Stored,
    Failed,
    /// This server does not act any more, so that nothing is to follow.
    Fenced,
}

/// Stores what was noted. A full disk must not stop agents from being looked after: what is not stored is noted again
/// after a restart, from what the node shows.
async fn record(shared: &Shared, term: Term, updates: Vec<InstanceUpdate>) -> Recorded {
    let Err(error) = shared.store.instance_record(term, updates).await else { return Recorded::Stored };
    if shared.is_fenced(term, &error) {
        tracing::info!(error = chain(&error), "what was noted of instances is left to the server that acts");
        return Recorded::Fenced;
    }
    tracing::warn!(%error, "cannot store what was noted of instances");
    Recorded::Failed
}

async fn sleep_until(at: Option<Timestamp>) {
    match at {
        None => std::future::pending().await,
        Some(at) => {
            let left = at.duration_since(Timestamp::now());
            tokio::time::sleep(left.try_into().unwrap_or_default()).await;
        }
    }
}
