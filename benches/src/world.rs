//! What a run makes on this machine, all of it under one name, and how it is taken away again.
//!
//! Every container, network, image and service of a run is called `chassis-bench-<pid>` or begins with that and a
//! separator; nothing else is ever touched.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::command::{docker, finish};
use crate::docker::{Connection, Engine};
use crate::report::progress;

/// Containers are removed this many at a time; more does not make the Engine faster.
const REMOVALS_AT_ONCE: usize = 4;
/// Where agents of the rivals' containers keep their data: chassis gives its own to this user too.
pub(crate) const AGENT_USER: u32 = 64_646;

/// One run of the benchmarks.
#[derive(Debug)]
pub(crate) struct World {
    prefix: String,
    work: TempDir,
    pub(crate) engine: Engine,
    image: OnceCell<String>,
    binary: OnceCell<PathBuf>,
    swarm_is_ours: AtomicBool,
}

impl World {
    pub(crate) fn new() -> Result<World> {
        let prefix = format!("chassis-bench-{}", std::process::id());
        let work = tempfile::Builder::new().prefix(&prefix).tempdir().context("cannot make a directory")?;
        let (image, binary) = (OnceCell::new(), OnceCell::new());
        let engine = Engine::from_environment()?;
        Ok(World { prefix, work, engine, image, binary, swarm_is_ours: AtomicBool::new(false) })
    }

    /// A name of this run's.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.prefix)
    }

    /// The name of a fleet: its containers and its network get the prefix from chassis.
    pub(crate) fn fleet(&self, what: &str) -> String {
        let name = self.name(what);
        name.strip_prefix("chassis-").map_or_else(|| name.clone(), ToOwned::to_owned)
    }

    /// A new directory of this run's.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.work.path().join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// A new directory that the agent's user may write to.
    pub(crate) fn agent_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory(name)?;
        std::os::unix::fs::chown(&path, Some(AGENT_USER), Some(AGENT_USER))
            .with_context(|| format!("cannot give {} to the agent's user", path.display()))?;
        Ok(path)
    }

    /// The image that every container of the run is made from: one static program, nothing else.
    pub(crate) async fn image(&self) -> Result<&str> {
        let image = self.image.get_or_try_init(|| async {
            let root = self.directory("image")?;
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent.rs");
            let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
            let mut rustc = Command::new("rustc");
            rustc.args([
                "--edition",
                "2024",
                "-C",
                "opt-level=s",
                "-C",
                "panic=abort",
                "-C",
                "strip=symbols",
            ]);
            finish(rustc.args(["--target", &target, "-o"]).arg(root.join("agent")).arg(source)).await?;
            let tar = self.work.path().join("image.tar");
            let mut archive = Command::new("tar");
            archive.args(["--owner=0", "--group=0", "--numeric-owner", "-C"]).arg(&root);
            finish(archive.arg("-cf").arg(&tar).arg("agent")).await?;
            let image = format!("{}:1", self.prefix);
            docker(&["import", "--change", "ENTRYPOINT [\"/agent\"]", &tar.to_string_lossy(), &image])
                .await?;
            Ok::<_, anyhow::Error>(image)
        });
        Ok(image.await?)
    }

    /// An image of the same files under another id.
    pub(crate) async fn image_other(&self) -> Result<String> {
        self.image().await?;
        let tar = self.work.path().join("image.tar");
        let image = format!("{}:2", self.prefix);
        let changes = ["--change", "ENTRYPOINT [\"/agent\"]", "--change", "LABEL version=2"];
        let tar = tar.to_string_lossy().into_owned();
        docker(&[["import"].as_slice(), &changes, &[&tar, &image]].concat()).await?;
        Ok(image)
    }

    /// The release binary: `CHASSIS_BIN`, or built now.
    pub(crate) async fn binary(&self) -> Result<&Path> {
        let binary = self.binary.get_or_try_init(|| async {
            if let Some(binary) = std::env::var_os("CHASSIS_BIN") {
                return Ok(PathBuf::from(binary));
            }
            progress("building the release binary");
            let mut cargo = Command::new("cargo");
            cargo.args(["build", "--release", "-p", "chassis-cli", "--bin", "chassis"]);
            cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
            let messages = finish(cargo.current_dir(env!("CARGO_MANIFEST_DIR"))).await?.stdout;
            let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut executables =
                artifacts.filter_map(|artifact| artifact["executable"].as_str().map(PathBuf::from));
            executables.find(|path| path.ends_with("chassis")).context("cargo built no `chassis`")
        });
        Ok(binary.await?)
    }

    /// Remembers that the Engine is in a swarm only because of this run.
    pub(crate) fn swarm_joined(&self) {
        self.swarm_is_ours.store(true, Ordering::SeqCst);
    }

    /// Leaves the swarm if this run made it.
    pub(crate) async fn swarm_leave(&self) -> Result<()> {
        if self.swarm_is_ours.swap(false, Ordering::SeqCst) {
            docker(&["swarm", "leave", "--force"]).await?;
            // The Engine leaves it behind.
            docker(&["network", "rm", "docker_gwbridge"]).await?;
        }
        Ok(())
    }

    /// Removes all of this run's containers whose name, without the run's prefix, begins so.
    pub(crate) async fn containers_remove(&self, begin: &str, keep: Option<&str>) -> Result<()> {
        let begin = self.name(begin);
        let listed = self.engine.containers(|name| name.starts_with(&begin) && Some(name) != keep).await?;
        let ids = Arc::new(Mutex::new(listed.into_iter().map(|container| container.id).collect::<Vec<_>>()));
        let mut removals = Vec::new();
        for _ in 0..REMOVALS_AT_ONCE {
            let ids = Arc::clone(&ids);
            let mut connection = self.engine.connect().await?;
            removals.push(tokio::spawn(async move {
                while let Some(id) = pop(&ids) {
                    connection.container_remove(&id).await?;
                }
                Ok::<_, anyhow::Error>(())
            }));
        }
        for removal in removals {
            removal.await??;
        }
        Ok(())
    }

    /// Fails unless exactly so many of this run's containers with such names run.
    pub(crate) async fn running_expect(&self, begin: &str, expected: usize) -> Result<()> {
        let begin = self.name(begin);
        let listed = self.engine.containers(|name| name.starts_with(&begin)).await?;
        let running = listed.iter().filter(|container| container.running).count();
        if running != expected {
            bail!("{running} containers {begin}… run, not {expected}; what was measured does not count");
        }
        Ok(())
    }

    /// Removes all containers, for as long as new ones appear: what was asked for last may still come.
    pub(crate) async fn clear(&self) -> Result<()> {
        self.swarm_leave().await?;
        let mut quiet = 0;
        while quiet < 2 {
            let begin = self.name("");
            let found = self.engine.containers(|name| name.starts_with(&begin)).await?;
            quiet = if found.is_empty() { quiet + 1 } else { 0 };
            self.containers_remove("", None).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// Takes away whatever the run made.
    pub(crate) async fn clean_up(self) -> Result<()> {
        self.clear().await?;
        let mut connection = self.engine.connect().await?;
        self.networks_remove(&mut connection).await?;
        if self.image.initialized() {
            for version in 1..=2 {
                docker(&["image", "rm", "--force", &format!("{}:{version}", self.prefix)]).await?;
            }
        }
        self.work.close().context("cannot remove the run's directory")
    }

    async fn networks_remove(&self, connection: &mut Connection) -> Result<()> {
        let networks = connection.get("/networks").await?;
        for network in networks.as_array().into_iter().flatten() {
            if network["Name"].as_str().is_some_and(|name| name.starts_with(&self.name(""))) {
                connection.network_remove(network["Id"].as_str().unwrap_or_default()).await?;
            }
        }
        Ok(())
    }
}

fn pop(ids: &Mutex<Vec<String>>) -> Option<String> {
    ids.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
}
