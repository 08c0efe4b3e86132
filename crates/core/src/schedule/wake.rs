//! When a scheduler is to be asked again if nothing happens before.

use jiff::Timestamp;

use crate::instance::later;
use crate::node::{Duty, Liveness, Node};

use super::Scheduler;

impl Scheduler {
    /// When [`Scheduler::tick`] has something to do next by the clock alone.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let nodes = self.nodes.values().filter_map(|node| self.silent_at(node));
        let drains = self.nodes.values().filter_map(|node| match node.duty {
            Duty::Draining(drain) => drain.deadline,
            Duty::Open | Duty::Cordoned => None,
        });
        let held = self.reservations.values().filter(|held| self.expires(held));
        let reservations = held.map(|held| held.expires_at).min();
        let patience =
            self.queue.heads().into_iter().map(|(_, entry)| later(entry.since, self.rules.patience));
        nodes
            .chain(reservations)
            .chain(self.queue.gives_up_at())
            .chain(drains.chain(patience).filter(|at| *at > now))
            .min()
    }

    fn silent_at(&self, node: &Node) -> Option<Timestamp> {
        let after = match node.liveness {
            Liveness::Alive => self.rules.suspect_after,
            Liveness::Suspect => self.rules.down_after(),
            Liveness::Down => return None,
        };
        Some(later(node.heard_at, after))
    }
}
