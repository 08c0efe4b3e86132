//! Measures chassis beside the Engine's API, `docker run`, Compose and Swarm, on this machine and in one run.
//!
//! What holds: rivals and chassis take turns within each row, so that both have the same noise; nobody is measured
//! while things are removed; a sample counts only if the containers really run; everything that a run makes is
//! taken away at its end, however it ends.

mod chassis;
mod command;
mod docker;
mod load;
mod report;
mod rivals;
mod rows;
mod service;
mod stats;
mod template;
mod world;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use report::{Report, progress};
use world::World;

/// Measures chassis beside Docker, Compose and Swarm.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure [default: everything]
    rows: Vec<Row>,
    /// Write the figures with all samples here too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Row {
    Deploy,
    Scale,
    Memory,
    Plan,
    Place,
    Logs,
    Health,
    Rollout,
    Burst,
    #[value(name = "logs-100")]
    LogsMany,
    #[value(name = "api-get")]
    ApiGet,
    #[value(name = "api-list")]
    ApiList,
    Create,
    Environments,
    Watchers,
    #[value(name = "start-10000")]
    Start,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let rows = if args.rows.is_empty() { Row::value_variants() } else { &args.rows };
    let world = World::new()?;
    let mut report = Report::default();
    let measured = tokio::select! {
        measured = measure(&world, rows, &mut report) => measured,
        () = interrupted() => Err(anyhow!("interrupted")),
    };
    progress("cleaning up");
    let cleaned = world.clean_up().await.context("something was left behind");
    report.print()?;
    if let Some(file) = args.json {
        std::fs::write(&file, format!("{:#}\n", report.json()))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    measured.and(cleaned)
}

/// Measures row after row; one that fails does not keep the others from being measured.
async fn measure(world: &World, rows: &[Row], report: &mut Report) -> Result<()> {
    let mut failed = Ok(());
    for row in rows {
        let measured = match row {
            Row::Deploy => rows::deploy::measure(world, report).await,
            Row::Scale => rows::scale::measure(world, report).await,
            Row::Memory => rows::memory::measure(world, report).await,
            Row::Plan => rows::plan::measure(report),
            Row::Place => rows::place::measure(report),
            Row::Health => rows::health::measure(world, report).await,
            Row::Rollout => rows::rollout::measure(world, report).await,
            Row::Logs => rows::logs::measure(world, report).await,
            Row::Burst => rows::burst::measure(world, report).await,
            Row::LogsMany => rows::logs_many::measure(world, report).await,
            Row::ApiGet => rows::api::get(world, report).await,
            Row::ApiList => rows::api::list(world, report).await,
            Row::Create => rows::create::measure(world, report).await,
            Row::Environments => rows::environments::measure(world, report).await,
            Row::Watchers => rows::watchers::measure(world, report).await,
            Row::Start => rows::start::measure(world, report).await,
        };
        if let Err(error) = measured {
            progress(&format!("{row:?} failed: {error:#}"));
            failed = Err(anyhow!("not all rows could be measured"));
            world.clear().await.context("something is left behind")?;
        }
    }
    failed
}

async fn interrupted() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}
