//! Where instances are, and what their nodes show of them.

use std::collections::BTreeMap;
use std::time::Instant;

use chassis_core::rollout::EXTRA_FIRST;
use chassis_core::{NodeName, Observed, Reason};
use chassis_runtime::Owned;
use chassis_store::Placed;
use jiff::Timestamp;

use super::seen::claim;
use super::{AgentState, Slot};
use crate::nodes::{NodeLink, Nodes};

impl AgentState {
    /// Takes over a full list of a node's containers, which was begun at `asked`. Containers of instances that do not
    /// exist, or are elsewhere, are returned: nobody wants them.
    pub(crate) fn seen_list(
        &mut self,
        nodes: &Nodes,
        node: &NodeLink,
        owned: Vec<Owned>,
        asked: Instant,
    ) -> Vec<Box<str>> {
        let mut by_number: BTreeMap<u32, Vec<Observed>> = BTreeMap::new();
        let mut elsewhere = Vec::new();
        for owned in owned {
            let slot = self.slots.get(&owned.key.number);
            // What was placed here before, and elsewhere since, is another one.
            let epoch = slot.and_then(|slot| slot.placed.as_ref()).map_or(0, |placed| placed.epoch);
            if slot.is_none_or(|slot| slot.is_extra() || owned.epoch == epoch) {
                by_number.entry(owned.key.number).or_default().push(owned.observed);
            } else {
                elsewhere.push(owned.observed);
            }
        }
        for (number, slot) in &mut self.slots {
            if !slot.is_on(nodes, node) {
                continue;
            }
            let found = by_number.remove(number).unwrap_or_default();
            if !slot.instance.busy && slot.seen < asked {
                slot.set_observed(claim(found, slot.instance.memory.run.as_ref().map(|run| &*run.id)));
            }
        }
        for (number, found) in by_number.split_off(&EXTRA_FIRST) {
            let observed = found.into_iter().find(|observed| observed.name_is_right);
            // One of that number may be on another node: then this is a leftover.
            if let Some(observed) = observed.filter(|_| !self.slots.contains_key(&number)) {
                self.extra_adopt(number, nodes.placed(node), observed, Timestamp::now());
            }
        }
        let strays = by_number.into_values().flatten().chain(elsewhere);
        strays.filter(|stray| stray.name_is_right).map(|stray| stray.id).collect()
    }

    /// The node said that something happened to a container of this number. Returns false if there is no such instance.
    pub(crate) fn look(&mut self, nodes: &Nodes, node: &NodeLink, number: u32, id: Box<str>) -> bool {
        let slot = self.slots.get_mut(&number).filter(|slot| slot.is_on(nodes, node));
        let Some(slot) = slot else { return false };
        slot.look = Some(Instant::now());
        slot.told = Some(id);
        true
    }

    pub(crate) fn placed(&self, number: u32) -> Option<Placed> {
        self.slots.get(&number)?.placed.clone()
    }

    /// The same, and the node that has its data.
    pub(crate) fn place_of(&self, number: u32) -> (Option<Placed>, Option<NodeName>) {
        let slot = self.slots.get(&number);
        slot.map(|slot| (slot.placed.clone(), slot.home.clone())).unwrap_or_default()
    }

    /// True if what was to be done about it last got no answer.
    pub(crate) fn is_unanswered(&self, number: u32) -> bool {
        let blocked = self.slots.get(&number).and_then(|slot| slot.instance.memory.blocked.as_ref());
        blocked.is_some_and(|blocked| blocked.reason == Reason::RuntimeUnavailable)
    }

    /// Takes over where an instance is to be from now on. What another node showed of it is not believed of this one.
    pub(crate) fn place(&mut self, number: u32, placed: Option<Placed>, home: Option<NodeName>) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.place(placed);
            slot.home = home.or_else(|| slot.home.take());
            self.booked = None;
        }
    }

    /// What an instance left where it was to begin is owed, and keeps it from nowhere.
    pub(crate) fn home_forget(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.home = None;
        }
    }

    /// True of an instance that is to be there, running or not.
    pub(crate) fn is_wanted(&self, number: u32) -> bool {
        self.slots.get(&number).is_some_and(|slot| !slot.instance.desired.wanted.is_absent())
    }

    /// A node is none any more: nothing is there, and no data.
    pub(crate) fn node_gone(&mut self, name: &NodeName) {
        self.leave(|node| node == name);
    }

    /// There is no node but the own one any more.
    pub(crate) fn alone_again(&mut self, own: &NodeName) {
        self.leave(|node| node != own);
    }

    fn leave(&mut self, is_gone: impl Fn(&NodeName) -> bool) {
        let was_there = |slot: &Slot| slot.placed.as_ref().is_some_and(|placed| is_gone(&placed.node));
        self.slots.retain(|_, slot| !slot.is_extra() || !was_there(slot));
        for slot in self.slots.values_mut() {
            if was_there(slot) {
                slot.place(None);
            }
            slot.home = slot.home.take().filter(|home| !is_gone(home));
        }
    }

    /// Takes over which nodes answer. Returns whether that changes anything.
    pub(crate) fn sites_refresh(&mut self, nodes: &Nodes) -> bool {
        let mut changed = false;
        for slot in self.slots.values_mut() {
            let site = nodes.site(slot.placed.as_ref());
            changed |= site != slot.instance.site;
            slot.instance.site = site;
        }
        changed
    }
}

impl Slot {
    /// True if its place is on this node.
    pub(crate) fn is_on(&self, nodes: &Nodes, node: &NodeLink) -> bool {
        match &self.placed {
            Some(placed) => placed.node == node.name,
            // What is found on the own node and has no place in the store yet has it there.
            None => {
                node.is_own && (nodes.is_alone() || self.instance.busy || self.instance.observed.is_some())
            }
        }
    }

    pub(super) fn place(&mut self, placed: Option<Placed>) {
        let node = |placed: &Option<Placed>| placed.as_ref().map(|placed| placed.node.clone());
        // An instance that gets its first place is where it was found: on the own node, or nowhere.
        let moved = self.placed.is_some() && node(&self.placed) != node(&placed);
        let ended = self.placed.as_ref().is_some_and(|before| before.leased);
        if self.placed != placed {
            self.instance.is_cramped = false;
            self.lacks = None;
        }
        self.placed = placed;
        if moved {
            self.lease_ended = ended;
            self.set_observed(None);
            self.look = None;
        }
    }
}
