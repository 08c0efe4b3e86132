//! What the runtime's tests share: images made on the spot, a Docker runtime on a throwaway directory, and the
//! `docker` command, which sees what people see.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chassis_core::{InstanceKey, RunState};
use chassis_runtime::{
    DockerOptions, DockerRuntime, InstanceConfig, InstanceSecrets, LogOptions, LogStream, Owned, Runtime,
};
use chassis_spec::AgentSpec;
use futures_util::StreamExt;
use serde_json::{Value, json};

/// Long enough for a loaded machine; nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name that no other test uses, in this process or another.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a command and returns its output, whether it succeeded or not.
pub fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Runs `docker` and returns what it printed.
pub fn docker(arguments: &[&str]) -> String {
    let output = run("docker", arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {}: {errors}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A local image, removed with this value.
#[derive(Debug)]
pub struct LocalImage {
    pub name: String,
}

impl LocalImage {
    /// busybox with its applets, and these files; `changes` as in a Dockerfile.
    pub fn busybox(files: &[(&str, &str)], changes: &[&str]) -> LocalImage {
        LocalImage::make(changes, |root| {
            std::fs::create_dir_all(root.join("bin")).unwrap();
            std::fs::copy("/bin/busybox", root.join("bin/busybox"))
                .expect("busybox-static must be installed");
            let applets = run("/bin/busybox", &["--list"]);
            for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|name| *name != "busybox")
            {
                std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
            }
            for (path, content) in files {
                let path = root.join(path.trim_start_matches('/'));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
        })
    }

    /// Nothing but what `fill` puts into it.
    pub fn make(changes: &[&str], fill: impl FnOnce(&Path)) -> LocalImage {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("root")).unwrap();
        fill(&root.path().join("root"));
        let archive = root.path().join("image.tar");
        let archive = archive.to_str().unwrap();
        let tar = run("tar", &["-C", root.path().join("root").to_str().unwrap(), "-cf", archive, "."]);
        assert!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
        let name = unique("chassis-test");
        let mut arguments = vec!["import"];
        for change in changes {
            arguments.extend(["--change", change]);
        }
        arguments.extend([archive, name.as_str()]);
        docker(&arguments);
        LocalImage { name }
    }
}

impl Drop for LocalImage {
    fn drop(&mut self) {
        run("docker", &["rmi", "-f", &self.name]);
    }
}

/// A Docker runtime of its own; what it made goes with it.
#[derive(Debug)]
pub struct Docker {
    pub runtime: Arc<DockerRuntime>,
    pub server_id: String,
    pub data_dir: PathBuf,
    _directory: tempfile::TempDir,
}

impl Docker {
    pub fn new() -> Docker {
        Docker::allowing(&[])
    }

    pub fn allowing(host_paths: &[&Path]) -> Docker {
        let directory = tempfile::tempdir().unwrap();
        let server_id = unique("server");
        let data_dir = directory.path().join("data");
        let runtime = DockerRuntime::connect(DockerOptions {
            docker_host: None,
            data_dir: data_dir.clone(),
            server_id: server_id.clone(),
            allowed_host_paths: host_paths.iter().map(|path| path.to_path_buf()).collect(),
            seccomp_dir: "/etc/chassis/seccomp".into(),
        });
        Docker { runtime: Arc::new(runtime.unwrap()), server_id, data_dir, _directory: directory }
    }

    /// Creates and starts an instance.
    pub async fn start(&self, config: &InstanceConfig, secrets: InstanceSecrets) -> String {
        let created = self.runtime.instance_create(config).await.unwrap();
        self.runtime.instance_start(&created.id, secrets).await.unwrap();
        created.id.into()
    }

    /// Runs an instance to its end, and returns its exit code and all that it printed.
    pub async fn run(&self, config: &InstanceConfig, secrets: InstanceSecrets) -> (i32, String) {
        let id = self.start(config, secrets).await;
        let code = exit_code(&*self.runtime, &id).await;
        (code, output(&*self.runtime, &id).await)
    }

    pub async fn config(&self, spec: Value) -> InstanceConfig {
        config(&*self.runtime, unique("fleet"), spec).await
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let label = format!("label=chassis.server={}", self.server_id);
        let containers = docker(&["ps", "-aq", "--no-trunc", "--filter", &label]);
        for id in containers.lines() {
            run("docker", &["rm", "-fv", id]);
        }
        let networks = docker(&["network", "ls", "-q", "--filter", &label]);
        for id in networks.lines() {
            run("docker", &["network", "rm", id]);
        }
        for memory in ["/run/chassis", "/dev/shm/chassis-0"] {
            let _ = std::fs::remove_dir_all(Path::new(memory).join(&self.server_id));
        }
    }
}

/// The first instance of an agent. The spec needs an image and what the test is about.
pub async fn config(runtime: &dyn Runtime, fleet: impl AsRef<str>, spec: Value) -> InstanceConfig {
    let mut whole = json!({ "name": "agent" });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let spec: AgentSpec = serde_json::from_value(whole).unwrap();
    let key = InstanceKey { fleet: fleet.as_ref().parse().unwrap(), agent: spec.name.clone(), number: 1 };
    let image = runtime.image_prepare(&spec.image, &|_| ()).await.unwrap();
    InstanceConfig { key, revision: 1, spec: Arc::new(spec), image, epoch: 0, leased: false }
}

/// Waits until the instance's state is what is wanted.
pub async fn wait_for(runtime: &dyn Runtime, id: &str, wanted: impl Fn(RunState) -> bool) -> Owned {
    let waiting = tokio::time::timeout(PATIENCE, async {
        loop {
            let owned = runtime.instance_inspect(id).await.unwrap().expect("the instance is there");
            if wanted(owned.observed.state) {
                return owned;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waiting.await.expect("the instance reaches the state")
}

pub async fn exit_code(runtime: &dyn Runtime, id: &str) -> i32 {
    match wait_for(runtime, id, |state| matches!(state, RunState::Exited { .. })).await.observed.state {
        RunState::Exited { exit, .. } => exit.code,
        _ => unreachable!("it was waited for"),
    }
}

/// All that an instance printed so far.
pub async fn output(runtime: &dyn Runtime, id: &str) -> String {
    let mut chunks = runtime.logs(id, &LogOptions::default()).await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.unwrap();
        assert!(matches!(chunk.stream, LogStream::Stdout | LogStream::Stderr));
        text.extend_from_slice(&chunk.bytes);
    }
    String::from_utf8(text).unwrap()
}

/// Waits until the instance printed this.
pub async fn wait_for_output(runtime: &dyn Runtime, id: &str, wanted: &str) -> String {
    let waiting = tokio::time::timeout(PATIENCE, async {
        loop {
            let text = output(runtime, id).await;
            if text.contains(wanted) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waiting.await.unwrap_or_else(|_| panic!("the instance never printed {wanted:?}"))
}
