//! What a simulated node holds: as little per instance as will do, for ten thousand of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use chassis_core::environment::DIRECTORY;
use chassis_core::{Exit, InstanceKey, Limits, Observed, RunState};
use chassis_spec::FleetName;
use jiff::Timestamp;
use rand::rngs::StdRng;

use super::SimOperation;
use crate::{InstanceConfig, InstanceSecrets, Owned, PlacedFile, RuntimeEvent};

/// The code of an agent that was asked to stop: 128 and SIGTERM.
const STOPPED: i32 = 143;

#[derive(Debug)]
pub(super) struct State {
    pub(super) random: StdRng,
    pub(super) is_down: bool,
    pub(super) failing: HashMap<SimOperation, u32>,
    pub(super) missing_images: BTreeSet<String>,
    pub(super) networks: BTreeSet<FleetName>,
    /// Instances that have tier 1 data.
    pub(super) data: BTreeSet<InstanceKey>,
    /// Names of containers that are somebody else's.
    pub(super) foreign: BTreeSet<String>,
    containers: BTreeMap<u64, Container>,
    pub(super) snapshots: BTreeMap<Box<str>, Disk>,
    /// Containers by the names that they have now.
    names: HashMap<Box<str>, u64>,
    next_id: u64,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) key: InstanceKey,
    revision: u64,
    epoch: u64,
    leased: bool,
    limits: Limits,
    /// What somebody renamed it to.
    renamed: Option<Box<str>>,
    pub(super) state: RunState,
    disk: Disk,
}

/// Contents by path.
type Files = BTreeMap<Box<str>, Box<[u8]>>;

/// What changes in an instance that does nothing: what a snapshot keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Disk {
    /// How often it was started.
    starts: u32,
    /// What it was given, but for what is in memory.
    files: Option<Arc<Files>>,
}

impl Disk {
    pub(super) fn digest(&self) -> String {
        let mut context = Context::new(&SHA256);
        context.update(&self.starts.to_be_bytes());
        for (path, content) in self.files.iter().flat_map(|files| files.iter()) {
            for part in [path.as_bytes(), content] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
        }
        let digest = context.finish();
        digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }

    pub(super) fn size(&self) -> u64 {
        let files = self.files.iter().flat_map(|files| files.values());
        files.map(|content| content.len() as u64).sum::<u64>() + u64::from(u32::BITS / 8)
    }

    /// What a run finds: the files that are given at each start, and one start more unless it goes on from a snapshot.
    fn run(&mut self, placed: &[PlacedFile], goes_on: bool) {
        self.starts += u32::from(!goes_on);
        let kept = placed.iter().filter(|file| !Path::new(file.path.as_str()).starts_with(DIRECTORY));
        for file in kept {
            let files = Arc::make_mut(self.files.get_or_insert_default());
            files.insert(file.path.as_str().into(), file.content.as_slice().into());
        }
    }
}

/// Why a container cannot be made.
#[derive(Debug)]
pub(super) struct Taken;

impl State {
    pub(super) fn new(random: StdRng) -> State {
        State {
            random,
            is_down: false,
            failing: HashMap::new(),
            missing_images: BTreeSet::new(),
            networks: BTreeSet::new(),
            data: BTreeSet::new(),
            foreign: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            containers: BTreeMap::new(),
            names: HashMap::new(),
            next_id: 1,
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<(u64, &Container)> {
        let number = parse_id(id)?;
        Some((number, self.containers.get(&number)?))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.containers.keys().copied()
    }

    /// The instance's container, whatever its name is.
    pub(super) fn find(&self, key: &InstanceKey) -> Option<u64> {
        let is_its = |id: &u64| self.containers.get(id).is_some_and(|container| container.key == *key);
        let named = self.names.get(key.container_name().as_str()).copied().filter(is_its);
        named.or_else(|| self.ids().find(is_its))
    }

    pub(super) fn owned(&self, id: u64) -> Option<Owned> {
        let container = self.containers.get(&id)?;
        let observed = Observed {
            id: format_id(id).into(),
            revision: container.revision,
            name_is_right: container.renamed.is_none(),
            limits: container.limits,
            state: container.state,
            image_check: None,
        };
        let (epoch, leased) = (container.epoch, container.leased);
        Some(Owned { key: container.key.clone(), epoch, leased, observed })
    }

    pub(super) fn event(&self, id: u64) -> Option<RuntimeEvent> {
        let container = self.containers.get(&id)?;
        Some(RuntimeEvent::Instance { key: container.key.clone(), id: format_id(id).into() })
    }

    /// Makes a container, or finds the one of the same key and revision. Says whether it is new.
    pub(super) fn create(&mut self, config: &InstanceConfig) -> Result<(u64, bool), Taken> {
        let name = config.key.container_name();
        if self.foreign.contains(&name) {
            return Err(Taken);
        }
        if let Some(id) = self.names.get(name.as_str()).copied() {
            match self.containers.get(&id) {
                Some(container) if container.key != config.key => return Err(Taken),
                Some(container)
                    if container.revision == config.revision && container.epoch == config.epoch =>
                {
                    return Ok((id, false));
                }
                _ => self.remove(id),
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        let (key, revision) = (config.key.clone(), config.revision);
        let (epoch, leased) = (config.epoch, config.leased);
        let limits = Limits::from(&config.spec.resources);
        self.networks.insert(key.fleet.clone());
        self.data.insert(key.clone());
        let (state, disk) = (RunState::Created, Disk::default());
        let made = Container { key, revision, epoch, leased, limits, renamed: None, state, disk };
        self.containers.insert(id, made);
        self.names.insert(name.into(), id);
        Ok((id, true))
    }

    pub(super) fn remove(&mut self, id: u64) {
        if let Some(container) = self.containers.remove(&id) {
            self.names.remove(container.name().as_str());
        }
    }

    /// Renames a container, to its own name without another. True if that is news; an error if the name is taken.
    pub(super) fn rename(&mut self, id: u64, to: Option<&str>) -> Result<bool, Taken> {
        let Some(container) = self.containers.get_mut(&id) else { return Ok(false) };
        let name = to.map_or_else(|| container.key.container_name(), ToOwned::to_owned);
        if container.name() == name {
            return Ok(false);
        }
        if self.foreign.contains(&name) || self.names.contains_key(name.as_str()) {
            return Err(Taken);
        }
        self.names.remove(container.name().as_str());
        container.renamed = to.map(Into::into);
        self.names.insert(name.into(), id);
        Ok(true)
    }

    /// True if that is news.
    pub(super) fn update(&mut self, id: u64, limits: Limits) -> bool {
        self.containers
            .get_mut(&id)
            .is_some_and(|container| std::mem::replace(&mut container.limits, limits) != limits)
    }

    /// True if it was not running. An error if it was to go on from a snapshot that is not there.
    pub(super) fn start(&mut self, id: u64, given: &InstanceSecrets, now: Timestamp) -> Result<bool, Taken> {
        let Some(container) = self.containers.get_mut(&id) else { return Ok(false) };
        if matches!(container.state, RunState::Running { .. }) {
            return Ok(false);
        }
        let is_first = container.state == RunState::Created;
        let seed = given.seed.as_deref().filter(|_| is_first);
        if let Some(seed) = seed {
            container.disk = self.snapshots.get(seed).ok_or(Taken)?.clone();
        }
        container.disk.run(&given.placed, seed.is_some());
        container.state = RunState::Running { started_at: now };
        Ok(true)
    }

    /// What a running container has now.
    pub(super) fn disk(&mut self, id: &str) -> Option<&mut Disk> {
        let container = self.containers.get_mut(&parse_id(id)?)?;
        matches!(container.state, RunState::Running { .. }).then_some(&mut container.disk)
    }

    pub(super) fn stop(&mut self, id: u64, now: Timestamp) -> bool {
        self.exit(id, STOPPED, now)
    }

    /// Ends a run. True if there was one.
    pub(super) fn exit(&mut self, id: u64, code: i32, now: Timestamp) -> bool {
        match self.containers.get_mut(&id) {
            Some(container) if matches!(container.state, RunState::Running { .. }) => {
                let started_at = container.state.started_at().unwrap_or(now);
                let exit =
                    Exit { code, out_of_memory: false, unhealthy: false, unleased: false, finished_at: now };
                container.state = RunState::Exited { started_at, exit };
                true
            }
            _ => false,
        }
    }
}

impl Container {
    fn name(&self) -> String {
        self.renamed.as_ref().map_or_else(|| self.key.container_name(), ToString::to_string)
    }
}

pub(super) fn format_id(id: u64) -> String {
    format!("sim-{id}")
}

fn parse_id(id: &str) -> Option<u64> {
    id.strip_prefix("sim-")?.parse().ok()
}
