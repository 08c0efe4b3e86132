//! How one agent's revisions take over from each other: what its state says about that, and how a decision is carried out.

use std::sync::Arc;

use chassis_core::rollout::{Decision, EXTRA_FIRST, Tally, advance, extras, tally};
use chassis_core::{
    AgentDesired, AgentKey, Desired, Limits, Memory, NodeName, Observed, Pin, Rollout, Site, Wanted,
};
use chassis_spec::AgentSpec;
use chassis_store::{InstanceRecord, Placed, Term};
use jiff::Timestamp;

use crate::controller::{AgentController, agents_reload};
use crate::error::chain;
use crate::failpoint::failpoint;
use crate::shared::Shared;
use crate::state::{AgentState, Slot};

/// A decision, and the rollout that it is about.
#[derive(Debug)]
pub(crate) struct Judgement {
    before: Rollout,
    decision: Decision,
}

impl Judgement {
    pub(crate) fn is_rollback(&self) -> bool {
        matches!(self.decision, Decision::RollBack { .. })
    }
}

/// What is wanted of an agent, for those who decide.
pub(crate) fn desired<'a>(
    serving: &'a [u64],
    spec: &'a AgentSpec,
    rollout: Option<&Rollout>,
) -> AgentDesired<'a> {
    AgentDesired {
        serving,
        restart_policy: spec.restart_policy,
        limits: Limits::from(&spec.resources),
        rollout: &spec.rollout,
        paused: rollout.is_some_and(Rollout::is_paused),
        restarts_held: false,
    }
}

impl AgentState {
    pub(crate) fn desired(&self) -> AgentDesired<'_> {
        desired(&self.serving, &self.spec, self.rollout.as_ref())
    }

    /// The last restart that was asked for, if an instance has yet to be taken down for it.
    pub(crate) fn restart_asked(&self) -> Option<Timestamp> {
        let asked = self.slots.values().filter_map(|slot| {
            let after = slot.instance.desired.started_after?;
            slot.instance.running_since().filter(|since| *since < after).map(|_| after)
        });
        asked.max()
    }

    /// True while the restart that was asked for then is not through.
    pub(crate) fn is_restarting(&self, asked: Timestamp, now: Timestamp) -> bool {
        let agent = self.desired();
        self.slots.values().any(|slot| agent.restart_is_open(&slot.instance, asked, now))
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.rollout.as_ref().is_some_and(Rollout::is_paused)
    }

    /// Whether a failure of the present revision would be undone.
    pub(crate) fn can_roll_back(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.can_roll_back(&self.spec.rollout))
    }

    pub(crate) fn tally(&self, now: Timestamp) -> Tally {
        tally(self.desired(), self.slots.values().map(|slot| &slot.instance), now)
    }

    /// Nobody could look at the instances until now: the time before does not count as one without progress.
    pub(crate) fn watch_anew(&mut self, now: Timestamp) {
        self.watched_since = now;
    }

    /// True while the present revision takes over from another, and it is not known whether that succeeds.
    pub(crate) fn is_taking_over(&self) -> bool {
        let takes_over = |rollout: &Rollout| {
            rollout.is_progressing() && (rollout.from.is_some() || rollout.undoes.is_some())
        };
        let mut slots = self.slots.values();
        self.rollout.as_ref().is_some_and(takes_over)
            && !self.deleting
            && slots.any(|slot| slot.instance.desired.wanted == Wanted::Running)
    }

    /// Judges the rollout, and says when it is to be judged again at the latest.
    pub(crate) fn judge(&mut self, tally: &Tally, now: Timestamp) -> (Option<Judgement>, Option<Timestamp>) {
        let Some(before) = self.rollout.clone().filter(|_| !self.deleting) else { return (None, None) };
        // What nobody can look at makes no progress that is seen.
        let is_silent = |slot: &Slot| slot.instance.site == Site::Silent;
        if tally.wanted == 0 || self.slots.values().any(|slot| is_silent(slot)) {
            self.watched_since = now;
        }
        let progressed_at = before.progressed_at.max(self.watched_since);
        let rollout = Rollout { progressed_at, ..before.clone() };
        let rules = &self.spec.rollout;
        if let Some(decision) = advance(&rollout, rules, &self.key.agent, tally, now) {
            return (Some(Judgement { before, decision }), None);
        }
        let settles_at = self.slots.values().filter_map(|slot| slot.instance.settles_at());
        let is_open = tally.ready < tally.wanted;
        let at = settles_at.chain(rollout.fails_at(rules)).filter(|at| is_open && *at > now).min();
        (None, at)
    }

    /// Adds and takes away extra instances as the rollout needs them.
    pub(crate) fn extras_adjust(&mut self, tally: &Tally, now: Timestamp) {
        let present = |state: &AgentState| -> Vec<u32> {
            let slots = state.slots.range(EXTRA_FIRST..);
            slots
                .filter(|(_, slot)| slot.instance.desired.wanted == Wanted::Running)
                .map(|(n, _)| *n)
                .collect()
        };
        let there = present(self);
        let count = u32::try_from(there.len()).unwrap_or(u32::MAX);
        let wanted = extras(&self.spec.rollout, tally, count, self.is_paused());
        for number in there.into_iter().skip(wanted as usize) {
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.instance.desired =
                    Desired { wanted: Wanted::Absent { cleanup: true }, started_after: None };
            }
        }
        for _ in count..wanted {
            let free = (EXTRA_FIRST..u32::MAX).find(|number| !self.slots.contains_key(number));
            if let Some(number) = free {
                // Beside one that it helps out for; the room is not counted, as it is soon free again.
                let beside = |slot: &Slot| slot.instance.site == Site::Here && !slot.is_extra();
                let placed =
                    self.slots.values().filter(|slot| beside(slot)).find_map(|slot| slot.placed.clone());
                self.extra_insert(number, placed, now);
            }
        }
    }

    /// Takes over a container of a rollout that a killed server had begun; it goes with the end of the rollout.
    pub(crate) fn extra_adopt(
        &mut self,
        number: u32,
        placed: Option<Placed>,
        observed: Observed,
        now: Timestamp,
    ) {
        self.extra_insert(number, placed, now);
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.set_observed(Some(observed));
        }
    }

    /// The agent, if an instance is on this node that is there only during a rollout.
    pub(crate) fn extra_on(&self, node: &NodeName) -> Option<AgentKey> {
        let is_on = |slot: &Slot| slot.placed.as_ref().is_some_and(|placed| placed.node == *node);
        self.slots.values().any(|slot| slot.is_extra() && is_on(slot)).then(|| self.key.clone())
    }

    fn extra_insert(&mut self, number: u32, placed: Option<Placed>, now: Timestamp) {
        let row = InstanceRecord {
            number,
            desired: Desired::running(),
            memory: Memory::default(),
            version: 0,
            created_at: now,
            placed,
            home: None,
        };
        self.slots.insert(number, Slot::new(row));
    }

    pub(crate) fn pin_set(&mut self, revision: u64, pin: Pin) {
        if self.revision == revision {
            self.pin = Some(pin);
        }
    }

    /// True if its container is to be taken down for another revision, though it should run.
    pub(crate) fn is_replaced(&self, number: u32) -> bool {
        let Some(slot) = self.slots.get(&number) else { return false };
        slot.instance.desired.wanted == Wanted::Running
            && slot.instance.observed.as_ref().is_some_and(|observed| !self.desired().keeps(observed))
    }

    /// The revision of a container, if it is not one that serves the present one.
    pub(crate) fn other_revision(&self, number: u32) -> Option<u64> {
        let observed = self.slots.get(&number)?.instance.observed.as_ref()?;
        (!self.desired().serves(observed)).then_some(observed.revision)
    }

    /// The revision that a container is as good as.
    pub(crate) fn revision_shown(&self, observed: &Observed) -> u64 {
        if self.desired().serves(observed) { self.revision } else { observed.revision }
    }
}

/// Stores what was decided about a rollout, and takes over what the agent is then. False if this server does not act any
/// more.
pub(crate) async fn conclude(
    shared: &Arc<Shared>,
    agent: &AgentController,
    term: Term,
    judgement: Judgement,
) -> bool {
    let Judgement { before, decision } = judgement;
    let key = agent.key();
    let kept = match decision {
        Decision::Keep { rollout, event } => {
            failpoint("rollout:before");
            let kept = shared.store.rollout_record(term, key, &before, &rollout, event).await;
            failpoint("rollout:after");
            kept
        }
        Decision::RollBack { why } => {
            tracing::warn!(agent = %key, revision = before.revision, why, "the revision failed, going back");
            failpoint("rollback:before");
            let kept = shared.store.rollout_roll_back(term, key, &before, &why).await;
            failpoint("rollback:after");
            kept
        }
    };
    let reloaded = match kept {
        Ok(_) => agents_reload(shared, vec![key.clone()]).await,
        Err(error) => Err(error),
    };
    if let Err(error) = reloaded {
        if shared.is_fenced(term, &error) {
            return false;
        }
        tracing::warn!(agent = %key, error = chain(&error), "cannot store how far a rollout is, will try again");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        agent.wake();
    }
    true
}
