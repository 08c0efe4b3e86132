//! Tier 1: the persistent directories of instances.
//!
//! ```text
//! <root>/.server/init/<version>/chassis-init   the program, linked into every instance's directory
//! <root>/.server/trash/                        what is being deleted
//! <root>/.server/limits/                       which volumes have a quota
//! <root>/.lease/until                          until when what may run elsewhere runs on, written by the node
//! <root>/<fleet>/                    0711      the server's
//! <root>/<fleet>/<agent>-<n>/        0700      the agent's
//! <root>/<fleet>/<agent>-<n>/.chassis/         the server's: `instance`, `chassis-init`; /.chassis in the sandbox
//! <root>/<fleet>/<agent>-<n>/<volume>/  0700   the agent's
//! ```
//! Every step can be repeated, and one that was cut off is completed by its repetition: files appear by rename. Inside
//! a volume the agent may have put anything, so no step ever follows a symbolic link below the root.

mod directory;
mod limits;
mod quota;
mod tree;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chassis_core::InstanceKey;
use chassis_core::key::parse_instance_name;
use chassis_init::turn::{self, Turn};
use chassis_spec::{AgentSpec, Backend, FleetName, Volume};

pub(crate) use self::directory::unused_name;
use self::directory::{Directory, create_root};
use crate::{Error, Result, init_program};

/// Owner of an agent's files: uid and gid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

#[derive(Debug)]
pub(crate) struct Tier1 {
    root: PathBuf,
    /// One removal at a time: each empties the whole trash.
    trash: Mutex<()>,
    /// One at a time puts init in its place: a second writer would take away the file that the first one links.
    program: Mutex<()>,
    /// One at a time takes a number for a limit.
    limits: Mutex<()>,
}

/// No fleet has such a name.
const LEASE: &str = ".lease";

/// True for a volume that is a directory in tier 1.
pub(crate) fn is_tier1(volume: &Volume) -> bool {
    volume.backend() == Some(Backend::Local)
}

impl Tier1 {
    pub(crate) fn new(root: PathBuf) -> Self {
        Tier1 { root, trash: Mutex::default(), program: Mutex::default(), limits: Mutex::default() }
    }

    pub(crate) fn instance_path(&self, key: &InstanceKey) -> PathBuf {
        self.root.join(key.fleet.as_str()).join(key.short_name())
    }

    pub(crate) fn fleet_prepare(&self, fleet: &FleetName) -> Result<()> {
        let path = self.root.join(fleet.as_str());
        self.fleet(fleet).map(|_| ()).map_err(|error| unusable(&path, error))
    }

    /// Takes the fleet's directory away if nothing is in it.
    pub(crate) fn fleet_remove(&self, fleet: &FleetName) -> Result<()> {
        let path = self.root.join(fleet.as_str());
        match std::fs::remove_dir(&path) {
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) =>
            {
                Err(unusable(&path, error))
            }
            _ => Ok(()),
        }
    }

    /// Whose directories the fleet's directory holds.
    pub(crate) fn list(&self, fleet: &FleetName) -> Result<Vec<InstanceKey>> {
        let path = self.root.join(fleet.as_str());
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| unusable(&path, error))?,
        };
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| unusable(&path, error))?.file_name();
            let parsed = name.to_str().and_then(parse_instance_name);
            if let Some((Ok(agent), number)) = parsed.map(|(agent, number)| (agent.parse(), number)) {
                keys.push(InstanceKey { fleet: fleet.clone(), agent, number });
            }
        }
        Ok(keys)
    }

    /// Makes the instance's directory, with init and the directories of its volumes.
    pub(crate) fn prepare(&self, key: &InstanceKey, spec: &AgentSpec) -> Result<()> {
        let path = self.instance_path(key);
        let failed = |error| unusable(&path, error);
        let instance = self
            .fleet(&key.fleet)
            .and_then(|fleet| fleet.create(&key.short_name(), 0o700))
            .map_err(failed)?;
        self.identify(&instance, key)?;
        for volume in spec.volumes.iter().filter(|volume| is_tier1(volume)) {
            self.limit_begin(key, volume)?;
            let directory = instance.create(volume.name.as_str(), 0o700).map_err(failed)?;
            self.limit(key, volume)?;
            for scratch in &volume.scratch {
                directory.create_mount_point(scratch.path.as_str()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The directory of the file that says for how long what may run elsewhere runs on. Everybody may read it: also the
    /// user that Docker's own root is mapped to passes through here.
    pub(crate) fn lease_path(&self) -> PathBuf {
        lease_directory(&self.root)
    }

    /// Makes that directory, and the place in the instance's where its sandbox sees it.
    pub(crate) fn lease_prepare(&self, key: &InstanceKey) -> Result<()> {
        let path = self.instance_path(key);
        let made = Directory::open(&path).and_then(|instance| {
            create_root(&self.root)?.create_own(LEASE, 0o755)?;
            instance.open_child(".chassis")?.create_own("lease", 0o755)
        });
        made.map(drop).map_err(|error| unusable(&path, error))
    }

    /// Puts the present init into the instance's directory, if it has one.
    pub(crate) fn refresh(&self, key: &InstanceKey) -> Result<()> {
        let path = self.instance_path(key);
        match Directory::open(&path) {
            Ok(instance) => self.identify(&instance, key),
            Err(error) => Err(unusable(&path, error)),
        }
    }

    /// Gives the instance's directory and volumes to the agent's user. Without the right to do so, everything belongs to
    /// the user who runs server and agents alike. The directory itself is given last and so says whether all is done.
    pub(crate) fn give(&self, key: &InstanceKey, owner: Owner) -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let path = self.instance_path(key);
        let given = Directory::open(&path).and_then(|instance| {
            for volume in instance.children()?.iter().filter(|name| name.as_bytes() != b".chassis") {
                let volume = instance.open_child(volume)?;
                if volume.owner()? != owner {
                    tree::give(&volume, owner)?;
                }
            }
            instance.give(owner)
        });
        given.map_err(|error| unusable(&path, error))
    }

    /// Ends a run of the instance that Docker forgot: see [`chassis_init::turn`]. Its caller has made sure that none runs
    /// that Docker knows.
    pub(crate) fn run_end(&self, key: &InstanceKey) -> Result<()> {
        let path = self.instance_path(key);
        match Turn::take(&path.join(".chassis"), turn::PATIENCE) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Error::storage(format!(
                "a process of {key} still runs that Docker does not show; `fuser {}` on its node names it: end it there",
                path.join(".chassis/instance").display()
            ))),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(&path, error)),
            _ => Ok(()),
        }
    }

    /// Removes all that the instance has.
    pub(crate) fn remove(&self, key: &InstanceKey) -> Result<()> {
        let path = self.instance_path(key);
        let trash_path = self.root.join(".server/trash");
        if !path.exists() && !trash_path.exists() {
            return Ok(());
        }
        self.limits_remove(key)?;
        let failed = |error| unusable(&path, error);
        let _alone = self.trash.lock().unwrap_or_else(PoisonError::into_inner);
        let trash = self.server().and_then(|server| server.create("trash", 0o700)).map_err(failed)?;
        let name = format!("{}-{}", key.container_name(), unused_name());
        match std::fs::rename(&path, trash_path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        tree::empty(&trash).map_err(|error| unusable(&trash_path, error))
    }

    /// Ends the removals that a killed server had begun.
    pub(crate) fn trash_empty(&self) -> Result<()> {
        let path = self.root.join(".server/trash");
        if !path.exists() {
            return Ok(());
        }
        let _alone = self.trash.lock().unwrap_or_else(PoisonError::into_inner);
        let trash = self.server().and_then(|server| server.create("trash", 0o700));
        trash.and_then(|trash| tree::empty(&trash)).map_err(|error| unusable(&path, error))
    }

    fn server(&self) -> io::Result<Directory> {
        create_root(&self.root)?.create(".server", 0o700)
    }

    fn fleet(&self, fleet: &FleetName) -> io::Result<Directory> {
        create_root(&self.root)?.create(fleet.as_str(), 0o711)
    }

    /// Writes whose directory this is, after making sure that it is nobody else's, and links init into it.
    fn identify(&self, instance: &Directory, key: &InstanceKey) -> Result<()> {
        let path = self.instance_path(key);
        let failed = |error| unusable(&path, error);
        let own = instance.create_own(".chassis", 0o755).map_err(failed)?;
        let identity = format!("{key}\n");
        match own.read("instance").map_err(failed)? {
            Some(found) if found == identity.as_bytes() => {}
            Some(found) => {
                return Err(Error::storage(format!(
                    "{} belongs to {}, not to {key}; move it away, or put the right one there",
                    path.display(),
                    String::from_utf8_lossy(&found).trim_end(),
                )));
            }
            None => own.write("instance", identity.as_bytes(), 0o644).map_err(failed)?,
        }
        let program = self.program().map_err(failed)?;
        own.link(&program, "chassis-init", init_program::PROGRAM).map_err(failed)
    }

    /// The directory that holds the present init.
    fn program(&self) -> io::Result<Directory> {
        let _alone = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.server()?.create("init", 0o755)?.create(&init_program::version(), 0o755)?;
        if directory.size("chassis-init")? != Some(init_program::PROGRAM.len() as u64) {
            directory.write("chassis-init", init_program::PROGRAM, 0o755)?;
        }
        Ok(directory)
    }
}

/// Where below its data directory a node keeps its lease for the sandboxes.
pub fn lease_directory(root: &Path) -> PathBuf {
    root.join(LEASE)
}

/// Gives a directory and all that is in it to the agent's user, if this server may.
pub(crate) fn give_directory(path: &Path, owner: Owner) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let given = Directory::open(path).and_then(|directory| {
        if directory.owner()? == owner { Ok(()) } else { tree::give(&directory, owner) }
    });
    given.map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: io::Error) -> Error {
    let next = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on its disk",
        io::ErrorKind::ReadOnlyFilesystem => "; its file system is read-only: mount it writable",
        io::ErrorKind::PermissionDenied => "; the user of the server must own it",
        io::ErrorKind::NotADirectory => "; something in it is a file or a link where a directory must be",
        _ => "",
    };
    Error::storage(format!("cannot use {}{next}", path.display())).caused_by(error)
}
