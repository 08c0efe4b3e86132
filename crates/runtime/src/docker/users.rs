//! Who a container's user is in numbers: what its image says, read as Docker reads it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, DownloadFromContainerOptions};
use futures_util::StreamExt;
use tokio::sync::Mutex as AsyncMutex;

use super::instances::remove_by_force;
use super::{Daemon, failure, labels};
use crate::tier1::Owner;
use crate::{Error, Result};

/// Far more than any such file has.
const LONGEST_FILE: usize = 4 << 20;
const TAR_BLOCK: usize = 512;
/// A link to a link to a link: enough for every image that somebody meant.
const MOST_LINKS: u32 = 4;

/// Users that were looked up, by image and name.
#[derive(Debug, Default)]
pub(crate) struct Users {
    known: Mutex<HashMap<(String, String), Owner>>,
    /// Held while a probe exists: one lookup serves all who wait for it, and any other probe is a leftover.
    pub(crate) probing: AsyncMutex<()>,
}

impl Users {
    /// The owner that `user` means in the image.
    pub(crate) async fn resolve(&self, daemon: &Daemon, image: &str, user: &str) -> Result<Owner> {
        let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
        if let (Ok(user), Some(Ok(group))) = (name.parse(), group.map(str::parse)) {
            return Ok(Owner { user, group });
        }
        let key = (image.to_owned(), user.to_owned());
        if let Some(owner) = self.known().get(&key) {
            return Ok(*owner);
        }
        let _alone = self.probing.lock().await;
        if let Some(owner) = self.known().get(&key) {
            return Ok(*owner);
        }
        let (passwd, groups) = read_users(daemon, image).await?;
        let owner = look_up(name, group, &passwd, &groups).ok_or_else(|| {
            Error::rejected(format!(
                "the image has no user {user} in its /etc/passwd and /etc/group; set `user:` to numbers, as in 1000:1000"
            ))
        })?;
        self.known().insert(key, owner);
        Ok(owner)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Owner>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the image says about users and groups. Docker shows files of containers only, so that one is made, never
/// started and removed; a list of this server's containers removes one that a killed server left.
async fn read_users(daemon: &Daemon, image: &str) -> Result<(String, String)> {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        // Docker wants a command, though it is never run.
        cmd: Some(vec!["/".to_owned()]),
        labels: Some(labels::of_probe(&daemon.server_id)),
        network_disabled: Some(true),
        ..ContainerCreateBody::default()
    };
    let client = daemon.client()?;
    let created = client.create_container(None::<CreateContainerOptions>, body).await;
    let id = created.map_err(|error| daemon.explain(error))?.id;
    let read = async {
        Ok((read_file(daemon, &id, "/etc/passwd").await?, read_file(daemon, &id, "/etc/group").await?))
    };
    let read = read.await;
    remove_by_force(daemon, &id).await?;
    read
}

/// A number need not be in passwd; its group is 0 then.
fn look_up(name: &str, group: Option<&str>, passwd: &str, groups: &str) -> Option<Owner> {
    let number = name.parse::<u32>().ok();
    let line = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| {
        let (user, own_group) = (fields.get(2)?.parse::<u32>().ok()?, fields.get(3)?.parse::<u32>().ok()?);
        (fields.first() == Some(&name) || Some(user) == number).then_some((user, own_group))
    });
    let user = number.or_else(|| line.map(|(user, _)| user))?;
    let group = match group {
        None => line.map_or(0, |(_, own_group)| own_group),
        Some(group) => match group.parse() {
            Ok(number) => number,
            Err(_) => groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| {
                (fields.first() == Some(&group)).then(|| fields.get(2)?.parse().ok()).flatten()
            })?,
        },
    };
    Some(Owner { user, group })
}

/// A file of the container's, or nothing if it has none.
async fn read_file(daemon: &Daemon, id: &str, path: &str) -> Result<String> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let options = DownloadFromContainerOptions { path: path.clone() };
        let mut stream = daemon.client()?.download_from_container(id, Some(options));
        let mut archive = Vec::new();
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) if archive.len() + chunk.len() <= LONGEST_FILE => archive.extend_from_slice(&chunk),
                Ok(_) => return Err(Error::rejected(format!("{path} of the image is too large"))),
                Err(error) if failure::is_not_found(&error) => return Ok(String::new()),
                Err(error) => return Err(daemon.explain(error)),
            }
        }
        match first_entry(&archive) {
            Some(Entry::File(content)) => return Ok(String::from_utf8_lossy(content).into_owned()),
            Some(Entry::Link(target)) if target.starts_with('/') => path = target,
            Some(Entry::Link(target)) => {
                path = format!("{}/{target}", path.rsplit_once('/').map_or("", |(directory, _)| directory));
            }
            None => return Ok(String::new()),
        }
    }
    Ok(String::new())
}

enum Entry<'a> {
    File(&'a [u8]),
    Link(String),
}

/// The first entry of a tar archive.
fn first_entry(archive: &[u8]) -> Option<Entry<'_>> {
    let (header, rest) = archive.split_at_checked(TAR_BLOCK)?;
    let text = |range: std::ops::Range<usize>| {
        std::str::from_utf8(&header[range]).ok().map(|text| text.trim_matches(['\0', ' ']))
    };
    match header[156] {
        b'0' | 0 => Some(Entry::File(rest.get(..usize::from_str_radix(text(124..136)?, 8).ok()?)?)),
        b'2' => Some(Entry::Link(text(157..257)?.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_as_docker_reads_them() {
        let passwd = "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n";
        let groups = "root:x:0:\nstaff:x:50:app\n";
        let found = |name, group| look_up(name, group, passwd, groups).map(|owner| (owner.user, owner.group));
        assert_eq!(found("app", None), Some((1000, 1001)));
        assert_eq!(found("app", Some("staff")), Some((1000, 50)));
        assert_eq!(found("app", Some("7")), Some((1000, 7)));
        assert_eq!(found("1000", None), Some((1000, 1001)));
        assert_eq!(found("2000", None), Some((2000, 0)));
        assert_eq!(found("nobody", None), None);
        assert_eq!(found("app", Some("nobody")), None);
    }
}
