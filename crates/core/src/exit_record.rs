//! The history of an instance's runs: how each ended, and what it said last.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::instance::Exit;

/// Why what may move has ended: the lease of [`crate::schedule::Rules`] was over.
pub(crate) const LEASE_ENDED: &str = "no server answered for its node for 60 s, and it may run elsewhere";

/// A run that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExitRecord {
    /// The runtime's id of the container.
    pub container: String,
    /// None if the container went without being seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    pub started_at: Timestamp,
    /// For a container that was lost: when that was noticed.
    pub finished_at: Timestamp,
    /// As in [`Exit::code`]; none if nobody saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    pub out_of_memory: bool,
    pub reason: ExitReason,
    /// What its last output was. Only of the newest runs that ended unasked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<ExitLine>,
}

/// Why a run ended, as a word that scripts can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExitReason {
    /// Somebody asked for it: a stop, a restart, a newer revision, a deletion.
    Asked,
    /// The agent ended by itself.
    Exited,
    /// A signal that nobody asked for.
    Signal,
    OutOfMemory,
    Unhealthy,
    /// No server had answered for its node for so long that it might run elsewhere.
    LeaseEnded,
    /// The container went without an exit being seen.
    Lost,
}

/// A line of a run's last output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExitLine {
    pub time: Timestamp,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Without its line break, and cut if it was long. What is not UTF-8 in it is replaced.
    pub text: String,
}

impl ExitReason {
    /// Why a run that ended so did.
    pub fn of(exit: Exit, asked: bool) -> ExitReason {
        match exit {
            _ if asked => ExitReason::Asked,
            Exit { unleased: true, .. } => ExitReason::LeaseEnded,
            Exit { unhealthy: true, .. } => ExitReason::Unhealthy,
            Exit { out_of_memory: true, .. } => ExitReason::OutOfMemory,
            exit if exit.signal().is_some() => ExitReason::Signal,
            _ => ExitReason::Exited,
        }
    }
}

impl ExitRecord {
    /// The record of a run that ended.
    pub fn new(
        container: &str,
        revision: Option<u64>,
        started_at: Timestamp,
        exit: Exit,
        asked: bool,
    ) -> ExitRecord {
        ExitRecord {
            container: container.to_owned(),
            revision,
            started_at,
            finished_at: exit.finished_at,
            code: Some(exit.code),
            out_of_memory: exit.out_of_memory,
            reason: ExitReason::of(exit, asked),
            log: Vec::new(),
        }
    }

    /// The record of a run that was to end by itself on a node that does not answer.
    pub fn lease_ended(container: &str, started_at: Timestamp, noticed_at: Timestamp) -> ExitRecord {
        let reason = ExitReason::LeaseEnded;
        ExitRecord { reason, ..ExitRecord::lost(container, started_at, noticed_at) }
    }

    /// The record of a run whose container is gone.
    pub fn lost(container: &str, started_at: Timestamp, noticed_at: Timestamp) -> ExitRecord {
        ExitRecord {
            container: container.to_owned(),
            revision: None,
            started_at,
            finished_at: noticed_at.max(started_at),
            code: None,
            out_of_memory: false,
            reason: ExitReason::Lost,
            log: Vec::new(),
        }
    }
}

/// In words: `exit code 3`, `SIGSEGV (exit code 139)`, `out of memory (exit code 137)`.
impl fmt::Display for ExitRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signal = self.code.filter(|code| (129..=192).contains(code)).map(|code| code - 128);
        match (self.reason, signal) {
            (ExitReason::LeaseEnded, _) => formatter.write_str(LEASE_ENDED)?,
            (ExitReason::Lost, _) => return formatter.write_str("its container went, and nobody saw how"),
            (ExitReason::OutOfMemory, _) => formatter.write_str("out of memory")?,
            (ExitReason::Unhealthy, _) => formatter.write_str("stopped because it was unhealthy")?,
            (ExitReason::Asked, _) => formatter.write_str("stopped because somebody asked for it")?,
            (ExitReason::Signal, Some(signal)) => match signal_name(signal) {
                Some(name) => formatter.write_str(name)?,
                None => write!(formatter, "signal {signal}")?,
            },
            (ExitReason::Exited | ExitReason::Signal, _) => {
                return write!(formatter, "exit code {}", self.code.unwrap_or_default());
            }
        }
        self.code.map_or(Ok(()), |code| write!(formatter, " (exit code {code})"))
    }
}

/// The name of a signal of Linux on x86 and ARM.
pub fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}
