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
}

impl Journal {
    pub(super) fn stored(memory: &Memory) -> Journal {
        Journal { entries: Vec::new(), stored: memory.told }
    }
}

impl AgentState {
    /// A node tells this of an instance. What it was there before it was placed elsewhere says nothing of it any more.
    pub(crate) fn journal_add(&mut self, node: &NodeName, entry: &Entry) {
        let slot = self.slots.get_mut(&entry.instance.number).filter(|slot| slot.is_told_by(node, entry));
        let Some(Slot { journal, .. }) = slot else { return };
        if journal.entries.last().is_none_or(|last| last.number < entry.number) {
            journal.entries.push(entry.clone());
        }
    }

    /// True if the node need not tell it again.
    pub(crate) fn journal_has(&self, node: &NodeName, entry: &Entry) -> bool {
        let slot = self.slots.get(&entry.instance.number).filter(|slot| slot.is_told_by(node, entry));
        slot.is_none_or(|slot| slot.journal.stored >= entry.number)
    }

    /// What these updates said is stored; as [`stored_by`] gives it.
    pub(crate) fn journal_stored(&mut self, stored: Vec<(u32, u64)>) {
        for (number, entry) in stored {
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.journal.stored = slot.journal.stored.max(entry);
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
        let (mut past, mut exits) = (Vec::new(), Vec::new());
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

/// Up to which entry an update of each instance says what was told.
pub(crate) fn stored_by(updates: &[InstanceUpdate]) -> Vec<(u32, u64)> {
    let told = updates.iter().filter(|update| update.memory.told > 0);
    told.map(|update| (update.key.number, update.memory.told)).collect()
}
