//! Which placements are leased, so that they are given up when their node is down.
//!
//! A placement is leased only if every container that there can be of its epoch ends with the lease. Whoever makes one looks
//! first whether the placement says what its definition wants ([`Scheduler::lease_set`]), waits until that is in the store, and
//! makes it as the placement says. It is asked only where no container of the placement is left.

use jiff::SignedDuration;

use crate::instance::later;
use crate::key::InstanceKey;
use crate::node::NodeName;

use super::request::{Placement, Standing};
use super::{Change, Scheduler};

impl Scheduler {
    /// The server's own node has no lease.
    pub fn own_set(&mut self, own: NodeName) {
        self.own = Some(own);
    }

    /// True of a node on which placements can be leased.
    pub(super) fn lends(&self, node: &NodeName) -> bool {
        self.own.as_ref() != Some(node)
    }

    /// An instance that has no container in its place of this epoch is to get one that ends with the lease, or one that does
    /// not. On the server's own node none does.
    pub fn lease_set(&mut self, key: &InstanceKey, epoch: u64, leased: bool) {
        let Some(tracked) = self.instances.get(key) else { return };
        let Standing::Placed { node, epoch: placed } = &tracked.standing else { return };
        let leased = leased && self.lends(node);
        if *placed != epoch || tracked.leased == leased {
            return;
        }
        let placement = Placement { instance: key.clone(), node: node.clone(), epoch, leased };
        if let Some(tracked) = self.instances.get_mut(key) {
            tracked.leased = leased;
        }
        self.changes.push(Change::Leased(placement));
    }

    /// The clock by which this book is told the time was set, by so much: no node has been silent for longer because of it.
    pub fn clock_set(&mut self, by: SignedDuration) {
        for node in self.nodes.values_mut() {
            node.heard_at = later(node.heard_at, by);
        }
    }
}
