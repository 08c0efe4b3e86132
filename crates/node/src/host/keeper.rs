//! Keeps the node's instances running while no server can be reached.
//!
//! ```text
//!   a server is heard ──nothing for `alone_after`──▶ alone: list ─▶ plan ─▶ journal ─▶ start
//!          ▲                                           │   ▲                              │
//!          └────────────── it is heard again ──────────┘   └────── event, exit, timer ────┘
//! ```
//! It looks at the health of what runs, too (`health`), and ends what is unhealthy, so that it is started again.
//!
//! What is to be done is decided by what decides it on a server (`chassis_core::plan`): policy, back-off and all. It makes
//! and removes nothing, and starts only what an order had started. What holds:
//!
//! - an order and a step of the keeper's about one container follow one another, and the step asks first whether it is still
//!   alone; a term is taken over when steps have ended;
//! - how a run ended is in the journal before the next one begins, which hides it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use chassis_core::health::health_check;
use chassis_core::{
    Action, AgentDesired, AgentKey, Desired, Exit, Happened, Health, Instance, Memory, Observed, Plan,
    RunState, Site, plan,
};
use chassis_runtime::{Error, InstanceConfig, Owned, RuntimeEvent};
use chassis_spec::{FleetName, RestartPolicy};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Host;
use super::health::{COMMANDS, Watch, Watched};

/// Everything is listed this often even if nothing seems to happen.
const LIST: Duration = Duration::from_secs(5);
/// And because of what happens no more often than this.
const PAUSE: Duration = Duration::from_millis(200);
/// Steps that are under way: after the machine was booted everything is to be started.
const STEPS: usize = 8;

/// How often an unhealthy instance of a fleet is ended. A server knows what all nodes do, and has a budget for the fleet
/// (`core::budget`); a node that is alone does not, and what all of them have in common may be what ails it.
const CONDEMNED: SignedDuration = SignedDuration::from_mins(1);

type Events = BoxStream<'static, Result<RuntimeEvent, Error>>;

/// What is known while the node is alone.
struct Keeper {
    host: Arc<Host>,
    runs: HashMap<Box<str>, Run>,
    steps: JoinSet<Ended>,
    slots: Arc<Semaphore>,
    /// For commands that look at the health of an agent's instances.
    probing: HashMap<AgentKey, Arc<Semaphore>>,
    /// When an unhealthy instance of a fleet was ended last.
    condemned: HashMap<FleetName, Timestamp>,
    /// A verdict is another than before.
    changed: Arc<Notify>,
}

/// Of one container.
#[derive(Default)]
struct Run {
    memory: Memory,
    is_busy: bool,
    watch: Option<Watch>,
}

/// A step that is over.
struct Ended {
    id: Box<str>,
    result: Result<(), Error>,
}

impl Host {
    /// For as long as the node is served.
    pub async fn instances_keep(self: Arc<Self>) {
        let before = self.kept.ids();
        while let Err(error) = self.kept_sweep(&before).await {
            tracing::debug!(%error, "cannot look for what is kept of containers that are gone");
            sleep(LIST).await;
        }
        loop {
            self.contact.alone().await;
            tracing::warn!("no server can be reached: what crashes is started again from here");
            Keeper::new(&self).keep().await;
            tracing::info!("a server is back, and looks after what is here");
        }
    }

    /// Forgets containers that went without an order.
    async fn kept_sweep(&self, before: &[Box<str>]) -> Result<(), Error> {
        if before.is_empty() {
            return Ok(());
        }
        let there = self.runtime.instance_list().await?;
        for id in before.iter().filter(|id| !there.iter().any(|owned| owned.observed.id == **id)) {
            // The simulation begins to count anew, and may have made another one by now.
            if self.runtime.instance_inspect(id).await?.is_none() {
                self.kept.removed(id).await?;
            }
        }
        Ok(())
    }

    /// Writes down how a run ended, unless that was done.
    async fn end_note(&self, owned: &Owned, started_at: Timestamp, exit: Exit) -> Result<(), Error> {
        let (entries, start) = (self.journal.of(&owned.observed.id), Happened::Started { started_at });
        let last = entries.iter().rev().find_map(|entry| match entry.what {
            Happened::Ended { started_at, .. } => Some(started_at),
            _ => None,
        });
        match last {
            Some(last) if last == started_at => return Ok(()),
            // The process that started it was killed before it could say so.
            Some(_) if !entries.iter().any(|entry| entry.what == start) => {
                self.journal.add(owned, start).await?;
            }
            _ => {}
        }
        self.journal.add(owned, Happened::Ended { started_at, exit }).await
    }

    /// Starts a container that is not running, unless a server has been heard meanwhile.
    async fn start_again(&self, id: &str, unhealthy: bool) -> Result<(), Error> {
        let _turn = self.terms.own().await;
        let _own = self.turns.take(id).await;
        if !self.contact.is_alone() || self.kept.running(id).is_none() {
            return Ok(());
        }
        let Some(owned) = self.runtime.instance_inspect(id).await? else { return Ok(()) };
        self.lease_check(id).await?;
        match owned.observed.state {
            RunState::Exited { started_at, exit } => {
                self.end_note(&owned, started_at, Exit { unhealthy, ..exit }).await?;
            }
            // What is in its way may be gone once the machine has started anew; only a server makes another one.
            RunState::Created | RunState::Dead => {}
            RunState::Running { .. } => return Ok(()),
        }
        let secrets = self.kept.secrets(id).await?;
        self.runtime.instance_start(id, secrets).await?;
        let Some(owned) = self.runtime.instance_inspect(id).await? else { return Ok(()) };
        tracing::info!(instance = %owned.key, "started again");
        match owned.observed.state.started_at() {
            Some(started_at) => self.journal.add(&owned, Happened::Started { started_at }).await,
            None => Ok(()),
        }
    }
}

impl Host {
    /// Ends a run that is unhealthy, unless a server has been heard meanwhile.
    async fn end_unhealthy(&self, id: &str, failure: Option<(String, bool)>) -> Result<(), Error> {
        let _turn = self.terms.own().await;
        let _own = self.turns.take(id).await;
        if !self.contact.is_alone() || self.kept.running(id).is_none() {
            return Ok(());
        }
        let Some(owned) = self.runtime.instance_inspect(id).await? else { return Ok(()) };
        let RunState::Running { started_at } = owned.observed.state else { return Ok(()) };
        let is_written =
            |what: &Happened| matches!(what, Happened::Condemned { started_at: of, .. } if *of == started_at);
        if !self.journal.of(id).iter().any(|entry| is_written(&entry.what)) {
            let (message, was_good) = failure.unwrap_or_default();
            let at = Timestamp::now();
            self.journal.add(&owned, Happened::Condemned { at, started_at, was_good, message }).await?;
        }
        tracing::info!(instance = %owned.key, "is unhealthy, and ended to be started again");
        self.runtime.instance_stop(id).await
    }
}

impl Keeper {
    fn new(host: &Arc<Host>) -> Keeper {
        Keeper {
            host: Arc::clone(host),
            runs: HashMap::new(),
            steps: JoinSet::new(),
            slots: Arc::new(Semaphore::new(STEPS)),
            probing: HashMap::new(),
            condemned: HashMap::new(),
            changed: Arc::default(),
        }
    }

    /// Until a server is heard.
    async fn keep(mut self) {
        let mut events = None;
        while self.host.contact.is_alone() {
            if events.is_none() {
                events = self.host.runtime.events().await.ok();
            }
            let wake_at = self.look().await;
            let wait =
                wake_at.map_or(LIST, |at| at.duration_since(Timestamp::now()).try_into().unwrap_or_default());
            tokio::select! {
                () = self.host.contact.next() => {}
                () = self.changed.notified() => {}
                () = happens(&mut events) => sleep(PAUSE).await,
                Some(ended) = self.steps.join_next() => self.finish(ended.ok()),
                () = sleep(wait.clamp(PAUSE, LIST)) => {}
            }
        }
        while self.steps.join_next().await.is_some() {}
    }

    /// Lists everything, and begins what is to be done. Returns when to do so again.
    async fn look(&mut self) -> Option<Timestamp> {
        let listed = match self.host.runtime.instance_list().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%error, "cannot look what runs");
                return None;
            }
        };
        self.runs.retain(|id, run| run.is_busy || listed.iter().any(|owned| owned.observed.id == *id));
        let mut wake_at = None;
        for owned in listed {
            if owned.leased && self.host.clock.rest().is_zero() {
                continue;
            }
            let Some(config) = self.host.kept.running(&owned.observed.id) else { continue };
            wake_at = [wake_at, self.decide(&owned, &config)].into_iter().flatten().min();
        }
        wake_at
    }

    fn decide(&mut self, owned: &Owned, config: &Arc<InstanceConfig>) -> Option<Timestamp> {
        let id = owned.observed.id.clone();
        let policy = config.spec.restart_policy;
        let run = self.runs.entry(id.clone()).or_insert_with(|| {
            // What the last process of this node did counts, so that a crash loop stays one.
            let told = self.host.journal.of(&id);
            let memory = told.iter().fold(Memory::default(), |memory, entry| {
                memory.note_told(entry, policy, seed(&id, &memory)).map_or(memory, |told| told.memory)
            });
            Run { memory, is_busy: false, watch: None }
        });
        if run.is_busy {
            return None;
        }
        // Limits and name are the server's to put right.
        let observed = Observed { name_is_right: true, ..owned.observed.clone() };
        let serving = [observed.revision];
        let agent = AgentDesired {
            serving: &serving,
            restart_policy: policy,
            limits: observed.limits,
            rollout: &config.spec.rollout,
            paused: false,
            restarts_held: false,
        };
        let desired = Desired::running();
        if let Some((memory, _)) = run.memory.note(&desired, Some(&observed), agent, seed(&id, &run.memory)) {
            run.memory = memory;
        }
        let since = match observed.state {
            RunState::Running { started_at } => Some(started_at),
            _ => None,
        };
        if run.watch.as_ref().map(|watch| watch.started_at) != since {
            let rules = health_check(&config.spec, Some(&observed)).cloned();
            run.watch = since.zip(rules).map(|(started_at, rules)| {
                let slots = self.probing.entry(owned.key.agent_key());
                let slots = Arc::clone(slots.or_insert_with(|| Arc::new(Semaphore::new(COMMANDS))));
                let (config, changed) = (Arc::clone(config), Arc::clone(&self.changed));
                Watch::begin(
                    &self.host,
                    Watched { owned: owned.clone(), started_at, config, rules, slots, changed },
                )
            });
        }
        let now = Timestamp::now();
        let failure = run.watch.as_ref().and_then(|watch| watch.failure(now));
        let last = self.condemned.get(&owned.key.fleet);
        if let Some((message, was_good)) = failure
            && policy != RestartPolicy::Never
            && last.is_none_or(|last| now.duration_since(*last) >= CONDEMNED)
            && let Some((memory, _)) = run.memory.note_unhealthy(was_good, message)
        {
            self.condemned.insert(owned.key.fleet.clone(), now);
            run.memory = memory;
        }
        let instance = Instance {
            number: owned.key.number,
            desired,
            observed: Some(observed),
            memory: run.memory.clone(),
            health: Health::default(),
            busy: false,
            site: Site::Here,
            is_cramped: false,
        };
        let Plan { actions, wake_at } = plan(agent, std::iter::once(&instance), now);
        let unhealthy = run.memory.exit.is_some_and(|exit| exit.unhealthy);
        let failure = run.watch.as_ref().and_then(|watch| watch.failure(now));
        let (host, slots) = (Arc::clone(&self.host), Arc::clone(&self.slots));
        let step = match actions.into_iter().next() {
            // A server would remove what is dead, and make another one.
            Some(Action::Start { .. } | Action::Remove { .. }) => {
                async move { host.start_again(&id, unhealthy).await }.boxed()
            }
            Some(Action::Stop { .. }) => async move { host.end_unhealthy(&id, failure).await }.boxed(),
            _ => return wake_at,
        };
        run.is_busy = true;
        let id = owned.observed.id.clone();
        self.steps.spawn(async move {
            let _slot = slots.acquire().await;
            Ended { id, result: step.await }
        });
        wake_at
    }

    fn finish(&mut self, ended: Option<Ended>) {
        let Some(Ended { id, result }) = ended else { return };
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.is_busy = false;
        run.memory = match result {
            Ok(()) => run.memory.note_unblocked(),
            Err(error) => {
                tracing::warn!(container = %id, %error, "cannot start it again, will try once more");
                let seed = seed(&id, &run.memory);
                run.memory.note_blocked(error.reason(), error.to_string(), Timestamp::now(), seed)
            }
        };
    }
}

/// Waits until something happens to an instance, or nothing can be heard any more.
async fn happens(events: &mut Option<Events>) {
    let Some(heard) = events else { return std::future::pending().await };
    loop {
        match heard.next().await {
            Some(Ok(RuntimeEvent::Instance { .. })) => return,
            Some(Ok(RuntimeEvent::Surroundings)) => {}
            Some(Err(_)) | None => {
                *events = None;
                return;
            }
        }
    }
}

/// Differs between containers and from one failure to the next.
fn seed(id: &str, memory: &Memory) -> u64 {
    let mut hasher = DefaultHasher::new();
    (id, memory.restarts).hash(&mut hasher);
    hasher.finish()
}
