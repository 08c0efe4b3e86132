//! What those hear who come too many: 503, and when to come again, also over TLS.
//!
//! A refusal over TLS costs a handshake, which is what somebody costs who is let in and asks nothing. So that a crowd costs no
//! more than a few of them, [`AT_ONCE`] are told at a time; others are only closed. All are counted, and the log has a line a minute.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chassis_api::{PROBLEM_JSON, Problem};
use prometheus_client::metrics::counter::Counter;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::shared::lock;

/// Refusals that are told at the same time.
const AT_ONCE: usize = 32;
/// Each takes no longer.
const TIME: Duration = Duration::from_secs(1);
/// Long enough for those who wait to be let in again, in seconds.
const RETRY_AFTER: u32 = 5;
/// Between lines in the log.
const TOLD_EVERY: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Refusals {
    /// Without HTTP/2, in which the answer would have to be another.
    tls: Option<Arc<ServerConfig>>,
    at_once: Arc<Semaphore>,
    count: Counter,
    told: Mutex<Option<(Instant, u64)>>,
    tasks: TaskTracker,
}

impl Refusals {
    pub(super) fn new(tls: Option<&ServerConfig>, count: Counter, tasks: &TaskTracker) -> Arc<Refusals> {
        let tls = tls.map(|config| {
            let mut config = config.clone();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        });
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        Arc::new(Refusals { tls, at_once, count, told: Mutex::default(), tasks: tasks.clone() })
    }

    /// Sends a connection away. `from` is for the log.
    pub(super) fn refuse<S>(&self, stream: S, from: &str, is_tls: bool)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.note(from);
        let Ok(permit) = Arc::clone(&self.at_once).try_acquire_owned() else { return };
        let tls = self.tls.clone().filter(|_| is_tls);
        self.tasks.spawn(async move {
            let told = async {
                match tls {
                    Some(tls) => tell(TlsAcceptor::from(tls).accept(stream).await?).await,
                    None => tell(stream).await,
                }
            };
            let _ = timeout(TIME, told).await;
            drop(permit);
        });
    }

    fn note(&self, from: &str) {
        let refused = self.count.inc() + 1;
        let mut told = lock(&self.told);
        let before = match *told {
            Some((at, _)) if at.elapsed() < TOLD_EVERY => return,
            Some((_, before)) => before,
            None => 0,
        };
        *told = Some((Instant::now(), refused));
        tracing::warn!(
            from,
            refused = refused - before,
            "too many connections; `--max-connections` and `--max-connections-per-address` say how many there may be"
        );
    }
}

/// Answers whatever was going to be asked.
async fn tell(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_all(answer().as_bytes()).await?;
    stream.shutdown().await?;
    // A connection that is closed before its request was read is reset, and the answer may be lost with it.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

fn answer() -> String {
    let detail = "too many connections are open; close some, or try again in a moment";
    let problem = Problem::new(503, "Service Unavailable", "too_many_connections", detail);
    let body = serde_json::to_string(&problem).unwrap_or_default();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {RETRY_AFTER}\r\nconnection: close\r\n\
         content-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
