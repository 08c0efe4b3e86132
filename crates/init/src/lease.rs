//! For how long what may run elsewhere may run here: what its node tells init, through one small file.
//!
//! ```text
//! <boot id> <milliseconds since the machine was booted, 20 digits> <FNV-1a of both, 16 digits>
//! ```
//! The node writes it in place whenever a server has answered for it, and every such sandbox sees it in [`DIRECTORY`], which it
//! cannot write. So it takes no room of a disk that is full, and a node that is gone writes nothing. A piece of it that is
//! read while it is written is told by its sum, and passed over: what was promised before holds until then.
//!
//! The clock is the kernel's since the machine was booted. It goes on while the machine sleeps, nobody sets it, and what was
//! written before another boot means nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::frame::fnv1a;

/// Where a sandbox that may run elsewhere sees its node's file.
pub const DIRECTORY: &str = "/.chassis/lease";
/// The file in it.
pub const FILE: &str = "until";
/// How often init looks at the clock.
pub const LOOK: Duration = Duration::from_secs(1);
/// What an agent gets to end by itself when the lease is over. With a look this is less than what
/// `chassis_core::Rules::ending` promises.
pub const GRACE: Duration = Duration::from_secs(10);

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// More than the file is long.
const LONGEST: usize = 256;

/// Time since the machine was booted, its sleep included.
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// What tells this boot of the machine from every other.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

/// Until when the file says that the lease lasts. None if that is of another boot, or cannot be read.
pub fn read(path: &Path, boot: &str) -> Option<Duration> {
    let mut text = String::new();
    File::open(path).ok()?.take(LONGEST as u64).read_to_string(&mut text).ok()?;
    let (said, sum) = text.trim_end().rsplit_once(' ')?;
    if u64::from_str_radix(sum, 16).ok()? != fnv1a(said.as_bytes()) {
        return None;
    }
    let (of, until) = said.split_once(' ')?;
    (of == boot).then(|| until.parse().ok().map(Duration::from_millis))?
}

/// The node's end of the file: open, so that nothing is in the way when it is to be written.
#[derive(Debug)]
pub struct Writer(File);

impl Writer {
    /// Opens the file in a directory that sandboxes see, and makes both if they are not there.
    pub fn open(directory: &Path) -> io::Result<Writer> {
        match fs::DirBuilder::new().mode(0o755).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = directory.join(FILE);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)?;
        // The umask is whose process this is.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        Ok(Writer(file))
    }

    pub fn write(&self, boot: &str, until: Duration) -> io::Result<()> {
        let said = format!("{boot} {:020}", until.as_millis());
        let line = format!("{said} {:016x}\n", fnv1a(said.as_bytes()));
        self.0.write_all_at(line.as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_and_of_this_boot_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("lease");
        let path = place.join(FILE);
        let writer = Writer::open(&place).expect("a file");
        assert_eq!(read(&path, "boot"), None, "nothing was written yet");
        for until in [u64::MAX, 5] {
            writer.write("boot", Duration::from_millis(until)).expect("written");
            assert_eq!(read(&path, "boot"), Some(Duration::from_millis(until)));
        }
        assert_eq!(read(&path, "another"), None);
        drop(Writer::open(&place).expect("again"));
        assert_eq!(
            read(&path, "boot"),
            Some(Duration::from_millis(5)),
            "the next process of the node finds it"
        );

        let mut torn = fs::read(&path).expect("bytes");
        torn[20] ^= 1;
        fs::write(&path, &torn).expect("written");
        assert_eq!(read(&path, "boot"), None);
        assert!(boot_id().expect("a boot id").len() > 30);
        assert!(since_boot() > Duration::ZERO);
    }
}
