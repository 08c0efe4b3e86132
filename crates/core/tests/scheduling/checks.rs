//! What must be true: of the books now and then, of everything in the end.

use std::collections::{BTreeMap, BTreeSet};

use chassis_core::key::InstanceKey;
use chassis_core::node::{Amounts, Duty, Node, NodeName, NodeState};
use chassis_core::schedule::{Data, Request, Standing};

use crate::world::World;

impl World {
    /// The scheduler's sums are those of what it has, the store has the same, and nobody is forgotten.
    pub(crate) fn check_books(&self) {
        let mut used: BTreeMap<&NodeName, Amounts> = BTreeMap::new();
        let mut known = BTreeSet::new();
        let mut waiting = 0;
        for tracked in self.scheduler.instances() {
            let key = &tracked.request.instance;
            let amounts = tracked.request.demand.amounts;
            let row = self.store.instances.get(key);
            match &tracked.standing {
                Standing::Reserved { .. } => continue,
                Standing::Waiting => {
                    waiting += 1;
                    assert!(row.is_some_and(|row| row.place.is_none()), "{key} waits, but not in the store");
                }
                Standing::Placed { node, epoch } | Standing::Ending { node, epoch, .. } => {
                    let place = row.and_then(|row| row.place.as_ref());
                    assert!(
                        place.is_some_and(|place| (&place.node, &place.epoch, place.leased)
                            == (node, epoch, tracked.leased)),
                        "{key} is on {node}, but not in the store"
                    );
                    let sum = used.entry(node).or_default();
                    *sum = sum.plus(amounts);
                }
            }
            known.insert(key);
        }
        assert_eq!(waiting, self.scheduler.waiting(), "the queue is not those who wait");
        assert_eq!(known.len(), self.store.instances.len(), "the store has others than the scheduler");
        for key in &self.wanted.keys {
            assert!(known.contains(key), "{key} is wanted and forgotten");
        }
        let wanted: BTreeSet<&InstanceKey> = self.wanted.keys.iter().collect();
        for key in known {
            assert!(wanted.contains(key) || self.leaving.contains(key), "{key} is wanted by nobody");
        }
        for node in self.scheduler.nodes() {
            let name = &node.spec().name;
            let placed = used.remove(name).unwrap_or_default();
            // What is reserved there is in the node's sum too.
            assert!(node.used().covers(placed), "{name} counts less than it has");
            let held: Amounts = self.held_on(node);
            assert_eq!(node.used(), placed.plus(held), "{name} counts other than it has");
            assert!(node.spec().capacity.covers(node.used()), "{name} is over capacity");
        }
        assert!(used.is_empty(), "instances on nodes that there are not: {used:?}");
        self.check_nobody_waits_for_what_is_free();
    }

    /// What a node holds for those who have no place there yet.
    fn held_on(&self, node: &Node) -> Amounts {
        let name = &node.spec().name;
        node.instances()
            .iter()
            .map(|key| self.scheduler.instance(key).unwrap())
            .filter(|tracked| tracked.standing.place().is_none_or(|(place, _)| place != name))
            .fold(Amounts::default(), |sum, tracked| sum.plus(tracked.request.demand.amounts))
    }

    /// No node that takes instances has room for somebody who waits, unless it is kept free for another.
    fn check_nobody_waits_for_what_is_free(&self) {
        let claimed: BTreeMap<&NodeName, &InstanceKey> = self
            .scheduler
            .instances()
            .filter_map(|one| {
                let key = &one.request.instance;
                self.scheduler.claim(key).map(|node| (node, key))
            })
            .collect();
        let mut seen = BTreeSet::new();
        for tracked in self.scheduler.instances().filter(|one| one.standing == Standing::Waiting) {
            let request = &tracked.request;
            // Those that ask for the same need no second look.
            if !seen.insert(&request.demand) {
                continue;
            }
            for node in self.scheduler.nodes().filter(|node| fits(node, request)) {
                let name = &node.spec().name;
                let is_kept = claimed.get(name).is_some_and(|by| **by != request.instance);
                assert!(is_kept, "{} waits, though {name} has room for it", request.instance);
            }
        }
    }

    /// After the peace: what is wanted runs where it has its place or waits for good reason, and nothing else runs.
    pub(crate) fn check_peace(&self) {
        assert!(self.leaving.is_empty(), "not over: {:?}", self.leaving);
        for node in self.scheduler.nodes() {
            assert_eq!(node.state(), NodeState::Active, "{} in peace", node.spec().name);
            assert_eq!(node.duty(), Duty::Open);
        }
        let mut placed = 0;
        for key in &self.wanted.keys {
            match &self.scheduler.instance(key).unwrap().standing {
                Standing::Placed { node, epoch } => {
                    placed += 1;
                    let sandbox = self.machines[node].sandboxes.get(key);
                    let runs = sandbox.is_some_and(|one| one.runs && one.epoch == *epoch);
                    assert!(runs, "{key} does not run on {node}, where it has its place");
                }
                Standing::Waiting => {}
                other => panic!("{key} is {other:?} after the peace"),
            }
        }
        let there: usize = self.machines.values().map(|machine| machine.sandboxes.len()).sum();
        assert_eq!(there, placed, "machines have what is nobody's");
    }
}

/// Whether a node would do, written out once more.
fn fits(node: &Node, request: &Request) -> bool {
    let (spec, demand) = (node.spec(), &request.demand);
    node.state() == NodeState::Active
        && spec.capacity.covers(node.used().plus(demand.amounts))
        && demand.node.as_ref().is_none_or(|name| *name == spec.name)
        && demand.region.as_ref().is_none_or(|region| spec.region.as_ref() == Some(region))
        && demand.architecture.is_none_or(|architecture| architecture == spec.architecture)
        && spec.runtimes.contains(&demand.runtime)
        && demand.labels.iter().all(|(name, value)| spec.labels.get(name) == Some(value))
        && match &demand.data {
            Data::On(name) => *name == spec.name,
            Data::Anywhere | Data::Unborn => true,
        }
}
