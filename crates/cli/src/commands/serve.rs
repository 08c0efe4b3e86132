//! `chassis serve`: the server itself.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis_server::{
    AccessOptions, Cidr, DownloadOptions, EnvironmentOptions, Error, Listen, Opening, Options,
    PostgresOptions, RuntimeChoice, TRACE_TARGET, TlsFiles, Traces, UsualDownload,
};
use jiff::SignedDuration;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use zeroize::Zeroizing;

use crate::args::{self, Runtime, RuntimeFlags, Serve, TlsFlags, TlsMode};
use crate::commands::fuse_settings;
use crate::context::Context;
use crate::failure::{Exit, Failure};

const ENCRYPTION_KEY: &str = "TOKEN_ENCRYPTION_KEY";
const ALLOW: &str = "CHASSIS_ALLOW";
const HOST_PATHS: &str = "CHASSIS_ALLOW_HOST_PATH";
const MASTER_TOKEN: &str = "CHASSIS_MASTER_TOKEN";
const ALLOW_FROM: &str = "CHASSIS_ALLOW_FROM";
const TRUSTED_PROXIES: &str = "CHASSIS_TRUSTED_PROXY";
/// How long threads that wait for something get after the end.
pub(crate) const LAST: Duration = Duration::from_secs(1);
pub(crate) const LOG_FILTER: &str = "CHASSIS_LOG";
/// What requests get that are being answered, unless somebody says otherwise.
const SHUTDOWN: Duration = Duration::from_secs(5);
const DOWNLOAD_ALLOW: &str = "CHASSIS_AGENT_DOWNLOAD_ALLOW";

pub(crate) fn run(context: &Context, mut serve: Serve) -> Result<Exit, Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    fuse_settings::fill(&mut serve, variable(ALLOW_FROM).is_some(), variable)?;
    if serve.background {
        // Out of the terminal's session, so that closing it does not end the server. It fails only for a process that
        // leads a group already, and then that was done.
        let _ = rustix::process::setsid();
    }
    let data_dir = context.data_dir()?;
    let server_name = serve.server_name.unwrap_or_else(|| data_dir.server_name());
    let options = Options {
        data_dir: data_dir.root().to_owned(),
        server_dir: Some(data_dir.server_dir().to_owned()),
        database: PostgresOptions::from_environment(&server_name).map_err(Error::from)?,
        server_name,
        claim_node: serve.claim_node,
        allowed_host_paths: allowed_host_paths(&serve.runtime)?,
        allowed: allowed(serve.allow)?,
        seccomp_dir: serve.runtime.seccomp_dir.clone(),
        runtime: runtime(serve.runtime),
        placement: serve.placement,
        snapshot_quota: serve.snapshot_quota,
        shutdown_timeout: serve.shutdown_timeout.map_or(SHUTDOWN, SignedDuration::unsigned_abs),
        environments: environments(serve.environments)?,
        kept_logs_max: serve.kept_logs_max.map(|bytes| bytes.0),
        encryption_key: encryption_key()?,
        access: AccessOptions {
            master_token: master_token(serve.master_token_file.as_deref())?,
            allow_from: blocks(ALLOW_FROM, serve.allow_from)?,
            trusted_proxies: blocks(TRUSTED_PROXIES, serve.trusted_proxy)?,
            rate_limit: serve.rate_limit,
            audit_kept: serve.audit_log_keep,
        },
        listen: listen(serve.listen)?,
        background: serve.background,
    };
    let filter = EnvFilter::try_from_env(LOG_FILTER).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(context.terminal.stderr)
        .with_filter(filter.and(filter_fn(|metadata| metadata.target() != TRACE_TARGET)));
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let threads =
        threads.map_err(|source| Failure::Io { what: "cannot start threads".to_owned(), source })?;
    let traces = Traces::from_environment(threads.handle().clone())?;
    let log = tracing_subscriber::registry().with(log);
    match &traces {
        Some(traces) => {
            log.with(traces.layer()).init();
            traces.warn();
        }
        None => log.init(),
    }
    for warning in fuse_settings::without_effect(|name| std::env::var(name).ok()) {
        tracing::warn!("{warning}");
    }
    let ended = threads.block_on(chassis_server::serve(options));
    if let Some(traces) = traces {
        traces.end();
    }
    // What blocks a thread must not hold up the end.
    threads.shutdown_timeout(LAST);
    match ended {
        // Another command was faster; its server serves us all.
        Err(Error::AlreadyServed { .. }) if serve.background => Ok(Exit::Done),
        ended => {
            ended?;
            Ok(Exit::Done)
        }
    }
}

fn environments(flags: args::Environments) -> Result<EnvironmentOptions, Failure> {
    if flags.startup_script_timeout > flags.max_startup_script_timeout {
        return Err(Failure::Usage(
            "--startup-script-timeout is more than --max-startup-script-timeout; give it less".to_owned(),
        ));
    }
    let more = std::env::var(DOWNLOAD_ALLOW).unwrap_or_default();
    let mut allowed = flags.agent_download_allow;
    for source in more.split(',').map(str::trim).filter(|source| !source.is_empty()) {
        allowed.push(source.parse().map_err(|error| Failure::Usage(format!("{DOWNLOAD_ALLOW}: {error}")))?);
    }
    let usual = flags.agent_download_url.zip(flags.agent_download_sha256);
    Ok(EnvironmentOptions {
        image: flags.environment_image,
        prefix: flags.vm_prefix,
        startup_script: flags.startup_script_timeout,
        startup_script_most: flags.max_startup_script_timeout,
        secure_cookies: flags.secure_cookies,
        downloads: DownloadOptions {
            allowed,
            allow_http: flags.agent_download_http,
            most: flags.agent_download_max.0,
            time: flags.agent_download_timeout.unsigned_abs(),
            usual: usual.map(|(url, sha256)| UsualDownload { url, sha256 }),
        },
    })
}

pub(crate) fn runtime(flags: RuntimeFlags) -> RuntimeChoice {
    match flags.kind {
        Runtime::Docker => RuntimeChoice::Docker { host: flags.docker_host },
        Runtime::Sim => RuntimeChoice::Sim { seed: flags.sim_seed },
    }
}

pub(crate) fn listen(flags: args::Listen) -> Result<Listen, Failure> {
    let does_nothing = |flag: &str, without: &str| {
        Err(Failure::Usage(format!("{flag} does nothing without {without}; add that, or leave it out")))
    };
    let TlsFlags { cert, key, mode, insecure } = flags.tls;
    if insecure && mode == TlsMode::On {
        return does_nothing("--insecure-listen", "--tls off");
    }
    if mode == TlsMode::Off && flags.addresses.is_empty() {
        return does_nothing("--tls off", "--listen ADDRESS:PORT");
    }
    let tls = match (mode, cert, key) {
        (TlsMode::Off, None, None) => TlsFiles::Off,
        (TlsMode::Off, ..) => {
            return Err(Failure::Usage(
                "--tls off needs no certificate; leave out one or the other".to_owned(),
            ));
        }
        (TlsMode::On, Some(certificate), Some(key)) => TlsFiles::Given { certificate, key },
        (TlsMode::On, ..) => TlsFiles::Own,
    };
    Ok(Listen {
        addresses: flags.addresses,
        tls,
        insecure,
        group: flags.socket_group,
        max_connections: flags.max_connections.map(NonZeroUsize::get),
        max_connections_per_address: flags.max_connections_per_address.map(NonZeroUsize::get),
    })
}

/// What the flags and the environment allow: a server in the background is started by a command, which has no such flags.
fn allowed(flags: Vec<Opening>) -> Result<BTreeSet<Opening>, Failure> {
    let more = std::env::var(ALLOW).unwrap_or_default();
    let words = more.split(',').map(str::trim).filter(|word| !word.is_empty());
    let more = words
        .map(|word| word.parse::<Opening>().map_err(|unknown| Failure::Usage(format!("{ALLOW}: {unknown}"))));
    flags.into_iter().map(Ok).chain(more).collect()
}

pub(crate) fn allowed_host_paths(flags: &RuntimeFlags) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = flags.allow_host_path.clone();
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

/// Blocks of addresses of the flags and of the environment.
fn blocks(variable: &str, mut blocks: Vec<Cidr>) -> Result<Vec<Cidr>, Failure> {
    let more = std::env::var(variable).unwrap_or_default();
    for block in more.split(',').map(str::trim).filter(|block| !block.is_empty()) {
        blocks.push(block.parse().map_err(|error| Failure::Usage(format!("{variable}: {error}")))?);
    }
    Ok(blocks)
}

fn master_token(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(file) = file else {
        let variable = |name| std::env::var_os(name).filter(|token| !token.is_empty());
        let given = variable(MASTER_TOKEN).or_else(|| variable(fuse_settings::AUTH_TOKEN));
        let wrong = |_: OsString| Failure::Usage(format!("{MASTER_TOKEN} is not a text"));
        return given.map(|token| token.into_string().map(Zeroizing::new).map_err(wrong)).transpose();
    };
    let token = std::fs::read_to_string(file).map_err(|source| Failure::Io {
        what: format!("cannot read the master token in {}", file.display()),
        source,
    })?;
    Ok(Some(Zeroizing::new(token)))
}

fn encryption_key() -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(key) = std::env::var_os(ENCRYPTION_KEY).filter(|key| !key.is_empty()) else { return Ok(None) };
    let wrong =
        |_: OsString| Failure::Usage(format!("{ENCRYPTION_KEY} is not a key; a key is 64 hex digits"));
    Ok(Some(Zeroizing::new(key.into_string().map_err(wrong)?)))
}
