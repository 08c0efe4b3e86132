//! Checks of the data directory, the key and the database.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use chassis_server::{inspect, key_id};
use rustix::fs::{Access, StatVfsMountFlags};
use zeroize::Zeroizing;

use super::facts::{Facts, chain};
use super::{Check, Finding, space};

pub(super) const CHECKS: &[Check] = &[
    Check { name: "data-directory", look: directory },
    Check { name: "data-disk", look: disk },
    Check { name: "data-file-system", look: file_system },
    Check { name: "key", look: key },
    Check { name: "database", look: database },
];

/// What `statfs` calls file systems that need a word.
const TMPFS: u64 = 0x0102_1994;
const NFS: u64 = 0x6969;
const SMB: [u64; 3] = [0x517b, 0xff53_4d42, 0xfe53_4d42];

const NOT_YET: &str = "not made yet; the first command that needs a server makes it";

fn directory(facts: &Facts) -> Finding {
    let root = facts.data_dir.root();
    let shown = root.display();
    let metadata = match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            return Finding::problem(format!("{shown} is not a directory"), "choose another with --data-dir");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match existing_parent(root) {
                Some(parent) if rustix::fs::access(parent, Access::WRITE_OK).is_err() => Finding::problem(
                    format!("{shown} is not there, and this user may not make it in {}", parent.display()),
                    "run as a user who may, or choose another with --data-dir",
                ),
                _ => Finding::ok(format!("{shown}: {NOT_YET}")),
            };
        }
        Err(error) => {
            return Finding::problem(
                format!("{shown} cannot be looked at: {error}"),
                "run as the user of the server",
            );
        }
    };
    let (user, mode) = (rustix::process::geteuid().as_raw(), metadata.mode() & 0o7777);
    if mode & 0o022 != 0 {
        return Finding::problem(
            format!("{shown} has mode {mode:04o}: other users can exchange what is in it"),
            format!("`chmod 711 {shown}`"),
        );
    }
    if user != 0 && metadata.uid() != user {
        return Finding::problem(
            format!("{shown} belongs to user {}, and this is user {user}", metadata.uid()),
            format!("run as that user, or `sudo chown -R {user} {shown}` if no server of that user needs it"),
        );
    }
    if mode & 0o001 == 0 {
        return Finding::warning(
            format!(
                "{shown} has mode {mode:04o}: agents of other users cannot pass to their own directories"
            ),
            format!("`chmod 711 {shown}`; the server does so when it starts"),
        );
    }
    if let Err(error) = rustix::fs::access(root, Access::WRITE_OK) {
        return Finding::problem(
            format!("{shown} cannot be written: {}", io::Error::from(error)),
            format!("look at its file system: `findmnt -T {shown}`"),
        );
    }
    Finding::ok(format!("{shown}, mode {mode:04o}, user {}", metadata.uid()))
}

fn disk(facts: &Facts) -> Finding {
    let root = facts.data_dir.root();
    match existing_parent(root) {
        None => Finding::skipped(NOT_YET),
        Some(path) => space::of(
            path,
            &format!(
                "see what is large: `du -xsh {0}/*`; data of instances that are gone is deleted with `chassis delete … --cleanup`, or enlarge the disk",
                root.display()
            ),
        ),
    }
}

fn file_system(facts: &Facts) -> Finding {
    let root = facts.data_dir.root();
    let Some(path) = existing_parent(root) else { return Finding::skipped(NOT_YET) };
    let (Ok(kind), Ok(mount)) = (rustix::fs::statfs(path), rustix::fs::statvfs(path)) else {
        return Finding::skipped(format!("{} cannot be looked at", path.display()));
    };
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Finding::problem(
            format!("{} is mounted read-only", path.display()),
            "a disk with errors is made so: `dmesg | tail`; else `sudo mount -o remount,rw`",
        );
    }
    if mount.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Finding::problem(
            format!("{} is mounted noexec: no agent can be started from it", path.display()),
            "mount it without noexec, or choose another with --data-dir",
        );
    }
    // The type of the field differs between architectures.
    let kind = u64::try_from(kind.f_type).unwrap_or_default() & 0xffff_ffff;
    match kind {
        TMPFS => Finding::warning(
            format!(
                "{} is memory: fleets, secrets and data are gone after a restart of the machine",
                path.display()
            ),
            "choose a directory on a disk with --data-dir",
        ),
        NFS => Finding::warning(
            format!("{} is NFS: the database needs locks that NFS does not always keep", path.display()),
            "keep the data directory on a disk of this machine, and give agents NFS as a volume",
        ),
        other if SMB.contains(&other) => Finding::problem(
            format!("{} is a Windows share: it has neither owners nor modes", path.display()),
            "choose a directory on a disk of this machine with --data-dir",
        ),
        _ => Finding::ok(format!("{} can hold data and programs", path.display())),
    }
}

fn key(facts: &Facts) -> Finding {
    // A running server has opened the database with its key; whoever reads it now may meet a rotation half-way.
    let expected = if facts.server_runs() {
        None
    } else {
        inspect(&facts.data_dir.database()).ok().and_then(|found| found.key_id)
    };
    if let Some(value) = &facts.encryption_key {
        return key_value(&value.to_string_lossy(), "TOKEN_ENCRYPTION_KEY", expected.as_deref());
    }
    let path = facts.data_dir.key_file();
    let shown = path.display();
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match expected {
                Some(_) => Finding::problem(
                    format!("{shown} is missing, and there are secrets that were encrypted with it"),
                    "put it back from a backup, or set TOKEN_ENCRYPTION_KEY if the key came from there",
                ),
                None => Finding::ok("none yet; the first secret makes one"),
            };
        }
        Err(error) => return unreadable(&path, &error),
    };
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Finding::problem(
            format!(
                "{shown} has mode {mode:04o}: other users can read the key of all secrets, and no server starts with it"
            ),
            format!("`chmod 600 {shown}`, then `chassis secret rotate-key`, as somebody may have read it"),
        );
    }
    match fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(digits) => key_value(&digits, &shown.to_string(), expected.as_deref()),
        Err(error) => unreadable(&path, &error),
    }
}

fn key_value(digits: &str, origin: &str, expected: Option<&str>) -> Finding {
    match (key_id(digits, origin), expected) {
        (Err(_), _) => Finding::problem(
            format!("{origin} holds no key; a key is 64 hex digits"),
            "put the key back from a backup; if there are no secrets yet, make one with `openssl rand -hex 32`",
        ),
        (Ok(id), Some(expected)) if id != expected => Finding::problem(
            format!("{origin} holds key {id}, and the secrets were encrypted with key {expected}"),
            "put that key back from a backup, or write all secrets again with `chassis secret create --replace`",
        ),
        (Ok(id), _) => Finding::ok(format!("key {id} in {origin}")),
    }
}

fn database(facts: &Facts) -> Finding {
    let path = facts.data_dir.database();
    if facts.server_runs() {
        return Finding::skipped("a server has it open; it was checked when that started");
    }
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Finding::ok(NOT_YET),
        Err(error) => return unreadable(&path, &error),
        Ok(_) => {}
    }
    match inspect(&path) {
        Ok(_) => Finding::ok(format!("{} is whole", path.display())),
        Err(error) => Finding::problem(
            chain(&error),
            "copy the data directory away before anything else, then restore .server/chassis.db from a backup (docs/operations.md)",
        ),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Finding {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Finding::skipped(format!(
            "this user may not read {}; ask again as the server's",
            path.display()
        ));
    }
    Finding::problem(
        format!("{} cannot be read: {error}", path.display()),
        "look at the disk: `dmesg | tail`",
    )
}

/// The directory itself, or the nearest one above it that is there.
fn existing_parent(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| path.is_dir())
}
