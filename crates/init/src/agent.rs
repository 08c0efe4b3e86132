//! Starts the agent: finds its program as a shell would, and gives it its environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use chassis_init::frame::Kind;
use rustix::io::Errno;

use crate::Failure;
use crate::arguments::{Arguments, Instance};
use crate::given::Given;
use crate::signals::Blocked;

/// As Docker's own default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a shell exits with.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// What to do about an agent's program that is not there.
const HINT: &str = "; set `command:`";

/// Names and values of environment variables, a later one before an earlier one of the same name.
pub(crate) type Variables = [(OsString, OsString)];

/// What the agent finds in its environment, what was given to it included.
pub(crate) fn variables_all(instance: &Instance, given: Option<&Given>) -> Vec<(OsString, OsString)> {
    let mut variables = variables(instance);
    for entry in given.into_iter().flat_map(|given| given.entries(Kind::Variable)) {
        variables.push((OsStr::from_bytes(entry.name).into(), OsStr::from_bytes(entry.value).into()));
    }
    variables
}

pub(crate) fn spawn(
    arguments: &Arguments,
    variables: &Variables,
    signals: Blocked,
) -> Result<Child, Failure> {
    spawn_in_group(&arguments.program, &arguments.operands, variables, signals)
        .map_err(|failure| failure.hinting(HINT))
}

/// Starts a program, found as a shell would.
pub(crate) fn spawn_in_group(
    name: &OsStr,
    operands: &[OsString],
    variables: &Variables,
    signals: Blocked,
) -> Result<Child, Failure> {
    let program = find(name, &search_path(variables))?;
    let mut command = Command::new(&program);
    command
        .arg0(name)
        .args(operands)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        // Its own group, so that what it sends to its group does not come back to init.
        .process_group(0);
    signals.unblock_in(&mut command);
    command.spawn().map_err(|error| not_started(&program, &error))
}

impl Failure {
    /// Of something else than the agent's own program.
    pub(crate) fn prefixed(mut self, prefix: &str) -> Failure {
        self.message.insert_str(0, prefix);
        self
    }

    /// With what to do next, if there was no such program.
    fn hinting(mut self, hint: &str) -> Failure {
        if self.code == NOT_FOUND {
            self.message.push_str(hint);
        }
        self
    }
}

/// Becomes a program, found as the agent's is. Returns why it could not.
pub(crate) fn replace(
    program: &OsStr,
    operands: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
) -> Failure {
    let path = match find(program, &search_path(&variables)) {
        Ok(path) => path,
        Err(failure) => return failure,
    };
    let error = Command::new(&path).arg0(program).args(operands).envs(variables).exec();
    not_started(&path, &error)
}

/// What every program of an instance finds in its environment, beside what Docker put there.
pub(crate) fn variables(instance: &Instance) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = vec![
        ("CHASSIS_FLEET".into(), instance.fleet.clone().into()),
        ("CHASSIS_AGENT".into(), instance.agent.clone().into()),
        ("CHASSIS_INSTANCE".into(), instance.short_name().into()),
        ("CHASSIS_NUMBER".into(), instance.number.clone().into()),
    ];
    // Docker says `/` for a user that the image does not know, and nobody can write there.
    if env::var_os("HOME").is_none_or(|home| home.is_empty() || home == "/") {
        variables.push(("HOME".into(), "/tmpfs".into()));
    }
    if env::var_os("USER").is_none() && rustix::process::geteuid().as_raw() == chassis_init::DEFAULT_USER_ID {
        variables.push(("USER".into(), "chassis".into()));
    }
    variables
}

/// Where programs are looked for.
fn search_path(variables: &Variables) -> OsString {
    let own = variables.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    own.or_else(|| env::var_os("PATH")).unwrap_or_else(|| DEFAULT_PATH.into())
}

/// The file to run: the name itself if it has a slash, else the first executable of that name in the search path.
fn find(program: &OsStr, search: &OsStr) -> Result<PathBuf, Failure> {
    if program.as_bytes().contains(&b'/') {
        return Ok(program.into());
    }
    let mut candidates =
        env::split_paths(search).map(|directory| directory.join(program)).filter(|path| path.is_file());
    let first = candidates.next();
    let runs = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0);
    first.iter().cloned().chain(candidates).find(|path| runs(path)).or(first).ok_or_else(|| Failure {
        code: NOT_FOUND,
        message: format!("{} was not found in PATH={}", program.display(), search.display()),
    })
}

fn not_started(program: &Path, error: &io::Error) -> Failure {
    let name = program.display();
    let (code, message) = match Errno::from_io_error(error) {
        Some(Errno::NOENT) if program.exists() => {
            (NOT_FOUND, format!("{name} cannot run: its interpreter or loader is not in the image"))
        }
        Some(Errno::NOENT | Errno::NOTDIR) => (NOT_FOUND, format!("{name} was not found")),
        Some(Errno::ACCESS) => (
            NOT_EXECUTABLE,
            format!("{name} is not executable by user {}: {error}", rustix::process::geteuid().as_raw()),
        ),
        Some(Errno::NOEXEC) => (
            NOT_EXECUTABLE,
            format!("{name} is no program for this machine: another architecture, or a script without `#!`"),
        ),
        _ => (NOT_EXECUTABLE, format!("{name} cannot be started: {error}")),
    };
    Failure { code, message }
}
