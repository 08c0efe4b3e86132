//! A thousand nodes and a hundred thousand instances, of which everything goes wrong: machines that crash, are cut off,
//! are slow, come back with what has moved since, or with nothing; orders and answers that are lost, late or repeated;
//! drains, cordons, nodes that are gone for good; servers that are killed at any moment and know nothing but the store.
//!
//! Watched all the time, on the machines themselves: nothing ever runs twice, also on those that are cut off. Whatever is
//! placed: no node gets more than it has. Now and then, and in the end: the books are right, nobody is forgotten, and nobody
//! waits for what is free.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by where it panics")]

mod checks;
mod machine;
mod people;
mod random;
mod store;
mod world;

use world::{Size, World};

/// `CHASSIS_SEED=7 cargo nextest run -p chassis-core --test scheduling` repeats a run.
fn seed() -> u64 {
    std::env::var("CHASSIS_SEED").map_or(1, |seed| seed.parse().unwrap())
}

#[test]
#[expect(clippy::print_stderr, reason = "whoever sees it fail must be able to repeat it")]
fn a_hundred_thousand_instances_on_a_thousand_nodes() {
    let seed = seed();
    eprintln!("seed {seed}");
    let mut world = World::new(seed, Size { nodes: 1_000, arrivals: 100_000, unrest: 300 });
    world.unrest();
    world.peace();
    let tally = &world.tally;
    eprintln!("{tally:?}");
    assert!(tally.submitted >= 100_000, "fewer instances than promised: {tally:?}");
    for (what, count) in [
        ("waited", tally.waited),
        ("refused", tally.refused),
        ("moved off a node that was down", tally.moved),
        ("ended by themselves", tally.finished),
        ("confirmed", tally.confirmed),
        ("nodes down", tally.downs),
        ("nodes back from down", tally.returns),
        ("given up before they began", tally.withdrawn),
        ("nodes drained", tally.drained),
        ("nodes abandoned", tally.abandoned),
        ("servers killed", tally.takeovers),
        ("most at once", tally.most.saturating_sub(20_000)),
    ] {
        assert!(count > 0, "the run shows nothing of {what}: {tally:?}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "whoever sees it fail must be able to repeat it")]
fn small_worlds_of_many_seeds() {
    let (mut moved, mut returns) = (0, 0);
    for seed in seed()..seed() + 30 {
        eprintln!("seed {seed}");
        let mut world = World::new(seed, Size { nodes: 6, arrivals: 900, unrest: 900 });
        world.unrest();
        world.peace();
        moved += world.tally.moved;
        returns += world.tally.returns;
    }
    assert!(moved > 1_000 && returns > 30, "too little goes wrong: {moved} moved, {returns} nodes came back");
}
