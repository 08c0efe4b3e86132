//! Quantities as people and Kubernetes write them.
//!
//! All three are read from text or from a number, and written as the shortest text that reads back equal.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::{Text, quoted};
use crate::value::InvalidValue;

/// Cores, in thousandths: `0.5`, `2`, `500m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpu(pub u32);

/// Bytes: `128Mi`, `64MB`, `1.5Gi`, `1048576`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Whole seconds: `30`, `30s`, `5m`, `1h`, `7d`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub u32);

/// Docker refuses less than a hundredth of a core.
const CPU_MIN: u32 = 10;
const CPU_MAX: u32 = 1024 * 1000;
/// More than any machine has; far below where arithmetic on it could overflow.
const BYTES_MAX: u64 = 1 << 50;
const DAY: u64 = 24 * 3600;

/// Larger units first, so that the first that divides is the shortest.
const BYTE_UNITS: [(&str, u64); 9] = [
    ("Ti", 1 << 40),
    ("T", 1_000_000_000_000),
    ("Gi", 1 << 30),
    ("G", 1_000_000_000),
    ("Mi", 1 << 20),
    ("M", 1_000_000),
    ("Ki", 1 << 10),
    ("k", 1_000),
    ("", 1),
];

impl FromStr for Cpu {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong =
            || InvalidValue(format!("{} is not a number of cores; write 0.5, 2 or 500m", quoted(text)));
        let millis = match text.strip_suffix('m') {
            Some(millis) => scaled(millis, 1, false),
            None => scaled(text, 1000, false),
        }
        .ok_or_else(wrong)?;
        match u32::try_from(millis) {
            Ok(millis @ CPU_MIN..=CPU_MAX) => Ok(Cpu(millis)),
            _ => Err(InvalidValue(format!("{} is out of range; write 10m to 1024 cores", quoted(text)))),
        }
    }
}

impl FromStr for Bytes {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong =
            || InvalidValue(format!("{} is not a size; write 134217728, 128Mi, 1.5Gi or 64M", quoted(text)));
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start_matches(' ');
        if unit == "m" {
            return Err(InvalidValue(format!(
                "{} is ambiguous: thousandths in Kubernetes, mebibytes in Docker; write {number}M or {number}Mi",
                quoted(text)
            )));
        }
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" => 1_000,
            "m" | "mb" => 1_000_000,
            "g" | "gb" => 1_000_000_000,
            "t" | "tb" => 1_000_000_000_000,
            "ki" | "kib" => 1 << 10,
            "mi" | "mib" => 1 << 20,
            "gi" | "gib" => 1 << 30,
            "ti" | "tib" => 1 << 40,
            _ => return Err(wrong()),
        };
        let bytes = scaled(number, factor, true).ok_or_else(wrong)?;
        if bytes > BYTES_MAX {
            return Err(InvalidValue(format!("{} is more than 1024Ti", quoted(text))));
        }
        Ok(Bytes(bytes))
    }
}

impl FromStr for Seconds {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = || {
            InvalidValue(format!(
                "{} is not a whole number of seconds; write 30, 30s, 5m or 1h30m",
                quoted(text)
            ))
        };
        if let Ok(seconds) = text.parse::<u32>()
            && text.starts_with(|c: char| c.is_ascii_digit())
        {
            return Ok(Seconds(seconds));
        }
        let mut rest = text;
        let mut total = 0_u32;
        for (unit, factor) in [('d', DAY), ('h', 3600), ('m', 60), ('s', 1)] {
            let Some((number, after)) = rest.split_once(unit) else { continue };
            let count = scaled(number, factor, false)
                .and_then(|count| u32::try_from(count).ok())
                .ok_or_else(wrong)?;
            if number.contains('.') {
                return Err(wrong());
            }
            total = total.checked_add(count).ok_or_else(wrong)?;
            rest = after;
        }
        if rest.is_empty() && !text.is_empty() { Ok(Seconds(total)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:03}", self.0 % 1000);
        match fraction.trim_end_matches('0') {
            "" => write!(formatter, "{}", self.0 / 1000),
            fraction => write!(formatter, "{}.{fraction}", self.0 / 1000),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = BYTE_UNITS
            .into_iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
            .unwrap_or(("", 1));
        write!(formatter, "{}{unit}", self.0 / factor)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One and two days are better known as 24h and 48h.
        if u64::from(self.0) > 2 * DAY && u64::from(self.0).is_multiple_of(DAY) {
            return write!(formatter, "{}d", u64::from(self.0) / DAY);
        }
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        for (count, unit) in [(hours, 'h'), (minutes, 'm')] {
            if count > 0 {
                write!(formatter, "{count}{unit}")?;
            }
        }
        if seconds > 0 || self.0 == 0 { write!(formatter, "{seconds}s") } else { Ok(()) }
    }
}

/// `number * factor`, where the number is decimal digits with at most one point between them. A part of a unit is
/// rounded up if `round_up`, and refused otherwise.
fn scaled(number: &str, factor: u64, round_up: bool) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let scaled =
        (whole.parse::<u128>().ok()? * divisor + fraction.parse::<u128>().ok()?) * u128::from(factor);
    if !scaled.is_multiple_of(divisor) && (!round_up || factor == 1) {
        return None;
    }
    u64::try_from(scaled.div_ceil(divisor)).ok()
}

macro_rules! quantity {
    ($name:ident, $number:literal, $pattern:literal, $description:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Text::deserialize(deserializer)?.0.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": $description,
                    "type": ["string", $number],
                    "minimum": 0,
                    "pattern": $pattern,
                })
            }
        }
    };
}

quantity!(Cpu, "number", r"^(\d+(\.\d+)?|\d+m)$", "Cores: 0.5, 2 or 500m.");
quantity!(
    Bytes,
    "integer",
    r"^\d+(\.\d+)? *([bB]|[kK]([bB]|i|iB)?|M([bB]|i|iB)?|m([bB]|i|iB)|[gGtT]([bB]|i|iB)?)?$",
    "Bytes: 134217728, 128Mi, 1.5Gi or 64M. Units with an i are powers of 1024, others of 1000."
);
quantity!(
    Seconds,
    "integer",
    r"^(\d+|(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+s)?)$",
    "Whole seconds: 30, 30s, 5m, 1h30m or 7d."
);
