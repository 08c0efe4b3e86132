//! Ports of this machine to listen on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::args::{Forward, Forwarding};
use crate::failure::Failure;
use crate::output::Terminal;

/// A port that is listened on, and the instance's behind it.
pub(super) struct Listening {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) remote: u16,
}

/// Listens on everything that was asked for, or on nothing.
pub(super) async fn listen(args: &Forward, terminal: Terminal) -> Result<Vec<Listening>, Failure> {
    let mut listening = Vec::new();
    for forwarding in &args.ports {
        let mut local = forwarding.local;
        let addresses = forwarding.address.map_or_else(|| args.address.clone(), |address| vec![address]);
        if !addresses.is_empty() {
            for address in addresses {
                let one =
                    bind(address, local, forwarding).await.map_err(|error| taken(address, local, error))?;
                local = one.address.port();
                listening.push(one);
            }
            continue;
        }
        let (four, six) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        let one = bind(four, local, forwarding).await.map_err(|error| taken(four, local, error))?;
        let local = one.address.port();
        listening.push(one);
        match bind(six, local, forwarding).await {
            Ok(one) => listening.push(one),
            // `localhost` means this address to many programs, which would reach somebody else.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                terminal.say(&format!(
                    "[::1]:{local} is used by another program; only 127.0.0.1 leads to the instance"
                ));
            }
            Err(_) => {}
        }
    }
    Ok(listening)
}

async fn bind(address: IpAddr, local: u16, forwarding: &Forwarding) -> io::Result<Listening> {
    let listener = TcpListener::bind((address, local)).await?;
    let address = listener.local_addr()?;
    Ok(Listening { listener, address, remote: forwarding.remote })
}

fn taken(address: IpAddr, local: u16, source: io::Error) -> Failure {
    let next = match source.kind() {
        io::ErrorKind::AddrInUse => {
            "; choose another local port, or leave it out (`:REMOTE`) for one that is free"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 are root's: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    };
    Failure::Io { what: format!("cannot listen on {}{next}", SocketAddr::new(address, local)), source }
}
