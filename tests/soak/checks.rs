//! What must hold when the faults have stopped: everything healthy, nothing lost, nothing left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use chassis_testkit::api::{Agent, Instance, Phase};
use chassis_testkit::{pause, process};

use crate::agents::{Target, beats_read};
use crate::watch::{Rest, Sample, median};
use crate::world::World;

/// The longest pause between two tries of a crash loop, and a minute for the start.
const RECOVERY: Duration = Duration::from_mins(6);
/// The count of an instance that is left alone stands still no longer, while everything around it goes wrong.
const LONGEST_GAP: u64 = 20;
/// What may be held more after it all than before it: caches that have filled, threads that have not ended yet.
const MORE_FILES: u64 = 10;
const MORE_THREADS: u64 = 16;
const MORE_GOROUTINES: u64 = 60;
const MORE_MEMORY: u64 = 16 << 10;
/// Processes of an instance: init, the agent, what it calls, its HTTP server.
const MOST_PROCESSES: u32 = 8;
/// Logs of containers that are no more, of one instance.
const MOST_KEPT_LOGS: usize = 10;

/// Waits until every instance is as wanted, and returns how long that took.
pub(crate) fn until_healthy(world: &mut World, interrupted: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    loop {
        world.server_check();
        let wrong = unhealthy(world);
        if wrong.is_empty() || interrupted() {
            return began.elapsed();
        }
        if began.elapsed() > RECOVERY {
            world.violations.extend(wrong);
            return began.elapsed();
        }
        pause(Duration::from_millis(500));
    }
}

/// A line for each instance that is not as wanted.
fn unhealthy(world: &World) -> Vec<String> {
    let chassis = &world.chassis;
    let (Ok(instances), Ok(agents)) =
        (chassis.get::<Vec<Instance>>("/api/v1/instances"), chassis.get::<Vec<Agent>>("/api/v1/agents"))
    else {
        return vec!["the server does not answer".to_owned()];
    };
    let wanted: BTreeSet<String> = world.targets().iter().map(Target::name).collect();
    let name = |instance: &Instance| format!("{}/{}-{}", instance.fleet, instance.agent, instance.number);
    let there: BTreeSet<String> = instances.iter().map(name).collect();
    let mut wrong: Vec<String> =
        wanted.difference(&there).map(|name| format!("{name} is not there")).collect();
    for instance in &instances {
        let revision = agents
            .iter()
            .find(|agent| agent.fleet == instance.fleet && agent.name == instance.agent)
            .map(|agent| agent.revision);
        let well = instance.phase == Phase::Running && instance.revision == revision && is_healthy(instance);
        if !well || !wanted.contains(&name(instance)) {
            wrong.push(format!("not as wanted: {instance:?}"));
        }
    }
    wrong
}

/// One without a check is as healthy as can be told.
fn is_healthy(instance: &Instance) -> bool {
    let health = serde_json::to_value(instance).unwrap_or_default()["health"].clone();
    health.is_null() || health.as_str().is_some_and(|health| health.eq_ignore_ascii_case("healthy"))
}

/// Counts what is there, against what is wanted.
pub(crate) fn check_leaks(world: &mut World) {
    let targets = world.targets();
    let mut wrong = Vec::new();
    let wanted: BTreeSet<String> = targets.iter().map(Target::container).collect();
    differ(&mut wrong, "containers", &wanted, &world.docker.containers().into_iter().collect());
    let wanted = world.fleets().iter().map(|fleet| format!("chassis-{fleet}")).collect();
    differ(&mut wrong, "networks", &wanted, &world.docker.networks().into_iter().collect());
    differ(&mut wrong, "volumes", &BTreeSet::new(), &world.docker.volumes().into_iter().collect());

    let ever = world
        .agents
        .iter()
        .flat_map(|agent| (1..=agent.most).map(|number| format!("{}-{number}", agent.name)));
    let there =
        world.fleets().iter().flat_map(|fleet| names(&world.chassis.data_dir().join(fleet))).collect();
    differ(&mut wrong, "directories of tier 1", &ever.collect(), &there);
    let trash = names(&world.chassis.data_dir().join(".server/trash"));
    differ(&mut wrong, "files in the trash", &BTreeSet::new(), &trash.into_iter().collect());

    for fleet in world.fleets() {
        let kept = world.chassis.data_dir().join(".server/logs").join(fleet);
        for instance in names(&kept) {
            let count = names(&kept.join(&instance)).len();
            if count > MOST_KEPT_LOGS {
                wrong.push(format!("{instance} has {count} kept logs"));
            }
        }
    }
    let secrets = world.chassis.secret_files().len();
    let takers = targets.iter().filter(|target| target.agent == "spool").count();
    if secrets != takers {
        wrong.push(format!("{secrets} secret directories for {takers} instances that take one"));
    }
    let prefix = world.chassis.fleet("");
    let inits = process::inits(&prefix).len();
    if inits != targets.len() {
        wrong.push(format!("{inits} processes chassis-init for {} instances", targets.len()));
    }
    for target in &targets {
        let execs = world.docker.inspect(&target.container()).map(|container| container["ExecIDs"].clone());
        if execs.as_ref().and_then(|execs| execs.as_array()).is_some_and(|execs| !execs.is_empty()) {
            wrong.push(format!("{} has execs that do not end: {execs:?}", target.name()));
        }
        let count = world.init(target).and_then(process::count_in_cgroup);
        if count.is_none_or(|count| count > MOST_PROCESSES) {
            wrong.push(format!("{} has {count:?} processes", target.name()));
        }
    }
    world.violations.append(&mut wrong);
}

/// Reads all data. Returns how many lines there are, and the longest gap of those that nothing was done to.
pub(crate) fn check_data(world: &mut World, engine_restarts: u32) -> (u64, u64) {
    let (mut lines, mut calm_gap) = (0, 0);
    let ever: Vec<(Target, bool)> = world
        .agents
        .iter()
        .flat_map(|agent| {
            (1..=agent.most).map(|number| {
                (Target { fleet: agent.fleet.clone(), agent: agent.name, number }, agent.suffers)
            })
        })
        .collect();
    for (target, suffers) in ever {
        match beats_read(&world.tier1(&target)) {
            Ok(beats) => {
                lines += beats.count;
                if !suffers {
                    calm_gap = calm_gap.max(beats.longest_gap);
                }
            }
            Err(complaint) => world.violations.push(complaint),
        }
        let restarts = world
            .chassis
            .instances()
            .iter()
            .find(|instance| is(instance, &target))
            .map(|found| found.restarts);
        if !suffers && restarts.is_some_and(|restarts| restarts > engine_restarts) {
            world
                .violations
                .push(format!("{} was left alone and restarted {restarts:?} times", target.name()));
        }
    }
    // With the Engine everything stands still, and comes back a few at a time.
    if engine_restarts == 0 && calm_gap > LONGEST_GAP {
        world.violations.push(format!("an instance that was left alone stood still for {calm_gap} s"));
    }
    (lines, calm_gap)
}

fn is(instance: &Instance, target: &Target) -> bool {
    instance.fleet.as_str() == target.fleet
        && instance.agent.as_str() == target.agent
        && instance.number == target.number
}

/// Compares what is held at rest, after it all with before it.
pub(crate) fn check_rest(world: &mut World, before: &Rest, after: &Rest) {
    for (what, before, after, more) in [
        ("files open in the server", before.server.files, after.server.files, MORE_FILES),
        ("threads of the server", before.server.threads, after.server.threads, MORE_THREADS),
        ("KiB of memory of the server", before.server.memory, after.server.memory, MORE_MEMORY),
        ("goroutines of dockerd", before.goroutines, after.goroutines, MORE_GOROUTINES),
    ] {
        if after > before + more {
            world.violations.push(format!("{what}: {before} at rest before, {after} after"));
        }
    }
}

/// How the server's memory grew while one and the same process served.
#[derive(Debug)]
pub(crate) struct Growth {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) over: Duration,
}

/// Compares the last server with itself: the median of its first tenth with that of its last.
pub(crate) fn check_growth(world: &mut World, samples: &[Sample]) -> Growth {
    let own: Vec<&Sample> = samples.iter().filter(|sample| sample.pid == world.server_pid()).collect();
    let tenth = (own.len() / 10).max(1).min(own.len());
    let memory = |samples: &[&Sample]| median(samples.iter().map(|sample| sample.server.memory).collect());
    let (first, last) = (memory(&own[..tenth]), memory(&own[own.len() - tenth..]));
    let over = own
        .first()
        .zip(own.last())
        .map_or(Duration::ZERO, |(first, last)| last.after.saturating_sub(first.after));
    if last > first + MORE_MEMORY {
        world
            .violations
            .push(format!("the server's memory grew from {first} to {last} KiB in {} s", over.as_secs()));
    }
    Growth { first, last, over }
}

/// Deletes everything, and looks whether it is gone.
pub(crate) fn check_deletion(world: &mut World) {
    for fleet in world.fleets() {
        // It waits until all is gone, which takes longer than a command that only asks.
        let outcome =
            world.chassis.run(&["delete", "fleet", &fleet, "--cleanup", &format!("--confirm={fleet}")]);
        if outcome.code != 0 {
            world.violations.push(format!("{outcome}"));
        }
    }
    let mut wrong = Vec::new();
    let nothing = BTreeSet::new();
    differ(
        &mut wrong,
        "containers after the deletion",
        &nothing,
        &world.docker.containers().into_iter().collect(),
    );
    differ(
        &mut wrong,
        "networks after the deletion",
        &nothing,
        &world.docker.networks().into_iter().collect(),
    );
    let left: BTreeSet<String> =
        names(world.chassis.data_dir()).into_iter().filter(|name| name != ".server").collect();
    differ(&mut wrong, "directories after the deletion", &nothing, &left);
    let kept = names(&world.chassis.data_dir().join(".server/logs")).into_iter().collect();
    differ(&mut wrong, "kept logs after the deletion", &nothing, &kept);
    let secrets = world.chassis.secret_files().iter().map(|path| path.display().to_string()).collect();
    differ(&mut wrong, "secret files after the deletion", &nothing, &secrets);
    let inits = process::inits(&world.chassis.fleet("")).iter().map(ToString::to_string).collect();
    differ(&mut wrong, "processes after the deletion", &nothing, &inits);
    world.violations.append(&mut wrong);
}

/// The server said nothing that only a bug says.
pub(crate) fn check_log(world: &mut World) {
    let log = world.server_log();
    for line in log.lines().filter(|line| line.contains("panicked") || line.contains(" ERROR ")).take(10) {
        world.violations.push(format!("the server's log: {line}"));
    }
}

fn differ(wrong: &mut Vec<String>, what: &str, wanted: &BTreeSet<String>, there: &BTreeSet<String>) {
    let list =
        |names: Vec<&String>| names.iter().take(5).map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let (more, missing): (Vec<_>, Vec<_>) =
        (there.difference(wanted).collect(), wanted.difference(there).collect());
    if !more.is_empty() {
        wrong.push(format!("{} {what} too many: {}", more.len(), list(more)));
    }
    if !missing.is_empty() {
        wrong.push(format!("{} {what} missing: {}", missing.len(), list(missing)));
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
