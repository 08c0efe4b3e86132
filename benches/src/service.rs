//! The service that everybody runs, in each one's own words.
//!
//! chassis hardens it by default; the others are told to do the same, as far as they can, the way a person would.

use std::path::Path;

use crate::world::AGENT_USER;

pub(crate) const AGENT: &str = "agent";

/// chassis: the rest of the hardening is its default.
pub(crate) fn agent(fleet: &str, image: &str, args: &[&str]) -> String {
    let args = if args.is_empty() { String::new() } else { format!("args: {args:?}\n") };
    format!(
        "name: {AGENT}\nfleet: {fleet}\nimage: {image}\n{args}\
         resources:\n  cpu: 0.5\n  memory: 128Mi\n\
         volumes:\n  - name: data\n    mountPath: /data\n\
         stop:\n  grace: 1s\n"
    )
}

/// The flags of `docker run`.
pub(crate) fn run_flags(network: &str, data: &Path) -> Vec<String> {
    let user = format!("--user={AGENT_USER}:{AGENT_USER}");
    let network = format!("--network={network}");
    let volume = format!("--volume={}:/data", data.display());
    let rest = [
        "--cpus=0.5",
        "--memory=128m",
        "--memory-swap=128m",
        "--pids-limit=512",
        "--read-only",
        "--tmpfs=/tmp:size=64m",
        "--tmpfs=/tmpfs:size=64m",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--log-opt=max-size=10m",
        "--log-opt=max-file=5",
    ];
    [user, network, volume].into_iter().chain(rest.map(str::to_owned)).collect()
}

/// A Compose file.
pub(crate) fn compose(image: &str, data: &Path) -> String {
    let data = data.display();
    format!(
        "version: '2.4'\nservices:\n  {AGENT}:\n    image: {image}\n    user: '{AGENT_USER}:{AGENT_USER}'\n    \
         cpus: 0.5\n    mem_limit: 128m\n    memswap_limit: 128m\n    pids_limit: 512\n    \
         read_only: true\n    \
         tmpfs:\n      - /tmp:size=64m\n      - /tmpfs:size=64m\n    cap_drop: [ALL]\n    \
         security_opt: ['no-new-privileges']\n    stop_grace_period: 1s\n    volumes: ['{data}:/data']\n    \
         logging:\n      driver: json-file\n      options: {{max-size: 10m, max-file: '5'}}\n"
    )
}

/// The flags of `docker service create`. Swarm has no word for `no-new-privileges`.
pub(crate) fn swarm_flags(network: &str, data: &Path) -> Vec<String> {
    let network = format!("--network={network}");
    let user = format!("--user={AGENT_USER}:{AGENT_USER}");
    let volume = format!("--mount=type=bind,src={},dst=/data", data.display());
    let rest = [
        "--limit-cpu=0.5",
        "--limit-memory=128m",
        "--limit-pids=512",
        "--read-only",
        "--mount=type=tmpfs,dst=/tmp,tmpfs-size=67108864",
        "--mount=type=tmpfs,dst=/tmpfs,tmpfs-size=67108864",
        "--cap-drop=ALL",
        "--stop-grace-period=1s",
        "--restart-condition=none",
        "--log-driver=json-file",
        "--log-opt=max-size=10m",
        "--log-opt=max-file=5",
        "--no-resolve-image",
    ];
    [user, network, volume].into_iter().chain(rest.map(str::to_owned)).collect()
}
