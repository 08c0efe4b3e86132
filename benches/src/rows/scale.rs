//! One agent from 1 to 50 instances: chassis, Compose, Swarm, and the Engine's own API at several degrees of concurrency.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::chassis::Chassis;
use crate::report::{Report, progress};
use crate::rivals::compose::Compose;
use crate::rivals::raw;
use crate::rivals::swarm::Swarm;
use crate::service;
use crate::stats::Series;
use crate::template;
use crate::world::World;

const ROW: &str = "scale";
const FROM: u32 = 1;
pub(crate) const TO: u32 = 50;
const ROUNDS: usize = 5;

/// Who takes part, in the order of the first round; the number is how many are under way at once.
const CONTESTANTS: [Contestant; 8] = [
    Contestant::Raw(1),
    Contestant::Chassis,
    Contestant::Raw(2),
    Contestant::Compose,
    Contestant::Raw(4),
    Contestant::Swarm,
    Contestant::Raw(8),
    Contestant::Raw(16),
];

#[derive(Debug, Clone, Copy)]
enum Contestant {
    Chassis,
    Raw(usize),
    Compose,
    Swarm,
}

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let chassis = Chassis::serve(world, ROW, "docker").await?;
    let file = chassis.agent_file(world, world.image().await?, &[])?;
    chassis.deploy(&file).await?;
    let bodies = Arc::new(template::bodies(world, &chassis, TO - FROM).await?);
    let compose = Compose::up(world).await?;
    let swarm = Swarm::create(world).await?;
    let raw_name = world.name("raw");
    let (mut ours, mut composed) = (Series::default(), Series::default());
    let (mut swarm_started, mut swarm_command) = (Series::default(), Series::default());
    let mut sweep: Vec<(usize, Series)> = Vec::new();
    for round in 0..ROUNDS {
        // Each round begins with another one, so that nobody always follows the same.
        for contestant in
            (0..CONTESTANTS.len()).map(|place| CONTESTANTS[(place + 3 * round) % CONTESTANTS.len()])
        {
            match contestant {
                Contestant::Chassis => {
                    let elapsed = chassis.scale(TO).await?.elapsed;
                    tell(round, contestant, elapsed);
                    ours.push_milliseconds(elapsed);
                    world.running_expect(&format!("{ROW}-{}-", service::AGENT), TO as usize).await?;
                    chassis.scale(FROM).await?;
                    forget_data(&chassis)?;
                }
                Contestant::Raw(at_once) => {
                    let elapsed = raw::many(&world.engine, &raw_name, &bodies, at_once).await?;
                    tell(round, contestant, elapsed);
                    world.running_expect("raw-", bodies.len()).await?;
                    world.containers_remove("raw-", None).await?;
                    series_of(&mut sweep, at_once).push_milliseconds(elapsed);
                }
                Contestant::Compose => {
                    let elapsed = compose.scale(TO).await?;
                    tell(round, contestant, elapsed);
                    composed.push_milliseconds(elapsed);
                    world.running_expect("compose_", TO as usize).await?;
                    world.containers_remove("compose_", Some(&compose.first())).await?;
                }
                Contestant::Swarm => {
                    let Some(swarm) = &swarm else { continue };
                    let scaled = swarm.scale_up(FROM, TO).await?;
                    tell(round, contestant, scaled.started);
                    world.running_expect("swarm.", TO as usize).await?;
                    swarm_started.push_milliseconds(scaled.started);
                    swarm_command.push_milliseconds(scaled.command);
                    swarm.reset().await?;
                }
            }
        }
    }
    let median = ours.median();
    report.plain(ROW, "chassis scale 1 -> 50", "ms", ours);
    report.rival(ROW, "docker-compose up --scale", "ms", composed, median, Some(1.0));
    if swarm.is_some() {
        report.rival(ROW, "docker service scale, last one started", "ms", swarm_started, median, Some(1.0));
        report.rival(ROW, "docker service scale, command's end", "ms", swarm_command, median, Some(1.0));
    } else {
        report.notes.push("scale: the Engine is in a swarm already, so Swarm was not measured".to_owned());
    }
    sweep.sort_by_key(|(at_once, _)| *at_once);
    let best =
        sweep.iter().min_by(|(_, a), (_, b)| a.median().total_cmp(&b.median())).map(|(at_once, _)| *at_once);
    for (at_once, series) in sweep {
        let is_best = Some(at_once) == best;
        let name = format!("Engine API, {at_once} at once{}", if is_best { " (best)" } else { "" });
        report.rival(ROW, &name, "ms", series, median, is_best.then_some(1.2));
    }
    world.swarm_leave().await?;
    chassis.end().await
}

fn tell(round: usize, contestant: Contestant, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    progress(&format!("scale: round {} of {ROUNDS}, {contestant:?}: {seconds:.1} s", round + 1));
}

fn series_of(sweep: &mut Vec<(usize, Series)>, at_once: usize) -> &mut Series {
    let index = sweep.iter().position(|(known, _)| *known == at_once).unwrap_or_else(|| {
        sweep.push((at_once, Series::default()));
        sweep.len() - 1
    });
    &mut sweep[index].1
}

/// Scaling down keeps the data; without this, only the first scale up would have directories to make.
fn forget_data(chassis: &Chassis) -> Result<()> {
    for number in FROM + 1..=TO {
        std::fs::remove_dir_all(chassis.fleet_dir().join(format!("{}-{number}", service::AGENT)))?;
    }
    Ok(())
}
