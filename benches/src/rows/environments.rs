//! How many environments a second can be made through Fuse's API, each on disk and running before it is answered, and what
//! a hundred thousand of them cost.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::chassis::Chassis;
use crate::load::{self, Loads};
use crate::report::{Report, progress};
use crate::rows::memory::status_mib;
use crate::stats::Series;
use crate::world::World;

const ROW: &str = "environments";
const PATH: &str = "/v1/environments";
const WORKERS: usize = 50;
const EACH: usize = 2000;
const ROUNDS: usize = 3;
const MANY: usize = 100_000;
/// Those that are only to be there are made so many at a time, to tell how far it is.
const BATCH: usize = 10_000;
const SETTLE: Duration = Duration::from_secs(10);

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let chassis = Chassis::serve(world, ROW, "sim").await?;
    let pid = chassis.pid()?;
    let mut loads = Loads::default();
    let mut made = 0;
    for round in 1..=ROUNDS {
        let load = make(&chassis, made, EACH).await?;
        made += EACH;
        progress(&format!("{ROW}: round {round} of {ROUNDS}, {:.0}/s", load.per_second));
        loads.push(&load);
    }
    report.at_least(ROW, "environments made on sim, 50 workers, durable", "/s", loads.per_second, 300.0);
    report.bounded(ROW, "the same, 99 of 100 within", "ms", loads.p99, 50.0);
    let began = Instant::now();
    while made < MANY {
        let count = BATCH.min(MANY - made);
        make(&chassis, made, count).await?;
        made += count;
        progress(&format!("{ROW}: {made} of {MANY} after {:.0} s", began.elapsed().as_secs_f64()));
    }
    tokio::time::sleep(SETTLE).await;
    let (mut resident, mut each) = (Series::default(), Series::default());
    let mib = status_mib(pid, "VmRSS")?;
    resident.push(mib);
    each.push(mib * 1024.0 / 100_000.0);
    report.plain(ROW, "server with 100 000 environments on sim", "MiB", resident);
    report.plain(ROW, "the same, for each of them", "KiB", each);
    chassis.end().await
}

async fn make(chassis: &Chassis, first: usize, count: usize) -> Result<load::Load> {
    let body = move |number: usize| json!({ "task_id": format!("task-{}", first + number) });
    load::send(&chassis.data_dir, WORKERS, count, PATH, body).await
}
