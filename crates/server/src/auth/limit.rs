//! How often somebody may do something; in memory, and bounded however many there are.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use chassis_core::rate::{Bucket, Rate};
use jiff::{SignedDuration, Timestamp};

use crate::shared::lock;

/// Of so many the use is remembered.
const MOST: usize = 10_000;

#[derive(Debug)]
pub(super) struct Limiter<K> {
    rate: Rate,
    /// Only those that are not full.
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K: Eq + Hash + Clone> Limiter<K> {
    pub(super) fn new(rate: Rate) -> Self {
        Limiter { rate, buckets: Mutex::default() }
    }

    /// Takes one, or says how long to wait for it.
    pub(super) fn take(&self, key: &K, now: Timestamp) -> Result<(), SignedDuration> {
        let mut buckets = lock(&self.buckets);
        if buckets.len() >= MOST && !buckets.contains_key(key) {
            make_room(&mut buckets, now);
        }
        buckets.entry(key.clone()).or_insert_with(|| Bucket::new(now)).take(self.rate, now)
    }

    /// How long to wait before there is one, if there is none now. Takes nothing.
    pub(super) fn wait(&self, key: &K, now: Timestamp) -> Option<SignedDuration> {
        let next = lock(&self.buckets).get(key)?.next_at(self.rate);
        (next > now).then(|| next.duration_since(now))
    }

    /// Forgets those that are full again.
    pub(super) fn sweep(&self, now: Timestamp) {
        lock(&self.buckets).retain(|_, bucket| bucket.full_at > now);
    }
}

/// Whoever used least of theirs loses nothing that matters.
fn make_room<K: Eq + Hash>(buckets: &mut HashMap<K, Bucket>, now: Timestamp) {
    buckets.retain(|_, bucket| bucket.full_at > now);
    if buckets.len() >= MOST {
        let mut times: Vec<Timestamp> = buckets.values().map(|bucket| bucket.full_at).collect();
        let (_, median, _) = times.select_nth_unstable(MOST / 2);
        let median = *median;
        buckets.retain(|_, bucket| bucket.full_at > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_callers_take_no_more_memory_than_some() {
        let limiter = Limiter::new(Rate { period: SignedDuration::from_secs(60), burst: 2 });
        let now = Timestamp::now();
        for _ in 0..2 {
            assert!(limiter.take(&usize::MAX, now).is_ok());
        }
        for caller in 0..5 * MOST {
            assert!(limiter.take(&caller, now).is_ok());
            assert!(lock(&limiter.buckets).len() <= MOST);
        }
        let later = now + SignedDuration::from_secs(130);
        limiter.sweep(later);
        assert!(lock(&limiter.buckets).is_empty());
        assert!(limiter.wait(&0, later).is_none());
    }
}
