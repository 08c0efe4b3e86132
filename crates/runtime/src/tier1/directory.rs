//! An open directory, in which names are used without ever following a symbolic link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::Owner;

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

/// A name that nothing else has.
pub(crate) fn unused_name() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Makes the directory of all fleets if it is not there.
pub(super) fn create_root(path: &Path) -> io::Result<Directory> {
    match Directory::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path)?;
            Directory::open(path)
        }
        opened => opened,
    }
}

impl Directory {
    /// Opens by a path of the server's own, in which links are the administrator's.
    pub(super) fn open(path: &Path) -> io::Result<Directory> {
        Ok(Directory(fs::open(path, OPEN.difference(OFlags::NOFOLLOW), Mode::empty())?))
    }

    pub(super) fn open_child(&self, name: impl rustix::path::Arg) -> io::Result<Directory> {
        Ok(Directory(fs::openat(&self.0, name, OPEN, Mode::empty())?))
    }

    /// Makes a directory, or opens the one that is there. A new one has the mode, and the owner of its parent.
    pub(super) fn create(&self, name: &str, mode: u32) -> io::Result<Directory> {
        let (child, is_new) = self.make(name, mode)?;
        if is_new && rustix::process::geteuid().is_root() {
            child.give(self.owner()?)?;
        }
        Ok(child)
    }

    /// Makes a directory that belongs to the server, whoever owns its parent.
    pub(super) fn create_own(&self, name: &str, mode: u32) -> io::Result<Directory> {
        Ok(self.make(name, mode)?.0)
    }

    fn make(&self, name: &str, mode: u32) -> io::Result<(Directory, bool)> {
        let is_new = match fs::mkdirat(&self.0, name, Mode::from(mode)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let child = self.open_child(name)?;
        if is_new {
            // mkdir masks the mode.
            fs::fchmod(&child.0, Mode::from(mode))?;
        }
        Ok((child, is_new))
    }

    /// Makes every directory of a relative path, and opens the last to everybody: memory will lie over it.
    pub(super) fn create_mount_point(&self, path: &str) -> io::Result<()> {
        let mut parts = path.split('/');
        let Some(first) = parts.next() else { return Ok(()) };
        let last =
            parts.try_fold(self.create(first, 0o700)?, |directory, part| directory.create(part, 0o700))?;
        Ok(fs::fchmod(&last.0, Mode::from(0o1777))?)
    }

    /// The names of the directories in it.
    pub(super) fn children(&self) -> io::Result<Vec<OsString>> {
        let mut children = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let stat = fs::statat(&self.0, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                children.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(children)
    }

    pub(super) fn owner(&self) -> io::Result<Owner> {
        let stat = fs::fstat(&self.0)?;
        Ok(Owner { user: stat.st_uid, group: stat.st_gid })
    }

    pub(super) fn give(&self, owner: Owner) -> io::Result<()> {
        if self.owner()? != owner {
            fs::fchown(&self.0, Some(Uid::from_raw(owner.user)), Some(Gid::from_raw(owner.group)))?;
        }
        Ok(())
    }

    /// The content of a small file, or `None` if it is not there.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(&self.0, name, flags, Mode::empty()) {
            Ok(file) => {
                let mut content = Vec::new();
                File::from(file).read_to_end(&mut content)?;
                Ok(Some(content))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a file so that it is there whole or not at all.
    pub(super) fn write(&self, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let temporary = format!("{name}.{}", unused_name());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(fs::openat(&self.0, &temporary, flags, Mode::from(mode))?);
        let written = fs::fchmod(&file, Mode::from(mode))
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(content))
            .and_then(|()| Ok(fs::renameat(&self.0, &temporary, &self.0, name)?));
        if written.is_err() {
            let _ = fs::unlinkat(&self.0, &temporary, AtFlags::empty());
        }
        written
    }

    /// Links a file of another directory to here, replacing what has the name. Where links do not reach, it is copied.
    pub(super) fn link(&self, from: &Directory, name: &str, content: &[u8]) -> io::Result<()> {
        if let (Some(there), Some(here)) = (from.stat(name)?, self.stat(name)?)
            && (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
        {
            return Ok(());
        }
        let temporary = format!("{name}.{}", unused_name());
        match fs::linkat(&from.0, name, &self.0, &temporary, AtFlags::empty()) {
            Ok(()) => Ok(fs::renameat(&self.0, &temporary, &self.0, name)?),
            Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => {
                if self.read(name)?.as_deref() == Some(content) {
                    return Ok(());
                }
                self.write(name, content, 0o755)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn size(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.stat(name)?.and_then(|stat| u64::try_from(stat.st_size).ok()))
    }

    fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        match fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
