//! The same container by other means: what chassis made, read back and turned into the body that makes one like it.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tokio::process::Command;

use crate::chassis::Chassis;
use crate::command::{docker, finish};
use crate::world::World;

/// As many bodies as asked for, each of which makes a container like the one that chassis made as number 1.
///
/// Each has directories of its own, linked to the same files as chassis does it: an agent's init refuses to share.
pub(crate) async fn bodies(world: &World, chassis: &Chassis, count: u32) -> Result<Vec<Value>> {
    bodies_of_round(world, chassis, count, 0).await
}

/// The same, for one of several rounds.
pub(crate) async fn bodies_of_round(
    world: &World,
    chassis: &Chassis,
    count: u32,
    round: usize,
) -> Result<Vec<Value>> {
    let answer: Value = serde_json::from_str(&docker(&["inspect", &chassis.container(1)]).await?.stdout)?;
    let inspected = answer.get(0).context("the deployed instance has no container")?;
    let mut bodies = Vec::new();
    for number in 0..count {
        let copy = world.directory(&format!("{}-copy-{round}-{number}", chassis.fleet))?;
        let mut copying = Command::new("cp");
        copying.args(["--archive", "--link"]).arg(chassis.fleet_dir().join(".")).arg(&copy);
        finish(&mut copying).await?;
        bodies.push(body(inspected, &chassis.fleet_dir(), &copy)?);
    }
    Ok(bodies)
}

/// A request body that makes a container like the one that `docker inspect` shows.
///
/// Only its labels are renamed, so that no server takes it for one of its own, and the directories below
/// `data_dir` are replaced by their copies below `copy`, which stay when chassis cleans up.
fn body(inspected: &Value, data_dir: &Path, copy: &Path) -> Result<Value> {
    let mut body = inspected["Config"].as_object().context("the container has no configuration")?.clone();
    let labels = body.remove("Labels").unwrap_or_default();
    let labels = labels.as_object().cloned().unwrap_or_default().into_iter();
    let renamed: Map<String, Value> =
        labels.map(|(name, value)| (name.replace("chassis.", "chassis-bench."), value)).collect();
    body.insert("Labels".to_owned(), Value::Object(renamed));
    body.insert("HostConfig".to_owned(), inspected["HostConfig"].clone());
    let id = inspected["Id"].as_str().unwrap_or_default();
    let networks = inspected["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
    let endpoints: Map<String, Value> = networks
        .into_iter()
        .map(|(name, endpoint)| (name, json!({ "Aliases": aliases(&endpoint, id) })))
        .collect();
    body.insert("NetworkingConfig".to_owned(), json!({ "EndpointsConfig": endpoints }));
    let text = Value::Object(body).to_string();
    let text = text.replace(&*data_dir.to_string_lossy(), &copy.to_string_lossy());
    Ok(serde_json::from_str(&text)?)
}

/// The aliases that somebody asked for: the Engine adds the container's own id.
fn aliases(endpoint: &Value, id: &str) -> Vec<Value> {
    let aliases = endpoint["Aliases"].as_array().cloned().unwrap_or_default();
    aliases.into_iter().filter(|alias| !alias.as_str().is_some_and(|alias| id.starts_with(alias))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_makes_the_same_container_with_other_labels_and_directories() {
        let inspected = json!({
            "Id": "4f2d9c",
            "Config": { "Image": "x:1", "Labels": { "chassis.server": "s", "own": "o" } },
            "HostConfig": { "Binds": ["/d/f/agent-1/data:/data:rw"], "ReadonlyRootfs": true },
            "NetworkSettings": { "Networks": { "n": { "Aliases": ["agent", "4f2d"], "IPAddress": "172.18.0.2" } } },
        });
        let body = body(&inspected, Path::new("/d/f"), Path::new("/copy")).expect("a body");
        let expected = json!({
            "Image": "x:1",
            "Labels": { "chassis-bench.server": "s", "own": "o" },
            "HostConfig": { "Binds": ["/copy/agent-1/data:/data:rw"], "ReadonlyRootfs": true },
            "NetworkingConfig": { "EndpointsConfig": { "n": { "Aliases": ["agent"] } } },
        });
        assert_eq!(body, expected);
    }
}
