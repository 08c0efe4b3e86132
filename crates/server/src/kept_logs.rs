//! The output of containers that are no more.
//!
//! ```text
//! <data dir>/.server/logs/<fleet>/<agent>-<number>/
//!     <first line's time>-<container>-<seconds to keep>.jsonl.gz      0600, a `LogLine` to a line
//! ```
//! What holds:
//! - a file has its name only when it is complete. A server that ends before leaves the container where it is, and the
//!   next one begins anew; the same container has the same name, so nothing is there twice;
//! - no removal waits for it for long, or fails because of it: what cannot be kept is told by an event;
//! - what is kept is bounded: in time by the agent's `logs.keep`, in number for each instance, in size as a whole.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chassis_api::LogLine;
use chassis_core::key::parse_instance_name;
use chassis_core::{AgentKey, EventKind, InstanceKey};
use chassis_runtime::{LogChunk, LogOptions, LogStream, Runtime};
use chassis_spec::{FleetName, Seconds};
use chassis_store::Term;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::error::chain;
use crate::log_line;
use crate::shared::Shared;

const SUFFIX: &str = ".jsonl.gz";
/// Files of one instance.
const FILES: usize = 10;
/// What all files together may take unless the server is told otherwise: so many bytes, or this part of the file system.
const TOTAL: u64 = 2 << 30;
const PART: u64 = 20;
/// A runtime that says nothing for so long has nothing more to say.
const STALL: Duration = Duration::from_secs(5);
/// For one container's output as a whole: a few gigabytes.
const LIMIT: Duration = Duration::from_mins(1);
/// Bytes that are written to a file at once.
const BLOCK: usize = 256 << 10;
/// Lines on their way to a reader.
const IN_FLIGHT: usize = 64;
/// Of a line in a file, in bytes: far above what is written.
const LINE: u64 = 1 << 20;
/// Ends the name of a file in the making.
const TEMPORARY: &str = ".new";
/// Containers whose output is copied at the same time.
const AT_ONCE: usize = 4;
const SWEEP: Duration = Duration::from_hours(1);

/// The directory of what is kept.
#[derive(Debug)]
pub(crate) struct KeptLogs {
    root: PathBuf,
    /// What all files together may take, in bytes.
    most: u64,
    /// What they take, as far as is known.
    total: AtomicU64,
    full: Notify,
    slots: Semaphore,
}

/// Why output was not kept.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the runtime does not hand it out")]
    Runtime(#[from] chassis_runtime::Error),
    #[error("the runtime takes too long to hand it out")]
    Slow,
    #[error("it cannot be written to {1}")]
    Write(#[source] io::Error, PathBuf),
    #[error("the disk of {0} is almost full")]
    DiskFull(PathBuf),
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) path: PathBuf,
    /// The first characters of the container's id.
    container: String,
    keep: Duration,
}

/// Copies what a container that is about to be removed has printed, if the agent wants that. What goes wrong is told, and
/// no reason to keep the container.
pub(crate) async fn keep(
    shared: &Shared,
    runtime: &dyn Runtime,
    term: Term,
    key: &InstanceKey,
    id: &str,
    keep: Seconds,
) {
    if keep.0 == 0 {
        return;
    }
    let Err(failure) = shared.kept_logs.keep(runtime, key, id, keep).await else { return };
    let message = chain(&failure);
    tracing::warn!(instance = %key, message, "cannot keep all of its output");
    if let Err(error) = shared.store.instance_event(term, key, EventKind::OutputLost { message }).await {
        tracing::warn!(instance = %key, %error, "cannot store that its output was lost");
    }
}

/// Takes away what is too old or too much, now and then and when there is too much, for as long as the server runs.
pub(crate) async fn sweep_on(shared: Arc<Shared>) {
    let kept = &shared.kept_logs;
    let mut acts = shared.lead.subscribe();
    loop {
        if acts.wait_for(Option::is_some).await.is_err() {
            return;
        }
        // How long agents that exist want it kept now. The files of others say it themselves.
        let agents = shared.agents();
        let kept_for =
            agents.iter().map(|agent| (agent.key().clone(), agent.state().spec.logs.keep)).collect();
        let (root, most) = (kept.root.clone(), kept.most);
        match spawn_blocking(move || sweep(&root, most, &kept_for, SystemTime::now())).await {
            Ok(total) => kept.total.store(total, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "cannot sweep the kept output"),
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = kept.full.notified() => {}
        }
    }
}

// === impl KeptLogs ===

impl KeptLogs {
    pub(crate) fn new(root: PathBuf, most: Option<u64>) -> Self {
        let most = most.unwrap_or_else(|| space(&root).map_or(TOTAL, |(all, _)| TOTAL.min(all / PART)));
        KeptLogs { root, most, total: AtomicU64::new(0), full: Notify::new(), slots: Semaphore::new(AT_ONCE) }
    }

    /// What is kept of an instance, the oldest first.
    pub(crate) fn of_instance(&self, key: &InstanceKey) -> Vec<Kept> {
        kept_in(&self.directory(key))
    }

    /// What is kept of containers that were removed after a time, the oldest first.
    pub(crate) fn of_instance_since(&self, key: &InstanceKey, time: Timestamp) -> Vec<Kept> {
        // The clock of a file system is late by a tick.
        let time = SystemTime::from(time) - Duration::from_millis(20);
        let mut kept = self.of_instance(key);
        kept.retain(|kept| {
            fs::metadata(&kept.path).and_then(|file| file.modified()).is_ok_and(|at| at >= time)
        });
        kept
    }

    /// What is kept of one container.
    pub(crate) fn of_container(&self, key: &InstanceKey, id: &str) -> Option<Kept> {
        self.of_instance(key).into_iter().find(|kept| kept.is_of(id))
    }

    /// Every instance of which something is kept.
    pub(crate) fn instances(&self) -> Vec<InstanceKey> {
        let fleets = names_in(&self.root).into_iter().filter_map(|fleet| fleet.parse().ok());
        fleets.flat_map(|fleet| self.instances_of(&fleet)).collect()
    }

    /// The instances of a fleet of which something is kept, by name.
    pub(crate) fn instances_of(&self, fleet: &FleetName) -> Vec<InstanceKey> {
        let key = |name: String| {
            let (agent, number) = parse_instance_name(&name)?;
            Some(InstanceKey { fleet: fleet.clone(), agent: agent.parse().ok()?, number })
        };
        let mut instances: Vec<_> =
            names_in(&self.root.join(fleet.as_str())).into_iter().filter_map(key).collect();
        instances.sort();
        instances
    }

    /// Forgets what is kept of an instance.
    pub(crate) async fn remove(&self, key: &InstanceKey) {
        let directory = self.directory(key);
        let removed =
            spawn_blocking(move || fs::remove_dir_all(directory)).await.map_err(io::Error::from).flatten();
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(instance = %key, %error, "cannot remove its kept output");
            }
            _ => {}
        }
        // Only one that is empty goes.
        let _ = fs::remove_dir(self.root.join(key.fleet.as_str()));
    }

    /// Copies what a container has printed. Nothing is written for one that printed nothing.
    async fn keep(
        &self,
        runtime: &dyn Runtime,
        key: &InstanceKey,
        id: &str,
        keep: Seconds,
    ) -> Result<(), Failure> {
        let _slot = self.slots.acquire().await;
        if space(&self.root).is_some_and(|(all, left)| left < all / PART) {
            return Err(Failure::DiskFull(self.root.clone()));
        }
        let mut chunks = timeout(STALL, runtime.logs(id, &LogOptions::default())).await??;
        let Some(first) = timeout(STALL, chunks.next()).await? else { return Ok(()) };
        let first = first?;
        let mut copy = Copy::new(self.directory(key), key, id, keep, first.time);
        copy.add(&first);
        let read = timeout(LIMIT, copy.read(&mut chunks)).await.map_err(Failure::from).flatten();
        // Half of it is better than nothing.
        let directory = copy.directory.clone();
        let written = spawn_blocking(move || copy.finish()).await.map_err(io::Error::from).flatten();
        let size = written.map_err(|error| Failure::Write(error, directory))?;
        if self.total.fetch_add(size, Ordering::Relaxed) + size > self.most {
            self.full.notify_one();
        }
        read
    }

    fn directory(&self, key: &InstanceKey) -> PathBuf {
        self.root.join(key.fleet.as_str()).join(key.short_name())
    }
}

// === impl Kept ===

impl Kept {
    /// `20261122T120000.000000000Z-0123456789ab-604800.jsonl.gz`.
    fn parse(path: PathBuf) -> Option<Kept> {
        let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
        let mut parts = name.split('-');
        let (_, container, keep) = (parts.next()?, parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        Some(Kept { path, container, keep: Duration::from_secs(keep) })
    }

    /// True for the container of this id.
    pub(crate) fn is_of(&self, id: &str) -> bool {
        short(id) == self.container
    }

    /// What is in it, the oldest first. A damaged file ends where the damage is.
    pub(crate) fn read(&self) -> BoxStream<'static, chassis_runtime::Result<LogChunk>> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let path = self.path.clone();
        spawn_blocking(move || {
            if let Err(error) = read_file(&path, &sender) {
                tracing::warn!(path = %path.display(), %error, "cannot read kept output any further");
            }
        });
        stream::unfold(receiver, |mut receiver| async { Some((Ok(receiver.recv().await?), receiver)) })
            .boxed()
    }
}

fn read_file(path: &Path, sender: &mpsc::Sender<LogChunk>) -> io::Result<()> {
    let mut reader = BufReader::new(MultiGzDecoder::new(File::open(path)?));
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let LogLine { time, stream, text, .. } = serde_json::from_slice(&line)?;
        let stream = if stream == "stderr" { LogStream::Stderr } else { LogStream::Stdout };
        // An error is a reader that has gone.
        if sender.blocking_send(LogChunk { time, stream, bytes: Bytes::from(text) }).is_err() {
            return Ok(());
        }
    }
}

/// A file in the making.
struct Copy {
    directory: PathBuf,
    name: String,
    container: String,
    instance: String,
    block: Vec<u8>,
    /// Once there was more than a block.
    file: Option<GzEncoder<File>>,
}

impl Copy {
    fn new(directory: PathBuf, key: &InstanceKey, id: &str, keep: Seconds, first: Timestamp) -> Copy {
        let container = short(id).to_owned();
        let name = format!("{}-{container}-{}{SUFFIX}", first.strftime("%Y%m%dT%H%M%S.%9fZ"), keep.0);
        Copy { directory, name, container, instance: key.short_name(), block: Vec::new(), file: None }
    }

    fn add(&mut self, chunk: &LogChunk) {
        log_line::write(&mut self.block, &self.instance, chunk);
    }

    async fn read(
        &mut self,
        chunks: &mut BoxStream<'static, chassis_runtime::Result<LogChunk>>,
    ) -> Result<(), Failure> {
        while let Some(chunk) = timeout(STALL, chunks.next()).await? {
            self.add(&chunk?);
            if self.block.len() >= BLOCK {
                let (block, file) = (std::mem::take(&mut self.block), self.file.take());
                let (directory, temporary) = (self.directory.clone(), self.temporary());
                let write = move || {
                    let mut file = match file {
                        Some(file) => file,
                        None => create(&directory, &temporary)?,
                    };
                    file.write_all(&block)?;
                    Ok(file)
                };
                let written = spawn_blocking(write).await.map_err(io::Error::from).flatten();
                self.file = Some(written.map_err(|error| Failure::Write(error, self.directory.clone()))?);
            }
        }
        Ok(())
    }

    /// Gives the file its name, and returns its size.
    fn finish(mut self) -> io::Result<u64> {
        let temporary = self.temporary();
        let written = (|| {
            let mut file = match self.file.take() {
                Some(file) => file,
                None => create(&self.directory, &temporary)?,
            };
            file.write_all(&self.block)?;
            let size = file.finish()?.metadata()?.len();
            fs::rename(&temporary, self.directory.join(&self.name))?;
            Ok(size)
        })();
        if written.is_err() {
            let _ = fs::remove_file(temporary);
        }
        // An earlier try that was cut off may have seen another first line.
        let mut others = kept_in(&self.directory);
        others.retain(|kept| !kept.path.ends_with(&self.name));
        let newest = others.len().saturating_sub(FILES - 1);
        for (index, other) in others.iter().enumerate() {
            if index < newest || other.container == self.container {
                let _ = fs::remove_file(&other.path);
            }
        }
        written
    }

    fn temporary(&self) -> PathBuf {
        self.directory.join(format!("{}{TEMPORARY}", self.container))
    }
}

fn create(directory: &Path, path: &Path) -> io::Result<GzEncoder<File>> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(GzEncoder::new(file, Compression::fast()))
}

/// Removes what is too old, then the oldest until the rest is not too much. Returns the size of what is left.
fn sweep(root: &Path, most: u64, kept_for: &HashMap<AgentKey, Seconds>, now: SystemTime) -> u64 {
    let mut left = Vec::new();
    for fleet in names_in(root) {
        let fleet_directory = root.join(&fleet);
        for instance in names_in(&fleet_directory) {
            let directory = fleet_directory.join(&instance);
            let agent = || {
                let (agent, _) = parse_instance_name(&instance)?;
                Some(AgentKey { fleet: fleet.parse().ok()?, agent: agent.parse().ok()? })
            };
            let wanted = agent().and_then(|agent| kept_for.get(&agent));
            for name in names_in(&directory) {
                let path = directory.join(&name);
                let Ok(metadata) = fs::metadata(&path) else { continue };
                let Ok(changed) = metadata.modified() else { continue };
                let age = now.duration_since(changed).unwrap_or_default();
                let keep = match Kept::parse(path.clone()) {
                    Some(kept) => wanted.map_or(kept.keep, |keep| Duration::from_secs(keep.0.into())),
                    // Left behind by a server that was killed, once it cannot be in the making any more.
                    None if name.ends_with(TEMPORARY) => LIMIT * 2,
                    None => continue,
                };
                if age > keep {
                    let _ = fs::remove_file(&path);
                } else {
                    left.push((changed, metadata.len(), path));
                }
            }
            // Only those that are empty go.
            let _ = fs::remove_dir(&directory);
        }
        let _ = fs::remove_dir(&fleet_directory);
    }
    let mut total = left.iter().map(|(_, size, _)| size).sum();
    left.sort_unstable();
    for (_, size, path) in left {
        if total <= most {
            break;
        }
        if fs::remove_file(path).is_ok() {
            total -= size;
        }
    }
    total
}

fn kept_in(directory: &Path) -> Vec<Kept> {
    let mut kept: Vec<Kept> =
        names_in(directory).into_iter().filter_map(|name| Kept::parse(directory.join(name))).collect();
    kept.sort_unstable_by(|one, two| one.path.cmp(&two.path));
    kept
}

/// What is in a directory; nothing if there is none.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The size of a directory's file system, and what is left of it, in bytes.
fn space(directory: &Path) -> Option<(u64, u64)> {
    let found = directory.ancestors().find_map(|there| rustix::fs::statvfs(there).ok())?;
    Some((found.f_blocks.saturating_mul(found.f_frsize), found.f_bavail.saturating_mul(found.f_frsize)))
}

/// As much of an id as names a container.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

impl From<Elapsed> for Failure {
    fn from(_: Elapsed) -> Self {
        Failure::Slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, instance: &str, name: &str, size: usize) -> PathBuf {
        let directory = root.join("f").join(instance);
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(name);
        fs::write(&path, vec![0; size]).unwrap();
        path
    }

    #[test]
    fn the_sweep_takes_the_old_and_then_the_oldest() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        let hour = put(root, "a-1", "20260101T000000.0Z-aaaaaaaaaaaa-3600.jsonl.gz", 10);
        let week = put(root, "a-2", "20260101T000000.0Z-bbbbbbbbbbbb-604800.jsonl.gz", 10);
        let named = put(root, "b-1", "20260101T000000.0Z-cccccccccccc-604800.jsonl.gz", 10);
        let begun = put(root, "a-2", &format!("dddddddddddd{TEMPORARY}"), 10);
        let foreign = put(root, "a-2", "notes", 10);
        let b = AgentKey { fleet: "f".parse().unwrap(), agent: "b".parse().unwrap() };
        let kept_for = HashMap::from([(b, Seconds(60))]);

        assert_eq!(sweep(root, 1000, &kept_for, SystemTime::now()), 40);
        let later = SystemTime::now() + Duration::from_hours(2);
        assert_eq!(sweep(root, 1000, &kept_for, later), 10);
        assert_eq!(
            [&hour, &week, &named, &begun, &foreign].map(|path| path.exists()),
            [false, true, false, false, true]
        );
        assert!(!root.join("f/a-1").exists() && !root.join("f/b-1").exists());

        let newer = put(root, "a-3", "20260102T000000.0Z-eeeeeeeeeeee-604800.jsonl.gz", 10);
        File::options().write(true).open(&newer).unwrap().set_modified(later).unwrap();
        assert_eq!(sweep(root, 10, &kept_for, later), 10);
        assert_eq!([&week, &newer].map(|path| path.exists()), [false, true]);
    }
}
