//! How many agents a second can be created, each of them on disk before it is answered.

use anyhow::Result;
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
    let mut chassis = Chassis::serve(world, ROW, "sim").await?;
    let mut loads = Loads::default();
    for round in 0..ROUNDS {
        if round > 0 {
            chassis.fleet_renew(&world.fleet(&format!("{ROW}-{round}"))).await?;
        }
        let (fleet, path) = (chassis.fleet.clone(), format!("/api/v1/fleets/{}/apply", chassis.fleet));
        let body = move |number| agent(&fleet, number);
        let load = load::send(&chassis.data_dir, CONNECTIONS, AGENTS, &path, body).await?;
        progress(&format!("{ROW}: round {} of {ROUNDS}, {:.0}/s", round + 1, load.per_second));
        loads.push(&load);
    }
    report.at_least(ROW, "agents created, 32 at once, SQLite", "/s", loads.per_second, 500.0);
    report.plain(ROW, "the same, 99 of 100 within", "ms", loads.p99);
    chassis.end().await
}

fn agent(fleet: &str, number: usize) -> Value {
    json!({ "agents": [{ "name": format!("agent-{number}"), "fleet": fleet, "image": "simulated:1" }] })
}
