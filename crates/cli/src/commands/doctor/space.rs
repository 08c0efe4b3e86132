//! How much room a file system has left.

use std::path::Path;

use super::Finding;
use crate::output::{percent, size};

/// Below this nothing works any more: databases, images and logs grow by more in one step.
const BYTES_PROBLEM: u64 = 32 << 20;
/// Below this, and below a twentieth of the disk, it is time to make room.
const BYTES_WARNING: u64 = 2 << 30;
const INODES_PROBLEM: u64 = 1000;

/// Looks at the file system of `path`; `fix` says how to make room there.
pub(super) fn of(path: &Path, fix: &str) -> Finding {
    let room = match rustix::fs::statvfs(path) {
        Ok(room) => room,
        Err(error) => {
            return Finding::problem(
                format!("{} cannot be looked at: {}", path.display(), std::io::Error::from(error)),
                "check the directory, the disk behind it and its mount: `df`, `mount`, `dmesg | tail`",
            );
        }
    };
    let (free, all) = (room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize);
    let found = format!("{} of {} free at {}", size(free), size(all), path.display());
    // Some file systems count no inodes.
    let (inodes, all_inodes) = (room.f_favail, room.f_files);
    if free < BYTES_PROBLEM {
        let what = if free < 1 << 20 { "the disk is full" } else { "there is too little room" };
        return Finding::problem(format!("{what}: {found}"), fix);
    }
    if all_inodes > 0 && inodes < INODES_PROBLEM {
        return Finding::problem(
            format!("only {inodes} of {all_inodes} inodes are free at {}", path.display()),
            fix,
        );
    }
    if free < BYTES_WARNING && free < all / 20 {
        return Finding::warning(format!("the disk is nearly full: {found}"), fix);
    }
    if all_inodes > 0 && inodes < all_inodes / 20 {
        return Finding::warning(
            format!("{inodes} of {all_inodes} inodes are free at {}", path.display()),
            fix,
        );
    }
    if all_inodes == 0 {
        return Finding::ok(found);
    }
    #[expect(clippy::cast_precision_loss, reason = "a share in whole percent")]
    let inodes = percent(inodes as f64 / all_inodes as f64);
    Finding::ok(format!("{found}, {inodes} of its inodes"))
}
