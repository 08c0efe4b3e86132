//! That an instance runs once, whatever the engine believes.
//!
//! An engine that is killed while it starts a container forgets that it runs, and starts the next one beside it. Two locks
//! of the kernel, which end with their holders, keep them apart:
//!
//! ```text
//! the file `instance`    exclusive   held by the init of the run that has the turn, as long as it lives
//! the directory          shared      held by whoever waits for that turn; init looks every five seconds, and gives way
//! ```
//! Both are in the instance's own directory, which no other instance's sandbox can reach.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How often the run that has the turn looks whether another one waits for it.
pub const LOOK: Duration = Duration::from_secs(5);
/// How long to wait for a run that is to give way: two looks, and the end of a process.
pub const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// The turn of one run. Dropped, it is the next one's.
#[derive(Debug)]
pub struct Turn {
    directory: File,
    /// Held, not read.
    _run: File,
}

impl Turn {
    /// Waits until no other run is alive; one that is gives way meanwhile. `directory` is the `.chassis` of an instance.
    /// A file system without locks lets everybody have the turn.
    ///
    /// # Errors
    /// `TimedOut` if another run is still alive after `patience`; else why the directory cannot be used.
    #[expect(
        clippy::disallowed_methods,
        reason = "init has no other thread, and the runtime calls this on a blocking one"
    )]
    pub fn take(directory: &Path, patience: Duration) -> io::Result<Turn> {
        let run = File::open(directory.join("instance"))?;
        let directory = File::open(directory)?;
        if is_free(flock(&run, FlockOperation::NonBlockingLockExclusive))? {
            return Ok(Turn { directory, _run: run });
        }
        let deadline = Instant::now() + patience;
        let mut waits = false;
        while Instant::now() < deadline {
            waits = waits || is_free(flock(&directory, FlockOperation::NonBlockingLockShared))?;
            sleep(POLL);
            if is_free(flock(&run, FlockOperation::NonBlockingLockExclusive))? {
                let _ = flock(&directory, FlockOperation::Unlock);
                return Ok(Turn { directory, _run: run });
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// True while somebody waits for this turn to end.
    pub fn is_wanted(&self) -> bool {
        match flock(&self.directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let _ = flock(&self.directory, FlockOperation::Unlock);
                false
            }
            Err(error) => error == Errno::WOULDBLOCK,
        }
    }
}

fn is_free(locked: rustix::io::Result<()>) -> io::Result<bool> {
    match locked {
        Err(Errno::WOULDBLOCK) => Ok(false),
        // NFS locks for writing only what is open for writing; others know no locks at all.
        Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK | Errno::BADF | Errno::INVAL) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test of threads")]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_waits_and_the_first_one_learns_of_it() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("instance"), "a/b-1\n").expect("a file");
        let first = Turn::take(directory.path(), Duration::ZERO).expect("nobody else has it");
        assert!(!first.is_wanted());
        let late = Turn::take(directory.path(), Duration::from_millis(120)).expect_err("it is taken");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(!first.is_wanted(), "one that gave up still waits");
        let path = directory.path().to_owned();
        let next = std::thread::spawn(move || Turn::take(&path, PATIENCE));
        while !first.is_wanted() {
            sleep(POLL);
        }
        drop(first);
        let next = next.join().expect("a thread").expect("the first one gave way");
        assert!(!next.is_wanted());
    }
}
