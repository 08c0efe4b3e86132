//! Who is at the other end of a connection, as the kernel tells it: what authentication begins with.
//!
//! Every listener puts a `ConnectInfo<Peer>` into the extensions of its requests; a request without one is refused.

use std::net::SocketAddr;

use chassis_core::Role;
use tokio::net::UnixStream;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A process of this machine. `uid` is its user's when it connected; none if the kernel did not say. `member` is the role
    /// of those who may open the socket that it came by; none if that is the server's own.
    Unix { uid: Option<u32>, member: Option<Role> },
    /// `address` is the connection's own: a proxy's, if there is one between.
    Tcp { address: SocketAddr },
}

impl Peer {
    pub(crate) fn of_unix(stream: &UnixStream, member: Option<Role>) -> Peer {
        Peer::Unix { uid: stream.peer_cred().ok().map(|credentials| credentials.uid()), member }
    }
}
