//! `docker service scale`, in a swarm of this Engine alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::time::timeout;

use crate::command::docker;
use crate::docker::Events;
use crate::service;
use crate::world::World;

const LIMIT: Duration = Duration::from_mins(3);

/// A service that runs with one task.
#[derive(Debug)]
pub(crate) struct Swarm<'a> {
    world: &'a World,
    service: String,
}

/// How long a scale takes.
#[derive(Debug)]
pub(crate) struct Scaled {
    /// Until the last container was started.
    pub(crate) started: Duration,
    /// Until the command ended, which first watches for some seconds whether they stay up.
    pub(crate) command: Duration,
}

impl Swarm<'_> {
    /// `None` if the Engine is in somebody's swarm already.
    pub(crate) async fn create(world: &World) -> Result<Option<Swarm<'_>>> {
        let state = docker(&["info", "--format", "{{.Swarm.LocalNodeState}}"]).await?.stdout;
        if state.trim() != "inactive" {
            return Ok(None);
        }
        world.swarm_joined();
        docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1"]).await?;
        let swarm = Swarm { world, service: world.name("swarm") };
        let data = world.agent_directory("swarm-data")?;
        // What chassis and Compose use too; an overlay would only be slower.
        let network = world.name("swarm-network");
        docker(&["network", "create", "--driver", "bridge", "--scope", "swarm", &network]).await?;
        let flags = service::swarm_flags(&network, &data);
        let mut create = vec!["service", "create", "--detach", "--name", &swarm.service];
        create.extend(flags.iter().map(String::as_str));
        create.push(world.image().await?);
        let mut events = swarm.starts().await?;
        docker(&create).await?;
        timeout(LIMIT, events.next()).await.context("Swarm started no container")??;
        Ok(Some(swarm))
    }

    pub(crate) async fn scale_up(&self, from: u32, to: u32) -> Result<Scaled> {
        let mut events = self.starts().await?;
        let scale = format!("{}={to}", self.service);
        let began = Instant::now();
        let started = async {
            for _ in from..to {
                events.next().await?;
            }
            Ok::<_, anyhow::Error>(began.elapsed())
        };
        let args = ["service", "scale", &scale];
        let both = async { tokio::join!(started, docker(&args)) };
        let (started, command) =
            timeout(LIMIT, both).await.context("Swarm did not start all tasks in time")?;
        Ok(Scaled { started: started?, command: command?.elapsed })
    }

    /// Back to one task, and nothing left of the others.
    pub(crate) async fn reset(&self) -> Result<()> {
        docker(&["service", "scale", "--detach", &format!("{}=1", self.service)]).await?;
        let begin = &self.service;
        let settled = async {
            loop {
                let listed = self.world.engine.containers(|name| name.starts_with(begin)).await?;
                let mut connection = self.world.engine.connect().await?;
                for container in listed.iter().filter(|container| !container.running) {
                    connection.container_remove(&container.id).await?;
                }
                if listed.len() <= 1 {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        timeout(LIMIT, settled).await.context("Swarm did not stop its tasks in time")?
    }

    async fn starts(&self) -> Result<Events> {
        let label = format!("com.docker.swarm.service.name={}", self.service);
        let filters = json!({ "type": ["container"], "event": ["start"], "label": [label] });
        self.world.engine.events(&filters).await
    }
}
