//! Checks of the Docker Engine.

use std::path::Path;

use chassis_server::DockerReport;
use jiff::SignedDuration;

use super::facts::Facts;
use super::{Check, Finding, space};

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// Logs and runs carry the Engine's time, events ours.
const MOST_DRIFT: SignedDuration = SignedDuration::from_secs(2);

pub(super) const CHECKS: &[Check] = &[
    Check { name: "docker", look: reachable },
    Check { name: "docker-version", look: version },
    Check { name: "docker-storage", look: storage },
    Check { name: "docker-cgroups", look: cgroups },
    Check { name: "docker-security", look: security },
    Check { name: "docker-live-restore", look: live_restore },
    Check { name: "docker-logs", look: logs },
    Check { name: "docker-disk", look: disk },
    Check { name: "clock", look: clock },
];

fn reachable(facts: &Facts) -> Finding {
    match &facts.docker {
        Ok(docker) => Finding::ok(format!("Engine {} at {}", docker.version, docker.address)),
        Err(error) => Finding::problem(error.clone(), how_to_reach(facts.docker_host.as_deref())),
    }
}

fn how_to_reach(host: Option<&str>) -> String {
    let socket = match host {
        None => DEFAULT_SOCKET,
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) if Path::new(path).exists() => path,
            _ => {
                return format!(
                    "DOCKER_HOST is {host}: unset it for this machine's own Docker, or give it the address of a Docker that \
                     runs"
                );
            }
        },
    };
    if !Path::new(socket).exists() {
        return "start Docker: `sudo systemctl start docker`; if it is not there: https://docs.docker.com/engine/install/"
            .to_owned();
    }
    match rustix::fs::access(socket, rustix::fs::Access::WRITE_OK) {
        Ok(()) => "start Docker again: `sudo systemctl restart docker`; `journalctl -u docker` says what it suffers from".to_owned(),
        Err(_) => "let this user use it: `sudo usermod -aG docker $USER`, then log in again (the group is as good as root)".to_owned(),
    }
}

/// The Engine's answers; without them a check does not apply, for the first has said why.
fn with(facts: &Facts, look: impl FnOnce(&DockerReport) -> Finding) -> Finding {
    match &facts.docker {
        Ok(docker) => look(docker),
        Err(_) => Finding::skipped("Docker does not answer"),
    }
}

fn version(facts: &Facts) -> Finding {
    with(facts, |docker| {
        let numbers: Vec<u32> =
            docker.version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect();
        let found = format!("{}, API {}", docker.version, docker.api_version);
        match numbers[..] {
            [major, minor, ..] if (major, minor) < (19, 3) => {
                Finding::problem(found, "update Docker: chassis needs Engine 19.03 or newer")
            }
            [major, ..] if major < 20 => Finding::warning(
                found,
                "update Docker when you can: before 20.10 `stats` takes a second longer, and cgroup v2 is not there",
            ),
            _ => Finding::ok(found),
        }
    })
}

fn storage(facts: &Facts) -> Finding {
    with(facts, |docker| {
        let driver = docker.storage_driver.as_str();
        match driver {
            "vfs" => Finding::warning(
                "vfs copies the whole image for each instance",
                "use a disk on which Docker can have overlay2 (ext4, or xfs with ftype=1), and set `\"storage-driver\": \"overlay2\"`",
            ),
            "devicemapper" | "aufs" | "overlay" => Finding::warning(
                format!("{driver} is no longer kept up by Docker"),
                "change to overlay2: https://docs.docker.com/engine/storage/drivers/overlayfs-driver/",
            ),
            _ => Finding::ok(driver),
        }
    })
}

fn cgroups(facts: &Facts) -> Finding {
    with(facts, |docker| {
        let version = if docker.cgroup_version.is_empty() { "1" } else { &docker.cgroup_version };
        let limits =
            [("memory", docker.limits_memory), ("pids", docker.limits_pids), ("cpu", docker.limits_cpu)];
        let missing: Vec<&str> = limits.iter().filter(|(_, works)| !works).map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            return Finding::problem(
                format!("v{version}, and this kernel does not limit {}", missing.join(", ")),
                "boot with `cgroup_enable=memory` (v1), or let the controllers through to Docker's slice (v2: `systemctl set-property \
                 docker.service Delegate=yes`)",
            );
        }
        if !docker.limits_swap && version == "1" {
            return Finding::warning(
                "v1, memory, pids and cpu are limited, swap is not: an agent at its limit fills the swap first",
                "boot with `swapaccount=1`, or run without swap",
            );
        }
        Finding::ok(format!("v{version}; memory, swap, pids and cpu are limited"))
    })
}

fn security(facts: &Facts) -> Finding {
    with(facts, |docker| {
        let has = |name: &str| {
            docker
                .security_options
                .iter()
                .any(|option| option.split(',').any(|part| part == format!("name={name}")))
        };
        let there: Vec<&str> = ["seccomp", "apparmor", "selinux", "userns", "rootless"]
            .into_iter()
            .filter(|name| has(name))
            .collect();
        let found = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        if !has("seccomp") {
            return Finding::problem(
                format!("{found}; system calls are not filtered"),
                "use a kernel with CONFIG_SECCOMP_FILTER and a Docker that was built with seccomp",
            );
        }
        if !has("apparmor") && !has("selinux") && !has("rootless") {
            return Finding::warning(
                format!("{found}; neither AppArmor nor SELinux confines containers"),
                "install AppArmor (Debian, Ubuntu: `sudo apt install apparmor`) or SELinux (Fedora, RHEL: `\"selinux-enabled\": true`), \
                 then restart Docker",
            );
        }
        Finding::ok(found)
    })
}

fn live_restore(facts: &Facts) -> Finding {
    with(facts, |docker| match (docker.live_restore, docker.is_in_swarm) {
        (true, _) => Finding::ok("agents outlive a restart of Docker"),
        (false, true) => Finding::skipped("not to be had in a swarm"),
        (false, false) => Finding::warning(
            "off: a restart of Docker ends every agent, and chassis starts them again",
            "put `\"live-restore\": true` into /etc/docker/daemon.json, and `sudo systemctl reload docker`",
        ),
    })
}

fn logs(facts: &Facts) -> Finding {
    with(facts, |docker| {
        Finding::ok(format!(
            "bounded for each agent, whatever Docker's default ({}) is",
            docker.logging_driver
        ))
    })
}

fn disk(facts: &Facts) -> Finding {
    match facts.local_docker() {
        None => Finding::skipped("no Docker on this machine answers"),
        Some(docker) if !docker.root_dir.exists() => {
            Finding::skipped(format!("{} cannot be seen from here", docker.root_dir.display()))
        }
        Some(docker) => space::of(
            &docker.root_dir,
            "take away what nobody uses: `docker system df`, then `docker image prune -a` and `docker builder prune`",
        ),
    }
}

fn clock(facts: &Facts) -> Finding {
    with(facts, |docker| {
        let Some((theirs, ours)) = docker.clock else {
            return Finding::skipped("Docker does not tell its time");
        };
        let drift = theirs.duration_since(ours).abs();
        if drift > MOST_DRIFT {
            return Finding::problem(
                format!(
                    "Docker's clock and ours differ by {drift:#}: events come in the wrong order, and `--since` misses lines"
                ),
                "set both by NTP: `sudo timedatectl set-ntp true` on each machine",
            );
        }
        Finding::ok("the same as Docker's")
    })
}
