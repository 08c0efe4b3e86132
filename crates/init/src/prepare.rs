//! What is done in the sandbox before the agent starts: its files are written, and its startup script is run.
//!
//! Until all of that has ended well PID 1 is called [`PREPARING`]; that it is not any more tells that the agent is started.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use chassis_init::PREPARING;
use chassis_init::frame::{Entry, Kind};

use crate::Failure;
use crate::agent::{self, Variables};
use crate::given::Given;
use crate::right::Right;
use crate::signals::{Blocked, Ended};

/// The agent is not started yet, and perhaps never will be.
pub(crate) fn begin() {
    let _ = rustix::thread::set_name(PREPARING);
}

/// It is started next.
pub(crate) fn end() {
    let _ = rustix::thread::set_name(c"chassis-init");
}

/// Writes the files that came. One that is there is replaced, also if it may only be read.
pub(crate) fn files_write(given: &Given) -> Result<(), Failure> {
    for entry in given.entries(Kind::File) {
        let path = Path::new(OsStr::from_bytes(entry.name));
        file_write(path, &entry).map_err(|error| {
            Failure::misconfigured(format!(
                "cannot write the file {} as user {}: {error}; is its directory that user's?",
                path.display(),
                rustix::process::geteuid().as_raw(),
            ))
        })?;
    }
    Ok(())
}

fn file_write(path: &Path, entry: &Entry<'_>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(entry.number).open(path)?;
    // The umask is the image's.
    file.set_permissions(fs::Permissions::from_mode(entry.number))?;
    file.write_all(entry.value)
}

/// Runs the startup script, if one came, to its end.
pub(crate) fn startup_run(
    given: &Given,
    variables: &Variables,
    signals: Blocked,
    right: &mut Right,
) -> Result<(), Failure> {
    let Some(entry) = given.entries(Kind::Startup).next() else { return Ok(()) };
    let patience = Duration::from_secs(entry.number.into());
    let script: OsString = OsStr::from_bytes(entry.value).into();
    let script = agent::spawn_in_group("sh".as_ref(), &["-lc".into(), script], variables, signals)
        .map_err(|failure| failure.prefixed("startup script: "))?;
    match signals.supervise(&script, right, Some(patience)) {
        Ended::Itself(0) => Ok(()),
        Ended::Itself(code) => Err(Failure {
            code: chassis_init::EXIT_STARTUP,
            message: format!("the startup script failed with exit code {code}; the agent was not started"),
        }),
        Ended::TooLate => Err(Failure {
            code: chassis_init::EXIT_STARTUP,
            message: format!(
                "the startup script took longer than {} s, and was killed; the agent was not started",
                patience.as_secs()
            ),
        }),
        Ended::Unleased => Err(not_started(chassis_init::EXIT_UNLEASED)),
        Ended::GaveWay => Err(not_started(chassis_init::EXIT_KILLED)),
    }
}

fn not_started(code: u8) -> Failure {
    Failure { code, message: "the agent was not started".to_owned() }
}
