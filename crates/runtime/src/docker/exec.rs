//! Commands in a container, over Docker's exec API.
//!
//! What Docker runs is always init's `exec` helper, which becomes the command: so a command is found as the agent's is,
//! on every Engine, and what is left of it is found again by its mark. The user, the capabilities and the limits are the
//! container's own; this never asks for others.
//!
//! The connection is taken over here, not by bollard, whose decoder takes the first bytes of a terminal's output for a
//! header if they look like one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bollard::exec::{ResizeExecOptions, StartExecOptions};
use bollard::models::{ExecConfig, ExecInspectResponse};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, try_unfold};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Daemon, DockerRuntime, failure, instances};
use crate::tier1::unused_name;
use crate::{
    Error, Exec, ExecChunk, ExecControl, ExecInput, ExecOptions, LogStream, Result, TerminalSize, exec_run,
};

/// Output is read in pieces of at most this size.
const PIECE: usize = 32 << 10;
/// What is in front of each piece of output that is no terminal's: the stream, three zeros, the length.
const HEADER: usize = 8;
/// How Docker's own words end, in the place of output, if it could not start a command.
const NOT_STARTED: &[u8] = b"\r\n";
/// Between looks at a command whose output has ended.
const FIRST_POLL: Duration = Duration::from_millis(2);
const LONGEST_POLL: Duration = Duration::from_millis(250);
/// Longer than a startup script may take.
const LONGEST_STARTUP: Duration = Duration::from_hours(2);

/// A command that was started, with its streams.
pub(crate) struct Started {
    pub(crate) command: Arc<Command>,
    pub(crate) output: BoxStream<'static, Result<ExecChunk>>,
    pub(crate) input: ExecInput,
}

/// A command that was started. It is ended when nobody holds this any more, unless it has ended.
#[derive(Debug)]
pub(crate) struct Command {
    daemon: Arc<Daemon>,
    container: String,
    exec: String,
    mark: String,
    ended: AtomicBool,
}

pub(crate) async fn exec(daemon: &Arc<Daemon>, id: &str, options: &ExecOptions) -> Result<Exec> {
    let started = start(daemon, id, options).await?;
    Ok(Exec {
        output: started.output,
        input: options.stdin.then_some(started.input),
        control: Box::new(Control(started.command)),
    })
}

/// Waits, inside the sandbox, until init has started the agent.
pub(crate) async fn wait_started(runtime: &DockerRuntime, id: &str) -> Result<()> {
    let command = [chassis_init::PROGRAM.to_owned(), "started".to_owned()];
    match exec_run(runtime, id, &command, LONGEST_STARTUP, 0).await?.exit_code {
        Some(0) => Ok(()),
        _ => Err(Error::rejected("what prepares it has not ended well")),
    }
}

pub(crate) async fn start(daemon: &Arc<Daemon>, id: &str, options: &ExecOptions) -> Result<Started> {
    let key = instances::key(daemon, id).await?.ok_or_else(|| Error::rejected("its container is gone"))?;
    let mark = unused_name();
    let config = ExecConfig {
        attach_stdin: Some(options.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(options.terminal.is_some()),
        env: Some(options.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: Some(command_line(&key.to_string(), &mark, options)),
        ..ExecConfig::default()
    };
    // A container that an older chassis started may have an init that knows no helpers.
    daemon.blocking(move |daemon| daemon.tier1.refresh(&key)).await?;
    let created = daemon.client()?.create_exec(id, config).await;
    let created = created.map_err(|error| match failure::status(&error) {
        Some(404) => Error::rejected("its container is gone"),
        Some(409) => Error::rejected("it does not run just now, or is paused; `chassis ps` shows its state"),
        _ => daemon.explain(error),
    })?;
    let body = json!({ "Detach": false, "Tty": options.terminal.is_some() });
    let path = format!("/exec/{}/start", created.id);
    let connection = daemon.address.hijack(&path, body.to_string()).await;
    let connection = connection.map_err(|error| daemon.explain(error))?;
    let command = Arc::new(Command {
        daemon: Arc::clone(daemon),
        container: id.to_owned(),
        exec: created.id,
        mark,
        ended: AtomicBool::new(false),
    });
    let (reader, writer) = tokio::io::split(connection);
    let output = output(Arc::clone(&command), reader, options.terminal.is_some());
    Ok(Started { command, output, input: Box::pin(writer) })
}

/// init's `exec` helper with the command behind it.
fn command_line(instance: &str, mark: &str, options: &ExecOptions) -> Vec<String> {
    let mut line = vec![chassis_init::PROGRAM, "exec", "--instance", instance, "--mark", mark];
    let size = options.terminal.map(|size| format!("{}x{}", size.columns, size.rows));
    if let Some(size) = &size {
        line.extend(["--terminal", size]);
    }
    if let Some(directory) = &options.working_dir {
        line.extend(["--directory", directory]);
    }
    line.push("--");
    line.into_iter().map(str::to_owned).chain(options.command.iter().cloned()).collect()
}

struct Control(Arc<Command>);

#[async_trait]
impl ExecControl for Control {
    async fn resize(&self, size: TerminalSize) -> Result<()> {
        self.0.resize(size).await
    }

    async fn exit_code(&self) -> Result<i32> {
        let mut pause = FIRST_POLL;
        loop {
            let seen = self.0.look().await?;
            if seen.running != Some(true) {
                self.0.has_ended();
                return match seen.exit_code {
                    Some(code) if !never_ran(&seen) => Ok(i32::try_from(code).unwrap_or(-1)),
                    _ => Err(Error::rejected("Docker could not start the command")),
                };
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_POLL);
        }
    }
}

// === impl Command ===

impl Command {
    /// It need not be ended any more.
    pub(crate) fn has_ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    async fn resize(&self, size: TerminalSize) -> Result<()> {
        let options = ResizeExecOptions { height: size.rows, width: size.columns };
        let client = self.daemon.client()?;
        client.resize_exec(&self.exec, options).await.map_err(|error| self.daemon.explain(error))
    }

    async fn look(&self) -> Result<ExecInspectResponse> {
        let client = self.daemon.client()?;
        client.inspect_exec(&self.exec).await.map_err(|error| match failure::status(&error) {
            Some(404) => Error::rejected("its container is gone, and the command with it"),
            _ => self.daemon.explain(error),
        })
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        let (daemon, container) = (Arc::clone(&self.daemon), std::mem::take(&mut self.container));
        let line = [chassis_init::PROGRAM, "end", &self.mark].map(str::to_owned);
        let ending = self.daemon.endings.token();
        runtime.spawn(async move {
            let _until_it_has_ended = ending;
            if let Err(error) = end(&daemon, &container, line.into()).await {
                tracing::debug!(container, %error, "a command that nobody waits for could not be ended");
            }
        });
    }
}

/// Ends what carries a mark; a container that is gone or does not run has ended it.
async fn end(daemon: &Daemon, container: &str, line: Vec<String>) -> Result<()> {
    let config = ExecConfig { cmd: Some(line), ..ExecConfig::default() };
    let client = daemon.client()?;
    let created = client.create_exec(container, config).await.map_err(|error| daemon.explain(error))?;
    let options = StartExecOptions { detach: true, ..StartExecOptions::default() };
    client.start_exec(&created.id, Some(options)).await.map_err(|error| daemon.explain(error))?;
    Ok(())
}

/// Output may come before Docker has noted the process, but then it says that it runs.
fn never_ran(seen: &ExecInspectResponse) -> bool {
    seen.running != Some(true) && seen.pid.is_none_or(|pid| pid == 0)
}

// === output ===

struct Output<R> {
    command: Arc<Command>,
    reader: R,
    /// Without headers: a terminal's.
    raw: bool,
    /// The stream of the piece that is being read, and what is left of it.
    stream: LogStream,
    left: usize,
    began: bool,
}

fn output(
    command: Arc<Command>,
    reader: impl AsyncRead + Send + Unpin + 'static,
    raw: bool,
) -> BoxStream<'static, Result<ExecChunk>> {
    let output = Output { command, reader, raw, stream: LogStream::Stdout, left: 0, began: false };
    try_unfold(output, |mut output| async move { Ok(output.next().await?.map(|chunk| (chunk, output))) })
        .boxed()
}

impl<R: AsyncRead + Unpin> Output<R> {
    async fn next(&mut self) -> Result<Option<ExecChunk>> {
        let Some(bytes) = self.read().await.map_err(broken)? else { return Ok(None) };
        if !std::mem::replace(&mut self.began, true) && bytes.ends_with(NOT_STARTED) {
            // Docker's words, or those of a command that ends its lines so: only the former never ran.
            if never_ran(&self.command.look().await?) {
                self.command.has_ended();
                let words = failure::unwrapped(&String::from_utf8_lossy(&bytes));
                return Err(Error::rejected(format!("Docker could not start the command: {words}")));
            }
        }
        Ok(Some(ExecChunk { stream: self.stream, bytes }))
    }

    async fn read(&mut self) -> std::io::Result<Option<Bytes>> {
        while !self.raw && self.left == 0 {
            let mut header = [0; HEADER];
            if self.reader.read(&mut header[..1]).await? == 0 {
                return Ok(None);
            }
            self.reader.read_exact(&mut header[1..]).await?;
            self.stream = if header[0] == 2 { LogStream::Stderr } else { LogStream::Stdout };
            self.left = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        }
        let most = if self.raw { PIECE } else { self.left.min(PIECE) };
        let mut piece = BytesMut::with_capacity(most);
        let count = (&mut self.reader).take(most as u64).read_buf(&mut piece).await?;
        if self.raw {
            return Ok((count > 0).then(|| piece.freeze()));
        }
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        Ok(Some(piece.freeze()))
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::unavailable("the connection to Docker broke; what the command does, nobody sees").caused_by(error)
}
