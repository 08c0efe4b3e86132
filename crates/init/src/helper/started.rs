//! Waits: for the end of what prepares the sandbox, and as an agent that does nothing.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use chassis_init::PREPARING;

use crate::Failure;

const POLL: Duration = Duration::from_millis(50);

/// Ends as soon as PID 1 has started the agent. It ends with the sandbox otherwise.
#[expect(clippy::unnecessary_wraps, reason = "as every helper")]
pub(super) fn wait() -> Result<ExitCode, Failure> {
    while fs::read("/proc/1/comm").is_ok_and(|name| name.trim_ascii_end() == PREPARING.to_bytes()) {
        #[expect(clippy::disallowed_methods, reason = "this program has one thread and nothing else to do")]
        std::thread::sleep(POLL);
    }
    Ok(ExitCode::SUCCESS)
}

/// Does nothing until a signal ends it: for a sandbox into which only others bring work.
pub(super) fn idle() -> Result<ExitCode, Failure> {
    loop {
        rustix::event::pause();
    }
}
