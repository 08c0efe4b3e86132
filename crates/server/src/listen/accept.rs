//! Takes connections, as many as there may be, and hands each to a task of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chassis_core::{Cidr, Role};
use prometheus_client::metrics::counter::Counter;
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::connection::{self, Protocol};
use super::limits::{HANDSHAKE, Slot, Slots};
use super::refusal::Refusals;
use super::{Certificates, Doors, bind_socket, tokio_listener};
use crate::auth::Peer;
use crate::error::Result;

/// Before the next try, when the kernel gives no connection: it is short of files or memory.
const SHORTAGE: Duration = Duration::from_millis(100);
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
    refusals: Arc<Refusals>,
    ending: watch::Receiver<bool>,
    tasks: TaskTracker,
}

impl Serving {
    /// Opens all doors. The unix socket appears only now: that it is there says that the server answers.
    /// `refused` counts the connections that were too many.
    pub(crate) fn start(doors: Doors, router: &Router, refused: Counter) -> Result<Serving> {
        let (ending, receiver) = watch::channel(false);
        let tasks = TaskTracker::new();
        let proxies: Arc<[Cidr]> = doors.proxies.into();
        let tls = doors.certificates.as_ref().map(Certificates::server_config).transpose()?;
        let refusals = Refusals::new(tls.as_deref(), refused, &tasks);
        let acceptor = |slots| Acceptor {
            router: router.clone(),
            slots,
            proxies: Arc::clone(&proxies),
            refusals: Arc::clone(&refusals),
            ending: receiver.clone(),
            tasks: tasks.clone(),
        };
        let slots = Slots::new(doors.max_connections, doors.max_per_address);
        for (listener, address) in doors.tcp {
            let listener = tokio_listener(listener, address)?;
            tasks.spawn(acceptor(Arc::clone(&slots)).accept_tcp(listener, tls.clone()));
        }
        let local = || acceptor(Slots::new(doors.max_connections, usize::MAX));
        if let Some(group) = &doors.group {
            let socket = bind_socket(&group.path, Some(group.gid))?;
            tasks.spawn(local().accept_unix(socket, Some(group.role)));
        }
        if let Some(socket) = &doors.socket {
            let socket = bind_socket(socket, None)?;
            tasks.spawn(local().accept_unix(socket, None));
        }
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
    async fn accept_unix(mut self, listener: UnixListener, member: Option<Role>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.ending.wait_for(|ending| *ending) => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Some(slot) = self.slots.take(None) else {
                        self.refusals.refuse(stream, "the unix socket", false);
                        continue;
                    };
                    let peer = Peer::of_unix(&stream, member);
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
                self.refusals.refuse(stream, &address.ip().to_string(), tls.is_some());
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
