//! Which instance runs on which node: the acting server's end of [`chassis_core::schedule`].
//!
//! ```text
//!   controllers ──want, left, forgotten──┐
//!   heartbeats ───heard, reported────────┼──▶ book ──changes──▶ store ──▶ the agents' states ──▶ controllers act
//!   the store ────nodes that came, went──┘     ▲                               (on the new node, or leave the old)
//!                                              └── a clock: silence, drains
//! ```
//! What holds:
//! - the book is made from the store when a term begins, or the chassis is not alone any more, and is gone with the term;
//! - a place is in the store before anybody acts on it; one task stores all changes, in their order;
//! - epochs and terms of nodes are never given out twice, whichever server gives them out: each book has a number of its own
//!   from the store, and numbers from there.

mod wants;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chassis_core::environment;
use chassis_core::rollout::is_extra;
use chassis_core::schedule::{
    Change, Cramped, Error, Held, Orders, Place, Placement, Pulse, Refused, Request, Rules, Standing,
};
use chassis_core::{AgentKey, InstanceKey, Liveness, NodeName, NodeState, Scheduler};
use chassis_spec::{AgentSpec, RuntimeKind};
use chassis_store::{NodeRecord, Placed, PlacementUpdate, Term};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::error::chain;
use crate::node_known::Live;
use crate::shared::{Shared, lock};

pub(crate) use wants::{Rebooking, request};

/// Before what could not be stored is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// An instance that is no more leaves its place, then the one that it was moving to, or the queue.
const PLACES_AFTER_ANOTHER: usize = 3;
/// The label of an environment that says whose share it counts to.
pub(crate) const TENANT: &str = "tenant";
/// Of each book's numbers this many bits count within it.
const BOOK_BITS: u32 = 32;
/// A clock that is off by more than this from one question to the next was set.
const CLOCK_STEP: SignedDuration = SignedDuration::from_secs(1);

/// The book of the server that acts, where there are several nodes.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// What runs agents that do not say it: Docker, or what the own node has in its place.
    usual: RuntimeKind,
    book: Mutex<Option<Book>>,
    /// There may be changes to store.
    wake: Notify,
    /// The store's nodes differ from the book's.
    nodes_stale: AtomicBool,
}

#[derive(Debug)]
struct Book {
    term: Term,
    scheduler: Scheduler,
    /// When it was asked last, by the time of day and by a clock that nobody sets.
    asked: (Timestamp, Instant),
}

impl Book {
    /// A clock that is set, and a machine that has slept, make no node silent: what may move runs on there.
    fn clock_follow(&mut self) {
        let asked = (Timestamp::now(), Instant::now());
        let passed = asked.1.duration_since(self.asked.1).try_into().unwrap_or(SignedDuration::MAX);
        let set = asked.0.duration_since(self.asked.0).saturating_sub(passed);
        if set.abs() > CLOCK_STEP {
            tracing::info!(seconds = set.as_secs(), "the clock was set; nodes are waited for as before");
            self.scheduler.clock_set(set);
        }
        self.asked = asked;
    }
}

impl Schedule {
    pub(crate) fn new(usual: RuntimeKind) -> Self {
        Schedule { usual, book: Mutex::default(), wake: Notify::new(), nodes_stale: AtomicBool::default() }
    }

    /// As in [`request`].
    pub(crate) fn usual(&self) -> RuntimeKind {
        self.usual
    }

    /// Asks or tells the book, if there is one in this term.
    fn with<T>(&self, term: Term, ask: impl FnOnce(&mut Scheduler) -> T) -> Option<T> {
        let answer = self.look(term, ask);
        self.wake.notify_one();
        answer
    }

    /// The same for the task that stores what changes, which need not be woken for it.
    fn look<T>(&self, term: Term, ask: impl FnOnce(&mut Scheduler) -> T) -> Option<T> {
        let mut book = lock(&self.book);
        let book = book.as_mut().filter(|book| book.term == term)?;
        book.clock_follow();
        Some(ask(&mut book.scheduler))
    }

    /// True if there is a book to ask.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.book).is_some()
    }

    /// An instance that should exist and has no place asks for one, unless it waits already. Fails if it is not to wait, and
    /// there is none.
    pub(crate) fn want(&self, term: Term, request: Request) -> Result<(), Refused> {
        let key = request.instance.clone();
        let asked = self.with(term, |scheduler| {
            if let Some(tracked) = scheduler.instance(&key) {
                if tracked.standing != Standing::Waiting || tracked.request.demand == request.demand {
                    return Ok(());
                }
                // It asks for something else than when it began to wait.
                drop(scheduler.instance_end(&key));
            }
            match scheduler.submit(request, Timestamp::now()) {
                Err(Error::NoPlace(refused)) => return Err(refused),
                Err(error) => tracing::warn!(instance = %key, %error, "cannot wait for a place"),
                Ok(_) => {}
            }
            Ok(())
        });
        asked.unwrap_or(Ok(()))
    }

    /// True if [`Schedule::withdraw`] would do so.
    pub(crate) fn can_withdraw(&self, term: Term, key: &InstanceKey, placed: &Placed) -> bool {
        self.look(term, |scheduler| scheduler.can_withdraw(key, placed.epoch)).unwrap_or(false)
    }

    /// The node of a placement does not answer, and was never asked to start it. True if it is placed elsewhere.
    pub(crate) fn withdraw(&self, term: Term, key: &InstanceKey, placed: &Placed) -> bool {
        let withdrawn = self.with(term, |scheduler| {
            scheduler.node_suspect(&placed.node);
            scheduler.instance_withdraw(key, placed.epoch, Timestamp::now())
        });
        withdrawn.unwrap_or(false)
    }

    /// What an instance that has a place is to have there from now on; why that cannot be.
    pub(crate) fn rebook(&self, term: Term, asked: Rebooking) -> Option<Cramped> {
        let Rebooking { request, epoch, container, .. } = asked;
        self.with(term, |scheduler| scheduler.instance_rebook(request, epoch, container, Timestamp::now()))?
            .err()
    }

    /// An instance has left the place that it had. It may have another by now, of which its agent has yet to hear.
    pub(crate) fn left(&self, term: Term, key: &InstanceKey, epoch: u64) {
        self.with(term, |scheduler| scheduler.instance_ended(key, epoch, Timestamp::now()));
    }

    /// An instance is no more.
    pub(crate) fn forgotten(&self, term: Term, key: &InstanceKey) {
        self.with(term, |scheduler| {
            // One that was on its way elsewhere gets its next place as soon as it has ended.
            for _ in 0..PLACES_AFTER_ANOTHER {
                let Some(tracked) = scheduler.instance(key) else { return };
                match tracked.standing.place().map(|(_, epoch)| epoch) {
                    Some(epoch) => drop(scheduler.instance_ended(key, epoch, Timestamp::now())),
                    None => drop(scheduler.instance_end(key)),
                }
            }
        });
    }

    /// An instance without a container is to get one that ends with its node's lease, or one that does not. None if there is no
    /// book in this term.
    pub(crate) fn lease_set(&self, term: Term, key: &InstanceKey, epoch: u64, leased: bool) -> Option<()> {
        self.with(term, |scheduler| scheduler.lease_set(key, epoch, leased))
    }

    /// The same of one that was in this place.
    fn over(&self, term: Term, key: &InstanceKey, epoch: u64) {
        let is_there = |scheduler: &mut Scheduler| {
            scheduler.instance(key).and_then(|tracked| tracked.standing.place()).map(|(_, epoch)| epoch)
        };
        if self.with(term, is_there).flatten() == Some(epoch) {
            self.forgotten(term, key);
        }
    }

    pub(crate) fn heard(&self, term: Term, node: &NodeName, node_term: u64) -> Option<Result<Pulse, Error>> {
        self.with(term, |scheduler| scheduler.node_heartbeat(node, node_term, Timestamp::now()))
    }

    pub(crate) fn reported(
        &self,
        term: Term,
        node: &NodeName,
        node_term: u64,
        held: &[Held],
    ) -> Option<Result<Orders, Error>> {
        self.with(term, |scheduler| scheduler.node_report(node, node_term, held, Timestamp::now()))
    }

    /// The nodes came, went, or something else is wanted of them.
    pub(crate) fn nodes_changed(&self) {
        self.nodes_stale.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// What the book says of a node; nothing on a server that has none.
    pub(crate) fn standing(&self, name: &NodeName) -> Option<Live> {
        let book = lock(&self.book);
        let node = book.as_ref()?.scheduler.node(name)?;
        Some(Live { liveness: node.liveness(), used: node.used(), heard_at: node.heard_at() })
    }

    /// The same in one word.
    pub(crate) fn state(&self, name: &NodeName) -> Option<NodeState> {
        Some(lock(&self.book).as_ref()?.scheduler.node(name)?.state())
    }

    /// How many are before an instance that waits, and what each node lacks for it.
    pub(crate) fn waiting(&self, key: &InstanceKey) -> Option<(usize, Refused)> {
        let book = lock(&self.book);
        let scheduler = &book.as_ref()?.scheduler;
        let tracked = scheduler.instance(key).filter(|tracked| tracked.standing == Standing::Waiting)?;
        Some((scheduler.ahead(key).unwrap_or_default(), scheduler.refused(&tracked.request)))
    }

    /// What each other node lacks for an instance of a node that is drained.
    pub(crate) fn stays(&self, key: &InstanceKey) -> Option<Refused> {
        lock(&self.book).as_ref()?.scheduler.stays(key)
    }

    /// What each node lacks for an environment that would find no place now.
    pub(crate) fn would_refuse(&self, spec: &AgentSpec) -> Option<Refused> {
        let key = AgentKey { fleet: environment::fleet(), agent: spec.name.clone() };
        let key = key.instance(environment::NUMBER);
        let request = request(key, spec, None, self.usual);
        let book = lock(&self.book);
        let scheduler = &book.as_ref()?.scheduler;
        (!scheduler.fits(&request)).then(|| scheduler.refused(&request))
    }
}

/// Runs for as long as the server does.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut acts = shared.lead.subscribe();
    loop {
        let term = *acts.borrow_and_update();
        if let Some(term) = term.filter(|_| !shared.nodes.is_alone()) {
            match open(&shared, term).await {
                Ok(()) => keep(&shared, term).await,
                Err(error) if shared.is_fenced(term, &error) => {}
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot begin to schedule, will try again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
            *lock(&shared.schedule.book) = None;
            if shared.nodes.is_alone() {
                // The last that was stored may have been told after its node was gone.
                shared.agents().iter().for_each(|agent| agent.state().alone_again(&shared.own().name));
            }
            continue;
        }
        tokio::select! {
            changed = acts.changed() => if changed.is_err() { return },
            () = shared.schedule.wake.notified() => {}
        }
    }
}

/// Makes the book: the nodes and places of the store, and what is on the own node since before there were others.
async fn open(shared: &Arc<Shared>, term: Term) -> chassis_store::Result<()> {
    let number = shared.store.schedule_begin(term).await?;
    let nodes = shared.store.node_list().await?;
    let now = Timestamp::now();
    let rules = Rules { strategy: shared.placement, ..Rules::default() };
    let mut scheduler = Scheduler::new(rules, u64::from(number) << BOOK_BITS);
    scheduler.own_set(shared.own().name.clone());
    for node in nodes {
        scheduler.node_restore(node.spec, node.duty, node.is_down, now);
    }
    let (mut found, mut restored) = (Vec::new(), Vec::new());
    for agent in shared.agents() {
        let state = agent.state();
        for (number, slot) in state.slots.iter().filter(|(number, _)| !is_extra(**number)) {
            // What another server placed nowhere before it knew of other nodes is where its container is, with its data.
            let is_found = slot.placed.is_none() && (slot.instance.observed.is_some() || slot.instance.busy);
            let placed = slot.placed.clone().or_else(|| is_found.then(|| own_place(shared)));
            // Data of one that has a place can be nowhere else: its home may have been forgotten by a server that was killed
            // before it had placed it anew.
            let home = slot.home.clone().or_else(|| placed.as_ref().map(|placed| placed.node.clone()));
            let request = request(state.instance_key(*number), &state.spec, home, shared.schedule.usual);
            let key = request.instance.clone();
            let is_homeless = slot.home.is_none() && request.demand.home().is_some();
            match placed {
                None if slot.instance.desired.wanted.is_absent() => {}
                None => scheduler.instance_restore(request, None, now),
                Some(placed) => {
                    if is_found || is_homeless {
                        let home = request.demand.home().cloned();
                        found.push(PlacementUpdate {
                            instance: key.clone(),
                            placed: Some(placed.clone()),
                            home,
                        });
                    }
                    let Placed { node, epoch, leased, ending } = placed;
                    restored.push((key, epoch));
                    scheduler.instance_restore(request, Some(Place { node, epoch, leased, ending }), now);
                }
            }
        }
    }
    if !found.is_empty() {
        shared.store.placements_record(term, found.clone()).await?;
        apply(shared, found);
    }
    *lock(&shared.schedule.book) = Some(Book { term, scheduler, asked: (now, Instant::now()) });
    for (key, epoch) in restored {
        // Whoever was forgotten while the book was made told nobody.
        let placed = shared.agent(&key.agent_key()).and_then(|agent| agent.state().placed(key.number));
        if placed.is_none_or(|placed| placed.epoch != epoch) {
            shared.schedule.over(term, &key, epoch);
        }
    }
    shared.nodes.all().iter().for_each(|node| node.touch.notify_one());
    shared.agents().iter().for_each(|agent| agent.wake());
    Ok(())
}

fn own_place(shared: &Shared) -> Placed {
    Placed { node: shared.own().name.clone(), epoch: 0, leased: false, ending: None }
}

/// Keeps the book until the term is over, or the chassis is alone again.
async fn keep(shared: &Arc<Shared>, term: Term) {
    let mut acts = shared.lead.subscribe();
    while *acts.borrow_and_update() == Some(term) && !shared.nodes.is_alone() {
        if let Err(error) = nodes_sync(shared, term).await {
            if shared.is_fenced(term, &error) {
                return;
            }
            tracing::warn!(error = chain(&error), "cannot list the nodes, will try again");
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let asked = shared.schedule.look(term, |scheduler| {
            let now = Timestamp::now();
            scheduler.tick(now);
            let changes = scheduler.take_changes();
            let writes = Writes::of(scheduler, &changes);
            let gave_up = changes.into_iter().filter_map(|change| match change {
                Change::GaveUp(refused) => Some(refused),
                _ => None,
            });
            (writes, gave_up.collect::<Vec<_>>(), scheduler.wake_at(now))
        });
        let Some((writes, gave_up, wake_at)) = asked else { return };
        for refused in gave_up {
            if let Some(agent) = shared.agent(&refused.instance.agent_key()) {
                agent.refuse(refused);
                agent.wake();
            }
        }
        if !writes.is_empty() {
            if !carry_out(shared, term, writes).await {
                return;
            }
            continue;
        }
        let pause = wake_at.map(|at| at.duration_since(Timestamp::now()).try_into().unwrap_or_default());
        tokio::select! {
            changed = acts.changed() => if changed.is_err() { return },
            () = shared.schedule.wake.notified() => {}
            () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
        }
    }
}

/// What of the changes the store is to have.
#[derive(Debug, Default)]
struct Writes {
    nodes: Vec<(NodeName, Liveness)>,
    drained: Vec<NodeName>,
    places: Vec<PlacementUpdate>,
}

impl Writes {
    fn of(scheduler: &Scheduler, changes: &[Change]) -> Writes {
        let mut writes = Writes::default();
        let home = |key: &InstanceKey| scheduler.instance(key)?.request.demand.home().cloned();
        for change in changes {
            match change {
                Change::Node { node, from, to } => {
                    // One that has not reported yet is no news.
                    if liveness(*to) != Liveness::Suspect || liveness(*from) == Liveness::Alive {
                        writes.nodes.push((node.clone(), liveness(*to)));
                    }
                }
                Change::Drained { node } => writes.drained.push(node.clone()),
                Change::Placed(placement) | Change::Leased(placement) => {
                    let Placement { instance, node, epoch, leased } = placement.clone();
                    let placed = Placed { node, epoch, leased, ending: None };
                    writes.place(&instance, Some(placed), home(&instance));
                }
                Change::Ending { instance, node, epoch, leased, next } => {
                    let (node, epoch, leased) = (node.clone(), *epoch, *leased);
                    let placed = Placed { node, epoch, leased, ending: Some(*next) };
                    writes.place(instance, Some(placed), home(instance));
                }
                Change::Queued { instance } => writes.place(instance, None, home(instance)),
                // A new one of the same number may have a row by now.
                Change::Forgotten { instance } => {
                    writes.places.retain(|update| update.instance != *instance);
                }
                // What has lost its data is queued or placed too.
                Change::GaveUp(_) | Change::DataLost { .. } => {}
            }
        }
        writes
    }

    fn place(&mut self, instance: &InstanceKey, placed: Option<Placed>, home: Option<NodeName>) {
        self.places.push(PlacementUpdate { instance: instance.clone(), placed, home });
    }

    fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.drained.is_empty() && self.places.is_empty()
    }
}

/// Stores what changed, however often it takes, and then tells those who act on it. False if the term is over.
async fn carry_out(shared: &Arc<Shared>, term: Term, writes: Writes) -> bool {
    loop {
        match store(shared, term, &writes).await {
            Ok(()) => break,
            Err(error) if shared.is_fenced(term, &error) => return false,
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot store where instances are, will try again");
                tokio::time::sleep(PAUSE).await;
            }
        }
        if shared.lead.term() != Some(term) {
            return false;
        }
    }
    apply(shared, writes.places);
    true
}

async fn store(shared: &Shared, term: Term, writes: &Writes) -> chassis_store::Result<()> {
    for (node, liveness) in &writes.nodes {
        shared.store.node_note(term, node, *liveness).await?;
    }
    if !writes.places.is_empty() {
        shared.store.placements_record(term, writes.places.clone()).await?;
    }
    for node in &writes.drained {
        shared.store.node_drained(term, node).await?;
    }
    Ok(())
}

/// Tells the agents where their instances are from now on.
fn apply(shared: &Arc<Shared>, places: Vec<PlacementUpdate>) {
    for PlacementUpdate { instance, placed, home } in places {
        if let Some(agent) = shared.agent(&instance.agent_key()) {
            let mut state = agent.state();
            state.place(instance.number, placed, home);
            // What kept it from running where it was says nothing of where it is now.
            state.unblock(Timestamp::now());
            drop(state);
            agent.wake();
        }
    }
    shared.changed.send_replace(());
}

/// What is known of a node in this state.
fn liveness(state: NodeState) -> Liveness {
    match state {
        NodeState::Suspect => Liveness::Suspect,
        NodeState::Down => Liveness::Down,
        NodeState::Active | NodeState::Cordoned | NodeState::Draining => Liveness::Alive,
    }
}

/// Brings the book's nodes in line with the store's.
async fn nodes_sync(shared: &Arc<Shared>, term: Term) -> chassis_store::Result<()> {
    if !shared.schedule.nodes_stale.swap(false, Ordering::Relaxed) {
        return Ok(());
    }
    let nodes = shared.store.node_list().await.inspect_err(|_| shared.schedule.nodes_changed())?;
    // What the store knows no more had nothing, or its machine is gone for good. What it had is without a place by then, and
    // whoever was to go is known: see `nodes::refresh`.
    let is_gone = |name: &NodeName| {
        !nodes.iter().any(|record| record.name() == name) && shared.nodes.get(name).is_none()
    };
    let gone = shared.schedule.look(term, |scheduler| {
        let gone = scheduler.nodes().filter(|node| is_gone(&node.spec().name));
        gone.map(|node| (node.spec().name.clone(), node.instances().iter().cloned().collect())).collect()
    });
    let gone: Vec<(NodeName, Vec<InstanceKey>)> = gone.unwrap_or_default();
    // Asked between two looks: others look into the book while they hold an agent, so nobody asks an agent while holding the book.
    let is_wanted = |key: &&InstanceKey| {
        let agent = shared.agent(&key.agent_key());
        agent.is_some_and(|agent| agent.state().is_wanted(key.number))
    };
    let unwanted: Vec<InstanceKey> =
        gone.iter().flat_map(|(_, held)| held).filter(|key| !is_wanted(key)).cloned().collect();
    shared.schedule.look(term, |scheduler| {
        let now = Timestamp::now();
        for (name, _) in &gone {
            // It is on the book: it was just found there. What the book has put there since goes elsewhere.
            let _ = scheduler.node_abandon(name, now);
        }
        for key in &unwanted {
            let _ = scheduler.instance_end(key);
        }
        for NodeRecord { spec, duty, .. } in nodes {
            let name = spec.name.clone();
            let (known, duty_before) = scheduler
                .node(&name)
                .map_or((None, None), |node| (Some(node.spec().clone()), Some(node.duty())));
            if known.as_ref() != Some(&spec) {
                scheduler.node_register(spec, now);
            }
            if duty_before != Some(duty) {
                // It is on the book: it was found there, or has just been put there.
                let _ = scheduler.node_assign(&name, duty);
            }
        }
    });
    Ok(())
}
