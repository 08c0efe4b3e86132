//! `docker-compose up --scale`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;

use crate::command::finish;
use crate::service;
use crate::world::World;

/// A project that is up with one container.
#[derive(Debug)]
pub(crate) struct Compose {
    project: String,
    file: PathBuf,
}

impl Compose {
    pub(crate) async fn up(world: &World) -> Result<Compose> {
        let data = world.agent_directory("compose-data")?;
        let file = world.directory("compose")?.join("docker-compose.yml");
        std::fs::write(&file, service::compose(world.image().await?, &data))?;
        let compose = Compose { project: world.name("compose"), file };
        compose.scale(1).await?;
        Ok(compose)
    }

    /// Names another image in the file; the next command replaces the containers.
    pub(crate) fn image_set(&self, world: &World, image: &str) -> Result<()> {
        let data = world.agent_directory("compose-data")?;
        Ok(std::fs::write(&self.file, service::compose(image, &data))?)
    }

    /// How long the command takes.
    pub(crate) async fn scale(&self, count: u32) -> Result<Duration> {
        let mut up = Command::new("docker-compose");
        up.args(["--project-name", &self.project, "--file"]).arg(&self.file);
        up.args(["up", "--detach", "--scale", &format!("{}={count}", service::AGENT)]);
        Ok(finish(&mut up).await?.elapsed)
    }

    /// The name of the container that was there first.
    pub(crate) fn first(&self) -> String {
        format!("{}_{}_1", self.project, service::AGENT)
    }
}
