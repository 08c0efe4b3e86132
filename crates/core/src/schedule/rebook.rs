//! What an instance takes where it is, when a new revision of it asks for something else.
//!
//! The room is booked before its container gets it, so that nothing is given twice. What the node has no room for is not
//! booked, and the instance goes on with what it has: it is not taken from its place for a wish. One that has no container
//! gives the place up instead, if its data lets it, and waits for another one.

use std::sync::Arc;

use jiff::Timestamp;

use crate::key::InstanceKey;

use super::gates::Unfit;
use super::request::{Data, Demand, Next, Placement, Request, Standing};
use super::{Change, Scheduler};

/// What an instance has where it is, of what it asks for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    None,
    /// It has less than it is to have.
    Less,
    /// It has what it is to have.
    Same,
}

/// Why it cannot have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cramped {
    /// Its node lacks this.
    Lacks(Unfit),
    /// It has this place no more, or not for long.
    Leaves,
}

impl Scheduler {
    /// Books what an instance is to have from now on in the place of this epoch; its data is at home there, if it had none
    /// before. Unless that is refused, its container may be given it.
    pub fn instance_rebook(
        &mut self,
        request: Request,
        epoch: u64,
        container: Container,
        now: Timestamp,
    ) -> Result<(), Cramped> {
        let key = request.instance.clone();
        let tracked = self.instances.get(&key).ok_or(Cramped::Leaves)?;
        let name = match &tracked.standing {
            Standing::Placed { node, epoch: placed } if *placed == epoch => node.clone(),
            _ => return Err(Cramped::Leaves),
        };
        let (before, leased) = (Arc::clone(&tracked.request.demand), tracked.leased);
        let node = self.nodes.get(&name).ok_or(Cramped::Leaves)?;
        let mut demand = Demand::clone(&request.demand);
        let capacity = node.spec.capacity;
        let others = node.used.minus(before.amounts);
        let grows = if before.amounts == demand.amounts {
            // A book that was made anew counts what is asked for, also where somebody waits for room.
            container == Container::Less
        } else {
            !before.amounts.covers(demand.amounts)
        };
        let lacking = match &demand.data {
            Data::On(home) if *home != name => Some(Unfit::NoData { on: home.clone() }),
            _ if grows && !capacity.covers(others.plus(demand.amounts)) => {
                Some(Unfit::Full { missing: demand.amounts.minus(capacity.minus(others)) })
            }
            _ => None,
        };
        if let Some(lacking) = lacking {
            if container == Container::None && demand.home() != Some(&name) {
                self.leave(&key, Next::Move { reservation: None }, now);
                self.unqueue(&key);
                self.wait(request, now);
                return Err(Cramped::Leaves);
            }
            return Err(Cramped::Lacks(lacking));
        }
        if demand.data == Data::Unborn {
            demand.data = Data::On(name.clone());
        }
        if demand != *before {
            self.rebook(&key, &name, Arc::new(demand));
            self.changes.push(Change::Placed(Placement { instance: key, node: name, epoch, leased }));
        }
        Ok(())
    }

    fn rebook(&mut self, key: &InstanceKey, node: &crate::node::NodeName, demand: Arc<Demand>) {
        self.unbook(key, node);
        if let Some(tracked) = self.instances.get_mut(key) {
            tracked.request.demand = demand;
        }
        self.book(key, node);
    }
}
