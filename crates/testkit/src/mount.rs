//! A small disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A tmpfs of a given size, mounted somewhere of its own; it needs root.
#[derive(Debug)]
pub struct TmpfsMount {
    home: TempDir,
}

impl TmpfsMount {
    pub fn new(mebibytes: u32) -> TmpfsMount {
        let home = tempfile::Builder::new().prefix("disk").tempdir().expect("a directory");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(home.path())
            .status()
            .expect("mount runs");
        assert!(status.success(), "cannot mount a tmpfs: these tests need root");
        TmpfsMount { home }
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file until nothing fits any more. Remove it to make room again.
    pub fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.path().join("ballast");
        let mut file = std::fs::File::create(&path).expect("a file");
        for size in [1 << 16, 1 << 12, 1 << 8, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        path
    }
}

impl Drop for TmpfsMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.home.path()).status();
    }
}
