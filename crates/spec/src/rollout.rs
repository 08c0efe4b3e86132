//! How a new revision replaces the one before: how much of an agent may be away meanwhile, and when it is given up.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Seconds;
use crate::text::{Text, quoted};
use crate::value::InvalidValue;

/// How a new revision replaces the one before, and how a restart goes through an agent's instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutSpec {
    /// How many of the instances that should run may be away at the same time because of it: a number, or a part of
    /// them such as `25%`, rounded down.
    #[serde(default = "RolloutSpec::default_max_unavailable", alias = "max_unavailable")]
    pub max_unavailable: Amount,
    /// How many instances may run beyond those that should, so that none has to be away: a number, or a part such as
    /// `25%`, rounded up. Only for agents that keep nothing and publish no port of the host.
    #[serde(default = "RolloutSpec::default_max_surge", alias = "max_surge")]
    pub max_surge: Amount,
    /// It has failed when no further instance has become ready for this long.
    #[serde(default = "RolloutSpec::default_deadline")]
    pub deadline: Seconds,
    /// Goes back to the last revision that was complete when it has failed.
    #[serde(default = "RolloutSpec::default_auto_rollback", alias = "auto_rollback")]
    pub auto_rollback: bool,
}

/// A number of instances, or a part of them in percent: `2`, `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Amount {
    Count(u32),
    Percent(u32),
}

// === impl RolloutSpec ===

impl RolloutSpec {
    fn default_max_unavailable() -> Amount {
        Amount::Count(1)
    }

    fn default_max_surge() -> Amount {
        Amount::Count(0)
    }

    /// As Kubernetes' `progressDeadlineSeconds`.
    fn default_deadline() -> Seconds {
        Seconds(600)
    }

    fn default_auto_rollback() -> bool {
        true
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == RolloutSpec::default()
    }

    /// How many of `wanted` instances may run beyond them.
    pub fn surge_of(&self, wanted: u32) -> u32 {
        self.max_surge.of(wanted, u64::div_ceil)
    }

    /// How many of `wanted` instances may be away; at least one where nothing may run beyond them.
    pub fn unavailable_of(&self, wanted: u32) -> u32 {
        let away = self.max_unavailable.of(wanted, |part, whole| part / whole);
        if self.surge_of(wanted) == 0 { away.max(1) } else { away }
    }
}

impl Default for RolloutSpec {
    fn default() -> Self {
        RolloutSpec {
            max_unavailable: Self::default_max_unavailable(),
            max_surge: Self::default_max_surge(),
            deadline: Self::default_deadline(),
            auto_rollback: Self::default_auto_rollback(),
        }
    }
}

// === impl Amount ===

impl Amount {
    pub fn is_zero(self) -> bool {
        matches!(self, Amount::Count(0) | Amount::Percent(0))
    }

    fn of(self, whole: u32, round: fn(u64, u64) -> u64) -> u32 {
        match self {
            Amount::Count(count) => count,
            Amount::Percent(percent) => {
                u32::try_from(round(u64::from(percent) * u64::from(whole), 100)).unwrap_or(u32::MAX)
            }
        }
    }
}

impl FromStr for Amount {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = || {
            InvalidValue(format!("{} is not a number of instances; write 1, or a part as 25%", quoted(text)))
        };
        let (digits, percent) = match text.strip_suffix('%') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number = digits.parse().map_err(|_| wrong())?;
        match (percent, number) {
            (true, 0..=100) => Ok(Amount::Percent(number)),
            (true, _) => Err(InvalidValue(format!("{} is more than all: write at most 100%", quoted(text)))),
            (false, _) => Ok(Amount::Count(number)),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Count(count) => write!(formatter, "{count}"),
            Amount::Percent(percent) => write!(formatter, "{percent}%"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Amount::Count(count) => serializer.serialize_u32(*count),
            Amount::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer)?.0.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of instances, or a part of them: 1 or 25%.",
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": r"^\d+%?$",
        })
    }
}
