//! Instances: how they come to a place and leave it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::key::InstanceKey;
use crate::node::{Amounts, NodeName};

use super::error::Error;
use super::gates::{Refused, unfit};
use super::request::{Data, Demand, Next, Placement, Request, Standing, Submitted, Tracked, Wait};
use super::score::choose;
use super::{Change, Freed, Scheduler, share_of};

impl Scheduler {
    /// Finds a place for an instance that has none. Those who wait are served first: nobody gets past them.
    pub fn submit(&mut self, request: Request, now: Timestamp) -> Result<Submitted, Error> {
        let found = self.find(&request)?;
        let key = request.instance.clone();
        let Some(node) = found else {
            return match request.wait {
                Wait::No => Err(Error::NoPlace(self.refused(&request))),
                _ if self.queue.len() >= self.rules.queue_most => {
                    Err(Error::QueueFull { queued: self.queue.len() })
                }
                Wait::Until(_) | Wait::Always => {
                    self.wait(request, now);
                    Ok(Submitted::Waiting)
                }
            };
        };
        self.instances.insert(key.clone(), Tracked::waiting(request));
        self.book(&key, &node);
        Ok(Submitted::Placed(self.place(&key, node)))
    }

    /// Ends an instance for good, wherever it stands. Its room comes back once its node has said that it has ended.
    pub fn instance_end(&mut self, key: &InstanceKey) -> Result<(), Error> {
        let tracked = self.instances.get_mut(key).ok_or_else(|| Error::UnknownInstance(key.clone()))?;
        match tracked.standing.clone() {
            Standing::Waiting => {
                self.unqueue(key);
                self.forget(key);
            }
            Standing::Reserved { id } => self.reservation_drop(id),
            Standing::Ending { next: Next::Forget, .. } => {}
            Standing::Placed { .. } => self.begin_ending(key, Next::Forget),
            Standing::Ending { next: Next::Move { reservation }, .. } => {
                if let Some(id) = reservation {
                    self.reservation_drop(id);
                }
                self.begin_ending(key, Next::Forget);
            }
        }
        Ok(())
    }

    /// A node says that it has ended this placement, or never had it, and will not start it any more. One that nobody asked
    /// for is over by itself. Says whether that was news.
    pub fn instance_ended(&mut self, key: &InstanceKey, epoch: u64, now: Timestamp) -> bool {
        let standing = self.instances.get(key).map(|tracked| &tracked.standing);
        let next = match standing {
            Some(Standing::Placed { epoch: placed, .. }) if *placed == epoch => Next::Forget,
            Some(Standing::Ending { epoch: placed, next, .. }) if *placed == epoch => *next,
            _ => return false,
        };
        self.leave(key, next, now);
        true
    }

    /// Whoever carries placements out has never had this one started, and never will: nothing of it runs, or will, whatever
    /// its node still gets to hear. So it is placed elsewhere at once, even while that node is silent; should a container be
    /// there when it is back, that is none of the node's own any more, and ended. Nobody can know that of a placement that
    /// came from another book: such a one stays. Says whether it was given up.
    pub fn instance_withdraw(&mut self, key: &InstanceKey, epoch: u64, now: Timestamp) -> bool {
        if !self.can_withdraw(key, epoch) {
            return false;
        }
        if let Some(Tracked { request, standing: Standing::Placed { node, .. }, .. }) =
            self.instances.get_mut(key)
            && request.demand.home() == Some(node)
        {
            // What never ran has no data.
            Arc::make_mut(&mut request.demand).data = Data::Unborn;
        }
        self.leave(key, Next::Move { reservation: None }, now);
        true
    }

    /// True of a placement of this book.
    pub fn can_withdraw(&self, key: &InstanceKey, epoch: u64) -> bool {
        let standing = self.instances.get(key).map(|tracked| &tracked.standing);
        epoch > self.first
            && matches!(standing, Some(Standing::Placed { epoch: placed, .. }) if *placed == epoch)
    }

    /// True if a node could take the request now. Whoever is first gets it.
    pub fn fits(&self, request: &Request) -> bool {
        self.seek(&request.demand, &request.instance, None).is_some()
    }

    /// What each node lacks for the request.
    pub fn refused(&self, request: &Request) -> Refused {
        let reason = |name: &NodeName| unfit(&self.nodes[name], &request.demand, &request.instance);
        let nodes = self.nodes.keys().filter_map(|name| reason(name).map(|unfit| (name.clone(), unfit)));
        Refused { instance: request.instance.clone(), nodes: nodes.collect() }
    }

    /// A node for a request that is new, unless somebody who asks for the same waits already.
    pub(super) fn find(&mut self, request: &Request) -> Result<Option<NodeName>, Error> {
        if self.instances.contains_key(&request.instance) {
            return Err(Error::AlreadyKnown(request.instance.clone()));
        }
        self.dispatch();
        if self.queue.has_line(request) {
            return Ok(None);
        }
        Ok(self.seek(&request.demand, &request.instance, None))
    }

    /// The best node, of all or of some.
    pub(super) fn seek(
        &self,
        demand: &Demand,
        instance: &InstanceKey,
        among: Option<&BTreeSet<NodeName>>,
    ) -> Option<NodeName> {
        let strategy = demand.strategy.unwrap_or(self.rules.strategy);
        let chosen = match (demand.home().or(demand.node.as_ref()), among) {
            (Some(only), _) => choose(self.nodes.get(only).into_iter(), demand, instance, strategy),
            (None, None) => choose(self.nodes.values(), demand, instance, strategy),
            (None, Some(names)) => {
                choose(names.iter().filter_map(|name| self.nodes.get(name)), demand, instance, strategy)
            }
        };
        chosen.map(|node| node.spec.name.clone())
    }

    /// Gives the room that was freed to those who wait, in their turn.
    pub(super) fn dispatch(&mut self) {
        // Whoever is placed where a node was kept free for it frees the rest of that node for the others.
        while !self.queue.is_empty() && !self.freed.is_empty() {
            let freed = std::mem::take(&mut self.freed);
            self.dispatch_round(&freed);
        }
        self.freed = Freed::default();
    }

    fn dispatch_round(&mut self, freed: &Freed) {
        let among = (!freed.all).then_some(&freed.nodes);
        let mut round = self.queue.round(|tenant| self.share(tenant));
        let mut full: BTreeSet<Arc<Demand>> = BTreeSet::new();
        loop {
            let (tenants, capacity) = (&self.tenants, self.capacity);
            let share = |tenant: &str| share_of(tenants, tenant, capacity);
            let Some(line) = self.queue.turn(&mut round, share) else { return };
            let Some(key) = self.queue.head(&line).map(|entry| entry.instance.clone()) else { continue };
            // What does not fit for one does not for another who asks for the same, but if a node is kept free for them.
            if full.contains(&line.demand) && !self.claims.contains_key(&key) {
                continue;
            }
            let Some(node) = self.seek(&line.demand, &key, among) else {
                full.insert(line.demand.clone());
                continue;
            };
            self.unqueue(&key);
            self.book(&key, &node);
            self.place(&key, node);
            let share = self.share(&line.tenant);
            self.queue.again(&mut round, line, share);
        }
    }

    /// Lets an instance without a place wait for one.
    pub(super) fn wait(&mut self, request: Request, now: Timestamp) {
        self.queue.add(&request, now);
        let instance = request.instance.clone();
        self.changes.push(Change::Queued { instance: instance.clone() });
        self.instances.insert(instance, Tracked::waiting(request));
    }

    pub(super) fn waiting_give_up(&mut self, now: Timestamp) {
        for key in self.queue.overdue(now) {
            self.unqueue(&key);
            if let Some(tracked) = self.instances.remove(&key) {
                let refused = self.refused(&tracked.request);
                self.changes.push(Change::GaveUp(refused));
            }
        }
    }

    /// Takes an instance out of the queue, with what it kept free.
    pub(super) fn unqueue(&mut self, key: &InstanceKey) {
        self.queue.remove(key);
        self.claim_lift(key);
    }

    /// Takes the room of an instance on a node.
    pub(super) fn book(&mut self, key: &InstanceKey, node: &NodeName) {
        let Some(tracked) = self.instances.get(key) else { return };
        let (amounts, ends) = (tracked.request.demand.amounts, tracked.request.ends);
        let tenant = tracked.request.tenant.clone();
        let tenant = self.tenant(&tenant);
        tenant.used = tenant.used.plus(amounts);
        if let Some(node) = self.nodes.get_mut(node) {
            node.book(key, amounts, ends);
        }
    }

    /// Gives it back.
    pub(super) fn unbook(&mut self, key: &InstanceKey, node: &NodeName) {
        let Some(tracked) = self.instances.get(key) else { return };
        let (amounts, ends) = (tracked.request.demand.amounts, tracked.request.ends);
        let tenant = tracked.request.tenant.clone();
        let share = self.tenant(&tenant);
        share.used = share.used.minus(amounts);
        if share.used == Amounts::default() && share.weight == 1 {
            self.tenants.remove(&tenant);
        }
        if let Some(node) = self.nodes.get_mut(node) {
            node.unbook(key, amounts, ends);
        }
        self.freed.nodes.insert(node.clone());
    }

    /// Gives an instance the place that is booked for it.
    pub(super) fn place(&mut self, key: &InstanceKey, node: NodeName) -> Placement {
        let epoch = self.draw();
        let lends = self.lends(&node);
        let mut placement = Placement { instance: key.clone(), node, epoch, leased: false };
        if let Some(tracked) = self.instances.get_mut(key) {
            placement.leased = lends && tracked.request.moves();
            tracked.leased = placement.leased;
            tracked.standing = Standing::Placed { node: placement.node.clone(), epoch };
            if tracked.request.demand.data == Data::Unborn {
                Arc::make_mut(&mut tracked.request.demand).data = Data::On(placement.node.clone());
            }
        }
        self.changes.push(Change::Placed(placement.clone()));
        placement
    }

    pub(super) fn begin_ending(&mut self, key: &InstanceKey, next: Next) {
        let Some(tracked) = self.instances.get_mut(key) else { return };
        let Some((node, epoch)) = tracked.standing.place().map(|(node, epoch)| (node.clone(), epoch)) else {
            return;
        };
        tracked.standing = Standing::Ending { node: node.clone(), epoch, next };
        let leased = tracked.leased;
        self.changes.push(Change::Ending { instance: key.clone(), node, epoch, leased, next });
    }

    /// An instance has ended, or its node is down: its room is free, and it goes its way.
    pub(super) fn leave(&mut self, key: &InstanceKey, next: Next, now: Timestamp) {
        let Some((node, _)) = self.instances.get(key).and_then(|tracked| tracked.standing.place()) else {
            return;
        };
        let node = node.clone();
        self.unbook(key, &node);
        self.drained_tell(&node);
        match next {
            Next::Forget => self.forget(key),
            Next::Move { reservation } => match reservation.and_then(|id| self.reservations.remove(&id)) {
                Some(held) => {
                    self.place(key, held.node);
                }
                None => self.requeue(key, now),
            },
        }
    }

    fn requeue(&mut self, key: &InstanceKey, now: Timestamp) {
        if let Some(Tracked { request, .. }) = self.instances.remove(key) {
            // Nobody waits for the answer any more; an instance that was placed once is not given up.
            self.wait(Request { wait: Wait::Always, ..request }, now);
            self.freed.all = true;
        }
    }

    pub(super) fn forget(&mut self, key: &InstanceKey) {
        self.instances.remove(key);
        self.changes.push(Change::Forgotten { instance: key.clone() });
    }
}

impl Freed {
    fn is_empty(&self) -> bool {
        !self.all && self.nodes.is_empty()
    }
}
