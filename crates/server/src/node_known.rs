//! The nodes as people see them, in whichever dialect they ask, and what they want of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use chassis_core::{Amounts, Architecture, Duty, Liveness, NodeName, NodeSpec, NodeState};
use chassis_store::{NodeChosen, NodeRecord};
use jiff::Timestamp;

use crate::api::failure::{Failure, Result};
use crate::api::targets::nearest;
use crate::failpoint::failpoint;
use crate::node_stats;
use crate::nodes::{self, NodeLink};
use crate::schedule::request;
use crate::shared::Shared;

/// Instances on the server's own node, at most: as many as a fleet's network has addresses.
const SLOTS: u64 = 10_000;

/// A node with what is known of it at this moment.
#[derive(Debug, Clone)]
pub(crate) struct KnownNode {
    pub(crate) record: NodeRecord,
    /// It is the only one, and in no store.
    pub(crate) is_alone: bool,
    pub(crate) live: Live,
}

/// What changes from one moment to the next.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) liveness: Liveness,
    pub(crate) used: Amounts,
    pub(crate) heard_at: Option<Timestamp>,
}

impl KnownNode {
    pub(crate) fn name(&self) -> &NodeName {
        self.record.name()
    }

    pub(crate) fn state(&self) -> NodeState {
        NodeState::of(self.live.liveness, self.record.duty)
    }
}

impl Shared {
    /// By name; at least the own one.
    pub(crate) async fn nodes_known(&self) -> Result<Vec<KnownNode>> {
        let mut records = self.store.node_list().await?;
        let is_alone = records.is_empty();
        if is_alone {
            records.push(self.own_record().await?);
        }
        let mut lives = self.nodes_live();
        let known = records.into_iter().map(|record| {
            let live = lives.remove(record.name()).unwrap_or_else(|| unheard(&record));
            KnownNode { record, is_alone, live }
        });
        Ok(known.collect())
    }

    /// What is known just now of the nodes that this server watches. Who acts has it from the scheduler; others know no more
    /// than whether they answer.
    fn nodes_live(&self) -> BTreeMap<NodeName, Live> {
        let taken = if self.schedule.is_open() { BTreeMap::new() } else { self.taken() };
        let live = |node: &NodeLink| match self.schedule.standing(&node.name) {
            Some(standing) => standing,
            None => Live {
                liveness: if node.is_up() { Liveness::Alive } else { Liveness::Suspect },
                used: taken.get(&node.name).copied().unwrap_or_default(),
                heard_at: node.is_up().then(Timestamp::now),
            },
        };
        self.nodes.all().iter().map(|node| (node.name.clone(), live(node))).collect()
    }

    /// How many nodes are in each state. A server that does not schedule knows no more than whether they answer.
    pub(crate) fn node_states(&self) -> BTreeMap<NodeState, u64> {
        let states = [
            NodeState::Active,
            NodeState::Cordoned,
            NodeState::Draining,
            NodeState::Suspect,
            NodeState::Down,
        ];
        let mut counts: BTreeMap<NodeState, u64> = states.into_iter().map(|state| (state, 0)).collect();
        for node in self.nodes.all() {
            let known = self.schedule.state(&node.name);
            let state =
                known.unwrap_or_else(|| if node.is_up() { NodeState::Active } else { NodeState::Suspect });
            *counts.entry(state).or_default() += 1;
        }
        counts
    }

    /// What the instances of each node take.
    fn taken(&self) -> BTreeMap<NodeName, Amounts> {
        let mut taken: BTreeMap<NodeName, Amounts> = BTreeMap::new();
        for agent in self.agents() {
            let state = agent.state();
            for (number, slot) in state.slots.iter().filter(|(_, slot)| !slot.is_extra()) {
                if let Some(node) = self.nodes.of(slot.placed.as_ref()) {
                    let request =
                        request(state.instance_key(*number), &state.spec, None, self.schedule.usual());
                    let sum = taken.entry(node.name.clone()).or_default();
                    *sum = sum.plus(request.demand.amounts);
                }
            }
        }
        taken
    }

    /// One of them. Of a name that is none's, with that which was probably meant.
    pub(crate) async fn node_known(&self, name: &NodeName) -> Result<KnownNode> {
        let mut nodes = self.nodes_known().await?;
        if let Some(at) = nodes.iter().position(|node| node.record.name() == name) {
            return Ok(nodes.swap_remove(at));
        }
        let names: Vec<String> = nodes.iter().map(|node| node.record.name().to_string()).collect();
        let next = match nearest(name.as_str(), &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`chassis node list` shows those that there are".to_owned(),
        };
        Err(Failure::not_found("node_not_found", format!("there is no node `{name}`; {next}")))
    }

    /// What is wanted of a node from now on.
    pub(crate) async fn node_assign(
        &self,
        name: &NodeName,
        duty: Duty,
        expected: Option<u64>,
    ) -> Result<KnownNode> {
        let known = self.node_known(name).await?;
        if !known.is_alone {
            self.store.node_assign(name, duty, expected).await?;
            self.schedule.nodes_changed();
            return self.node_known(name).await;
        }
        check_alone(&known, expected)?;
        if let Duty::Draining(_) = duty {
            let detail =
                "there is no other node that could take what this one has; join one with `chassis node join`";
            return Err(Failure::new(StatusCode::CONFLICT, "node_alone", detail));
        }
        self.store.node_cordon(duty == Duty::Cordoned).await?;
        self.node_known(name).await
    }

    /// Forgets a node that has nothing any more; with `force` one that is down, and will never be back.
    pub(crate) async fn node_remove(
        self: &Arc<Self>,
        name: &NodeName,
        expected: Option<u64>,
        force: bool,
    ) -> Result<()> {
        let known = self.node_known(name).await?;
        if known.is_alone {
            check_alone(&known, expected)?;
            return Err(chassis_store::Error::NodeIsOwn(name.clone()).into());
        }
        // What is only there during a rollout is in no store.
        let extra = self.agents().iter().find_map(|agent| agent.state().extra_on(name));
        match extra {
            Some(instance) if !force => {
                let detail = format!(
                    "node `{name}` has {instance} until the end of a rollout; `chassis rollout status {instance}` shows how \
                     far that is"
                );
                return Err(Failure::new(StatusCode::CONFLICT, "node_in_use", detail));
            }
            _ => {}
        }
        if force {
            self.store.node_abandon(name, expected).await?;
            failpoint("node_abandon:after");
        } else {
            self.store.node_remove(name, expected).await?;
        }
        nodes::refresh_surely(Arc::clone(self)).await;
        Ok(())
    }

    /// The own node of a chassis that is alone.
    async fn own_record(&self) -> chassis_store::Result<NodeRecord> {
        let duty = if self.store.node_is_cordoned().await? { Duty::Cordoned } else { Duty::Open };
        Ok(NodeRecord {
            spec: self.own_spec(),
            chosen: NodeChosen::default(),
            url: None,
            identity: None,
            fingerprint: None,
            duty,
            is_down: false,
            version: 0,
            registered_at: self.started_at,
            updated_at: self.started_at,
        })
    }

    /// What the machine is that this server runs on.
    pub(crate) fn own_spec(&self) -> NodeSpec {
        let stats = node_stats::read(&self.node);
        let storage = rustix::fs::statvfs(self.data_dir.root()).ok();
        let runtime = self.schedule.usual();
        NodeSpec {
            name: NodeName::of_machine(&self.node),
            capacity: Amounts {
                cpu_millis: stats.as_ref().map_or(0, |stats| u64::from(stats.cores) * 1000),
                memory_bytes: stats.map_or(0, |stats| stats.memory_bytes),
                disk_bytes: storage.map_or(0, |found| found.f_blocks.saturating_mul(found.f_frsize)),
                slots: SLOTS,
            },
            architecture: std::env::consts::ARCH.parse().unwrap_or(Architecture::Amd64),
            runtimes: [runtime].into(),
            region: None,
            labels: BTreeMap::new(),
        }
    }
}

fn unheard(record: &NodeRecord) -> Live {
    let liveness = if record.is_down { Liveness::Down } else { Liveness::Suspect };
    Live { liveness, used: Amounts::default(), heard_at: None }
}

fn check_alone(known: &KnownNode, expected: Option<u64>) -> Result<()> {
    let (name, found) = (known.record.name(), known.record.version);
    match expected {
        Some(expected) if expected != found => {
            let what = format!("node `{name}`");
            Err(chassis_store::Error::VersionConflict { what, expected, found }.into())
        }
        _ => Ok(()),
    }
}
