//! How much of the server callers may have, before anybody knows who they are.
//!
//! Worst case in memory: each connection over TLS holds about 150 KiB (a head of [`HEAD_SIZE`], rustls' buffers), so a
//! single address with [`PER_ADDRESS`] of them holds 75 MiB. Callers that are known are bounded by what they may do.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A TLS handshake takes no longer.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// The head of a request arrives within this time: after the connection was made, and after its first byte.
pub(super) const HEAD: Duration = Duration::from_secs(10);
/// A connection without a request ends after this time.
pub(super) const IDLE: Duration = Duration::from_secs(75);
/// A body pauses for no longer.
pub(super) const BODY_PAUSE: Duration = Duration::from_secs(10);
/// A body has this time, and more as it comes: a second for each [`BODY_RATE`] bytes.
pub(super) const BODY_TIME: Duration = Duration::from_secs(20);
pub(super) const BODY_RATE: u64 = 8 << 10;
/// Somebody who takes nothing of an answer that is no stream, for this long, has gone.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// The head of a request. Also what is read at once of a body, and buffered of an answer.
pub(super) const HEAD_SIZE: u32 = 32 << 10;
/// The headers of a request.
pub(super) const HEADERS: usize = 100;
/// Requests at the same time on one HTTP/2 connection.
pub(super) const STREAMS: u32 = 64;
/// Connections over TCP, and over unix sockets.
pub(super) const OVERALL: usize = 2048;
/// Connections from one address; of IPv6, from one network of 64 bits, which is what one machine gets.
pub(super) const PER_ADDRESS: usize = 512;

/// True if the head of a request is larger than [`HEAD_SIZE`], of which HTTP/1 takes some more before it is parsed.
pub(crate) fn is_head_large<B>(request: &hyper::Request<B>) -> bool {
    let uri = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers = request.headers().iter();
    let size: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
    uri + size > HEAD_SIZE as usize
}

/// How long a large body may take beyond [`BODY_TIME`].
pub(crate) fn body_time(bytes: u64) -> Duration {
    Duration::from_secs(bytes / BODY_RATE)
}

/// The connections that there may be.
#[derive(Debug)]
pub(super) struct Slots {
    overall: usize,
    per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The right to one connection, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    address: Option<IpAddr>,
}

impl Slots {
    pub(super) fn new(overall: usize, per_address: usize) -> Arc<Slots> {
        Arc::new(Slots { overall, per_address, taken: Mutex::default() })
    }

    /// A slot for a caller from `address`, which is none for one that many are behind; `None` if there are too many.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let address = address.map(network);
        let same = address.map_or(0, |address| taken.by_address.get(&address).copied().unwrap_or(0));
        if taken.count >= self.overall || same >= self.per_address {
            return None;
        }
        taken.count += 1;
        if let Some(address) = address {
            taken.by_address.insert(address, same + 1);
        }
        Some(Slot { slots: Arc::clone(self), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.count -= 1;
        let Some(address) = self.address else { return };
        if let Some(same) = taken.by_address.get_mut(&address) {
            *same -= 1;
            if *same == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_the_slots_of_others() {
        let slots = Slots::new(3, 2);
        let take = |address: &str| slots.take(Some(address.parse().unwrap()));
        let first = take("2001:db8::1");
        let second = take("2001:db8::ffff:0:0:2");
        assert!(first.is_some() && second.is_some());
        assert!(take("2001:db8::3").is_none(), "a third of the same network");
        let other = take("192.0.2.1");
        assert!(other.is_some());
        assert!(take("192.0.2.2").is_none(), "a fourth overall");
        drop(first);
        assert!(take("2001:db8::3").is_some());
        drop((second, other));
        assert!(slots.taken.lock().unwrap().by_address.is_empty());
    }
}
