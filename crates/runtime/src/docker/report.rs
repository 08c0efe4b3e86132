//! What an Engine says of itself and of a server's containers, for whoever looks for what is wrong: no runtime is needed
//! for it, and nothing is changed.

use std::path::PathBuf;

use bollard::query_parameters::ListContainersOptions;
use jiff::Timestamp;

use super::transport::Address;
use super::{failure, labels};
use crate::{Error, Result};

/// An Engine, as far as it matters to agents. What an Engine does not tell is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerReport {
    /// `unix:///var/run/docker.sock`
    pub address: String,
    /// Whether it runs on this machine.
    pub is_local: bool,
    /// `20.10.24`
    pub version: String,
    /// `1.41`
    pub api_version: String,
    pub storage_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    pub limits_memory: bool,
    pub limits_swap: bool,
    pub limits_pids: bool,
    pub limits_cpu: bool,
    /// `name=seccomp,profile=default`, `name=apparmor`, …
    pub security_options: Vec<String>,
    pub live_restore: bool,
    pub is_in_swarm: bool,
    /// Of containers that do not choose their own.
    pub logging_driver: String,
    pub root_dir: PathBuf,
    /// Its clock, and ours when it answered.
    pub clock: Option<(Timestamp, Timestamp)>,
    pub warnings: Vec<String>,
}

/// Asks the Engine at `host`, as in `DOCKER_HOST`; without it, at Docker's own default.
pub async fn docker_report(host: Option<&str>) -> Result<DockerReport> {
    let address = address(host)?;
    let docker = address.client().map_err(|error| failure::explain(&address, error))?;
    let info = docker.info().await.map_err(|error| failure::explain(&address, error))?;
    let now = Timestamp::now();
    let version = docker.version().await.map_err(|error| failure::explain(&address, error))?;
    let clock = info.system_time.and_then(|time| time.parse::<Timestamp>().ok()).map(|time| (time, now));
    let on = |flag: Option<bool>| flag.unwrap_or(false);
    Ok(DockerReport {
        address: address.to_string(),
        is_local: address.is_local(),
        version: info.server_version.unwrap_or_default(),
        api_version: version.api_version.unwrap_or_default(),
        storage_driver: info.driver.unwrap_or_default(),
        cgroup_version: info.cgroup_version.map(|version| version.to_string()).unwrap_or_default(),
        limits_memory: on(info.memory_limit),
        limits_swap: on(info.swap_limit),
        limits_pids: on(info.pids_limit),
        limits_cpu: on(info.cpu_cfs_quota),
        security_options: info.security_options.unwrap_or_default(),
        live_restore: on(info.live_restore_enabled),
        is_in_swarm: info.swarm.and_then(|swarm| swarm.node_id).is_some_and(|id| !id.is_empty()),
        logging_driver: info.logging_driver.unwrap_or_default(),
        root_dir: info.docker_root_dir.unwrap_or_default().into(),
        clock,
        warnings: info.warnings.unwrap_or_default(),
    })
}

/// Id and name of every container that carries a server's label, whoever put it there.
pub async fn docker_containers(host: Option<&str>, server_id: &str) -> Result<Vec<(String, String)>> {
    let address = address(host)?;
    let docker = address.client().map_err(|error| failure::explain(&address, error))?;
    let options = ListContainersOptions {
        all: true,
        filters: Some(labels::filter(server_id)),
        ..ListContainersOptions::default()
    };
    let containers = docker.list_containers(Some(options)).await;
    let containers = containers.map_err(|error| failure::explain(&address, error))?;
    let named = containers.into_iter().filter_map(|container| {
        let name = container.names.unwrap_or_default().into_iter().next().unwrap_or_default();
        // One that shows an image's files is there for a moment only.
        let is_probe = container.labels.is_some_and(|labels| labels::is_probe(&labels));
        container.id.filter(|_| !is_probe).map(|id| (id, name.trim_start_matches('/').to_owned()))
    });
    Ok(named.collect())
}

fn address(host: Option<&str>) -> Result<Address> {
    Address::parse(host).ok_or_else(|| {
        Error::unavailable(format!(
            "DOCKER_HOST is {}; chassis speaks unix:///path and tcp://host:port",
            host.unwrap_or_default()
        ))
    })
}
