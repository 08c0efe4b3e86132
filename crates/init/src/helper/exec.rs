//! Runs a command beside the agent as the agent would be run: found in the same way, with the same variables but its
//! secrets. Becomes the command, so that nothing of init is left beside it.

use std::ffi::OsString;
use std::process::ExitCode;

use rustix::termios::{Winsize, tcsetwinsize};

use super::wrong_usage;
use crate::Failure;
use crate::agent;
use crate::arguments::{Instance, value};

/// What is in the way of a command, as in a shell.
const NOT_EXECUTABLE: u8 = 126;

pub(super) fn run(mut given: impl Iterator<Item = OsString>) -> Result<ExitCode, Failure> {
    let mut instance = None;
    let mut mark = None;
    let mut directory = None;
    loop {
        let flag = given.next().ok_or_else(|| wrong_usage("there is no `--` and command to run"))?;
        match flag.to_str() {
            Some("--instance") => {
                let key = value(&flag, given.next()).map_err(wrong_usage)?;
                instance = Some(Instance::parse(&key).map_err(wrong_usage)?);
            }
            Some("--mark") => mark = Some(value(&flag, given.next()).map_err(wrong_usage)?),
            Some("--terminal") => {
                let size = value(&flag, given.next()).map_err(wrong_usage)?;
                terminal_resize(&size).ok_or_else(|| wrong_usage("--terminal is not <columns>x<rows>"))?;
            }
            Some("--directory") => directory = Some(value(&flag, given.next()).map_err(wrong_usage)?),
            Some("--") => break,
            _ => return Err(wrong_usage(format!("unknown argument {}", flag.display()))),
        }
    }
    let instance = instance.ok_or_else(|| wrong_usage("--instance is missing"))?;
    let program = given.next().ok_or_else(|| wrong_usage("there is no command to run"))?;
    if let Some(directory) = directory {
        std::env::set_current_dir(&directory).map_err(|error| Failure {
            code: NOT_EXECUTABLE,
            message: format!("cannot work in {}: {error}", directory.display()),
        })?;
    }
    let mut variables = agent::variables(&instance);
    if let Some(mark) = mark {
        variables.push((chassis_init::MARK.into(), marked(&mark)));
    }
    Err(agent::replace(&program, given.collect(), variables))
}

/// Gives the terminal its size before anything can ask for it: some Engines start every terminal without one.
fn terminal_resize(size: &OsString) -> Option<()> {
    let (columns, rows) = size.to_str()?.split_once('x')?;
    let size =
        Winsize { ws_col: columns.parse().ok()?, ws_row: rows.parse().ok()?, ws_xpixel: 0, ws_ypixel: 0 };
    // A command that finds no size makes do without.
    let _ = tcsetwinsize(rustix::stdio::stdin(), size);
    Some(())
}

/// The word, and the session in which what belongs to the command stays.
fn marked(word: &OsString) -> OsString {
    let session = rustix::process::getsid(None).map_or(0, |session| session.as_raw_nonzero().get());
    let mut mark = word.clone();
    mark.push(format!(".{session}"));
    mark
}
