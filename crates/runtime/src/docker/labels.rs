//! How what runs is recognised: by labels, never by its name.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use chassis_core::InstanceKey;
use chassis_spec::{FleetName, HostPath};
use serde_json::json;

use super::image_check;
use super::links::Link;
use crate::InstanceConfig;

/// Whose it is: the id of the server that made it.
pub(crate) const SERVER: &str = "chassis.server";
pub(crate) const FLEET: &str = "chassis.fleet";
const AGENT: &str = "chassis.agent";
const INSTANCE: &str = "chassis.instance";
const REVISION: &str = "chassis.revision";
/// Which placement it is, on a node that a server reaches over the network.
const EPOCH: &str = "chassis.epoch";
/// There if it ends with the node's lease.
const LEASED: &str = "chassis.leased";
const CLUSTER: &str = "chassis.cluster";
/// Paths of the host that the agent sees: a JSON list.
const HOST_PATHS: &str = "chassis.host-paths";
const PROBE: &str = "chassis.probe";
/// The fleets besides its own whose networks a container is in.
pub(crate) const FLEETS: &str = "chassis.fleets";
/// The ports of the host that a container reaches, or a network opens.
pub(crate) const HOST_PORTS: &str = "chassis.host-ports";

pub(crate) type Labels = HashMap<String, String>;

/// The labels of a container: the user's, and the server's own, which win.
pub(crate) fn of_instance(server_id: &str, config: &InstanceConfig) -> Labels {
    let mut labels: Labels = config.spec.labels.0.clone().into_iter().collect();
    labels.retain(|name, _| !name.starts_with("chassis."));
    labels.extend(of_fleet(server_id, &config.key.fleet));
    labels.insert(AGENT.to_owned(), config.key.agent.to_string());
    labels.insert(INSTANCE.to_owned(), config.key.number.to_string());
    labels.insert(REVISION.to_owned(), config.revision.to_string());
    if config.epoch != 0 {
        labels.insert(EPOCH.to_owned(), config.epoch.to_string());
    }
    if config.leased {
        labels.insert(LEASED.to_owned(), String::new());
    }
    image_check::label(&mut labels, config.image.health_check.as_ref());
    if let Some(cluster) = &config.spec.cluster_id {
        labels.insert(CLUSTER.to_owned(), cluster.to_string());
    }
    let network = &config.spec.network;
    insert_list(&mut labels, FLEETS, network.fleets());
    insert_list(&mut labels, HOST_PORTS, network.host_ports());
    labels
}

/// Adds where on the host the agent's `hostPath` volumes are, so that this is known when its container is started.
pub(crate) fn with_host_paths(mut labels: Labels, paths: &HashMap<HostPath, PathBuf>) -> Labels {
    if !paths.is_empty() {
        let paths: Vec<_> = paths.values().map(|path| path.to_string_lossy()).collect();
        labels.insert(HOST_PATHS.to_owned(), json!(paths).to_string());
    }
    labels
}

/// What [`with_host_paths`] wrote down.
pub(crate) fn host_paths(labels: &Labels) -> Vec<PathBuf> {
    let paths = labels.get(HOST_PATHS).and_then(|paths| serde_json::from_str(paths).ok());
    paths.unwrap_or_default()
}

/// The labels of a network.
pub(crate) fn of_network(server_id: &str, link: &Link) -> Labels {
    match link {
        Link::Fleet(fleet) => of_fleet(server_id, fleet),
        Link::Door { fleet, ports, .. } => {
            let mut labels = of_fleet(server_id, fleet);
            insert_list(&mut labels, HOST_PORTS, ports);
            labels
        }
    }
}

/// The labels of a volume of one instance's.
pub(crate) fn of_volume(server_id: &str, key: &InstanceKey) -> Labels {
    let mut labels = of_fleet(server_id, &key.fleet);
    labels.insert(AGENT.to_owned(), key.agent.to_string());
    labels.insert(INSTANCE.to_owned(), key.number.to_string());
    labels
}

/// The words of a label that holds several.
pub(crate) fn list<T: FromStr>(labels: &Labels, name: &str) -> Vec<T> {
    labels
        .get(name)
        .into_iter()
        .flat_map(|list| list.split(','))
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn insert_list(labels: &mut Labels, name: &str, list: &[impl ToString]) {
    if !list.is_empty() {
        let words: Vec<String> = list.iter().map(ToString::to_string).collect();
        labels.insert(name.to_owned(), words.join(","));
    }
}

/// The labels of all that belongs to a fleet.
pub(crate) fn of_fleet(server_id: &str, fleet: &FleetName) -> Labels {
    HashMap::from([(SERVER.to_owned(), server_id.to_owned()), (FLEET.to_owned(), fleet.to_string())])
}

/// The labels of a container that is never started: it only shows an image's files.
pub(crate) fn of_probe(server_id: &str) -> Labels {
    HashMap::from([(SERVER.to_owned(), server_id.to_owned()), (PROBE.to_owned(), String::new())])
}

/// True for what [`of_probe`] marks.
pub(crate) fn is_probe(labels: &Labels) -> bool {
    labels.contains_key(PROBE)
}

/// The filter of a list that shows only what this server made.
pub(crate) fn filter(server_id: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{SERVER}={server_id}")])])
}

/// Whose container this is, if this server made it.
pub(crate) fn owner(server_id: &str, labels: &Labels) -> Option<InstanceKey> {
    if labels.get(SERVER)? != server_id {
        return None;
    }
    Some(InstanceKey {
        fleet: labels.get(FLEET)?.parse().ok()?,
        agent: labels.get(AGENT)?.parse().ok()?,
        number: labels.get(INSTANCE)?.parse().ok()?,
    })
}

/// Which placement a container is; 0 on the server's own node.
pub(crate) fn epoch(labels: &Labels) -> u64 {
    labels.get(EPOCH).and_then(|epoch| epoch.parse().ok()).unwrap_or(0)
}

/// Whether it ends with the node's lease.
pub(crate) fn is_leased(labels: &Labels) -> bool {
    labels.contains_key(LEASED)
}

/// The revision that a container runs; 0, which no agent has, if somebody made the labels up.
pub(crate) fn revision(labels: &Labels) -> u64 {
    labels.get(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
}
