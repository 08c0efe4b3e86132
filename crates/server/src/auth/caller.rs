//! Who calls. Handlers take a [`Caller`] as an argument: a request that has none never reaches them.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use chassis_core::access::allows;
use chassis_core::{Grant, Need, Place, Reach, Role};
use chassis_spec::FleetName;

use super::keys::Key;
use crate::api::failure::{Failure, Result};

/// Somebody who is known, with what the route asks of them.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<Known>);

#[derive(Debug)]
struct Known {
    identity: Identity,
    address: Option<IpAddr>,
    need: Need,
    about: OnceLock<String>,
}

/// Who it is, and what they may do.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// For people: `uid 1000`, `master token`, `key deploy-bot`.
    pub(crate) name: String,
    pub(crate) grant: Grant,
    /// The key that it was known by.
    pub(super) key: Option<Arc<Key>>,
}

impl Caller {
    pub(super) fn new(identity: Identity, address: Option<IpAddr>, need: Need) -> Caller {
        Caller(Arc::new(Known { identity, address, need, about: OnceLock::new() }))
    }

    /// As the audit log calls them.
    pub(crate) fn name(&self) -> &str {
        &self.0.identity.name
    }

    /// The name of the caller's key; none who is known by something else may everything.
    pub(crate) fn key_name(&self) -> Option<&str> {
        Some(self.key()?.record.name.as_str())
    }

    /// Tells the audit log what the path does not. Never a secret.
    pub(crate) fn tell(&self, about: impl Into<String>) {
        let _ = self.0.about.set(about.into());
    }

    pub(super) fn told(&self) -> Option<&str> {
        self.0.about.get().map(String::as_str)
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.0.address
    }

    pub(super) fn key(&self) -> Option<&Arc<Key>> {
        self.0.identity.key.as_ref()
    }

    /// Waits until the caller is no longer who they were: their key was revoked or has expired.
    pub(crate) async fn ended(&self) {
        match self.key() {
            Some(key) => key.ended.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// True if something in the fleet may be shown to the caller.
    pub(crate) fn reaches(&self, fleet: &FleetName) -> bool {
        self.0.identity.grant.reaches(fleet)
    }

    /// None if the caller reaches all fleets, also those to come.
    pub(crate) fn only_fleets(&self) -> Option<impl Iterator<Item = &FleetName>> {
        match &self.0.identity.grant.reach {
            Reach::All => None,
            Reach::Fleets(fleets) => Some(fleets.iter()),
        }
    }

    /// Refuses what the route does in a fleet where the caller may not. Says nothing of whether there is such a fleet.
    pub(crate) fn require(&self, fleet: &FleetName) -> Result<()> {
        let Known { identity, need, .. } = &*self.0;
        if allows(&identity.grant, *need, Some(fleet)) {
            Ok(())
        } else {
            Err(forbidden(identity, *need, Some(fleet)))
        }
    }

    /// Refuses whoever has less than this role in the fleet, though the route asks for no more.
    pub(crate) fn require_role(&self, role: Role, fleet: &FleetName) -> Result<()> {
        if self.is(role, fleet) {
            return Ok(());
        }
        Err(forbidden(&self.0.identity, Need::Role(role, Place::Fleet), Some(fleet)))
    }

    /// As [`Caller::require`], if a fleet is named.
    pub(crate) fn require_named(&self, fleet: Option<&FleetName>) -> Result<()> {
        fleet.map_or(Ok(()), |fleet| self.require(fleet))
    }

    /// True if the caller may more in the fleet than the route asks: `role` there.
    pub(crate) fn is(&self, role: Role, fleet: &FleetName) -> bool {
        allows(&self.0.identity.grant, Need::Role(role, Place::Fleet), Some(fleet))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| {
            let detail = "the server does not know who calls; please report this";
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "no_caller", detail)
        })
    }
}

/// Names what would be needed, and nothing of what is there.
pub(super) fn forbidden(identity: &Identity, need: Need, fleet: Option<&FleetName>) -> Failure {
    let needed = match (need, fleet) {
        (Need::Nothing, _) => "of another caller".to_owned(),
        (Need::Role(role, Place::Server), _) | (Need::Role(role, Place::Fleet), None) => {
            format!("{role} of all fleets")
        }
        (Need::Role(role, _), Some(fleet)) => format!("{role} of {fleet}"),
        (Need::Role(role, Place::Fleets), None) => format!("{role}"),
    };
    let detail = format!("this needs the role {needed}; {} is {}", identity.name, identity.grant);
    Failure::new(StatusCode::FORBIDDEN, "forbidden", detail)
}
