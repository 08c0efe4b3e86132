//! What a Docker daemon is: what of it decides how a container is made, and what it can be asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard::models::{LocalNodeState, SystemInfo};

use super::{Daemon, locked};
use crate::tier1::Owner;
use crate::{Error, Result};

/// From this API version on (Docker 20.10) an agent that is not root may open ports below 1024 in its own network.
const OPENS_LOW_PORTS: (u32, u32) = (1, 41);
/// The first kernel that can be told so.
const LOW_PORTS_KERNEL: (u32, u32) = (4, 11);

/// Read when a server first asks, and again whenever it looks whether the daemon is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) app_armor: bool,
    pub(crate) se_linux: bool,
    /// The daemon gives a profile to those who bring none.
    pub(crate) seccomp: bool,
    /// The user and group of the host that root of a container is, if the daemon maps users.
    pub(crate) remapped: Option<Owner>,
    pub(crate) swarm: bool,
    pub(crate) root_dir: PathBuf,
    api: (u32, u32),
    kernel: (u32, u32),
}

impl Facts {
    pub(super) fn new(info: &SystemInfo, api_version: &str) -> Facts {
        let options = info.security_options.as_deref().unwrap_or_default();
        let has = |name: &str| {
            options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")))
        };
        let root_dir = PathBuf::from(info.docker_root_dir.clone().unwrap_or_default());
        let swarm = info.swarm.as_ref().and_then(|swarm| swarm.local_node_state);
        Facts {
            app_armor: has("apparmor"),
            se_linux: has("selinux"),
            seccomp: has("seccomp") && !options.iter().any(|option| option.contains("profile=unconfined")),
            remapped: has("userns").then(|| mapping(&root_dir)).flatten(),
            swarm: !matches!(swarm, None | Some(LocalNodeState::INACTIVE | LocalNodeState::EMPTY)),
            root_dir,
            api: version(api_version),
            kernel: version(info.kernel_version.as_deref().unwrap_or_default()),
        }
    }

    /// Whose a file of the host's must be, so that it belongs to `inside` in the container.
    pub(crate) fn outside(&self, inside: Owner, keeps_users: bool) -> Owner {
        match self.remapped.filter(|_| !keeps_users) {
            Some(root) => Owner {
                user: root.user.saturating_add(inside.user),
                group: root.group.saturating_add(inside.group),
            },
            None => inside,
        }
    }

    /// True if the daemon leaves ports below 1024 to root, and can be told not to.
    pub(crate) fn must_open_low_ports(&self) -> bool {
        self.api < OPENS_LOW_PORTS && self.kernel >= LOW_PORTS_KERNEL
    }
}

/// A daemon that maps users has a directory of its own for each mapping: `<root>/<user>.<group>`.
fn mapping(root_dir: &Path) -> Option<Owner> {
    let (user, group) = root_dir.file_name()?.to_str()?.split_once('.')?;
    Some(Owner { user: user.parse().ok()?, group: group.parse().ok()? })
}

/// The first two numbers of `1.41` or `6.1.0-13-amd64`; zeros if it is no version, which nothing is newer than.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The facts, asked for if they are not known yet.
pub(crate) async fn facts(daemon: &Daemon) -> Result<Arc<Facts>> {
    if let Some(facts) = known(daemon) {
        return Ok(facts);
    }
    let info = daemon.client()?.info().await.map_err(|error| daemon.explain(error))?;
    note(daemon, &info).await
}

/// What was read last, if anything was.
pub(crate) fn known(daemon: &Daemon) -> Option<Arc<Facts>> {
    locked(&daemon.facts).clone()
}

/// Keeps what the daemon says of itself now.
pub(crate) async fn note(daemon: &Daemon, info: &SystemInfo) -> Result<Arc<Facts>> {
    let version = daemon.client()?.version().await.map_err(|error| daemon.explain(error))?;
    let facts = Arc::new(Facts::new(info, version.api_version.as_deref().unwrap_or_default()));
    *locked(&daemon.facts) = Some(Arc::clone(&facts));
    Ok(facts)
}

/// What the daemon cannot do of what a spec asks for, before anything is made: Docker itself is silent about some of it,
/// and the agent would run less confined than its YAML says.
pub(crate) fn check(facts: &Facts, spec: &chassis_spec::AgentSpec) -> Result<()> {
    let security = &spec.security;
    let lacks = |field: &str, what: &str| {
        Err(Error::rejected(format!(
            "`security.{field}` asks for {what}, which this Docker does not have (`docker info` shows what it has); \
             leave it out, or run the agent where it is"
        )))
    };
    if security.app_armor.as_ref().is_some_and(|profile| !profile.is_unconfined()) && !facts.app_armor {
        return lacks("appArmor", "AppArmor");
    }
    if security.se_linux.is_some() && !facts.se_linux {
        return lacks("seLinux", "SELinux");
    }
    let flags = [
        (security.privileged, "privileged"),
        (security.host_network, "hostNetwork"),
        (security.host_pid, "hostPid"),
    ];
    let shared = flags.into_iter().find_map(|(is_set, field)| is_set.then_some(field));
    if let (Some(field), Some(_), None) = (shared, facts.remapped, security.userns) {
        return Err(Error::rejected(format!(
            "`security.{field}: true` does not go together with users that Docker maps (userns-remap); add \
             `security.userns: host`"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str], root_dir: &str, kernel: &str, api: &str) -> Facts {
        let info = SystemInfo {
            security_options: Some(options.iter().map(ToString::to_string).collect()),
            docker_root_dir: Some(root_dir.to_owned()),
            kernel_version: Some(kernel.to_owned()),
            ..SystemInfo::default()
        };
        Facts::new(&info, api)
    }

    #[test]
    fn a_daemon_is_read_as_it_describes_itself() {
        let plain = of(&["name=seccomp,profile=default"], "/var/lib/docker", "5.10.0-8-amd64", "1.41");
        assert!(plain.seccomp && !plain.app_armor && !plain.se_linux && !plain.must_open_low_ports());
        let owner = Owner { user: 64646, group: 7 };
        assert_eq!(plain.outside(owner, false), owner);

        let options = ["name=apparmor", "name=seccomp,profile=unconfined", "name=selinux", "name=userns"];
        let mapped = of(&options, "/data/docker/100000.200000", "4.19.1", "1.40");
        assert!(mapped.app_armor && mapped.se_linux && !mapped.seccomp && mapped.must_open_low_ports());
        assert_eq!(mapped.outside(owner, false), Owner { user: 164_646, group: 200_007 });
        assert_eq!(mapped.outside(owner, true), owner);

        // A directory that looks like a mapping is none without the option.
        assert_eq!(of(&[], "/data/1.2", "3.10.0", "1.40").remapped, None);
        assert!(!of(&[], "/", "3.10.0", "1.40").must_open_low_ports());
    }
}
