//! What the server's store has: only what the scheduler's changes say, so that it is shown that they say enough.

use std::collections::BTreeMap;
use std::sync::Arc;

use chassis_core::key::InstanceKey;
use chassis_core::node::{Duty, Liveness, NodeName, NodeSpec};
use chassis_core::schedule::{Change, Data, Place, Request, Rules, Scheduler};
use jiff::Timestamp;

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) nodes: BTreeMap<NodeName, (NodeSpec, Duty, bool)>,
    pub(crate) instances: BTreeMap<InstanceKey, Row>,
}

pub(crate) struct Row {
    pub(crate) request: Request,
    pub(crate) place: Option<Place>,
}

impl Store {
    /// Writes a change down. `request` is what the server had of an instance that is new.
    pub(crate) fn write(
        &mut self,
        scheduler: &Scheduler,
        change: &Change,
        request: impl Fn(&InstanceKey) -> Request,
    ) {
        match change {
            Change::Node { node: name, .. } => {
                if let Some(node) = scheduler.node(name) {
                    let is_down = node.liveness() == Liveness::Down;
                    self.nodes.insert(name.clone(), (node.spec().clone(), node.duty(), is_down));
                }
            }
            Change::Placed(placement) | Change::Leased(placement) => {
                let row = self.row(&placement.instance, request);
                let (node, epoch, leased) = (placement.node.clone(), placement.epoch, placement.leased);
                row.place = Some(Place { node, epoch, leased, ending: None });
                if row.request.demand.data == Data::Unborn {
                    Arc::make_mut(&mut row.request.demand).data = Data::On(placement.node.clone());
                }
            }
            Change::Ending { instance, node, epoch, leased, next } => {
                let place = Place { node: node.clone(), epoch: *epoch, leased: *leased, ending: Some(*next) };
                self.instances.get_mut(instance).unwrap().place = Some(place);
            }
            Change::Queued { instance } => {
                let row = self.row(instance, request);
                row.place = None;
                if let Some(tracked) = scheduler.instance(instance) {
                    // What never ran where it was placed has no data there.
                    Arc::make_mut(&mut row.request.demand).data = tracked.request.demand.data.clone();
                }
            }
            Change::Forgotten { instance } => {
                self.instances.remove(instance);
            }
            Change::GaveUp(refused) => {
                self.instances.remove(&refused.instance);
            }
            Change::Drained { .. } => {}
            Change::DataLost { instance, .. } => {
                let row = self.instances.get_mut(instance).unwrap();
                Arc::make_mut(&mut row.request.demand).data = Data::Unborn;
            }
        }
    }

    fn row(&mut self, key: &InstanceKey, request: impl Fn(&InstanceKey) -> Request) -> &mut Row {
        self.instances.entry(key.clone()).or_insert_with(|| Row { request: request(key), place: None })
    }

    /// The book of a server that takes over.
    pub(crate) fn open(&self, rules: Rules, first: u64, now: Timestamp) -> Scheduler {
        let mut scheduler = Scheduler::new(rules, first);
        self.nodes.keys().next().into_iter().for_each(|own| scheduler.own_set(own.clone()));
        for (spec, duty, is_down) in self.nodes.values() {
            scheduler.node_restore(spec.clone(), *duty, *is_down, now);
        }
        for row in self.instances.values() {
            scheduler.instance_restore(row.request.clone(), row.place.clone(), now);
        }
        scheduler
    }
}
