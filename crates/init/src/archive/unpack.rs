//! Makes files and directories of an archive that nobody vouches for.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{self as sys, AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::header::{self, Header, Kind, padding};

/// What an archive is of, as whoever asked for it knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// One file or directory of this name.
    Named(&'a str),
    /// What is in a directory.
    Contents,
    /// Anything; goes only into a directory that is there.
    Anything,
}

/// How many entries were left out because they are neither file, directory nor link.
pub type Skipped = u64;

/// Unpacks an archive to where `target` says, as `cp` understands it: into it if it is a directory, else under its name.
pub fn unpack(input: &mut impl Read, target: &Path, source: Source<'_>) -> io::Result<Skipped> {
    let Some(first) = header::read(input)? else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is empty"));
    };
    let mut unpacker = Unpacker::at(target, source, first.kind)?;
    let mut entry = Some(first);
    while let Some(header) = entry {
        let mut content = input.take(header.size);
        unpacker.make(&header, &mut content)?;
        let rest = content.limit() + padding(header.size);
        if io::copy(&mut input.take(rest), &mut io::sink())? != rest {
            return Err(header::damaged());
        }
        entry = header::read(input)?;
    }
    // Whoever writes the archive should not find the pipe closed.
    io::copy(input, &mut io::sink())?;
    Ok(unpacker.skipped)
}

struct Unpacker<'a> {
    /// Everything is made below it.
    root: OwnedFd,
    /// The one name that may be made directly in it, as the archive calls it, and its real name; `None` there means that it
    /// is `root` itself.
    only: Option<(&'a [u8], Option<Vec<u8>>)>,
    skipped: Skipped,
}

impl<'a> Unpacker<'a> {
    fn at(target: &Path, source: Source<'a>, first: Kind) -> io::Result<Unpacker<'a>> {
        let wrong = |text: &str| io::Error::other(format!("{}: {text}", target.display()));
        let is_directory = match std::fs::metadata(target) {
            Ok(found) => Some(found.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let name = match source {
            Source::Named(name) => Some(name.as_bytes()),
            Source::Contents | Source::Anything => None,
        };
        if is_directory == Some(true) {
            let only = name.map(|name| (name, Some(name.to_vec())));
            return Ok(Unpacker { root: open(CWD, target)?, only, skipped: 0 });
        }
        if source == Source::Anything {
            return Err(wrong("there is no such directory"));
        }
        if first == Kind::Directory {
            if is_directory == Some(false) {
                return Err(wrong("is a file, and a directory does not fit onto it"));
            }
            // The parent must be there: a typing error should not make directories.
            std::fs::create_dir(target)?;
            let only = name.map(|name| (name, None));
            return Ok(Unpacker { root: open(CWD, target)?, only, skipped: 0 });
        }
        if target.as_os_str().as_bytes().ends_with(b"/") {
            return Err(wrong("there is no such directory"));
        }
        let own = target.file_name().ok_or_else(|| wrong("is no name for a file"))?;
        let parent =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = name.ok_or_else(|| wrong("the contents of a file are the file; leave out `/.`"))?;
        let only = Some((name, Some(own.as_bytes().to_vec())));
        Ok(Unpacker { root: open(CWD, parent)?, only, skipped: 0 })
    }

    fn make(&mut self, header: &Header, content: &mut impl Read) -> io::Result<()> {
        let failed = |error: Errno| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("cannot make {}: {error}", header.name.escape_ascii()))
        };
        let path = self.place(&header.name)?;
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let parent = self.descend(above).map_err(failed)?;
        let mode = Mode::from_raw_mode(header.mode & 0o777);
        match header.kind {
            Kind::Directory => make_directory(&parent, name, mode).map_err(failed)?,
            Kind::File => {
                clear(&parent, name).map_err(failed)?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = sys::openat(&parent, *name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
                let mut file = File::from(file);
                if io::copy(content, &mut file)? != header.size {
                    return Err(header::damaged());
                }
                sys::fchmod(&file, mode).map_err(failed)?;
                let time = Timespec { tv_sec: i64::try_from(header.modified).unwrap_or(0), tv_nsec: 0 };
                // Where a file system keeps no times, a file is worth more without one than not at all.
                let _ = sys::futimens(&file, &Timestamps { last_access: time, last_modification: time });
            }
            Kind::Symlink => {
                clear(&parent, name).map_err(failed)?;
                sys::symlinkat(OsStr::from_bytes(&header.link), &parent, *name).map_err(failed)?;
            }
            Kind::HardLink => {
                let link = self.place(&header.link)?;
                let (old, above) = link.split_last().ok_or_else(|| outside(&header.link))?;
                let old_parent = self.descend(above).map_err(failed)?;
                clear(&parent, name).map_err(failed)?;
                sys::linkat(&old_parent, *old, &parent, *name, AtFlags::empty()).map_err(failed)?;
            }
            Kind::Other => self.skipped += 1,
        }
        Ok(())
    }

    /// The names from the root down to an entry. None that leads up, and none beside the one that was asked for.
    fn place<'b>(&'b self, name: &'b [u8]) -> io::Result<Vec<&'b OsStr>> {
        let mut names = Vec::new();
        for component in Path::new(OsStr::from_bytes(name)).components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::CurDir | Component::RootDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(outside(name)),
            }
        }
        if let Some((only, own)) = &self.only {
            if names.first().is_none_or(|first| first.as_bytes() != *only) {
                return Err(outside(name));
            }
            match own {
                Some(own) => names[0] = OsStr::from_bytes(own),
                None => drop(names.remove(0)),
            }
        }
        Ok(names)
    }

    /// Opens directory after directory, making those that are missing; a link in the way is an error.
    fn descend(&self, names: &[&OsStr]) -> rustix::io::Result<OwnedFd> {
        let mut directory = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?;
        for name in names {
            directory = match open_below(&directory, name) {
                Err(Errno::NOENT) => {
                    sys::mkdirat(&directory, *name, Mode::RWXU)?;
                    open_below(&directory, name)?
                }
                opened => opened?,
            };
        }
        Ok(directory)
    }
}

fn open(directory: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    Ok(sys::openat(directory, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn open_below(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    sys::openat(directory, name, flags, Mode::empty())
}

/// One that is there stays as it is. Whoever copies can always look into what was copied.
fn make_directory(parent: &OwnedFd, name: &OsStr, mode: Mode) -> rustix::io::Result<()> {
    match sys::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => sys::fchmod(open_below(parent, name)?, mode | Mode::RWXU),
        Err(Errno::EXIST) => open_below(parent, name).map(drop),
        Err(error) => Err(error),
    }
}

/// Takes away what is there, unless it is a directory: a new file never writes through an old name.
fn clear(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    match sys::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn outside(name: &[u8]) -> io::Error {
    let text =
        format!("the archive has {}, which was not asked for; nothing more is copied", name.escape_ascii());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::archive::pack;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("chassis-archive-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn archive(entries: &[(&str, Kind, &str, u32)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, kind, content, mode) in entries {
            let size = if *kind == Kind::File { content.len() as u64 } else { 0 };
            let link = if *kind == Kind::File { Vec::new() } else { content.as_bytes().to_vec() };
            let name = name.as_bytes().to_vec();
            let header = Header { name, kind: *kind, mode: *mode, modified: 7, size, link };
            header::write(&mut out, &header).unwrap();
            if size > 0 {
                out.extend_from_slice(content.as_bytes());
                out.resize(out.len().next_multiple_of(header::BLOCK), 0);
            }
        }
        header::write_end(&mut out).unwrap();
        out
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let home = scratch("round");
        let long = "n".repeat(150);
        let from = home.join("from");
        fs::create_dir_all(from.join(&long).join(&long)).unwrap();
        fs::write(from.join(&long).join(&long).join("file"), vec![7; 70_000]).unwrap();
        fs::write(from.join("empty"), "").unwrap();
        fs::set_permissions(from.join("empty"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(from.join("empty"), from.join("same")).unwrap();
        symlink(format!("/{long}/away"), from.join("link")).unwrap();
        let mut bytes = Vec::new();
        pack(&mut bytes, &from, "from", false, |_| ()).unwrap();
        // Into a directory that is there, and as one that is not.
        unpack(&mut &bytes[..], &home.join("to"), Source::Named("from")).unwrap();
        unpack(&mut &bytes[..], &home.join("to"), Source::Named("from")).unwrap();
        for to in [home.join("to"), home.join("to/from")] {
            assert_eq!(fs::read(to.join(&long).join(&long).join("file")).unwrap(), vec![7; 70_000]);
            assert_eq!(fs::metadata(to.join("same")).unwrap().permissions().mode() & 0o7777, 0o751);
            assert_eq!(
                fs::read_link(to.join("link")).unwrap().to_str(),
                Some(format!("/{long}/away").as_str())
            );
        }
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn nothing_escapes() {
        let home = scratch("escape");
        let outside = home.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("victim"), "whole").unwrap();
        let away = outside.to_str().unwrap();
        let file = Kind::File;
        let victim = format!("{away}/victim");
        let hostile: [&[(&str, Kind, &str, u32)]; 7] = [
            &[("x", Kind::Directory, "", 0o755), ("../evil", file, "x", 0o644)],
            &[("x/../../evil", file, "x", 0o644)],
            &[(&victim, file, "x", 0o644)],
            &[("x", Kind::Directory, "", 0o755), ("y", file, "beside what was asked for", 0o644)],
            &[
                ("x", Kind::Directory, "", 0o755),
                ("x/l", Kind::Symlink, away, 0o777),
                ("x/l/evil", file, "x", 0o644),
            ],
            &[("x", Kind::Directory, "", 0o755), ("x/h", Kind::HardLink, &victim, 0o644)],
            &[("x", Kind::Directory, "", 0o755), ("x/h", Kind::HardLink, "x/../../outside/victim", 0o644)],
        ];
        for (number, entries) in hostile.iter().enumerate() {
            let into = home.join(format!("into-{number}"));
            fs::create_dir(&into).unwrap();
            let refused = unpack(&mut &archive(entries)[..], &into, Source::Named("x"));
            assert!(refused.is_err(), "{entries:?}");
        }
        // A link that is replaced by a file is not written through.
        let into = home.join("into-last");
        fs::create_dir(&into).unwrap();
        let twice = [("x", Kind::Symlink, victim.as_str(), 0o777), ("x", file, "new", 0o644)];
        unpack(&mut &archive(&twice)[..], &into, Source::Named("x")).unwrap();
        assert_eq!(fs::read_to_string(into.join("x")).unwrap(), "new");
        assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "whole");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        let mut names: Vec<_> =
            fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| !name.to_str().unwrap().starts_with("into-"));
        assert_eq!(names, ["outside"]);
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn damage_is_noticed() {
        let whole = archive(&[("x", Kind::File, "content", 0o644)]);
        let home = scratch("damage");
        for cut in [1, 511, 513, 700] {
            assert!(unpack(&mut &whole[..cut], &home, Source::Named("x")).is_err(), "cut at {cut}");
        }
        let mut endless = archive(&[]);
        endless.splice(..0, vec![b'x'; 512]);
        assert!(unpack(&mut &endless[..], &home, Source::Named("x")).is_err());
        fs::remove_dir_all(home).unwrap();
    }
}
