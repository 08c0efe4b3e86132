//! Nodes: how they come, are heard, fall silent, return and go. The rules are drawn in [`crate::node`].

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::InstanceKey;
use crate::node::{Amounts, Duty, Liveness, Node, NodeName, NodeSpec, NodeState};

use super::error::Error;
use super::request::{Data, Next, Placement, Standing};
use super::{Change, Scheduler};

/// What a node has, running or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    pub instance: InstanceKey,
    pub epoch: u64,
}

/// The answer to a machine that registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The term in which it is to report.
    pub term: u64,
    pub is_new: bool,
    /// What its instances take more than it says to have: it gets nothing new until they fit.
    pub over: Amounts,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pulse {
    /// Its leases go on from when it sent this heartbeat.
    Alive,
    /// It does not count until it has taken this term over and reported.
    Report { term: u64 },
}

/// The answer to a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Orders {
    /// If it is another than that of the report, the node takes it over and reports again.
    pub term: u64,
    /// The node counts. If not it reports again once it has ended what it is told to.
    pub joined: bool,
    /// Its own that it lacks.
    pub start: Vec<Placement>,
    /// What is not its own, or not for long.
    pub end: Vec<Held>,
}

impl Scheduler {
    /// A machine says what it is. One that is known keeps its instances, its data and its duty.
    pub fn node_register(&mut self, spec: NodeSpec, now: Timestamp) -> Registered {
        let term = self.draw();
        let name = spec.name.clone();
        let before = self.nodes.remove(&name);
        let is_new = before.is_none();
        let from = before.as_ref().map_or(NodeState::Suspect, Node::state);
        let was = before.as_ref().map_or_else(Amounts::default, |node| node.spec.capacity);
        self.capacity = self.capacity.minus(was).plus(spec.capacity);
        let node = match before {
            None => Node::new(spec, term, now),
            Some(node) => Node {
                inverse: spec.capacity.inverse(),
                spec,
                term,
                joined: false,
                liveness: if node.joined { Liveness::Suspect } else { node.liveness },
                // One that registers again and again and never reports is silent.
                heard_at: if node.joined { now } else { node.heard_at },
                ..node
            },
        };
        let over = node.used.minus(node.spec.capacity);
        self.changes.push(Change::Node { node: name.clone(), from, to: node.state() });
        self.nodes.insert(name, node);
        Registered { term, is_new, over }
    }

    /// A node is there. `term` is the one that it is in.
    pub fn node_heartbeat(&mut self, name: &NodeName, term: u64, now: Timestamp) -> Result<Pulse, Error> {
        let node = self.nodes.get_mut(name).ok_or_else(|| Error::UnknownNode(name.clone()))?;
        if !node.joined || node.term != term {
            return Ok(Pulse::Report { term: node.term });
        }
        node.heard_at = node.heard_at.max(now);
        node.last_heard = Some(node.heard_at);
        self.node_becomes(name, Liveness::Alive);
        Ok(Pulse::Alive)
    }

    /// A node gave no answer to what it was asked: it gets nothing new until its next heartbeat.
    pub fn node_suspect(&mut self, name: &NodeName) {
        if self.nodes.get(name).is_some_and(|node| node.liveness == Liveness::Alive) {
            self.node_becomes(name, Liveness::Suspect);
        }
    }

    /// A node lists all that it has, after it took `term` over.
    pub fn node_report(
        &mut self,
        name: &NodeName,
        term: u64,
        held: &[Held],
        now: Timestamp,
    ) -> Result<Orders, Error> {
        let node = self.nodes.get(name).ok_or_else(|| Error::UnknownNode(name.clone()))?;
        let (had_joined, mut orders) = (
            node.joined,
            Orders { term: node.term, joined: node.joined, start: Vec::new(), end: Vec::new() },
        );
        if term != node.term {
            return Ok(Orders { joined: false, ..orders });
        }
        let mut has_foreign = false;
        let mut has: BTreeMap<&InstanceKey, u64> = BTreeMap::new();
        for one in held {
            let standing = self.instances.get(&one.instance).map(|tracked| &tracked.standing);
            let is_own = standing.and_then(Standing::place) == Some((name, one.epoch));
            if is_own {
                has.insert(&one.instance, one.epoch);
            }
            if !is_own || matches!(standing, Some(Standing::Ending { .. })) {
                orders.end.push(one.clone());
            }
            has_foreign |= !is_own;
        }
        if !had_joined && has_foreign {
            return Ok(orders);
        }
        let mut gone = Vec::new();
        for key in node.instances.iter().filter(|key| !has.contains_key(key)) {
            match self.instances.get(key).map(|tracked| (&tracked.standing, tracked.leased)) {
                Some((Standing::Placed { node, epoch }, leased)) if node == name => {
                    let (instance, node) = (key.clone(), node.clone());
                    orders.start.push(Placement { instance, node, epoch: *epoch, leased });
                }
                Some((Standing::Ending { node, epoch, next }, _)) if node == name => {
                    // Only a first report tells that nothing of it can come any more; later ones may cross an order.
                    if had_joined {
                        orders.end.push(Held { instance: key.clone(), epoch: *epoch });
                    } else {
                        gone.push((key.clone(), *next));
                    }
                }
                _ => {}
            }
        }
        for (key, next) in gone {
            self.leave(&key, next, now);
        }
        if let Some(node) = self.nodes.get_mut(name) {
            node.joined = true;
            node.heard_at = node.heard_at.max(now);
            node.last_heard = Some(node.heard_at);
        }
        self.node_becomes(name, Liveness::Alive);
        Ok(Orders { joined: true, ..orders })
    }

    /// What people want of a node: to cordon it, to drain it, or to open it again.
    pub fn node_assign(&mut self, name: &NodeName, duty: Duty) -> Result<(), Error> {
        let node = self.nodes.get_mut(name).ok_or_else(|| Error::UnknownNode(name.clone()))?;
        let from = node.state();
        node.duty = duty;
        let to = node.state();
        self.changes.push(Change::Node { node: name.clone(), from, to });
        self.freed.nodes.insert(name.clone());
        self.drained_tell(name);
        Ok(())
    }

    /// Tells of a node that has just become empty, or is told to while it is.
    pub(super) fn drained_tell(&mut self, name: &NodeName) {
        if self.nodes.get(name).is_some_and(Node::is_drained) {
            self.changes.push(Change::Drained { node: name.clone() });
        }
    }

    /// Takes a node off the book that has nothing: no instance, no reservation, no data.
    pub fn node_remove(&mut self, name: &NodeName) -> Result<(), Error> {
        let node = self.nodes.get(name).ok_or_else(|| Error::UnknownNode(name.clone()))?;
        let at_home = |key: &&InstanceKey| self.instances[*key].request.demand.home() == Some(name);
        let waiting = self.instances.keys().filter(|key| !node.instances.contains(*key)).filter(at_home);
        let count = node.instances.len() + waiting.count();
        if count > 0 {
            return Err(Error::NodeInUse { node: name.clone(), count });
        }
        self.node_take_off(name);
        Ok(())
    }

    /// Takes a node off the book whose machine is gone for good, as somebody says who has made sure that nothing runs there
    /// any more. What it had is placed elsewhere, without its data.
    pub fn node_abandon(&mut self, name: &NodeName, now: Timestamp) -> Result<(), Error> {
        if !self.nodes.contains_key(name) {
            return Err(Error::UnknownNode(name.clone()));
        }
        let at_home = self.instances.iter().filter(|(_, one)| one.request.demand.home() == Some(name));
        let bereft: Vec<InstanceKey> = at_home.map(|(key, _)| key.clone()).collect();
        for key in bereft {
            let Some(tracked) = self.instances.get_mut(&key) else { continue };
            Arc::make_mut(&mut tracked.request.demand).data = Data::Unborn;
            let is_waiting = tracked.standing == Standing::Waiting;
            let request = tracked.request.clone();
            self.changes.push(Change::DataLost { instance: key.clone(), node: name.clone() });
            if is_waiting {
                self.unqueue(&key);
                self.wait(request, now);
            }
        }
        self.node_lose(name, true, now);
        self.node_take_off(name);
        self.freed.all = true;
        Ok(())
    }

    /// Notes which nodes have been silent for too long.
    pub(super) fn nodes_judge(&mut self, now: Timestamp) {
        let (suspect_after, down_after) = (self.rules.suspect_after, self.rules.down_after());
        let mut silent = Vec::new();
        for node in self.nodes.values() {
            let silence = now.duration_since(node.heard_at);
            match node.liveness {
                Liveness::Alive | Liveness::Suspect if silence >= down_after => {
                    silent.push((node.spec.name.clone(), Liveness::Down));
                }
                Liveness::Alive if silence >= suspect_after => {
                    silent.push((node.spec.name.clone(), Liveness::Suspect));
                }
                Liveness::Alive | Liveness::Suspect | Liveness::Down => {}
            }
        }
        for (name, liveness) in silent {
            self.node_becomes(&name, liveness);
            if liveness == Liveness::Down {
                let term = self.draw();
                if let Some(node) = self.nodes.get_mut(&name) {
                    node.joined = false;
                    node.term = term;
                }
                self.node_lose(&name, false, now);
            }
        }
    }

    fn node_becomes(&mut self, name: &NodeName, liveness: Liveness) {
        let Some(node) = self.nodes.get_mut(name).filter(|node| node.liveness != liveness) else { return };
        let from = node.state();
        node.liveness = liveness;
        let to = node.state();
        self.changes.push(Change::Node { node: name.clone(), from, to });
        self.freed.nodes.insert(name.clone());
    }

    /// Takes from a node what has ended there: what moves, or all.
    fn node_lose(&mut self, name: &NodeName, all: bool, now: Timestamp) {
        let Some(node) = self.nodes.get(name) else { return };
        for key in node.instances.clone() {
            let Some(tracked) = self.instances.get(&key) else { continue };
            let next = match &tracked.standing {
                Standing::Placed { node, .. } if node == name => Next::Move { reservation: None },
                Standing::Ending { node, next, .. } if node == name => *next,
                _ => {
                    // It has no place here, only one that was held for it.
                    let held = self.reservations.values().find(|held| held.instance == key);
                    if let Some(id) = held.map(|held| held.id) {
                        self.reservation_drop(id);
                    }
                    continue;
                }
            };
            if all || tracked.leased {
                self.leave(&key, next, now);
            }
        }
    }

    fn node_take_off(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.remove(name) else { return };
        self.capacity = self.capacity.minus(node.spec.capacity);
        if let Some(key) = node.claimed_by {
            self.claim_lift(&key);
        }
    }
}
