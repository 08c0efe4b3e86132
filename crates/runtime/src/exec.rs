//! Commands that are run beside an agent, and connections into its sandbox.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::{LogStream, Result, Runtime};

/// A TCP connection into a sandbox. Shutting down its writing half is seen by the other side, and what that still says
/// can be read.
pub trait PortStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> PortStream for T {}

/// What is run, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecOptions {
    /// The program, found as the agent's own is, and its arguments.
    pub command: Vec<String>,
    /// Variables beside those of the container.
    pub env: Vec<(String, String)>,
    /// Where it runs; else where the agent does.
    pub working_dir: Option<String>,
    /// Whether it has a standard input; else that is at its end from the start.
    pub stdin: bool,
    /// Whether it runs in a terminal, and how large that is.
    pub terminal: Option<TerminalSize>,
}

/// Columns and rows of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
}

/// The command's standard input; shutting it down is the end of the input. Empty writes are none.
pub type ExecInput = Pin<Box<dyn AsyncWrite + Send>>;

/// A command that runs. One that is dropped before its output has ended is ended.
pub struct Exec {
    /// Ends when the command and whatever holds its output has ended.
    pub output: BoxStream<'static, Result<ExecChunk>>,
    /// There if it was asked for.
    pub input: Option<ExecInput>,
    pub control: Box<dyn ExecControl>,
}

/// A piece of output. A terminal has one stream only, standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecChunk {
    pub stream: LogStream,
    pub bytes: Bytes,
}

/// What can be asked of a command that runs. Dropping it ends the command, unless its exit code was told.
#[async_trait]
pub trait ExecControl: Send + Sync {
    /// Tells the terminal its size.
    async fn resize(&self, size: TerminalSize) -> Result<()>;
    /// The exit code, 128 + signal if a signal ended it. To be asked for when the output has ended.
    async fn exit_code(&self) -> Result<i32>;
}

/// What a command did that was run to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRun {
    /// `None` if it was ended because its time was over.
    pub exit_code: Option<i32>,
    /// The beginning of what it wrote to standard output and error.
    pub output: Bytes,
}

/// Runs a command without input to its end, or for as long as it may take, and keeps so many bytes of its output.
pub async fn exec_run(
    runtime: &dyn Runtime,
    id: &str,
    command: &[String],
    longest: Duration,
    most_output: usize,
) -> Result<ExecRun> {
    let options = ExecOptions { command: command.to_vec(), ..ExecOptions::default() };
    let mut kept = Vec::new();
    let running = async {
        let mut exec = runtime.exec(id, &options).await?;
        while let Some(chunk) = exec.output.next().await {
            let bytes = chunk?.bytes;
            kept.extend_from_slice(&bytes[..bytes.len().min(most_output - kept.len())]);
        }
        exec.control.exit_code().await
    };
    let exit_code = timeout(longest, running).await.ok().transpose()?;
    Ok(ExecRun { exit_code, output: kept.into() })
}

impl fmt::Debug for Exec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exec").field("input", &self.input.is_some()).finish_non_exhaustive()
    }
}
