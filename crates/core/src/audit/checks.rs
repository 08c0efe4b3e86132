//! The items, each a function of what a container is and should be.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use chassis_spec::{Capability, ImageName, Port, SeccompProfile};

use super::posture::{Confinement, MountPosture, Posture, PublishedPort};
use super::{Check, Outcome, Subject};

/// Ports below belong to the system.
const FIRST_FREE_PORT: u16 = 1024;

/// Numbers and titles are those of the CIS Docker Benchmark 1.6.
pub(super) const ITEMS: [(&str, &str, Check); 34] = [
    ("4.1", "a user other than root", user),
    ("5.1", "swarm mode is not enabled", swarm),
    ("5.2", "an AppArmor profile is enabled", app_armor),
    ("5.3", "SELinux security options are set", se_linux),
    ("5.4", "Linux capabilities are restricted", capabilities),
    ("5.5", "not privileged", privileged),
    ("5.6", "no sensitive directory of the host is mounted", sensitive_mounts),
    ("5.7", "sshd does not run", sshd),
    ("5.8", "no privileged port of the host is mapped", privileged_ports),
    ("5.9", "only needed ports are open", needed_ports),
    ("5.10", "the host's network namespace is not shared", host_network),
    ("5.11", "memory is limited", memory),
    ("5.12", "CPU priority is set", cpu),
    ("5.13", "the root file system is read-only", read_only_root),
    ("5.14", "ports are bound to one interface of the host", one_interface),
    ("5.15", "Docker restarts it five times at most", restart_policy),
    ("5.16", "the host's process namespace is not shared", host_pid),
    ("5.17", "the host's IPC namespace is not shared", host_ipc),
    ("5.18", "no device of the host is exposed", devices),
    ("5.19", "ulimits are set", ulimits),
    ("5.20", "mount propagation is not shared", propagation),
    ("5.21", "the host's UTS namespace is not shared", host_uts),
    ("5.22", "the seccomp profile is not disabled", seccomp),
    ("5.23", "nothing is executed with privileges", exec_privileged),
    ("5.24", "nothing is executed as root", exec_root),
    ("5.25", "the cgroup is Docker's own", cgroup),
    ("5.26", "no additional privileges can be gained", no_new_privileges),
    ("5.27", "health is checked", health),
    ("5.28", "the image is the one that its name means now", image),
    ("5.29", "processes are limited", pids),
    ("5.30", "Docker's default bridge is not used", bridge),
    ("5.31", "the host's user namespace is not shared", host_userns),
    ("5.32", "the Docker socket is not mounted", docker_socket),
    ("C.1", "paths of the host are mounted read-only", writable_mounts),
];

/// What a flag of the YAML opens.
fn flag(is_open: bool, in_yaml: bool, field: &str, what: &str) -> Outcome {
    match (is_open, in_yaml) {
        (false, _) => Outcome::PASS,
        (true, true) => Outcome::opened(format!("security.{field}")),
        (true, false) => Outcome::differs(format!("it {what}, and its YAML does not say so")),
    }
}

const PRIVILEGED: &str = "security.privileged: true";

/// True if the YAML makes it privileged, and it is: that opens several items at once.
fn opened_by_privileged(subject: &Subject<'_>) -> bool {
    subject.posture.privileged && subject.spec.security.privileged
}

fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
}

fn user(subject: &Subject<'_>) -> Outcome {
    if !is_root(&subject.posture.user) {
        return Outcome::PASS;
    }
    match &subject.spec.user {
        Some(user) if user.is_root() => Outcome::opened(format!("user: {user}")),
        _ => Outcome::differs("it runs as root, and its YAML does not say so"),
    }
}

fn swarm(subject: &Subject<'_>) -> Outcome {
    if subject.posture.daemon.swarm {
        return Outcome::fails(
            "Docker is part of a swarm, which chassis does not need: `docker swarm leave`",
        );
    }
    Outcome::PASS
}

fn app_armor(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    if !posture.daemon.app_armor {
        return Outcome::not_applicable("the host has no AppArmor");
    }
    if !matches!(posture.app_armor.as_str(), "" | "unconfined") {
        return Outcome::PASS;
    }
    match &spec.security.app_armor {
        Some(profile) if profile.is_unconfined() => Outcome::opened(format!("security.appArmor: {profile}")),
        _ if posture.privileged && spec.security.privileged => Outcome::opened(PRIVILEGED),
        _ => Outcome::differs("no AppArmor profile confines it, and its YAML does not say so"),
    }
}

fn se_linux(subject: &Subject<'_>) -> Outcome {
    let Subject { spec, posture, .. } = subject;
    if !posture.daemon.se_linux {
        return Outcome::not_applicable("the host has no SELinux");
    }
    match &spec.security.se_linux {
        Some(label) if label.is_unconfined() => {
            let kind = label.kind.as_ref().map_or("", |kind| kind.as_str());
            Outcome::opened(format!("security.seLinux.type: {kind}"))
        }
        _ if !posture.label_disabled => Outcome::PASS,
        _ if opened_by_privileged(subject) => Outcome::opened(PRIVILEGED),
        _ => Outcome::differs("SELinux does not confine it, and its YAML does not say so"),
    }
}

fn capabilities(subject: &Subject<'_>) -> Outcome {
    let Subject { spec, posture, .. } = subject;
    if opened_by_privileged(subject) {
        return Outcome::opened(PRIVILEGED);
    }
    let named: BTreeSet<&str> = spec.security.capabilities.iter().map(Capability::as_str).collect();
    let more: Vec<&str> =
        posture.capabilities.iter().map(String::as_str).filter(|name| !named.contains(name)).collect();
    if posture.keeps_default_capabilities {
        Outcome::differs("it keeps Docker's default capabilities, and its YAML does not say so")
    } else if !more.is_empty() {
        Outcome::differs(format!("it has {}, and its YAML does not say so", more.join(", ")))
    } else if posture.capabilities.is_empty() {
        Outcome::PASS
    } else {
        Outcome::opened(format!("security.capabilities: [{}]", posture.capabilities.join(", ")))
    }
}

fn privileged(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    flag(posture.privileged, spec.security.privileged, "privileged: true", "is privileged")
}

/// The mounts that are amiss, and the lines of the YAML that made them.
fn mounts(subject: &Subject<'_>, is_amiss: impl Fn(&MountPosture) -> Option<String>) -> Outcome {
    let mut opened = Vec::new();
    for mount in &subject.posture.mounts {
        let Some(why) = is_amiss(mount) else { continue };
        let volume = subject.spec.volumes.iter().find(|volume| volume.mount_path.as_str() == mount.target);
        let Some((volume, path)) = volume.and_then(|volume| Some((volume, volume.host_path.as_ref()?)))
        else {
            let MountPosture { source, target, .. } = mount;
            return Outcome::differs(format!(
                "it sees {source} at {target}, which {why}; its YAML does not say so"
            ));
        };
        opened.push(format!("volumes.{}.hostPath: {path}, which {why}", volume.name));
    }
    if opened.is_empty() { Outcome::PASS } else { Outcome::opened(opened.join("; ")) }
}

fn sensitive_mounts(subject: &Subject<'_>) -> Outcome {
    mounts(subject, |mount| mount.sensitive.clone())
}

fn propagation(subject: &Subject<'_>) -> Outcome {
    mounts(subject, |mount| mount.is_shared.then(|| "shares what is mounted there".to_owned()))
}

fn docker_socket(subject: &Subject<'_>) -> Outcome {
    mounts(subject, |mount| mount.has_docker_socket.then(|| "is the way to Docker itself".to_owned()))
}

fn writable_mounts(subject: &Subject<'_>) -> Outcome {
    mounts(subject, |mount| mount.writable.then(|| "it can write to".to_owned()))
}

fn sshd(Subject { posture, .. }: &Subject<'_>) -> Outcome {
    match &posture.programs {
        None => Outcome::not_applicable("it does not run, or its processes cannot be seen"),
        Some(programs) if programs.iter().any(|name| name == "sshd") => {
            Outcome::fails("sshd runs in it; `chassis exec` needs none")
        }
        Some(_) => Outcome::PASS,
    }
}

/// Ports that are published as the YAML says, as a set.
fn yaml_ports(ports: &[Port]) -> BTreeSet<PublishedPort> {
    let published = ports.iter().filter_map(|port| {
        let address = port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Some(PublishedPort {
            host_ip: Some(address).filter(|address| !address.is_unspecified()),
            host_port: port.host_port?,
            container_port: port.container_port,
        })
    });
    published.collect()
}

/// The published ports that are amiss, and whether the YAML has them.
fn ports(subject: &Subject<'_>, is_amiss: impl Fn(&PublishedPort) -> bool, line: &str) -> Outcome {
    let named = yaml_ports(&subject.spec.ports);
    let amiss: Vec<&PublishedPort> = subject.posture.ports.iter().filter(|port| is_amiss(port)).collect();
    let numbers: Vec<String> = amiss.iter().map(|port| port.host_port.to_string()).collect();
    if amiss.is_empty() {
        Outcome::PASS
    } else if amiss.iter().all(|port| named.contains(port)) {
        Outcome::opened(format!(
            "ports: {}",
            numbers.iter().map(|number| line.replace("{}", number)).collect::<Vec<_>>().join(", ")
        ))
    } else {
        Outcome::differs(format!(
            "the host's port {} leads to it, and its YAML does not say so",
            numbers.join(", ")
        ))
    }
}

fn privileged_ports(subject: &Subject<'_>) -> Outcome {
    ports(subject, |port| port.host_port < FIRST_FREE_PORT, "hostPort {}")
}

fn one_interface(subject: &Subject<'_>) -> Outcome {
    ports(subject, |port| port.host_ip.is_none(), "hostPort {} on every address of the host (hostIp)")
}

fn needed_ports(subject: &Subject<'_>) -> Outcome {
    let Subject { spec, posture, .. } = subject;
    if posture.network_mode == "host" && spec.security.host_network {
        return Outcome::opened("security.hostNetwork: true");
    }
    let named = yaml_ports(&spec.ports);
    let found: BTreeSet<PublishedPort> = posture.ports.iter().cloned().collect();
    match found.difference(&named).next() {
        Some(port) => Outcome::differs(format!(
            "the host's port {} leads to it, and its YAML does not say so",
            port.host_port
        )),
        None => Outcome::PASS,
    }
}

fn host_network(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    let is_open = posture.network_mode == "host";
    flag(is_open, spec.security.host_network, "hostNetwork: true", "has the host's network")
}

/// A limit that should be what the YAML says.
fn limit(found: u64, wanted: u64, field: &str) -> Outcome {
    if found == wanted {
        return Outcome::PASS;
    }
    let found = if found == 0 { "no limit".to_owned() } else { found.to_string() };
    Outcome::differs(format!("{found} instead of resources.{field}: {wanted}"))
}

fn memory(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    limit(posture.memory, spec.resources.memory.0, "memory")
}

fn pids(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    limit(posture.pids, spec.resources.pids.into(), "pids")
}

fn cpu(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    let wanted = spec.resources.cpu.map_or(0, |cpu| u64::from(cpu.0) * 1_000_000);
    if posture.nano_cpus != wanted {
        let cores =
            |nano: u64| if nano == 0 { "no limit".to_owned() } else { format!("{}m", nano / 1_000_000) };
        return Outcome::differs(format!(
            "{} instead of resources.cpu: {}",
            cores(posture.nano_cpus),
            cores(wanted)
        ));
    }
    if posture.cpu_shares != Posture::CPU_SHARES {
        return Outcome::differs(format!(
            "its CPU shares are {} instead of {}",
            posture.cpu_shares,
            Posture::CPU_SHARES
        ));
    }
    Outcome::PASS
}

fn read_only_root(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    flag(!posture.read_only_root, spec.security.writable_root, "writableRoot: true", "can write to its root")
}

fn restart_policy(Subject { posture, .. }: &Subject<'_>) -> Outcome {
    if matches!(posture.restart_policy.as_str(), "" | "no") {
        return Outcome::passes_with("Docker never does; chassis does, after growing pauses");
    }
    Outcome::differs(format!(
        "Docker restarts it too ({}): `docker update --restart no` ends that",
        posture.restart_policy
    ))
}

fn host_pid(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    flag(!posture.pid_mode.is_empty(), spec.security.host_pid, "hostPid: true", "sees other processes")
}

fn host_ipc(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    flag(posture.ipc_mode != "private", spec.security.host_ipc, "hostIpc: true", "shares memory with others")
}

fn devices(subject: &Subject<'_>) -> Outcome {
    if opened_by_privileged(subject) {
        return Outcome::opened(PRIVILEGED);
    }
    let devices = &subject.posture.devices;
    if devices.is_empty() {
        return Outcome::PASS;
    }
    Outcome::differs(format!("it has {}, and its YAML does not say so", devices.join(", ")))
}

fn ulimits(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    if !posture.core_dumps_off {
        return Outcome::differs("it may dump core");
    }
    let wanted = u64::from(spec.resources.files);
    match posture.files {
        Some(files) => limit(files, wanted, "files"),
        None => Outcome::differs(format!("no limit instead of resources.files: {wanted}")),
    }
}

fn host_uts(Subject { posture, .. }: &Subject<'_>) -> Outcome {
    if posture.uts_mode.is_empty() {
        return Outcome::PASS;
    }
    Outcome::differs("it shares the host's name, and its YAML does not say so")
}

fn seccomp(subject: &Subject<'_>) -> Outcome {
    let Subject { spec, posture, .. } = subject;
    let unconfined = spec.security.seccomp.as_ref().is_some_and(SeccompProfile::is_unconfined);
    match posture.seccomp {
        Confinement::Unconfined if unconfined => Outcome::opened("security.seccomp: unconfined"),
        Confinement::Unconfined => {
            Outcome::differs("it may make any system call, and its YAML does not say so")
        }
        Confinement::Default if opened_by_privileged(subject) => Outcome::opened(PRIVILEGED),
        Confinement::Default if !posture.daemon.seccomp => Outcome::fails(
            "Docker gives no profile: its kernel has no seccomp, or its seccomp-profile is unconfined",
        ),
        Confinement::Default => Outcome::PASS,
        Confinement::Own => {
            let profile = spec.security.seccomp.as_ref().map_or("", |profile| profile.as_str());
            Outcome::passes_with(format!("security.seccomp: {profile}"))
        }
        Confinement::Other => {
            Outcome::differs("its profile is not the one that its YAML names, as that is now")
        }
    }
}

fn exec_privileged(Subject { posture, .. }: &Subject<'_>) -> Outcome {
    if posture.execs.iter().any(|exec| exec.privileged) {
        return Outcome::differs("something is executed in it with privileges: `docker exec --privileged`");
    }
    Outcome::PASS
}

fn exec_root(subject: &Subject<'_>) -> Outcome {
    let Subject { spec, posture, .. } = subject;
    // An empty user is the agent's own.
    if !posture.execs.iter().any(|exec| !exec.user.is_empty() && is_root(&exec.user)) {
        return Outcome::PASS;
    }
    match &spec.user {
        Some(user) if user.is_root() => Outcome::opened(format!("user: {user}")),
        _ => Outcome::differs("something is executed in it as root: `docker exec --user root`"),
    }
}

fn cgroup(Subject { posture, .. }: &Subject<'_>) -> Outcome {
    if posture.cgroup_parent.is_empty() {
        return Outcome::PASS;
    }
    Outcome::differs(format!("its cgroup is in {}", posture.cgroup_parent))
}

fn no_new_privileges(Subject { posture, .. }: &Subject<'_>) -> Outcome {
    if posture.no_new_privileges {
        return Outcome::PASS;
    }
    Outcome::differs("it can gain privileges, and no YAML can say so")
}

fn health(subject: &Subject<'_>) -> Outcome {
    if subject.has_health_check {
        return Outcome::passes_with("chassis makes the check, not Docker");
    }
    Outcome::not_applicable("neither `healthCheck` nor the image has one; chassis watches its process")
}

fn image(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    match &posture.image_now {
        None => Outcome::not_applicable("its name means no image on this machine any more"),
        Some(now) if *now != posture.image => Outcome::fails(format!(
            "{} means another image by now; `chassis upgrade agent {} --refresh` runs that",
            spec.image, spec.name
        )),
        Some(_) if has_moving_tag(&spec.image) => {
            Outcome::passes_with("the tag `latest` moves; name a version or a digest")
        }
        Some(_) => Outcome::PASS,
    }
}

fn has_moving_tag(image: &ImageName) -> bool {
    let name = image.as_str();
    let last = name.rsplit('/').next().unwrap_or(name);
    !name.contains('@') && (!last.contains(':') || last.ends_with(":latest"))
}

fn bridge(Subject { posture, .. }: &Subject<'_>) -> Outcome {
    match posture.foreign_networks.as_slice() {
        [] => Outcome::PASS,
        networks => Outcome::differs(format!(
            "it is on the network {}, which is not its fleet's",
            networks.join(", ")
        )),
    }
}

fn host_userns(Subject { spec, posture, .. }: &Subject<'_>) -> Outcome {
    if posture.userns_mode == "host" {
        return flag(true, spec.security.userns.is_some(), "userns: host", "has the host's users");
    }
    if posture.daemon.maps_users {
        return Outcome::PASS;
    }
    Outcome::not_applicable("Docker maps no users (userns-remap)")
}
