//! A soak: a hundred instances on an Engine of their own, and for `SOAK_MINUTES` everything goes wrong that can, about once
//! a second, from a seed that is printed. Then it stops, and everything must be healthy again soon, with all data as it
//! was written and nothing left behind: no container, network, file, process, nor memory of the server.
//!
//! `make soak` runs an hour of it with the release binary; `make test` runs two minutes. It needs root, and touches
//! nothing of the machine's own Engine. It tells its figures, and exits 1 if anything is wrong; then what could tell why
//! is kept. Ctrl-C ends it early, and it takes everything away all the same.
//!
//! `SOAK_MINUTES` (2), `SOAK_INSTANCES` (100), `SOAK_SEED` (from the clock).

mod agents;
mod chance;
mod checks;
mod faults;
mod report;
mod watch;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis_testkit::long_run::{interrupt_watch, is_interrupted, number, tell};
use chassis_testkit::pause;

use faults::Faults;
use report::Report;
use watch::{Pids, Watch};
use world::World;

/// From one thing that happens to the next.
const EVERY: Duration = Duration::from_secs(1);
/// Until an agent that hangs is known to: three checks that are each waited for and 3 s apart, and a little more.
const HANG_SEEN: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    // What nextest asks of a test without a harness.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            tell("soak: test");
        }
        return ExitCode::SUCCESS;
    }
    interrupt_watch();
    let minutes = number("SOAK_MINUTES", 2.0);
    let instances = number("SOAK_INSTANCES", 100);
    let clock =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let seed = number("SOAK_SEED", clock);
    tell(&format!("soak: {minutes} minutes, {instances} instances, SOAK_SEED={seed}"));
    let report = soak(Duration::from_secs_f64(minutes * 60.0), instances, seed);
    if is_interrupted() {
        tell("interrupted; everything is taken away");
        return ExitCode::from(130);
    }
    match report {
        Some(report) => {
            tell(&report.to_string());
            if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        None => ExitCode::FAILURE,
    }
}

/// `None` if it was interrupted.
fn soak(time: Duration, instances: u32, seed: u64) -> Option<Report> {
    let pids = Arc::new(Pids::default());
    let mut world = World::new(instances, Arc::clone(&pids));
    world.note_engine();
    tell("deploying");
    world.deploy();
    let deployed = checks::until_healthy(&mut world, is_interrupted);
    go_on()?;
    pause(Duration::from_secs(10));
    let before = watch::rest(&pids, &world.docker)?;
    tell(&format!("healthy after {:.1} s; everything goes wrong now", deployed.as_secs_f64()));

    let watch = Watch::new(Arc::clone(&pids));
    let mut faults = Faults::new(seed);
    let engine_restarts = endure(&mut world, &mut faults, &watch, time)?;
    tell("the faults stop");
    faults.end(&mut world);
    let stopped = Instant::now();
    pause(HANG_SEEN);
    checks::until_healthy(&mut world, is_interrupted);
    let recovered = stopped.elapsed();
    go_on()?;
    tell(&format!("healthy after {:.1} s; counting what is there", recovered.as_secs_f64()));
    // Threads and connections that nobody uses any more end after ten seconds.
    pause(Duration::from_secs(15));
    checks::check_leaks(&mut world);
    let (lines, calm_gap) = checks::check_data(&mut world, engine_restarts);
    let after = watch::rest(&pids, &world.docker)?;
    checks::check_rest(&mut world, &before, &after);
    let samples = watch.samples();
    let growth = checks::check_growth(&mut world, &samples);
    let restarts = world.chassis.instances().iter().map(|instance| instance.restarts).sum();
    checks::check_log(&mut world);
    if !world.violations.is_empty() {
        report::keep_evidence(&world, &faults, &watch, seed);
    }
    tell("deleting everything");
    checks::check_deletion(&mut world);
    Some(Report {
        seed,
        time,
        instances: world.targets().len(),
        deployed,
        recovered,
        before,
        after,
        growth,
        samples,
        lines,
        calm_gap,
        restarts,
        engine_restarts,
        commands: world.commands(),
        missed: faults.missed,
        faults: std::mem::take(&mut faults.tally),
        violations: std::mem::take(&mut world.violations),
    })
}

/// Lets things go wrong for a time. Returns how often the Engine was restarted.
fn endure(world: &mut World, faults: &mut Faults, watch: &Watch, time: Duration) -> Option<u32> {
    let began = Instant::now();
    let mut engine_restarts = 0;
    let mut next = began;
    let mut told = 0;
    while began.elapsed() < time {
        go_on()?;
        // The Engine goes twice and the server often, but only at first: the second half is for its memory.
        faults.may_kill_server = began.elapsed() < time / 2;
        let due = u32::from(began.elapsed() > time / 5) + u32::from(began.elapsed() > time * 2 / 5);
        if due > engine_restarts {
            tell("the Engine is restarted");
            world.engine_restart(engine_restarts % 2 == 1);
            engine_restarts += 1;
        }
        faults.step(world, watch.elapsed());
        let minute = began.elapsed().as_secs() / 60;
        // One that is frozen answers nobody.
        if minute > told && !faults.is_frozen() {
            told = minute;
            let running =
                world.chassis.instances().iter().filter(|instance| instance.started_at.is_some()).count();
            tell(&format!("minute {minute}: {running} run, {} faults", faults.tally.values().sum::<u32>()));
        }
        next = (next + EVERY).max(Instant::now());
        pause(next.saturating_duration_since(Instant::now()));
    }
    Some(engine_restarts)
}

/// `None` once somebody wants it to end.
fn go_on() -> Option<()> {
    (!is_interrupted()).then_some(())
}
