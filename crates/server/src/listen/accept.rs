//! Takes connections, as many as there may be, and hands each to a task of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chassis_api::{PROBLEM_JSON, Problem};
use chassis_core::Cidr;
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::connection::{self, Protocol};
use super::limits::{HANDSHAKE, Slot, Slots};
use super::{Certificates, Doors, bind_socket, tokio_listener};
use crate::auth::Peer;
use crate::error::Result;

/// Before the next try, when the kernel gives no connection: it is short of files or memory.
const SHORTAGE: Duration = Duration::from_millis(100);
/// Who comes too many is told so; who comes far too many is not.
const REFUSALS: usize = 32;
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// Long enough for those who wait to be let in again.
const RETRY_AFTER: u32 = 5;

/// Serving, until it is told to end.
#[derive(Debug)]
pub(crate) struct Serving {
    ending: watch::Sender<bool>,
    tasks: TaskTracker,
}

/// What all that accept share.
#[derive(Debug, Clone)]
struct Acceptor {
    router: Router,
    slots: Arc<Slots>,
    proxies: Arc<[Cidr]>,
    refusals: Arc<Semaphore>,
    ending: watch::Receiver<bool>,
    tasks: TaskTracker,
}

impl Serving {
    /// Opens all doors. The unix socket appears only now: that it is there says that the server answers.
    pub(crate) fn start(doors: Doors, router: &Router) -> Result<Serving> {
        let (ending, receiver) = watch::channel(false);
        let tasks = TaskTracker::new();
        let proxies: Arc<[Cidr]> = doors.proxies.into();
        let acceptor = |slots| Acceptor {
            router: router.clone(),
            slots,
            proxies: Arc::clone(&proxies),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            ending: receiver.clone(),
            tasks: tasks.clone(),
        };
        let tls = doors.certificates.as_ref().map(Certificates::server_config).transpose()?;
        let slots = Slots::new(doors.max_connections, doors.max_per_address);
        for (listener, address) in doors.tcp {
            let listener = tokio_listener(listener, address)?;
            tasks.spawn(acceptor(Arc::clone(&slots)).accept_tcp(listener, tls.clone()));
        }
        let socket = bind_socket(&doors.socket)?;
        tasks.spawn(acceptor(Slots::new(doors.max_connections, usize::MAX)).accept_unix(socket));
        Ok(Serving { ending, tasks })
    }

    /// Takes no more connections, lets requests end for as long as `patience` says, and cuts what goes on then.
    pub(crate) async fn end(self, patience: Duration) {
        self.ending.send_replace(true);
        self.tasks.close();
        let _ = timeout(patience, self.tasks.wait()).await;
    }
}

impl Acceptor {
    async fn accept_unix(mut self, listener: UnixListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.ending.wait_for(|ending| *ending) => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Some(slot) = self.slots.take(None) else { continue };
                    let peer = Peer::of_unix(&stream);
                    self.serve(stream, Protocol::Http1, peer, slot);
                }
                Err(error) => not_accepted(&error).await,
            }
        }
    }

    async fn accept_tcp(mut self, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.ending.wait_for(|ending| *ending) => return,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    not_accepted(&error).await;
                    continue;
                }
            };
            // A caller over IPv4 is the same caller at a socket for both.
            let address = SocketAddr::new(from.ip().to_canonical(), from.port());
            let is_proxy = self.proxies.iter().any(|block| block.contains(address.ip()));
            let Some(slot) = self.slots.take((!is_proxy).then_some(address.ip())) else {
                tracing::debug!(%address, "too many connections");
                self.refuse(stream, tls.is_some());
                continue;
            };
            if let Err(error) = set_options(&stream) {
                tracing::debug!(%address, %error, "a connection broke at once");
                continue;
            }
            let peer = Peer::Tcp { address };
            match &tls {
                None => self.serve(stream, Protocol::Http1, peer, slot),
                Some(tls) => self.serve_tls(stream, Arc::clone(tls), peer, slot),
            }
        }
    }

    fn serve<S>(&self, stream: S, protocol: Protocol, peer: Peer, slot: Slot)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (router, ending) = (self.router.clone(), self.ending.clone());
        self.tasks.spawn(connection::serve(stream, protocol, peer, slot, router, ending));
    }

    fn serve_tls(&self, stream: TcpStream, tls: Arc<ServerConfig>, peer: Peer, slot: Slot) {
        let (router, mut ending) = (self.router.clone(), self.ending.clone());
        self.tasks.spawn(async move {
            let handshake = tokio::select! {
                handshake = timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)) => handshake,
                _ = ending.wait_for(|ending| *ending) => return,
            };
            match handshake {
                Ok(Ok(stream)) => {
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
                    connection::serve(stream, protocol, peer, slot, router, ending).await;
                }
                Ok(Err(error)) => tracing::debug!(?peer, %error, "no TLS handshake"),
                Err(_) => tracing::debug!(?peer, "a TLS handshake took too long"),
            }
        });
    }

    /// In the clear, with an answer; over TLS the handshake would cost what is to be saved.
    fn refuse(&self, mut stream: TcpStream, is_tls: bool) {
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else { return };
        if is_tls {
            return;
        }
        self.tasks.spawn(async move {
            let told = async {
                stream.write_all(refusal().as_bytes()).await?;
                stream.shutdown().await?;
                // A connection that is closed before its request was read is reset, and the answer may be lost with it.
                let mut rest = [0; 1024];
                while stream.read(&mut rest).await? > 0 {}
                Ok::<_, io::Error>(())
            };
            let _ = timeout(REFUSAL_TIME, told).await;
            drop(permit);
        });
    }
}

/// An answer to whatever was going to be asked.
fn refusal() -> String {
    let detail = "too many connections are open; close some, or try again in a moment";
    let problem = Problem::new(503, "Service Unavailable", "too_many_connections", detail);
    let body = serde_json::to_string(&problem).unwrap_or_default();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {RETRY_AFTER}\r\nconnection: close\r\n\
         content-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn not_accepted(error: &io::Error) {
    // One that was gone before it was taken is no shortage.
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "cannot take a connection; trying again");
    tokio::time::sleep(SHORTAGE).await;
}

/// Small messages at once, and a sign of life now and then: a peer that vanished is noticed within two minutes.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_mins(1))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    Ok(())
}
