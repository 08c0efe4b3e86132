//! What an instance finds in its file system beside its image.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::models::{
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType, MountVolumeOptions,
};
use chassis_core::environment;
use chassis_spec::{AgentSpec, HostPath, MountPath};

use super::volumes;
use crate::InstanceConfig;
use crate::tier1::{Owner, is_tier1};

/// What the host has for one container: where its mounts come from, and what depends on the daemon.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The instance's tier 1 directory.
    pub(crate) tier1: PathBuf,
    /// The directory of the node's lease.
    pub(crate) lease: PathBuf,
    /// The file of a secret volume, by its mount path.
    pub(crate) secret_files: HashMap<MountPath, PathBuf>,
    /// Host paths of the spec, after links were resolved.
    pub(crate) host_paths: HashMap<HostPath, PathBuf>,
    /// Whose the memory is, as the container counts users.
    pub(crate) owner: Owner,
    /// The seccomp profile, if it is not Docker's.
    pub(crate) seccomp: Option<String>,
    /// The daemon must be told that ports below 1024 are open to all.
    pub(crate) open_low_ports: bool,
}

/// Binds: init's directory, in it the node's lease if the instance needs one, and the volumes.
pub(crate) fn binds(config: &InstanceConfig, sources: &Sources) -> Vec<Mount> {
    let (key, spec) = (&config.key, &*config.spec);
    let own = bind(&sources.tier1.join(".chassis"), chassis_init::DIRECTORY, true);
    let lease = config.leased.then(|| bind(&sources.lease, chassis_init::lease::DIRECTORY, true));
    let volumes = spec.volumes.iter().filter_map(|volume| {
        if let Some(name) = volumes::name(key, volume) {
            return Some(named(name, volume.mount_path.as_str(), volume.read_only));
        }
        let (source, read_only) = match (&volume.secret, &volume.host_path) {
            (Some(_), _) => (sources.secret_files.get(&volume.mount_path)?.clone(), true),
            (None, Some(path)) => (sources.host_paths.get(path)?.clone(), volume.read_only),
            (None, None) => (sources.tier1.join(volume.name.as_str()), volume.read_only),
        };
        Some(bind(&source, volume.mount_path.as_str(), read_only))
    });
    std::iter::once(own).chain(lease).chain(volumes).collect()
}

/// Tier 2: memory at `/tmpfs` and `/tmp`, in an environment where its own files are, and over the scratch paths of volumes. Without `exec`, which is Docker's own
/// default: programs that an agent brings along belong into a volume.
///
/// runc before 1.1.8 gives a tmpfs the mode of the directory below it when a container is started again. So the memory
/// belongs to the agent's user, and tier 1 opens the directories below scratch paths.
pub(crate) fn memory(spec: &AgentSpec, owner: Owner) -> HashMap<String, String> {
    let Owner { user, group } = owner;
    let options = |size: u64| format!("rw,nosuid,nodev,noexec,size={size},mode=1777,uid={user},gid={group}");
    let is_environment = spec.fleet.as_ref().is_some_and(environment::is_fleet);
    let own = is_environment.then_some(environment::DIRECTORY);
    let shared = ["/tmpfs", "/tmp"].into_iter().chain(own);
    let shared = shared.map(|path| (path.to_owned(), options(spec.tmpfs.size.0)));
    let scratch = spec.volumes.iter().filter(|volume| is_tier1(volume)).flat_map(|volume| {
        volume
            .scratch
            .iter()
            .map(|scratch| (format!("{}/{}", volume.mount_path, scratch.path), options(scratch.size.0)))
    });
    shared.chain(scratch).collect()
}

/// A volume of Docker's, as it is: nothing of the image is copied into it.
fn named(name: String, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..Mount::default()
    }
}

fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}
