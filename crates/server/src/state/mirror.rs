//! An agent as the store and the node show it, for a server that does not act: what others recorded is taken over, and
//! nothing of what is noted here is kept.

use std::time::Instant;

use chassis_core::rollout::EXTRA_FIRST;
use chassis_core::{Desired, Memory, Observed, Wanted};
use chassis_store::{AgentRecord, InstanceRecord, Term};

use super::{AgentState, Slot, Step};

impl AgentState {
    /// Takes over a record, unless a newer one was taken over before. One who acts has its own memory of runs, and takes
    /// over only what is wanted. Returns whether there are instances that were unknown.
    pub(crate) fn take(&mut self, record: AgentRecord, term: Option<Term>) -> bool {
        let agent = &record.agent;
        if (agent.created_at, agent.version) < (self.created_at, self.version) {
            return false;
        }
        let before = self.slots.len();
        if term.is_some() && self.leads == term {
            self.reload(record);
            return false;
        }
        if self.created_at != agent.created_at {
            // Another agent of the same name.
            self.created_at = agent.created_at;
            self.slots.retain(|_, slot| slot.instance.busy);
        }
        self.mirror(record);
        self.slots.len() > before
    }

    /// Begins a term, or ends it. What was only seen so far is noted anew by who begins, so that it is stored and told.
    pub(super) fn lead(&mut self, term: Option<Term>) {
        if term.is_some() && self.leads != term {
            for slot in self.slots.values_mut() {
                slot.events.clear();
                slot.unsaved = slot.overdue.take().is_some();
                if let Some(stored) = slot.stored.take() {
                    slot.instance.memory = *stored;
                }
            }
        }
        self.leads = term;
    }

    fn mirror(&mut self, record: AgentRecord) {
        let revised = self.revision != record.agent.revision;
        let AgentRecord { agent, instances } = record;
        self.revision = agent.revision;
        self.spec = agent.spec;
        self.version = agent.version;
        self.deployed_at = agent.deployed_at;
        self.deleting = agent.deleting;
        self.cleanup = agent.cleanup;
        self.serving = agent.serving;
        self.pin = agent.pin;
        self.rollout = agent.rollout;
        self.slots.retain(|number, slot| {
            let known = *number >= EXTRA_FIRST || instances.iter().any(|row| row.number == *number);
            if !known {
                // What is still done about it ends first.
                slot.instance.desired =
                    Desired { wanted: Wanted::Absent { cleanup: false }, started_after: None };
            }
            slot.unrecorded = !known;
            known || slot.instance.busy
        });
        for row in instances {
            match self.slots.get_mut(&row.number) {
                Some(slot) if slot.is_newer_than(&row) => {}
                Some(slot) => slot.mirror(row, revised),
                None => {
                    self.slots.insert(row.number, Slot::new(row));
                }
            }
        }
        self.extras_forget();
    }

    /// The extra instances of a rollout are in no record: one is there for as long as its container is.
    pub(crate) fn extras_forget(&mut self) {
        self.slots
            .retain(|_, slot| !slot.is_extra() || slot.instance.busy || slot.instance.observed.is_some());
    }

    /// The steps are not taken after all.
    pub(crate) fn abandon(&mut self, steps: &[Step]) {
        for step in steps {
            if let Some(slot) = self.slots.get_mut(&step.number()) {
                slot.instance.busy = false;
                slot.look = Some(Instant::now());
            }
        }
    }
}

impl Slot {
    fn mirror(&mut self, row: InstanceRecord, revised: bool) {
        if revised || self.instance.desired != row.desired {
            // What failed before says nothing about what is wanted now; who acts will record that soon.
            self.overdue = Some(Box::new(row.memory.clone()));
        }
        self.version = row.version;
        self.created_at = row.created_at;
        self.instance.desired = row.desired;
        self.place(row.placed);
        self.home = row.home;
        self.overdue = self.overdue.take().filter(|overdue| **overdue == row.memory);
        self.stored = None;
        self.journal.stored = row.memory.told;
        self.instance.memory = match self.overdue {
            Some(_) => Memory { failures: 0, retry_at: None, blocked: None, ..row.memory },
            None => row.memory,
        };
    }

    /// True of what a look showed that says nothing about the instance: a copy that somebody made, or that a container is
    /// gone which is not the instance's.
    pub(super) fn is_stranger(&self, step: &Step, seen: Option<&Observed>) -> bool {
        let Step::Look { id, .. } = step else { return false };
        let shown = self.instance.observed.as_ref().map(|observed| &*observed.id);
        let known =
            shown == Some(&**id) || self.instance.memory.run.as_ref().is_some_and(|run| *run.id == **id);
        match seen {
            Some(seen) => !seen.name_is_right && !known,
            None => shown.is_some_and(|shown| *shown != **id),
        }
    }
}
