//! How fast the server answers: one instance of a thousand to a hundred connections, and the list of all of them.

use std::time::Duration;

use anyhow::Result;

use crate::chassis::Chassis;
use crate::load::{self, Loads};
use crate::report::{Report, progress};
use crate::service;
use crate::world::World;

const INSTANCES: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(5);
const ROUNDS: usize = 5;
const GET_CONNECTIONS: usize = 100;
/// Requests a second that are to be served, and served soon.
const GET_RATE: f64 = 5000.0;
const LIST_CONNECTIONS: usize = 10;
/// No instance is described in less; and a list holds all.
const INSTANCE_BYTES: usize = 150;

pub(crate) async fn get(world: &World, report: &mut Report) -> Result<()> {
    const ROW: &str = "api-get";
    let chassis = filled(world, ROW).await?;
    let path =
        |number| format!("/api/v1/fleets/{}/agents/{}/instances/{number}", chassis.fleet, service::AGENT);
    let paths: Vec<String> = (1..=INSTANCES).map(path).collect();
    let loads = loaded(&chassis, ROW, GET_CONNECTIONS, None, &paths, INSTANCE_BYTES).await?;
    report.at_least(ROW, "one instance of 1 000, 100 connections", "/s", loads.per_second, GET_RATE);
    let loads = loaded(&chassis, ROW, GET_CONNECTIONS, Some(GET_RATE), &paths, INSTANCE_BYTES).await?;
    report.bounded(ROW, "99 of 100 within, at 5 000 a second", "ms", loads.p99, 10.0);
    chassis.end().await
}

pub(crate) async fn list(world: &World, report: &mut Report) -> Result<()> {
    const ROW: &str = "api-list";
    let chassis = filled(world, ROW).await?;
    let paths = [format!("/api/v1/instances?fleet={}&limit={INSTANCES}", chassis.fleet)];
    let bytes = INSTANCE_BYTES * INSTANCES as usize;
    let loads = loaded(&chassis, ROW, LIST_CONNECTIONS, None, &paths, bytes).await?;
    report.at_least(ROW, "list of 1 000 instances, 10 connections", "/s", loads.per_second, 300.0);
    report.plain(ROW, "the same, 99 of 100 within", "ms", loads.p99);
    chassis.end().await
}

async fn filled(world: &World, row: &str) -> Result<Chassis> {
    let chassis = Chassis::serve(world, row, "sim").await?;
    chassis.deploy(&chassis.agent_file(world, "simulated:1", &[])?).await?;
    chassis.scale(INSTANCES).await?;
    Ok(chassis)
}

async fn loaded(
    chassis: &Chassis,
    row: &str,
    connections: usize,
    rate: Option<f64>,
    paths: &[String],
    expected: usize,
) -> Result<Loads> {
    let mut loads = Loads::default();
    for round in 0..ROUNDS {
        let load = load::ask(&chassis.data_dir, connections, rate, WINDOW, paths.to_vec(), expected).await?;
        progress(&format!("{row}: round {} of {ROUNDS}, {:.0}/s", round + 1, load.per_second));
        loads.push(&load);
    }
    Ok(loads)
}
