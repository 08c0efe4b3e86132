//! Failover: two servers on one Postgres, then three; in each round the one that acts is killed, or stopped for longer than
//! its lease and let go on, while clients change things through all of them on real Docker. Then the history is held
//! against a model: every acknowledged write is there, no refused one is, nothing ran twice, and only the holder of the
//! lease wrote what only it may write.
//!
//! `make failover` runs a hundred rounds with the release binary; `make test` runs five. It tells its figures, and exits 1
//! if anything is wrong. Ctrl-C ends it early, and it takes everything away all the same.
//!
//! `FAILOVER_ROUNDS` (5), `FAILOVER_SEED` (from the clock).

#[path = "../soak/chance.rs"]
mod chance;
mod history;
mod load;
mod model;
mod report;
mod rounds;
mod sampler;
mod world;

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chance::Chance;
use chassis_testkit::long_run::{interrupt_watch, is_interrupted, number, tell};
use load::Load;
use report::Report;
use sampler::Sampler;
use world::World;

fn main() -> ExitCode {
    // What nextest asks of a test without a harness.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            tell("failover: test");
        }
        return ExitCode::SUCCESS;
    }
    interrupt_watch();
    let rounds = number("FAILOVER_ROUNDS", 5);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let seed = number("FAILOVER_SEED", clock);
    tell(&format!("failover: {rounds} rounds, FAILOVER_SEED={seed}"));
    let Some(world) = World::start() else {
        // It has said why.
        return ExitCode::SUCCESS;
    };
    let report = failover(world, rounds, seed);
    if is_interrupted() {
        tell("interrupted; everything is taken away");
        return ExitCode::from(130);
    }
    tell(&report.to_string());
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn failover(mut world: World, rounds: u32, seed: u64) -> Report {
    let began = Instant::now();
    let mut chance = Chance::new(seed);
    let sampler = Sampler::start(&world);
    let load = Load::start(&world, seed);
    let mut figures = rounds::run(&mut world, rounds, &mut chance);
    let operations = load.stop();
    let mut violations = std::mem::take(&mut figures.violations);
    if !is_interrupted() {
        model::settle(&mut world, &mut violations);
        let doubled = sampler.stop();
        let history = history::read(&world.postgres);
        violations.extend(doubled.violations.iter().cloned());
        model::check(&operations, &history, &world, &mut violations);
        figures.samples = doubled.samples;
        figures.takeovers_by_lease.clone_from(&history.takeovers);
        figures.epochs = history.epochs;
        world.delete_everything(&mut violations);
    }
    if !violations.is_empty() {
        world.tell_logs();
    }
    Report { seed, rounds, time: began.elapsed(), operations, figures, violations }
}
