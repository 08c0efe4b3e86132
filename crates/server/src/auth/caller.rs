//! Who calls. Handlers take a [`Caller`] as an argument: a request that has none never reaches them.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use chassis_core::access::allows;
use chassis_core::{Grant, Need, Place, Reach};
use chassis_spec::FleetName;

use crate::api::failure::{Failure, Result};

/// Somebody who is known, with what the route asks of them.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<Known>);

#[derive(Debug)]
struct Known {
    identity: Identity,
    address: Option<IpAddr>,
    need: Need,
}

/// Who it is, and what they may do.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// For people: `uid 1000`, `master token`, `key deploy-bot`.
    pub(crate) name: String,
    pub(crate) grant: Grant,
}

impl Caller {
    pub(super) fn new(identity: Identity, address: Option<IpAddr>, need: Need) -> Caller {
        Caller(Arc::new(Known { identity, address, need }))
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

    /// As [`Caller::require`], if a fleet is named.
    pub(crate) fn require_named(&self, fleet: Option<&FleetName>) -> Result<()> {
        fleet.map_or(Ok(()), |fleet| self.require(fleet))
    }

    /// True if the caller may more in the fleet than the route asks: `role` there.
    pub(crate) fn is(&self, role: chassis_core::Role, fleet: &FleetName) -> bool {
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
        (Need::Nothing, _) => "another caller".to_owned(),
        (Need::Role(role, Place::Server), _) | (Need::Role(role, Place::Fleet), None) => {
            format!("the role {role} over all fleets")
        }
        (Need::Role(role, _), Some(fleet)) => format!("the role {role} in fleet `{fleet}`"),
        (Need::Role(role, Place::Fleets), None) => format!("the role {role}"),
    };
    let detail = format!("this needs {needed}; {} has {}", identity.name, has(&identity.grant));
    Failure::new(StatusCode::FORBIDDEN, "forbidden", detail)
}

fn has(grant: &Grant) -> String {
    match &grant.reach {
        Reach::All => format!("{} over all fleets", grant.role),
        Reach::Fleets(fleets) => {
            let names: Vec<String> = fleets.iter().map(|fleet| format!("`{fleet}`")).collect();
            format!(
                "{} in {}",
                grant.role,
                if names.is_empty() { "no fleet".to_owned() } else { names.join(", ") }
            )
        }
    }
}
