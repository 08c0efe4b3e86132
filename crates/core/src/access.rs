//! Who may do what: roles, where they hold, and what a request needs.
//!
//! A [`Grant`] is what somebody has, a [`Need`] what a route asks for; [`allows`] is the whole decision. What is not
//! granted is refused: there is no rule that denies, and so no order of rules.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chassis_spec::FleetName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Each may all that those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees everything but the values of secrets.
    Viewer,
    /// Deploys, scales, restarts, enters instances, writes secrets.
    Operator,
    /// Makes and deletes fleets; over all fleets, runs the server and hands out keys.
    Admin,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// As in `chassis api-key create --role`.
    pub fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// A word that is no [`Role`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role; write viewer, operator or admin")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        let role = Role::ALL.into_iter().find(|role| role.word() == word);
        role.ok_or_else(|| UnknownRole(word.to_owned()))
    }
}

/// Where a role holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// In every fleet, those to come too, and over the server itself.
    All,
    Fleets(BTreeSet<FleetName>),
}

/// What somebody who is known may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub role: Role,
    pub reach: Reach,
}

impl Grant {
    /// The server's own user, and the master token.
    pub const FULL: Grant = Grant { role: Role::Admin, reach: Reach::All };

    /// True if any of the role holds in the fleet.
    pub fn reaches(&self, fleet: &FleetName) -> bool {
        match &self.reach {
            Reach::All => true,
            Reach::Fleets(fleets) => fleets.contains(fleet),
        }
    }
}

impl fmt::Display for Grant {
    /// `operator of collector, web`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fleets = match &self.reach {
            Reach::All => return write!(formatter, "{} of all fleets", self.role),
            Reach::Fleets(fleets) => fleets.iter().map(FleetName::as_str).collect::<Vec<_>>(),
        };
        let fleets = if fleets.is_empty() { "no fleet".to_owned() } else { fleets.join(", ") };
        write!(formatter, "{} of {fleets}", self.role)
    }
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// One fleet, which the path names.
    Fleet,
    /// Fleets that the query or the body names, or all that the caller's role reaches: the handler asks for each of them.
    Fleets,
    /// The server as a whole: the role must hold everywhere.
    Server,
}

/// What a route asks of whoever calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// Nothing: it tells nothing that is worth hiding.
    Nothing,
    Role(Role, Place),
}

/// True if `grant` is enough for `need`. `fleet` is the one that the request names, if it names one.
///
/// Without a fleet, a need in [`Place::Fleets`] is met by the role alone: the answer has only what the grant reaches.
pub fn allows(grant: &Grant, need: Need, fleet: Option<&FleetName>) -> bool {
    match need {
        Need::Nothing => true,
        Need::Role(role, place) => {
            grant.role >= role
                && match (place, fleet) {
                    (Place::Server, _) | (Place::Fleet, None) => grant.reach == Reach::All,
                    (Place::Fleet | Place::Fleets, Some(fleet)) => grant.reaches(fleet),
                    (Place::Fleets, None) => true,
                }
        }
    }
}
