//! Keeps agents from the host's own services and from the metadata of clouds, by a few rules of iptables.
//!
//! The rules hold for every bridge whose name begins as ours do, so that they are set once and seldom change. They are
//! looked at again with every full look at the node: a firewall that was reloaded has forgotten them. Where they cannot
//! be set, agents run all the same, and whoever asks is told what is open. The last network to go takes them along.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use chassis_spec::FleetName;

use self::rules::{Family, Wanted};
use super::links::Link;
use super::{Daemon, locked, networks};
use crate::Result;
use crate::hash::stable_hash;

/// Held while rules are changed: servers of one machine share some.
const LOCK: &str = "/run/chassis/firewall.lock";
/// Where systemd-resolved writes the name servers that it asks, and where everybody else does.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

#[derive(Debug)]
pub(crate) struct Firewall {
    chain: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The rules were set while a network was there, and one has been there ever since: nobody took them away.
    set: bool,
    /// What they were made of, and how they were listed when they had been set.
    written: [Option<(Wanted, Vec<String>)>; 2],
    /// Why they are not set.
    problem: Option<String>,
    /// Fleets whose network an older chassis made, so that no rule holds for it.
    unguarded: BTreeSet<FleetName>,
}

impl Firewall {
    pub(crate) fn new(server_id: &str) -> Self {
        Firewall { chain: rules::chain(stable_hash(server_id)), state: Mutex::default() }
    }

    /// What the agents of a fleet can reach although they should not, and what helps.
    pub(crate) fn open_paths(&self, fleet: &FleetName) -> Vec<String> {
        let state = locked(&self.state);
        let problem = state.problem.as_ref().map(|problem| {
            format!("network: the host's own services and 169.254.169.254 can be reached: {problem}")
        });
        let unguarded = state.unguarded.contains(fleet).then(|| {
            format!(
                "network: the host's own services can be reached, because an older chassis made the fleet's network: \
                 `chassis stop fleet {fleet}`, then start it again"
            )
        });
        problem.into_iter().chain(unguarded).collect()
    }

    /// Sets the rules, and notes whether that worked.
    fn set(&self, found: Found) {
        let outcome = self.try_set(&found);
        let mut state = locked(&self.state);
        state.set = outcome.is_ok();
        state.unguarded = found.unguarded;
        let problem = outcome.err();
        if let Some(problem) = problem.as_ref().filter(|problem| state.problem.as_ref() != Some(problem)) {
            tracing::warn!(problem, "agents can reach the host's own services");
        }
        state.problem = problem;
    }

    fn try_set(&self, found: &Found) -> std::result::Result<(), String> {
        if !found.bridges.iter().all(|bridge| has_interface(bridge)) {
            return Err("Docker's networks are on another machine, or in another network namespace, than the server; \
                        run the server where Docker's networks are"
                .to_owned());
        }
        if !rustix::process::geteuid().is_root() {
            return Err(
                "only root can set the rules of iptables that prevent it; run the server as root".to_owned()
            );
        }
        let _alone = lock()?;
        let wanted = Wanted {
            chain: self.chain.clone(),
            name_servers: RESOLV_CONF
                .iter()
                .flat_map(|path| rules::name_servers(&fs::read_to_string(path).unwrap_or_default()))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            doors: found.doors.clone(),
        };
        self.write(Family::V4, &wanted)?;
        // The networks have no IPv6: where the kernel or its program lacks it, nothing is open.
        if let Err(problem) = self.write(Family::V6, &wanted) {
            tracing::debug!(problem, "no rules for IPv6");
        }
        Ok(())
    }

    fn write(&self, family: Family, wanted: &Wanted) -> std::result::Result<(), String> {
        let listing = list(family)?;
        let own = rules::own_part(&listing, &wanted.chain);
        let slot = family as usize;
        let is_right = locked(&self.state).written[slot]
            .as_ref()
            .is_some_and(|(last, listed)| last == wanted && *listed == own);
        if is_right {
            return Ok(());
        }
        restore(family, &rules::restore(&listing, family, wanted))?;
        let listed = rules::own_part(&list(family)?, &wanted.chain);
        locked(&self.state).written[slot] = Some((wanted.clone(), listed));
        Ok(())
    }

    /// Takes away the rules that no network is left for.
    fn clear(&self) {
        *locked(&self.state) = State::default();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let Ok(_alone) = lock() else { return };
        // Networks of other servers need the rest.
        let is_last = !has_interface(networks::BRIDGE_PREFIX);
        for family in [Family::V4, Family::V6] {
            let removal = |listing: &str| {
                if is_last { rules::removal(listing) } else { rules::removal_of_own(listing, &self.chain) }
            };
            let cleared = list(family).and_then(|listing| match removal(&listing) {
                Some(text) => restore(family, &text),
                None => Ok(()),
            });
            if let Err(problem) = cleared {
                tracing::debug!(problem, "cannot take the rules of the firewall away");
            }
        }
    }
}

/// The networks that there are.
struct Found {
    bridges: Vec<String>,
    doors: BTreeMap<String, Vec<u16>>,
    unguarded: BTreeSet<FleetName>,
}

/// Sets the rules, unless they are and this network needs none of its own.
pub(crate) async fn guard(daemon: &Arc<Daemon>, link: &Link) -> Result<()> {
    let is_door = matches!(link, Link::Door { .. });
    if !is_door && locked(&daemon.firewall.state).set {
        return Ok(());
    }
    check(daemon).await
}

/// Sets the rules anew where somebody changed them, and takes them away with the last network.
pub(crate) async fn check(daemon: &Arc<Daemon>) -> Result<()> {
    let networks = networks::list(daemon).await?;
    let mut found = Found { bridges: Vec::new(), doors: BTreeMap::new(), unguarded: BTreeSet::new() };
    for network in &networks {
        let Some(bridge) = networks::bridge(network) else {
            found.unguarded.extend(networks::fleet_of(network));
            continue;
        };
        found.bridges.push(bridge.to_owned());
        let ports = networks::host_ports(network);
        if !ports.is_empty() {
            found.doors.insert(bridge.to_owned(), ports);
        }
    }
    daemon
        .blocking(move |daemon| {
            if networks.is_empty() {
                daemon.firewall.clear();
            } else {
                daemon.firewall.set(found);
            }
            Ok(())
        })
        .await
}

/// True if this process sees a network interface whose name begins so.
fn has_interface(name: &str) -> bool {
    let interfaces = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    interfaces.lines().any(|line| line.trim_start().starts_with(name))
}

fn lock() -> std::result::Result<File, String> {
    let file = lock_file().map_err(|error| format!("cannot make {LOCK}: {error}"))?;
    file.lock().map_err(|error| format!("cannot lock {LOCK}: {error}"))?;
    Ok(file)
}

/// Beside the secret files, in the one directory of /run that systemd lets the server write to.
fn lock_file() -> io::Result<File> {
    if let Some(directory) = Path::new(LOCK).parent() {
        DirBuilder::new().mode(0o700).recursive(true).create(directory)?;
    }
    File::create(LOCK)
}

fn list(family: Family) -> std::result::Result<String, String> {
    run(&mut program(family, ""), &["--wait=10", "-S"], None)
}

fn restore(family: Family, text: &str) -> std::result::Result<(), String> {
    run(&mut program(family, "-restore"), &["--wait=10", "--noflush"], Some(text)).map(|_| ())
}

fn program(family: Family, suffix: &str) -> Command {
    let name = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let mut command = Command::new(format!("{name}{suffix}"));
    // Where the program is kept is not in everybody's PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C");
    command
}

fn run(
    command: &mut Command,
    arguments: &[&str],
    input: Option<&str>,
) -> std::result::Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("cannot run {name} ({error}); install iptables");
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // One that ends before it has read everything says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{name} fails: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
