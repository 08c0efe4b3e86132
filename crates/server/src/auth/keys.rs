//! API keys as a server holds them in memory: looked up on every request, also while the database is away.
//!
//! What was revoked or has expired ends at once where it was revoked, and within [`REFRESH`] on other servers; with it end
//! the streams that were opened with it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chassis_spec::ApiKeyName;
use chassis_store::{ApiKey, ApiKeyUse, Store};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::token::Digest;
use crate::api::failure::Failure;
use crate::shared::lock;

/// How often the keys of the store are read again.
pub(super) const REFRESH: Duration = Duration::from_secs(2);
/// Somebody sends a key that is not known, because it was made on another server just now: keys are read again, this often.
const REFRESH_ON_MISS: Duration = Duration::from_millis(50);
/// Of so many keys that ended it is remembered that they were keys.
const ENDED_KNOWN: usize = 10_000;
/// When a key was last used is written down this often.
const USE_WRITTEN: SignedDuration = SignedDuration::from_mins(1);

/// A key that is valid.
#[derive(Debug)]
pub(crate) struct Key {
    pub(super) record: ApiKey,
    digest: Digest,
    /// Cancelled when it no longer is.
    pub(super) ended: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct KeyRing {
    /// By digest: of random bits, so that how long a look-up takes tells nothing of a key.
    keys: RwLock<HashMap<Vec<u8>, Arc<Key>>>,
    /// Digests of keys that were valid once.
    ended: Mutex<HashSet<Vec<u8>>>,
    refreshed: tokio::sync::Mutex<Option<Refreshed>>,
    uses: Mutex<HashMap<ApiKeyName, Use>>,
}

/// The last reading of the store's keys.
#[derive(Debug)]
struct Refreshed {
    begun: Instant,
    outcome: Result<(), Failure>,
}

/// What is known of somebody who sent a key.
pub(super) enum Found {
    Valid(Arc<Key>),
    /// It was revoked or has expired: nobody guesses such a key.
    Ended,
    Unknown,
    /// It may have been made a moment ago, and the store does not answer.
    NotLookedUp(Failure),
}

#[derive(Debug)]
struct Use {
    last: Timestamp,
    written: Option<Timestamp>,
}

impl Key {
    fn has_expired(&self, now: Timestamp) -> bool {
        self.record.expires_at.is_some_and(|at| at <= now)
    }
}

impl KeyRing {
    /// Looks for the key with this digest: in memory, and if it is not there in the store, where another server may have put it
    /// just now.
    pub(super) async fn find(&self, store: &dyn Store, digest: Digest, now: Timestamp) -> Found {
        let arrived = Instant::now();
        if self.known(digest).is_none() {
            if lock(&self.ended).contains(digest.as_bytes()) {
                return Found::Ended;
            }
            let mut refreshed = self.refreshed.lock().await;
            let last = refreshed.as_ref().map(|last| last.begun);
            // Of many that are asked about together, one reading tells; readings have a pause between them, however many ask.
            if last.is_none_or(|last| last < arrived) {
                let pause = last.and_then(|last| REFRESH_ON_MISS.checked_sub(last.elapsed()));
                tokio::time::sleep(pause.unwrap_or_default()).await;
                *refreshed = Some(self.read(store).await);
            }
            if let Some(Refreshed { outcome: Err(error), .. }) = &*refreshed {
                return Found::NotLookedUp(error.clone());
            }
        }
        let Some(key) = self.known(digest).filter(|key| key.digest == digest) else {
            let was_one = lock(&self.ended).contains(digest.as_bytes());
            return if was_one { Found::Ended } else { Found::Unknown };
        };
        if key.has_expired(now) {
            return Found::Ended;
        }
        let mut uses = lock(&self.uses);
        uses.entry(key.record.name.clone()).or_insert(Use { last: now, written: None }).last = now;
        drop(uses);
        Found::Valid(key)
    }

    fn known(&self, digest: Digest) -> Option<Arc<Key>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(digest.as_bytes()).cloned()
    }

    /// Reads the store's keys. While it does not answer those that are known stay.
    pub(super) async fn refresh(&self, store: &dyn Store) {
        let mut refreshed = self.refreshed.lock().await;
        *refreshed = Some(self.read(store).await);
    }

    async fn read(&self, store: &dyn Store) -> Refreshed {
        let begun = Instant::now();
        let outcome = match store.api_key_list().await {
            Ok(records) => {
                self.take_over(records);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "cannot read the API keys");
                Err(Failure::from(error))
            }
        };
        Refreshed { begun, outcome }
    }

    fn take_over(&self, records: Vec<ApiKey>) {
        let now = Timestamp::now();
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *keys);
        for record in records.into_iter().filter(|record| record.revoked_at.is_none()) {
            let Some(digest) = Digest::from_bytes(&record.hash) else { continue };
            let key = match before.remove(&record.hash) {
                Some(known) if known.record.grant == record.grant => known,
                // What was opened while it could do more ends.
                Some(known) => {
                    known.ended.cancel();
                    Arc::new(Key { record, digest, ended: CancellationToken::new() })
                }
                None => Arc::new(Key { record, digest, ended: CancellationToken::new() }),
            };
            if key.has_expired(now) {
                self.end(&key);
            } else {
                keys.insert(key.record.hash.clone(), key);
            }
        }
        for gone in before.values() {
            self.end(gone);
        }
    }

    fn end(&self, key: &Key) {
        key.ended.cancel();
        let mut ended = lock(&self.ended);
        if ended.len() >= ENDED_KNOWN {
            // Which of them are forgotten matters little: they count as unknown.
            ended.clear();
        }
        ended.insert(key.record.hash.clone());
    }

    /// Ends what has expired.
    pub(super) fn sweep(&self, now: Timestamp) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, key| {
            let valid = !key.has_expired(now);
            if !valid {
                self.end(key);
            }
            valid
        });
    }

    /// Writes down when keys were last used, of each at most once in [`USE_WRITTEN`].
    pub(super) async fn write_uses(&self, store: &dyn Store, now: Timestamp) {
        let mut due = Vec::new();
        {
            let mut uses = lock(&self.uses);
            for (name, used) in uses.iter_mut() {
                let is_new = used
                    .written
                    .is_none_or(|written| used.last > written && now.duration_since(written) >= USE_WRITTEN);
                if is_new {
                    used.written = Some(used.last);
                    due.push(ApiKeyUse { name: name.clone(), at: used.last });
                }
            }
            uses.retain(|_, used| now.duration_since(used.last) < USE_WRITTEN);
        }
        if !due.is_empty()
            && let Err(error) = store.api_key_used(due).await
        {
            tracing::debug!(%error, "cannot write down when API keys were used");
        }
    }
}
