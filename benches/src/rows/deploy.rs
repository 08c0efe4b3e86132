//! One agent, from the command to the running instance: `chassis deploy`, the Engine's own API, `docker run`.

use anyhow::{Context, Result};

use crate::chassis::Chassis;
use crate::report::{Report, progress};
use crate::rivals::{raw, run};
use crate::service;
use crate::stats::Series;
use crate::template;
use crate::world::World;

const ROW: &str = "deploy";
const ROUNDS: usize = 20;
const CONTESTANTS: usize = 4;

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let image = world.image().await?;
    let chassis = Chassis::serve(world, ROW, "docker").await?;
    let file = chassis.agent_file(world, image, &[])?;
    chassis.deploy(&file).await?;
    let bodies = template::bodies(world, &chassis, 1).await?;
    let body = bodies.first().context("no body")?;
    delete(&chassis).await?;
    let network = format!("chassis-{}", chassis.fleet);
    let flags = service::run_flags(&network, &world.agent_directory("run-data")?);
    let (raw_name, run_name, plain_name) = (world.name("raw"), world.name("run"), world.name("plain"));
    let plain_flags = [format!("--network={network}")];
    let mut ours = Series::default();
    let (mut engine, mut hardened, mut plain) = (Series::default(), Series::default(), Series::default());
    for round in 0..ROUNDS {
        progress(&format!("deploy: round {} of {ROUNDS}", round + 1));
        // Each comes first in turn.
        for contestant in (0..CONTESTANTS).map(|place| (place + round) % CONTESTANTS) {
            match contestant {
                0 => engine.push_milliseconds(raw::one(&world.engine, &raw_name, body).await?),
                1 => {
                    ours.push_milliseconds(chassis.deploy(&file).await?.elapsed);
                    world.running_expect(&format!("{ROW}-{}-", service::AGENT), 1).await?;
                    delete(&chassis).await?;
                }
                2 => hardened.push_milliseconds(run::detached(&run_name, &flags, image).await?),
                _ => plain.push_milliseconds(run::detached(&plain_name, &plain_flags, image).await?),
            }
            for rival in ["raw", "run", "plain"] {
                world.containers_remove(rival, None).await?;
            }
        }
    }
    let median = ours.median();
    report.plain(ROW, "chassis deploy agent", "ms", ours);
    report.rival(ROW, "Engine API create + start", "ms", engine, median, Some(1.15));
    report.rival(ROW, "docker run -d, hardened the same", "ms", hardened, median, Some(1.0));
    report.rival(ROW, "docker run -d, not hardened at all", "ms", plain, median, None);
    chassis.end().await
}

async fn delete(chassis: &Chassis) -> Result<()> {
    let agent = format!("{}/{}", chassis.fleet, service::AGENT);
    chassis.run(&["delete", "agent", &agent, "--cleanup"]).await?;
    Ok(())
}
