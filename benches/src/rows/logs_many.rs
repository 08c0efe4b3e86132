//! What following costs the server: its resident memory while somebody follows 100 instances that write all the time.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::chassis::Chassis;
use crate::report::{Report, progress};
use crate::rows::memory::status_mib;
use crate::stats::Series;
use crate::world::World;

const ROW: &str = "logs-100";
const INSTANCES: u32 = 100;
/// Ten lines a second of each.
const TICK_MILLISECONDS: &str = "97";
const SETTLE: Duration = Duration::from_secs(5);
const SAMPLES: usize = 10;

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let chassis = Chassis::serve(world, ROW, "docker").await?;
    let image = world.image().await?;
    chassis.deploy(&chassis.agent_file(world, image, &["tick", TICK_MILLISECONDS])?).await?;
    progress("logs-100: starting 100 instances");
    chassis.scale(INSTANCES).await?;
    tokio::time::sleep(SETTLE).await;
    let pid = chassis.pid()?;
    let before = status_mib(pid, "VmRSS")?;
    let mut command = chassis.command();
    command.args(["logs", &chassis.fleet, "--follow", "--tail", "0"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("cannot follow the logs")?;
    let mut lines = BufReader::new(child.stdout.take().context("no pipe to read from")?).lines();
    let reading = tokio::spawn(async move {
        let mut count = 0_u32;
        while let Ok(Some(_)) = lines.next_line().await {
            count += 1;
        }
        count
    });
    tokio::time::sleep(SETTLE).await;
    let mut resident = Series::default();
    for _ in 0..SAMPLES {
        tokio::time::sleep(Duration::from_secs(1)).await;
        resident.push(status_mib(pid, "VmRSS")? - before);
    }
    child.kill().await?;
    let lines = reading.await?;
    anyhow::ensure!(lines > INSTANCES * 50, "only {lines} lines came; what was measured does not count");
    report.bounded(ROW, "server, following 100 logs, over before", "MiB", resident, 20.0);
    chassis.end().await
}
