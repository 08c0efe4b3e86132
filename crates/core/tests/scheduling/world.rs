//! The server, its store, the machines, and the network between them; one step is a second.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use chassis_core::key::InstanceKey;
use chassis_core::node::{Node, NodeName, NodeState};
use chassis_core::schedule::{Change, Held, Place, Placement, Pulse, Request, Rules, Scheduler, Strategy};
use jiff::{SignedDuration, Timestamp};

use crate::machine::{Deeds, Machine, Order};
use crate::random::Random;
use crate::store::{Row, Store};

/// How often a node is heard, and how often it lists what it has.
const BEAT: i64 = 5;
const REPORT: i64 = 60;
/// Seconds of peace: in the first of them what runs still ends by itself.
const PEACE: i64 = 300;
const STILL: i64 = 90;

#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) nodes: usize,
    pub(crate) arrivals: u64,
    pub(crate) unrest: i64,
}

/// What happened in a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) submitted: u64,
    pub(crate) waited: u64,
    pub(crate) refused: u64,
    pub(crate) gave_up: u64,
    pub(crate) placed: u64,
    pub(crate) confirmed: u64,
    pub(crate) moved: u64,
    pub(crate) finished: u64,
    pub(crate) downs: u64,
    pub(crate) returns: u64,
    pub(crate) drained: u64,
    pub(crate) abandoned: u64,
    pub(crate) takeovers: u64,
    pub(crate) withdrawn: u64,
    /// Instances that had a place at once.
    pub(crate) most: u64,
}

pub(crate) struct World {
    pub(crate) size: Size,
    pub(crate) random: Random,
    pub(crate) now: Timestamp,
    pub(crate) step: i64,
    pub(crate) scheduler: Scheduler,
    pub(crate) store: Store,
    pub(crate) machines: BTreeMap<NodeName, Machine>,
    /// Placements that no node was told of, because it hung when it was asked for something else.
    unbegun: Vec<(InstanceKey, u64)>,
    /// Orders on their way, by the second in which they arrive.
    orders: BTreeMap<i64, Vec<(NodeName, u64, Order)>>,
    /// Heartbeats and reports that the server hears late, and answers to nobody.
    late: VecDeque<(i64, NodeName, u64, Vec<Held>)>,
    /// Where each instance really runs.
    running: HashMap<InstanceKey, NodeName>,
    /// What people asked for and still want.
    pub(crate) wanted: Wanted,
    /// What people do not want any more, and what is over: they are forgotten next.
    pub(crate) leaving: HashSet<InstanceKey>,
    pub(crate) requests: HashMap<InstanceKey, Request>,
    /// Reservations that somebody holds.
    pub(crate) reserved: Vec<u64>,
    pub(crate) calm: bool,
    pub(crate) still: bool,
    pub(crate) tally: Tally,
}

/// A set of which one can be picked.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) keys: Vec<InstanceKey>,
    places: HashMap<InstanceKey, usize>,
}

impl Wanted {
    pub(crate) fn add(&mut self, key: InstanceKey) {
        self.places.insert(key.clone(), self.keys.len());
        self.keys.push(key);
    }

    pub(crate) fn remove(&mut self, key: &InstanceKey) {
        let Some(place) = self.places.remove(key) else { return };
        self.keys.swap_remove(place);
        if let Some(moved) = self.keys.get(place) {
            self.places.insert(moved.clone(), place);
        }
    }
}

/// The server's own machine, on which nothing is leased.
pub(crate) fn own(machines: &BTreeMap<NodeName, Machine>) -> NodeName {
    machines.keys().next().unwrap().clone()
}

fn rules(seed: u64) -> Rules {
    let strategy = if seed.is_multiple_of(2) { Strategy::Binpack } else { Strategy::Spread };
    Rules { strategy, ..Rules::default() }
}

impl World {
    pub(crate) fn new(seed: u64, size: Size) -> World {
        let mut random = Random(seed);
        let machines = crate::people::machines(&mut random, size.nodes);
        let mut scheduler = Scheduler::new(rules(seed), 1 << 32);
        scheduler.own_set(own(&machines));
        World {
            size,
            random,
            now: Timestamp::from_second(1_000_000).unwrap(),
            step: 0,
            scheduler,
            store: Store::default(),
            machines,
            unbegun: Vec::new(),
            orders: BTreeMap::new(),
            late: VecDeque::new(),
            running: HashMap::new(),
            wanted: Wanted::default(),
            leaving: HashSet::new(),
            requests: HashMap::new(),
            reserved: Vec::new(),
            calm: false,
            still: false,
            tally: Tally::default(),
        }
    }

    pub(crate) fn unrest(&mut self) {
        for _ in 0..self.size.unrest {
            self.second();
            self.faults();
            self.people();
            if self.step % 50 == 0 {
                self.scheduler.tick(self.now);
                self.commit();
                self.check_books();
            }
        }
    }

    pub(crate) fn peace(&mut self) {
        self.calm = true;
        self.heal();
        for second in 0..PEACE {
            self.still = second >= PEACE - STILL;
            self.second();
        }
        self.check_books();
        self.check_peace();
    }

    /// One second of everything that goes on by itself.
    fn second(&mut self) {
        self.step += 1;
        self.now += SignedDuration::from_secs(1);
        self.deliver();
        let names: Vec<NodeName> = self.machines.keys().cloned().collect();
        for (index, name) in names.iter().enumerate() {
            self.machine_lives(name);
            self.machine_talks(name, i64::try_from(index).unwrap());
        }
        while self.late.front().is_some_and(|(at, ..)| *at <= self.step) {
            let (_, name, term, held) = self.late.pop_front().unwrap();
            let _ = self.scheduler.node_heartbeat(&name, term, self.now);
            let _ = self.scheduler.node_report(&name, term, &held, self.now);
        }
        self.withdraw();
        self.scheduler.tick(self.now);
        self.commit();
    }

    /// What was never begun is given up at some time, also by a server that cannot know that of what another one placed.
    fn withdraw(&mut self) {
        let due = if self.calm { self.unbegun.len() } else { self.unbegun.len().div_ceil(4) };
        for (key, epoch) in self.unbegun.drain(..due).collect::<Vec<_>>() {
            let node = self.scheduler.instance(&key).and_then(|tracked| tracked.standing.place());
            if let Some(node) = node.map(|(node, _)| node.clone()) {
                self.scheduler.node_suspect(&node);
            }
            self.tally.withdrawn += u64::from(self.scheduler.instance_withdraw(&key, epoch, self.now));
        }
    }

    /// The server writes down what has changed, and only then tells the machines.
    pub(crate) fn commit(&mut self) {
        for change in self.scheduler.take_changes() {
            self.note(&change);
            self.store.write(&self.scheduler, &change, |key| self.requests[key].clone());
            match change {
                Change::Placed(placement) => {
                    let node = self.scheduler.node(&placement.node).unwrap();
                    let (used, capacity) = (node.used(), node.spec().capacity);
                    assert!(capacity.covers(used), "{} has {capacity} and is to run {used}", placement.node);
                    if !self.calm && self.random.one_in(100) {
                        self.unbegun.push((placement.instance, placement.epoch));
                    } else {
                        self.send_start(placement);
                    }
                }
                Change::Ending { instance, node, epoch, .. } => {
                    self.send(&node, &Order::End(Held { instance, epoch }));
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, change: &Change) {
        match change {
            Change::Node { from, to, .. } => {
                self.tally.downs += u64::from(*to == NodeState::Down);
                self.tally.returns += u64::from(*from == NodeState::Down && *to != NodeState::Down);
            }
            Change::Placed(_) => self.tally.placed += 1,
            Change::Queued { instance } => {
                self.want_again(instance);
                let row = self.store.instances.get(instance);
                self.tally.moved += u64::from(row.is_some_and(|row| row.place.is_some()));
            }
            Change::Forgotten { instance } => {
                assert!(self.leaving.remove(instance), "{instance} was forgotten, though it is wanted");
            }
            Change::GaveUp(refused) => {
                assert!(!refused.nodes.is_empty(), "{} gave up without a reason", refused.instance);
                self.tally.gave_up += 1;
                self.wanted.remove(&refused.instance);
            }
            Change::Leased(_) | Change::Ending { .. } | Change::DataLost { .. } | Change::Drained { .. } => {}
        }
    }

    fn send_start(&mut self, placement: Placement) {
        let life = self.life(&placement.instance);
        let node = placement.node.clone();
        self.send(&node, &Order::Start(placement, life));
    }

    /// How many seconds an instance does what it is for.
    fn life(&self, key: &InstanceKey) -> Option<i64> {
        life_of(&self.requests, key)
    }

    /// Orders take up to three seconds, some much longer, and some arrive twice or never.
    fn send(&mut self, node: &NodeName, order: &Order) {
        let Some(term) = self.scheduler.node(node).map(Node::term) else { return };
        let calm = self.calm;
        let delay = |random: &mut Random| match random.below(40) {
            0 if calm => Some(0),
            0 if random.one_in(2) => None,
            0 => Some(60 + i64::try_from(random.below(120)).unwrap()),
            _ => Some(i64::try_from(random.below(3)).unwrap()),
        };
        for _ in 0..=u64::from(self.random.one_in(50)) {
            if let Some(delay) = delay(&mut self.random) {
                let at = self.step + 1 + delay;
                self.orders.entry(at).or_default().push((node.clone(), term, order.clone()));
            }
        }
    }

    fn deliver(&mut self) {
        let later = self.orders.split_off(&(self.step + 1));
        for (at, orders) in std::mem::replace(&mut self.orders, later) {
            for (name, term, order) in orders {
                let mut deeds = Deeds::default();
                let Some(machine) = self.machines.get_mut(&name) else { continue };
                if machine.reachable() {
                    machine.obey(term, order, self.scheduler.rules(), &mut self.random, self.now, &mut deeds);
                } else if self.random.one_in(2) {
                    // What the network holds back may come when the machine is there again.
                    self.orders.entry(at + 30).or_default().push((name.clone(), term, order));
                }
                self.watch(&name, deeds);
            }
        }
    }

    fn machine_lives(&mut self, name: &NodeName) {
        let mut deeds = Deeds::default();
        let machine = self.machines.get_mut(name).unwrap();
        if machine.power {
            machine.live(!self.still, self.scheduler.rules(), &mut self.random, self.now, &mut deeds);
        }
        self.watch(name, deeds);
    }

    /// The one thing that must never be: an instance that runs in two places.
    pub(crate) fn watch(&mut self, name: &NodeName, deeds: Deeds) {
        for key in deeds.stopped {
            assert_eq!(self.running.remove(&key).as_ref(), Some(name), "{key} stopped where it did not run");
        }
        for key in deeds.started {
            let other = self.running.insert(key.clone(), name.clone());
            assert!(other.is_none(), "at {}: {key} runs on {name} and on {}", self.step, other.unwrap());
            let is_placed = |row: &Row| matches!(row.place, Some(Place { ending: None, .. }));
            if self.store.instances.get(&key).is_some_and(is_placed) {
                self.want_again(&key);
            }
        }
        for key in deeds.finished {
            self.tally.finished += 1;
            self.wanted.remove(&key);
            self.leaving.insert(key);
        }
    }

    /// One that was over, but its machine was lost before it could say so, does its work again.
    fn want_again(&mut self, key: &InstanceKey) {
        if self.leaving.remove(key) {
            self.wanted.add(key.clone());
        }
    }

    /// Registers, beats, reports, and says what it has ended; each of it may get lost on the way there or back.
    fn machine_talks(&mut self, name: &NodeName, index: i64) {
        let lost = |random: &mut Random, calm: bool| !calm && random.one_in(50);
        let machine = self.machines.get_mut(name).unwrap();
        if !machine.reachable() || lost(&mut self.random, self.calm) {
            return;
        }
        if !machine.registered {
            let registered = self.scheduler.node_register(machine.spec.clone(), self.now);
            if lost(&mut self.random, self.calm) {
                return;
            }
            machine.registered = true;
            machine.take_over(registered.term);
        }
        for held in machine.to_tell() {
            self.scheduler.instance_ended(&held.instance, held.epoch, self.now);
            if !lost(&mut self.random, self.calm) {
                self.machines.get_mut(name).unwrap().was_heard(&held);
            }
        }
        self.commit();
        if (self.step + index) % BEAT == 0 {
            let is_lost = lost(&mut self.random, self.calm);
            self.machine_beats(name, is_lost);
        }
        let machine = &self.machines[name];
        if (self.step + index) % REPORT == 0 || (!machine.joined && (self.step + index) % 3 == 0) {
            let is_lost = lost(&mut self.random, self.calm);
            self.machine_reports(name, is_lost);
        }
    }

    fn machine_beats(&mut self, name: &NodeName, is_lost: bool) {
        let machine = self.machines.get_mut(name).unwrap();
        if !self.calm && self.random.one_in(50) {
            let late = self.step + 1 + i64::try_from(self.random.below(100)).unwrap();
            self.late.push_back((late, name.clone(), machine.term, machine.report()));
            return;
        }
        let Ok(pulse) = self.scheduler.node_heartbeat(name, machine.term, self.now) else {
            // It was taken off the book.
            machine.registered = false;
            machine.joined = false;
            return;
        };
        if is_lost {
            return;
        }
        let mut deeds = Deeds::default();
        match pulse {
            Pulse::Alive => machine.renew(self.now, self.scheduler.rules(), self.now, &mut deeds),
            Pulse::Report { term } if term > machine.term => machine.take_over(term),
            Pulse::Report { .. } => {}
        }
        self.watch(name, deeds);
    }

    fn machine_reports(&mut self, name: &NodeName, is_lost: bool) {
        let machine = self.machines.get_mut(name).unwrap();
        let Ok(orders) = self.scheduler.node_report(name, machine.term, &machine.report(), self.now) else {
            machine.registered = false;
            machine.joined = false;
            return;
        };
        self.commit();
        // From here on it may have been begun.
        self.unbegun.retain(|(_, epoch)| orders.start.iter().all(|start| start.epoch != *epoch));
        if is_lost {
            return;
        }
        let mut deeds = Deeds::default();
        let machine = self.machines.get_mut(name).unwrap();
        if orders.term > machine.term {
            machine.take_over(orders.term);
        } else {
            let (requests, rules) = (&self.requests, self.scheduler.rules());
            let life = |key: &InstanceKey| life_of(requests, key);
            machine.told(&orders, life, rules, &mut self.random, self.now, &mut deeds);
        }
        self.watch(name, deeds);
    }
}

fn life_of(requests: &HashMap<InstanceKey, Request>, key: &InstanceKey) -> Option<i64> {
    requests.get(key).filter(|request| request.ends).map(|_| 40 + i64::from(key.number * 7919 % 400))
}
