//! What a test left behind that was killed before it could clean up: its server, containers, networks, files.
//!
//! Each throwaway chassis holds a kernel lock on a file in its directory, and writes there which server is its own. A lock
//! that nobody holds any more belongs to a test that is dead; the next one takes away what is named there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Once;

use crate::Docker;

/// How the directories begin that are looked through, under the directory for temporary files.
pub(crate) const PREFIX: &str = "chassis";

/// In each of them, the file that is locked.
const CLAIM: &str = ".test";

/// That a test is alive, and which server is its own.
#[derive(Debug)]
pub(crate) struct Claim {
    file: File,
}

impl Claim {
    /// On a directory that is new and the caller's own.
    pub(crate) fn new(home: &Path) -> io::Result<Claim> {
        // Under its own name only once it is locked: without a lock it would be a dead test's.
        let early = home.join(".test-new");
        let file = File::create_new(&early)?;
        file.lock()?;
        fs::rename(early, home.join(CLAIM))?;
        Ok(Claim { file })
    }

    /// Notes the server's id: it is in the labels of all that the server makes.
    pub(crate) fn note_server(&self, id: &str) -> io::Result<()> {
        (&self.file).write_all(id.as_bytes())
    }
}

/// Takes away what dead tests left, once in each process.
pub(crate) fn sweep_once() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        let directories = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
        for directory in directories {
            if directory.file_name().to_string_lossy().starts_with(PREFIX) {
                sweep_dead(&directory.path());
            }
        }
    });
}

fn sweep_dead(home: &Path) {
    let claim = home.join(CLAIM);
    let Ok(file) = File::open(&claim) else { return };
    // Another may be at it, or the test lives.
    if file.try_lock().is_err() {
        return;
    }
    let data_dir = home.join("data");
    end_server(&data_dir, &data_dir.join(".server"));
    let id = fs::read_to_string(claim).unwrap_or_default();
    if !id.is_empty() {
        sweep_server(&Docker::of_machine(), &id);
    }
    // What is still mounted there stays, and is tried again by the next.
    let _ = fs::remove_dir_all(home);
}

/// Takes away all that a server made: on the Engine, and in memory.
pub(crate) fn sweep_server(docker: &Docker, id: &str) {
    docker.sweep(&format!("chassis.server={id}"));
    for directory in secret_dirs(id) {
        let _ = fs::remove_dir_all(directory);
    }
}

/// Kills the server in the background that works on a data directory, if there is one.
pub(crate) fn end_server(data_dir: &Path, server_dir: &Path) {
    let Some(pid) = background_pid(server_dir) else { return };
    let own = fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.contains(&data_dir.display().to_string()));
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid.filter(|_| own) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        crate::pause(std::time::Duration::from_millis(20));
    }
}

/// The process that holds a server's directory.
pub(crate) fn background_pid(server_dir: &Path) -> Option<u32> {
    fs::read_to_string(server_dir.join("lock")).ok()?.trim().parse().ok()
}

/// Where a server keeps secret files: in memory.
pub(crate) fn secret_dirs(id: &str) -> [PathBuf; 2] {
    let shared = format!("/dev/shm/chassis-{}", rustix::process::geteuid().as_raw());
    ["/run/chassis", &shared].map(|path| Path::new(path).join(id))
}
