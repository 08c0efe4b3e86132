//! How a machine becomes a node: it is asked who it is before anything is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use chassis_api::Fingerprint;
use chassis_core::{Amounts, Architecture, InstanceKey, Liveness, NodeName, NodeSpec};
use chassis_node::wire::Engine;
use chassis_spec::RuntimeKind;
use chassis_store::{NodeChosen, NodeRecord, NodeRegistration};
use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::api::failure::{Failure, Result};
use crate::error::chain;
use crate::nodes;
use crate::shared::Shared;

/// A label's name and value, at most.
const LABEL_LONGEST: usize = 253;
const LABELS_MOST: usize = 64;
/// A node that answers and does not count after so long is told as it is then.
const COUNTS: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);
/// A node that says nothing of its engine for this long is not waited for.
const ENGINE_ASKED: Duration = Duration::from_secs(2);

/// A node that is to be, as somebody asks for it.
pub(crate) struct Joining {
    pub(crate) url: String,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) token: Zeroizing<String>,
    /// Instead of its own.
    pub(crate) name: Option<NodeName>,
    pub(crate) region: Option<Box<str>>,
    /// Besides its own.
    pub(crate) labels: BTreeMap<String, String>,
    /// Instead of its own, where it is not 0.
    pub(crate) capacity: Amounts,
    /// What it must be.
    pub(crate) architecture: Option<Architecture>,
}

/// A node that is one.
pub(crate) struct Joined {
    pub(crate) name: NodeName,
    /// It was known before.
    pub(crate) again: bool,
    pub(crate) warnings: Vec<String>,
}

impl Shared {
    /// Asks a machine who it is, and keeps it as a node.
    pub(crate) async fn node_join(
        self: &Arc<Self>,
        joining: Joining,
        expected: Option<u64>,
    ) -> Result<Joined> {
        check_labels(&joining.labels)?;
        let url = chassis_node::address(&joining.url)?.to_string();
        let hello = chassis_node::hello(&url, joining.fingerprint, &joining.token).await?;
        let has = hello.spec.architecture;
        if let Some(wanted) = joining.architecture.filter(|wanted| *wanted != has) {
            let detail =
                format!("the node is {has}, not {wanted}; leave the architecture out, or correct it");
            return Err(Failure::invalid("architecture_wrong", detail));
        }
        let mut warnings = Vec::new();
        if hello.engine.is_none() {
            warnings.push("its runtime does not answer yet: it gets nothing until it does".to_owned());
        }
        let name = joining.name.clone().unwrap_or_else(|| hello.spec.name.clone());
        let records = self.store.node_list().await?;
        if let Some(engine) = &hello.engine {
            let itself = |record: &NodeRecord| record.identity.as_ref() == Some(&hello.id);
            let names = records.iter().filter(|record| itself(record)).map(|record| record.name().clone());
            let itself = names.chain([name.clone()]).collect();
            warnings.extend(self.engine_shared(engine, &itself).await);
        }
        let known = records.into_iter().find(|node| *node.name() == name);
        let other = known.as_ref().filter(|known| is_other(known, &hello.id));
        let kept = known.as_ref().filter(|_| other.is_none()).map(|known| known.chosen.clone());
        let chosen = chosen(&joining, kept.unwrap_or_default());
        let spec = spec(name.clone(), &chosen, hello.spec, &mut warnings);
        warnings.extend(gets_little(&spec, self.schedule.usual()));
        if let Some(known) = other {
            if joining.name.is_none() {
                return Err(name_taken(known));
            }
            warnings.push(format!(
                "{name} was another machine until now, at {}; make sure that nothing runs there any more",
                known.url.as_deref().unwrap_or_default()
            ));
        }
        let registration = NodeRegistration {
            spec,
            chosen,
            url,
            identity: Some(hello.id),
            fingerprint: joining.fingerprint.map(|fingerprint| fingerprint.to_string()),
            token: joining.token,
        };
        let kept = self.data_kept().await?;
        self.store.node_register(registration, &self.own_spec(), kept, expected).await?;
        nodes::refresh_surely(Arc::clone(self)).await;
        self.node_await(&name).await;
        Ok(Joined { name, again: known.is_some(), warnings })
    }

    /// One that has just answered counts within moments, and whoever joined it is told so.
    async fn node_await(&self, name: &NodeName) {
        let is_there = || self.schedule.standing(name).is_some_and(|live| live.liveness == Liveness::Alive);
        let counts = async {
            while self.lead.acts() && !is_there() {
                sleep(LOOK).await;
            }
        };
        let _ = timeout(COUNTS, counts).await;
    }

    /// Whether another node that answers has the same engine. It is no more than a warning: a machine that was copied has
    /// the id of its original, and Docker before 24 one id for all Engines of a machine.
    async fn engine_shared(&self, engine: &Engine, itself: &BTreeSet<NodeName>) -> Option<String> {
        if engine.name == RuntimeKind::Sim.word() || engine.id.is_empty() {
            return None;
        }
        let others = self.nodes.there().into_iter().filter(|node| !itself.contains(&node.name));
        let asked = others.map(|node| async move {
            let info = timeout(ENGINE_ASKED, node.runtime.info()).await;
            info.is_ok_and(|info| info.is_ok_and(|info| info.id == engine.id)).then(|| node.name.clone())
        });
        let other = join_all(asked).await.into_iter().flatten().next()?;
        Some(format!(
            "its Docker Engine has the id of node {other}'s; if it is the same Engine, what that machine has is given out twice: \
             remove one of the two nodes (`chassis node remove`)"
        ))
    }

    /// The instances whose data is on the own node, as long as that is the only one: also those that are no more. Without it
    /// they would begin anew elsewhere.
    async fn data_kept(&self) -> Result<Vec<InstanceKey>> {
        let mut kept = Vec::new();
        if !self.nodes.is_alone() {
            return Ok(kept);
        }
        for fleet in self.store.fleet_list().await? {
            let found = self.own().runtime.data_list(&fleet.name).await.map_err(|error| {
                let detail = format!(
                    "cannot see whose data is on this machine, so that it stays theirs: {}; nothing was changed, try again when that \
                     is mended",
                    chain(&error)
                );
                Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            })?;
            kept.extend(found);
        }
        Ok(kept)
    }

    /// Keeps a machine as a node that does not answer yet: what it is, somebody else says. It gets nothing until it is heard.
    pub(crate) async fn node_join_unheard(
        self: &Arc<Self>,
        joining: Joining,
        capacity: Amounts,
    ) -> Result<Joined> {
        check_labels(&joining.labels)?;
        let url = chassis_node::address(&joining.url)?.to_string();
        let own = self.own_spec();
        let name = joining.name.clone().unwrap_or_else(|| NodeName::of_machine(&url));
        let known = self.store.node_list().await?.into_iter().find(|node| *node.name() == name);
        let again = known.is_some();
        let joining = Joining { name: None, ..joining };
        let chosen = chosen(&joining, known.map(|known| known.chosen).unwrap_or_default());
        let said = NodeSpec {
            name: name.clone(),
            capacity,
            architecture: joining.architecture.unwrap_or_default(),
            runtimes: own.runtimes.clone(),
            region: None,
            labels: BTreeMap::new(),
        };
        let spec = spec(name.clone(), &chosen, said, &mut Vec::new());
        let fingerprint = joining.fingerprint.map(|fingerprint| fingerprint.to_string());
        let registration =
            NodeRegistration { spec, chosen, url, identity: None, fingerprint, token: joining.token };
        let kept = self.data_kept().await?;
        self.store.node_register(registration, &own, kept, None).await?;
        nodes::refresh_surely(Arc::clone(self)).await;
        Ok(Joined { name, again, warnings: Vec::new() })
    }
}

/// What is chosen for a node: what is asked for now, and where that says nothing what was asked for before.
fn chosen(joining: &Joining, before: NodeChosen) -> NodeChosen {
    let or = |now: u64, before: u64| if now == 0 { before } else { now };
    let (now, mut labels) = (joining.capacity, before.labels);
    labels.extend(joining.labels.clone());
    NodeChosen {
        region: joining.region.clone().or(before.region),
        labels,
        capacity: Amounts {
            cpu_millis: or(now.cpu_millis, before.capacity.cpu_millis),
            memory_bytes: or(now.memory_bytes, before.capacity.memory_bytes),
            disk_bytes: or(now.disk_bytes, before.capacity.disk_bytes),
            slots: or(now.slots, before.capacity.slots),
        },
    }
}

/// What the node is here: what it says of itself, and what somebody wants to be different.
fn spec(name: NodeName, chosen: &NodeChosen, said: NodeSpec, warnings: &mut Vec<String>) -> NodeSpec {
    let NodeChosen { region, labels, capacity } = chosen;
    let mut chosen = |what: &str, asked: u64, has: u64| {
        if asked > has {
            warnings.push(format!("it gives more {what} than the node says to have: {asked}, not {has}"));
        }
        if asked == 0 { has } else { asked }
    };
    let capacity = Amounts {
        cpu_millis: chosen("thousandths of a core", capacity.cpu_millis, said.capacity.cpu_millis),
        memory_bytes: chosen("bytes of memory", capacity.memory_bytes, said.capacity.memory_bytes),
        disk_bytes: chosen("bytes of disk", capacity.disk_bytes, said.capacity.disk_bytes),
        slots: chosen("slots", capacity.slots, said.capacity.slots),
    };
    let mut all_labels = said.labels;
    all_labels.extend(labels.clone());
    NodeSpec { name, capacity, region: region.clone().or(said.region), labels: all_labels, ..said }
}

/// What the node does not get, because it cannot run what the agents of this server `usual`ly run on.
fn gets_little(spec: &NodeSpec, usual: RuntimeKind) -> Option<String> {
    if spec.runtimes.contains(&usual) {
        return None;
    }
    let NodeSpec { name, runtimes, .. } = spec;
    let all: Vec<&str> = runtimes.iter().map(|kind| kind.word()).collect();
    let has = format!("{name} runs {}, and this server's agents run on {}", all.join(", "), usual.word());
    // The default is what agents have that do not care: nobody can ask for it where something else is usual.
    let asked: Vec<String> = runtimes
        .iter()
        .filter(|kind| **kind != RuntimeKind::default())
        .map(|kind| format!("`runtime: {}`", kind.word()))
        .collect();
    Some(if asked.is_empty() {
        let usual = usual.word();
        format!("{has}: it gets nothing; start it with `--runtime {usual}` and a data directory of its own")
    } else {
        format!("{has} unless they say otherwise: it gets only those with {}", asked.join(" or "))
    })
}

fn is_other(known: &NodeRecord, identity: &str) -> bool {
    known.identity.as_deref().is_some_and(|known| known != identity)
}

fn name_taken(known: &NodeRecord) -> Failure {
    let (name, url) = (known.name(), known.url.as_deref().unwrap_or_default());
    let detail = format!(
        "another machine is node `{name}`, at {url}; give this one a name of its own, or the same if it takes the other's \
         place: `--name {name}`"
    );
    Failure::new(StatusCode::CONFLICT, "node_name_taken", detail)
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<()> {
    let is_short = |text: &str| (1..=LABEL_LONGEST).contains(&text.len());
    let wrong = labels.iter().find(|(name, value)| {
        !is_short(name)
            || value.len() > LABEL_LONGEST
            || name.chars().chain(value.chars()).any(char::is_control)
    });
    if wrong.is_none() && labels.len() <= LABELS_MOST {
        return Ok(());
    }
    let detail = format!(
        "a node has up to {LABELS_MOST} labels, each with a name and a value of up to {LABEL_LONGEST} printable characters"
    );
    Err(Failure::invalid("labels_wrong", detail))
}

impl From<chassis_node::Error> for Failure {
    fn from(error: chassis_node::Error) -> Failure {
        let detail = crate::error::chain(&error);
        match error {
            chassis_node::Error::Unusable { .. } => Failure::invalid(error.code(), detail),
            _ => Failure::new(StatusCode::BAD_GATEWAY, error.code(), detail),
        }
    }
}
