//! Signals and children: all that PID 1 owes to the kernel and to the agent.
//!
//! Signals are blocked and awaited one by one, so that there is no handler and no race: blocked, they also reach PID 1,
//! to which the kernel otherwise delivers only what it has handlers for.
#![expect(unsafe_code, reason = "neither std nor rustix blocks and awaits signals")]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::report;
use crate::right::{Left, Right};

/// Why a child is no longer supervised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It ended, with this code.
    Itself(u8),
    /// It took longer than it may.
    TooLate,
    /// The next run of the instance waits for its turn.
    GaveWay,
    /// It may run elsewhere by now.
    Unleased,
}

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

    /// Forwards signals to a child and reaps whatever ends, until the child ends, or all is to end: the caller then ends
    /// init, and with it whatever still runs.
    pub(crate) fn supervise(&self, child: &Child, right: &mut Right, patience: Option<Duration>) -> Ended {
        let child = Pid::from_child(child);
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut is_asked = false;
        loop {
            if let Some(code) = reap(child) {
                // Whoever asked it to end: it was to, and is to be told so.
                return if is_asked || right.is_over() { Ended::Unleased } else { Ended::Itself(code) };
            }
            let mut look = right.look();
            match right.left() {
                Left::All => {}
                Left::Wanted => {
                    report(
                        "the next run of this instance has begun: this one, which the engine forgot, ends",
                    );
                    return Ended::GaveWay;
                }
                Left::Ending(grace) => {
                    if !std::mem::replace(&mut is_asked, true) {
                        report(
                            "no server has answered for this node for 60 s, and this instance may run elsewhere: it ends",
                        );
                        send(child, libc::SIGTERM);
                    }
                    look = look.min(grace);
                }
                Left::Nothing => return Ended::Unleased,
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ended::TooLate;
            }
            let look = left.map_or(look, |left| left.min(look));
            let look =
                libc::timespec { tv_sec: look.as_secs().cast_signed(), tv_nsec: look.subsec_nanos().into() };
            // SAFETY: the set and the time are initialised, and a null pointer says that the details of the signal are
            // not wanted.
            let signal = unsafe { libc::sigtimedwait(&raw const self.0, ptr::null_mut(), &raw const look) };
            if signal > 0 && signal != libc::SIGCHLD {
                send(child, signal);
            }
        }
    }
}

fn send(child: Pid, signal: i32) {
    // SAFETY: kill touches no memory. The child was not reaped yet, so the id is still its own.
    unsafe { libc::kill(child.as_raw_nonzero().get(), signal) };
}

/// Reaps every child that has ended. Returns the exit code of this one if it is among them.
fn reap(child: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == child {
            code = Some(exit_code(status));
        }
    }
    code
}

/// Its own code, or 128 and the signal that ended it, as in a shell.
fn exit_code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
