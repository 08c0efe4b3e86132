//! What watching costs the server: its resident memory with a thousand followers of events, each of which has heard of one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;

use crate::chassis::Chassis;
use crate::load::Caller;
use crate::report::{Report, progress};
use crate::rows::memory::status_mib;
use crate::stats::Series;
use crate::world::World;

const ROW: &str = "watchers";
const WATCHERS: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(3);
const SAMPLES: usize = 5;

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    files_allow()?;
    let chassis = Chassis::serve(world, ROW, "sim").await?;
    chassis.deploy(&chassis.agent_file(world, "simulated:1", &[])?).await?;
    let pid = chassis.pid()?;
    tokio::time::sleep(SETTLE).await;
    let before = status_mib(pid, "VmRSS")?;
    progress("watchers: connecting 1 000");
    let path = format!("/api/v1/events?follow=true&fleet={}&limit=1", chassis.fleet);
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let mut caller = Caller::connect(&chassis.data_dir).await?;
        let mut body = caller.open(Method::GET, &path, None).await?.into_body();
        // The newest of before.
        hear(&mut body).await?;
        watchers.push((caller, body));
    }
    chassis.scale(2).await?;
    for (_, body) in &mut watchers {
        hear(body).await?;
    }
    let mut resident = Series::default();
    for _ in 0..SAMPLES {
        tokio::time::sleep(SETTLE).await;
        resident.push(status_mib(pid, "VmRSS")? - before);
    }
    report.bounded(ROW, "server, 1 000 watchers of events, over before", "MiB", resident, 30.0);
    drop(watchers);
    chassis.end().await
}

async fn hear(body: &mut Incoming) -> Result<()> {
    let heard = tokio::time::timeout(PATIENCE, body.frame()).await;
    let frame = heard.context("a watcher heard of nothing")?.context("a watcher's stream ended")??;
    ensure!(frame.data_ref().is_some_and(|data| data.starts_with(b"id:")), "a watcher got no event");
    Ok(())
}

/// A connection is a file here, and one in the server, which inherits the limit.
fn files_allow() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")
}
