//! The nodes on which the instances run: the server's own, and those that were registered.
//!
//! A chassis that has no node but its own is *alone*: nothing is scheduled, and an instance without a place is on the own
//! node. What is known of each node is its own, so that one that is slow or away delays no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use std::fmt;
use std::time::Duration;

use chassis_core::{InstanceKey, Liveness, NodeName, Site};
use chassis_node::RemoteRuntime;
use chassis_runtime::Runtime;
use chassis_spec::RuntimeKind;
use chassis_store::{NodeRecord, Placed, Term};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};
use zeroize::Zeroizing;

use crate::error::chain;
use crate::follow;
use crate::heartbeat;
use crate::lead::{self, NotActing};
use crate::shared::Shared;
use crate::watch as runtime_watch;

/// Before the store is asked for the nodes again.
const PAUSE: Duration = Duration::from_secs(1);

/// One node, as this server reaches it.
#[derive(Debug)]
pub(crate) struct NodeLink {
    pub(crate) name: NodeName,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// The same, if it is elsewhere.
    pub(crate) remote: Option<Arc<RemoteRuntime>>,
    address: Option<Address>,
    pub(crate) is_own: bool,
    runtimes: BTreeSet<RuntimeKind>,
    /// Whether it answers; its error if it does not.
    pub(crate) health: watch::Sender<Health>,
    /// Somebody saw it fail: look whether it is still there.
    pub(crate) suspect: Notify,
    /// A container was seen that belongs to no instance known here: list them all.
    pub(crate) relist: Notify,
    /// Do not wait for the next heartbeat.
    pub(crate) touch: Notify,
    /// It is not one of this chassis any more.
    pub(crate) ended: watch::Sender<bool>,
}

/// How another node is reached.
#[derive(PartialEq, Eq)]
struct Address {
    url: String,
    fingerprint: Option<String>,
    token: Zeroizing<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    /// Not asked yet.
    Unknown,
    /// Its containers are known.
    Up {
        version: String,
    },
    Down {
        message: String,
    },
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Nodes {
    own: Arc<NodeLink>,
    others: RwLock<BTreeMap<NodeName, Arc<NodeLink>>>,
    /// Held while they are brought in line with the store.
    refreshing: tokio::sync::Mutex<()>,
}

// === impl Address ===

impl fmt::Debug for Address {
    /// Never the token.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Address").field(&self.url).finish()
    }
}

// === impl Health ===

impl Health {
    pub(crate) fn is_up(&self) -> bool {
        matches!(self, Health::Up { .. })
    }
}

// === impl NodeLink ===

impl NodeLink {
    /// The server's own.
    pub(crate) fn own(name: NodeName, runtime: Arc<dyn Runtime>, kind: RuntimeKind) -> Self {
        NodeLink {
            name,
            runtime,
            remote: None,
            address: None,
            is_own: true,
            runtimes: [kind].into(),
            health: watch::Sender::new(Health::Unknown),
            suspect: Notify::new(),
            relist: Notify::new(),
            touch: Notify::new(),
            ended: watch::Sender::new(false),
        }
    }

    fn remote(
        name: NodeName,
        address: Address,
        runtimes: BTreeSet<RuntimeKind>,
    ) -> Result<Self, chassis_node::Error> {
        let unusable =
            |error: chassis_api::NoFingerprint| chassis_node::Error::Unusable { message: error.to_string() };
        let fingerprint = address.fingerprint.as_deref().map(str::parse).transpose().map_err(unusable)?;
        let remote = Arc::new(RemoteRuntime::new(&name, &address.url, fingerprint, &address.token)?);
        let own = NodeLink::own(name, Arc::clone(&remote) as Arc<dyn Runtime>, RuntimeKind::default());
        Ok(NodeLink { remote: Some(remote), address: Some(address), is_own: false, runtimes, ..own })
    }

    pub(crate) fn is_up(&self) -> bool {
        self.health.borrow().is_up()
    }

    /// What runs its instances, in a word.
    pub(crate) fn runtime_word(&self) -> &'static str {
        self.runtimes.first().map_or("", |kind| kind.word())
    }

    /// Why nothing is known of what runs there, if that is so.
    pub(crate) fn down_message(&self) -> Option<String> {
        let health = self.health.borrow();
        match &*health {
            Health::Up { .. } => None,
            Health::Unknown if self.is_own => {
                Some("the server has just started and looks at what is there".to_owned())
            }
            Health::Unknown => Some(format!("node {} has not been heard yet", self.name)),
            Health::Down { message } => Some(message.clone()),
        }
    }
}

// === impl Nodes ===

impl Nodes {
    pub(crate) fn new(own: NodeLink) -> Self {
        Nodes { own: Arc::new(own), others: RwLock::default(), refreshing: tokio::sync::Mutex::default() }
    }

    pub(crate) fn own(&self) -> &Arc<NodeLink> {
        &self.own
    }

    /// True if the own node is the only one.
    pub(crate) fn is_alone(&self) -> bool {
        self.others.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn others(&self) -> BTreeMap<NodeName, Arc<NodeLink>> {
        self.others.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn all(&self) -> Vec<Arc<NodeLink>> {
        std::iter::once(Arc::clone(&self.own)).chain(self.others().into_values()).collect()
    }

    /// The own node, and those of the others that answer.
    pub(crate) fn there(&self) -> Vec<Arc<NodeLink>> {
        self.all().into_iter().filter(|node| node.is_own || node.is_up()).collect()
    }

    /// True if there is a node that can be asked.
    pub(crate) fn any_up(&self) -> bool {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        self.own.is_up() || others.values().any(|node| node.is_up())
    }

    pub(crate) fn get(&self, name: &NodeName) -> Option<Arc<NodeLink>> {
        if self.own.name == *name {
            return Some(Arc::clone(&self.own));
        }
        self.others.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// True if it is the id of a host, as Fuse calls them.
    pub(crate) fn is_host(&self, id: &str) -> bool {
        id.parse().is_ok_and(|name| self.get(&name).is_some())
    }

    /// True if there is a node with this runtime, whether or not it answers.
    pub(crate) fn has_runtime(&self, kind: RuntimeKind) -> bool {
        self.all().iter().any(|node| node.runtimes.contains(&kind))
    }

    /// Returns the one that had the name.
    fn insert(&self, link: Arc<NodeLink>) -> Option<Arc<NodeLink>> {
        self.others.write().unwrap_or_else(PoisonError::into_inner).insert(link.name.clone(), link)
    }

    fn remove(&self, name: &NodeName) {
        self.others.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The node of an instance that has this place; none if it has none, or the node is not known.
    pub(crate) fn of(&self, placed: Option<&Placed>) -> Option<Arc<NodeLink>> {
        match placed {
            Some(placed) => self.get(&placed.node),
            None if self.is_alone() => Some(Arc::clone(&self.own)),
            None => None,
        }
    }

    /// Why nothing is known of an instance that has this place, if that is so.
    pub(crate) fn unknown(&self, placed: Option<&Placed>) -> Option<String> {
        match self.of(placed) {
            Some(node) => node.down_message(),
            None => placed.map(|placed| format!("node {} has not been heard yet", placed.node)),
        }
    }

    /// True of a place on a node that has not been asked yet, since this server began.
    pub(crate) fn is_unheard(&self, placed: Option<&Placed>) -> bool {
        self.of(placed).is_some_and(|node| matches!(*node.health.borrow(), Health::Unknown))
    }

    /// The place of what was found on this node and is in no record.
    pub(crate) fn placed(&self, node: &NodeLink) -> Option<Placed> {
        let placed = Placed { node: node.name.clone(), epoch: 0, leased: false, ending: None };
        Some(placed).filter(|_| !self.is_alone())
    }

    /// What can be done about an instance that has this place.
    pub(crate) fn site(&self, placed: Option<&Placed>) -> Site {
        match (self.of(placed), placed) {
            (None, None) => Site::Nowhere,
            (None, Some(_)) => Site::Silent,
            (Some(link), _) if !link.is_up() => Site::Silent,
            // Alone again, there is nowhere to go.
            (Some(_), Some(Placed { ending: Some(_), .. })) if !self.is_alone() => Site::Leaving,
            (Some(_), _) => Site::Here,
        }
    }
}

// === impl Shared ===

impl Shared {
    /// The server's own node.
    pub(crate) fn own(&self) -> &NodeLink {
        self.nodes.own()
    }

    /// True of a node that does not answer, or has not for long enough to get nothing new.
    pub(crate) fn is_silent(&self, node: &NodeLink) -> bool {
        let live = self.schedule.standing(&node.name);
        !node.is_up() || live.is_some_and(|live| live.liveness != Liveness::Alive)
    }

    /// The own node, and those of the others that are worth asking: one that is silent would hold up whoever asks it.
    pub(crate) fn nodes_answering(&self) -> Vec<Arc<NodeLink>> {
        self.nodes.all().into_iter().filter(|node| node.is_own || !self.is_silent(node)).collect()
    }

    /// The node that has the instance; the own one for what is nowhere. Not to be asked while an agent's state is held.
    pub(crate) fn node_of(&self, key: &InstanceKey) -> Arc<NodeLink> {
        let agent = self.agent(&key.agent_key());
        let placed = agent.and_then(|agent| agent.state().placed(key.number));
        self.nodes.of(placed.as_ref()).unwrap_or_else(|| Arc::clone(self.nodes.own()))
    }

    /// What runs the instance, for those who only look.
    pub(crate) fn runtime_of(&self, key: &InstanceKey) -> Arc<dyn Runtime> {
        Arc::clone(&self.node_of(key).runtime)
    }

    /// The same for those who decided in this term to change something on it. To be asked for right before each change. What
    /// has no place is where its data is.
    pub(crate) fn hands_on(&self, term: Term, key: &InstanceKey) -> Result<Arc<dyn Runtime>, NotActing> {
        let agent = self.agent(&key.agent_key());
        let (placed, home) = agent.map(|agent| agent.state().place_of(key.number)).unwrap_or_default();
        let named = placed.map(|placed| placed.node).or(home);
        let node = match named {
            Some(name) => self.nodes.get(&name).ok_or(NotActing)?,
            None => Arc::clone(self.nodes.own()),
        };
        self.hands_at(term, &node).map(Arc::clone)
    }
}

// === the other nodes, as the store has them ===

/// Begins to watch the nodes that were registered, and ends to watch those that are no more.
pub(crate) async fn refresh(shared: &Arc<Shared>) -> chassis_store::Result<()> {
    // One at a time: the later one sees at least as much.
    let _turn = shared.nodes.refreshing.lock().await;
    let records = shared.store.node_list().await?;
    if shared.nodes.is_alone() && !records.is_empty() {
        // Whatever there is has a place now: on the own node, where it was.
        follow::agents_load(shared).await?;
    }
    let named = records.iter().find(|record| record.is_own()).map(NodeRecord::name);
    if let Some(name) = named.filter(|name| **name != shared.own().name) {
        let why = format!(
            "another server has registered this machine as node {name}, and this one calls it {}; start this server again, so \
             that it does too",
            shared.own().name
        );
        lead::refuse(shared, why).await;
    }
    for record in &records {
        let Some(url) = &record.url else { continue };
        let token = shared.store.node_token(record.name()).await?;
        let address = Address { url: url.clone(), fingerprint: record.fingerprint.clone(), token };
        let known = shared.nodes.get(record.name());
        let runtimes = &record.spec.runtimes;
        let is_same =
            |known: &Arc<NodeLink>| known.address.as_ref() == Some(&address) && known.runtimes == *runtimes;
        if known.as_ref().is_some_and(is_same) {
            continue;
        }
        match NodeLink::remote(record.name().clone(), address, runtimes.clone()) {
            Ok(link) => begin(shared, &Arc::new(link)),
            Err(error) => {
                tracing::error!(node = %record.name(), error = chain(&error), "this node cannot be asked");
            }
        }
    }
    let mut gone = shared.nodes.others();
    gone.retain(|name, _| !records.iter().any(|record| record.name() == name));
    if !gone.is_empty() {
        // Who was to go with it is not to be made anew elsewhere.
        follow::agents_load(shared).await?;
    }
    for (name, link) in gone {
        shared.nodes.remove(&name);
        link.ended.send_replace(true);
        shared.agents().iter().for_each(|agent| agent.state().node_gone(&name));
    }
    shared.schedule.nodes_changed();
    shared.agents().iter().for_each(|agent| agent.wake());
    shared.changed.send_replace(());
    Ok(())
}

/// The same, tried until it succeeds.
pub(crate) async fn refresh_surely(shared: Arc<Shared>) {
    while let Err(error) = refresh(&shared).await {
        tracing::warn!(error = chain(&error), "cannot list the nodes, will try again");
        tokio::time::sleep(PAUSE).await;
    }
}

fn begin(shared: &Arc<Shared>, link: &Arc<NodeLink>) {
    if let Some(before) = shared.nodes.insert(Arc::clone(link)) {
        before.ended.send_replace(true);
    }
    spawn(shared, link);
}

/// Watches a node, and keeps in touch with it, until it is one no more.
pub(crate) fn spawn(shared: &Arc<Shared>, link: &Arc<NodeLink>) {
    let until_it_ends = |task: BoxFuture<'static, ()>| {
        let mut ended = link.ended.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = ended.wait_for(|ended| *ended) => {}
                () = task => {}
            }
        });
    };
    until_it_ends(runtime_watch::watch(Arc::clone(shared), Arc::clone(link)).boxed());
    until_it_ends(heartbeat::keep_in_touch(Arc::clone(shared), Arc::clone(link)).boxed());
}
