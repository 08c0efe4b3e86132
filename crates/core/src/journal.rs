//! What a node tells of the time in which no server reached it: each step that it took by itself, and each end of a run that
//! its own next step would have hidden.
//!
//! An entry may be told more than once, and after what happened later was seen: [`Memory::note_told`] counts each once.

use chassis_spec::RestartPolicy;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::EventKind;
use crate::exit_record::ExitRecord;
use crate::instance::{Condemned, Exit, Memory, Run};
use crate::key::InstanceKey;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Grows with each entry, also after a node has lost the others: microseconds since 1970, or one more than the last.
    pub number: u64,
    pub instance: InstanceKey,
    /// Which placement of the instance it was.
    pub epoch: u64,
    /// The runtime's id of the container.
    pub container: Box<str>,
    pub revision: u64,
    pub what: Happened,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Happened {
    /// A run ended, and the node was about to start the next.
    Ended { started_at: Timestamp, exit: Exit },
    /// The node started it.
    Started { started_at: Timestamp },
    /// Its health check succeeds.
    Healthy { at: Timestamp },
    /// Its health check has failed as often as it may.
    Unhealthy { at: Timestamp, message: String },
    /// It is stopped because it is unhealthy.
    Condemned { at: Timestamp, started_at: Timestamp, was_good: bool, message: String },
}

/// What an entry that was news changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub memory: Memory,
    /// Each with its time.
    pub events: Vec<(Timestamp, EventKind)>,
    pub exit: Option<ExitRecord>,
}

impl Memory {
    /// Takes over what a node tells of an instance; nothing if it was taken over before. What was seen meanwhile stays so.
    ///
    /// `seed` is for the jitter of the backoff.
    pub fn note_told(&self, entry: &Entry, policy: RestartPolicy, seed: u64) -> Option<Told> {
        if entry.number <= self.told {
            return None;
        }
        let memory = Memory { told: entry.number, ..self.clone() };
        let mut told = Told { memory, events: Vec::new(), exit: None };
        match &entry.what {
            Happened::Ended { started_at, exit } => told.end(entry, *started_at, *exit, policy, seed),
            Happened::Started { started_at } => {
                if !told.is_known(entry, *started_at) {
                    told.begin(entry, *started_at);
                    told.events.push((*started_at, EventKind::RestartedByNode));
                }
            }
            Happened::Healthy { at } => told.events.push((*at, EventKind::Healthy)),
            Happened::Unhealthy { at, message } => {
                told.events.push((*at, EventKind::Unhealthy { message: message.clone() }));
            }
            Happened::Condemned { at, started_at, was_good, message } => {
                told.begin_missed(entry, *started_at);
                if told.is_known(entry, *started_at) && told.memory.exit.is_none() {
                    let run = Run { id: entry.container.clone(), started_at: *started_at };
                    told.memory.condemned = Some(Condemned { run, was_good: *was_good });
                }
                told.events.push((*at, EventKind::Condemned { message: message.clone() }));
            }
        }
        Some(told)
    }
}

impl Told {
    /// True of the last run that was noted.
    fn is_known(&self, entry: &Entry, started_at: Timestamp) -> bool {
        let is_it = |run: &Run| run.id == entry.container && run.started_at == started_at;
        self.memory.run.as_ref().is_some_and(is_it)
    }

    /// True if a later run was noted already.
    fn is_past(&self, started_at: Timestamp) -> bool {
        self.memory.run.as_ref().is_some_and(|run| run.started_at > started_at)
    }

    fn begin(&mut self, entry: &Entry, started_at: Timestamp) {
        if !self.is_past(started_at) {
            self.memory.begin(Run { id: entry.container.clone(), started_at });
        }
    }

    /// The same of one that the node did not start.
    fn begin_missed(&mut self, entry: &Entry, started_at: Timestamp) {
        if !self.is_known(entry, started_at) && !self.is_past(started_at) {
            self.begin(entry, started_at);
            self.events.push((started_at, EventKind::Started));
        }
    }

    fn end(&mut self, entry: &Entry, started_at: Timestamp, exit: Exit, policy: RestartPolicy, seed: u64) {
        let mut known = [self.memory.exit, self.memory.last_exit].into_iter().flatten();
        if known.any(|known| known.finished_at == exit.finished_at) {
            return;
        }
        self.begin_missed(entry, started_at);
        let is_past = self.is_past(started_at);
        let memory = &mut self.memory;
        let retry_at = memory.count(exit, started_at, policy, seed);
        if is_past {
            let is_latest = |last: Exit| last.finished_at < exit.finished_at;
            if memory.last_exit.is_none_or(is_latest) {
                memory.last_exit = Some(exit);
            }
        } else {
            memory.exit = Some(exit);
            memory.retry_at = retry_at;
        }
        self.events.push((exit.finished_at, EventKind::Exited(exit)));
        let revision = Some(entry.revision);
        self.exit = Some(ExitRecord::new(&entry.container, revision, started_at, exit, false));
    }
}
