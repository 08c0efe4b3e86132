//! Sessions of browsers: a random word that stands for the master token, so that the token itself is in no cookie.
//!
//! They are in memory: a server that starts anew knows none, and whoever had one logs in again.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::http::{HeaderMap, StatusCode, header};
use chassis_core::cidr::household;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::guard::real_address;
use super::token::{Digest, generate};
use super::{Auth, Identity, Peer};
use crate::api::failure::Failure;
use crate::shared::lock;

/// The cookie that a session is in.
pub(crate) const SESSION_COOKIE: &str = "fuse_session";
/// How long one lasts: a week.
pub(crate) const SESSION_SECONDS: i64 = 604_800;
/// Of more the oldest are forgotten.
const MOST: usize = 1_000;

/// When each ends, by the digest of its word.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Vec<u8>, Timestamp>>);

impl Auth {
    /// Opens a session for who knows the master token. Wrong ones count as everywhere.
    pub(crate) fn session_open(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        token: &str,
    ) -> Result<Zeroizing<String>, Failure> {
        let now = Timestamp::now();
        let household = real_address(self, peer, headers).map(household);
        if household.is_some_and(|household| self.failures.wait(&household, now).is_some()) {
            let message = "too many wrong tokens came from this address; wait a while";
            return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "unavailable", message));
        }
        if self.master.is_none_or(|master| master != Digest::of(token)) {
            if let Some(household) = household {
                let _ = self.failures.take(&household, now);
            }
            return Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", "invalid token"));
        }
        let word = generate().map_err(|error| {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error.to_string())
        })?;
        let ends = now.saturating_add(SignedDuration::from_secs(SESSION_SECONDS)).unwrap_or(now);
        let mut sessions = lock(&self.sessions.0);
        sessions.retain(|_, ends| *ends > now);
        if sessions.len() >= MOST
            && let Some(oldest) = sessions.iter().min_by_key(|(_, ends)| **ends).map(|(word, _)| word.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(Digest::of(&word).as_bytes().to_vec(), ends);
        Ok(word)
    }

    /// Ends the session of a request, if it has one.
    pub(crate) fn session_close(&self, headers: &HeaderMap) {
        if let Some(word) = word(headers) {
            lock(&self.sessions.0).remove(Digest::of(word).as_bytes());
        }
    }

    /// Who a request is from that has a session.
    pub(super) fn session_identify(&self, headers: &HeaderMap, now: Timestamp) -> Option<Identity> {
        let digest = Digest::of(word(headers)?);
        let ends = lock(&self.sessions.0).get(digest.as_bytes()).copied()?;
        (ends > now).then(|| Identity::master("a session of the master token"))
    }
}

/// What the cookie says, if there is one.
pub(super) fn word(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == SESSION_COOKIE).map(|(_, word)| word)
}
