//! What people do, and what happens to machines, networks and servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chassis_core::key::InstanceKey;
use chassis_core::node::{Amounts, Architecture, Drain, Duty, NodeName, NodeSpec};
use chassis_core::schedule::{Data, Demand, Error, Request, Reservation, Submitted, Wait, WhenDown};
use chassis_spec::RuntimeKind;
use jiff::SignedDuration;

use crate::machine::{Deeds, Machine};
use crate::random::Random;
use crate::world::World;

const REGIONS: [&str; 3] = ["east", "north", "west"];

pub(crate) fn machines(random: &mut Random, count: usize) -> BTreeMap<NodeName, Machine> {
    (0..count)
        .map(|index| {
            let name: NodeName = format!("node-{index:04}").parse().unwrap();
            let cores = random.pick(&[16, 32, 64]);
            let capacity = Amounts {
                cpu_millis: cores * 1000,
                memory_bytes: cores * (4 << 30),
                disk_bytes: cores * (20 << 30),
                slots: 120,
            };
            let disk = random.pick(&["ssd", "ssd", "hdd"]);
            let spec = NodeSpec {
                name: name.clone(),
                capacity,
                architecture: random.pick(&[Architecture::Amd64, Architecture::Amd64, Architecture::Arm64]),
                runtimes: BTreeSet::from([RuntimeKind::Docker, RuntimeKind::Sim]),
                region: Some(REGIONS[index % 3].into()),
                labels: BTreeMap::from([("disk".to_owned(), disk.to_owned())]),
            };
            let slow = i32::try_from(random.below(7)).unwrap();
            (name, Machine::new(spec, slow))
        })
        .collect()
}

fn demand(random: &mut Random) -> Demand {
    let (cpu_millis, mebibytes) = random.pick(&[(250, 512), (500, 1024), (1000, 2048), (12_000, 8192)]);
    let amounts = Amounts { cpu_millis, memory_bytes: mebibytes << 20, disk_bytes: 1 << 30, slots: 1 };
    let mut demand = Demand { amounts, ..Demand::default() };
    if random.one_in(8) {
        demand.region = Some(random.pick(&REGIONS).into());
    }
    if random.one_in(8) {
        demand.architecture = Some(Architecture::Arm64);
    }
    if random.one_in(8) {
        demand.labels = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
    }
    if random.one_in(20) {
        demand.data = Data::Unborn;
    }
    demand
}

impl World {
    fn request(&mut self) -> Request {
        self.tally.submitted += 1;
        let number = u32::try_from(self.tally.submitted).unwrap();
        let random = &mut self.random;
        let fleet = format!("fleet-{}", random.below(6));
        let wait = match random.below(16) {
            0 => Wait::No,
            1..3 => Wait::Until(self.now + SignedDuration::from_secs(90)),
            _ => Wait::Always,
        };
        Request {
            instance: InstanceKey { fleet: fleet.parse().unwrap(), agent: "agent".parse().unwrap(), number },
            tenant: fleet.into(),
            priority: u8::try_from(random.below(3)).unwrap(),
            demand: Arc::new(demand(random)),
            when_down: if random.one_in(2) { WhenDown::Move } else { WhenDown::Stay },
            ends: !random.one_in(4),
            wait,
        }
    }

    /// A second of people. What they ask for is lost if the server dies before it has written it down.
    pub(crate) fn people(&mut self) {
        for _ in 0..(self.machines.len() / 200).max(usize::from(self.random.one_in(5))) {
            self.operate();
        }
        self.commit();
        let dies = self.random.one_in(120);
        let seconds = u64::try_from(self.size.unrest).unwrap();
        let mut came = Vec::new();
        for _ in 0..self.size.arrivals.div_ceil(seconds) {
            self.arrive(&mut came);
        }
        self.settle_reservations(&mut came);
        let leaves = came.iter().filter(|_| self.random.one_in(4)).count();
        let mut left = Vec::new();
        for _ in 0..leaves.min(self.wanted.keys.len()) {
            let index = self.random.index(self.wanted.keys.len());
            let key = self.wanted.keys[index].clone();
            if !left.contains(&key) {
                self.scheduler.instance_end(&key).unwrap();
                left.push(key);
            }
        }
        if dies {
            self.take_over();
            return;
        }
        for key in came {
            self.wanted.add(key);
        }
        for key in left {
            self.wanted.remove(&key);
            self.leaving.insert(key);
        }
        self.commit();
        let placed = self.scheduler.instances().count() - self.scheduler.waiting();
        self.tally.most = self.tally.most.max(u64::try_from(placed).unwrap());
    }

    fn arrive(&mut self, came: &mut Vec<InstanceKey>) {
        let request = self.request();
        let key = request.instance.clone();
        self.requests.insert(key.clone(), request.clone());
        if self.random.one_in(20) {
            if let Ok(Reservation { id, .. }) = self.scheduler.reserve(request, self.now) {
                self.reserved.push(id);
            }
            return;
        }
        let wait = request.wait;
        match self.scheduler.submit(request, self.now) {
            Ok(Submitted::Placed(_)) => came.push(key),
            Ok(Submitted::Waiting) => {
                self.tally.waited += 1;
                came.push(key);
            }
            Err(Error::NoPlace(refused)) => {
                assert_eq!(wait, Wait::No, "one that would wait was refused");
                assert_eq!(refused.nodes.len(), self.scheduler.nodes().count(), "each node says why");
                self.tally.refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Most reservations are confirmed within seconds, some are given back, some are left to expire.
    fn settle_reservations(&mut self, came: &mut Vec<InstanceKey>) {
        for _ in 0..self.reserved.len().div_ceil(3) {
            let id = self.reserved.swap_remove(self.random.index(self.reserved.len()));
            match self.random.below(6) {
                0 => {}
                1 => self.scheduler.release(id),
                _ => {
                    // A server that took over knows of none, and on a node that is down nothing is held.
                    if let Ok(placement) = self.scheduler.confirm(id, self.now) {
                        self.tally.confirmed += 1;
                        came.push(placement.instance);
                        assert!(self.scheduler.confirm(id, self.now).is_err(), "confirmed twice");
                    }
                }
            }
        }
    }

    /// Somebody does something to a node.
    fn operate(&mut self) {
        let names: Vec<NodeName> = self.machines.keys().cloned().collect();
        let name = self.random.pick(&names);
        let Some(node) = self.scheduler.node(&name) else { return };
        let (is_drained, is_open) = (node.is_drained(), node.duty() == Duty::Open);
        match self.random.below(24) {
            0..4 if is_open => {
                let deadline = match self.random.below(3) {
                    0 => None,
                    seconds => {
                        Some(self.now + SignedDuration::from_secs(i64::try_from(seconds * 40).unwrap()))
                    }
                };
                let drain = Drain { deadline, parallelism: u32::try_from(self.random.below(20)).unwrap() };
                self.scheduler.node_assign(&name, Duty::Draining(drain)).unwrap();
            }
            4..6 if is_open => self.scheduler.node_assign(&name, Duty::Cordoned).unwrap(),
            6 if is_drained => {
                self.tally.drained += 1;
                // With data on it that somebody waits for it stays.
                if self.scheduler.node_remove(&name).is_ok() {
                    self.store.nodes.remove(&name);
                    let machine = self.machines.get_mut(&name).unwrap();
                    machine.registered = false;
                }
            }
            7 if self.random.one_in(3) => {
                // Whoever says that a machine is gone has pulled its plug.
                let mut deeds = Deeds::default();
                self.machines.get_mut(&name).unwrap().crash(&mut deeds);
                self.watch(&name, deeds);
                self.scheduler.node_abandon(&name, self.now).unwrap();
                self.store.nodes.remove(&name);
                self.tally.abandoned += 1;
            }
            8 => self.machines.get_mut(&name).unwrap().registered = false,
            9..24 if !is_open && (is_drained || self.random.one_in(4)) => {
                self.tally.drained += u64::from(is_drained);
                self.scheduler.node_assign(&name, Duty::Open).unwrap();
            }
            _ => {}
        }
    }

    /// The server dies with what it has not written down; another one makes its book from the store.
    fn take_over(&mut self) {
        self.tally.takeovers += 1;
        let first = (self.tally.takeovers + 1) << 32;
        // What people did to nodes in this second is in the store or never was; a node that the store does not have is
        // registered anew.
        self.scheduler = self.store.open(*self.scheduler.rules(), first, self.now);
        self.reserved.clear();
        for machine in self.machines.values_mut() {
            machine.registered &= self.scheduler.node(&machine.spec.name).is_some();
        }
    }

    /// What happens to machines and their network.
    pub(crate) fn faults(&mut self) {
        let names: Vec<NodeName> = self.machines.keys().cloned().collect();
        for _ in 0..(names.len() / 50).max(usize::from(self.random.one_in(8))) {
            let name = self.random.pick(&names);
            let mut deeds = Deeds::default();
            let machine = self.machines.get_mut(&name).unwrap();
            match self.random.below(16) {
                0 => machine.link = false,
                1 if self.random.one_in(2) => machine.link = false,
                1 => machine.crash(&mut deeds),
                2 if !machine.power => machine.sandboxes.clear(),
                // About a hundred seconds after it broke, which is when it is down.
                3..11 => {
                    machine.link = true;
                    machine.power = true;
                }
                _ => {}
            }
            self.watch(&name, deeds);
        }
    }

    /// Everything works from now on, and every node is open.
    pub(crate) fn heal(&mut self) {
        for machine in self.machines.values_mut() {
            machine.link = true;
            machine.power = true;
        }
        let names: Vec<NodeName> = self.scheduler.nodes().map(|node| node.spec().name.clone()).collect();
        for name in names {
            self.scheduler.node_assign(&name, Duty::Open).unwrap();
        }
        for id in std::mem::take(&mut self.reserved) {
            self.scheduler.release(id);
        }
        self.commit();
    }
}
