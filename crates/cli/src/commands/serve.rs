//! `chassis serve`: the server itself.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use chassis_server::{Error, Opening, Options, RuntimeChoice};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use crate::args::{Runtime, Serve};
use crate::context::Context;
use crate::failure::{Exit, Failure};

const ENCRYPTION_KEY: &str = "TOKEN_ENCRYPTION_KEY";
const ALLOW: &str = "CHASSIS_ALLOW";
const HOST_PATHS: &str = "CHASSIS_ALLOW_HOST_PATH";
const LOG_FILTER: &str = "CHASSIS_LOG";

pub(crate) fn run(context: &Context, serve: Serve) -> Result<Exit, Failure> {
    if serve.background {
        // Out of the terminal's session, so that closing it does not end the server. It fails only for a process that
        // leads a group already, and then that was done.
        let _ = rustix::process::setsid();
    }
    let data_dir = context.data_dir()?;
    let runtime = match serve.runtime {
        Runtime::Docker => RuntimeChoice::Docker { host: serve.docker_host },
        Runtime::Sim => RuntimeChoice::Sim { seed: serve.sim_seed },
    };
    let options = Options {
        data_dir: data_dir.root().to_owned(),
        runtime,
        allowed_host_paths: allowed_host_paths(serve.allow_host_path)?,
        allowed: allowed(serve.allow)?,
        seccomp_dir: serve.seccomp_dir,
        kept_logs_max: serve.kept_logs_max.map(|bytes| bytes.0),
        encryption_key: encryption_key()?,
        background: serve.background,
    };
    let filter = EnvFilter::try_from_env(LOG_FILTER).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(context.terminal.stderr)
        .init();
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let threads =
        threads.map_err(|source| Failure::Io { what: "cannot start threads".to_owned(), source })?;
    match threads.block_on(chassis_server::serve(options)) {
        // Another command was faster; its server serves us all.
        Err(Error::AlreadyServed { .. }) if serve.background => Ok(Exit::Done),
        ended => {
            ended?;
            Ok(Exit::Done)
        }
    }
}

/// What the flags and the environment allow: a server in the background is started by a command, which has no such flags.
fn allowed(flags: Vec<Opening>) -> Result<BTreeSet<Opening>, Failure> {
    let more = std::env::var(ALLOW).unwrap_or_default();
    let words = more.split(',').map(str::trim).filter(|word| !word.is_empty());
    let more = words
        .map(|word| word.parse::<Opening>().map_err(|unknown| Failure::Usage(format!("{ALLOW}: {unknown}"))));
    flags.into_iter().map(Ok).chain(more).collect()
}

fn allowed_host_paths(mut paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
    let more = std::env::var_os(HOST_PATHS).unwrap_or_default();
    paths.extend(std::env::split_paths(&more).filter(|path| !path.as_os_str().is_empty()));
    paths.iter().map(|path| canonical(path)).collect()
}

fn canonical(path: &Path) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(path).map_err(|source| Failure::Io {
        what: format!("cannot allow the host path {}", path.display()),
        source,
    })
}

fn encryption_key() -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(key) = std::env::var_os(ENCRYPTION_KEY).filter(|key| !key.is_empty()) else { return Ok(None) };
    let wrong =
        |_: OsString| Failure::Usage(format!("{ENCRYPTION_KEY} is not a key; a key is 64 hex digits"));
    Ok(Some(Zeroizing::new(key.into_string().map_err(wrong)?)))
}
