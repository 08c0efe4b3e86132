//! Signals and children: all that PID 1 owes to the kernel and to the agent.
//!
//! Signals are blocked and awaited one by one, so that there is no handler and no race: blocked, they also reach PID 1,
//! to which the kernel otherwise delivers only what it has handlers for.
#![expect(unsafe_code, reason = "neither std nor rustix blocks and awaits signals")]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};
use std::ptr;

use chassis_init::turn::{self, Turn};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::report;

/// As a shell tells of one that was ended by SIGKILL.
const KILLED: u8 = 137;

/// These mean a fault of init's own, or concern a terminal that it does not have.
const NOT_FORWARDED: [i32; 9] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// The signals that are blocked and forwarded.
#[derive(Clone, Copy)]
pub(crate) struct Blocked(libc::sigset_t);

impl Blocked {
    pub(crate) fn new() -> Blocked {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigfillset initialises the set that it is given and cannot fail; the other calls get that set.
        unsafe {
            libc::sigfillset(set.as_mut_ptr());
            let mut set = set.assume_init();
            for signal in NOT_FORWARDED {
                libc::sigdelset(&raw mut set, signal);
            }
            libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
            Blocked(set)
        }
    }

    /// Has the agent begin with no signal blocked: a child inherits what its parent blocks.
    pub(crate) fn unblock_in(self, agent: &mut Command) {
        // SAFETY: between fork and exec only sigprocmask is called, which is async-signal-safe.
        unsafe {
            agent.pre_exec(move || {
                match libc::sigprocmask(libc::SIG_UNBLOCK, &raw const self.0, ptr::null_mut()) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
    }

    /// Forwards signals to the agent and reaps whatever ends, until the agent ends. Returns how it ended; or that it was
    /// killed, since with init all end, because the next run of the instance waits for its turn.
    pub(crate) fn supervise(&self, agent: &Child, turn: &Turn) -> ExitCode {
        let agent = Pid::from_child(agent);
        let look = libc::timespec { tv_sec: turn::LOOK.as_secs().cast_signed(), tv_nsec: 0 };
        loop {
            if let Some(code) = reap(agent) {
                return ExitCode::from(code);
            }
            if turn.is_wanted() {
                report("the next run of this instance has begun: this one, which the engine forgot, ends");
                return ExitCode::from(KILLED);
            }
            // SAFETY: the set and the time are initialised, and a null pointer says that the details of the signal are
            // not wanted.
            let signal = unsafe { libc::sigtimedwait(&raw const self.0, ptr::null_mut(), &raw const look) };
            if signal > 0 && signal != libc::SIGCHLD {
                // SAFETY: kill touches no memory. The agent was not reaped yet, so the id is still its own.
                unsafe { libc::kill(agent.as_raw_nonzero().get(), signal) };
            }
        }
    }
}

/// Reaps every child that has ended. Returns the exit code of the agent if it is among them.
fn reap(agent: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == agent {
            code = Some(exit_code(status));
        }
    }
    code
}

/// The agent's own code, or 128 and the signal that ended it, as in a shell.
fn exit_code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
