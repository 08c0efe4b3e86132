//! TCP connections into a sandbox.
//!
//! Where server and Engine are on one machine and the server may, a thread enters the sandbox's network for as long as it
//! takes to connect: that costs next to nothing and asks nothing of the image. Anywhere else init relays, run in the
//! container.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::exec::{self, Command, Started};
use super::{Daemon, instances};
use crate::{Error, ExecChunk, ExecInput, ExecOptions, LogStream, PortStream, Result};

/// Longer than anything on the same machine takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The thread does little, but `std` resolves and connects on it.
const STACK: usize = 128 << 10;
/// The most that is kept of what a relay complains about.
const LONGEST_COMPLAINT: usize = 1 << 10;

pub(crate) async fn connect(daemon: &Arc<Daemon>, id: &str, port: u16) -> Result<Box<dyn PortStream>> {
    let container =
        instances::look(daemon, id).await?.ok_or_else(|| Error::rejected("its container is gone"))?;
    let pid = container.state.as_ref().and_then(|state| state.pid).filter(|pid| *pid > 0);
    let pid = pid.ok_or_else(|| Error::rejected("it does not run"))?;
    let own = addresses(&container);
    if daemon.address.is_local() {
        match enter(id.to_owned(), pid, own.clone(), port).await {
            Entry::Connected(stream) => return Ok(Box::new(stream)),
            Entry::Refused(error) => return Err(refused(port, &error.to_string()).caused_by(error)),
            Entry::Barred(error) => {
                tracing::debug!(container = id, %error, "its network cannot be entered; init relays");
            }
        }
    }
    relay(daemon, id, port, &own).await
}

fn refused(port: u16, why: &str) -> Error {
    Error::rejected(format!("nothing takes connections to port {port} in the instance ({why})"))
}

/// The container's own addresses, for what listens on none of the loopback's.
fn addresses(container: &ContainerInspectResponse) -> Vec<IpAddr> {
    let networks = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let endpoints = networks.into_iter().flat_map(|networks| networks.values());
    endpoints
        .flat_map(|endpoint| [endpoint.ip_address.as_deref(), endpoint.global_ipv6_address.as_deref()])
        .filter_map(|address| address?.parse().ok())
        .collect()
}

// === entering the network ===

enum Entry {
    Connected(TcpStream),
    /// The network was entered, and nothing there took the connection.
    Refused(io::Error),
    /// It could not be entered.
    Barred(io::Error),
}

async fn enter(id: String, pid: i64, own: Vec<IpAddr>, port: u16) -> Entry {
    let (answer, answered) = oneshot::channel();
    // The thread ends in the sandbox's network: no other work ever runs there.
    let spawned = thread::Builder::new().name("port".to_owned()).stack_size(STACK).spawn(move || {
        let connected = match network(&id, pid).and_then(|network| {
            Ok(move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?)
        }) {
            Ok(()) => Ok(connect_first(&own, port)),
            Err(error) => Err(error),
        };
        let _ = answer.send(connected);
    });
    if let Err(error) = spawned {
        return Entry::Barred(error);
    }
    match answered.await {
        Ok(Ok(Ok(stream))) => match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => Entry::Connected(stream),
            Err(error) => Entry::Refused(error),
        },
        Ok(Ok(Err(error))) => Entry::Refused(error),
        Ok(Err(error)) => Entry::Barred(error),
        Err(_) => Entry::Barred(io::Error::other("the thread ended early")),
    }
}

/// The network of the container's first process. That number may be another's by now, or another's on this machine: it is
/// the container's if its cgroup says so, looked at after the network was opened.
fn network(id: &str, pid: i64) -> io::Result<File> {
    let network = File::open(format!("/proc/{pid}/ns/net"))?;
    if fs::read_to_string(format!("/proc/{pid}/cgroup"))?.contains(id) {
        return Ok(network);
    }
    Err(io::Error::other(format!("process {pid} is not the container's")))
}

/// The connection to the first address that takes one; the first refusal if none does.
fn connect_first(own: &[IpAddr], port: u16) -> io::Result<StdTcpStream> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut refusal = None;
    for address in loopback.iter().chain(own) {
        match StdTcpStream::connect_timeout(&SocketAddr::new(*address, port), CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()))
}

// === the relay ===

async fn relay(daemon: &Arc<Daemon>, id: &str, port: u16, own: &[IpAddr]) -> Result<Box<dyn PortStream>> {
    let mut line = vec![chassis_init::PROGRAM.to_owned(), "relay".to_owned(), port.to_string()];
    line.extend(own.iter().map(ToString::to_string));
    let options = ExecOptions { command: line, stdin: true, ..ExecOptions::default() };
    let mut started = exec::start(daemon, id, &options).await?;
    let mut complaint = Vec::new();
    while let Some(chunk) = started.output.next().await {
        let ExecChunk { stream, mut bytes } = chunk?;
        match stream {
            // The `+` that says it is connected.
            LogStream::Stdout => {
                if bytes.get_u8() != b'+' {
                    return Err(Error::rejected("init does not relay; restart the instance"));
                }
                let Started { command, output, input } = started;
                return Ok(Box::new(Relay { command, output, input, piece: bytes }));
            }
            LogStream::Stderr => complaint.extend(bytes.iter().take(LONGEST_COMPLAINT - complaint.len())),
        }
    }
    started.command.has_ended();
    let complaint = String::from_utf8_lossy(&complaint);
    Err(refused(port, complaint.trim().trim_start_matches("chassis-init: ")))
}

/// A connection at the other end of a relay's standard input and output.
struct Relay {
    command: Arc<Command>,
    output: BoxStream<'static, Result<ExecChunk>>,
    input: ExecInput,
    /// Was read and not yet asked for.
    piece: Bytes,
}

impl AsyncRead for Relay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(self.output.poll_next_unpin(context)) {
                Some(Ok(chunk)) if chunk.stream == LogStream::Stdout => self.piece = chunk.bytes,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => {
                    self.command.has_ended();
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let count = self.piece.len().min(buffer.remaining());
        buffer.put_slice(&self.piece.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Relay {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.input.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_shutdown(context)
    }
}
