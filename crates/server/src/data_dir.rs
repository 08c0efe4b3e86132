//! Where a server keeps what: the layout of its data directory, and the lock that makes it one server's.
//!
//! ```text
//! <data dir>/<fleet>/<agent>-<number>/<volume>/   tier 1, made by the runtime
//! <data dir>/.server/                             0700
//!     chassis.db  key  lock  log  logs/  master-token  runtime  socket  init/
//! ```
//! No fleet's name begins with a dot, so the two never meet.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};

/// The paths of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// Held while a server runs on a data directory; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _file: File,
}

impl DataDir {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        DataDir(root.into())
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn server_dir(&self) -> PathBuf {
        self.0.join(".server")
    }

    pub fn database(&self) -> PathBuf {
        self.server_dir().join("chassis.db")
    }

    pub fn key_file(&self) -> PathBuf {
        self.server_dir().join("key")
    }

    pub fn socket(&self) -> PathBuf {
        self.server_dir().join("socket")
    }

    /// What whoever may everything over the network sends, if nothing else was configured.
    pub fn master_token(&self) -> PathBuf {
        self.server_dir().join("master-token")
    }

    /// What containers that are no more have printed.
    pub(crate) fn kept_logs(&self) -> PathBuf {
        self.server_dir().join("logs")
    }

    /// What a server in the background prints.
    pub fn log(&self) -> PathBuf {
        self.server_dir().join("log")
    }

    /// What runs the instances of this directory, written down at the first start: another runtime would take them
    /// all for lost. Fails with [`Error::OtherRuntime`] if it is not `runtime`.
    pub(crate) fn claim_runtime(&self, runtime: &'static str) -> Result<()> {
        let path = self.server_dir().join("runtime");
        let unusable = |source| Error::DataDir { path: self.0.clone(), source };
        match fs::read_to_string(&path) {
            Ok(found) if found.trim().is_empty() || found.trim() == runtime => {}
            Ok(found) => {
                return Err(Error::OtherRuntime {
                    path: self.0.clone(),
                    found: found.trim().to_owned(),
                    runtime,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(error)),
        }
        // A full disk must not keep a server from starting: the next start writes it.
        if let Err(error) = fs::write(&path, format!("{runtime}\n")) {
            tracing::warn!(%error, "cannot write down the runtime");
        }
        Ok(())
    }

    /// The pid of the server that holds the directory now, whether or not it answers. Takes nothing.
    pub fn holder(&self) -> Option<String> {
        let mut file = File::open(self.lock_file()).ok()?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).ok()?;
                Some(pid.trim().to_owned())
            }
            _ => None,
        }
    }

    fn lock_file(&self) -> PathBuf {
        self.server_dir().join("lock")
    }

    /// Makes the directories and takes the lock. Fails with [`Error::AlreadyServed`] if another server has it.
    pub(crate) fn lock(&self) -> Result<DataDirLock> {
        let unusable = |source| Error::DataDir { path: self.0.clone(), source };
        fs::create_dir_all(self.server_dir()).map_err(unusable)?;
        // Agents' users pass through the root to their own directories; nobody else reads the server's.
        fs::set_permissions(&self.0, Permissions::from_mode(0o711)).map_err(unusable)?;
        fs::set_permissions(self.server_dir(), Permissions::from_mode(0o700)).map_err(unusable)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.lock_file())
            .map_err(unusable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).map_err(unusable)?;
                return Err(Error::AlreadyServed { path: self.0.clone(), pid: pid.trim().to_owned() });
            }
            Err(errno) => return Err(unusable(io::Error::from(errno))),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(unusable)?;
        // A full disk must not keep a server from starting: the pid only helps people.
        if let Err(error) = writeln!(file, "{}", std::process::id()) {
            tracing::warn!(%error, "cannot write the pid into the lock file");
        }
        Ok(DataDirLock { _file: file })
    }
}
