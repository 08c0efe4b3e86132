//! What tests share: a throwaway [`Chassis`] with a data directory of its own, [`Docker`] as a person with `docker` sees
//! it, and [`Image`]s that are made on the spot.
//!
//! Tests run beside each other, in processes of their own: whatever they make carries a name or label that is only
//! theirs, and is taken away when its value is dropped, also by a test that fails; after one that was killed, by the
//! next. Everything here panics when it does not work, because that is how a test says so.

mod chassis;
mod docker;
mod dockerd;
mod http;
mod image;
mod leftovers;
pub mod long_run;
mod machine;
mod mount;
mod namespace;
mod outcome;
mod postgres;
pub mod process;
mod pty;
mod server;

use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

pub use chassis::Chassis;
pub use chassis_api as api;
pub use docker::{Container, Docker};
pub use dockerd::{Dockerd, MAPPED};
pub use http::Answer;
pub use image::{Image, Tag};
pub use machine::Machine;
pub use mount::{LoopMount, TmpfsMount};
pub use namespace::{Listener, Namespace, Neighbour, OwnNamespace};
pub use outcome::Outcome;
pub use postgres::Postgres;
pub use pty::Pty;
pub use server::Server;

/// Long enough for whatever should happen soon, also on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Polls until `check` is content, and returns what it has found. What it complains about last is in the panic.
pub fn eventually<T, E: Display>(patience: Duration, mut check: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match check() {
            Ok(found) => return found,
            Err(complaint) if Instant::now() >= deadline => {
                panic!("not within {patience:?}: {complaint}")
            }
            Err(_) => pause(Duration::from_millis(25)),
        }
    }
}

/// Turns a condition into what [`eventually`] takes.
pub fn expect(holds: bool, complaint: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(complaint()) }
}

/// Waits; for moments that nothing announces.
#[expect(clippy::disallowed_methods, reason = "tests are threads of their own")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Says loudly what could not be tested on this machine, and what would test it: on standard error, and in the file that
/// `CHASSIS_NOT_TESTED` names, which `make test` shows at its end.
pub fn not_tested(what: &str) {
    let line = format!("!!! NOT TESTED: {} !!!\n", what.split_whitespace().collect::<Vec<_>>().join(" "));
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("CHASSIS_NOT_TESTED") {
        let file = File::options().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a file");
    }
}

/// Keeps other tests that name the same thing waiting until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    pub fn take(what: &str) -> Turn {
        let path = std::env::temp_dir().join(format!("chassis-{what}.lock"));
        let lock = File::create(&path).expect("a lock file");
        lock.lock().expect("a lock");
        Turn { _lock: lock }
    }

    /// For the fleets of the documentation and the examples, whose names are fixed.
    pub fn take_documented_fleets() -> Turn {
        Turn::take("docs")
    }
}
