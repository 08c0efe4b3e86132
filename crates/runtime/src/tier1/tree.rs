//! Walks over what an agent left behind: of any size and depth, and with links wherever it hurts.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::Owner;
use super::directory::{Directory, unused_name};

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Each level holds one open file while its content is given away.
const DEEPEST: u32 = 128;

/// Gives a directory and all that is in it to its owner; the directory itself last, so that one that was cut off is
/// done again.
pub(super) fn give(directory: &Directory, owner: Owner) -> io::Result<()> {
    give_content(directory.as_fd(), owner, 0)?;
    directory.give(owner)
}

fn give_content(directory: BorrowedFd<'_>, owner: Owner, depth: u32) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other(format!("directories are nested more than {DEEPEST} deep")));
    }
    let (user, group) = (Some(Uid::from_raw(owner.user)), Some(Gid::from_raw(owner.group)));
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dots(name) {
            continue;
        }
        fs::chownat(directory, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
        match fs::openat(directory, name, OPEN, Mode::empty()) {
            Ok(child) => give_content(child.as_fd(), owner, depth + 1)?,
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes all that is in a directory. However deep that is nested, it takes two open files: the directories inside a
/// directory are moved up to the top before it is removed.
pub(super) fn empty(top: &Directory) -> io::Result<()> {
    let top = top.as_fd();
    loop {
        let names = names(top)?;
        if names.is_empty() {
            return Ok(());
        }
        for (name, kind) in names {
            if kind == FileType::Directory {
                dissolve(top, &name)?;
            } else {
                unlink(top, &name, AtFlags::empty())?;
            }
        }
    }
}

/// Removes a directory in the top directory, and moves the directories in it up there.
fn dissolve(top: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let directory = match open_for_removal(top, name) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for (child, kind) in names(directory.as_fd())? {
        if kind != FileType::Directory {
            unlink(directory.as_fd(), &child, AtFlags::empty())?;
        } else if unlink(directory.as_fd(), &child, AtFlags::REMOVEDIR).is_err() {
            make_accessible(directory.as_fd(), &child);
            fs::renameat(&directory, &child, top, unused_name())?;
        }
    }
    unlink(top, name, AtFlags::REMOVEDIR)
}

fn open_for_removal(top: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<std::os::fd::OwnedFd> {
    make_accessible(top, name);
    fs::openat(top, name, OPEN, Mode::empty())
}

/// Root needs no permission. Another user may have taken its own away.
fn make_accessible(parent: BorrowedFd<'_>, name: &CStr) {
    if !rustix::process::geteuid().is_root() {
        // What fails here fails again, and is reported, where the permission is used.
        let _ = fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty());
    }
}

fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<(CString, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dots(name) {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                FileType::from_raw_mode(fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            }
            known => known,
        };
        names.push((name.to_owned(), kind));
    }
    Ok(names)
}

fn unlink(directory: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<()> {
    match fs::unlinkat(directory, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
