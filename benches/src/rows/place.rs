//! The scheduler alone: places given on 1 000 nodes, which fill up meanwhile, one after the other and each with its change.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use chassis_core::InstanceKey;
use chassis_core::node::{Amounts, Architecture, NodeName, NodeSpec};
use chassis_core::schedule::{Demand, Request, Rules, Scheduler, Strategy, Submitted, Wait, WhenDown};
use chassis_spec::RuntimeKind;
use jiff::Timestamp;

use crate::report::{Report, progress};
use crate::stats::Series;

const ROW: &str = "place";
const NODES: u32 = 1_000;
const INSTANCES: u32 = 50_000;
const ROUNDS: usize = 5;
/// Placements a second.
const TARGET: f64 = 20_000.0;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    progress("place");
    let now: Timestamp = "2026-11-22T12:00:00Z".parse()?;
    for (strategy, word) in [(Strategy::Spread, "spread"), (Strategy::Binpack, "binpack")] {
        let plain = Demand { amounts: amounts(100, 128), ..Demand::default() };
        let choosy = Demand {
            region: Some("north".into()),
            architecture: Some(Architecture::Amd64),
            labels: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]),
            ..plain.clone()
        };
        for (demand, name) in [
            (plain, format!("placements on 1 000 nodes, {word}")),
            (choosy, format!("the same, by region, architecture and label, {word}")),
        ] {
            let mut series = Series::default();
            for _ in 0..ROUNDS {
                series.push(rate(&Arc::new(demand.clone()), strategy, now)?);
            }
            report.at_least(ROW, &name, "/s", series, TARGET);
        }
    }
    Ok(())
}

/// Places so many instances with nothing but their names different; all of them fit.
fn rate(demand: &Arc<Demand>, strategy: Strategy, now: Timestamp) -> Result<f64> {
    let mut scheduler = nodes(strategy, now)?;
    let requests: Vec<Request> =
        (1..=INSTANCES).map(|number| request(number, demand)).collect::<Result<_>>()?;
    let began = Instant::now();
    for request in requests {
        let submitted = scheduler.submit(request, now)?;
        ensure!(matches!(submitted, Submitted::Placed(_)), "an instance found no place");
        black_box(scheduler.take_changes());
    }
    Ok(f64::from(INSTANCES) / began.elapsed().as_secs_f64())
}

/// Nodes of three regions and two kinds of disk, all of which take part.
fn nodes(strategy: Strategy, now: Timestamp) -> Result<Scheduler> {
    let mut scheduler = Scheduler::new(Rules { strategy, ..Rules::default() }, 0);
    for number in 0..NODES {
        let name: NodeName = format!("node-{number:04}").parse()?;
        let cores = [32, 64][number as usize % 2];
        let disk = ["ssd", "hdd"][number as usize / 2 % 2];
        let spec = NodeSpec {
            name: name.clone(),
            capacity: Amounts { slots: 1_000, ..amounts(cores * 1_000, cores * 4096) },
            architecture: Architecture::Amd64,
            runtimes: BTreeSet::from([RuntimeKind::Docker]),
            region: Some(["east", "north", "west"][number as usize % 3].into()),
            labels: BTreeMap::from([("disk".to_owned(), disk.to_owned())]),
        };
        let term = scheduler.node_register(spec, now).term;
        let orders = scheduler.node_report(&name, term, &[], now)?;
        ensure!(orders.joined, "a node is not taken on");
    }
    scheduler.take_changes();
    Ok(scheduler)
}

fn amounts(cpu_millis: u64, mebibytes: u64) -> Amounts {
    Amounts { cpu_millis, memory_bytes: mebibytes << 20, disk_bytes: 0, slots: 1 }
}

fn request(number: u32, demand: &Arc<Demand>) -> Result<Request> {
    let parsed = |error| anyhow!("a name that is none: {error}");
    Ok(Request {
        instance: InstanceKey {
            fleet: "bench".parse().map_err(parsed)?,
            agent: format!("agent-{}", number / 100).parse().map_err(parsed)?,
            number,
        },
        tenant: "bench".into(),
        priority: 0,
        demand: demand.clone(),
        when_down: WhenDown::Stay,
        ends: false,
        wait: Wait::No,
    })
}
