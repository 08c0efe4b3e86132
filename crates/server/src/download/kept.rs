//! What was downloaded, by its checksum, in a directory bounded in size.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

/// Of all of them; those that were used longest ago go first.
const MOST: u64 = 1 << 30;
/// Nobody writes on a file for so long.
const LEFT_BEHIND: Duration = Duration::from_hours(1);
const UNFINISHED: &str = ".part";

#[derive(Debug, Clone)]
pub(super) struct Kept(Arc<PathBuf>);

impl Kept {
    pub(super) fn new(directory: PathBuf) -> Kept {
        Kept(Arc::new(directory))
    }

    /// None if it is not there, or not what it was.
    pub(super) async fn read(&self, sha256: &str) -> Option<Zeroizing<Vec<u8>>> {
        let (path, wanted) = (self.0.join(sha256), sha256.to_owned());
        let read = move || {
            let bytes = Zeroizing::new(fs::read(&path).ok()?);
            if self::sha256(&bytes) != wanted {
                let _ = fs::remove_file(&path);
                return None;
            }
            let used = File::options().append(true).open(&path);
            let _ = used.and_then(|file| file.set_modified(SystemTime::now()));
            Some(bytes)
        };
        tokio::task::spawn_blocking(read).await.ok()?
    }

    /// Keeps them, and makes room.
    pub(super) async fn write(
        &self,
        sha256: &str,
        bytes: Zeroizing<Vec<u8>>,
    ) -> io::Result<Zeroizing<Vec<u8>>> {
        let (directory, name) = (Arc::clone(&self.0), sha256.to_owned());
        let write = move || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&*directory)?;
            make_room(&directory, bytes.len() as u64);
            // Servers that share the directory may fetch the same at the same time.
            let unfinished = directory.join(format!("{name}-{}{UNFINISHED}", std::process::id()));
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            let written = file
                .write_all(&bytes)
                .and_then(|()| file.sync_all())
                .and_then(|()| fs::rename(&unfinished, directory.join(&name)));
            if written.is_err() {
                let _ = fs::remove_file(&unfinished);
            }
            written.map(|()| bytes)
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }
}

/// What cannot be looked at or removed stays: it is only in the way.
fn make_room(directory: &Path, needed: u64) {
    let now = SystemTime::now();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            if now.duration_since(used).is_ok_and(|since| since > LEFT_BEHIND) {
                let _ = fs::remove_file(entry.path());
            }
            continue;
        }
        found.push((used, metadata.len(), entry.path()));
    }
    found.sort();
    let mut total = needed + found.iter().map(|(_, length, _)| length).sum::<u64>();
    for (_, length, path) in found {
        if total <= MOST {
            return;
        }
        if fs::remove_file(path).is_ok() {
            total -= length;
        }
    }
}

/// In hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in digest(&SHA256, bytes).as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_what_was_written_or_nothing() {
        let home = tempfile::tempdir().unwrap();
        let kept = Kept::new(home.path().join("downloads"));
        let name = sha256(b"abc");
        assert_eq!(name, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(kept.read(&name).await.is_none());
        kept.write(&name, Zeroizing::new(b"abc".to_vec())).await.unwrap();
        assert_eq!(kept.read(&name).await.as_deref().map(Vec::as_slice), Some(&b"abc"[..]));
        fs::write(home.path().join("downloads").join(&name), "abd").unwrap();
        assert!(kept.read(&name).await.is_none(), "it was altered");
        assert!(!home.path().join("downloads").join(&name).exists());
    }

    /// Those used longest ago go, and no more than need be.
    #[test]
    fn the_directory_is_bounded() {
        let home = tempfile::tempdir().unwrap();
        for (name, age) in [("old", 3), ("middle", 2), ("new", 1)] {
            let file = File::create(home.path().join(name)).unwrap();
            file.set_len(MOST / 2).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age * 60)).unwrap();
        }
        make_room(home.path(), 1);
        let mut left: Vec<_> =
            fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["new"]);
        make_room(home.path(), 1);
        assert!(home.path().join("new").exists());
    }
}
