//! What is known of one instance, and what follows from it alone.

use std::time::Instant;

use chassis_core::rollout::is_extra;
use chassis_core::{AgentDesired, Health, Instance, Memory, Observed, Phase, RunState, Site, Verdict};
use chassis_spec::{AgentSpec, RestartPolicy};
use jiff::Timestamp;

use super::Slot;
use super::journal::Journal;
use crate::checks::Checks;

impl Slot {
    pub(crate) fn new(row: chassis_store::InstanceRecord) -> Box<Self> {
        Box::new(Slot {
            journal: Journal::stored(&row.memory),
            instance: Instance {
                number: row.number,
                desired: row.desired,
                observed: None,
                memory: row.memory,
                health: Health::default(),
                busy: false,
                site: Site::Here,
                is_cramped: false,
            },
            placed: row.placed,
            home: row.home,
            created_at: row.created_at,
            version: row.version,
            overdue: None,
            stored: None,
            look: None,
            told: None,
            seen: Instant::now(),
            unsaved: false,
            overtaken: false,
            lacks: None,
            checks: Checks::default(),
            events: Vec::new(),
            unrecorded: false,
            lease_ended: false,
        })
    }

    /// True if a record says what was so before. Versions count within one life of a number: one that was forgotten begins
    /// anew with the first.
    pub(super) fn is_newer_than(&self, row: &chassis_store::InstanceRecord) -> bool {
        self.created_at == row.created_at && row.version < self.version
    }

    pub(crate) fn phase(&self, spec: &AgentSpec) -> Phase {
        self.instance.phase(spec.restart_policy)
    }

    /// True if a run that is wanted now is there, as the agent's present revision wants it.
    pub(crate) fn runs_as_wanted(&self, agent: AgentDesired<'_>) -> bool {
        let Some(observed) = &self.instance.observed else { return false };
        let RunState::Running { started_at } = observed.state else { return false };
        agent.serves(observed)
            && observed.limits == agent.limits
            && self.instance.desired.satisfied_by(started_at)
    }

    /// True if it runs as it should, is unhealthy, and would be started again.
    pub(super) fn is_to_be_condemned(&self, agent: AgentDesired<'_>) -> bool {
        let is_kept = |observed: &Observed| {
            let since = observed.state.started_at();
            agent.keeps(observed) && since.is_some_and(|since| self.instance.desired.satisfied_by(since))
        };
        self.instance.health.health == Some(Verdict::Unhealthy)
            && agent.restart_policy != RestartPolicy::Never
            && !self.instance.busy
            && self.instance.memory.condemned.is_none()
            && self.instance.running_since().is_some()
            && self.instance.observed.as_ref().is_some_and(is_kept)
    }

    pub(super) fn condemn(&mut self, now: Timestamp, budget: &mut impl FnMut() -> Result<(), Timestamp>) {
        let message = self.checks.error().unwrap_or_default().to_owned();
        let Some((memory, event)) = self.instance.memory.note_unhealthy(self.checks.was_good(now), message)
        else {
            return;
        };
        match budget() {
            Ok(()) => {
                self.instance.memory = memory;
                self.unsaved = true;
                self.events.push(event);
                self.checks.held_until = None;
            }
            Err(at) => self.checks.held_until = Some(at),
        }
    }

    /// True of one that is there only during a rollout.
    pub(crate) fn is_extra(&self) -> bool {
        is_extra(self.instance.number)
    }

    /// Somebody changed what is wanted: earlier failures say nothing about it.
    pub(super) fn try_afresh(&mut self) {
        let memory = &self.instance.memory;
        self.instance.memory = Memory { failures: 0, retry_at: None, blocked: None, ..memory.clone() };
        self.unsaved = true;
        self.overtaken = self.instance.busy;
    }

    /// True while what failed is not to be tried again.
    pub(super) fn rests(&self, now: Timestamp) -> bool {
        self.instance.memory.blocked.as_ref().is_some_and(|blocked| now < blocked.retry_at)
    }

    pub(crate) fn set_observed(&mut self, observed: Option<Observed>) {
        self.instance.observed = observed;
        self.seen = Instant::now();
    }
}
