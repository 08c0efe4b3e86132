//! Runs a command in an environment to its end, or for as long as it may take.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chassis_api::fuse::{ExecRequest, ExecResult};
use chassis_core::environment::{NUMBER, State};
use chassis_runtime::{Error, Exec, ExecOptions, LogStream, Runtime};
use chassis_store::Environment;
use futures_util::StreamExt;

use super::body::invalid;
use super::given;
use crate::api::failure::{Failure, Result};
use crate::auth::Caller;
use crate::environment::InUse;
use crate::error::chain;
use crate::shared::Shared;
use crate::snapshot::container;

const USUAL_MS: i64 = 60_000;
const LONGEST_MS: i64 = 600_000;
/// Bytes that are kept of each of its outputs; the rest is read, and forgotten.
const KEPT: usize = 4 << 20;
/// What `timeout` of coreutils says.
const TIMED_OUT: i32 = 124;

#[derive(Debug, Default)]
struct Written {
    out: Vec<u8>,
    err: Vec<u8>,
    truncated: bool,
}

/// Where an environment runs.
pub(super) struct Sandbox {
    runtime: Arc<dyn Runtime>,
    container: Box<str>,
}

impl Sandbox {
    pub(super) async fn exec(&self, options: &ExecOptions) -> chassis_runtime::Result<Exec> {
        self.runtime.exec(&self.container, options).await
    }
}

pub(super) async fn run(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    request: ExecRequest,
) -> Result<ExecResult> {
    let command = match (request.cmd.is_empty(), request.shell.is_empty()) {
        (false, true) => request.cmd,
        (true, false) => vec!["sh".to_owned(), "-lc".to_owned(), request.shell],
        _ => return Err(invalid("exactly one of cmd and shell is required")),
    };
    let limit = if request.timeout_ms > 0 { request.timeout_ms.min(LONGEST_MS) } else { USUAL_MS };
    let limit = Duration::from_millis(u64::try_from(limit).unwrap_or_default());
    let (sandbox, _in_use) = enter(shared, id).await?;
    // Those of its manifest: what is not the main process does not have them from that.
    let env = given::variables(shared, id).await?;
    let options = ExecOptions { command, env, ..ExecOptions::default() };
    let mut written = Written::default();
    let running = async {
        let mut exec = sandbox.exec(&options).await?;
        while let Some(chunk) = exec.output.next().await {
            let chunk = chunk?;
            written.keep(chunk.stream, &chunk.bytes);
        }
        exec.control.exit_code().await
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, running) => ended,
        () = caller.ended() => {
            return Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", "the key has ended"));
        }
    };
    let (exit_code, timed_out) = match ended {
        Ok(ended) => (ended.map_err(|error| refused(&error))?, false),
        Err(_) => (TIMED_OUT, true),
    };
    let base64 = |bytes: &[u8]| std::str::from_utf8(bytes).is_err().then(|| STANDARD.encode(bytes));
    Ok(ExecResult {
        exit_code,
        timed_out,
        truncated: written.truncated,
        stdout_b64: base64(&written.out),
        stderr_b64: base64(&written.err),
        stdout: text(written.out),
        stderr: text(written.err),
    })
}

/// The container of an environment that takes commands, which counts as used until the guard is dropped.
pub(super) async fn enter(shared: &Shared, id: &str) -> Result<(Sandbox, InUse)> {
    let found = shared.store.environment_get(id).await?;
    let container = check_running(shared, &found)?;
    let agent = shared.agent(&found.key).ok_or_else(|| stopped(&found))?;
    let runtime = shared.runtime_of(&found.key.instance(NUMBER));
    Ok((Sandbox { runtime, container }, InUse::begin(agent)))
}

/// The container of an environment that runs.
pub(super) fn check_running(shared: &Shared, found: &Environment) -> Result<Box<str>> {
    if found.state != State::Running {
        return Err(conflict(format!("vm not running: {} is {}", found.id, found.state)));
    }
    container(shared, &found.key).ok_or_else(|| stopped(found))
}

fn stopped(found: &Environment) -> Failure {
    conflict(format!("vm not running: the instance of {} is stopped", found.id))
}

fn conflict(message: String) -> Failure {
    Failure::new(StatusCode::CONFLICT, "conflict", message)
}

/// What the runtime's refusal means to whoever asked.
pub(super) fn refused(error: &Error) -> Failure {
    let status = match error {
        Error::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
        Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        // Its container went, or there is no such program: what was asked for cannot be in the present state.
        Error::Rejected { .. } => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Failure::new(status, error.code(), chain(error))
}

impl Written {
    fn keep(&mut self, stream: LogStream, bytes: &[u8]) {
        let kept = match stream {
            LogStream::Stdout => &mut self.out,
            LogStream::Stderr => &mut self.err,
        };
        let room = KEPT - kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.truncated |= bytes.len() > room;
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
