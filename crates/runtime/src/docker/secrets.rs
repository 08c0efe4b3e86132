//! Secrets on their way to an agent, never on a disk and never in what Docker shows.
//!
//! Those in its environment go to init over the container's standard input. Those that are files are files of the host,
//! in memory (`/run`, or `/dev/shm` where that is a disk), bound to their paths in the sandbox: so they appear at any path without hiding what
//! the image has beside them. They are written at each start, and taken away when the instance is stopped or removed.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::query_parameters::AttachContainerOptions;
use chassis_core::InstanceKey;
use chassis_init::frame::{self, Entry, Kind};
use chassis_spec::{AgentSpec, MountPath};
use rustix::fs::statfs;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

use super::Daemon;
use crate::tier1::Owner;
use crate::{Error, InstanceSecrets, Result, SecretFile};

const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;
/// How long init may take to read its secrets once it runs.
const DELIVERY: Duration = Duration::from_secs(10);

/// The files of all instances of one server.
#[derive(Debug)]
pub(crate) struct SecretFiles {
    server_id: String,
    /// Directories of this user's where memory is mounted, in the order of preference.
    candidates: Vec<PathBuf>,
    /// Directories are made and removed by one at a time.
    changing: Mutex<()>,
}

impl SecretFiles {
    pub(crate) fn new(server_id: &str) -> Self {
        let user = rustix::process::geteuid();
        let own = if user.is_root() {
            Some(PathBuf::from("/run"))
        } else {
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        };
        let shared = PathBuf::from(format!("/dev/shm/chassis-{}", user.as_raw()));
        let candidates = own.map(|own| own.join("chassis")).into_iter().chain([shared]).collect();
        SecretFiles { server_id: server_id.to_owned(), candidates, changing: Mutex::new(()) }
    }

    /// Makes empty files for the instance's secret volumes: Docker wants to see what it will bind.
    pub(crate) fn prepare(&self, key: &InstanceKey, spec: &AgentSpec) -> Result<HashMap<MountPath, PathBuf>> {
        let paths =
            spec.volumes.iter().filter(|volume| volume.secret.is_some()).map(|volume| &volume.mount_path);
        let mut files = HashMap::new();
        let _alone = self.alone();
        for path in paths {
            let file = self.directory(key)?.join(file_name(path));
            if !file.exists() {
                write(&file, &[], None).map_err(|error| not_written(path, error))?;
            }
            files.insert(path.clone(), file);
        }
        Ok(files)
    }

    /// Writes the secrets, readable by the agent alone.
    pub(crate) fn write(&self, key: &InstanceKey, secrets: &[SecretFile], owner: Owner) -> Result<()> {
        let _alone = self.alone();
        for secret in secrets {
            let file = self.directory(key)?.join(file_name(&secret.path));
            write(&file, &secret.content, Some(owner)).map_err(|error| not_written(&secret.path, error))?;
        }
        Ok(())
    }

    /// Takes the secrets away.
    pub(crate) fn remove(&self, key: &InstanceKey) -> Result<()> {
        self.remove_by_name(&key.container_name())
    }

    pub(crate) fn remove_by_name(&self, container: &str) -> Result<()> {
        let _alone = self.alone();
        for root in self.own_roots() {
            match fs::remove_dir_all(root.join(container)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(
                        Error::storage(format!("cannot remove the secrets of {container}")).caused_by(error)
                    );
                }
                _ => {}
            }
            // The last one takes the server's directory along.
            let _ = fs::remove_dir(&root);
        }
        Ok(())
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container names for which there are files.
    pub(crate) fn list(&self) -> Vec<String> {
        let entries = self.own_roots().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn directory(&self, key: &InstanceKey) -> Result<PathBuf> {
        let memory = self.candidates.iter().find(|path| path.parent().is_some_and(is_memory)).ok_or_else(|| {
            Error::storage(
                "secret files need a place in memory: neither /run nor /dev/shm is a tmpfs; mount one there",
            )
        })?;
        let directory = self.root(memory).join(key.container_name());
        make_private(memory)
            .and_then(|()| DirBuilder::new().recursive(true).mode(0o700).create(&directory))
            .map_err(|error| {
                Error::storage(format!("cannot make {}", directory.display())).caused_by(error)
            })?;
        Ok(directory)
    }

    /// The directories of this server's that are there. Whoever may write to /dev/shm could have put another, or a link,
    /// in the place of one that this server never made: what is not this user's own is not looked into.
    fn own_roots(&self) -> impl Iterator<Item = PathBuf> {
        let candidates = self.candidates.iter().filter(|candidate| is_private(candidate).unwrap_or(false));
        candidates.map(|candidate| self.root(candidate))
    }

    fn root(&self, memory: &Path) -> PathBuf {
        memory.join(&self.server_id)
    }
}

/// Hands environment, files and script to init: attached before the container starts, so that nobody else can be first. The frame
/// flows once init reads.
pub(crate) async fn send(
    daemon: &Daemon,
    id: &str,
    secrets: &InstanceSecrets,
) -> Result<std::result::Result<JoinHandle<io::Result<()>>, DockerError>> {
    let frame = frame::encode(entries(secrets)).ok_or_else(|| {
        Error::rejected(
            "the secrets in the environment and the files are more than 32 MiB; use a volume for large ones",
        )
    })?;
    let options = AttachContainerOptions { stream: true, stdin: true, ..AttachContainerOptions::default() };
    Ok(daemon.client()?.attach_container(id, Some(options)).await.map(|mut attached| {
        tokio::spawn(async move {
            attached.input.write_all(&frame).await?;
            attached.input.shutdown().await
        })
    }))
}

fn entries(secrets: &InstanceSecrets) -> impl Iterator<Item = Entry<'_>> + Clone {
    let variables = secrets.env.iter().map(|(name, value)| Entry {
        kind: Kind::Variable,
        number: 0,
        name: name.as_bytes(),
        value: value.as_bytes(),
    });
    let files = secrets.placed.iter().map(|file| Entry {
        kind: Kind::File,
        number: file.mode(),
        name: file.path.as_str().as_bytes(),
        value: &file.content,
    });
    let startup = secrets.startup.iter().map(|startup| Entry {
        kind: Kind::Startup,
        number: startup.timeout.0,
        name: &[],
        value: startup.script.as_bytes(),
    });
    variables.chain(files).chain(startup)
}

/// Waits until the frame was taken. What goes wrong here, init tells in the agent's log.
pub(crate) async fn delivered(mut sending: JoinHandle<io::Result<()>>) {
    if tokio::time::timeout(DELIVERY, &mut sending).await.is_err() {
        sending.abort();
    }
}

/// A path in the sandbox as one name.
fn file_name(path: &MountPath) -> String {
    format!("{:016x}", frame::fnv1a(path.as_str().as_bytes()))
}

fn write(path: &Path, content: &[u8], owner: Option<Owner>) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    if let Some(owner) = owner.filter(|_| rustix::process::geteuid().is_root()) {
        fchown(&file, Some(owner.user), Some(owner.group))?;
    }
    file.write_all(content)
}

/// Makes a directory that only this user can look into, in a place that may be everybody's.
fn make_private(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if is_private(path)? {
        return Ok(());
    }
    Err(io::Error::other(format!("{} is not private to the user of the server", path.display())))
}

/// True for a directory, not a link to one, that only the server's user can look into.
fn is_private(path: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    Ok(found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o777 == 0o700)
}

fn is_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&stat.f_type))
}

fn not_written(path: &MountPath, error: io::Error) -> Error {
    Error::storage(format!("cannot write the secret file for {path}")).caused_by(error)
}
