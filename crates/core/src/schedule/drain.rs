//! How a node is emptied.
//!
//! Until the deadline an instance is ended only when a place is held for it elsewhere, and no more than
//! [`Drain::parallelism`] are on their way at once. What has no other place (no room, its data is here) runs on. At the
//! deadline it is ended too, and waits for a place: for this node's, if its data is here. So a drained node is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::key::InstanceKey;
use crate::node::{Drain, Duty, Liveness, NodeName};

use super::Scheduler;
use super::gates::{Refused, Unfit, unfit};
use super::request::{Demand, Next, Standing};

impl Scheduler {
    /// What each other node lacks for an instance that is to leave its node. None if one can take it, if its turn has come,
    /// or if it need not leave.
    pub fn stays(&self, key: &InstanceKey) -> Option<Refused> {
        let tracked = self.instances.get(key)?;
        let Standing::Placed { node: own, .. } = &tracked.standing else { return None };
        if !matches!(self.nodes.get(own)?.duty, Duty::Draining(_)) {
            return None;
        }
        let demand = &tracked.request.demand;
        let others = self.nodes.values().filter(|node| node.spec.name != *own);
        let nodes: Option<BTreeMap<NodeName, Unfit>> =
            others.map(|node| Some((node.spec.name.clone(), unfit(node, demand, key)?))).collect();
        nodes.map(|nodes| Refused { instance: key.clone(), nodes })
    }

    /// Sends the next instances of every node that is drained on their way. One that is down is left alone: what may move
    /// has left it, and the rest cannot be told anything.
    pub(super) fn drains_advance(&mut self, now: Timestamp) {
        let draining = |node: &crate::node::Node| match node.duty {
            Duty::Draining(drain) if node.liveness != Liveness::Down => Some((node.spec.name.clone(), drain)),
            _ => None,
        };
        let drains: Vec<(NodeName, Drain)> = self.nodes.values().filter_map(draining).collect();
        for (name, drain) in drains {
            self.drain_advance(&name, drain, now);
        }
    }

    fn drain_advance(&mut self, name: &NodeName, drain: Drain, now: Timestamp) {
        let is_over = drain.deadline.is_some_and(|deadline| deadline <= now);
        let (staying, leaving) = self.drain_parts(name);
        let most = if is_over { usize::MAX } else { drain.parallelism.max(1) as usize };
        let mut free = most.saturating_sub(leaving);
        let mut nowhere: BTreeSet<Arc<Demand>> = BTreeSet::new();
        for key in staying {
            if free == 0 {
                return;
            }
            let Some(demand) = self.instances.get(&key).map(|tracked| tracked.request.demand.clone()) else {
                continue;
            };
            let place = if nowhere.contains(&demand) { None } else { self.seek(&demand, &key, None) };
            let reservation = place.map(|node| self.reservation_make(&key, node, now).id);
            if reservation.is_none() {
                nowhere.insert(demand);
            }
            if reservation.is_some() || is_over {
                free -= 1;
                self.begin_ending(&key, Next::Move { reservation });
            }
        }
    }

    /// What is still to leave the node, and how many are on their way.
    fn drain_parts(&self, name: &NodeName) -> (Vec<InstanceKey>, usize) {
        let (mut staying, mut leaving) = (Vec::new(), 0);
        for key in self.nodes.get(name).into_iter().flat_map(|node| &node.instances) {
            match self.instances.get(key).map(|tracked| &tracked.standing) {
                Some(Standing::Placed { node, .. }) if node == name => staying.push(key.clone()),
                Some(Standing::Ending { node, next: Next::Move { .. }, .. }) if node == name => leaving += 1,
                _ => {}
            }
        }
        (staying, leaving)
    }
}
