//! Each fleet's own network.

use bollard::errors::Error as DockerError;
use bollard::models::{Network, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptions;
use chassis_spec::FleetName;

use super::{Daemon, failure, labels, locked};
use crate::{Error, Result};

/// `chassis-<fleet>`.
pub(crate) fn name(fleet: &FleetName) -> String {
    format!("chassis-{fleet}")
}

/// Makes the fleet's network unless it was there when this server last looked.
pub(crate) async fn prepare_once(daemon: &Daemon, fleet: &FleetName) -> Result<()> {
    if locked(&daemon.networks).contains(fleet) {
        return Ok(());
    }
    prepare(daemon, fleet).await?;
    locked(&daemon.networks).insert(fleet.clone());
    Ok(())
}

/// Makes the fleet's network if it is not there. Docker lets two networks have one name, and then neither can be used by
/// it: so this server makes one at a time, and of several, which a killed one may have left, one stays.
pub(crate) async fn prepare(daemon: &Daemon, fleet: &FleetName) -> Result<()> {
    let _alone = daemon.network_making.lock().await;
    let networks = named(daemon, fleet).await?;
    if check(daemon, fleet, &networks)? {
        return settle(daemon, networks).await;
    }
    let request = NetworkCreateRequest {
        name: name(fleet),
        driver: Some("bridge".to_owned()),
        labels: Some(labels::of_fleet(&daemon.server_id, fleet)),
        ..NetworkCreateRequest::default()
    };
    match daemon.client()?.create_network(request).await {
        // What a server that was killed had asked for may have been made at the same time.
        Ok(created) => {
            let networks = named(daemon, fleet).await?;
            if let Err(taken) = check(daemon, fleet, &networks) {
                remove_by_id(daemon, &created.id).await?;
                return Err(taken);
            }
            settle(daemon, networks).await
        }
        Err(error) if failure::status(&error) == Some(409) => {
            check(daemon, fleet, &named(daemon, fleet).await?).map(|_| ())
        }
        Err(error) => Err(daemon.explain(error)),
    }
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

/// Removes the fleet's networks.
pub(crate) async fn remove(daemon: &Daemon, fleet: &FleetName) -> Result<()> {
    for network in list(daemon).await? {
        if fleet_of(&network).as_ref() == Some(fleet)
            && let Some(id) = network.id
        {
            remove_by_id(daemon, &id).await?;
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

/// True if a start or a creation failed because the network is gone, or is there twice.
pub(crate) fn is_amiss(error: &DockerError, fleet: &FleetName) -> bool {
    // The status varies with the version of Docker.
    let (words, name) = (failure::words(error), name(fleet));
    failure::status(error).is_some()
        && ["not found", "is ambiguous"]
            .iter()
            .any(|state| words.contains(&format!("network {name} {state}")))
}

/// True if a start failed because the container belongs to a network, by its id, that is no more.
pub(crate) fn is_of_old(error: &DockerError) -> bool {
    let words = failure::words(error);
    let id = words.strip_suffix(" not found").and_then(|words| words.rsplit_once("network "));
    failure::status(error).is_some()
        && id.is_some_and(|(_, id)| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// True if the network is there and this server's.
fn check(daemon: &Daemon, fleet: &FleetName, networks: &[Network]) -> Result<bool> {
    let own = |network: &Network| {
        network.labels.as_ref().and_then(|labels| labels.get(labels::SERVER)) == Some(&daemon.server_id)
    };
    match networks.iter().find(|network| !own(network)) {
        Some(foreign) => Err(Error::name_taken(format!(
            "network {0} was not made by this server; remove it with `docker network rm {1}`, or name the fleet \
             differently",
            name(fleet),
            foreign.id.as_deref().map_or("", |id| id.get(..12).unwrap_or(id)),
        ))),
        None => Ok(!networks.is_empty()),
    }
}

async fn named(daemon: &Daemon, fleet: &FleetName) -> Result<Vec<Network>> {
    let name = name(fleet);
    let filters = [("name".to_owned(), vec![name.clone()])].into();
    let options = ListNetworksOptions { filters: Some(filters) };
    let mut networks =
        daemon.client()?.list_networks(Some(options)).await.map_err(|error| daemon.explain(error))?;
    // The filter matches parts of names.
    networks.retain(|network| network.name.as_ref() == Some(&name));
    Ok(networks)
}

async fn list(daemon: &Daemon) -> Result<Vec<Network>> {
    let options = ListNetworksOptions { filters: Some(labels::filter(&daemon.server_id)) };
    daemon.client()?.list_networks(Some(options)).await.map_err(|error| daemon.explain(error))
}

async fn remove_by_id(daemon: &Daemon, id: &str) -> Result<()> {
    match daemon.client()?.remove_network(id).await {
        Err(error) if !failure::is_not_found(&error) => Err(daemon.explain(error)),
        _ => Ok(()),
    }
}

fn fleet_of(network: &Network) -> Option<FleetName> {
    network.labels.as_ref()?.get(labels::FLEET)?.parse().ok()
}
