//! Whether the sandbox is as it must be before an agent may touch anybody's data.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use chassis_init::turn::{self, Turn};
use rustix::io::Errno;

use crate::arguments::{Instance, Volume};
use crate::{Failure, report};

const PROBE: &str = ".chassis-write-test";

/// Fails if the directory that is mounted here is another instance's.
pub(crate) fn identity(instance: &Instance) -> Result<(), Failure> {
    let path = chassis_init::INSTANCE_FILE;
    let owner = fs::read_to_string(path).map_err(|error| {
        Failure::misconfigured(format!(
            "cannot read {path}: {error}; restart the instance so that chassis writes it again"
        ))
    })?;
    let owner = owner.trim_end();
    if owner == instance.key {
        return Ok(());
    }
    Err(Failure::misconfigured(format!(
        "this directory belongs to {owner}, not to {}; the directories of the two were mixed up: put them back",
        instance.key
    )))
}

/// Waits until an earlier run of the instance that the engine forgot has given way. Fails if it does not.
pub(crate) fn turn() -> Result<Turn, Failure> {
    Turn::take(Path::new(chassis_init::DIRECTORY), turn::PATIENCE).map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::TimedOut => {
                "another run of this instance is still alive, though the engine does not show it".to_owned()
            }
            _ => format!("cannot lock {}: {error}", chassis_init::DIRECTORY),
        };
        Failure::misconfigured(format!(
            "{reason}; it is tried again, and a restart of the machine ends every run"
        ))
    })
}

/// Fails if the agent's user cannot write the volume. A full one is reported, but the agent starts: it may be the one
/// who can make room.
pub(crate) fn writable(volume: &Volume) -> Result<(), Failure> {
    match probe(&volume.path) {
        Ok(()) => Ok(()),
        Err(error) if full(&error) => {
            report(&format!("volume {} at {} is full: {error}", volume.name, volume.path.display()));
            Ok(())
        }
        Err(error) => Err(Failure::misconfigured(format!(
            "volume {} at {} cannot be written by user {}: {error}; give its directory on the host to that user",
            volume.name,
            volume.path.display(),
            rustix::process::geteuid().as_raw(),
        ))),
    }
}

fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(PROBE);
    // One that a killed init left behind; what else is wrong with it, the creation tells.
    let _ = fs::remove_file(&path);
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)
}

fn full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}
