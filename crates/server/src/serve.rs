//! Starts a server, runs it until it is told to end, and leaves agents running.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chassis_runtime::{DockerOptions, DockerRuntime, Runtime, SimOptions, SimRuntime};
use chassis_store::{KeySource, NodeRecord, SqlStore, Store};
use tokio::signal::unix::{SignalKind, signal};

use crate::api;
use crate::auth::{self, Auth};
use crate::controller::agent_take;
use crate::data_dir::DataDir;
use crate::error::{Error, Result};
use crate::follow::{self, fleets_refresh};
use crate::kept_logs;
use crate::lead;
use crate::listen::{Doors, Serving};
use crate::nodes::{self, Health};
use crate::options::{Options, RuntimeChoice};
use crate::schedule;
use crate::shared::{self, Shared};
use crate::snapshot;

/// How long requests that are being answered get to end when a node is told to.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// How much longer than for the requests the end takes, whatever the database and the runtime do.
const END: Duration = Duration::from_secs(3);
/// How long a new server waits for its first look at what is there before it answers.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// Serves until SIGTERM, SIGINT or a request to stop. Agents go on running; the next server finds them again.
pub async fn serve(options: Options) -> Result<()> {
    let data_dir = DataDir::new(options.data_dir.clone(), options.server_dir.clone());
    let several_servers = options.database.is_some();
    let _lock = data_dir.lock(several_servers)?;
    data_dir.claim_runtime(options.runtime.name())?;
    let doors = Doors::open(&options.listen, &options.access.trusted_proxies, &data_dir)?;
    let key = match &options.encryption_key {
        Some(key) => KeySource::Environment(key.clone()),
        None => KeySource::File(data_dir.key_file()),
    };
    let store: Arc<dyn Store> = Arc::new(match &options.database {
        Some(database) => SqlStore::open_postgres(database, key)?,
        None => SqlStore::open_sqlite(&data_dir.database(), key)?,
    });
    let name = options.runtime.name();
    let runtime = runtime_make(
        &options.runtime,
        &data_dir,
        store.server_id(),
        &options.allowed_host_paths,
        &options.seccomp_dir,
    )?;
    let is_remote = !options.listen.addresses.is_empty();
    let auth = Auth::open(&options.access, &store, &data_dir.master_token(), is_remote).await?;
    if several_servers && is_remote && options.access.master_token.is_none() {
        tracing::warn!(
            "the master token in {} is this server's alone, and no other server of its database takes it; give all of them the \
             same with --master-token-file, or use API keys, which all of them take",
            data_dir.master_token().display()
        );
    }
    // What is placed on the own node is so by the name that it had first, whatever the machine is called by now.
    let own = store.node_list().await?.into_iter().find(NodeRecord::is_own).map(|node| node.name().clone());
    let own = own.unwrap_or_else(shared::machine_name);
    let shared =
        Shared::new(Arc::clone(&store), runtime, &own, data_dir.clone(), auth, doors.plates(), &options);

    nodes::refresh(&shared).await?;
    for record in store.agent_load_all().await? {
        agent_take(&shared, record).await;
    }
    tokio::spawn(auth::look_after(Arc::clone(&shared)));
    if several_servers {
        fleets_refresh(&shared).await;
    }
    tokio::spawn(follow::follow(Arc::clone(&shared)));
    tokio::spawn(lead::lead(Arc::clone(&shared)));
    nodes::spawn(&shared, shared.nodes.own());
    tokio::spawn(schedule::run(Arc::clone(&shared)));
    tokio::spawn(snapshot::look_after(Arc::clone(&shared)));
    tokio::spawn(kept_logs::sweep_on(Arc::clone(&shared)));
    tokio::spawn(api::keyed::sweep_on(Arc::clone(&shared)));
    // Whoever asks first should not be told that nothing is known yet.
    let mut health = shared.own().health.subscribe();
    let _ = tokio::time::timeout(FIRST_LOOK, health.wait_for(|health| *health != Health::Unknown)).await;

    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    let plates = doors.plates();
    let refused = shared.metrics.connections_refused.clone();
    let serving = Serving::start(doors, &api::router(Arc::clone(&shared)), refused)?;
    if let Some(certificates) = plates.certificates() {
        tokio::spawn(Arc::clone(certificates).keep_current());
    }
    plates.announce();
    tracing::info!(data_dir = %data_dir.root().display(), runtime = name, "serving");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell systemd that the server is ready");
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = shared.stop.notified() => break,
            _ = hang_up.recv() => {
                if has_terminal() {
                    break;
                }
                if let Some(certificates) = plates.certificates() {
                    certificates.look.notify_one();
                }
            }
        }
    }
    tracing::info!("ending; agents go on running");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    shared.closing.begin();
    let end = async {
        let streams = async {
            shared.closing.sockets_end(options.shutdown_timeout).await;
            shared.own().runtime.settle().await;
        };
        tokio::join!(lead::resign(&shared), serving.end(options.shutdown_timeout), streams);
    };
    if tokio::time::timeout(options.shutdown_timeout + END, end).await.is_err() {
        tracing::warn!("the database or the runtime did not answer in time; ending all the same");
    }
    plates.take_down();
    Ok(())
}

/// What runs instances on this machine, under the labels of `server_id`.
pub(crate) fn runtime_make(
    choice: &RuntimeChoice,
    data_dir: &DataDir,
    server_id: &str,
    allowed_host_paths: &[PathBuf],
    seccomp_dir: &Path,
) -> Result<Arc<dyn Runtime>> {
    Ok(match choice {
        RuntimeChoice::Docker { host } => {
            let docker = DockerRuntime::connect(DockerOptions {
                docker_host: host.clone(),
                data_dir: data_dir.root().to_owned(),
                server_id: server_id.to_owned(),
                allowed_host_paths: allowed_host_paths.to_vec(),
                seccomp_dir: seccomp_dir.to_owned(),
            })?;
            Arc::new(docker)
        }
        RuntimeChoice::Sim { seed } => {
            let sim = SimRuntime::new(SimOptions { seed: *seed, ..SimOptions::default() });
            Arc::new(sim)
        }
    })
}

/// Whether a terminal belongs to this process, so that SIGHUP says that it was closed.
pub(crate) fn has_terminal() -> bool {
    fs::File::open("/dev/tty").is_ok()
}
