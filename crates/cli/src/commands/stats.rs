//! `chassis stats`: what instances use, in figures.

use std::time::Duration;

use chassis_api::{InstanceStats, Stats, StatsQuery, Usage};
use chassis_client::Client;
use serde::Serialize;

use crate::args::{Format, Selector, Stats as Args};
use crate::commands::health;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Cell, Table, Terminal, clean, percent, place, size, state};
use crate::rates::{Rates, rates};

/// Between the two samples that a rate is made of.
const APART: Duration = Duration::from_secs(1);
/// How long a picture stays with `--watch`.
const REFRESH: Duration = Duration::from_secs(2);

/// An instance as it is printed: counters, and rates over the last second or two.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    stats: InstanceStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<Rates>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let query = query(&client, args.name.as_deref(), &args.selector).await?;
    let mut before = client.stats(&query).await?;
    let mut pause = APART;
    loop {
        // What does not run has no rate that is worth waiting for.
        if args.watch || before.instances.iter().any(|instance| instance.usage.is_some()) {
            tokio::time::sleep(pause).await;
        }
        let after = client.stats(&query).await?;
        if args.watch && context.terminal.stdout {
            // To the top left, and what was there before is gone.
            output::data("\x1b[H\x1b[2J")?;
        }
        print(context.terminal, args.output.output, &rows(&before, after.clone()))?;
        if !args.watch {
            return Ok(Exit::Done);
        }
        before = after;
        pause = REFRESH;
    }
}

/// Whose usage a name and labels mean; everybody's without them.
pub(super) async fn query(
    client: &Client,
    name: Option<&str>,
    selector: &Selector,
) -> Result<StatsQuery, Failure> {
    let labels = selector.query();
    let Some(name) = name else { return Ok(StatsQuery { labels, ..StatsQuery::default() }) };
    let scope = client.resolve(name, None).await?;
    Ok(StatsQuery { fleet: Some(scope.fleet), agent: scope.agent, number: scope.number, labels })
}

/// Both lists are in the same order.
fn rows(before: &Stats, after: Stats) -> Vec<Row> {
    let mut earlier = before.instances.iter().peekable();
    let key = |stats: &InstanceStats| {
        let instance = &stats.instance;
        (instance.fleet.clone(), instance.agent.clone(), instance.number)
    };
    let row = |stats: InstanceStats| {
        let own = key(&stats);
        while earlier.next_if(|other| key(other) < own).is_some() {}
        let then = earlier.next_if(|other| key(other) == own).and_then(|other| other.usage);
        let rates = then.zip(stats.usage).and_then(|(then, now)| rates(&then, &now));
        Row { stats, rates }
    };
    after.instances.into_iter().map(row).collect()
}

fn print(terminal: Terminal, format: Format, rows: &[Row]) -> Result<(), Failure> {
    if rows.is_empty() && matches!(format, Format::Table | Format::Wide) {
        terminal.say("no instances; `chassis ps` shows what there is");
        return Ok(());
    }
    let names = || rows.iter().map(|row| long_name(&row.stats)).collect();
    output::print(format, rows, names, |wide| table(terminal, rows, wide))?;
    // Once for all that have the same.
    let mut errors: Vec<&str> = rows.iter().filter_map(|row| row.stats.usage_error.as_deref()).collect();
    errors.sort_unstable();
    errors.dedup();
    for error in errors {
        terminal.say(&format!("warning: {}", clean(error)));
    }
    Ok(())
}

fn table(terminal: Terminal, rows: &[Row], wide: bool) -> String {
    let mut header =
        vec!["NAME", "STATE", "CPU", "MEMORY", "LIMIT", "NET IN/OUT", "DISK IN/OUT", "PROCESSES", "RESTARTS"];
    if wide {
        header.extend(["HEALTH", "CORES", "NET IN/OUT PER S", "DISK IN/OUT PER S", "PROCESS LIMIT", "NODE"]);
    }
    let mut table = Table::new(terminal, &header);
    let several = rows.iter().any(|row| row.stats.instance.fleet != rows[0].stats.instance.fleet);
    for row in rows {
        table.row(cells(row, several, wide));
    }
    table.render()
}

fn cells(row: &Row, several: bool, wide: bool) -> Vec<Cell> {
    let InstanceStats { instance, usage, cpu_limit_cores, .. } = &row.stats;
    let known = |text: &dyn Fn(&Usage) -> String| usage.as_ref().map_or_else(|| "-".to_owned(), text).into();
    let rated =
        |text: &dyn Fn(&Rates) -> String| row.rates.as_ref().map_or_else(|| "-".to_owned(), text).into();
    let name =
        if several { long_name(&row.stats) } else { format!("{}-{}", instance.agent, instance.number) };
    let mut cells: Vec<Cell> = vec![
        name.into(),
        state(instance),
        rated(&|rates| percent(rates.cpu_cores)),
        known(&|usage| size(usage.memory_bytes)),
        known(&|usage| size(usage.memory_limit_bytes)),
        known(&|usage| pair(usage.network_received_bytes, usage.network_sent_bytes)),
        known(&|usage| pair(usage.disk_read_bytes, usage.disk_written_bytes)),
        known(&|usage| usage.processes.to_string()),
        instance.restarts.into(),
    ];
    if wide {
        cells.push(health::state(instance.health));
        cells.push(cpu_limit_cores.map_or_else(|| "all".into(), Cell::from));
        cells.push(rated(&|rates| {
            rate_pair(rates.network_received_bytes_per_second, rates.network_sent_bytes_per_second)
        }));
        cells.push(rated(&|rates| {
            rate_pair(rates.disk_read_bytes_per_second, rates.disk_written_bytes_per_second)
        }));
        cells.push(known(&|usage| {
            usage.processes_limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string())
        }));
        cells.push(place(&instance.node).into());
    }
    cells
}

fn pair(one: u64, two: u64) -> String {
    format!("{} / {}", size(one), size(two))
}

/// Two rates in bytes per second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are not negative, and whole bytes do"
)]
pub(super) fn rate_pair(one: f64, two: f64) -> String {
    pair(one as u64, two as u64)
}

fn long_name(stats: &InstanceStats) -> String {
    let instance = &stats.instance;
    format!("{}/{}-{}", instance.fleet, instance.agent, instance.number)
}
