//! A throwaway chassis: its own data directory, its own server, one fleet.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::command::{Finished, finish};
use crate::service;
use crate::world::World;

const START_LIMIT: Duration = Duration::from_secs(15);

/// A server that runs, and the commands that talk to it.
#[derive(Debug)]
pub(crate) struct Chassis {
    binary: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) fleet: String,
    /// The URL of its Postgres, if it has one.
    database: Option<String>,
    server: Child,
}

impl Chassis {
    /// Starts a server for a row of the report and creates its fleet.
    pub(crate) async fn serve(world: &World, row: &str, runtime: &str) -> Result<Chassis> {
        Chassis::serve_on(world, row, runtime, None).await
    }

    /// The same, with its state in Postgres at this URL.
    pub(crate) async fn serve_on(
        world: &World,
        row: &str,
        runtime: &str,
        database: Option<String>,
    ) -> Result<Chassis> {
        let binary = world.binary().await?.to_owned();
        let data_dir = world.directory(row)?;
        let mut server = spawn(&binary, &data_dir, runtime, database.as_deref())?;
        let began = Instant::now();
        while UnixStream::connect(data_dir.join(".server/socket")).await.is_err() {
            if server.try_wait()?.is_some() || began.elapsed() > START_LIMIT {
                bail!("the server did not start:\n{}", std::fs::read_to_string(log_file(&data_dir))?);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let chassis = Chassis { binary, data_dir, fleet: world.fleet(row), database, server };
        chassis.run(&["create", "fleet", &chassis.fleet]).await?;
        Ok(chassis)
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Result<Finished> {
        finish(self.command().args(args)).await
    }

    /// A command that is yet to get its arguments.
    pub(crate) fn command(&self) -> Command {
        command(&self.binary, &self.data_dir)
    }

    /// Writes the agent's YAML.
    pub(crate) fn agent_file(&self, world: &World, image: &str, args: &[&str]) -> Result<PathBuf> {
        let file = world.directory("agents")?.join(format!("{}.yaml", self.fleet));
        std::fs::write(&file, service::agent(&self.fleet, image, args))?;
        Ok(file)
    }

    pub(crate) async fn deploy(&self, file: &Path) -> Result<Finished> {
        finish(self.command().args(["deploy", "agent", "-f"]).arg(file)).await
    }

    pub(crate) async fn scale(&self, count: u32) -> Result<Finished> {
        self.run(&["scale", "fleet", &self.fleet, &count.to_string(), "--timeout", "10m"]).await
    }

    /// The name of the agent's container of that number, without the run's prefix.
    pub(crate) fn container(&self, number: u32) -> String {
        format!("chassis-{}-{}-{number}", self.fleet, service::AGENT)
    }

    /// Where the instances' directories are.
    pub(crate) fn fleet_dir(&self) -> PathBuf {
        self.data_dir.join(&self.fleet)
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.server.id().context("the server has ended")
    }

    /// Deletes the fleet and begins another.
    pub(crate) async fn fleet_renew(&mut self, fleet: &str) -> Result<()> {
        self.fleet_delete().await?;
        fleet.clone_into(&mut self.fleet);
        self.run(&["create", "fleet", fleet]).await.map(drop)
    }

    async fn fleet_delete(&self) -> Result<()> {
        let confirm = format!("--confirm={}", self.fleet);
        self.run(&["delete", "fleet", &self.fleet, "--cleanup", &confirm]).await.map(drop)
    }

    /// Deletes the fleet and ends the server.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.fleet_delete().await?;
        self.stop().await
    }

    /// Starts the server again, without waiting for it.
    pub(crate) fn start(&mut self, runtime: &str) -> Result<()> {
        self.server = spawn(&self.binary, &self.data_dir, runtime, self.database.as_deref())?;
        Ok(())
    }

    pub(crate) async fn stop(&mut self) -> Result<()> {
        let mut stop = self.command();
        // The command waits until the server is gone, which it is only once it was waited for.
        let (stopped, ended) = tokio::join!(finish(stop.args(["server", "stop"])), self.server.wait());
        stopped?;
        ended?;
        Ok(())
    }
}

fn spawn(binary: &Path, data_dir: &Path, runtime: &str, database: Option<&str>) -> Result<Child> {
    let log = std::fs::File::create(log_file(data_dir))?;
    let mut serve = command(binary, data_dir);
    serve.args(["serve", "--runtime", runtime]).stdin(Stdio::null());
    if let Some(url) = database {
        serve.env("DATABASE_URL", url);
    }
    let server = serve.stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn();
    server.with_context(|| format!("cannot run {}", binary.display()))
}

fn log_file(data_dir: &Path) -> PathBuf {
    data_dir.with_extension("log")
}

fn command(binary: &Path, data_dir: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .env("CHASSIS_DATA_DIR", data_dir)
        .env("CHASSIS_NO_AUTOSTART", "1")
        .env_remove("CHASSIS_SERVER")
        .env_remove("DATABASE_URL");
    command
}
