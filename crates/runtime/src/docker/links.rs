//! Which networks a container belongs in, and how it comes into them.
//!
//! Engines before 25 take one network when a container is made; the others are joined before it starts. What a container
//! belongs in is in its labels, so that a network that it lost is joined again whoever took it away.

use std::sync::Arc;

use bollard::models::{ContainerInspectResponse, EndpointSettings, NetworkConnectRequest};
use chassis_core::InstanceKey;
use chassis_spec::{AgentName, AgentSpec, FleetName, Network};

use super::labels::{self, Labels};
use super::{Daemon, failure, locked, networks};
use crate::Result;
use crate::hash::stable_hash;

/// A network that a container belongs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    /// A fleet's own.
    Fleet(FleetName),
    /// The one that an agent alone is in, whose bridge is the way to some ports of the host.
    Door { fleet: FleetName, agent: AgentName, ports: Vec<u16> },
}

impl Link {
    /// What a container of this spec belongs in; its fleet's own first.
    pub(crate) fn of_spec(key: &InstanceKey, spec: &AgentSpec) -> Vec<Link> {
        if spec.network == Network::None || spec.security.host_network {
            return Vec::new();
        }
        links(key, spec.network.fleets().to_vec(), spec.network.host_ports().to_vec())
    }

    /// What a container with these labels belongs in.
    pub(crate) fn of_labels(key: &InstanceKey, labels: &Labels) -> Vec<Link> {
        links(key, labels::list(labels, labels::FLEETS), labels::list(labels, labels::HOST_PORTS))
    }

    /// `chassis-<fleet>`, or `chassis-<fleet>.<agent>.<ports>`: no fleet's name has a dot.
    pub(crate) fn name(&self) -> String {
        match self {
            Link::Fleet(fleet) => format!("chassis-{fleet}"),
            Link::Door { fleet, agent, ports } => {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                format!("chassis-{fleet}.{agent}.{:08x}", stable_hash(&ports.join(",")) & 0xffff_ffff)
            }
        }
    }

    /// The name of the bridge's interface, by which the firewall knows it: at most 15 characters.
    pub(crate) fn bridge(&self, server_id: &str) -> String {
        let hash = stable_hash(&format!("{server_id} {}", self.name()));
        format!("{}{:011x}", networks::BRIDGE_PREFIX, hash & 0xfff_ffff_ffff)
    }
}

fn links(key: &InstanceKey, fleets: Vec<FleetName>, ports: Vec<u16>) -> Vec<Link> {
    let own = Link::Fleet(key.fleet.clone());
    let others = fleets.into_iter().filter(|fleet| *fleet != key.fleet).map(Link::Fleet);
    let (fleet, agent) = (key.fleet.clone(), key.agent.clone());
    let door = (!ports.is_empty()).then_some(Link::Door { fleet, agent, ports });
    std::iter::once(own).chain(others).chain(door).collect()
}

/// How a container is known in a network.
pub(crate) fn endpoint(key: &InstanceKey) -> EndpointSettings {
    EndpointSettings {
        aliases: Some(vec![key.agent.to_string(), key.short_name()]),
        ..EndpointSettings::default()
    }
}

/// Makes the networks that are this instance's to make, and fails if another fleet's is not there.
pub(crate) async fn prepare(daemon: &Arc<Daemon>, key: &InstanceKey, links: &[Link]) -> Result<()> {
    for link in links {
        match link {
            Link::Fleet(fleet) if *fleet != key.fleet => networks::require(daemon, fleet).await?,
            _ => networks::prepare_once(daemon, link).await?,
        }
    }
    Ok(())
}

/// Joins the networks of `links` that the container is not in yet.
pub(crate) async fn complete(
    daemon: &Arc<Daemon>,
    id: &str,
    key: &InstanceKey,
    links: &[Link],
) -> Result<()> {
    let Some(container) = super::instances::look(daemon, id).await? else { return Ok(()) };
    for link in missing(&container, links) {
        prepare(daemon, key, std::slice::from_ref(&link)).await?;
        let request =
            NetworkConnectRequest { container: id.to_owned(), endpoint_config: Some(endpoint(key)) };
        match daemon.client()?.connect_network(&link.name(), request).await {
            Ok(()) => {}
            // Somebody else was faster.
            Err(error) if failure::words(&error).contains("already exists in network") => {}
            Err(error) => {
                locked(&daemon.networks).remove(&link.name());
                return Err(daemon.explain(error));
            }
        }
    }
    Ok(())
}

/// Brings a running container back into networks that it should be in and is not. A failure is tried again with the next
/// look at it.
pub(crate) async fn mend(daemon: &Arc<Daemon>, container: &ContainerInspectResponse) {
    let runs = container.state.as_ref().and_then(|state| state.running).unwrap_or_default();
    let mode = container.host_config.as_ref().and_then(|host| host.network_mode.as_deref());
    let labels = container.config.as_ref().and_then(|config| config.labels.as_ref());
    let (Some(id), Some(labels), true) = (&container.id, labels, runs && !mode.is_some_and(is_no_bridge))
    else {
        return;
    };
    let Some(key) = labels::owner(&daemon.server_id, labels) else { return };
    let lost = missing(container, &Link::of_labels(&key, labels));
    // A network on its way out is left.
    if lost.is_empty() || lost.iter().any(|link| locked(&daemon.closing).contains(&link.name())) {
        return;
    }
    match complete(daemon, id, &key, &lost).await {
        Ok(()) => tracing::info!(instance = %key, "connected it to its networks again"),
        Err(error) => tracing::warn!(instance = %key, %error, "cannot connect it to its networks"),
    }
}

/// True for a container that has no network of its own, or the host's.
pub(crate) fn is_no_bridge(network_mode: &str) -> bool {
    matches!(network_mode, "none" | "host")
}

fn missing(container: &ContainerInspectResponse, links: &[Link]) -> Vec<Link> {
    let joined = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    links
        .iter()
        .filter(|link| joined.is_none_or(|joined| !joined.contains_key(&link.name())))
        .cloned()
        .collect()
}
