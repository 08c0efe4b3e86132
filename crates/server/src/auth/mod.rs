//! Who calls, and what they may do.
//!
//! [`guard()`] is the layer that every request passes, and the only way to a handler. Who calls is known by a token, or on
//! the unix socket by the user of the process; what they may do is decided by `chassis_core::access`. Handlers of routes
//! that are about several fleets ask their [`Caller`] for each of them. What is changed, and what is denied, is in the
//! audit log.

mod caller;
mod guard;
mod keys;
mod limit;
mod options;
mod peer;
mod refusal;
mod session;
mod token;
mod trail;
mod verify;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chassis_core::rate::Rate;
use chassis_core::{Cidr, Grant, Reach, Role};
use chassis_spec::ApiKeyName;
use chassis_store::{ApiKey, Store};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

pub(crate) use caller::{Caller, Identity};
pub(crate) use guard::guard;
pub use options::AccessOptions;
pub(crate) use peer::Peer;
pub(crate) use session::{SESSION_COOKIE, SESSION_SECONDS};
pub(crate) use verify::verify;

use crate::api::failure::Failure;
use crate::error::Result;
use crate::shared::Shared;
use keys::{Found, KeyRing};
use limit::Limiter;
use session::Sessions;
use token::Digest;
pub(crate) use token::{generate as generate_token, of_node as node_token, random_id};
use trail::Trail;

/// So many wrong tokens from one address, and then one in each period.
const FAILURES: Rate = Rate { period: SignedDuration::from_secs(6), burst: 10 };
/// A key may make so many seconds' worth of requests at once.
const BURST: u32 = 5;
const SWEEP: Duration = Duration::from_secs(1);

/// What the server knows of those who may call.
#[derive(Debug)]
pub(crate) struct Auth {
    own_uid: u32,
    master: Option<Digest>,
    allow_from: Vec<Cidr>,
    trusted_proxies: Vec<Cidr>,
    keys: KeyRing,
    sessions: Sessions,
    failures: Limiter<IpAddr>,
    /// None if keys may call as often as they like.
    rates: Option<Limiter<ApiKeyName>>,
    trail: Trail,
    audit_kept: SignedDuration,
}

impl Auth {
    /// `token_file` has the master token if the options have none; where one is `needed` it is made.
    pub(crate) async fn open(
        options: &AccessOptions,
        store: &Arc<dyn Store>,
        token_file: &Path,
        needed: bool,
    ) -> Result<Auth> {
        let keys = KeyRing::default();
        keys.refresh(&**store).await;
        let period =
            SignedDuration::from_secs(1).checked_div(options.rate_limit.try_into().unwrap_or(i32::MAX));
        let rate = period.map(|period| Rate { period, burst: options.rate_limit.saturating_mul(BURST) });
        Ok(Auth {
            own_uid: rustix::process::geteuid().as_raw(),
            master: token::master(options.master_token.as_ref(), token_file, needed)?,
            allow_from: options.allow_from.clone(),
            trusted_proxies: options.trusted_proxies.clone(),
            keys,
            sessions: Sessions::default(),
            failures: Limiter::new(FAILURES),
            rates: rate.map(Limiter::new),
            trail: Trail::new(Arc::clone(store)),
            audit_kept: options.audit_kept,
        })
    }

    /// Whose token it is.
    async fn identify(&self, store: &dyn Store, token: &str, now: Timestamp) -> Whose {
        let digest = Digest::of(token);
        if self.master.as_ref().is_some_and(|master| *master == digest) {
            return Whose::Caller(Identity::master("the master token"));
        }
        match self.keys.find(store, digest, now).await {
            Found::Valid(key) => Whose::Caller(Identity {
                name: format!("key {} ({})", key.record.name, key.record.prefix),
                grant: key.record.grant.clone(),
                key: Some(key),
            }),
            Found::Ended => Whose::Former,
            Found::Unknown => Whose::Nobody,
            Found::NotLookedUp(failure) => Whose::Perhaps(failure),
        }
    }

    /// Makes a key, and returns it with the token that nobody will ever see again.
    pub(crate) async fn key_create(
        &self,
        store: &dyn Store,
        name: ApiKeyName,
        grant: Grant,
        expires_at: Option<Timestamp>,
        created_by: &str,
    ) -> std::result::Result<(ApiKey, Zeroizing<String>), KeyFailure> {
        let key = NewKey { name, label: None, grant, expires_at, created_by };
        self.key_keep(store, token::KEY_MARK, key).await
    }

    /// Makes a key for programs of Fuse's, with a name of its own.
    pub(crate) async fn key_create_labelled(
        &self,
        store: &dyn Store,
        label: Option<String>,
        grant: Grant,
        expires_at: Option<Timestamp>,
        created_by: &str,
    ) -> std::result::Result<(ApiKey, Zeroizing<String>), KeyFailure> {
        let name = format!("ak-{:016x}", rand::random::<u64>());
        let name = name.parse().map_err(|_| KeyFailure::NoRandomness)?;
        let key = NewKey { name, label, grant, expires_at, created_by };
        self.key_keep(store, token::FUSE_KEY_MARK, key).await
    }

    async fn key_keep(
        &self,
        store: &dyn Store,
        mark: &str,
        new: NewKey<'_>,
    ) -> std::result::Result<(ApiKey, Zeroizing<String>), KeyFailure> {
        let (token, prefix) = token::generate_key(mark).map_err(|_| KeyFailure::NoRandomness)?;
        let key = ApiKey {
            name: new.name,
            prefix,
            hash: Digest::of(&token).as_bytes().to_vec(),
            grant: new.grant,
            created_at: Timestamp::now(),
            created_by: new.created_by.to_owned(),
            expires_at: new.expires_at,
            last_used_at: None,
            label: new.label,
            revoked_at: None,
        };
        store.api_key_create(&key).await.map_err(KeyFailure::Store)?;
        self.keys.refresh(store).await;
        Ok((key, token))
    }

    /// Reads again what keys may do, before there is something that they may not.
    pub(crate) async fn keys_refresh(&self, store: &dyn Store) {
        self.keys.refresh(store).await;
    }

    /// As [`Auth::key_revoke`], and it stays in the list.
    pub(crate) async fn key_revoke_listed(
        &self,
        store: &dyn Store,
        name: &ApiKeyName,
    ) -> chassis_store::Result<()> {
        store.api_key_revoke(name).await?;
        self.keys.refresh(store).await;
        Ok(())
    }

    /// Revokes a key. When this returns nobody is let in with it, and what was opened with it ends.
    pub(crate) async fn key_revoke(&self, store: &dyn Store, name: &ApiKeyName) -> chassis_store::Result<()> {
        store.api_key_delete(name).await?;
        self.keys.refresh(store).await;
        Ok(())
    }
}

/// Whose a token is.
enum Whose {
    Caller(Identity),
    /// Of somebody whose key has ended.
    Former,
    Nobody,
    /// It cannot be looked up just now.
    Perhaps(Failure),
}

/// A key that is to be.
struct NewKey<'a> {
    name: ApiKeyName,
    label: Option<String>,
    grant: Grant,
    expires_at: Option<Timestamp>,
    created_by: &'a str,
}

/// Why a key was not made.
#[derive(Debug)]
pub(crate) enum KeyFailure {
    NoRandomness,
    Store(chassis_store::Error),
}

impl Identity {
    /// Whoever knows the master token.
    fn master(name: &str) -> Identity {
        Identity { name: name.to_owned(), grant: Grant::FULL, key: None }
    }

    /// A process of the server's own user, or of root.
    fn local(uid: u32) -> Identity {
        Identity { name: format!("uid {uid}"), grant: Grant::FULL, key: None }
    }

    /// A process of somebody in the group whose socket it came by.
    fn member(uid: u32, role: Role) -> Identity {
        Identity { name: format!("uid {uid}"), grant: Grant { role, reach: Reach::All }, key: None }
    }
}

/// Keeps what is known of callers up to date, for as long as there is a server.
pub(crate) async fn look_after(shared: Arc<Shared>) {
    let (auth, store) = (&shared.auth, &*shared.store);
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut refreshed, mut pruned) = (std::time::Instant::now(), None::<std::time::Instant>);
    loop {
        ticks.tick().await;
        let now = Timestamp::now();
        auth.keys.sweep(now);
        auth.failures.sweep(now);
        if let Some(rates) = &auth.rates {
            rates.sweep(now);
        }
        auth.trail.sweep(now);
        if refreshed.elapsed() >= keys::REFRESH {
            auth.keys.refresh(store).await;
            refreshed = std::time::Instant::now();
        }
        auth.keys.write_uses(store, now).await;
        if pruned.is_none_or(|at| at.elapsed() >= trail::PRUNE) {
            pruned = Some(std::time::Instant::now());
            let oldest = now.checked_sub(auth.audit_kept).unwrap_or(Timestamp::UNIX_EPOCH);
            if let Err(error) = store.audit_prune(oldest).await {
                tracing::warn!(%error, "cannot take the oldest rows out of the audit log");
            }
        }
    }
}
