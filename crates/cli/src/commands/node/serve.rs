//! `chassis node --listen …`: runs instances here for servers elsewhere, and says how they find it.

use chassis_server::{Error, NodeOptions, NodeServer, node_serve};
use tracing_subscriber::EnvFilter;

use crate::args::{self, NodeServe};
use crate::commands::serve::{LAST, LOG_FILTER, allowed_host_paths, listen, runtime};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

/// Where the token is for `chassis node join`: never in a flag, which everybody on a machine can read.
const TOKEN: &str = "CHASSIS_NODE_TOKEN";

pub(crate) fn run(context: &Context, node: NodeServe) -> Result<Exit, Failure> {
    let flags = args::Listen {
        addresses: node.listen.into_iter().collect(),
        tls: node.tls,
        socket_group: None,
        max_connections: None,
        max_connections_per_address: None,
    };
    let options = NodeOptions {
        data_dir: context.data_dir()?,
        allowed_host_paths: allowed_host_paths(&node.runtime)?,
        seccomp_dir: node.runtime.seccomp_dir.clone(),
        runtime: runtime(node.runtime),
        listen: listen(flags)?,
        name: node.name,
        capacity: node.capacity,
        region: node.region,
        labels: node.labels.into_iter().collect(),
        advertise: node.advertise.map(|address| address.to_string()),
        alone_after: node.alone_after.unsigned_abs(),
    };
    let filter = EnvFilter::try_from_env(LOG_FILTER).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(context.terminal.stderr)
        .with_env_filter(filter)
        .init();
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let threads =
        threads.map_err(|source| Failure::Io { what: "cannot start threads".to_owned(), source })?;
    let ended = threads.block_on(node_serve(options, |server| introduce(context, server)));
    // What blocks a thread must not hold up the end.
    threads.shutdown_timeout(LAST);
    match ended {
        Err(Error::AlreadyServed { path, pid }) => Err(Failure::Failed(format!(
            "another server or node (pid {pid}) runs on {}; each has a data directory of its own: choose another with \
             --data-dir",
            path.display()
        ))),
        ended => {
            ended?;
            Ok(Exit::Done)
        }
    }
}

/// The line that a person types where the server is.
fn introduce(context: &Context, server: &NodeServer) {
    let fingerprint = server.fingerprint().filter(|_| server.is_certificate_own());
    let fingerprint =
        fingerprint.map(|fingerprint| format!(" --fingerprint {fingerprint}")).unwrap_or_default();
    let line = format!("{TOKEN}={} chassis node join {}{fingerprint}", server.token(), server.url());
    context.terminal.say(&format!(
        "node {} is up; register it where the server runs with the line below (the token is also in {}, for this user only)",
        server.name(),
        server.token_file().display()
    ));
    // A node serves all the same if nobody reads this.
    let _ = output::data(&format!("{line}\n"));
}
