//! What an instance has beyond the sandbox's own, as `chassis describe` words it: whom it reaches, where its files are.

use std::path::Path;

use chassis_core::InstanceKey;
use chassis_spec::{AgentSpec, Backend, Network, Volume};
use chassis_store::Placed;

use crate::nodes::NodeLink;
use crate::shared::Shared;

/// What of the network is open to an agent: what its YAML opens, and what the node cannot close.
pub(super) fn network(node: Option<&NodeLink>, key: &InstanceKey, spec: &AgentSpec) -> Vec<String> {
    if spec.network == Network::None {
        return Vec::new();
    }
    let fleets = spec.network.fleets().iter();
    let mut open: Vec<String> = fleets
        .map(|fleet| format!("network.fleets: {fleet} (its agents and this one reach each other)"))
        .collect();
    let ports = spec.network.host_ports().iter();
    open.extend(ports.map(|port| format!("network.hostPorts: {port} of the host, as host.chassis.internal")));
    open.extend(node.map(|node| node.runtime.open_paths(&key.fleet)).unwrap_or_default());
    open
}

/// Where a volume's files are: its kind, and the place.
pub(super) fn source(
    shared: &Shared,
    placed: Option<&Placed>,
    key: &InstanceKey,
    volume: &Volume,
) -> (&'static str, String) {
    if let Some(secret) = &volume.secret {
        return ("secret", secret.to_string());
    }
    if let Some(host) = &volume.host_path {
        return ("host", host.to_string());
    }
    let own = || format!("{}-{}", key.container_name(), volume.name);
    let place = match volume.backend() {
        Some(Backend::Nfs(nfs)) => format!("{}:{} by NFS (Docker volume {})", nfs.server, nfs.path, own()),
        Some(Backend::Docker(docker)) => match &docker.name {
            Some(name) => format!("Docker volume {name}, perhaps shared"),
            None => format!("Docker volume {}", own()),
        },
        Some(Backend::Local) | None => {
            let path = Path::new(key.fleet.as_str()).join(key.short_name()).join(volume.name.as_str());
            let is_here = placed
                .map_or_else(|| shared.nodes.is_alone(), |placed| placed.node == shared.nodes.own().name);
            let path = match placed {
                _ if is_here => shared.data_dir.root().join(path).display().to_string(),
                Some(placed) => format!("{} in the data directory of node {}", path.display(), placed.node),
                None => format!("{} in the data directory of its node", path.display()),
            };
            volume.size.map_or_else(|| path.clone(), |size| format!("{path}, at most {size}"))
        }
    };
    ("tier 1", place)
}
