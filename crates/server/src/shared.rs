//! What the parts of a server share.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use chassis_api::Pull;
use chassis_core::{AgentKey, NodeName, Opening, RestartBudget};
use chassis_runtime::Runtime;
use chassis_spec::{FleetName, Strategy};
use chassis_store::{AgentRecord, Store};
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, watch};

use crate::api::keyed::InFlight;
use crate::auth::Auth;
use crate::closing::Closing;
use crate::controller::AgentController;
use crate::data_dir::DataDir;
use crate::download::Downloads;
use crate::follow::Fleets;
use crate::kept_logs::KeptLogs;
use crate::lead::Lead;
use crate::listen::DoorPlates;
use crate::metrics::Metrics;
use crate::nodes::{Health, NodeLink, Nodes};
use crate::options::{EnvironmentOptions, Options};
use crate::schedule::Schedule;
use crate::snapshot::Snapshots;
use crate::state::AgentState;

/// Containers that are made or started at the same time. More does not make Docker faster: it works through them on
/// the machine's cores, behind locks of its own (`make bench` prints the raw API at several).
fn concurrency() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores * 4).clamp(4, 32)
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) nodes: Nodes,
    pub(crate) schedule: Schedule,
    /// Which of the nodes that would do, where nobody says it.
    pub(crate) placement: Strategy,
    pub(crate) data_dir: DataDir,
    pub(crate) kept_logs: KeptLogs,
    pub(crate) auth: Auth,
    pub(crate) in_flight: InFlight,
    pub(crate) metrics: Metrics,
    pub(crate) started_at: Timestamp,
    pub(crate) background: bool,
    pub(crate) runtime_name: &'static str,
    /// What a YAML may open beyond its agent's sandbox, and which paths of the host.
    pub(crate) allowed: BTreeSet<Opening>,
    pub(crate) allowed_host_paths: Vec<PathBuf>,
    pub(crate) environments: EnvironmentOptions,
    /// Programs of environments' agents.
    pub(crate) downloads: Downloads,
    /// The most snapshots of one environment; 0 for as many as it likes.
    pub(crate) snapshot_quota: u32,
    pub(crate) snapshots: Snapshots,
    pub(crate) node: String,
    pub(crate) doors: DoorPlates,
    /// What this server is called where there are several.
    pub(crate) server_name: String,
    /// The instances were moved to this node.
    pub(crate) claim_node: bool,
    /// Whether this server acts.
    pub(crate) lead: Lead,
    /// The fleets as they were last seen.
    pub(crate) fleets: Fleets,
    agents: RwLock<HashMap<AgentKey, Arc<AgentController>>>,
    /// Changes with every change of an instance, an agent or a fleet.
    pub(crate) changed: watch::Sender<()>,
    /// Slots for the work that keeps the runtime busy.
    pub(crate) work: Semaphore,
    /// Restarts of unhealthy instances, by fleet.
    budgets: Mutex<HashMap<FleetName, RestartBudget>>,
    /// Pulls under way, by image.
    pulls: Mutex<HashMap<String, Pull>>,
    /// Fleets whose deletion was asked for and has not ended, and what is in its way.
    ending: Mutex<HashMap<FleetName, Option<String>>>,
    /// Those of them whose last step is under way.
    finishing: Mutex<HashSet<FleetName>>,
    /// Asks the server to end.
    pub(crate) stop: Notify,
    /// What those notice of its end who are connected.
    pub(crate) closing: Closing,
}

impl Shared {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        runtime: Arc<dyn Runtime>,
        own: &NodeName,
        data_dir: DataDir,
        auth: Auth,
        doors: DoorPlates,
        options: &Options,
    ) -> Arc<Self> {
        let kept_logs = KeptLogs::new(data_dir.kept_logs(), options.kept_logs_max);
        let downloads = data_dir.downloads();
        let metrics = Metrics::default();
        store.commit_observe(metrics.commit_observer());
        let lead = Lead::new(options.database.is_some(), &*store);
        Arc::new(Shared {
            store,
            nodes: Nodes::new(NodeLink::own(own.clone(), runtime, options.runtime.kind())),
            schedule: Schedule::new(options.runtime.kind()),
            placement: options.placement,
            data_dir,
            kept_logs,
            auth,
            in_flight: InFlight::default(),
            metrics,
            started_at: Timestamp::now(),
            background: options.background,
            runtime_name: options.runtime.name(),
            allowed: options.allowed.clone(),
            allowed_host_paths: options.allowed_host_paths.clone(),
            environments: options.environments.clone(),
            downloads: Downloads::new(options.environments.downloads.clone(), downloads),
            node: own.to_string(),
            snapshot_quota: options.snapshot_quota,
            snapshots: Snapshots::default(),
            doors,
            server_name: options.server_name.clone(),
            claim_node: options.claim_node,
            lead,
            fleets: Fleets::default(),
            agents: RwLock::default(),
            changed: watch::Sender::new(()),
            work: Semaphore::new(concurrency()),
            budgets: Mutex::default(),
            pulls: Mutex::default(),
            ending: Mutex::default(),
            finishing: Mutex::default(),
            stop: Notify::new(),
            closing: Closing::default(),
        })
    }

    pub(crate) fn agent(&self, key: &AgentKey) -> Option<Arc<AgentController>> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// All agents by name.
    pub(crate) fn agents(&self) -> Vec<Arc<AgentController>> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        let mut agents: Vec<_> = agents.values().cloned().collect();
        agents.sort_by(|left, right| left.key().cmp(right.key()));
        agents
    }

    /// The controller of an agent, made if there is none; else the record is returned.
    pub(crate) fn agent_or_insert(&self, record: AgentRecord) -> (Arc<AgentController>, Option<AgentRecord>) {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&record.agent.key) {
            return (Arc::clone(agent), Some(record));
        }
        let agent = Arc::new(AgentController::new(AgentState::new(record)));
        agents.insert(agent.key().clone(), Arc::clone(&agent));
        (agent, None)
    }

    /// Takes a controller away, unless another one has its agent by now.
    pub(crate) fn agent_remove(&self, agent: &Arc<AgentController>) {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        if agents.get(agent.key()).is_some_and(|present| Arc::ptr_eq(present, agent)) {
            agents.remove(agent.key());
        }
        drop(agents);
        self.changed.send_replace(());
    }

    /// Takes one restart out of the fleet's budget, or says when to ask again.
    pub(crate) fn restart_allow(
        &self,
        fleet: &FleetName,
        instances: u32,
        now: Timestamp,
    ) -> Result<(), Timestamp> {
        lock(&self.budgets).entry(fleet.clone()).or_default().take(instances, now)
    }

    /// True while an agent of the same fleet that comes before this one is not through with a restart that was asked for
    /// by the same request: one request has one time.
    pub(crate) fn restarts_earlier(&self, key: &AgentKey, asked: Timestamp, now: Timestamp) -> bool {
        let before =
            |agent: &AgentController| agent.key().fleet == key.fleet && agent.key().agent < key.agent;
        self.agents().iter().any(|agent| before(agent) && agent.state().is_restarting(asked, now))
    }

    /// The instances of a fleet.
    pub(crate) fn fleet_size(&self, fleet: &FleetName) -> u32 {
        let agents = self.agents().into_iter().filter(|agent| agent.key().fleet == *fleet);
        let count = agents.map(|agent| agent.state().slots.len()).sum::<usize>();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Pulls under way, by image.
    pub(crate) fn pulls(&self) -> MutexGuard<'_, HashMap<String, Pull>> {
        lock(&self.pulls)
    }

    /// Fleets whose deletion was asked for and has not ended, and what is in its way.
    pub(crate) fn ending(&self) -> MutexGuard<'_, HashMap<FleetName, Option<String>>> {
        lock(&self.ending)
    }

    /// Fleets whose last agent is gone and that are being taken away.
    pub(crate) fn finishing(&self) -> MutexGuard<'_, HashSet<FleetName>> {
        lock(&self.finishing)
    }

    /// There may be containers of instances that were unknown until now. Who acts makes them itself, and needs no list.
    pub(crate) fn relist_if_observing(&self) {
        if !self.lead.acts() {
            self.nodes.all().iter().for_each(|node| node.relist.notify_one());
        }
    }

    /// For how many seconds what is known of fleets and agents may have been out of date; none while the database answers.
    pub(crate) fn stale_seconds(&self) -> Option<u64> {
        let since = self.store.unavailable_since()?;
        u64::try_from(Timestamp::now().duration_since(since).as_secs()).ok()
    }

    /// True while it is not yet known whether the runtime answers.
    pub(crate) fn just_started(&self) -> bool {
        matches!(*self.own().health.borrow(), Health::Unknown)
    }
}

/// Locks; what a thread that panicked left behind is still consistent, because no lock here is held over a decision.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a node on this machine is called.
pub(crate) fn machine_name() -> NodeName {
    NodeName::of_machine(&rustix::system::uname().nodename().to_string_lossy())
}
