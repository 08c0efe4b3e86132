//! What one controller knows of its agent: what is wanted, what the node shows, what is under way.
//!
//! Everything here is in memory and made again from the store and the node after a restart. No I/O.

mod journal;
mod mirror;
mod place;
mod seen;
mod slot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use chassis_core::rollout::EXTRA_FIRST;
use chassis_core::{
    Action, AgentDesired, AgentKey, CheckKind, EventKind, Instance, InstanceKey, Memory, NodeName, Observed,
    Phase, Pin, Plan, Probe, Reason, Rollout, Run, Site, Verdict, Wanted, plan,
};
use chassis_spec::{AgentSpec, Drain, HealthCheck};
use chassis_store::{AgentRecord, InstanceUpdate, Placed, Term};
use jiff::Timestamp;

use self::journal::Journal;
pub(crate) use self::journal::told_by;
use self::seen::ended;
use crate::checks::{Checks, Noted, check_spec};
use crate::nodes::Nodes;
use crate::prober::Watch;
use crate::rolling::{Judgement, desired};

/// Steps of one line that are taken at a time: more than the Engine gets to do at once, and so few that ten thousand instances are
/// not ten thousand steps under way, whose memory is never given back.
pub(crate) const AT_ONCE: usize = 64;

/// One agent with its instances.
#[derive(Debug)]
pub(crate) struct AgentState {
    pub(crate) key: AgentKey,
    seed: u64,
    pub(crate) revision: u64,
    pub(crate) spec: Arc<AgentSpec>,
    pub(crate) version: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) deployed_at: Timestamp,
    pub(crate) deleting: bool,
    /// The deletion takes all data along.
    pub(crate) cleanup: bool,
    /// The revisions whose containers serve the present one.
    pub(crate) serving: Arc<[u64]>,
    pub(crate) pin: Option<Pin>,
    pub(crate) rollout: Option<Rollout>,
    /// This server acts, and what is remembered is what is stored or about to be.
    leads: Option<Term>,
    /// The agent is no more, and its controller ends.
    pub(crate) gone: bool,
    /// Since when the instances could be looked at.
    pub(crate) watched_since: Timestamp,
    /// The revision that is booked for every instance that has a place, and in which term.
    pub(crate) booked: Option<(Term, u64)>,
    /// Boxed: a map keeps room for eleven at once, and most agents have one.
    pub(crate) slots: BTreeMap<u32, Box<Slot>>,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) instance: Instance,
    /// Its place, once it has one; in a chassis that is alone it needs none.
    pub(crate) placed: Option<Placed>,
    /// The node that has its data.
    pub(crate) home: Option<NodeName>,
    pub(crate) created_at: Timestamp,
    /// The version of the newest record of it that was taken over.
    pub(crate) version: u64,
    /// Of a server that only looks: the memory of that record, as long as somebody's change makes it a thing of the past.
    overdue: Option<Box<Memory>>,
    /// Of such a server too: the memory as it is stored, if more than that was seen.
    stored: Option<Box<Memory>>,
    /// The node said that something happened to the instance's container: it must be looked at.
    look: Option<Instant>,
    /// The container of which it said so last.
    told: Option<Box<str>>,
    /// When the node's view of it was last set, so that an older list does not overwrite it.
    seen: Instant,
    /// Memory that differs from the store's.
    unsaved: bool,
    /// What is wanted changed while a step was under way: that it fails says nothing about what is wanted now.
    overtaken: bool,
    /// What its node lacks for the present revision.
    pub(crate) lacks: Option<String>,
    pub(crate) checks: Checks,
    /// What happened and is not stored yet.
    events: Vec<EventKind>,
    journal: Journal,
    /// Of a server that only looks: it is in no record any more, and goes once what is done about it has ended.
    unrecorded: bool,
    /// It was taken from a node that does not answer, where its run has ended with the lease.
    lease_ended: bool,
}

/// What a controller does next.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// In which this was decided; nothing but looks and watches without one.
    pub(crate) term: Option<Term>,
    /// To be stored before anything is done.
    pub(crate) updates: Vec<InstanceUpdate>,
    pub(crate) steps: Vec<Step>,
    /// Checks of runs that nobody looks at yet.
    pub(crate) watches: Vec<Watch>,
    /// What becomes of the rollout; stored before the steps are taken.
    pub(crate) judgement: Option<Judgement>,
    pub(crate) wake_at: Option<Timestamp>,
    /// Marked for deletion, and nothing is left.
    pub(crate) finished: bool,
}

/// One thing to do about one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Look { number: u32, id: Box<str> },
    Act(Action),
}

/// How a step ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// What the node showed when it was asked at `asked`.
    Seen {
        observed: Option<Observed>,
        asked: Instant,
    },
    /// The instance is no more.
    Forgotten,
    Failed {
        reason: Reason,
        message: String,
    },
    /// This server does not act any more: nothing was done, and nothing is to be noted.
    Abandoned,
}

// === impl AgentState ===

impl AgentState {
    pub(crate) fn new(record: AgentRecord) -> Self {
        let mut state = AgentState {
            key: record.agent.key.clone(),
            seed: agent_seed(&record.agent.key),
            revision: record.agent.revision,
            spec: Arc::clone(&record.agent.spec),
            version: 0,
            created_at: record.agent.created_at,
            deployed_at: record.agent.deployed_at,
            deleting: false,
            cleanup: false,
            serving: Arc::clone(&record.agent.serving),
            pin: None,
            rollout: None,
            leads: None,
            gone: false,
            watched_since: Timestamp::now(),
            booked: None,
            slots: BTreeMap::new(),
        };
        state.reload(record);
        state
    }

    /// Takes over what people want now. What is known of runs and under way stays.
    pub(crate) fn reload(&mut self, record: AgentRecord) {
        let revised = self.revision != record.agent.revision;
        self.revision = record.agent.revision;
        self.spec = record.agent.spec;
        self.version = record.agent.version;
        self.deployed_at = record.agent.deployed_at;
        self.deleting = record.agent.deleting;
        self.cleanup = record.agent.cleanup;
        self.serving = record.agent.serving;
        self.pin = record.agent.pin;
        self.rollout = record.agent.rollout;
        if revised {
            // Of those that are kept, each is told below; an extra one is in no record.
            self.slots.range_mut(EXTRA_FIRST..).for_each(|(_, slot)| slot.try_afresh());
        }
        for row in record.instances {
            match self.slots.get_mut(&row.number) {
                Some(slot) if slot.is_newer_than(&row) => {}
                Some(slot) => {
                    slot.version = row.version;
                    slot.created_at = row.created_at;
                    slot.unrecorded = false;
                    if revised || slot.instance.desired != row.desired {
                        slot.try_afresh();
                    }
                    slot.instance.desired = row.desired;
                    // Who acts has stored the places itself, and one that is older says nothing.
                    if self.leads.is_none() || slot.placed.is_none() {
                        slot.place(row.placed);
                        slot.home = row.home;
                    }
                }
                None => {
                    self.slots.insert(row.number, Slot::new(row));
                }
            }
        }
    }

    /// What blocked instances from outside may be gone: they are tried again now.
    pub(crate) fn unblock(&mut self, now: Timestamp) {
        for slot in self.slots.values_mut() {
            if let Some(blocked) = &mut slot.instance.memory.blocked {
                blocked.retry_at = now;
            }
        }
    }

    /// The check of a run, as it is to be made now. `None` if the run or the check is no more.
    pub(crate) fn check_spec(&self, number: u32, kind: CheckKind, run: &Run) -> Option<HealthCheck> {
        let slot = self.slots.get(&number).filter(|slot| slot.checks.knows(kind, run))?;
        check_spec(&self.spec, slot.instance.observed.as_ref(), kind).cloned()
    }

    /// Takes over one look at a run, or that the runtime could not look. `None` if the run is no more.
    pub(crate) fn note_probe(&mut self, watch: &Watch, probe: Option<Probe>) -> Option<Noted> {
        let rules = self.check_spec(watch.number, watch.kind, &watch.run)?;
        let slot = self.slots.get_mut(&watch.number)?;
        let noted = slot.checks.note(watch.kind, &watch.run, &rules, probe)?;
        slot.instance.health = slot.checks.health();
        slot.events.extend(noted.event.clone());
        Some(noted)
    }

    /// Something happened to an instance that is worth telling; it is stored with what comes next.
    pub(crate) fn note_event(&mut self, number: u32, event: EventKind) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.events.push(event);
        }
    }

    /// True if there may be an instance to restart because it is unhealthy.
    pub(crate) fn has_unhealthy(&self) -> bool {
        self.slots.values().any(|slot| slot.instance.health.health == Some(Verdict::Unhealthy))
    }

    /// Notes what is new, and decides what to do; without a term to act in, that is no more than to look. The instances
    /// of the returned steps are busy until [`AgentState::finish`]. `budget` gives leave to restart an unhealthy instance,
    /// or says when to ask again. `restarts_held`: as in [`AgentDesired`].
    pub(crate) fn next(
        &mut self,
        now: Timestamp,
        term: Option<Term>,
        restarts_held: bool,
        mut budget: impl FnMut() -> Result<(), Timestamp>,
    ) -> Next {
        self.lead(term);
        let acts = term.is_some();
        let (serving, spec) = (Arc::clone(&self.serving), Arc::clone(&self.spec));
        let agent = desired(&serving, &spec, self.rollout.as_ref());
        let mut next = Next { term, ..Next::default() };
        for (number, slot) in &mut self.slots {
            let (past, mut exits) =
                if acts { slot.journal_take(agent.restart_policy, self.seed) } else { Default::default() };
            let noted = slot.instance.memory.note(
                &slot.instance.desired_here(),
                slot.instance.observed.as_ref(),
                agent,
                seed(self.seed, *number, &slot.instance.memory),
            );
            // Of a node that does not answer nothing is known, and so nothing is news.
            let is_known = !slot.instance.busy && slot.instance.site != Site::Silent;
            if let Some((memory, mut noted)) = noted.filter(|_| is_known) {
                if std::mem::take(&mut slot.lease_ended) {
                    let lost = noted.iter_mut().filter(|event| **event == EventKind::Lost);
                    lost.for_each(|event| *event = EventKind::LeaseEnded);
                }
                exits.extend(ended(&slot.instance, &memory, &noted, now));
                let before = std::mem::replace(&mut slot.instance.memory, memory);
                if !acts {
                    slot.stored.get_or_insert_with(|| Box::new(before));
                }
                slot.unsaved = true;
                slot.events.extend(noted);
            }
            next.watches.extend(slot.checks.follow(&self.spec, &slot.instance, now));
            slot.instance.health = slot.checks.health();
            if !acts {
                // Whoever acts stores what it notes itself.
                slot.unsaved = false;
                slot.events.clear();
            } else if slot.is_to_be_condemned(agent) {
                slot.condemn(now, &mut budget);
                next.wake_at = earlier(next.wake_at, slot.checks.held_until);
            }
            if slot.unsaved || !slot.events.is_empty() {
                slot.unsaved = false;
                let events = std::mem::take(&mut slot.events);
                let memory = slot.instance.memory.clone();
                let key = self.key.instance(*number);
                next.updates.push(InstanceUpdate { key, memory, past, events, exits });
            }
            let can_look = !slot.instance.busy && !matches!(slot.instance.site, Site::Silent | Site::Nowhere);
            if slot.look.is_some() && can_look && !(acts && slot.rests(now)) {
                slot.look = None;
                // Who acts knows its containers; who only looks may not have seen this one yet.
                let told = slot.told.take().filter(|_| !acts);
                let known = slot.instance.observed.as_ref().map(|observed| observed.id.clone());
                if let Some(id) = told.or(known) {
                    slot.instance.busy = true;
                    next.steps.push(Step::Look { number: *number, id });
                }
            }
        }
        if !acts {
            self.extras_forget();
            return next;
        }
        let tally = self.tally(now);
        let (judgement, judge_at) = self.judge(&tally, now);
        next.judgement = judgement;
        next.wake_at = earlier(next.wake_at, judge_at);
        if next.judgement.as_ref().is_some_and(Judgement::is_rollback) {
            // Nothing more is done for a revision that is given up.
            return next;
        }
        self.extras_adjust(&tally, now);
        let agent = AgentDesired { restarts_held, ..desired(&serving, &spec, self.rollout.as_ref()) };
        let Plan { actions, wake_at } = plan(agent, self.slots.values().map(|slot| &slot.instance), now);
        for action in actions {
            if let Some(slot) = self.slots.get_mut(&action.number()) {
                slot.instance.busy = true;
            }
            next.steps.push(Step::Act(action));
        }
        next.wake_at = earlier(next.wake_at, wake_at);
        next.finished = self.deleting && self.slots.is_empty();
        next
    }

    /// The steps in lines, each of one kind on one node, of which [`AT_ONCE`] are taken at a time. What pulls an image or keeps
    /// output waits for long without a turn on the Engine, and holds up nothing but its like. Stops all wait at once until
    /// agents end.
    pub(crate) fn lines(&self, steps: Vec<Step>) -> Vec<VecDeque<Step>> {
        let mut lines = BTreeMap::new();
        let mut alone = Vec::new();
        for step in steps {
            if matches!(step, Step::Act(Action::Stop { .. })) {
                alone.push(VecDeque::from([step]));
                continue;
            }
            let slot = self.slots.get(&step.number());
            let placed = slot.and_then(|slot| slot.placed.as_ref().map(|placed| &placed.node));
            let node = placed.or_else(|| slot.and_then(|slot| slot.home.as_ref()));
            lines.entry((node, step.kind())).or_insert_with(VecDeque::new).push_back(step);
        }
        lines.into_values().chain(alone).collect()
    }

    /// Takes over how a step ended. Returns an update to store with it, if the failure is news.
    pub(crate) fn finish(&mut self, step: &Step, outcome: Outcome, now: Timestamp) -> Option<InstanceUpdate> {
        let number = step.number();
        let key = self.key.instance(number);
        let slot = self.slots.get_mut(&number)?;
        slot.instance.busy = false;
        if slot.unrecorded && self.leads.is_none() {
            self.slots.remove(&number);
            return None;
        }
        let overtaken = std::mem::take(&mut slot.overtaken);
        match outcome {
            Outcome::Seen { observed, asked } => {
                if !slot.is_stranger(step, observed.as_ref()) {
                    slot.set_observed(observed);
                }
                slot.look = slot.look.filter(|told| *told >= asked);
                if matches!(step, Step::Act(_)) && slot.instance.memory.blocked.is_some() {
                    slot.instance.memory = slot.instance.memory.note_unblocked();
                    slot.unsaved = true;
                }
                None
            }
            Outcome::Abandoned => {
                slot.look = Some(Instant::now());
                None
            }
            Outcome::Failed { .. } if overtaken || self.leads.is_none() => {
                slot.look = Some(Instant::now());
                None
            }
            Outcome::Failed { reason, message } => {
                let news =
                    slot.instance.memory.blocked.as_ref().is_none_or(|blocked| blocked.reason != reason);
                let seed = seed(self.seed, number, &slot.instance.memory);
                slot.instance.memory = slot.instance.memory.note_blocked(reason, message.clone(), now, seed);
                slot.look = Some(Instant::now());
                let event = EventKind::Blocked { reason, message };
                news.then(|| InstanceUpdate {
                    key,
                    memory: slot.instance.memory.clone(),
                    past: Vec::new(),
                    events: vec![event],
                    exits: Vec::new(),
                })
            }
            Outcome::Forgotten if slot.instance.desired.wanted.is_absent() => {
                self.slots.remove(&number);
                None
            }
            // Somebody wanted it anew while the old one was being forgotten: it begins from nothing.
            Outcome::Forgotten => {
                slot.placed = None;
                if matches!(step, Step::Act(Action::Forget { cleanup: true, .. })) {
                    slot.home = None;
                }
                slot.set_observed(None);
                slot.instance.memory = Memory::default();
                None
            }
        }
    }

    /// What is asked of an instance before it is stopped, if it runs and is not unhealthy.
    pub(crate) fn drain(&self, number: u32) -> Option<Drain> {
        let slot = self.slots.get(&number)?;
        let working = slot.instance.running_since().is_some()
            && slot.instance.memory.condemned.is_none()
            && slot.instance.health.health != Some(Verdict::Unhealthy);
        self.spec.stop.drain.clone().filter(|_| working)
    }

    pub(crate) fn instance_key(&self, number: u32) -> InstanceKey {
        self.key.instance(number)
    }

    /// Instances that should exist, that should run, and that run as they should, as far as their nodes answer.
    pub(crate) fn counts(&self, nodes: &Nodes) -> (u32, u32, u32) {
        let count = |matches: &dyn Fn(&Slot) -> bool| {
            u32::try_from(self.slots.values().filter(|slot| matches(slot)).count()).unwrap_or(u32::MAX)
        };
        (
            count(&|slot| !slot.is_extra() && !slot.instance.desired.wanted.is_absent()),
            count(&|slot| !slot.is_extra() && slot.instance.desired.wanted == Wanted::Running),
            count(&|slot| {
                let is_known = nodes.site(slot.placed.as_ref()) != Site::Silent;
                !slot.is_extra() && is_known && slot.phase(&self.spec) == Phase::Running
            }),
        )
    }
}

impl Step {
    /// What it is called where steps are told apart.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Step::Look { .. } => "look",
            Step::Act(action) => action.word(),
        }
    }

    pub(crate) fn number(&self) -> u32 {
        match self {
            Step::Look { number, .. } => *number,
            Step::Act(action) => action.number(),
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Differs between instances and from one failure to the next.
fn seed(agent: u64, number: u32, memory: &Memory) -> u64 {
    agent ^ (u64::from(number) << 32) ^ u64::from(memory.restarts)
}

/// Differs between agents.
fn agent_seed(key: &AgentKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
