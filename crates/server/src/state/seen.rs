//! What the node shows, read as facts about an instance.

use chassis_core::{EventKind, ExitRecord, Instance, Memory, Observed};
use jiff::Timestamp;

/// Which container is the instance's: the one with its name, or the one that ran as it before somebody renamed it. Any
/// other that carries its labels is a copy that somebody made, and left alone.
pub(super) fn claim(mut found: Vec<Observed>, known: Option<&str>) -> Option<Observed> {
    let position = found
        .iter()
        .position(|observed| observed.name_is_right)
        .or_else(|| found.iter().position(|observed| Some(&*observed.id) == known))?;
    Some(found.swap_remove(position))
}

/// The records of the runs whose end is among the events that were noted, of an instance with the memory from before them.
pub(super) fn ended(
    instance: &Instance,
    noted: &Memory,
    events: &[EventKind],
    now: Timestamp,
) -> Vec<ExitRecord> {
    let revision = instance.observed.as_ref().map(|observed| observed.revision);
    let record = |event: &EventKind| match event {
        EventKind::Lost => {
            instance.memory.run.as_ref().map(|run| ExitRecord::lost(&run.id, run.started_at, now))
        }
        EventKind::LeaseEnded => {
            let run = instance.memory.run.as_ref();
            run.map(|run| ExitRecord::lease_ended(&run.id, run.started_at, now))
        }
        EventKind::Stopped | EventKind::Exited(_) => {
            let (run, exit) = noted.run.as_ref().zip(noted.exit)?;
            let asked = *event == EventKind::Stopped;
            Some(ExitRecord::new(&run.id, revision, run.started_at, exit, asked))
        }
        _ => None,
    };
    events.iter().filter_map(record).collect()
}
