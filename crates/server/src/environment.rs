//! What becomes of environments: carries out what `chassis_core::environment` decides.
//!
//! There is no loop of its own: the controller of an environment's agent tends it after each of its own rounds, so that
//! whatever wakes the agent is seen, and one environment that is slow holds up no other. The store is the truth; what is
//! known here is read again whenever the agent's version says that it changed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis_core::environment::{self, Decision, Life, Limits, NUMBER, Seen, State, decide};
use chassis_core::schedule::{Refused, Wait};
use chassis_core::{AgentKey, Phase, Reason, RunState};
use chassis_runtime::Owned;
use chassis_store::{Environment, EnvironmentEnd, Scope, Term};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::controller::{AgentController, agents_changed};
use crate::error::chain;
use crate::failpoint::failpoint;
use crate::fuse;
use crate::shared::{Shared, lock};

/// Before the store is asked again that did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Whether an instance has ended together with a command in it.
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// Why an environment has no place, if no server schedules.
const NOT_ASKED: &str = "the nodes have not been asked yet; ask again";

/// What the controller of an agent knows of its environment.
#[derive(Debug)]
pub(crate) struct Tended {
    known: watch::Sender<Known>,
    /// When the agent was made, and its version, as that was read: versions count within one life of a name.
    version: Mutex<Option<(Timestamp, u64)>>,
    usage: Mutex<Usage>,
    startup: Mutex<Startup>,
    course: Mutex<Course>,
}

/// How it came to its place, where there are several nodes; in memory.
#[derive(Debug, Default)]
struct Course {
    /// No node had a place for it, and it does not wait any longer.
    refused: Option<Refused>,
    /// Since when it has its first place, as far as this server knows.
    placed_at: Option<Timestamp>,
    /// The epoch of the place where it was asked to start.
    begun: Option<u64>,
    /// That of one where it never will be.
    withdrawn: Option<u64>,
}

/// How far the startup script of its run is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Startup {
    #[default]
    Unknown,
    /// Somebody waits for its end.
    Awaited,
    Done,
}

/// How it is used, in memory: a server that starts anew counts idleness from then on.
#[derive(Debug)]
struct Usage {
    /// Those that use it now.
    users: u32,
    last: Timestamp,
}

/// Somebody uses an environment, until this is dropped.
#[derive(Debug)]
pub(crate) struct InUse(Arc<AgentController>);

impl InUse {
    pub(crate) fn begin(agent: Arc<AgentController>) -> InUse {
        if let Some(tended) = &agent.environment {
            lock(&tended.usage).users += 1;
        }
        InUse(agent)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(tended) = &self.0.environment {
            let mut usage = lock(&tended.usage);
            usage.users = usage.users.saturating_sub(1);
            usage.last = Timestamp::now();
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// Not read yet.
    Nothing,
    Is(Arc<Found>),
    /// It is no more.
    Gone,
}

/// An environment as the store has it, and what its request says of its life.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) environment: Environment,
    limits: Limits,
    wait: Option<SignedDuration>,
}

impl From<Environment> for Found {
    fn from(environment: Environment) -> Found {
        let (limits, wait) = fuse::life(&environment.request);
        Found { environment, limits, wait }
    }
}

impl Known {
    /// True until it is known whether it will run.
    pub(crate) fn is_coming(&self) -> bool {
        match self {
            Known::Nothing => true,
            Known::Is(found) => found.environment.state == State::Provisioning,
            Known::Gone => false,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Known::Gone)
    }

    pub(crate) fn environment(&self) -> Option<Environment> {
        match self {
            Known::Is(found) => Some(found.environment.clone()),
            Known::Nothing | Known::Gone => None,
        }
    }
}

impl Tended {
    /// None for an agent that is no environment.
    pub(crate) fn of(key: &AgentKey) -> Option<Box<Tended>> {
        let tended = || Tended {
            known: watch::Sender::new(Known::Nothing),
            version: Mutex::default(),
            usage: Mutex::new(Usage { users: 0, last: Timestamp::now() }),
            startup: Mutex::default(),
            course: Mutex::default(),
        };
        environment::is_fleet(&key.fleet).then(|| Box::new(tended()))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    fn used_at(&self, now: Timestamp) -> Timestamp {
        let usage = lock(&self.usage);
        if usage.users > 0 { now } else { usage.last }
    }

    pub(crate) fn gone(&self) {
        self.known.send_replace(Known::Gone);
    }

    /// It runs: whoever waits for that waits for nothing more.
    fn runs(&self, running: Environment) {
        self.known.send_if_modified(|known| {
            let is_news = !known.is_gone();
            if is_news {
                *known = Known::Is(Arc::new(running.into()));
            }
            is_news
        });
    }

    /// How long its instance waits for a place; none if it does not ask for one.
    pub(crate) fn waits(&self) -> Option<Wait> {
        let known = self.known.borrow();
        let found = match &*known {
            Known::Nothing => return None,
            Known::Is(found) if found.environment.state == State::Provisioning => found,
            Known::Is(_) | Known::Gone => return Some(Wait::Always),
        };
        let course = lock(&self.course);
        match found.wait {
            _ if course.refused.is_some() => None,
            _ if course.placed_at.is_some() => Some(Wait::Always),
            None => Some(Wait::No),
            Some(wait) => {
                Some(Wait::Until(found.environment.created_at.saturating_add(wait).unwrap_or(Timestamp::MAX)))
            }
        }
    }

    pub(crate) fn refuse(&self, refused: Refused) {
        lock(&self.course).refused = Some(refused);
    }

    /// Why no node had a place for it, each for itself.
    pub(crate) fn refused(&self) -> Option<Refused> {
        lock(&self.course).refused.clone()
    }

    /// The environment as the store has it, read again if the agent is another than it was.
    async fn read(&self, shared: &Shared, agent: &AgentController) -> chassis_store::Result<Known> {
        let version = {
            let state = agent.state();
            (state.created_at, state.version)
        };
        let before = *lock(&self.version);
        if before != Some(version) {
            if before.is_some_and(|(created_at, _)| created_at != version.0) {
                // Another one of the same name has a life of its own.
                *lock(&self.course) = Course::default();
                *lock(&self.startup) = Startup::default();
                lock(&self.usage).last = Timestamp::now();
            }
            let found = shared.store.environment_find(agent.key()).await?;
            // An agent that somebody deployed into this fleet before it was the environments' has none.
            let known = found.map_or(Known::Gone, |found| Known::Is(Arc::new(found.into())));
            *lock(&self.version) = Some(version);
            self.known.send_replace(known);
        }
        Ok(self.known.borrow().clone())
    }
}

/// Reads what is to be known of the environment of an agent, if it is one.
pub(crate) async fn look(shared: &Shared, agent: &AgentController) {
    if let Some(tended) = agent.environment.as_deref() {
        // What cannot be read is read again by `tend`, which then says so.
        let _ = tended.read(shared, agent).await;
    }
}

/// The environment of an agent, if it is one.
pub(crate) async fn find(
    shared: &Shared,
    agent: &AgentController,
) -> chassis_store::Result<Option<Arc<Found>>> {
    let Some(tended) = agent.environment.as_deref() else { return Ok(None) };
    Ok(match tended.read(shared, agent).await? {
        Known::Is(found) => Some(found),
        Known::Nothing | Known::Gone => None,
    })
}

/// Notes that the instance of an agent is about to be asked to start where it is. False if that is not to be: its place was
/// given up.
pub(crate) fn begin(agent: &AgentController) -> bool {
    let Some(tended) = agent.environment.as_deref() else { return true };
    let Some(epoch) = agent.state().placed(NUMBER).map(|placed| placed.epoch) else { return true };
    let mut course = lock(&tended.course);
    if course.withdrawn == Some(epoch) {
        return false;
    }
    course.begun = Some(epoch);
    true
}

/// Has an instance placed elsewhere that was never asked to start where it is. False if that cannot be.
async fn withdraw(shared: &Shared, agent: &AgentController, tended: &Tended, term: Term) -> bool {
    let Some(placed) = agent.state().placed(NUMBER) else { return false };
    // Its directory may have been made there.
    let AgentKey { fleet, agent: name } = agent.key().clone();
    let of = Scope { fleet, agent: Some(name), number: Some(NUMBER) };
    let key = agent.key().instance(NUMBER);
    let can =
        shared.schedule.can_withdraw(term, &key, &placed) && lock(&tended.course).begun != Some(placed.epoch);
    if !can || shared.store.data_owe(term, &placed.node, of).await.is_err() {
        return false;
    }
    // Held until it is known what becomes of it: where it is to be next is told the agent after that.
    let mut state = agent.state();
    let mut course = lock(&tended.course);
    if course.begun == Some(placed.epoch) {
        return false;
    }
    let withdrawn = shared.schedule.withdraw(term, &key, &placed);
    if withdrawn {
        state.home_forget(NUMBER);
        tracing::info!(agent = %agent.key(), node = %placed.node, "the node does not answer; it is placed elsewhere");
        course.withdrawn = Some(placed.epoch);
    }
    withdrawn
}

/// Looks after the environment of an agent, if it is one. Returns when to look again.
pub(crate) async fn tend(shared: &Arc<Shared>, agent: &Arc<AgentController>) -> Option<Timestamp> {
    let tended = agent.environment.as_deref()?;
    // Before anything is read: what is decided in a term rests on what was there in it.
    let term = shared.lead.term();
    let known = match tended.read(shared, agent).await {
        Ok(known) => known,
        Err(error) => return Some(again(agent, "cannot read the environment", &error)),
    };
    let (Known::Is(found), Some(term)) = (known, term) else { return None };
    let environment = &found.environment;
    let now = Timestamp::now();
    let mut seen = seen(shared, agent, tended);
    let life = Life {
        state: environment.state,
        created_at: environment.created_at,
        wait: found.wait,
        placed_at: lock(&tended.course).placed_at,
        running_at: environment.running_at,
        used_at: Some(tended.used_at(now)),
    };
    let id = environment.id.as_str();
    if life.state == State::Provisioning && seen == Seen::Running && !has_started(shared, agent, tended) {
        seen = Seen::Coming;
    }
    let stored = match decide(&life, &seen, found.limits, now) {
        Decision::Wait(at) => return at,
        Decision::Run => {
            failpoint("environment_run:before");
            let run = shared.store.environment_run(term, id).await;
            run.map(|running| running.into_iter().for_each(|running| tended.runs(running)))
        }
        Decision::Elsewhere if withdraw(shared, agent, tended, term).await => return None,
        Decision::Elsewhere => return Some(now + PAUSE),
        Decision::End { cause, mut reason } => {
            match seen {
                Seen::Ended(_) => reason += &last_words(shared, agent).await,
                Seen::Waiting => {
                    let waiting = shared.schedule.waiting(&agent.key().instance(NUMBER));
                    reason += &waiting.map_or_else(|| NOT_ASKED.to_owned(), |(_, why)| why.to_string());
                }
                _ => {}
            }
            tracing::info!(environment = id, cause = cause.word(), reason, "the environment ends");
            failpoint("environment_end:before");
            shared.store.environment_expire(term, id, EnvironmentEnd { cause, reason }).await.map(drop)
        }
    };
    if let Err(error) = stored {
        if shared.is_fenced(term, &error) {
            return None;
        }
        return Some(again(agent, "cannot store what became of the environment", &error));
    }
    agents_changed(shared, vec![agent.key().clone()]).await;
    None
}

/// Nobody waits for what it does any more.
pub(crate) fn is_thrown_away(environment: &Environment) -> bool {
    environment.state == State::Destroying
}

/// Notes that the agent of an environment could not finish. True if its instance is to be stopped all the same: unless
/// somebody drains it, who then hears of it and can ask again.
pub(crate) async fn drain_failed(
    shared: &Arc<Shared>,
    term: Term,
    environment: &Environment,
    container: &str,
    message: &str,
) -> chassis_store::Result<bool> {
    if environment.state != State::Draining {
        return Ok(true);
    }
    // One that ended its agent, and so itself, has done what it is for. The runtime tells of both ends in any order.
    for _ in 0..LOOKS {
        let found = shared.runtime_of(&environment.key.instance(NUMBER)).instance_inspect(container).await;
        let runs = |owned: Owned| matches!(owned.observed.state, RunState::Running { .. });
        if found.is_ok_and(|owned| !owned.is_some_and(runs)) {
            return Ok(true);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    let error = format!("the drain command failed: {message}");
    let goes_on = shared.store.environment_drain_failed(term, &environment.id, &error).await?;
    agents_changed(shared, vec![environment.key.clone()]).await;
    Ok(!goes_on)
}

/// True once the startup script of an environment, if it has one, has ended well. Whoever asks first has it waited for.
fn has_started(shared: &Arc<Shared>, agent: &Arc<AgentController>, tended: &Tended) -> bool {
    let container = {
        let state = agent.state();
        if state.spec.startup.is_none() {
            return true;
        }
        let slot = state.slots.get(&NUMBER);
        slot.and_then(|slot| Some(slot.instance.observed.as_ref()?.id.clone()))
    };
    let mut startup = lock(&tended.startup);
    if let (Startup::Unknown, Some(container)) = (*startup, container) {
        *startup = Startup::Awaited;
        let (shared, agent) = (Arc::clone(shared), Arc::clone(agent));
        tokio::spawn(async move {
            let ended = shared.runtime_of(&agent.key().instance(NUMBER)).instance_started(&container).await;
            if let Some(tended) = &agent.environment {
                // If it failed, the instance has ended; if it could not be asked, it is asked again.
                *lock(&tended.startup) = if ended.is_ok() { Startup::Done } else { Startup::Unknown };
            }
            if ended.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            agent.wake();
        });
    }
    *startup == Startup::Done
}

/// What its last run had to say in the end.
async fn last_words(shared: &Shared, agent: &AgentController) -> String {
    let exits = shared.store.instance_exits(&agent.key().instance(NUMBER)).await.unwrap_or_default();
    let line = exits.first().and_then(|exit| exit.log.last()).map(|line| line.text.trim());
    line.filter(|line| !line.is_empty()).map(|line| format!(": {line}")).unwrap_or_default()
}

fn again(agent: &AgentController, what: &str, error: &chassis_store::Error) -> Timestamp {
    tracing::warn!(agent = %agent.key(), error = chain(error), "{what}, will try again");
    Timestamp::now() + PAUSE
}

/// What its instance is like just now.
fn seen(shared: &Shared, agent: &AgentController, tended: &Tended) -> Seen {
    let state = agent.state();
    let Some(slot) = state.slots.get(&NUMBER).filter(|_| !state.deleting) else { return Seen::Gone };
    let phase = slot.phase(&state.spec);
    if !shared.nodes.is_alone() {
        let mut course = lock(&tended.course);
        let Some(placed) = &slot.placed else {
            let refused = course.refused.as_ref().filter(|_| course.placed_at.is_none());
            return refused.map_or(Seen::Waiting, |refused| Seen::Refused(refused.to_string()));
        };
        course.placed_at.get_or_insert_with(Timestamp::now);
        let blocked = slot.instance.memory.blocked.as_ref().map(|blocked| blocked.reason);
        let is_away = blocked == Some(Reason::RuntimeUnavailable)
            || shared.nodes.unknown(Some(placed)).is_some() && !shared.nodes.is_unheard(Some(placed));
        let is_idle = !slot.instance.busy && placed.ending.is_none() && phase != Phase::Running;
        if is_away && is_idle && course.begun != Some(placed.epoch) {
            return Seen::Unbegun;
        }
    }
    if shared.nodes.unknown(slot.placed.as_ref()).is_some() {
        return Seen::Unknown;
    }
    match phase {
        Phase::Running => Seen::Running,
        Phase::Pending | Phase::Starting => Seen::Coming,
        Phase::Blocked => match &slot.instance.memory.blocked {
            Some(blocked) if blocked.reason != Reason::RuntimeUnavailable => {
                Seen::Blocked(blocked.message.clone())
            }
            _ => Seen::Coming,
        },
        Phase::Backoff | Phase::Completed | Phase::Failed => {
            let exit = slot.instance.exit().map(|exit| chassis_core::EventKind::Exited(exit).to_string());
            Seen::Ended(exit.unwrap_or_else(|| "it ended".to_owned()))
        }
        Phase::Stopping | Phase::Stopped => Seen::Stopped,
        Phase::Removing => Seen::Gone,
        Phase::Unknown => Seen::Unknown,
    }
}
