//! Where a server keeps what: the layout of its data directory, and the locks that say whose it is.
//!
//! ```text
//! <data dir>/<fleet>/<agent>-<number>/<volume>/   tier 1, made by the runtime
//! <data dir>/.server/                             0700, of all servers of the data directory
//!     chassis.db  key  logs/  node  runtime  users  init/  downloads/
//! <server dir>/                                   0700, of one server; the same directory unless it is told another
//!     lock  log  master-token  socket
//! <server dir>.socket                             0660, of the group that `--socket-group` names
//! ```
//! No fleet's name begins with a dot, so the two never meet. Servers that share a database may share a data directory;
//! one with a database of its own has the data directory for itself.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};

/// The paths of a data directory, and of one server in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
    server_dir: PathBuf,
}

/// Held while a server runs on a data directory; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _server: File,
    _users: File,
}

impl DataDir {
    /// With a directory of the server's own, or the one that all servers of the data directory share.
    pub fn new(root: impl Into<PathBuf>, server_dir: Option<PathBuf>) -> Self {
        let root = root.into();
        let server_dir = server_dir.unwrap_or_else(|| shared_dir(&root));
        DataDir { root, server_dir }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A name for its server, from the machine's and, where there are several on it, the server directory's.
    pub fn server_name(&self) -> String {
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        match self.server_dir.file_name() {
            Some(own) if self.server_dir != shared_dir(&self.root) => {
                format!("{machine}/{}", own.to_string_lossy())
            }
            _ => machine,
        }
    }

    /// What this server alone uses: its socket, its lock, its log.
    pub fn server_dir(&self) -> &Path {
        &self.server_dir
    }

    pub fn database(&self) -> PathBuf {
        shared_dir(&self.root).join("chassis.db")
    }

    pub fn key_file(&self) -> PathBuf {
        shared_dir(&self.root).join("key")
    }

    pub fn socket(&self) -> PathBuf {
        self.server_dir.join("socket")
    }

    /// The socket of a group: next to the server directory, which nobody else may enter.
    pub fn group_socket(&self) -> PathBuf {
        let mut path = self.server_dir.clone().into_os_string();
        path.push(".socket");
        path.into()
    }

    /// What whoever may everything over the network sends, if nothing else was configured.
    pub fn master_token(&self) -> PathBuf {
        self.server_dir.join("master-token")
    }

    /// What containers that are no more have printed.
    pub(crate) fn kept_logs(&self) -> PathBuf {
        shared_dir(&self.root).join("logs")
    }

    /// What servers show to a node that has this data directory.
    pub(crate) fn node_token(&self) -> PathBuf {
        self.server_dir.join("node-token")
    }

    /// What was fetched for the agents of environments.
    pub(crate) fn downloads(&self) -> PathBuf {
        shared_dir(&self.root).join("downloads")
    }

    /// The random name of the data directory.
    pub(crate) fn node_file(&self) -> PathBuf {
        shared_dir(&self.root).join("node")
    }

    /// What a server in the background prints.
    pub fn log(&self) -> PathBuf {
        self.server_dir.join("log")
    }

    /// What runs the instances of this directory, written down at the first start: another runtime would take them
    /// all for lost. Fails with [`Error::OtherRuntime`] if it is not `runtime`.
    pub(crate) fn claim_runtime(&self, runtime: &'static str) -> Result<()> {
        let path = shared_dir(&self.root).join("runtime");
        let unusable = |source| Error::DataDir { path: self.root.clone(), source };
        match fs::read_to_string(&path) {
            Ok(found) if found.trim().is_empty() || found.trim() == runtime => {}
            Ok(found) => {
                return Err(Error::OtherRuntime {
                    path: self.root.clone(),
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
        self.server_dir.join("lock")
    }

    /// Makes the directories and takes the locks: the server directory's for this server alone; the data directory's
    /// together with others only if they all use one database. Fails with [`Error::AlreadyServed`] or
    /// [`Error::DataDirInUse`] if another server is in the way.
    pub(crate) fn lock(&self, several_servers: bool) -> Result<DataDirLock> {
        let unusable = |path: &Path, source| Error::DataDir { path: path.to_owned(), source };
        let shared = shared_dir(&self.root);
        for (path, mode) in [
            // Agents' users pass through the root to their own directories; nobody else reads the server's.
            (&self.root, 0o711),
            (&shared, 0o700),
            (&self.server_dir, 0o700),
        ] {
            fs::create_dir_all(path).map_err(|source| unusable(path, source))?;
            fs::set_permissions(path, Permissions::from_mode(mode))
                .map_err(|source| unusable(path, source))?;
        }
        let mut server = open_lock(&self.lock_file()).map_err(|source| unusable(&self.server_dir, source))?;
        match flock(&server, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                server.read_to_string(&mut pid).map_err(|source| unusable(&self.server_dir, source))?;
                let is_own = self.server_dir != shared;
                let path = if is_own { self.server_dir.clone() } else { self.root.clone() };
                return Err(Error::AlreadyServed { path, pid: pid.trim().to_owned() });
            }
            Err(errno) => return Err(unusable(&self.server_dir, io::Error::from(errno))),
        }
        let users = open_lock(&shared.join("users")).map_err(|source| unusable(&shared, source))?;
        let wanted = if several_servers {
            FlockOperation::NonBlockingLockShared
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        match flock(&users, wanted) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::DataDirInUse { path: self.root.clone() });
            }
            Err(errno) => return Err(unusable(&shared, io::Error::from(errno))),
        }
        server
            .set_len(0)
            .and_then(|()| server.rewind())
            .map_err(|source| unusable(&self.server_dir, source))?;
        // A full disk must not keep a server from starting: the pid only helps people.
        if let Err(error) = writeln!(server, "{}", std::process::id()) {
            tracing::warn!(%error, "cannot write the pid into the lock file");
        }
        Ok(DataDirLock { _server: server, _users: users })
    }
}

fn shared_dir(root: &Path) -> PathBuf {
    root.join(".server")
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
