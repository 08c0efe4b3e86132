//! What the server costs while nothing happens: memory with 50 instances on Docker and with 10 000 simulated ones, and
//! processor time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::chassis::Chassis;
use crate::report::{Report, progress};
use crate::rows::scale;
use crate::stats::Series;
use crate::world::World;

const ROW: &str = "memory";
const SETTLE: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(20);
const WINDOWS: usize = 3;
const SIMULATED: u32 = 10_000;

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    on_docker(world, report).await?;
    simulated(world, report).await
}

async fn on_docker(world: &World, report: &mut Report) -> Result<()> {
    let chassis = Chassis::serve(world, ROW, "docker").await?;
    let pid = chassis.pid()?;
    chassis.deploy(&chassis.agent_file(world, world.image().await?, &[])?).await?;
    progress("memory: 50 instances");
    chassis.scale(scale::TO).await?;
    running_expect(&chassis, scale::TO).await?;
    tokio::time::sleep(SETTLE).await;
    let (mut resident, mut busy) = (Series::default(), Series::default());
    for _ in 0..WINDOWS {
        let (began, before) = (Instant::now(), processor_time(pid)?);
        tokio::time::sleep(WINDOW).await;
        let used = processor_time(pid)?.saturating_sub(before);
        busy.push(100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64());
        running_expect(&chassis, scale::TO).await?;
        resident.push(status_mib(pid, "VmRSS")?);
    }
    let peak = status_mib(pid, "VmHWM")?;
    report.bounded(ROW, "server, 50 instances on Docker", "MiB", resident, 25.0);
    report.plain(ROW, "server, 50 instances on Docker, peak", "MiB", peak.into());
    report.bounded(ROW, "server, 50 instances on Docker, idle CPU", "%", busy, 0.2);
    chassis.end().await
}

async fn simulated(world: &World, report: &mut Report) -> Result<()> {
    let chassis = Chassis::serve(world, "sim", "sim").await?;
    let pid = chassis.pid()?;
    chassis.deploy(&chassis.agent_file(world, "simulated:1", &[])?).await?;
    progress("memory: 10 000 simulated instances");
    let elapsed = chassis.scale(SIMULATED).await?.elapsed;
    tokio::time::sleep(SETTLE).await;
    let mut resident = Series::default();
    for _ in 0..WINDOWS {
        running_expect(&chassis, SIMULATED).await?;
        resident.push(status_mib(pid, "VmRSS")?);
    }
    let peak = status_mib(pid, "VmHWM")?;
    report.bounded(ROW, "server, 10 000 instances on sim", "MiB", resident, 60.0);
    report.plain(ROW, "server, 10 000 instances on sim, peak", "MiB", peak.into());
    report.plain(ROW, "chassis scale 1 -> 10 000 on sim", "s", elapsed.as_secs_f64().into());
    chassis.end().await
}

/// Asks for everything there is, and fails unless exactly so many instances run.
async fn running_expect(chassis: &Chassis, expected: u32) -> Result<()> {
    let instances: Value = serde_json::from_str(&chassis.run(&["ps", "-o", "json"]).await?.stdout)?;
    let running =
        instances.as_array().into_iter().flatten().filter(|instance| instance["phase"] == "Running");
    let running = running.count();
    if running != expected as usize {
        bail!("{running} instances run, not {expected}; what was measured does not count");
    }
    Ok(())
}

/// A size that the kernel gives for a process.
pub(crate) fn status_mib(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no {field}"))?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// The processor time of all threads of a process, those that ended included.
fn processor_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, and may hold anything.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks =
        |index: usize| fields.get(index).context("a short /proc/<pid>/stat")?.parse::<u64>().context("ticks");
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / per_second))
}
