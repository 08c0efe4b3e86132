//! Places that are held for an instance before anything is made of it: reserve, then confirm or release.
//!
//! What is reserved is booked like what is placed, so nobody else can have it, and counts for one instance, which cannot
//! reserve twice. It is in no store: a server that takes over knows of none, and no node was told of any.

use jiff::Timestamp;

use crate::instance::later;
use crate::key::InstanceKey;
use crate::node::NodeName;

use super::Scheduler;
use super::error::Error;
use super::request::{Next, Placement, Request, Reservation, Standing, Tracked};

impl Scheduler {
    /// Holds a place for an instance that has none, for [`super::Rules::reservation`]. Does not wait.
    pub fn reserve(&mut self, request: Request, now: Timestamp) -> Result<Reservation, Error> {
        let found = self.find(&request)?;
        let Some(node) = found else { return Err(Error::NoPlace(self.refused(&request))) };
        let key = request.instance.clone();
        self.instances.insert(key.clone(), Tracked::waiting(request));
        let reservation = self.reservation_make(&key, node, now);
        if let Some(tracked) = self.instances.get_mut(&key) {
            tracked.standing = Standing::Reserved { id: reservation.id };
        }
        Ok(reservation)
    }

    /// Makes a reservation a place.
    pub fn confirm(&mut self, id: u64, now: Timestamp) -> Result<Placement, Error> {
        self.reservations_expire(now);
        let standing = self
            .reservations
            .get(&id)
            .and_then(|held| self.instances.get(&held.instance))
            .map(|tracked| &tracked.standing);
        if !matches!(standing, Some(Standing::Reserved { .. })) {
            return Err(Error::NotReserved(id));
        }
        let held = self.reservations.remove(&id).ok_or(Error::NotReserved(id))?;
        Ok(self.place(&held.instance, held.node))
    }

    /// Gives a reservation back. One that is gone already is fine; one that was confirmed is an instance, and stays.
    pub fn release(&mut self, id: u64) {
        self.reservation_drop(id);
    }

    pub(super) fn reservation_make(
        &mut self,
        key: &InstanceKey,
        node: NodeName,
        now: Timestamp,
    ) -> Reservation {
        self.book(key, &node);
        let id = self.draw();
        let expires_at = later(now, self.rules.reservation);
        let reservation = Reservation { id, instance: key.clone(), node, expires_at };
        self.reservations.insert(id, reservation.clone());
        reservation
    }

    /// Takes a reservation away; an instance that was to move to it has none any more, one that was only reserved is
    /// forgotten.
    pub(super) fn reservation_drop(&mut self, id: u64) {
        let Some(held) = self.reservations.remove(&id) else { return };
        self.unbook(&held.instance, &held.node);
        let Some(tracked) = self.instances.get_mut(&held.instance) else { return };
        match &mut tracked.standing {
            Standing::Ending { next: Next::Move { reservation }, .. } => *reservation = None,
            Standing::Reserved { .. } => {
                self.instances.remove(&held.instance);
            }
            Standing::Waiting | Standing::Placed { .. } | Standing::Ending { .. } => {}
        }
    }

    pub(super) fn reservations_expire(&mut self, now: Timestamp) {
        let over = self.reservations.values().filter(|held| held.expires_at <= now && self.expires(held));
        for id in over.map(|held| held.id).collect::<Vec<_>>() {
            self.reservation_drop(id);
        }
    }

    /// True of one that somebody may forget to confirm. The place of an instance that is still ending elsewhere is held for
    /// as long as that takes.
    pub(super) fn expires(&self, held: &Reservation) -> bool {
        let tracked = self.instances.get(&held.instance);
        !tracked.is_some_and(|tracked| matches!(tracked.standing, Standing::Ending { .. }))
    }
}
