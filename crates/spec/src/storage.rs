//! Where a volume's files are, if not in the instance's own directory on the host.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{Checked, check_positive, wrong};
use crate::text::{self, Text};
use crate::yaml::Step::Field;
use crate::{DockerVolumeName, NfsOptions, NfsPath, NfsServer, Volume};

/// A directory of an NFS server, mounted by Docker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NfsVolume {
    /// The server's name or address.
    pub server: NfsServer,
    /// The exported directory. `{fleet}`, `{agent}`, `{number}` and `{instance}` in it stand for the instance's own;
    /// without `{number}` or `{instance}` all instances share it.
    pub path: NfsPath,
    /// Mount options after the server's address, such as `nfsvers=4.2,soft`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<NfsOptions>,
}

/// A named volume of Docker's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DockerVolume {
    /// One that exists already; it may be shared, and is never removed. Without it: the instance's own, made and named
    /// by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DockerVolumeName>,
    /// Docker's volume driver; `local` without it.
    #[serde(default, deserialize_with = "text::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Text>")]
    pub driver: Option<String>,
    /// The driver's options.
    #[serde(default, deserialize_with = "text::map", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Text>")]
    pub options: BTreeMap<String, String>,
}

/// What keeps a volume's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend<'a> {
    /// A directory of the instance's own on the host.
    Local,
    Nfs(&'a NfsVolume),
    Docker(&'a DockerVolume),
}

/// One thing keeps a volume's files; only a directory of the host can be limited, and have memory over parts of it.
pub(crate) fn check(volume: &Volume) -> Checked {
    let kinds: Vec<&'static str> = [
        ("secret", volume.secret.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("dockerVolume", volume.docker_volume.is_some()),
    ]
    .into_iter()
    .filter_map(|(field, given)| given.then_some(field))
    .collect();
    if let [first, second, ..] = kinds[..] {
        return Err(wrong(second, format!("write either `{first}` or `{second}`, not both")));
    }
    if let Some(size) = volume.size {
        if let [kind] = kinds[..] {
            return Err(wrong("size", format!("chassis cannot limit a volume with `{kind}`; leave it out")));
        }
        check_positive(size.0, "size", "no room at all")?;
    }
    if let (Some(Backend::Nfs(_) | Backend::Docker(_)), [kind]) = (volume.backend(), &kinds[..])
        && !volume.scratch.is_empty()
    {
        return Err(wrong("scratch", format!("a volume with `{kind}` has no scratch paths; use /tmpfs")));
    }
    match &volume.docker_volume {
        Some(docker) => {
            check_docker_volume(docker).map_err(|invalid| invalid.under(&[Field("dockerVolume")]))
        }
        None => Ok(()),
    }
}

fn check_docker_volume(docker: &DockerVolume) -> Checked {
    if docker.name.is_some() && (docker.driver.is_some() || !docker.options.is_empty()) {
        let field = if docker.driver.is_some() { "driver" } else { "options" };
        return Err(wrong(field, "a volume with a `name` exists already; leave it out"));
    }
    if docker.driver.as_ref().is_some_and(|driver| driver.is_empty() || driver.len() > 255) {
        return Err(wrong("driver", "write the name of a volume driver, such as local"));
    }
    if docker.driver.as_ref().is_some_and(|driver| driver != "local") {
        return Ok(());
    }
    // Docker's own driver mounts whatever it is told to: a disk of the host, or any of its directories.
    let is_harmless = |kind: &String| matches!(kind.as_str(), "tmpfs" | "nfs" | "nfs4" | "cifs");
    if docker.options.contains_key("device") && !docker.options.get("type").is_some_and(is_harmless) {
        let message =
            "a device of the host cannot be mounted this way; write `hostPath` for a directory of it";
        return Err(wrong("options", message));
    }
    let moves = |option: &str| matches!(option.trim(), "bind" | "rbind" | "move" | "remount");
    if docker.options.get("o").is_some_and(|options| options.split(',').any(moves)) {
        return Err(wrong("options", "`bind` would reach the host's own files; write `hostPath` for that"));
    }
    Ok(())
}
