//! What init does besides being PID 1: chassis runs it once more in a sandbox, as the agent's user, for work that needs
//! no tool of the image.
//!
//! ```text
//! chassis-init exec --instance <fleet>/<agent>-<number> --mark <word> [--terminal <columns>x<rows>]
//!     [--directory <path>] -- <program> [<argument>]…
//! chassis-init end <word>
//! chassis-init relay <port> [<address>]…
//! chassis-init tar-out <name> <path> [--follow]
//! chassis-init tar-in <path> named <name> | contents | anything
//! chassis-init started
//! chassis-init idle
//! ```

mod end;
mod exec;
mod files;
mod relay;
mod started;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::Failure;

/// What a helper that was called in a wrong way exits with: `EX_USAGE` of sysexits.h.
const EXIT_USAGE: u8 = 64;

/// Runs the helper of this name, if it is one.
pub(crate) fn run(name: &str, given: impl Iterator<Item = OsString>) -> Option<Result<ExitCode, Failure>> {
    match name {
        "exec" => Some(exec::run(given)),
        "end" => Some(end::run(given)),
        "relay" => Some(relay::run(given)),
        "idle" => Some(started::idle()),
        "started" => Some(started::wait()),
        "tar-in" => Some(files::take(given)),
        "tar-out" => Some(files::give(given)),
        _ => None,
    }
}

fn wrong_usage(message: impl Into<String>) -> Failure {
    Failure { code: EXIT_USAGE, message: message.into() }
}
