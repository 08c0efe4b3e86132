//! The life of one container.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptions, RemoveContainerOptions,
    RenameContainerOptions, StartContainerOptions, StopContainerOptions,
};
use chassis_core::{InstanceKey, Limits, Observed, Reason, RunState};
use chassis_spec::{AgentSpec, FleetName};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::body::Net;
use super::facts::Facts;
use super::links::{self, Link};
use super::mounts::Sources;
use super::{
    Daemon, body, confine, facts, failure, images, labels, locked, networks, observe, secrets, volumes,
};
use crate::tier1::Owner;
use crate::{Error, InstanceConfig, InstanceSecrets, Owned, Result};

/// How many containers are looked at at once.
const INSPECTIONS: usize = 8;
/// How long a removal that somebody else began may take, and how often it is looked at.
const REMOVAL: Duration = Duration::from_secs(30);
const REMOVAL_POLL: Duration = Duration::from_millis(20);

/// What never changes about a container of this server's.
#[derive(Debug)]
pub(crate) struct Known {
    key: InstanceKey,
    image: String,
    user: String,
    /// Docker does not map its users.
    keeps_users: bool,
    /// Where its `hostPath` volumes are.
    host_paths: Vec<PathBuf>,
    /// init waits for secrets on its standard input.
    takes_secrets: bool,
    /// This server made it: nobody else can have begun to hand it secrets.
    made_here: bool,
    /// The networks that it belongs in.
    links: Vec<Link>,
}

/// What of a spec this node cannot or may not give, as far as that is known without the daemon while it does not answer.
pub(crate) async fn check(daemon: &Arc<Daemon>, spec: &AgentSpec) -> Result<()> {
    let facts = facts::known(daemon);
    if let Some(facts) = &facts {
        facts::check(facts, spec)?;
    }
    let spec = spec.clone();
    daemon
        .blocking(move |daemon| {
            let root = facts.as_ref().map_or_else(|| Path::new(""), |facts| &facts.root_dir);
            daemon.host_paths.resolve(&spec, root)?;
            daemon.tier1.check_limits(&spec)?;
            confine::seccomp(&spec, &daemon.seccomp_dir).map(drop)
        })
        .await
}

pub(crate) async fn create(daemon: &Arc<Daemon>, config: &InstanceConfig) -> Result<Observed> {
    let user = body::user(&config.spec, &config.image, daemon.only_user.as_deref());
    let owner = daemon.users.resolve(daemon, &config.image.id, &user).await?;
    let facts = facts::facts(daemon).await?;
    facts::check(&facts, &config.spec)?;
    if daemon.only_user.is_some() && facts.remapped.is_some() && config.spec.security.userns.is_none() {
        return Err(Error::rejected(
            "this Docker maps users (userns-remap), and only root can give files to those: run the server as root, or \
             set `security.userns: host`",
        ));
    }
    let sources = sources(daemon, config, owner, &facts).await?;
    volumes::prepare(daemon, config, sources.owner).await?;
    let links = Link::of_spec(&config.key, &config.spec);
    let net = net(daemon, &config.key, &links).await?;
    let body = body::container_body(config, &daemon.server_id, &user, &sources, &net)?;
    let name = config.key.container_name();
    let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
    let create = || async {
        let client = daemon.client()?;
        Result::Ok(client.create_container(Some(options.clone()), body.clone()).await)
    };
    let mut created = create().await?;
    if created.as_ref().is_err_and(|error| networks::is_amiss(error, &links)) {
        forget_networks(daemon, &links);
        links::prepare(daemon, &config.key, &links).await?;
        created = create().await?;
    }
    if created.as_ref().is_err_and(|error| failure::status(error) == Some(409)) {
        if let Some(observed) = settle_conflict(daemon, config, &name, owner, &facts).await? {
            return Ok(observed);
        }
        created = create().await?;
    }
    let id = created.map_err(|error| not_created(daemon, config, error))?.id;
    let known = Known {
        key: config.key.clone(),
        image: config.image.id.clone(),
        user,
        keeps_users: config.spec.security.userns.is_some(),
        host_paths: sources.host_paths.into_values().collect(),
        takes_secrets: body::takes_secrets(&config.spec),
        made_here: true,
        links,
    };
    let known = Arc::new(known);
    locked(&daemon.known).insert(id.clone(), Arc::clone(&known));
    join_more(daemon, &id, &known).await?;
    Ok(Observed {
        id: id.into(),
        revision: config.revision,
        name_is_right: true,
        limits: Limits::from(&config.spec.resources),
        state: RunState::Created,
        image_check: config.image.health_check.clone().map(Arc::new),
    })
}

pub(crate) async fn start(daemon: &Arc<Daemon>, id: &str, secrets: InstanceSecrets) -> Result<()> {
    let known = known(daemon, id).await?.ok_or_else(|| Error::rejected("its container is gone"))?;
    let owner = daemon.users.resolve(daemon, &known.image, &known.user).await?;
    let facts = facts::facts(daemon).await?;
    let owner = facts.outside(owner, known.keeps_users);
    let (subject, files) = (Arc::clone(&known), secrets.files.clone());
    daemon
        .blocking(move |daemon| {
            let key = &subject.key;
            // As late as can be: Docker follows links when it mounts.
            subject
                .host_paths
                .iter()
                .try_for_each(|path| daemon.host_paths.check_again(path, &facts.root_dir))?;
            daemon.tier1.refresh(key)?;
            daemon.tier1.give(key, owner)?;
            daemon.secret_files.write(key, &files, owner)
        })
        .await?;
    join_more(daemon, id, &known).await?;
    let mut started = start_once(daemon, id, &known, &secrets).await?;
    if started.as_ref().is_err_and(|error| networks::is_amiss(error, &known.links)) {
        forget_networks(daemon, &known.links);
        links::prepare(daemon, &known.key, &known.links).await?;
        started = start_once(daemon, id, &known, &secrets).await?;
    }
    if started.as_ref().is_err_and(networks::is_of_old) {
        // Its network was removed. Only a container made anew is put into one made since: the caller finds this one gone.
        return remove(daemon, id).await;
    }
    if started.as_ref().is_err_and(failure::is_left_over) {
        return remove(daemon, id).await;
    }
    let Err(error) = started else { return Ok(()) };
    // Whatever was in the way: what counts is whether it runs.
    match inspect(daemon, id).await? {
        Some(Owned { observed: Observed { state: RunState::Running { .. }, .. }, .. }) => Ok(()),
        _ => Err(daemon.explain(error)),
    }
}

async fn start_once(
    daemon: &Daemon,
    id: &str,
    known: &Known,
    secrets: &InstanceSecrets,
) -> Result<std::result::Result<(), DockerError>> {
    let sending = if known.takes_secrets {
        match secrets::send(daemon, id, secrets).await? {
            Ok(sending) => Some(sending),
            Err(error) => return Ok(Err(error)),
        }
    } else {
        None
    };
    let started = daemon.patient_client()?.start_container(id, None::<StartContainerOptions>).await;
    match (sending, &started) {
        (Some(sending), Ok(())) => secrets::delivered(sending).await,
        (Some(sending), Err(_)) => sending.abort(),
        (None, _) => {}
    }
    Ok(started)
}

pub(crate) async fn stop(daemon: &Arc<Daemon>, id: &str) -> Result<()> {
    let Some(known) = known(daemon, id).await? else { return Ok(()) };
    // Without a time of its own, Docker takes the container's, which is the grace period.
    match daemon.patient_client()?.stop_container(id, None::<StopContainerOptions>).await {
        Err(error) if !failure::is_not_found(&error) => return Err(daemon.explain(error)),
        _ => {}
    }
    end_forgotten(daemon, &known.key, id).await?;
    let key = known.key.clone();
    daemon.blocking(move |daemon| daemon.secret_files.remove(&key)).await
}

pub(crate) async fn remove(daemon: &Arc<Daemon>, id: &str) -> Result<()> {
    let Some(known) = known(daemon, id).await? else { return Ok(()) };
    remove_by_force(daemon, id).await?;
    locked(&daemon.known).remove(id);
    end_forgotten(daemon, &known.key, id).await?;
    for door in known.links.iter().filter(|link| matches!(link, Link::Door { .. })) {
        networks::remove_door(daemon, door).await?;
    }
    let key = known.key.clone();
    daemon.blocking(move |daemon| daemon.secret_files.remove(&key)).await
}

/// Ends what still runs of a container that Docker has stopped or removed: killed while it starts one, it forgets that it
/// runs. While the instance has another container, that one may have its turn by right.
async fn end_forgotten(daemon: &Arc<Daemon>, key: &InstanceKey, id: &str) -> Result<()> {
    if locked(&daemon.known).iter().any(|(other, known)| other != id && known.key == *key) {
        return Ok(());
    }
    let key = key.clone();
    daemon.blocking(move |daemon| daemon.tier1.run_end(&key)).await
}

/// Removes a container whatever it does, and what is left of it if somebody else is at it.
pub(crate) async fn remove_by_force(daemon: &Daemon, id: &str) -> Result<()> {
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    match daemon.patient_client()?.remove_container(id, Some(options)).await {
        Err(error) if failure::is_not_found(&error) => Ok(()),
        Err(error) if failure::status(&error) == Some(409) => gone(daemon, id, error).await,
        Err(error) => Err(daemon.explain(error)),
        Ok(()) => Ok(()),
    }
}

pub(crate) async fn rename(daemon: &Arc<Daemon>, id: &str, key: &InstanceKey) -> Result<()> {
    let Some(owned) = inspect(daemon, id).await? else {
        return Err(Error::rejected("its container is gone"));
    };
    if owned.observed.name_is_right {
        return Ok(());
    }
    let name = key.container_name();
    let options = RenameContainerOptions { name: name.clone() };
    match daemon.client()?.rename_container(id, options).await {
        Err(error) if failure::status(&error) == Some(409) => Err(match look(daemon, &name).await? {
            Some(other) => taken(&name, other.id.as_deref().unwrap_or_default()),
            None => daemon.explain(error),
        }),
        Err(error) => Err(daemon.explain(error)),
        Ok(()) => Ok(()),
    }
}

pub(crate) async fn inspect(daemon: &Arc<Daemon>, id: &str) -> Result<Option<Owned>> {
    let Some(container) = look(daemon, id).await? else { return Ok(None) };
    links::mend(daemon, &container).await;
    Ok(note(daemon, container))
}

/// Whose container this is, if it has been seen.
pub(crate) fn known_key(daemon: &Daemon, id: &str) -> Option<InstanceKey> {
    locked(&daemon.known).get(id).map(|known| known.key.clone())
}

/// True if the container is this server's.
pub(crate) async fn is_own(daemon: &Daemon, id: &str) -> Result<bool> {
    let labels = look(daemon, id).await?.and_then(|container| container.config?.labels);
    Ok(labels.is_none_or(|labels| labels.get(labels::SERVER) == Some(&daemon.server_id)))
}

/// Looks at the containers of other fleets that belong in this fleet's network, which was just made.
pub(crate) async fn look_at_guests(daemon: &Arc<Daemon>, fleet: &FleetName) {
    let link = Link::Fleet(fleet.clone());
    let is_guest = |known: &Known| known.key.fleet != *fleet && known.links.contains(&link);
    let all = locked(&daemon.known).clone();
    for id in all.into_iter().filter(|(_, known)| is_guest(known)).map(|(id, _)| id) {
        if let Ok(Some(container)) = look(daemon, &id).await {
            links::mend(daemon, &container).await;
        }
    }
}

/// Makes the networks, and says what a container is told of them when it is made.
async fn net(daemon: &Arc<Daemon>, key: &InstanceKey, links: &[Link]) -> Result<Net> {
    links::prepare(daemon, key, links).await?;
    let host = match links.iter().find(|link| matches!(link, Link::Door { .. })) {
        Some(door) => networks::gateway(daemon, door).await?,
        None => None,
    };
    Ok(Net { name: links.first().map(Link::name), host })
}

/// The networks besides its own that a container belongs in.
async fn join_more(daemon: &Arc<Daemon>, id: &str, known: &Known) -> Result<()> {
    match known.links.get(1..) {
        None | Some([]) => Ok(()),
        Some(more) => links::complete(daemon, id, &known.key, more).await,
    }
}

fn forget_networks(daemon: &Daemon, links: &[Link]) {
    let mut networks = locked(&daemon.networks);
    for link in links {
        networks.remove(&link.name());
    }
}

pub(crate) async fn list(daemon: &Arc<Daemon>) -> Result<Vec<Owned>> {
    let options = ListContainersOptions {
        all: true,
        filters: Some(labels::filter(&daemon.server_id)),
        ..ListContainersOptions::default()
    };
    let containers =
        daemon.client()?.list_containers(Some(options)).await.map_err(|error| daemon.explain(error))?;
    let (probes, containers): (Vec<_>, Vec<_>) =
        containers.into_iter().partition(|container| container.labels.as_ref().is_some_and(labels::is_probe));
    if !probes.is_empty() {
        // By now those in use when the list was made are gone. What is still there, a killed server left.
        let _alone = daemon.users.probing.lock().await;
        for probe in probes.into_iter().filter_map(|probe| probe.id) {
            if let Err(error) = remove_by_force(daemon, &probe).await {
                tracing::warn!(container = probe, %error, "cannot remove a container that only showed files");
            }
        }
    }
    let ids: Vec<String> = containers.into_iter().filter_map(|container| container.id).collect();
    let present: HashSet<&String> = ids.iter().collect();
    locked(&daemon.known).retain(|id, _| present.contains(id));
    let owned: Vec<Owned> = stream::iter(ids)
        .map(|id| async move {
            match inspect(daemon, &id).await {
                // One container that Docker cannot show must not hide all others.
                Err(error) if error.reason() != Reason::RuntimeUnavailable => {
                    tracing::warn!(container = id, %error, "cannot look at a container");
                    Ok(None)
                }
                seen => seen,
            }
        })
        .buffer_unordered(INSPECTIONS)
        .try_filter_map(|owned| async { Ok(owned) })
        .try_collect()
        .await?;
    if let Err(error) = sweep(daemon, &owned).await {
        tracing::warn!(%error, "cannot remove what was left behind");
    }
    Ok(owned)
}

/// Removes what a killed server left: directories on their way out, and secret files of containers that are no more. Of
/// those only what was there when this server started: others may be of containers that are being made just now.
async fn sweep(daemon: &Arc<Daemon>, owned: &[Owned]) -> Result<()> {
    if !daemon.trash_looked_at.swap(true, Ordering::Relaxed) {
        daemon.blocking(|daemon| daemon.tier1.trash_empty()).await?;
    }
    let names: HashSet<String> = owned.iter().map(|owned| owned.key.container_name()).collect();
    let orphans: Vec<String> = std::mem::take(&mut *locked(&daemon.leftovers))
        .into_iter()
        .filter(|name| !names.contains(name))
        .collect();
    if orphans.is_empty() {
        return Ok(());
    }
    daemon
        .blocking(move |daemon| orphans.iter().try_for_each(|name| daemon.secret_files.remove_by_name(name)))
        .await
}

/// Makes the directories for their owner, and gathers where on the host the container's mounts come from.
async fn sources(
    daemon: &Arc<Daemon>,
    config: &InstanceConfig,
    owner: Owner,
    facts: &Arc<Facts>,
) -> Result<Sources> {
    let (key, spec, facts) = (config.key.clone(), Arc::clone(&config.spec), Arc::clone(facts));
    let leased = config.leased;
    let outside = facts.outside(owner, spec.security.userns.is_some());
    daemon
        .blocking(move |daemon| {
            let host_paths = daemon.host_paths.resolve(&spec, &facts.root_dir)?;
            let seccomp = confine::seccomp(&spec, &daemon.seccomp_dir)?;
            daemon.tier1.prepare(&key, &spec)?;
            if leased {
                daemon.tier1.lease_prepare(&key)?;
            }
            daemon.tier1.give(&key, outside)?;
            locked(&daemon.leftovers).remove(&key.container_name());
            let secret_files = daemon.secret_files.prepare(&key, &spec)?;
            Ok(Sources {
                tier1: daemon.tier1.instance_path(&key),
                lease: daemon.tier1.lease_path(),
                secret_files,
                host_paths,
                owner,
                seccomp,
                open_low_ports: facts.must_open_low_ports(),
            })
        })
        .await
}

/// The name is taken. By the container that is wanted: it is the answer. By what an interrupted creation or an older
/// revision left: that is removed. By anybody else's: nobody touches it.
async fn settle_conflict(
    daemon: &Arc<Daemon>,
    config: &InstanceConfig,
    name: &str,
    owner: Owner,
    facts: &Arc<Facts>,
) -> Result<Option<Observed>> {
    let Some(container) = look(daemon, name).await? else { return Ok(None) };
    let id = container.id.clone().unwrap_or_default();
    match note(daemon, container) {
        Some(Owned { key, epoch, leased, observed }) if key == config.key => {
            if observed.revision == config.revision
                && (epoch, leased) == (config.epoch, config.leased)
                && observed.state != RunState::Dead
            {
                return Ok(Some(observed));
            }
            remove(daemon, &id).await?;
            // Its secret files went with it.
            sources(daemon, config, owner, facts).await.map(|_| None)
        }
        _ => Err(taken(name, &id)),
    }
}

fn taken(name: &str, id: &str) -> Error {
    let id = id.get(..12).unwrap_or(id);
    Error::name_taken(format!(
        "container {id} has the name {name} and was not made for this instance; remove it with `docker rm {id}`, or \
         rename it with `docker rename {id} <name>`"
    ))
}

fn not_created(daemon: &Daemon, config: &InstanceConfig, error: DockerError) -> Error {
    if failure::is_not_found(&error) && failure::words(&error).to_lowercase().contains("no such image") {
        daemon.images.forget();
        return Error::image_unavailable(images::gone(&config.spec.image));
    }
    daemon.explain(error)
}

/// Whose container this is, or `None` if it is gone or not this server's.
pub(crate) async fn key(daemon: &Arc<Daemon>, id: &str) -> Result<Option<InstanceKey>> {
    Ok(known(daemon, id).await?.map(|known| known.key.clone()))
}

/// What is known of a container, or `None` if it is gone or not this server's.
async fn known(daemon: &Arc<Daemon>, id: &str) -> Result<Option<Arc<Known>>> {
    if let Some(known) = locked(&daemon.known).get(id) {
        return Ok(Some(Arc::clone(known)));
    }
    inspect(daemon, id).await?;
    Ok(locked(&daemon.known).get(id).map(Arc::clone))
}

/// Notes a container that Docker showed. One that a killed server made, and had perhaps begun to hand its secrets, is of
/// no use: its standard input may be at its end already.
fn note(daemon: &Daemon, container: ContainerInspectResponse) -> Option<Owned> {
    let config = container.config.as_ref();
    let user = config.and_then(|config| config.user.clone()).unwrap_or_default();
    let takes_secrets = config.and_then(|config| config.open_stdin).unwrap_or_default();
    let host_paths =
        config.and_then(|config| config.labels.as_ref()).map(labels::host_paths).unwrap_or_default();
    let host = container.host_config.as_ref();
    let keeps_users = host.is_some_and(|host| host.userns_mode.as_deref() == Some("host"));
    let image = container.image.clone().unwrap_or_default();
    let labels = config.and_then(|config| config.labels.clone()).unwrap_or_default();
    let isolated = host.and_then(|host| host.network_mode.as_deref()).is_some_and(links::is_no_bridge);
    let mut owned = observe::owned(&daemon.server_id, container)?;
    let links = if isolated { Vec::new() } else { Link::of_labels(&owned.key, &labels) };
    let known = Known {
        key: owned.key.clone(),
        image,
        user,
        keeps_users,
        host_paths,
        takes_secrets,
        made_here: false,
        links,
    };
    let mut all = locked(&daemon.known);
    let known = all.entry(owned.observed.id.to_string()).or_insert_with(|| Arc::new(known));
    if known.takes_secrets && !known.made_here && owned.observed.state == RunState::Created {
        owned.observed.state = RunState::Dead;
    }
    Some(owned)
}

pub(crate) async fn look(daemon: &Daemon, name: &str) -> Result<Option<ContainerInspectResponse>> {
    match daemon.client()?.inspect_container(name, None::<InspectContainerOptions>).await {
        Ok(container) => Ok(Some(container)),
        Err(error) if failure::is_not_found(&error) => Ok(None),
        Err(error) => Err(daemon.explain(error)),
    }
}

/// Waits until a container that is being removed is gone.
async fn gone(daemon: &Daemon, id: &str, error: DockerError) -> Result<()> {
    let waited = tokio::time::timeout(REMOVAL, async {
        while look(daemon, id).await?.is_some() {
            tokio::time::sleep(REMOVAL_POLL).await;
        }
        Result::Ok(())
    });
    waited.await.unwrap_or_else(|_| Err(daemon.explain(error)))
}
