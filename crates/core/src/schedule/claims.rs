//! Room for what is too large for the room that comes free.
//!
//! While small requests take whatever comes free, a large one would wait for ever. So one that has waited for
//! [`super::Rules::patience`] claims a node, on which nothing else is placed until it fits. A node can be claimed if what
//! does not end by itself leaves enough room: an agent that runs for ever frees nothing, and a claim beside it would only
//! keep others out. The oldest claim first, and no more than one node in [`NODES_PER_CLAIM`] is claimed.

use jiff::Timestamp;

use crate::key::InstanceKey;
use crate::node::{Node, NodeName, NodeState};

use super::Scheduler;
use super::gates::gate_when_empty;
use super::request::Demand;

const NODES_PER_CLAIM: usize = 8;

impl Scheduler {
    /// Lifts claims that lead nowhere any more, and lets those claim who have waited for long.
    pub(super) fn claims_renew(&mut self, now: Timestamp) {
        let claims: Vec<_> = self.claims.iter().map(|(key, node)| (key.clone(), node.clone())).collect();
        for (key, node) in claims {
            let demand = self.instances.get(&key).map(|tracked| &tracked.request.demand);
            let holds = demand.zip(self.nodes.get(&node)).is_some_and(|(demand, node)| {
                may_hold(node, demand) && node.claimed_by.as_ref() == Some(&key)
            });
            if !holds {
                self.claim_lift(&key);
            }
        }
        let most = (self.nodes.len() / NODES_PER_CLAIM).max(1);
        if self.claims.len() >= most || self.queue.is_empty() {
            return;
        }
        let mut patient = Vec::new();
        for (line, entry) in self.queue.heads() {
            if now.duration_since(entry.since) < self.rules.patience {
                break;
            }
            if !self.claims.contains_key(&entry.instance) {
                patient.push((entry.instance.clone(), line.demand.clone()));
            }
        }
        for (key, demand) in patient {
            if self.claims.len() >= most {
                return;
            }
            if let Some(name) = self.claimable(&demand)
                && let Some(node) = self.nodes.get_mut(&name)
            {
                node.claimed_by = Some(key.clone());
                self.claims.insert(key, name);
            }
        }
    }

    /// The node on which the least must end before the demand fits.
    fn claimable(&self, demand: &Demand) -> Option<NodeName> {
        let missing = |node: &Node| demand.amounts.minus(node.free()).dominant_share(node.spec.capacity);
        self.nodes
            .values()
            .filter(|node| node.claimed_by.is_none() && may_hold(node, demand))
            .map(|node| (missing(node), node))
            .min_by(|(one, _), (other, _)| one.total_cmp(other))
            .map(|(_, node)| node.spec.name.clone())
    }

    pub(super) fn claim_lift(&mut self, key: &InstanceKey) {
        let Some(name) = self.claims.remove(key) else { return };
        if let Some(node) = self.nodes.get_mut(&name) {
            node.claimed_by = None;
        }
        self.freed.nodes.insert(name);
    }
}

/// True if the node will have the room when all has ended that does.
fn may_hold(node: &Node, demand: &Demand) -> bool {
    node.state() == NodeState::Active
        && gate_when_empty(node, demand).is_none()
        && node.spec.capacity.minus(node.lasting).covers(demand.amounts)
}
