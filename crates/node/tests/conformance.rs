//! The suite of all runtimes, through a connection with TLS: what is far away does the same as what is here.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]

mod common;
#[macro_use]
#[path = "../../runtime/tests/suite/mod.rs"]
mod suite;

use std::sync::Arc;

use async_trait::async_trait;
use chassis_core::InstanceKey;
use chassis_runtime::Runtime;
use common::Served;
use suite::{DockerNode, Node, SimNode};

conformance!(on_remote_docker, crate::Remote::new(crate::DockerNode::new()));
conformance!(on_remote_sim, crate::Remote::new(crate::SimNode::new()));

/// A node whose runtime is reached over the network; what befalls it, befalls the runtime itself.
struct Remote<N> {
    inner: N,
    served: Served,
    down: std::sync::Mutex<Option<Served>>,
}

/// A node that has its runtime to share.
trait Local: Node {
    fn shared(&self) -> Arc<dyn Runtime>;
}

impl Local for DockerNode {
    fn shared(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.docker.runtime) as Arc<dyn Runtime>
    }
}

impl Local for SimNode {
    fn shared(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.runtime) as Arc<dyn Runtime>
    }
}

impl<N: Local> Remote<N> {
    fn new(inner: N) -> Remote<N> {
        let served = Served::new(inner.shared());
        Remote { inner, served, down: std::sync::Mutex::default() }
    }
}

#[async_trait]
impl<N: Local> Node for Remote<N> {
    fn runtime(&self) -> &dyn Runtime {
        &*self.served.remote
    }

    fn image(&self) -> &str {
        self.inner.image()
    }

    fn crash(&self, key: &InstanceKey, id: &str) {
        self.inner.crash(key, id);
    }

    fn rename(&self, key: &InstanceKey, id: &str, name: &str) {
        self.inner.rename(key, id, name);
    }

    fn foreign_add(&self, name: &str) {
        self.inner.foreign_add(name);
    }

    fn foreign_is_there(&self, name: &str) -> bool {
        self.inner.foreign_is_there(name)
    }

    fn foreign_remove(&self, name: &str) {
        self.inner.foreign_remove(name);
    }

    fn image_missing(&self) -> String {
        self.inner.image_missing()
    }

    fn down(&self) -> Arc<dyn Runtime> {
        let served = Served::new(self.inner.down());
        let remote = Arc::clone(&served.remote);
        *self.down.lock().unwrap() = Some(served);
        remote
    }
}
