//! The figures of a soak, and what is kept of one that failed.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use chassis_testkit::long_run::tell;

use crate::agents::Tally;
use crate::checks::Growth;
use crate::faults::{self, Faults};
use crate::watch::{Rest, Sample, Watch};
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) time: Duration,
    pub(crate) instances: usize,
    pub(crate) deployed: Duration,
    pub(crate) recovered: Duration,
    pub(crate) before: Rest,
    pub(crate) after: Rest,
    pub(crate) growth: Growth,
    pub(crate) samples: Vec<Sample>,
    pub(crate) lines: u64,
    pub(crate) calm_gap: u64,
    pub(crate) restarts: u32,
    pub(crate) engine_restarts: u32,
    pub(crate) commands: u32,
    pub(crate) missed: u32,
    pub(crate) faults: Tally,
    pub(crate) violations: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes =
            |kibibytes: u64| format!("{}.{} MiB", kibibytes >> 10, (kibibytes & 1023) * 10 / 1024);
        let most = |figure: fn(&Sample) -> u64| self.samples.iter().map(figure).max().unwrap_or(0);
        let mut row = |name: &str, value: String| writeln!(formatter, "  {name:<42}{value:>20}");
        row("seed", self.seed.to_string())?;
        row("time of faults", format!("{} s", self.time.as_secs()))?;
        row("instances in the end", self.instances.to_string())?;
        row("all healthy after the deployment", format!("{:.1} s", self.deployed.as_secs_f64()))?;
        row("all healthy after the last fault", format!("{:.1} s", self.recovered.as_secs_f64()))?;
        row("restarts that nobody asked for", self.restarts.to_string())?;
        row("commands", self.commands.to_string())?;
        row("lines of data, each checked", self.lines.to_string())?;
        row("longest gap of those left alone", format!("{} s", self.calm_gap))?;
        writeln!(formatter, "\n  {:<42}{:>9}{:>9}{:>9}", "held", "before", "after", "most")?;
        let rest = [
            ("server, KiB", self.before.server.memory, self.after.server.memory, most(|s| s.server.memory)),
            (
                "server, open files",
                self.before.server.files,
                self.after.server.files,
                most(|s| s.server.files),
            ),
            (
                "server, threads",
                self.before.server.threads,
                self.after.server.threads,
                most(|s| s.server.threads),
            ),
            (
                "dockerd, KiB",
                self.before.dockerd.memory,
                self.after.dockerd.memory,
                most(|s| s.dockerd.memory),
            ),
            (
                "dockerd, open files",
                self.before.dockerd.files,
                self.after.dockerd.files,
                most(|s| s.dockerd.files),
            ),
            ("dockerd, goroutines", self.before.goroutines, self.after.goroutines, 0),
            ("rules of iptables", self.before.rules, self.after.rules, 0),
        ];
        for (name, before, after, most) in rest {
            let most = if most == 0 { "-".to_owned() } else { most.to_string() };
            writeln!(formatter, "  {name:<42}{before:>9}{after:>9}{most:>9}")?;
        }
        let Growth { first, last, over } = self.growth;
        writeln!(
            formatter,
            "  the last server: {} in its first tenth, {} in its last, {} s in all",
            mebibytes(first),
            mebibytes(last),
            over.as_secs()
        )?;
        writeln!(formatter, "\n  {:<42}{:>20}", "what went wrong, or was asked for", "times")?;
        writeln!(formatter, "  {:<42}{:>20}", "Engine restarted", self.engine_restarts)?;
        for (name, count) in &self.faults {
            writeln!(formatter, "  {name:<42}{count:>20}")?;
        }
        writeln!(formatter, "  {:<42}{:>20}", "found nothing to be done to", self.missed)?;
        for name in faults::names().filter(|name| !self.faults.contains_key(name)) {
            writeln!(formatter, "  NOT EXERCISED, not once: {name}")?;
        }
        writeln!(formatter)?;
        if self.violations.is_empty() {
            return write!(formatter, "nothing lost, nothing left behind");
        }
        for violation in &self.violations {
            writeln!(formatter, "VIOLATION: {violation}")?;
        }
        write!(formatter, "{} violations; run it again with SOAK_SEED={}", self.violations.len(), self.seed)
    }
}

/// Keeps what could tell why: the server's log and database, all samples, what happened when.
pub(crate) fn keep_evidence(world: &World, faults: &Faults, watch: &Watch, seed: u64) {
    let directory = std::env::temp_dir().join(format!("chassis-soak-{seed}"));
    let keep = |name: &str, text: &str| fs::write(directory.join(name), text);
    let kept = fs::create_dir_all(&directory)
        .and_then(|()| keep("server.log", &world.server_log()))
        .and_then(|()| keep("samples.csv", &watch.csv()))
        .and_then(|()| keep("faults.txt", &faults.journal.join("\n")))
        .and_then(|()| keep("violations.txt", &world.violations.join("\n")))
        .and_then(|()| copy_database(world, &directory));
    match kept {
        Ok(()) => tell(&format!("what could tell why is in {}", directory.display())),
        Err(error) => tell(&format!("what could tell why could not be kept: {error}")),
    }
}

fn copy_database(world: &World, directory: &Path) -> std::io::Result<()> {
    for name in ["chassis.db", "chassis.db-wal"] {
        fs::copy(world.chassis.data_dir().join(".server").join(name), directory.join(name))?;
    }
    Ok(())
}
