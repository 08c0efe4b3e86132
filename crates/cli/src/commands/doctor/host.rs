//! Checks of this machine's kernel and network, for a Docker that runs on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::facts::Facts;
use super::{Check, Finding};

pub(super) const CHECKS: &[Check] = &[
    Check { name: "forwarding", look: forwarding },
    Check { name: "firewall-program", look: firewall_program },
    Check { name: "firewall-rules", look: firewall_rules },
    Check { name: "processes", look: processes },
    Check { name: "inotify", look: inotify },
];

/// All agents of an image without a user of its own run as one user, who shares this limit.
const FEW_INOTIFY_INSTANCES: u64 = 128;
const FEW_PROCESSES: u64 = 32_768;

fn forwarding(facts: &Facts) -> Finding {
    if facts.local_docker().is_none() {
        return Finding::skipped("no Docker on this machine answers");
    }
    match number("/proc/sys/net/ipv4/ip_forward") {
        Some(0) => Finding::problem(
            "net.ipv4.ip_forward is 0: agents reach nothing but their fleet",
            "`sudo sysctl -w net.ipv4.ip_forward=1`, and the same line in /etc/sysctl.d/99-chassis.conf",
        ),
        Some(_) => Finding::ok("net.ipv4.ip_forward is 1"),
        None => Finding::skipped("the kernel does not tell"),
    }
}

fn firewall_program(facts: &Facts) -> Finding {
    if facts.local_docker().is_none() {
        return Finding::skipped("no Docker on this machine answers");
    }
    match program("iptables") {
        Some(path) => Finding::ok(path.display().to_string()),
        None => Finding::warning(
            "there is no iptables: nothing keeps agents from the host's own services",
            "install it (Debian, Ubuntu: `sudo apt install iptables`; Fedora, RHEL: `sudo dnf install iptables-nft`), then restart \
             Docker",
        ),
    }
}

/// The rules of all servers hang on this one; it is there as long as one of them has a network.
fn firewall_rules(_: &Facts) -> Finding {
    let bridges = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    if !bridges.into_iter().any(|link| link.file_name().to_string_lossy().starts_with("chs-")) {
        return Finding::skipped("no fleet has a network of its own just now");
    }
    if !rustix::process::geteuid().is_root() {
        return Finding::skipped("only root may look at them");
    }
    let Some(iptables) = program("iptables") else { return Finding::skipped("there is no iptables") };
    let listing = Command::new(iptables).args(["-w", "2", "-S", "INPUT"]).stdin(Stdio::null()).output();
    match listing {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("-j CHASSIS-INPUT") => {
            Finding::ok("agents are kept from the host's own services")
        }
        _ => Finding::warning(
            "nothing keeps agents from the host's own services: the rules are gone, or cannot be set",
            "`chassis describe` of an instance says why; a server sets them again at its start and every five minutes",
        ),
    }
}

fn processes(_: &Facts) -> Finding {
    let limits =
        ["kernel/pid_max", "kernel/threads-max"].map(|name| (name, number(&format!("/proc/sys/{name}"))));
    let found: Vec<String> = limits
        .iter()
        .filter_map(|(name, limit)| Some(format!("{} {}", name.replace('/', "."), (*limit)?)))
        .collect();
    match limits.iter().find(|(_, limit)| limit.is_some_and(|limit| limit < FEW_PROCESSES)) {
        Some((name, _)) => Finding::warning(
            format!("{}: an agent may have 512 processes unless its YAML says otherwise", found.join(", ")),
            format!(
                "`sudo sysctl -w {}=4194304`, and the same line in /etc/sysctl.d/99-chassis.conf",
                name.replace('/', ".")
            ),
        ),
        None => Finding::ok(found.join(", ")),
    }
}

fn inotify(_: &Facts) -> Finding {
    let Some(limit) = number("/proc/sys/fs/inotify/max_user_instances") else {
        return Finding::skipped("the kernel does not tell");
    };
    let found = format!("fs.inotify.max_user_instances is {limit}");
    if limit <= FEW_INOTIFY_INSTANCES {
        return Finding::warning(
            format!(
                "{found}, and agents of the same user share them: programs that watch files fail beyond that"
            ),
            "`sudo sysctl -w fs.inotify.max_user_instances=8192`, and the same line in /etc/sysctl.d/99-chassis.conf",
        );
    }
    Finding::ok(found)
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Where a program is. Administrators' programs are not in everybody's PATH.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .map(|directory| directory.join(name))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && Path::is_file(file))
}
