//! Writes an archive of a file or directory.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::header::{self, Header, Kind, padding};

/// Writes what is at `path` as an entry of this name, and all that is in it. What is neither file, directory nor link is
/// left out and told. A link at the path itself is followed only if asked for.
pub fn pack(
    out: &mut impl Write,
    path: &Path,
    name: &str,
    follow: bool,
    mut skipped: impl FnMut(&Path),
) -> io::Result<()> {
    let path = if follow { fs::canonicalize(path)? } else { path.to_owned() };
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut waiting: Vec<(PathBuf, Vec<u8>)> = vec![(path, name.as_bytes().to_vec())];
    let mut first = true;
    while let Some((path, name)) = waiting.pop() {
        let found = match fs::symlink_metadata(&path) {
            // What an agent takes away meanwhile was not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !first => continue,
            found => found?,
        };
        first = false;
        let kind = found.file_type();
        if kind.is_dir() {
            let with_slash = [&name, b"/".as_slice()].concat();
            header::write(out, &entry(&with_slash, Kind::Directory, &found))?;
            let mut inside: Vec<_> = fs::read_dir(&path)?.collect::<io::Result<_>>()?;
            inside.sort_by_key(|item| std::cmp::Reverse(item.file_name()));
            for item in inside {
                waiting.push((item.path(), [&name, b"/".as_slice(), item.file_name().as_bytes()].concat()));
            }
        } else if kind.is_symlink() {
            let link = fs::read_link(&path)?.into_os_string().into_vec();
            header::write(out, &Header { link, ..entry(&name, Kind::Symlink, &found) })?;
        } else if kind.is_file() {
            let identity = (found.dev(), found.ino());
            if let Some(link) = links.get(&identity) {
                header::write(out, &Header { link: link.clone(), ..entry(&name, Kind::HardLink, &found) })?;
                continue;
            }
            if found.nlink() > 1 {
                links.insert(identity, name.clone());
            }
            write_file(out, &path, &name)?;
        } else {
            skipped(&path);
        }
    }
    header::write_end(out)
}

/// Exactly as long as it was when it was opened, whatever is done to it meanwhile.
fn write_file(out: &mut impl Write, path: &Path, name: &[u8]) -> io::Result<()> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    header::write(out, &Header { size: found.len(), ..entry(name, Kind::File, &found) })?;
    let whole = found.len() + padding(found.len());
    io::copy(&mut file.take(found.len()).chain(io::repeat(0)).take(whole), out)?;
    Ok(())
}

fn entry(name: &[u8], kind: Kind, found: &Metadata) -> Header {
    Header {
        name: name.to_vec(),
        kind,
        mode: found.mode() & 0o7777,
        modified: u64::try_from(found.mtime()).unwrap_or(0),
        size: 0,
        link: Vec::new(),
    }
}
