//! `docker run -d`, as a person types it.

use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;

use crate::command::finish;

/// How long the command takes.
pub(crate) async fn detached(name: &str, flags: &[String], image: &str) -> Result<Duration> {
    let mut run = Command::new("docker");
    Ok(finish(run.args(["run", "--detach", "--name", name]).args(flags).arg(image)).await?.elapsed)
}
