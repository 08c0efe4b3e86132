//! Files of the sandbox, in and out as tar archives: with the agent's rights, wherever the agent sees them.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;

use chassis_init::archive::{Source, pack, unpack};

use super::wrong_usage;
use crate::{Failure, report};

const BUFFER: usize = 128 << 10;
const FAILED: u8 = 1;

/// Writes an archive to standard output.
pub(super) fn give(given: impl Iterator<Item = OsString>) -> Result<ExitCode, Failure> {
    let given: Vec<OsString> = given.collect();
    let (name, path, follow) = match given.as_slice() {
        [name, path] => (name, path, false),
        [name, path, flag] if flag == "--follow" => (name, path, true),
        _ => return Err(wrong_usage("write tar-out <name> <path> [--follow]")),
    };
    let name = name.to_str().ok_or_else(|| wrong_usage("the name is no text"))?;
    let path = PathBuf::from(path);
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    let skipped = |path: &std::path::Path| {
        report(&format!("{} is no file, directory or link; left out", path.display()));
    };
    pack(&mut out, &path, name, follow, skipped).map_err(|error| Failure {
        code: FAILED,
        message: format!("cannot read {}: {error}", path.display()),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Unpacks an archive from standard input.
pub(super) fn take(given: impl Iterator<Item = OsString>) -> Result<ExitCode, Failure> {
    let given: Vec<OsString> = given.collect();
    let words: Vec<&str> = given.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let source = match words.as_slice() {
        ["named", name] => Source::Named(name),
        ["contents"] => Source::Contents,
        ["anything"] => Source::Anything,
        _ => return Err(wrong_usage("write tar-in <path> named <name>, contents or anything")),
    };
    let target = given.first().map(PathBuf::from).ok_or_else(|| wrong_usage("the path is missing"))?;
    let mut input = BufReader::with_capacity(BUFFER, io::stdin().lock());
    let skipped = unpack(&mut input, &target, source).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => "; an agent may write to its volumes, /tmp and /tmpfs",
            _ => "",
        };
        Failure { code: FAILED, message: format!("cannot write {}: {error}{hint}", target.display()) }
    })?;
    if skipped > 0 {
        report(&format!("{skipped} that are no file, directory or link were left out"));
    }
    Ok(ExitCode::SUCCESS)
}
