//! How long a server takes to its start with ten thousand instances in its store: from its process to `/ready`.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use hyper::Method;

use crate::chassis::Chassis;
use crate::load::Caller;
use crate::report::{Report, progress};
use crate::stats::Series;
use crate::world::World;

const ROW: &str = "start-10000";
const INSTANCES: u32 = 10_000;
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let mut chassis = Chassis::serve(world, ROW, "sim").await?;
    chassis.deploy(&chassis.agent_file(world, "simulated:1", &[])?).await?;
    progress("start-10000: 10 000 instances");
    // What is wanted is in the store when the command ends.
    chassis.run(&["scale", "fleet", &chassis.fleet, &INSTANCES.to_string(), "--no-wait"]).await?;
    let mut elapsed = Series::default();
    for round in 0..ROUNDS {
        chassis.stop().await?;
        let began = Instant::now();
        chassis.start("sim")?;
        while !is_ready(&chassis).await {
            if began.elapsed() > PATIENCE {
                bail!("the server is not ready after {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        progress(&format!("{ROW}: round {} of {ROUNDS}, {:.3} s", round + 1, began.elapsed().as_secs_f64()));
        elapsed.push(began.elapsed().as_secs_f64());
    }
    let figures = Caller::connect(&chassis.data_dir).await?.call(Method::GET, "/metrics", None).await?;
    let wanted = format!("chassis_instances_desired{{fleet=\"{}\"}} {INSTANCES}\n", chassis.fleet);
    ensure!(String::from_utf8_lossy(&figures).contains(&wanted), "there are not {INSTANCES} instances");
    report.bounded(ROW, "server start to ready, 10 000 instances", "s", elapsed, 1.0);
    chassis.end().await
}

async fn is_ready(chassis: &Chassis) -> bool {
    let Ok(mut caller) = Caller::connect(&chassis.data_dir).await else { return false };
    caller.call(Method::GET, "/ready", None).await.is_ok()
}
