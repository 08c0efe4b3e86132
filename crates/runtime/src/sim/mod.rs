//! A node that is not there: instances in memory, with injected faults and latencies.
//!
//! For tests and for measuring the server itself. It behaves as Docker does, as far as the conformance suite can tell,
//! and does the same again with the same seed if it is asked the same in the same order. All of it is gone when the
//! process ends: a restarted server finds an empty node.

mod handle;
mod state;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chassis_core::{InstanceKey, Limits, Observed, Pin, RunState};
use chassis_spec::{FleetName, ImageName, Resources};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::broadcast::{self, error::RecvError};

pub use self::handle::SimHandle;
use self::state::State;
use crate::{
    Error, Image, InstanceConfig, InstanceSecrets, LogChunk, LogOptions, LogStream, Owned, PullProgress,
    Result, Runtime, RuntimeEvent, RuntimeInfo, SnapshotTaken,
};

/// Events that a reader may be behind before it is told that it missed some.
const BACKLOG: usize = 4096;
/// How long an operation waits at most for readers that are far behind. What does nothing is faster than whoever hears of it.
const PATIENCE: Duration = Duration::from_millis(100);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// How a simulated node behaves.
#[derive(Debug, Clone, Default)]
pub struct SimOptions {
    pub seed: u64,
    /// How long each operation takes.
    pub latency: Range<Duration>,
    /// The part of all operations that fail as if the runtime did not answer: 0 to 1.
    pub fault_rate: f64,
}

/// An operation that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SimOperation {
    ImagePrepare,
    FleetPrepare,
    FleetRemove,
    Create,
    Start,
    Stop,
    Remove,
    Rename,
    Update,
    DataRemove,
    Inspect,
    List,
    Events,
    Logs,
    SnapshotCreate,
    SnapshotRestore,
    SnapshotRemove,
}

/// A simulated node.
#[derive(Debug)]
pub struct SimRuntime(Arc<Node>);

#[derive(Debug)]
struct Node {
    options: SimOptions,
    state: Mutex<State>,
    feed: broadcast::Sender<Feed>,
}

#[derive(Debug, Clone)]
enum Feed {
    Event(RuntimeEvent),
    /// The runtime stopped answering.
    Down,
}

// === impl SimRuntime ===

impl SimRuntime {
    pub fn new(options: SimOptions) -> Self {
        let state = Mutex::new(State::new(StdRng::seed_from_u64(options.seed)));
        SimRuntime(Arc::new(Node { options, state, feed: broadcast::channel(BACKLOG).0 }))
    }

    /// What breaks this node and repairs it.
    pub fn handle(&self) -> SimHandle {
        SimHandle(Arc::clone(&self.0))
    }
}

// === impl Node ===

impl Node {
    /// Lets the time of an operation pass, and decides whether it fails.
    async fn pass(&self, operation: SimOperation) -> Result<()> {
        let latency = {
            let mut state = self.state();
            let Range { start, end } = self.options.latency;
            if start < end { state.random.random_range(start..end) } else { start }
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let began = Instant::now();
        while self.feed.len() > BACKLOG / 4 && began.elapsed() < PATIENCE {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        let mut state = self.state();
        if state.is_down
            || (self.options.fault_rate > 0.0 && state.random.random::<f64>() < self.options.fault_rate)
        {
            return Err(down());
        }
        match state.failing.get_mut(&operation) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(Error::rejected("the simulation refused, as it was told to"))
            }
            _ => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever listens.
    fn tell(&self, event: Option<RuntimeEvent>) {
        if let Some(event) = event {
            self.feed.send(Feed::Event(event)).ok();
        }
    }

    /// Changes a container if it is there, and tells if that changed anything.
    fn change(&self, id: &str, change: impl FnOnce(&mut State, u64) -> bool) {
        let event = {
            let mut state = self.state();
            let Some((number, _)) = state.get(id) else { return };
            if change(&mut state, number) { state.event(number) } else { None }
        };
        self.tell(event);
    }

    fn run_state(&self, id: &str) -> Option<RunState> {
        self.state().get(id).map(|(_, container)| container.state)
    }
}

fn not_running() -> Error {
    Error::rejected("its container does not run")
}

fn down() -> Error {
    Error::unavailable("the simulated runtime does not answer")
}

fn snapshot_gone(name: &str) -> Error {
    Error::rejected(format!("the snapshot {name} is gone"))
}

fn gone() -> Error {
    Error::rejected("its container is gone")
}

#[async_trait]
impl Runtime for SimRuntime {
    async fn info(&self) -> Result<RuntimeInfo> {
        if self.0.state().is_down {
            return Err(down());
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(RuntimeInfo { name: "sim", version, node: "sim".to_owned(), id: "sim".to_owned() })
    }

    async fn image_prepare(
        &self,
        image: &ImageName,
        _progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Arc<Image>> {
        self.0.pass(SimOperation::ImagePrepare).await?;
        if self.0.state().missing_images.contains(image.as_str()) {
            return Err(Error::image_unavailable(format!("image {image} is not in the simulation")));
        }
        let id = format!("sim:{image}");
        Ok(Arc::new(Image { id, command: vec!["agent".to_owned()], ..Image::default() }))
    }

    async fn image_pinned(
        &self,
        image: &ImageName,
        _pin: &Pin,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Arc<Image>> {
        self.image_prepare(image, progress).await
    }

    async fn image_refresh(&self, image: &ImageName, _held: Option<&Pin>) -> Result<Pin> {
        let image = self.image_prepare(image, &|_| {}).await?;
        Ok(Pin { id: Some(image.id.clone()), digest: None })
    }

    async fn fleet_prepare(&self, fleet: &FleetName) -> Result<()> {
        self.0.pass(SimOperation::FleetPrepare).await?;
        self.0.state().networks.insert(fleet.clone());
        Ok(())
    }

    async fn fleet_remove(&self, fleet: &FleetName) -> Result<()> {
        self.0.pass(SimOperation::FleetRemove).await?;
        self.0.state().networks.remove(fleet);
        Ok(())
    }

    async fn fleet_list(&self) -> Result<Vec<FleetName>> {
        self.0.pass(SimOperation::List).await?;
        Ok(self.0.state().networks.iter().cloned().collect())
    }

    async fn instance_create(&self, config: &InstanceConfig) -> Result<Observed> {
        self.0.pass(SimOperation::Create).await?;
        let (owned, event) = {
            let mut state = self.0.state();
            let (id, is_new) = state.create(config).map_err(|_| {
                Error::name_taken(format!("a foreign container has the name {}", config.key.container_name()))
            })?;
            (state.owned(id), if is_new { state.event(id) } else { None })
        };
        self.0.tell(event);
        Ok(owned.ok_or_else(gone)?.observed)
    }

    async fn instance_update(&self, id: &str, resources: &Resources) -> Result<()> {
        self.0.pass(SimOperation::Update).await?;
        self.0.run_state(id).ok_or_else(gone)?;
        self.0.change(id, |state, id| state.update(id, Limits::from(resources)));
        Ok(())
    }

    async fn instance_start(&self, id: &str, secrets: InstanceSecrets) -> Result<()> {
        self.0.pass(SimOperation::Start).await?;
        let event = {
            let mut state = self.0.state();
            let (number, _) = state.get(id).ok_or_else(gone)?;
            let seed = secrets.seed.as_deref().unwrap_or_default();
            let started = state.start(number, &secrets, Timestamp::now()).map_err(|_| snapshot_gone(seed))?;
            if started { state.event(number) } else { None }
        };
        self.0.tell(event);
        Ok(())
    }

    async fn instance_stop(&self, id: &str) -> Result<()> {
        self.0.pass(SimOperation::Stop).await?;
        self.0.change(id, |state, id| state.stop(id, Timestamp::now()));
        Ok(())
    }

    async fn instance_remove(&self, id: &str) -> Result<()> {
        self.0.pass(SimOperation::Remove).await?;
        let event = {
            let mut state = self.0.state();
            let Some((number, _)) = state.get(id) else { return Ok(()) };
            let event = state.event(number);
            state.remove(number);
            event
        };
        self.0.tell(event);
        Ok(())
    }

    async fn instance_rename(&self, id: &str, key: &InstanceKey) -> Result<()> {
        self.0.pass(SimOperation::Rename).await?;
        let event = {
            let mut state = self.0.state();
            let (number, _) = state.get(id).ok_or_else(gone)?;
            let renamed = state.rename(number, None).map_err(|_| {
                Error::name_taken(format!("another container has the name {}", key.container_name()))
            })?;
            if renamed { state.event(number) } else { None }
        };
        self.0.tell(event);
        Ok(())
    }

    async fn data_list(&self, fleet: &FleetName) -> Result<Vec<InstanceKey>> {
        self.0.pass(SimOperation::List).await?;
        Ok(self.0.state().data.iter().filter(|key| key.fleet == *fleet).cloned().collect())
    }

    async fn data_remove(&self, key: &InstanceKey) -> Result<()> {
        self.0.pass(SimOperation::DataRemove).await?;
        self.0.state().data.remove(key);
        Ok(())
    }

    async fn instance_inspect(&self, id: &str) -> Result<Option<Owned>> {
        self.0.pass(SimOperation::Inspect).await?;
        let state = self.0.state();
        Ok(state.get(id).and_then(|(number, _)| state.owned(number)))
    }

    async fn instance_list(&self) -> Result<Vec<Owned>> {
        self.0.pass(SimOperation::List).await?;
        let state = self.0.state();
        Ok(state.ids().filter_map(|id| state.owned(id)).collect())
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent>>> {
        self.0.pass(SimOperation::Events).await?;
        let events = stream::unfold(Some(self.0.feed.subscribe()), |feed| async {
            let mut feed = feed?;
            Some(match feed.recv().await {
                Ok(Feed::Event(event)) => (Ok(event), Some(feed)),
                // Who missed events lists everything again, as after a lost connection.
                Ok(Feed::Down) | Err(RecvError::Lagged(_)) => (Err(down()), None),
                Err(RecvError::Closed) => return None,
            })
        });
        Ok(events.boxed())
    }

    async fn takes_snapshots(&self) -> Result<bool> {
        Ok(true)
    }

    async fn snapshot_create(&self, id: &str, name: &str) -> Result<SnapshotTaken> {
        self.0.pass(SimOperation::SnapshotCreate).await?;
        let mut state = self.0.state();
        let known = state.snapshots.get(name).cloned();
        let disk = known.or_else(|| state.disk(id).cloned()).ok_or_else(not_running)?;
        let taken = SnapshotTaken { digest: disk.digest(), size_bytes: disk.size() };
        state.snapshots.insert(name.into(), disk);
        Ok(taken)
    }

    async fn snapshot_restore(&self, id: &str, name: &str) -> Result<()> {
        self.0.pass(SimOperation::SnapshotRestore).await?;
        let mut state = self.0.state();
        let kept = state.snapshots.get(name).cloned().ok_or_else(|| snapshot_gone(name))?;
        *state.disk(id).ok_or_else(not_running)? = kept;
        Ok(())
    }

    async fn snapshot_remove(&self, name: &str) -> Result<()> {
        self.0.pass(SimOperation::SnapshotRemove).await?;
        self.0.state().snapshots.remove(name);
        Ok(())
    }

    async fn snapshot_list(&self) -> Result<Vec<String>> {
        self.0.pass(SimOperation::List).await?;
        Ok(self.0.state().snapshots.keys().map(ToString::to_string).collect())
    }

    /// One line at the start of the last run, and one at its end.
    async fn logs(&self, id: &str, options: &LogOptions) -> Result<BoxStream<'static, Result<LogChunk>>> {
        self.0.pass(SimOperation::Logs).await?;
        let mut feed = self.0.feed.subscribe();
        let run_state = self.0.run_state(id).ok_or_else(gone)?;
        let since = options.since;
        let mut present = lines(run_state);
        let shown = options.tail.map_or(present.len(), |tail| present.len().min(tail as usize));
        present.drain(..present.len() - shown);
        let follows = options.follow && !matches!(run_state, RunState::Exited { .. });
        let (node, id) = (Arc::clone(&self.0), id.to_owned());
        let rest = async move {
            let seen = lines(run_state).len();
            loop {
                match node.run_state(&id) {
                    Some(state @ RunState::Exited { .. }) if follows => return lines(state).split_off(seen),
                    Some(_) if follows => {}
                    _ => return Vec::new(),
                }
                if matches!(feed.recv().await, Err(RecvError::Closed)) {
                    return Vec::new();
                }
            }
        };
        let chunks = stream::iter(present).chain(rest.into_stream().flat_map(stream::iter));
        let wanted =
            chunks.filter(move |chunk| std::future::ready(since.is_none_or(|since| chunk.time >= since)));
        Ok(wanted.map(Ok).boxed())
    }
}

fn lines(state: RunState) -> Vec<LogChunk> {
    let line = |time, text: String| LogChunk { time, stream: LogStream::Stdout, bytes: Bytes::from(text) };
    let started = state.started_at().map(|time| line(time, "started\n".to_owned()));
    let exited = match state {
        RunState::Exited { exit, .. } => {
            Some(line(exit.finished_at, format!("exited with code {}\n", exit.code)))
        }
        _ => None,
    };
    started.into_iter().chain(exited).collect()
}
