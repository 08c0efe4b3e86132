//! Runs other programs, and says how long each took from its start to its end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// A program that ended well.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) elapsed: Duration,
    pub(crate) stdout: String,
}

/// Runs it to its end; an exit code other than 0 is an error that shows what it wrote.
pub(crate) async fn finish(command: &mut Command) -> Result<Finished> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let began = Instant::now();
    let output = command.output().await;
    let elapsed = began.elapsed();
    let words = || {
        let command = command.as_std();
        let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
        format!("{} {}", command.get_program().display(), args.collect::<Vec<_>>().join(" "))
    };
    let output = output.with_context(|| format!("cannot run `{}`", words()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}):\n{stdout}{stderr}", words(), output.status);
    }
    Ok(Finished { elapsed, stdout })
}

/// `docker …`.
pub(crate) async fn docker(args: &[&str]) -> Result<Finished> {
    finish(Command::new("docker").args(args)).await
}
