//! The server is killed at every step of every change, and at moments that chance picks. Each time another one starts
//! on what is left, the person repeats the command that was not answered, and in the end everything is as wanted:
//! nothing lost, nothing doubled, nothing left behind.
//!
//! Every `failpoint("…")` in the server's source is hit, or the test fails.

mod environments;
mod nodes;
mod scenario;
mod snapshots;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use scenario::SCENARIO;
use world::{AT_REST, Moment, World};

/// Of those that interrupt something; fewer would leave much to luck.
const FEWEST_KILLS: u32 = 200;
/// Moments that chance picks, for each step.
const CHANCES: u64 = 10;

/// All points that the server has, read off its source so that none is forgotten.
fn points() -> Vec<String> {
    fn collect(directory: &Path, points: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("the server's source").flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, points);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source file");
            points.extend(
                text.split("failpoint(\"")
                    .skip(1)
                    .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())),
            );
        }
    }
    let mut points = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src"), &mut points);
    points.sort();
    points.dedup();
    points
}

#[test]
fn killed_at_every_step() {
    let hits: Mutex<BTreeMap<String, u32>> = Mutex::default();
    std::thread::scope(|scope| {
        // One waits for what it asked for, two only for the answer, one is hit when chance will have it.
        scope.spawn(|| run(World::new("waits", &hits), |point| Some(Moment::Point(point, 1))));
        scope.spawn(|| {
            run(World::new("hurries", &hits).without_waiting(), |point| {
                // Once a fleet is stored it is not made again, and so no second point on that way is ever reached.
                (point != "fleet_create:stored").then_some(Moment::Point(point, 1))
            });
        });
        scope.spawn(|| {
            run(World::new("second", &hits).without_waiting(), |point| Some(Moment::Point(point, 2)));
        });
        scope.spawn(|| run_by_chance(World::new("chance", &hits)));
        scope.spawn(|| environments::killed_at_every_step(&hits));
        scope.spawn(|| snapshots::killed_at_every_step(&hits));
        scope.spawn(|| nodes::killed_at_every_step(&hits));
    });
    let hits = hits.into_inner().expect("no thread has panicked");
    let kills: u32 = hits.iter().filter(|(point, _)| *point != AT_REST).map(|(_, count)| count).sum();
    let list: Vec<String> = hits.iter().map(|(point, count)| format!("{point} {count}")).collect();
    let _ = writeln!(std::io::stderr(), "{kills} kills: {}", list.join(", "));
    let missed: Vec<String> = points().into_iter().filter(|point| !hits.contains_key(point)).collect();
    assert!(missed.is_empty(), "never killed at {missed:?}");
    assert!(kills >= FEWEST_KILLS, "only {kills} kills");
}

fn run(mut world: World<'_>, moment: impl Fn(&'static str) -> Option<Moment>) {
    for step in SCENARIO {
        let moments: Vec<Moment> = step.points.iter().filter_map(|point| moment(point)).collect();
        world.carry_out(step, &moments);
    }
}

fn run_by_chance(mut world: World<'_>) {
    let mut seed = u64::from(std::process::id());
    for step in SCENARIO {
        let moments: Vec<Moment> = (0..CHANCES)
            .map(|chance| {
                // Knuth's multiplier; any spread will do, as the machine adds its own.
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Half of them while the request is heard, half while it is carried out.
                let range = if chance % 2 == 0 { 60 } else { 500 };
                Moment::After(Duration::from_millis((seed >> 33) % range))
            })
            .collect();
        world.carry_out(step, &moments);
    }
}
