//! Small disks.

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

/// A file system in a file, mounted somewhere of its own; it needs root.
#[derive(Debug)]
pub struct LoopMount {
    home: TempDir,
}

impl LoopMount {
    /// Makes it with `mkfs` and mounts it. An error says what this machine lacks.
    pub fn new(mebibytes: u64, mkfs: &[&str], options: &str) -> Result<LoopMount, String> {
        let home = tempfile::Builder::new().prefix("loop").tempdir().expect("a directory");
        let image = home.path().join("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(mebibytes << 20)).expect("a file");
        let mount = LoopMount { home };
        std::fs::create_dir(mount.path()).expect("a directory");
        let mut make = Command::new(mkfs[0]);
        run(make.args(&mkfs[1..]).arg(&image))?;
        run(Command::new("mount").args(["-o", options]).arg(&image).arg(mount.path()))?;
        Ok(mount)
    }

    pub fn path(&self) -> PathBuf {
        self.home.path().join("mounted")
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", "--quiet"]).arg(self.path()).status();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
