//! Nodes that serve on loopback with TLS, as `chassis node` does, and what reaches them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chassis_api::Fingerprint;
use chassis_node::RemoteRuntime;
use chassis_runtime::Runtime;
use chassis_server::{Capacity, DataDir, Listen, NodeOptions, NodeServer, RuntimeChoice};

/// A node, and the way to it.
pub struct Served {
    pub server: NodeServer,
    pub remote: Arc<RemoteRuntime>,
    directory: tempfile::TempDir,
}

impl Served {
    /// It is in term 1, and asked in it.
    pub fn new(runtime: Arc<dyn Runtime>) -> Served {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(".server")).unwrap();
        std::fs::write(directory.path().join(".server/term"), "1\n").unwrap();
        let server = NodeServer::start(&options(directory.path()), runtime).unwrap();
        let remote = remote(&server, server.fingerprint(), server.token());
        remote.set_term(1);
        Served { server, remote, directory }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The same node, started again.
    pub async fn again(self, runtime: Arc<dyn Runtime>) -> Served {
        self.server.end().await;
        let server = NodeServer::start(&options(self.directory.path()), runtime).unwrap();
        let remote = remote(&server, server.fingerprint(), server.token());
        Served { server, remote, directory: self.directory }
    }
}

/// Somebody who wants to reach it, with what they believe.
pub fn remote(server: &NodeServer, fingerprint: Option<Fingerprint>, token: &str) -> Arc<RemoteRuntime> {
    Arc::new(RemoteRuntime::new(server.name(), server.url(), fingerprint, token).unwrap())
}

fn options(directory: &Path) -> NodeOptions {
    NodeOptions {
        data_dir: DataDir::new(directory, None),
        runtime: RuntimeChoice::Sim { seed: 0 },
        allowed_host_paths: Vec::new(),
        seccomp_dir: "/etc/chassis/seccomp".into(),
        listen: Listen { addresses: vec!["127.0.0.1:0".parse().unwrap()], ..Listen::default() },
        name: Some("worker-1".parse().unwrap()),
        capacity: Capacity { slots: Some(7), ..Capacity::default() },
        region: None,
        labels: BTreeMap::new(),
        advertise: None,
        alone_after: Duration::from_secs(30),
    }
}
