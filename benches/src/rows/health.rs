//! How long an agent that stops being healthy is not: against the least it could be, which is the time until its looks are
//! due as often as the YAML says, and the time that the Engine needs to restart the same container.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::chassis::Chassis;
use crate::command::docker;
use crate::report::{Report, progress};
use crate::service;
use crate::stats::Series;
use crate::template;
use crate::world::World;

const ROW: &str = "health";
const ROUNDS: usize = 10;
const INTERVAL: Duration = Duration::from_secs(1);
const RETRIES: u32 = 2;
const LIMIT: Duration = Duration::from_secs(30);
/// Each round has a fleet of its own: only the first restart of an agent is immediate, and a fleet has a budget of them.
const CHECK: &str = "healthCheck:\n  http: {port: 8080}\n  interval: 1s\n  timeout: 1s\n  retries: 2\n";

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let mut chassis = Chassis::serve(world, ROW, "docker").await?;
    let image = world.image().await?;
    let (mut ours, mut least) = (Series::default(), Series::default());
    for round in 0..ROUNDS {
        progress(&format!("health: round {} of {ROUNDS}", round + 1));
        if round > 0 {
            chassis.fleet_renew(&world.fleet(&format!("{ROW}-{round}"))).await?;
        }
        let file = chassis.agent_file(world, image, &["serve", "8080"])?;
        let yaml = std::fs::read_to_string(&file)?;
        std::fs::write(&file, yaml + CHECK)?;
        chassis.deploy(&file).await?;
        let restart = engine_restart(world, &chassis, round).await?;
        let (took, due) = one(&chassis).await?;
        ours.push_milliseconds(took);
        least.push_milliseconds(due + restart);
        chassis
            .run(&["delete", "agent", &format!("{}/{}", chassis.fleet, service::AGENT), "--cleanup"])
            .await?;
    }
    let median = ours.median();
    report.plain(ROW, "unhealthy to healthy again", "ms", ours);
    report.rival(ROW, "looks due, and docker restart", "ms", least, median, Some(1.2));
    chassis.end().await
}

/// Breaks the agent. Returns how long it took until it was healthy again, and until its looks were due.
async fn one(chassis: &Chassis) -> Result<(Duration, Duration)> {
    let instance = format!("{}/{}-1", chassis.fleet, service::AGENT);
    let address = address(chassis).await?;
    // Anywhere between two looks.
    tokio::time::sleep(INTERVAL / 3).await;
    let reports: Value =
        serde_json::from_str(&chassis.run(&["health", &instance, "-o", "json"]).await?.stdout)?;
    let probes = reports[0]["checks"][0]["probes"].as_array().context("no looks")?;
    let last_look = since_epoch(probes.last().and_then(|probe| probe["time"].as_str()).context("no look")?)?;
    let mut stream = TcpStream::connect((address.as_str(), 8080)).await?;
    stream.write_all(b"GET /break HTTP/1.0\r\n\r\n").await?;
    stream.read_to_end(&mut Vec::new()).await?;
    let broken = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let due = (last_look + INTERVAL * RETRIES).saturating_sub(broken);
    let began = Instant::now();
    loop {
        let text = chassis.run(&["events", &instance, "-o", "json"]).await?.stdout;
        let events: Vec<Value> = serde_json::from_str(&text)?;
        let healed =
            events.iter().rfind(|event| event["kind"] == "Healthy").context("it was never healthy")?;
        let at = since_epoch(healed["time"].as_str().context("no time")?)?;
        if at > broken {
            return Ok((at.saturating_sub(broken), due));
        }
        if began.elapsed() > LIMIT {
            bail!("{instance} is not healthy again within {LIMIT:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How long the Engine takes to restart a container like the instance's.
async fn engine_restart(world: &World, chassis: &Chassis, round: usize) -> Result<Duration> {
    let body = template::bodies_of_round(world, chassis, 1, round).await?.pop().context("no body")?;
    let mut connection = world.engine.connect().await?;
    let name = world.name(&format!("restart-{round}"));
    let created = connection.post(&format!("/containers/create?name={name}"), Some(&body)).await?;
    let id = created["Id"].as_str().context("no id")?.to_owned();
    connection.post(&format!("/containers/{id}/start"), None).await?;
    tokio::time::sleep(INTERVAL).await;
    let began = Instant::now();
    connection.post(&format!("/containers/{id}/restart?t=1"), None).await?;
    let elapsed = began.elapsed();
    connection.container_remove(&id).await?;
    Ok(elapsed)
}

async fn address(chassis: &Chassis) -> Result<String> {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let inspected = docker(&["inspect", "--format", format, &chassis.container(1)]).await?;
    Ok(inspected.stdout.trim().to_owned())
}

fn since_epoch(time: &str) -> Result<Duration> {
    let time: jiff::Timestamp = time.parse().with_context(|| format!("{time} is no time"))?;
    Ok(SystemTime::from(time).duration_since(UNIX_EPOCH)?)
}
