//! Output of instances: which part of it is wanted, and its lines.

use std::str::FromStr;

use chassis_spec::{AgentName, FleetName};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose output, and which part of it. Without a number it is merged over all instances.
///
/// An instance that is no more has the output that was kept of its last container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogQuery {
    pub fleet: FleetName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    #[serde(default)]
    pub follow: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only what was written up to then; not with `follow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The last so many lines of each instance, of those that are wanted otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// The run before the present one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub previous: bool,
    /// Also what was kept of containers that are no more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub all: bool,
    /// Only lines that this regular expression matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// `grep` does not tell capitals from small letters.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_case: bool,
    /// Only lines of at least this level, and what belongs to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<LogLevel>,
    /// Lines in one piece, up to 1 MiB each.
    #[serde(default, skip_serializing_if = "is_false")]
    pub whole: bool,
    /// `tier=web,team!=core`: only of instances that are there, and whose agents have all of these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
}

impl LogQuery {
    /// All that the present containers of a fleet have written.
    pub fn of_fleet(fleet: FleetName) -> LogQuery {
        LogQuery {
            fleet,
            agent: None,
            number: None,
            follow: false,
            since: None,
            until: None,
            tail: None,
            previous: false,
            all: false,
            grep: None,
            ignore_case: false,
            level: None,
            whole: false,
            labels: None,
        }
    }
}

/// A line of output. What is not UTF-8 in it is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// `agent-number`.
    pub instance: String,
    pub time: Timestamp,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// With its line break, unless it is a piece of a line that goes on.
    pub text: String,
}

/// The data of an event `gone`: of this instance something is missing between the place in `Last-Event-ID` and the first
/// line that follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogGone {
    /// `agent-number`.
    pub instance: String,
}

/// How much a line matters, from the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// A word that is no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoLevel;

impl FromStr for LogLevel {
    type Err = NoLevel;

    /// Reads what programs and people write, in capitals or not.
    fn from_str(word: &str) -> Result<Self, NoLevel> {
        for (level, words) in [
            (LogLevel::Trace, &["trace", "verbose"][..]),
            (LogLevel::Debug, &["debug"]),
            (LogLevel::Info, &["info", "information", "notice"]),
            (LogLevel::Warn, &["warn", "warning"]),
            (LogLevel::Error, &["error", "err", "severe"]),
            (LogLevel::Fatal, &["fatal", "critical", "crit", "panic", "alert", "emerg", "emergency"]),
        ] {
            if words.iter().any(|known| known.eq_ignore_ascii_case(word)) {
                return Ok(level);
            }
        }
        Err(NoLevel)
    }
}

impl std::fmt::Display for NoLevel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("write trace, debug, info, warn, error or fatal")
    }
}

impl std::error::Error for NoLevel {}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !value
}
