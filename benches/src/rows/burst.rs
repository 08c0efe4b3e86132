//! How fast `logs -f` hands out what is there: an agent has written many lines, and whoever follows them reads them all.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::chassis::Chassis;
use crate::report::{Report, progress};
use crate::service;
use crate::stats::Series;
use crate::world::World;

const ROW: &str = "burst";
const LINES: u32 = 300_000;
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_mins(2);

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let chassis = Chassis::serve(world, ROW, "docker").await?;
    let file = chassis.agent_file(world, world.image().await?, &["burst", &LINES.to_string()])?;
    // All of it is to be there still when it is read.
    let yaml = std::fs::read_to_string(&file)? + "logs: {maxSize: 1Gi, maxFiles: 1}\n";
    std::fs::write(&file, yaml)?;
    chassis.deploy(&file).await?;
    let instance = format!("{}/{}-1", chassis.fleet, service::AGENT);
    let docker = || {
        let mut docker = Command::new("docker");
        docker.args(["logs", "--follow", &chassis.container(1)]);
        docker
    };
    progress("burst: waiting until all is written");
    read(docker()).await?;
    let (mut ours, mut theirs) = (Series::default(), Series::default());
    for round in 0..ROUNDS {
        progress(&format!("burst: round {} of {ROUNDS}", round + 1));
        let mut command = chassis.command();
        command.args(["logs", &instance, "--follow"]);
        ours.push_milliseconds(read(command).await?);
        theirs.push_milliseconds(read(docker()).await?);
    }
    let median = ours.median();
    report.plain(ROW, "chassis logs -f, 300 000 lines of 100 bytes", "ms", ours);
    report.rival(ROW, "docker logs -f, the same", "ms", theirs, median, None);
    chassis.end().await
}

/// How long it takes to read all lines.
async fn read(mut command: Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let began = Instant::now();
    let mut child = command.spawn().context("cannot follow the logs")?;
    let mut lines = BufReader::new(child.stdout.take().context("no pipe to read from")?).split(b'\n');
    let reading = async {
        for _ in 0..LINES {
            lines.next_segment().await?.context("the log ended")?;
        }
        Ok::<_, anyhow::Error>(())
    };
    timeout(LIMIT, reading).await.context("too few lines arrived")??;
    let elapsed = began.elapsed();
    child.kill().await?;
    Ok(elapsed)
}
