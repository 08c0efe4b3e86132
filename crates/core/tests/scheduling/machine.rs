//! The machine behind a node: what really runs there, whatever anybody believes. It keeps the four promises of
//! `chassis_core::node` and nothing else; its orders come late, twice, out of order, or not at all.

use std::collections::{BTreeMap, BTreeSet};

use chassis_core::key::InstanceKey;
use chassis_core::node::NodeSpec;
use chassis_core::schedule::{Held, Orders, Placement, Rules};
use jiff::{SignedDuration, Timestamp};

use crate::random::Random;

/// What a machine has of one instance.
pub(crate) struct Sandbox {
    pub(crate) epoch: u64,
    leased: bool,
    pub(crate) runs: bool,
    /// It is being stopped, and will be gone from memory then.
    stops_at: Option<Timestamp>,
    /// It was told to end, or is over: it is not started again, and reported as ended until the server has heard it.
    pub(crate) over: bool,
    /// When it will be over by itself.
    finishes_at: Option<Timestamp>,
}

/// An order on its way.
#[derive(Clone)]
pub(crate) enum Order {
    Start(Placement, Option<i64>),
    End(Held),
}

pub(crate) struct Machine {
    pub(crate) spec: NodeSpec,
    pub(crate) power: bool,
    pub(crate) link: bool,
    pub(crate) registered: bool,
    /// The term that it has taken over, and whether its report of it was accepted.
    pub(crate) term: u64,
    pub(crate) joined: bool,
    pub(crate) sandboxes: BTreeMap<InstanceKey, Sandbox>,
    /// Epochs of this term that are not started any more.
    ended: BTreeSet<u64>,
    /// What it was told to end and never had.
    unheard: BTreeSet<Held>,
    /// When it sent the last heartbeat that was answered.
    answered: Timestamp,
    /// How slow its clock is, in hundredths.
    slow: i32,
}

/// What a machine did, for the one who watches that nothing runs twice.
#[derive(Default)]
pub(crate) struct Deeds {
    pub(crate) started: Vec<InstanceKey>,
    pub(crate) stopped: Vec<InstanceKey>,
    pub(crate) finished: Vec<InstanceKey>,
}

impl Machine {
    pub(crate) fn new(spec: NodeSpec, slow: i32) -> Machine {
        Machine {
            spec,
            power: true,
            link: true,
            registered: false,
            term: 0,
            joined: false,
            sandboxes: BTreeMap::new(),
            ended: BTreeSet::new(),
            unheard: BTreeSet::new(),
            answered: Timestamp::UNIX_EPOCH,
            slow,
        }
    }

    pub(crate) fn reachable(&self) -> bool {
        self.power && self.link
    }

    /// What its clock makes of so much time: it shows less than has passed.
    fn by_clock(&self, time: SignedDuration) -> SignedDuration {
        time + time * self.slow / 100
    }

    fn has_lease(&self, rules: &Rules, now: Timestamp) -> bool {
        now.duration_since(self.answered) < self.by_clock(rules.lease)
    }

    pub(crate) fn take_over(&mut self, term: u64) {
        self.term = term;
        self.joined = false;
        self.ended.clear();
    }

    pub(crate) fn report(&self) -> Vec<Held> {
        let held =
            |(key, sandbox): (&InstanceKey, &Sandbox)| Held { instance: key.clone(), epoch: sandbox.epoch };
        self.sandboxes.iter().map(held).collect()
    }

    /// Its heartbeat, sent at `sent`, was answered with `Pulse::Alive`, or its report accepted.
    pub(crate) fn renew(&mut self, sent: Timestamp, rules: &Rules, now: Timestamp, deeds: &mut Deeds) {
        self.answered = self.answered.max(sent);
        if !self.joined || !self.has_lease(rules, now) {
            return;
        }
        for (key, sandbox) in &mut self.sandboxes {
            if !sandbox.runs && !sandbox.over {
                sandbox.runs = true;
                deeds.started.push(key.clone());
            }
            if sandbox.leased && !sandbox.over {
                // What was being stopped for want of a lease may go on.
                sandbox.stops_at = None;
            }
        }
    }

    /// An order of `term` arrives.
    pub(crate) fn obey(
        &mut self,
        term: u64,
        order: Order,
        rules: &Rules,
        random: &mut Random,
        now: Timestamp,
        deeds: &mut Deeds,
    ) {
        if self.power && self.joined && term == self.term {
            match order {
                Order::Start(placement, life) => self.start(placement, life, rules, now, deeds),
                Order::End(held) => self.end(&held, random, now),
            }
        }
    }

    fn start(
        &mut self,
        placement: Placement,
        life: Option<i64>,
        rules: &Rules,
        now: Timestamp,
        deeds: &mut Deeds,
    ) {
        let Placement { instance, epoch, leased, .. } = placement;
        if self.ended.contains(&epoch) {
            return;
        }
        if let Some(sandbox) = self.sandboxes.get(&instance) {
            assert_eq!(sandbox.epoch, epoch, "{instance} was placed where an older one of it still is");
            return;
        }
        let runs = !leased || self.has_lease(rules, now);
        if runs {
            deeds.started.push(instance.clone());
        }
        let finishes_at = life.map(|seconds| now + SignedDuration::from_secs(seconds));
        self.sandboxes
            .insert(instance, Sandbox { epoch, leased, runs, stops_at: None, over: false, finishes_at });
    }

    fn end(&mut self, held: &Held, random: &mut Random, now: Timestamp) {
        self.ended.insert(held.epoch);
        let Some(sandbox) = self.sandboxes.get_mut(&held.instance).filter(|one| one.epoch == held.epoch)
        else {
            self.unheard.insert(held.clone());
            return;
        };
        sandbox.over = true;
        if sandbox.runs && sandbox.stops_at.is_none() {
            sandbox.stops_at = Some(now + SignedDuration::from_secs(i64::try_from(random.below(5)).unwrap()));
        }
    }

    /// The answer to a report of this term.
    pub(crate) fn told(
        &mut self,
        orders: &Orders,
        life: impl Fn(&InstanceKey) -> Option<i64>,
        rules: &Rules,
        random: &mut Random,
        now: Timestamp,
        deeds: &mut Deeds,
    ) {
        for held in &orders.end {
            self.end(held, random, now);
        }
        if orders.joined {
            self.joined = true;
            self.renew(now, rules, now, deeds);
            for placement in &orders.start {
                let life = life(&placement.instance);
                self.start(placement.clone(), life, rules, now, deeds);
            }
        }
    }

    /// What ends by itself: what is being stopped, what is over, and what has no lease any more.
    pub(crate) fn live(
        &mut self,
        finishes: bool,
        rules: &Rules,
        random: &mut Random,
        now: Timestamp,
        deeds: &mut Deeds,
    ) {
        let has_lease = self.has_lease(rules, now);
        let ending = self.by_clock(rules.ending).as_secs();
        for (key, sandbox) in &mut self.sandboxes {
            if finishes && sandbox.runs && sandbox.finishes_at.is_some_and(|at| at <= now) && !sandbox.over {
                sandbox.over = true;
                sandbox.stops_at = Some(now);
                self.ended.insert(sandbox.epoch);
                deeds.finished.push(key.clone());
            }
            if sandbox.runs && sandbox.leased && !has_lease && sandbox.stops_at.is_none() {
                let takes = i64::try_from(random.below(u64::try_from(ending).unwrap())).unwrap();
                sandbox.stops_at = Some(now + SignedDuration::from_secs(takes));
            }
            if sandbox.runs && sandbox.stops_at.is_some_and(|at| at <= now) {
                sandbox.runs = false;
                sandbox.stops_at = None;
                deeds.stopped.push(key.clone());
            }
        }
    }

    /// What it has ended and the server has not heard yet.
    pub(crate) fn to_tell(&self) -> Vec<Held> {
        let over = self.sandboxes.iter().filter(|(_, sandbox)| sandbox.over && !sandbox.runs);
        let over = over.map(|(key, sandbox)| Held { instance: key.clone(), epoch: sandbox.epoch });
        over.chain(self.unheard.iter().cloned()).collect()
    }

    /// The server has heard that.
    pub(crate) fn was_heard(&mut self, held: &Held) {
        self.unheard.remove(held);
        if self.sandboxes.get(&held.instance).is_some_and(|one| one.epoch == held.epoch) {
            self.sandboxes.remove(&held.instance);
        }
    }

    /// The machine stops dead.
    pub(crate) fn crash(&mut self, deeds: &mut Deeds) {
        self.power = false;
        self.joined = false;
        self.registered = false;
        self.unheard.clear();
        for (key, sandbox) in &mut self.sandboxes {
            sandbox.stops_at = None;
            if std::mem::take(&mut sandbox.runs) {
                deeds.stopped.push(key.clone());
            }
        }
    }
}
