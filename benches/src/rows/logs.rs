//! How far `logs -f` is behind the agent: the agent writes the time, and whoever reads it compares.

use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::chassis::Chassis;
use crate::report::{Report, progress};
use crate::service;
use crate::stats::Series;
use crate::world::World;

const ROW: &str = "logs";
/// Not a divisor of anything that might be a polling interval.
const TICK_MILLISECONDS: &str = "47";
const ROUNDS: usize = 4;
const LINES: usize = 50;
/// Lines that were written before the reader was there are not behind, but history.
const WARM_UP: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let chassis = Chassis::serve(world, ROW, "docker").await?;
    let image = world.image().await?;
    chassis.deploy(&chassis.agent_file(world, image, &["tick", TICK_MILLISECONDS])?).await?;
    let instance = format!("{}/{}-1", chassis.fleet, service::AGENT);
    let (mut ours, mut theirs) = (Series::default(), Series::default());
    for round in 0..ROUNDS {
        progress(&format!("logs: round {} of {ROUNDS}", round + 1));
        let mut docker = Command::new("docker");
        docker.args(["logs", "--follow", "--tail", "0", &chassis.container(1)]);
        read(docker, &mut theirs).await?;
        let mut command = chassis.command();
        command.args(["logs", &instance, "--follow", "--tail", "0"]);
        read(command, &mut ours).await?;
    }
    let median = ours.median();
    report.bounded(ROW, "chassis logs -f behind the agent", "ms", ours, 10.0);
    report.rival(ROW, "docker logs -f behind the agent", "ms", theirs, median, None);
    chassis.end().await
}

async fn read(mut command: Command, series: &mut Series) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let from = now()? + WARM_UP;
    let mut child = command.spawn().context("cannot follow the logs")?;
    let mut lines = BufReader::new(child.stdout.take().context("no pipe to read from")?).lines();
    let wanted = series.count() + LINES;
    let reading = async {
        while series.count() < wanted {
            let line = lines.next_line().await?.context("the log ended")?;
            let arrived = now()?;
            let text = line.split_whitespace().last().unwrap_or_default();
            let written = Duration::from_nanos(text.parse().with_context(|| format!("{line:?} is no time"))?);
            if written >= from {
                series.push_milliseconds(arrived.saturating_sub(written));
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    timeout(LIMIT, reading).await.context("too few lines arrived")??;
    child.kill().await?;
    Ok(())
}

fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}
