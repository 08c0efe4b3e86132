//! The rounds: the server that acts is killed or stopped, another takes over, and it comes back.

use std::time::{Duration, Instant};

use chassis_testkit::long_run::{is_interrupted, tell};
use chassis_testkit::{eventually, expect, pause};

use crate::chance::Chance;
use crate::world::World;

/// The lease's five seconds and as much again: what is above five is told, and this is where a round gives up.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// What the rounds measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) kills: u32,
    pub(crate) stops: u32,
    /// From the fault until another server acts.
    pub(crate) takeovers: Vec<Duration>,
    /// From the end of the lease until another server has it, in seconds, by the database's clock.
    pub(crate) takeovers_by_lease: Vec<f64>,
    pub(crate) epochs: u64,
    pub(crate) samples: u32,
    pub(crate) violations: Vec<String>,
}

pub(crate) fn run(world: &mut World, rounds: u32, chance: &mut Chance) -> Figures {
    let mut figures = Figures::default();
    for round in 0..rounds {
        if is_interrupted() {
            break;
        }
        if round == rounds / 2 {
            tell("a third server joins");
            world.add();
        }
        pause(Duration::from_millis(chance.between(300, 1500).into()));
        let Some(acting) = acting(world, &mut figures.violations) else { break };
        // The first two are one of each, however few there are.
        let kills = if round < 2 { round == 0 } else { *chance.one_of(&[true, false]) };
        if kills {
            figures.kills += 1;
            world.kill(acting);
            take_over(world, acting, &mut figures);
            world.begin(acting);
        } else {
            figures.stops += 1;
            let frozen = Instant::now();
            world.server(acting).freeze();
            take_over(world, acting, &mut figures);
            let whole = Duration::from_millis(chance.between(5500, 8000).into());
            pause(whole.saturating_sub(frozen.elapsed()));
            world.server(acting).thaw();
            woken(world, acting, &mut figures.violations);
        }
        if (round + 1) % 10 == 0 {
            tell(&format!("round {}: {} violations", round + 1, figures.violations.len()));
        }
    }
    figures
}

fn acting(world: &World, violations: &mut Vec<String>) -> Option<usize> {
    let began = Instant::now();
    loop {
        if let Some(index) = world.acting() {
            return Some(index);
        }
        if began.elapsed() > PATIENCE {
            violations.push(format!("no server acts for {PATIENCE:?} though nothing is wrong"));
            return None;
        }
        pause(POLL);
    }
}

/// Waits until another server acts.
fn take_over(world: &World, gone: usize, figures: &mut Figures) {
    let began = Instant::now();
    let others: Vec<usize> = (0..world.count()).filter(|index| *index != gone).collect();
    while began.elapsed() < PATIENCE {
        if others.iter().any(|index| world.info(*index).is_some_and(|info| info.state.acting)) {
            figures.takeovers.push(began.elapsed());
            return;
        }
        pause(POLL);
    }
    figures.violations.push(format!("nobody took over within {PATIENCE:?}"));
}

/// One that wakes up finds that another acts, and leaves it to that.
fn woken(world: &World, index: usize, violations: &mut Vec<String>) {
    let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually(PATIENCE, || {
            let info = world.info(index).ok_or("it does not answer")?;
            expect(!info.state.acting, || "it believes that it acts".to_owned()).map_err(|_| "it acts")
        });
    }));
    if settled.is_err() {
        violations.push("a server that was stopped still acts after it woke up".to_owned());
    }
}
