//! Images: found on the node, or pulled. Whoever wants an image while somebody pulls it waits for that pull, and gets
//! what it got.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::CreateImageOptions;
use chassis_core::Pin;
use chassis_spec::ImageName;
use futures_util::StreamExt;
use tokio::sync::Mutex as AsyncMutex;

use super::{Daemon, failure, image_check};
use crate::registry_auth::{self, CredentialsError};
use crate::{Error, Image, PullProgress, Result};

/// What was learnt of an image holds until Docker tells of a change; this is for what it may fail to tell.
const FRESH: Duration = Duration::from_mins(5);

pub(crate) type Progress<'a> = &'a (dyn Fn(PullProgress) + Send + Sync);

/// What was learnt about each image, and by its lock, who is learning it.
#[derive(Debug, Default)]
pub(crate) struct Images(Mutex<HashMap<String, Arc<AsyncMutex<Option<Learnt>>>>>);

#[derive(Debug)]
struct Learnt {
    at: Instant,
    /// The image, or why it could not be had.
    outcome: std::result::Result<Arc<Image>, String>,
}

impl Images {
    pub(crate) async fn prepare(
        &self,
        daemon: &Daemon,
        name: &ImageName,
        progress: Progress<'_>,
    ) -> Result<Arc<Image>> {
        self.learn(name.to_string(), find_or_pull(daemon, name, progress)).await
    }

    /// The image that was pinned, whatever the name means by now.
    pub(crate) async fn pinned(
        &self,
        daemon: &Daemon,
        name: &ImageName,
        pin: &Pin,
        progress: Progress<'_>,
    ) -> Result<Arc<Image>> {
        let known_as = pin.id.as_ref().or(pin.digest.as_ref()).cloned().unwrap_or_default();
        self.learn(known_as, find_or_pull_pinned(daemon, name, pin, progress)).await
    }

    async fn learn(
        &self,
        known_as: String,
        finding: impl Future<Output = Result<Arc<Image>>>,
    ) -> Result<Arc<Image>> {
        let asked = Instant::now();
        let entry = Arc::clone(self.entries().entry(known_as).or_default());
        let mut learnt = entry.lock().await;
        match &*learnt {
            Some(Learnt { at, outcome: Ok(image) }) if at.elapsed() < FRESH => return Ok(Arc::clone(image)),
            Some(Learnt { at, outcome: Err(message) }) if *at >= asked => {
                return Err(Error::image_unavailable(message.clone()));
            }
            _ => {}
        }
        let outcome = finding.await;
        *learnt = match &outcome {
            Ok(image) => Some(Learnt { at: Instant::now(), outcome: Ok(Arc::clone(image)) }),
            Err(error @ Error::ImageUnavailable { .. }) => {
                Some(Learnt { at: Instant::now(), outcome: Err(error.to_string()) })
            }
            Err(_) => None,
        };
        outcome
    }

    /// An image came, went or got another name, or nobody was listening when it might have.
    pub(crate) fn forget(&self) {
        self.entries().clear();
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<AsyncMutex<Option<Learnt>>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn find_or_pull_pinned(
    daemon: &Daemon,
    name: &ImageName,
    pin: &Pin,
    progress: Progress<'_>,
) -> Result<Arc<Image>> {
    for known_as in pin.id.iter().chain(&pin.digest) {
        if let Some(image) = find(daemon, known_as).await? {
            return Ok(image);
        }
    }
    let by_digest = pin.digest.as_ref().and_then(|digest| digest.parse().ok());
    let Some(by_digest) = by_digest else {
        return Err(Error::image_unavailable(format!(
            "the image that {name} meant when this revision was deployed is gone, and it was never in a registry; \
             `chassis upgrade agent NAME --refresh` takes what the name means now"
        )));
    };
    find_or_pull(daemon, &by_digest, progress).await
}

async fn find_or_pull(daemon: &Daemon, name: &ImageName, progress: Progress<'_>) -> Result<Arc<Image>> {
    if let Some(image) = find(daemon, name.as_str()).await? {
        return Ok(image);
    }
    pull(daemon, name, progress).await?;
    find(daemon, name.as_str()).await?.ok_or_else(|| Error::image_unavailable(gone(name)))
}

/// What to say of an image that was here a moment ago.
pub(crate) fn gone(name: &ImageName) -> String {
    format!("image {name} was here and is gone again; is something removing images?")
}

/// By a name, a digest or an id.
pub(crate) async fn find(daemon: &Daemon, name: &str) -> Result<Option<Arc<Image>>> {
    match daemon.client()?.inspect_image(name).await {
        Ok(found) => Ok(Some(Arc::new(image(found, name)))),
        Err(error) if failure::is_not_found(&error) => Ok(None),
        Err(error) => Err(daemon.explain(error)),
    }
}

fn image(found: ImageInspect, name: &str) -> Image {
    let config = found.config.unwrap_or_default();
    Image {
        health_check: image_check::of_image(config.healthcheck.as_ref()),
        id: found.id.unwrap_or_default(),
        digest: digest_of(found.repo_digests.unwrap_or_default(), name),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
    }
}

/// An image may be known to several registries: its own comes first.
fn digest_of(mut digests: Vec<String>, name: &str) -> Option<String> {
    let own = digests.iter().position(|digest| repository(digest) == repository(name)).unwrap_or(0);
    (own < digests.len()).then(|| digests.swap_remove(own))
}

/// An image's name without its tag and digest.
pub(crate) fn untagged(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// The same for all names of a repository: without what Docker takes for granted.
fn repository(name: &str) -> &str {
    let name = untagged(name);
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

async fn pull(daemon: &Daemon, name: &ImageName, progress: Progress<'_>) -> Result<()> {
    let credentials = registry_auth::credentials(name).await.map_err(|error| no_credentials(name, error))?;
    let signed_in = credentials.is_some();
    let options = CreateImageOptions { from_image: Some(with_tag(name)), ..CreateImageOptions::default() };
    let mut lines = daemon.patient_client()?.create_image(Some(options), None, credentials);
    let mut layers = Layers::default();
    while let Some(line) = lines.next().await {
        let line = line.map_err(|error| match &error {
            bollard::errors::Error::DockerResponseServerError { .. }
            | bollard::errors::Error::DockerStreamError { .. } => {
                not_pulled(name, &failure::words(&error), signed_in)
            }
            _ => daemon.explain(error),
        })?;
        if layers.note(line) {
            progress(layers.sum());
        }
    }
    Ok(())
}

/// Without a tag, Docker would pull all there are.
pub(crate) fn with_tag(name: &ImageName) -> String {
    let last = name.as_str().rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { name.to_string() } else { format!("{name}:latest") }
}

pub(crate) fn no_credentials(name: &ImageName, error: CredentialsError) -> Error {
    Error::image_unavailable(format!("image {name} is not here, and cannot be pulled: {error}"))
        .caused_by(error)
}

pub(crate) fn not_pulled(name: &ImageName, words: &str, signed_in: bool) -> Error {
    let lower = words.to_lowercase();
    let has = |part: &str| lower.contains(part);
    let next = if has("no space left") {
        "make room on the disk of Docker"
    } else if has("unauthorized") || has("denied") || has("no basic auth") || has("authentication required") {
        if signed_in {
            "the registry refused the credentials: sign in again with `docker login`"
        } else {
            "sign in with `docker login` as the user of the server, or correct the name"
        }
    } else if has("not found") || has("manifest unknown") || has("does not exist") {
        "correct the name or the tag, or build the image on this machine"
    } else {
        "is the registry reachable from this machine?"
    };
    Error::image_unavailable(format!("image {name} is not here and cannot be pulled: {words}; {next}"))
}

/// The layers of one pull, by their ids.
#[derive(Debug, Default)]
struct Layers(HashMap<String, Layer>);

#[derive(Debug, Default, Clone, Copy)]
struct Layer {
    done: bool,
    bytes_done: u64,
    bytes_total: u64,
}

impl Layers {
    /// Takes in one line of what Docker says during a pull. True if it said something about a layer.
    fn note(&mut self, line: CreateImageInfo) -> bool {
        let (Some(id), Some(status)) = (line.id, line.status) else { return false };
        if status.starts_with("Pulling from") {
            return false;
        }
        let layer = self.0.entry(id).or_default();
        match status.as_str() {
            "Downloading" => {
                let detail = line.progress_detail.unwrap_or_default();
                let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
                layer.bytes_done = bytes(detail.current).unwrap_or(layer.bytes_done);
                layer.bytes_total = bytes(detail.total).unwrap_or(layer.bytes_total);
            }
            "Download complete" => layer.bytes_done = layer.bytes_total,
            "Pull complete" | "Already exists" => layer.done = true,
            _ => {}
        }
        true
    }

    fn sum(&self) -> PullProgress {
        let count = |layers: usize| u32::try_from(layers).unwrap_or(u32::MAX);
        PullProgress {
            layers: count(self.0.len()),
            layers_done: count(self.0.values().filter(|layer| layer.done).count()),
            bytes_done: self.0.values().map(|layer| layer.bytes_done).sum(),
            bytes_total: self.0.values().map(|layer| layer.bytes_total).sum(),
        }
    }
}
