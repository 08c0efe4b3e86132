//! What a node tells of the time in which no server reached it, until it is noted and stored.

use chassis_core::{Entry, EventKind, ExitRecord, Memory, NodeName};
use chassis_spec::RestartPolicy;
use chassis_store::InstanceUpdate;
use jiff::Timestamp;

use super::{AgentState, Slot, seed};

/// Of one instance.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// What was told last, and not noted yet.
    entries: Vec<Entry>,
    /// The last entry that is stored.
    pub(super) stored: u64,
    /// What was noted and could not be stored: it goes with the next update.
    past: Vec<(Timestamp, EventKind)>,
    exits: Vec<ExitRecord>,
}

/// What an update of an instance says of what was told.
#[derive(Debug)]
pub(crate) struct Told {
    number: u32,
    /// All up to this entry is in it.
    last: u64,
    past: Vec<(Timestamp, EventKind)>,
    exits: Vec<ExitRecord>,
}

impl Journal {
    pub(super) fn stored(memory: &Memory) -> Journal {
        Journal { stored: memory.told, ..Journal::default() }
    }
}

impl AgentState {
    /// A node tells this of an instance. What it was there before it was placed elsewhere says nothing of it any more.
    pub(crate) fn journal_add(&mut self, node: &NodeName, entry: &Entry) {
        let slot = self.slots.get_mut(&entry.instance.number).filter(|slot| slot.is_told_by(node, entry));
        let Some(journal) = slot.map(|slot| &mut slot.journal) else { return };
        if journal.entries.last().is_none_or(|last| last.number < entry.number) {
            journal.entries.push(entry.clone());
        }
    }

    /// True if the node need not tell it again.
    pub(crate) fn journal_has(&self, node: &NodeName, entry: &Entry) -> bool {
        let slot = self.slots.get(&entry.instance.number).filter(|slot| slot.is_told_by(node, entry));
        slot.is_none_or(|slot| slot.journal.stored >= entry.number)
    }

    /// What these updates said is stored.
    pub(crate) fn journal_stored(&mut self, told: Vec<Told>) {
        for Told { number, last, .. } in told {
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.journal.stored = slot.journal.stored.max(last);
            }
        }
    }

    /// What these updates said could not be stored.
    pub(crate) fn journal_keep(&mut self, told: Vec<Told>) {
        for Told { number, past, exits, .. } in told.into_iter().filter(|told| !told.past.is_empty()) {
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.journal.past.extend(past);
                slot.journal.exits.extend(exits);
                slot.unsaved = true;
            }
        }
    }
}

impl Slot {
    /// Notes what was told: the events with their times, and the runs that ended.
    pub(super) fn journal_take(
        &mut self,
        policy: RestartPolicy,
        agent: u64,
    ) -> (Vec<(Timestamp, EventKind)>, Vec<ExitRecord>) {
        let mut past = std::mem::take(&mut self.journal.past);
        let mut exits = std::mem::take(&mut self.journal.exits);
        for entry in std::mem::take(&mut self.journal.entries) {
            let memory = &mut self.instance.memory;
            let seed = seed(agent, self.instance.number, memory);
            let Some(told) = memory.note_told(&entry, policy, seed) else { continue };
            *memory = told.memory;
            past.extend(told.events);
            exits.extend(told.exit);
            self.unsaved = true;
        }
        (past, exits)
    }

    fn is_told_by(&self, node: &NodeName, entry: &Entry) -> bool {
        self.placed.as_ref().is_some_and(|placed| placed.node == *node && placed.epoch == entry.epoch)
    }
}

/// What these updates say of what was told.
pub(crate) fn told_by(updates: &[InstanceUpdate]) -> Vec<Told> {
    let told = updates.iter().filter(|update| update.memory.told > 0);
    told.map(|update| Told {
        number: update.key.number,
        last: update.memory.told,
        past: update.past.clone(),
        // Of what was not told nothing is kept: the node shows it again.
        exits: if update.past.is_empty() { Vec::new() } else { update.exits.clone() },
    })
    .collect()
}
