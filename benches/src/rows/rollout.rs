//! Twenty instances to another image: chassis one at a time, as it does by default, and all at once, as Compose does.

use anyhow::{Context, Result};

use crate::chassis::Chassis;
use crate::report::{Report, progress};
use crate::rivals::compose::Compose;
use crate::service;
use crate::stats::Series;
use crate::world::World;

const ROW: &str = "rollout";
const INSTANCES: u32 = 20;
const ROUNDS: usize = 3;

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let images = [world.image().await?.to_owned(), world.image_other().await?];
    let chassis = Chassis::serve(world, ROW, "docker").await?;
    deploy(world, &chassis, &images[0], "1").await?;
    chassis.scale(INSTANCES).await?;
    let compose = Compose::up(world).await?;
    compose.scale(INSTANCES).await?;
    let (mut rolling, mut at_once, mut composed) = (Series::default(), Series::default(), Series::default());
    for round in 0..ROUNDS {
        progress(&format!("rollout: round {} of {ROUNDS}", round + 1));
        rolling.push_milliseconds(deploy(world, &chassis, &images[1], "1").await?);
        world.running_expect(&format!("{ROW}-{}-", service::AGENT), INSTANCES as usize).await?;
        compose.image_set(world, &images[1])?;
        composed.push_milliseconds(compose.scale(INSTANCES).await?);
        world.running_expect("compose_", INSTANCES as usize).await?;
        at_once.push_milliseconds(deploy(world, &chassis, &images[0], "100%").await?);
        world.running_expect(&format!("{ROW}-{}-", service::AGENT), INSTANCES as usize).await?;
        compose.image_set(world, &images[0])?;
        composed.push_milliseconds(compose.scale(INSTANCES).await?);
        world.running_expect("compose_", INSTANCES as usize).await?;
    }
    let median = at_once.median();
    report.plain(ROW, "chassis deploy, 20 to a new image, 1 by 1", "ms", rolling);
    report.plain(ROW, "chassis deploy, maxUnavailable: 100%", "ms", at_once);
    report.rival(ROW, "docker-compose up with the new image", "ms", composed, median, Some(1.0));
    chassis.end().await
}

/// How long it takes until all run the image.
async fn deploy(
    world: &World,
    chassis: &Chassis,
    image: &str,
    max_unavailable: &str,
) -> Result<std::time::Duration> {
    let file = chassis.agent_file(world, image, &[])?;
    let yaml = std::fs::read_to_string(&file).context("the agent's file")?;
    std::fs::write(&file, format!("{yaml}rollout:\n  maxUnavailable: {max_unavailable}\n"))?;
    Ok(chassis.deploy(&file).await?.elapsed)
}
