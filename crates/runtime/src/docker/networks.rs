//! The networks of fleets, and those by which single agents reach ports of the host.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::errors::Error as DockerError;
use bollard::models::{Network, NetworkCreateRequest, NetworkDisconnectRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};
use chassis_core::environment;
use chassis_spec::FleetName;

use super::labels::{self, Labels};
use super::links::Link;
use super::{Daemon, failure, firewall, instances, locked};
use crate::{Error, Result};

/// Begins the names of all bridges, so that a few rules of the firewall hold for every one.
pub(crate) const BRIDGE_PREFIX: &str = "chs-";
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const BETWEEN_CONTAINERS: &str = "com.docker.network.bridge.enable_icc";

/// Makes the network unless it was there when this server last looked.
pub(crate) async fn prepare_once(daemon: &Arc<Daemon>, link: &Link) -> Result<()> {
    if locked(&daemon.networks).contains(&link.name()) {
        return Ok(());
    }
    prepare(daemon, link).await
}

/// Makes the network if it is not there. Docker lets two networks have one name, and then neither can be used by it: so
/// this server makes one at a time, and of several, which a killed one may have left, one stays.
pub(crate) async fn prepare(daemon: &Arc<Daemon>, link: &Link) -> Result<()> {
    let name = link.name();
    {
        let _alone = daemon.network_making.lock().await;
        locked(&daemon.closing).remove(&name);
        make(daemon, link, &name).await?;
    }
    firewall::guard(daemon, link).await?;
    locked(&daemon.networks).insert(name);
    Ok(())
}

async fn make(daemon: &Daemon, link: &Link, name: &str) -> Result<()> {
    let networks = named(daemon, name).await?;
    if check(daemon, name, &networks)? && !replace_unguarded(daemon, &networks).await? {
        return settle(daemon, networks).await;
    }
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        options: Some(options(link, &daemon.server_id)),
        labels: Some(labels::of_network(&daemon.server_id, link)),
        ..NetworkCreateRequest::default()
    };
    match daemon.client()?.create_network(request).await {
        // What a server that was killed had asked for may have been made at the same time.
        Ok(created) => {
            let networks = named(daemon, name).await?;
            if let Err(taken) = check(daemon, name, &networks) {
                remove_by_id(daemon, &created.id).await?;
                return Err(taken);
            }
            settle(daemon, networks).await
        }
        Err(error) if matches!(failure::status(&error), Some(403 | 409)) => {
            if check(daemon, name, &named(daemon, name).await?)? {
                return Ok(());
            }
            Err(daemon.explain(error))
        }
        Err(error) => Err(daemon.explain(error)),
    }
}

/// What the bridge is made with. Environments are strangers to one another: the Engine refuses to make their network
/// where the kernel cannot keep them apart (`br_netfilter`).
fn options(link: &Link, server_id: &str) -> HashMap<String, String> {
    let mut options = HashMap::from([(BRIDGE_NAME.to_owned(), link.bridge(server_id))]);
    if matches!(link, Link::Fleet(fleet) if environment::is_fleet(fleet)) {
        options.insert(BETWEEN_CONTAINERS.to_owned(), "false".to_owned());
    }
    options
}

/// A network whose bridge has no name of ours, which an older chassis made, is replaced once nothing runs in it.
async fn replace_unguarded(daemon: &Daemon, networks: &[Network]) -> Result<bool> {
    if networks.iter().any(|network| bridge(network).is_some()) {
        return Ok(false);
    }
    for id in networks.iter().filter_map(|network| network.id.as_ref()) {
        match daemon.client()?.remove_network(id).await {
            Err(error) if failure::status(&error) == Some(403) => return Ok(false),
            Err(error) if !failure::is_not_found(&error) => return Err(daemon.explain(error)),
            _ => {}
        }
    }
    Ok(true)
}

/// Of networks with one name, removes all but one: the oldest, unless another is in use.
async fn settle(daemon: &Daemon, mut networks: Vec<Network>) -> Result<()> {
    networks.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.id.cmp(&b.id)));
    let mut left = networks.len();
    for id in networks.into_iter().rev().filter_map(|network| network.id) {
        if left == 1 {
            break;
        }
        match daemon.client()?.remove_network(&id).await {
            Err(error) if failure::status(&error) == Some(403) => {}
            Err(error) if !failure::is_not_found(&error) => return Err(daemon.explain(error)),
            _ => left -= 1,
        }
    }
    Ok(())
}

/// Fails unless another fleet's network is there.
pub(crate) async fn require(daemon: &Daemon, fleet: &FleetName) -> Result<()> {
    let name = Link::Fleet(fleet.clone()).name();
    if check(daemon, &name, &named(daemon, &name).await?)? { Ok(()) } else { Err(Error::no_fleet(fleet)) }
}

/// The host's address in a network of this server's.
pub(crate) async fn gateway(daemon: &Daemon, link: &Link) -> Result<Option<String>> {
    let networks = named(daemon, &link.name()).await?;
    let mut configs = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
    Ok(configs.find_map(|config| config.gateway))
}

/// Removes the fleet's networks. Guests of other fleets are sent out; a container of somebody else's is in the way.
pub(crate) async fn remove(daemon: &Arc<Daemon>, fleet: &FleetName) -> Result<()> {
    for network in list(daemon).await? {
        if fleet_of(&network).as_ref() == Some(fleet)
            && let (Some(id), Some(name)) = (&network.id, &network.name)
        {
            locked(&daemon.closing).insert(name.clone());
            locked(&daemon.networks).remove(name);
            send_out(daemon, id, name).await?;
            remove_by_id(daemon, id).await?;
        }
    }
    firewall::check(daemon).await
}

/// Takes away the way to ports of the host if nobody uses it any more.
pub(crate) async fn remove_door(daemon: &Arc<Daemon>, door: &Link) -> Result<()> {
    locked(&daemon.networks).remove(&door.name());
    match daemon.client()?.remove_network(&door.name()).await {
        Err(error) if failure::status(&error) == Some(403) || failure::is_not_found(&error) => Ok(()),
        Err(error) => Err(daemon.explain(error)),
        Ok(()) => firewall::check(daemon).await,
    }
}

async fn send_out(daemon: &Arc<Daemon>, id: &str, name: &str) -> Result<()> {
    let found = match daemon.client()?.inspect_network(id, None::<InspectNetworkOptions>).await {
        Ok(found) => found,
        Err(error) if failure::is_not_found(&error) => return Ok(()),
        Err(error) => return Err(daemon.explain(error)),
    };
    for (container, endpoint) in found.containers.unwrap_or_default() {
        if !instances::is_own(daemon, &container).await? {
            let container = endpoint.name.unwrap_or(container);
            return Err(Error::rejected(format!(
                "the container {container}, which chassis did not make, is in the network {name}; take it out with \
                 `docker network disconnect -f {name} {container}`"
            )));
        }
        let request = NetworkDisconnectRequest { container, force: Some(true) };
        match daemon.client()?.disconnect_network(id, request).await {
            Err(error) if !failure::is_not_found(&error) => return Err(daemon.explain(error)),
            _ => {}
        }
    }
    Ok(())
}

/// The fleets that have a network of this server's.
pub(crate) async fn fleets(daemon: &Daemon) -> Result<Vec<FleetName>> {
    let mut fleets: Vec<_> = list(daemon).await?.iter().filter_map(fleet_of).collect();
    fleets.sort();
    fleets.dedup();
    Ok(fleets)
}

/// True if a start or a creation failed because a network is gone, or is there twice.
pub(crate) fn is_amiss(error: &DockerError, links: &[Link]) -> bool {
    // The status varies with the version of Docker.
    let words = failure::words(error);
    let is_about = |name: &str| {
        ["not found", "is ambiguous"].iter().any(|state| words.contains(&format!("network {name} {state}")))
    };
    failure::status(error).is_some() && links.iter().any(|link| is_about(&link.name()))
}

/// True if a start failed because the container belongs to a network, by its id, that is no more.
pub(crate) fn is_of_old(error: &DockerError) -> bool {
    let words = failure::words(error);
    let id = words.strip_suffix(" not found").and_then(|words| words.rsplit_once("network "));
    failure::status(error).is_some()
        && id.is_some_and(|(_, id)| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// True if the network is there and this server's.
fn check(daemon: &Daemon, name: &str, networks: &[Network]) -> Result<bool> {
    let own = |network: &Network| {
        network.labels.as_ref().and_then(|labels| labels.get(labels::SERVER)) == Some(&daemon.server_id)
    };
    match networks.iter().find(|network| !own(network)) {
        Some(foreign) => Err(Error::name_taken(format!(
            "network {name} was not made by this server; remove it with `docker network rm {}`, or name the fleet \
             differently",
            foreign.id.as_deref().map_or("", |id| id.get(..12).unwrap_or(id)),
        ))),
        None => Ok(!networks.is_empty()),
    }
}

async fn named(daemon: &Daemon, name: &str) -> Result<Vec<Network>> {
    let filters = [("name".to_owned(), vec![name.to_owned()])].into();
    let options = ListNetworksOptions { filters: Some(filters) };
    let mut networks =
        daemon.client()?.list_networks(Some(options)).await.map_err(|error| daemon.explain(error))?;
    // The filter matches parts of names.
    networks.retain(|network| network.name.as_deref() == Some(name));
    Ok(networks)
}

/// All networks of this server's.
pub(crate) async fn list(daemon: &Daemon) -> Result<Vec<Network>> {
    let options = ListNetworksOptions { filters: Some(labels::filter(&daemon.server_id)) };
    daemon.client()?.list_networks(Some(options)).await.map_err(|error| daemon.explain(error))
}

async fn remove_by_id(daemon: &Daemon, id: &str) -> Result<()> {
    match daemon.client()?.remove_network(id).await {
        Err(error) if !failure::is_not_found(&error) => Err(daemon.explain(error)),
        _ => Ok(()),
    }
}

pub(crate) fn fleet_of(network: &Network) -> Option<FleetName> {
    network.labels.as_ref()?.get(labels::FLEET)?.parse().ok()
}

/// The interface of a network's bridge, if it has a name of ours.
pub(crate) fn bridge(network: &Network) -> Option<&str> {
    network
        .options
        .as_ref()?
        .get(BRIDGE_NAME)
        .map(String::as_str)
        .filter(|name| name.starts_with(BRIDGE_PREFIX))
}

/// The ports of the host that a network opens to those who are in it.
pub(crate) fn host_ports(network: &Network) -> Vec<u16> {
    network
        .labels
        .as_ref()
        .map(|labels: &Labels| labels::list(labels, labels::HOST_PORTS))
        .unwrap_or_default()
}
