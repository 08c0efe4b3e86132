//! API keys as a server holds them in memory: looked up on every request, also while the database is away.
//!
//! What was revoked or has expired ends at once where it was revoked, and within [`REFRESH`] on other servers; with it end
//! the streams that were opened with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chassis_spec::ApiKeyName;
use chassis_store::{ApiKey, ApiKeyUse, Store};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::token::Digest;
use crate::shared::lock;

/// How often the keys of the store are read again.
pub(super) const REFRESH: Duration = Duration::from_secs(2);
/// Somebody sends a key that is not known, because it was made on another server just now: keys are read again, this often.
const REFRESH_ON_MISS: Duration = Duration::from_millis(50);
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
    refreshed: tokio::sync::Mutex<Option<Instant>>,
    uses: Mutex<HashMap<ApiKeyName, Use>>,
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
    /// The key with this digest, if it is valid.
    pub(super) async fn find(&self, store: &dyn Store, digest: Digest, now: Timestamp) -> Option<Arc<Key>> {
        let mut found = self.known(digest);
        if found.is_none() {
            let asked = Instant::now();
            let mut refreshed = self.refreshed.lock().await;
            // Of many that are asked about together, one reading tells; readings have a pause between them, however many ask.
            if refreshed.is_none_or(|at| at < asked) {
                let pause = refreshed.and_then(|at| REFRESH_ON_MISS.checked_sub(at.elapsed()));
                tokio::time::sleep(pause.unwrap_or_default()).await;
                self.read(store, &mut refreshed).await;
            }
            found = self.known(digest);
        }
        let key = found.filter(|key| key.digest == digest && !key.has_expired(now))?;
        let mut uses = lock(&self.uses);
        uses.entry(key.record.name.clone()).or_insert(Use { last: now, written: None }).last = now;
        Some(key)
    }

    fn known(&self, digest: Digest) -> Option<Arc<Key>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(digest.as_bytes()).cloned()
    }

    /// Reads the store's keys. While it does not answer those that are known stay.
    pub(super) async fn refresh(&self, store: &dyn Store) {
        let mut refreshed = self.refreshed.lock().await;
        self.read(store, &mut refreshed).await;
    }

    /// Notes when it began: what was there before then is known afterwards.
    async fn read(&self, store: &dyn Store, refreshed: &mut Option<Instant>) {
        *refreshed = Some(Instant::now());
        let records = match store.api_key_list().await {
            Ok(records) => records,
            Err(error) => {
                tracing::debug!(%error, "cannot read the API keys");
                return;
            }
        };
        let now = Timestamp::now();
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *keys);
        for record in records {
            let Some(digest) = Digest::from_bytes(&record.hash) else { continue };
            let key = match before.remove(&record.hash) {
                Some(known) => known,
                None => Arc::new(Key { record, digest, ended: CancellationToken::new() }),
            };
            if key.has_expired(now) {
                key.ended.cancel();
            } else {
                keys.insert(key.record.hash.clone(), key);
            }
        }
        for gone in before.values() {
            gone.ended.cancel();
        }
    }

    /// Ends what has expired.
    pub(super) fn sweep(&self, now: Timestamp) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, key| {
            let valid = !key.has_expired(now);
            if !valid {
                key.ended.cancel();
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
