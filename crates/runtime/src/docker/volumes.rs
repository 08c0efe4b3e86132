//! Volumes of instances that Docker keeps: named ones, and directories of NFS servers.
//!
//! Each belongs to one instance, which its labels name, and lives as long as tier 1 does: until somebody asks for it to
//! be cleaned up. Of an NFS volume only the mount is Docker's; what is on the server stays there.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bollard::models::{Volume as Found, VolumeCreateRequest};
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use chassis_core::InstanceKey;
use chassis_spec::{Backend, FleetName, NfsVolume, Volume};

use super::{Daemon, failure, labels};
use crate::tier1::{self, Owner};
use crate::{Error, InstanceConfig, Result};

const LOCAL: &str = "local";

/// The name of a volume that Docker keeps; none for others.
pub(crate) fn name(key: &InstanceKey, volume: &Volume) -> Option<String> {
    match volume.backend()? {
        Backend::Local => None,
        Backend::Docker(docker) if docker.name.is_some() => docker.name.as_ref().map(ToString::to_string),
        Backend::Docker(_) | Backend::Nfs(_) => Some(format!("{}-{}", key.container_name(), volume.name)),
    }
}

/// Makes the instance's volumes, and fails if one that should exist does not.
pub(crate) async fn prepare(daemon: &Arc<Daemon>, config: &InstanceConfig, owner: Owner) -> Result<()> {
    for volume in &config.spec.volumes {
        let Some(name) = name(&config.key, volume) else { continue };
        match volume.backend() {
            Some(Backend::Docker(docker)) if docker.name.is_some() => require(daemon, &name).await?,
            Some(Backend::Docker(docker)) => {
                let driver = docker.driver.clone().unwrap_or_else(|| LOCAL.to_owned());
                let options = docker.options.clone().into_iter().collect::<HashMap<_, _>>();
                let found = make(daemon, config, volume, &name, &driver, options).await?;
                give(daemon, found, owner).await?;
            }
            Some(Backend::Nfs(nfs)) => {
                make(daemon, config, volume, &name, LOCAL, nfs_options(&config.key, nfs)).await?;
            }
            Some(Backend::Local) | None => {}
        }
    }
    Ok(())
}

/// The fleet's instances that have volumes here, whether or not they exist.
pub(crate) async fn list(daemon: &Daemon, fleet: &FleetName) -> Result<Vec<InstanceKey>> {
    let own = all(daemon).await?;
    let keys = own.iter().filter_map(|volume| labels::owner(&daemon.server_id, &volume.labels));
    Ok(keys.filter(|key| key.fleet == *fleet).collect())
}

/// Removes the volumes that were made for an instance.
pub(crate) async fn remove(daemon: &Daemon, key: &InstanceKey) -> Result<()> {
    for volume in all(daemon).await? {
        if labels::owner(&daemon.server_id, &volume.labels).as_ref() == Some(key) {
            remove_by_name(daemon, &volume.name).await?;
        }
    }
    Ok(())
}

async fn all(daemon: &Daemon) -> Result<Vec<Found>> {
    let options = ListVolumesOptions { filters: Some(labels::filter(&daemon.server_id)) };
    let found = daemon.client()?.list_volumes(Some(options)).await.map_err(|error| daemon.explain(error))?;
    Ok(found.volumes.unwrap_or_default())
}

async fn require(daemon: &Daemon, name: &str) -> Result<()> {
    match find(daemon, name).await? {
        Some(_) => Ok(()),
        None => Err(Error::storage(format!(
            "there is no Docker volume {name}; make it with `docker volume create {name}`, or leave `name` out for one \
             of the instance's own"
        ))),
    }
}

/// Makes a volume, or finds the one that was made before. One on an NFS server is made again if it has changed: there is
/// nothing in it. Another is not: its files would be gone.
async fn make(
    daemon: &Daemon,
    config: &InstanceConfig,
    volume: &Volume,
    name: &str,
    driver: &str,
    options: HashMap<String, String>,
) -> Result<Found> {
    if let Some(found) = find(daemon, name).await? {
        if labels::owner(&daemon.server_id, &found.labels).as_ref() != Some(&config.key) {
            return Err(Error::name_taken(format!(
                "the Docker volume {name} was not made for this instance; remove it with `docker volume rm {name}`, \
                 or name the volume differently"
            )));
        }
        if found.driver == driver && found.options == options {
            return Ok(found);
        }
        if !is_nfs(&found) {
            return Err(Error::storage(format!(
                "the Docker volume {name} was made with another driver or other options; give back the old ones, or \
                 remove it and what is in it with `docker volume rm {name}`, or name the volume differently"
            )));
        }
        remove_by_name(daemon, name).await?;
    }
    let request = VolumeCreateRequest {
        name: Some(name.to_owned()),
        driver: Some(driver.to_owned()),
        driver_opts: Some(options),
        labels: Some(labels::of_volume(&daemon.server_id, &config.key)),
        cluster_volume_spec: None,
    };
    daemon.client()?.create_volume(request).await.map_err(|error| {
        let words = failure::words(&error);
        let what = format!("Docker cannot make volume {} ({name}): {words}", volume.name);
        if failure::status(&error).is_some() { Error::storage(what) } else { daemon.explain(error) }
    })
}

async fn find(daemon: &Daemon, name: &str) -> Result<Option<Found>> {
    match daemon.client()?.inspect_volume(name).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if failure::is_not_found(&error) => Ok(None),
        Err(error) => Err(daemon.explain(error)),
    }
}

async fn remove_by_name(daemon: &Daemon, name: &str) -> Result<()> {
    match daemon.client()?.remove_volume(name, None::<RemoveVolumeOptions>).await {
        Err(error) if failure::status(&error) == Some(409) => Err(Error::storage(format!(
            "the Docker volume {name} is in use by a container that is not its instance's; \
             `docker ps -a --filter volume={name}` shows which, remove that"
        ))),
        Err(error) if !failure::is_not_found(&error) => Err(daemon.explain(error)),
        _ => Ok(()),
    }
}

fn is_nfs(found: &Found) -> bool {
    found.driver == LOCAL && found.options.get("type").is_some_and(|kind| kind == "nfs")
}

fn nfs_options(key: &InstanceKey, nfs: &NfsVolume) -> HashMap<String, String> {
    let path = nfs
        .path
        .as_str()
        .replace("{fleet}", key.fleet.as_str())
        .replace("{agent}", key.agent.as_str())
        .replace("{number}", &key.number.to_string())
        .replace("{instance}", &key.short_name());
    let more = nfs.options.as_ref().map(|options| format!(",{options}")).unwrap_or_default();
    [("type", "nfs".to_owned()), ("o", format!("addr={}{more}", nfs.server)), ("device", format!(":{path}"))]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// Gives a fresh volume, which is root's, to the agent's user. Only a directory of this machine can be given; what else a
/// driver keeps belongs to whom the driver says, and init tells if the agent cannot write to it.
async fn give(daemon: &Arc<Daemon>, found: Found, owner: Owner) -> Result<()> {
    if found.driver != LOCAL || !found.options.is_empty() || !daemon.address.is_local() {
        return Ok(());
    }
    daemon.blocking(move |_| tier1::give_directory(&PathBuf::from(found.mountpoint), owner)).await
}
