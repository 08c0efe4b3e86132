//! `chassis node` as a machine runs it: what it prints lets a server in, its instances outlive it, and who follows a stream
//! is told when it is killed or frozen.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis_core::RunState;
use chassis_node::RemoteRuntime;
use chassis_runtime::{Error, InstanceConfig, InstanceSecrets, LogOptions, Runtime};
use chassis_spec::AgentSpec;
use chassis_testkit::{Image, SOON, eventually, expect};
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

/// A node's process, killed when it is dropped.
struct Node {
    child: Child,
    /// The line that it printed for people.
    line: String,
}

impl Node {
    fn start(home: &Path, flags: &[&str]) -> Node {
        let out = home.join("out");
        let child = Command::new(BINARY)
            .args(["node", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(home.join("data"))
            .args(flags)
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(home.join("log")).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let line = eventually(SOON, || {
            let line = std::fs::read_to_string(&out).unwrap();
            expect(line.ends_with('\n'), || std::fs::read_to_string(home.join("log")).unwrap())?;
            Ok::<_, String>(line.trim().to_owned())
        });
        Node { child, line }
    }

    /// A part of the line: the word behind another.
    fn word(&self, before: &str) -> &str {
        self.line.split_once(before).unwrap().1.split_whitespace().next().unwrap()
    }

    fn url(&self) -> &str {
        self.word("chassis node join ")
    }

    fn token(&self) -> &str {
        self.word("CHASSIS_NODE_TOKEN=")
    }

    fn remote(&self) -> RemoteRuntime {
        let fingerprint = self.word("--fingerprint ").parse().unwrap();
        let name = "worker-1".parse().unwrap();
        RemoteRuntime::new(&name, self.url(), Some(fingerprint), self.token()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What it answers to somebody with the token.
    fn get(&self, path: &str) -> Value {
        let header = format!("Authorization: Bearer {}", self.token());
        let answer = Command::new("curl")
            .args(["-sSk", "--fail-with-body", "-H", &header, &format!("{}{path}", self.url())])
            .output()
            .unwrap();
        let body = String::from_utf8(answer.stdout).unwrap();
        serde_json::from_str(&body)
            .unwrap_or_else(|_| panic!("{body}{}", String::from_utf8_lossy(&answer.stderr)))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_prints_what_a_server_needs_and_keeps_it() {
    let home = tempfile::tempdir().unwrap();
    let flags = [
        "--runtime",
        "sim",
        "--name",
        "worker-1",
        "--capacity",
        "cpus=2,memory=1Gi",
        "--region",
        "here",
        "--label",
        "disk=ssd",
    ];
    let mut node = Node::start(home.path(), &flags);
    let token_file = home.path().join("data/.server/node-token");
    assert_eq!(std::fs::read_to_string(&token_file).unwrap().trim(), node.token());
    assert_eq!(std::fs::metadata(&token_file).unwrap().permissions().mode() & 0o777, 0o600);
    let log = std::fs::read_to_string(home.path().join("log")).unwrap();
    assert!(!log.contains(node.token()), "the token is in the log: {log}");

    let hello = node.get("/node/v1/hello");
    assert_eq!(
        (&hello["name"], &hello["region"], &hello["labels"]["disk"]),
        (&json!("worker-1"), &json!("here"), &json!("ssd"))
    );
    assert_eq!(
        (&hello["capacity"]["cpuMillis"], &hello["capacity"]["memoryBytes"]),
        (&json!(2000), &json!(1 << 30))
    );
    assert!(hello["capacity"]["diskBytes"].as_u64().unwrap() > 0, "probed: {hello}");
    assert_eq!(
        (&hello["engine"]["name"], &hello["runtimes"], &hello["protocols"]),
        (&json!("sim"), &json!(["sim"]), &json!([2]))
    );
    let capacity = node.get("/v1/capacity");
    assert_eq!(
        (&capacity["cpus"], &capacity["ram_mb"], &capacity["gpus"]),
        (&json!(2), &json!(1024), &json!(0))
    );
    assert_eq!(node.get("/healthz")["ok"], true);

    let second = Command::new(BINARY)
        .args(["node", "--listen", "127.0.0.1:0", "--runtime", "sim", "--data-dir"])
        .arg(home.path().join("data"))
        .output()
        .unwrap();
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && text.contains("choose another with --data-dir"), "{text}");

    let (line, url) = (node.line.clone(), node.url().to_owned());
    node.signal(Signal::TERM);
    assert!(node.child.wait().unwrap().success(), "told to end, it ends well");
    let again = Node::start(home.path(), &flags);
    assert_eq!(again.line.replace(again.url(), &url), line, "the same token and certificate");
    assert_eq!(again.get("/node/v1/hello")["id"], hello["id"]);
}

#[tokio::test]
async fn its_instances_outlive_it() {
    let image = Image::busybox().build();
    let home = tempfile::tempdir().unwrap();
    let mut node = Node::start(home.path(), &["--name", "worker-1"]);
    let id = node.get("/node/v1/hello")["id"].as_str().unwrap().to_owned();
    let _left = Containers(id.clone());
    let remote = node.remote();
    remote.take_term(3).await.unwrap();
    let config = config(&remote, &image, "exec sleep 999", &format!("outlive-{}", std::process::id())).await;
    let created = remote.instance_create(&config).await.unwrap();
    remote.instance_start(&created.id, InstanceSecrets::default()).await.unwrap();
    let before = remote.instance_list().await.unwrap();
    let label = format!("label=chassis.server={id}");
    let seen = Command::new("docker").args(["ps", "-q", "--no-trunc", "--filter", &label]).output().unwrap();
    assert_eq!(String::from_utf8(seen.stdout).unwrap().trim(), &*created.id, "labelled as this node's");

    node.signal(Signal::TERM);
    assert!(node.child.wait().unwrap().success());
    let gone = remote.instance_list().await.unwrap_err();
    assert!(matches!(&gone, Error::Unavailable { message, .. } if message.contains("worker-1")), "{gone}");

    let again = Node::start(home.path(), &["--name", "worker-1"]);
    let remote = again.remote();
    let after = remote.instance_list().await.unwrap();
    assert_eq!(after, before, "the same run, under the same epoch");
    assert_eq!((after[0].epoch, matches!(after[0].observed.state, RunState::Running { .. })), (5, true));
    remote.set_term(3);
    remote.instance_remove(&created.id).await.unwrap();
    remote.fleet_remove(&config.key.fleet).await.unwrap();
}

#[tokio::test]
async fn who_follows_a_stream_is_told_when_the_node_goes() {
    let mut waits = Vec::new();
    for signal in [Signal::KILL, Signal::STOP] {
        waits.push(tokio::spawn(async move {
            let home = tempfile::tempdir().unwrap();
            let node = Node::start(home.path(), &["--runtime", "sim", "--name", "worker-1"]);
            let remote = node.remote();
            remote.take_term(1).await.unwrap();
            let config = config(&remote, "agent", "agent", "follow").await;
            let id = remote.instance_create(&config).await.unwrap().id;
            remote.instance_start(&id, InstanceSecrets::default()).await.unwrap();
            let follow = LogOptions { follow: true, ..LogOptions::default() };
            let mut logs = remote.logs(&id, &follow).await.unwrap();
            assert_eq!(logs.next().await.unwrap().unwrap().bytes, "started\n");
            node.signal(signal);
            let began = Instant::now();
            let end = logs.next().await.unwrap().unwrap_err();
            assert!(began.elapsed() < Duration::from_secs(15), "{signal:?}: {:?}", began.elapsed());
            let text = end.to_string();
            assert!(matches!(end, Error::Unavailable { .. }), "{end:?}");
            assert!(text.contains("node worker-1") && text.contains(node.url()), "{text}");
            assert!(text.contains("in the middle of a stream"), "{text}");
            assert!(logs.next().await.is_none());
        }));
    }
    for wait in waits {
        wait.await.unwrap();
    }
}

async fn config(remote: &RemoteRuntime, image: &str, command: &str, fleet: &str) -> InstanceConfig {
    let spec = json!({ "name": "agent", "image": image, "command": ["sh", "-c", command] });
    let spec: AgentSpec = serde_json::from_value(spec).unwrap();
    let key =
        chassis_core::InstanceKey { fleet: fleet.parse().unwrap(), agent: spec.name.clone(), number: 1 };
    let image = remote.image_prepare(&spec.image, &|_| ()).await.unwrap();
    InstanceConfig { key, revision: 1, spec: Arc::new(spec), image, epoch: 5, leased: false }
}

/// Those of one node, removed when this is dropped.
struct Containers(String);

impl Drop for Containers {
    fn drop(&mut self) {
        let label = format!("label=chassis.server={}", self.0);
        let list = |words: &[&str]| {
            let output =
                Command::new("docker").args(words).args(["-q", "--filter", &label]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        for (ids, remove) in [(list(&["ps", "-a"]), "rm -fv"), (list(&["network", "ls"]), "network rm")] {
            for id in ids {
                let _ = Command::new("docker").args(remove.split(' ')).arg(id).output();
            }
        }
    }
}
