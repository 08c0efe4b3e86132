//! What every runtime does alike: cases for any [`Node`], whether its runtime is here or reached over the network.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part")]

#[path = "../support/mod.rs"]
pub mod support;

use std::sync::Arc;

use async_trait::async_trait;
use chassis_core::{Exit, InstanceKey, RunState};
use chassis_runtime::{
    DockerOptions, DockerRuntime, Error, InstanceConfig, InstanceSecrets, LogOptions, Runtime, RuntimeEvent,
    SimHandle, SimOptions, SimRuntime,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::json;
use support::{Docker, LocalImage, PATIENCE, config, docker, output, run, unique, wait_for};

/// Prints a line when it starts and one when it is stopped, and ends with 7 when it is told to crash.
const AGENT: &str =
    "echo started; trap 'echo stopping; exit 143' TERM; trap 'exit 7' USR1; while :; do sleep 0.05; done";

/// All cases, on a kind of node of which each has one of its own.
macro_rules! conformance {
    ($on:ident, $node:expr) => {
        mod $on {
            conformance! { @cases $node;
                every_step_of_a_life_may_be_repeated
                a_leftover_of_another_revision_gives_way
                list_and_inspect_agree
                every_change_is_an_event
                a_renamed_instance_gets_its_name_back
                a_foreign_container_is_never_touched
                a_fleet_comes_and_goes
                a_missing_image_is_named
                the_log_is_read_from_any_place
                a_snapshot_keeps_what_an_instance_is
                a_daemon_that_is_down_is_an_error
            }
        }
    };
    (@cases $node:expr; $($case:ident)*) => {
        $(#[tokio::test] async fn $case() { crate::suite::$case(&$node).await; })*
    };
}

/// A node, and what can befall it from outside.
#[async_trait]
pub trait Node: Sync {
    fn runtime(&self) -> &dyn Runtime;
    fn image(&self) -> &str;
    /// Ends the agent with code 7.
    fn crash(&self, key: &InstanceKey, id: &str);
    fn rename(&self, key: &InstanceKey, id: &str, name: &str);
    fn foreign_add(&self, name: &str);
    fn foreign_is_there(&self, name: &str) -> bool;
    fn foreign_remove(&self, name: &str);
    /// Makes sure that nobody can have this image.
    fn image_missing(&self) -> String;
    /// The same node, not answering.
    fn down(&self) -> Arc<dyn Runtime>;

    async fn instance(&self, fleet: &str) -> InstanceConfig {
        let spec = json!({ "image": self.image(), "command": ["sh", "-c", AGENT] });
        config(self.runtime(), fleet, spec).await
    }

    async fn started(&self, config: &InstanceConfig) -> String {
        let id = self.runtime().instance_create(config).await.unwrap().id;
        self.runtime().instance_start(&id, InstanceSecrets::default()).await.unwrap();
        if config.image.entrypoint.is_empty() && config.image.id.starts_with("sha256:") {
            support::wait_for_output(self.runtime(), &id, "started").await;
        }
        id.into()
    }
}

pub async fn every_step_of_a_life_may_be_repeated(node: &dyn Node) {
    let runtime = node.runtime();
    let config = node.instance(&unique("life")).await;
    let state =
        async |id: &str| runtime.instance_inspect(id).await.unwrap().map(|owned| owned.observed.state);

    let created = runtime.instance_create(&config).await.unwrap();
    assert_eq!((created.state, created.revision, created.name_is_right), (RunState::Created, 1, true));
    assert_eq!(runtime.instance_create(&config).await.unwrap(), created);

    let id = node.started(&config).await;
    let first = state(&id).await;
    assert!(matches!(first, Some(RunState::Running { .. })), "{first:?}");
    runtime.instance_start(&id, InstanceSecrets::default()).await.unwrap();
    assert_eq!(state(&id).await, first, "a second start changes nothing");

    for _ in 0..2 {
        runtime.instance_stop(&id).await.unwrap();
    }
    let stopped = state(&id).await;
    assert!(matches!(stopped, Some(RunState::Exited { exit: Exit { code: 143, .. }, .. })), "{stopped:?}");

    assert_eq!(node.started(&config).await, id, "a restart keeps the container");
    assert!(state(&id).await.unwrap().started_at() > first.unwrap().started_at());
    node.crash(&config.key, &id);
    let RunState::Exited { started_at, exit } =
        wait_for(runtime, &id, |state| matches!(state, RunState::Exited { .. })).await.observed.state
    else {
        unreachable!("it was waited for")
    };
    assert_eq!((exit.code, exit.out_of_memory), (7, false));
    assert!(exit.finished_at > started_at);

    for _ in 0..2 {
        runtime.instance_remove(&id).await.unwrap();
    }
    assert_eq!(state(&id).await, None);
    runtime.instance_stop(&id).await.unwrap();
    assert!(runtime.instance_start(&id, InstanceSecrets::default()).await.is_err());
    assert_ne!(&*runtime.instance_create(&config).await.unwrap().id, id);
    for _ in 0..2 {
        runtime.data_remove(&config.key).await.unwrap();
    }
}

pub async fn a_leftover_of_another_revision_gives_way(node: &dyn Node) {
    let runtime = node.runtime();
    let mut config = node.instance(&unique("leftover")).await;
    let old = node.started(&config).await;
    config.revision = 2;
    let new = runtime.instance_create(&config).await.unwrap();
    assert_eq!((new.revision, new.state), (2, RunState::Created));
    assert_eq!(runtime.instance_inspect(&old).await.unwrap(), None);
    assert_eq!(runtime.instance_list().await.unwrap().len(), 1);

    (config.epoch, config.leased) = (7, true);
    let placed = runtime.instance_create(&config).await.unwrap();
    assert_eq!(runtime.instance_create(&config).await.unwrap(), placed);
    let owned = runtime.instance_inspect(&placed.id).await.unwrap().unwrap();
    assert_eq!((owned.epoch, owned.leased), (7, true), "another placement is another container");
    assert_eq!(runtime.instance_inspect(&new.id).await.unwrap(), None);
}

pub async fn list_and_inspect_agree(node: &dyn Node) {
    let runtime = node.runtime();
    let fleet = unique("list");
    let mut config = node.instance(&fleet).await;
    let mut ids = Vec::new();
    for number in 1..=3 {
        config.key.number = number;
        ids.push(runtime.instance_create(&config).await.unwrap().id);
    }
    runtime.instance_start(&ids[1], InstanceSecrets::default()).await.unwrap();
    let mut listed = runtime.instance_list().await.unwrap();
    listed.sort_by_key(|owned| owned.key.number);
    assert_eq!(
        listed.iter().map(|owned| &owned.observed.id).collect::<Vec<_>>(),
        ids.iter().collect::<Vec<_>>()
    );
    for owned in listed {
        assert_eq!(runtime.instance_inspect(&owned.observed.id).await.unwrap(), Some(owned));
    }
    assert_eq!(runtime.instance_inspect("no-such-container").await.unwrap(), None);
}

pub async fn every_change_is_an_event(node: &dyn Node) {
    let runtime = node.runtime();
    let config = node.instance(&unique("events")).await;
    let mut events = runtime.events().await.unwrap();
    let id = runtime.instance_create(&config).await.unwrap().id;
    let expected = RuntimeEvent::Instance { key: config.key.clone(), id: id.clone() };
    until(&mut events, &expected).await;
    // Each change is awaited on a stream of its own, so that no event of an earlier one is taken for it.
    let mut events = runtime.events().await.unwrap();
    node.started(&config).await;
    until(&mut events, &expected).await;
    let mut events = runtime.events().await.unwrap();
    node.crash(&config.key, &id);
    // The last event comes when the end can be seen.
    while !matches!(
        runtime.instance_inspect(&id).await.unwrap().unwrap().observed.state,
        RunState::Exited { .. }
    ) {
        until(&mut events, &expected).await;
    }
    let mut events = runtime.events().await.unwrap();
    runtime.instance_remove(&id).await.unwrap();
    until(&mut events, &expected).await;
}

pub async fn a_renamed_instance_gets_its_name_back(node: &dyn Node) {
    let runtime = node.runtime();
    let config = node.instance(&unique("rename")).await;
    let name = config.key.container_name();
    let id = runtime.instance_create(&config).await.unwrap().id;
    let name_is_right = async || runtime.instance_inspect(&id).await.unwrap().unwrap().observed.name_is_right;
    node.rename(&config.key, &id, &unique("other"));
    assert!(!name_is_right().await);

    node.foreign_add(&name);
    let taken = runtime.instance_rename(&id, &config.key).await;
    assert!(matches!(taken, Err(Error::NameTaken { .. })), "{taken:?}");
    assert!(node.foreign_is_there(&name));
    node.foreign_remove(&name);

    for _ in 0..2 {
        runtime.instance_rename(&id, &config.key).await.unwrap();
        assert!(name_is_right().await);
    }
}

pub async fn a_foreign_container_is_never_touched(node: &dyn Node) {
    let runtime = node.runtime();
    let config = node.instance(&unique("foreign")).await;
    let name = config.key.container_name();
    node.foreign_add(&name);
    let taken = runtime.instance_create(&config).await;
    assert!(matches!(taken, Err(Error::NameTaken { .. })), "{taken:?}");
    assert!(taken.unwrap_err().to_string().contains(&name));
    assert!(node.foreign_is_there(&name));
    assert_eq!(runtime.instance_list().await.unwrap(), []);

    let mut events = runtime.events().await.unwrap();
    node.foreign_remove(&name);
    until(&mut events, &RuntimeEvent::Surroundings).await;
    runtime.instance_create(&config).await.unwrap();
}

pub async fn a_fleet_comes_and_goes(node: &dyn Node) {
    let runtime = node.runtime();
    let fleet = unique("fleet").parse().unwrap();
    for _ in 0..2 {
        runtime.fleet_prepare(&fleet).await.unwrap();
        assert_eq!(runtime.fleet_list().await.unwrap(), std::slice::from_ref(&fleet));
    }
    for _ in 0..2 {
        runtime.fleet_remove(&fleet).await.unwrap();
        assert_eq!(runtime.fleet_list().await.unwrap(), []);
    }
}

pub async fn a_missing_image_is_named(node: &dyn Node) {
    let image = node.image_missing();
    let missing = node.runtime().image_prepare(&image.parse().unwrap(), &|_| ()).await;
    assert!(matches!(missing, Err(Error::ImageUnavailable { .. })), "{missing:?}");
    assert!(missing.unwrap_err().to_string().contains(&image));
}

pub async fn the_log_is_read_from_any_place(node: &dyn Node) {
    let runtime = node.runtime();
    let config = node.instance(&unique("logs")).await;
    let id = node.started(&config).await;
    let followed = runtime.logs(&id, &LogOptions { follow: true, ..LogOptions::default() }).await.unwrap();
    runtime.instance_stop(&id).await.unwrap();
    // It ends, because the instance has.
    let followed = tokio::time::timeout(PATIENCE, followed.collect::<Vec<_>>()).await.unwrap();
    let followed: Vec<_> = followed.into_iter().map(Result::unwrap).collect();
    assert_eq!(followed.len(), 2, "{followed:?}");
    assert!(followed[0].time < followed[1].time);

    let read = async |options| {
        let chunks = runtime.logs(&id, &options).await.unwrap();
        chunks.map(Result::unwrap).collect::<Vec<_>>().await
    };
    assert_eq!(read(LogOptions::default()).await, followed);
    assert_eq!(read(LogOptions { tail: Some(1), ..LogOptions::default() }).await, followed[1..]);
    let since = LogOptions { since: Some(followed[1].time), ..LogOptions::default() };
    assert_eq!(read(since).await, followed[1..], "to the nanosecond");
    assert_eq!(output(runtime, &id).await.lines().next(), Some("started"));
    assert!(runtime.logs("no-such-container", &LogOptions::default()).await.is_err());
}

/// Where it can be kept: it is the same for the same state, comes back, and leaves nothing behind.
pub async fn a_snapshot_keeps_what_an_instance_is(node: &dyn Node) {
    let runtime = node.runtime();
    let config = node.instance(&unique("snapshot")).await;
    let created = runtime.instance_create(&config).await.unwrap().id;
    let early = runtime.snapshot_create(&created, "early").await;
    if !runtime.takes_snapshots().await.unwrap() {
        assert!(matches!(early, Err(Error::Unsupported { .. })), "{early:?}");
        return;
    }
    assert!(matches!(early, Err(Error::Rejected { .. })), "{early:?}");
    let id = node.started(&config).await;
    let taken = runtime.snapshot_create(&id, "one").await.unwrap();
    runtime.instance_stop(&id).await.unwrap();
    node.started(&config).await;
    assert_eq!(runtime.snapshot_create(&id, "one").await.unwrap(), taken, "it is there already");
    assert_ne!(runtime.snapshot_create(&id, "two").await.unwrap().digest, taken.digest);
    for _ in 0..2 {
        runtime.snapshot_restore(&id, "one").await.unwrap();
    }
    assert_eq!(runtime.snapshot_create(&id, "three").await.unwrap(), taken);

    let mut fork = node.instance(&unique("fork")).await;
    fork.key.number = 2;
    let fork = runtime.instance_create(&fork).await.unwrap().id;
    let seeded = |name: &str| InstanceSecrets { seed: Some(name.into()), ..InstanceSecrets::default() };
    assert!(runtime.instance_start(&fork, seeded("none")).await.is_err());
    runtime.instance_start(&fork, seeded("one")).await.unwrap();
    assert_eq!(runtime.snapshot_create(&fork, "four").await.unwrap(), taken);
    assert_eq!(runtime.snapshot_list().await.unwrap(), ["four", "one", "three", "two"]);
    for name in ["four", "one", "three", "two", "two"] {
        runtime.snapshot_remove(name).await.unwrap();
    }
    assert_eq!(runtime.snapshot_list().await.unwrap(), Vec::<String>::new());
    assert!(runtime.snapshot_restore(&id, "one").await.is_err());
}

pub async fn a_daemon_that_is_down_is_an_error(node: &dyn Node) {
    let config = node.instance(&unique("down")).await;
    let runtime = node.down();
    let errors = [
        runtime.info().await.err(),
        runtime.image_prepare(&config.spec.image, &|_| ()).await.err(),
        runtime.fleet_prepare(&config.key.fleet).await.err(),
        runtime.instance_create(&config).await.err(),
        runtime.instance_start("container", InstanceSecrets::default()).await.err(),
        runtime.instance_stop("container").await.err(),
        runtime.instance_remove("container").await.err(),
        runtime.instance_inspect("container").await.err(),
        runtime.instance_list().await.err(),
        runtime.events().await.err(),
        runtime.logs("container", &LogOptions::default()).await.err(),
    ];
    for (number, error) in errors.iter().enumerate() {
        assert!(matches!(error, Some(Error::Unavailable { .. })), "operation {number}: {error:?}");
    }
}

/// Reads events until the expected one comes.
async fn until(
    events: &mut BoxStream<'static, chassis_runtime::Result<RuntimeEvent>>,
    expected: &RuntimeEvent,
) {
    let wait = async {
        while let Some(event) = events.next().await {
            if event.unwrap() == *expected {
                return;
            }
        }
        panic!("the stream ended without {expected:?}");
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{expected:?} never came"));
}

pub struct DockerNode {
    pub docker: Docker,
    image: LocalImage,
}

impl DockerNode {
    pub fn new() -> DockerNode {
        DockerNode { docker: Docker::new(), image: LocalImage::busybox(&[], &[]) }
    }
}

#[async_trait]
impl Node for DockerNode {
    fn runtime(&self) -> &dyn Runtime {
        &*self.docker.runtime
    }

    fn image(&self) -> &str {
        &self.image.name
    }

    fn crash(&self, _: &InstanceKey, id: &str) {
        docker(&["kill", "--signal", "USR1", id]);
    }

    fn rename(&self, _: &InstanceKey, id: &str, name: &str) {
        docker(&["rename", id, name]);
    }

    fn foreign_add(&self, name: &str) {
        docker(&["create", "--name", name, &self.image.name, "true"]);
    }

    fn foreign_is_there(&self, name: &str) -> bool {
        run("docker", &["inspect", name]).status.success()
    }

    fn foreign_remove(&self, name: &str) {
        docker(&["rm", name]);
    }

    fn image_missing(&self) -> String {
        // Nothing listens there.
        "127.0.0.1:9/chassis/none:1".to_owned()
    }

    fn down(&self) -> Arc<dyn Runtime> {
        let runtime = DockerRuntime::connect(DockerOptions {
            docker_host: Some("unix:///nowhere/docker.sock".to_owned()),
            data_dir: self.docker.data_dir.clone(),
            server_id: self.docker.server_id.clone(),
            allowed_host_paths: Vec::new(),
            seccomp_dir: "/etc/chassis/seccomp".into(),
        });
        Arc::new(runtime.unwrap())
    }
}

pub struct SimNode {
    pub runtime: Arc<SimRuntime>,
    pub handle: SimHandle,
}

impl SimNode {
    pub fn new() -> SimNode {
        let runtime = SimRuntime::new(SimOptions::default());
        SimNode { handle: runtime.handle(), runtime: Arc::new(runtime) }
    }
}

#[async_trait]
impl Node for SimNode {
    fn runtime(&self) -> &dyn Runtime {
        &*self.runtime
    }

    fn image(&self) -> &'static str {
        "agent"
    }

    fn crash(&self, key: &InstanceKey, _: &str) {
        self.handle.crash(key, 7);
    }

    fn rename(&self, key: &InstanceKey, _: &str, name: &str) {
        self.handle.rename(key, name);
    }

    fn foreign_add(&self, name: &str) {
        self.handle.foreign_add(name);
    }

    fn foreign_is_there(&self, name: &str) -> bool {
        self.handle.has_foreign(name)
    }

    fn foreign_remove(&self, name: &str) {
        self.handle.foreign_remove(name);
    }

    fn image_missing(&self) -> String {
        self.handle.image_remove("none");
        "none".to_owned()
    }

    fn down(&self) -> Arc<dyn Runtime> {
        self.handle.daemon_stop();
        Arc::clone(&self.runtime) as Arc<dyn Runtime>
    }
}
