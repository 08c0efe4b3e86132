//! What the instances of an agent want of the book: a place, or more than they have where they are.

use std::sync::Arc;

use chassis_core::environment;
use chassis_core::schedule::{Container, Cramped, Data, Demand, Request, Wait};
use chassis_core::{Amounts, InstanceKey, Limits, NodeName, Site};
use chassis_spec::{AgentSpec, Backend, RuntimeKind};
use chassis_store::Term;

use super::TENANT;
use crate::state::{AgentState, Slot};

/// What an instance needs of a node. `usual` is the runtime of those that do not care.
pub(crate) fn request(
    key: InstanceKey,
    spec: &AgentSpec,
    home: Option<NodeName>,
    usual: RuntimeKind,
) -> Request {
    let data = match home {
        _ if !has_own_data(spec) => Data::Anywhere,
        Some(home) => Data::On(home),
        None => Data::Unborn,
    };
    let local = spec.volumes.iter().filter(|volume| volume.backend() == Some(Backend::Local));
    let sizes = local.filter_map(|volume| volume.size);
    let placement = &spec.placement;
    let resources = &spec.resources;
    let demand = Demand {
        amounts: Amounts {
            cpu_millis: resources.cpu.map_or(0, |cpu| u64::from(cpu.0)),
            memory_bytes: resources.memory.0,
            disk_bytes: sizes.map(|size| size.0).sum(),
            slots: 1,
        },
        runtime: if spec.runtime == RuntimeKind::default() { usual } else { spec.runtime },
        node: placement.node.clone(),
        region: placement.region.as_deref().map(Box::from),
        architecture: placement.architecture,
        labels: placement.labels.0.clone(),
        data,
        strategy: placement.strategy,
    };
    // Environments are made for many in one fleet: each has a share of its own.
    let maker = spec.labels.0.get(TENANT).filter(|_| environment::is_fleet(&key.fleet));
    let tenant = maker.map_or_else(|| key.fleet.as_str().into(), |maker| format!("{}/{maker}", key.fleet));
    Request {
        tenant: tenant.into(),
        instance: key,
        priority: placement.priority,
        demand: Arc::new(demand),
        when_down: placement.when_node_down,
        ends: false,
        wait: Wait::Always,
    }
}

impl AgentState {
    /// What one of its instances needs.
    fn request(&self, number: u32, slot: &Slot, usual: RuntimeKind) -> Request {
        request(self.key.instance(number), &self.spec, slot.home.clone(), usual)
    }

    /// What those need that have no place, and who has left the place that it was to leave.
    pub(crate) fn placing(&self, usual: RuntimeKind) -> (Vec<Request>, Vec<(InstanceKey, u64)>) {
        let (mut wanting, mut left) = (Vec::new(), Vec::new());
        for (number, slot) in self.slots.iter().filter(|(_, slot)| !slot.is_extra() && !slot.instance.busy) {
            let is_there = slot.instance.observed.is_some();
            match slot.instance.site {
                Site::Nowhere if !is_there && !slot.instance.desired.wanted.is_absent() => {
                    wanting.push(self.request(*number, slot, usual));
                }
                Site::Leaving if !is_there => {
                    let epoch = slot.placed.as_ref().map(|placed| placed.epoch);
                    left.extend(epoch.map(|epoch| (self.key.instance(*number), epoch)));
                }
                _ => {}
            }
        }
        (wanting, left)
    }
}

/// What an instance that has a place is to have there.
#[derive(Debug)]
pub(crate) struct Rebooking {
    pub(crate) number: u32,
    pub(super) request: Request,
    pub(super) epoch: u64,
    pub(super) container: Container,
}

impl AgentState {
    /// What is to be booked for those that have a place, unless that is known to be so already.
    pub(crate) fn rebooking(&self, term: Term, usual: RuntimeKind) -> Vec<Rebooking> {
        if self.booked == Some((term, self.revision)) {
            return Vec::new();
        }
        let mut asking = Vec::new();
        for (number, slot) in &self.slots {
            let placed = slot.placed.as_ref().filter(|placed| placed.ending.is_none());
            let Some(placed) = placed.filter(|_| slot.may_be_rebooked(&self.spec)) else { continue };
            let limits = slot.instance.observed.as_ref().map(|observed| observed.limits);
            asking.push(Rebooking {
                number: *number,
                request: self.request(*number, slot, usual),
                epoch: placed.epoch,
                container: match limits {
                    None => Container::None,
                    Some(limits) if has_all(limits, &self.spec) => Container::Same,
                    Some(_) => Container::Less,
                },
            });
        }
        asking
    }

    /// Takes over why some cannot have what they are to have: they go on with what they have. Once all have it, nothing more
    /// is asked in this term.
    pub(crate) fn rebooked(&mut self, term: Term, answers: Vec<(u32, Option<Cramped>)>) {
        for (number, cramped) in answers {
            let Some(slot) = self.slots.get_mut(&number) else { continue };
            let node = slot.placed.as_ref().map(|placed| placed.node.to_string()).unwrap_or_default();
            // Its data has its home in the store before there is any.
            let is_homeless = has_own_data(&self.spec) && slot.home.is_none();
            slot.instance.is_cramped = cramped.is_some() || is_homeless;
            slot.lacks = match cramped {
                Some(Cramped::Lacks(unfit)) => Some(format!(
                    "goes on as it was, because its node {node} {unfit}; make room there, or ask for less"
                )),
                Some(Cramped::Leaves) | None => None,
            };
        }
        let is_done = |slot: &Slot| {
            slot.is_extra()
                || slot.placed.is_some() && slot.may_be_rebooked(&self.spec) && !slot.instance.is_cramped
        };
        self.booked = self.slots.values().all(|slot| is_done(slot)).then_some((term, self.revision));
    }
}

impl Slot {
    /// What a container gives back is only free once it has.
    fn may_be_rebooked(&self, spec: &AgentSpec) -> bool {
        let gives_back = self.instance.observed.as_ref().is_some_and(|observed| {
            let wanted = Limits::from(&spec.resources);
            observed.limits != wanted && has_all(observed.limits, spec)
        });
        !self.is_extra() && !self.instance.busy && !self.instance.desired.wanted.is_absent() && !gives_back
    }
}

/// True of limits that are at least those of the definition.
fn has_all(limits: Limits, spec: &AgentSpec) -> bool {
    let wanted = Limits::from(&spec.resources);
    let cores = |cpu: Option<chassis_spec::Cpu>| cpu.map_or(u32::MAX, |cpu| cpu.0);
    limits.memory >= wanted.memory && cores(limits.cpu) >= cores(wanted.cpu)
}

/// True if some of its volumes are where it is, and nowhere else.
fn has_own_data(spec: &AgentSpec) -> bool {
    let is_own = |backend: Option<Backend>| matches!(backend, Some(Backend::Local | Backend::Docker(_)));
    spec.volumes.iter().any(|volume| is_own(volume.backend()))
}
