//! How many agents a second can be created, each of them on disk before it is answered.

use anyhow::Result;
use chassis_testkit::Postgres;
use serde_json::{Value, json};

use crate::chassis::Chassis;
use crate::load::{self, Loads};
use crate::report::{Report, progress};
use crate::world::World;

const ROW: &str = "create";
const CONNECTIONS: usize = 32;
const AGENTS: usize = 2000;
const ROUNDS: usize = 3;

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let chassis = Chassis::serve(world, ROW, "sim").await?;
    measure_on(chassis, world, report, "SQLite", 500.0).await?;
    // With its defaults: a commit is on disk.
    let Some(postgres) = Postgres::start_with(&[]) else { return Ok(()) };
    let row = format!("{ROW}-postgres");
    let chassis = Chassis::serve_on(world, &row, "sim", Some(postgres.database())).await?;
    measure_on(chassis, world, report, "Postgres", 300.0).await
}

async fn measure_on(
    mut chassis: Chassis,
    world: &World,
    report: &mut Report,
    store: &str,
    least: f64,
) -> Result<()> {
    let mut loads = Loads::default();
    for round in 0..ROUNDS {
        if round > 0 {
            chassis.fleet_renew(&world.fleet(&format!("{ROW}-{store}-{round}").to_lowercase())).await?;
        }
        let (fleet, path) = (chassis.fleet.clone(), format!("/api/v1/fleets/{}/apply", chassis.fleet));
        let body = move |number| agent(&fleet, number);
        let load = load::send(&chassis.data_dir, CONNECTIONS, AGENTS, &path, body).await?;
        progress(&format!("{ROW}, {store}: round {} of {ROUNDS}, {:.0}/s", round + 1, load.per_second));
        loads.push(&load);
    }
    report.at_least(ROW, &format!("agents created, 32 at once, {store}"), "/s", loads.per_second, least);
    report.plain(ROW, "the same, 99 of 100 within", "ms", loads.p99);
    chassis.end().await
}

fn agent(fleet: &str, number: usize) -> Value {
    json!({ "agents": [{ "name": format!("agent-{number}"), "fleet": fleet, "image": "simulated:1" }] })
}
