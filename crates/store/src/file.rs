//! What the database and the key file do alike with files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// `path` with `suffix` behind its name.
pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives `<path>.new` the name `path`, durably.
pub(crate) fn install_new(path: &Path) -> io::Result<()> {
    fs::rename(suffixed(path, ".new"), path)?;
    sync_directory_of(path)
}

/// Makes a name that was added to the directory of `path` durable.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}
