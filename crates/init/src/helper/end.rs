//! Ends what an exec left: Docker knows no way to end a command whose asker has gone.
//!
//! A command carries a word in its environment, which its children inherit. Those of its session are ended; what put
//! itself into a session of its own (`setsid`) wanted to stay, and stays.

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::wrong_usage;
use crate::Failure;

/// Between being asked to end and being killed.
const GRACE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

pub(super) fn run(mut given: impl Iterator<Item = OsString>) -> Result<ExitCode, Failure> {
    let word = given.next().and_then(|word| word.into_string().ok()).filter(|word| !word.is_empty());
    let word = word.ok_or_else(|| wrong_usage("the word of the command is missing"))?;
    // As when a terminal is closed: an interactive shell ignores SIGTERM.
    send(&marked(&word), Signal::HUP);
    send(&marked(&word), Signal::TERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if marked(&word).is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        #[expect(clippy::disallowed_methods, reason = "this program has one thread and nothing else to do")]
        std::thread::sleep(POLL);
    }
    send(&marked(&word), Signal::KILL);
    Ok(ExitCode::SUCCESS)
}

fn send(processes: &[Pid], signal: Signal) {
    for process in processes {
        // One that has ended meanwhile is what is wanted.
        let _ = kill_process(*process, signal);
    }
}

/// The living processes of the command's session that carry the word. Their user is init's own, so that they can be read.
fn marked(word: &str) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|number| {
            session_in_environment(*number, word).is_some_and(|session| lives_in(*number, session))
        })
        .filter_map(Pid::from_raw)
        .collect()
}

fn session_in_environment(process: i32, word: &str) -> Option<i32> {
    let environment = fs::read(format!("/proc/{process}/environ")).ok()?;
    let prefix = format!("{}={word}.", chassis_init::MARK);
    let value =
        environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(prefix.as_bytes()))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Whether the process is in this session, and not just waiting to be reaped.
fn lives_in(process: i32, session: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
    // `<pid> (<name, with anything in it>) <state> <parent> <group> <session> …`
    let Some((_, fields)) = stat.rsplit_once(") ") else { return false };
    let fields: Vec<&str> = fields.split(' ').collect();
    fields.first().is_some_and(|state| *state != "Z")
        && fields.get(3).and_then(|field| field.parse().ok()) == Some(session)
}
