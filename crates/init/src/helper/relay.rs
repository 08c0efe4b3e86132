//! A connection to a port of the sandbox, carried over standard input and output: where the server cannot go into the
//! sandbox's network itself.
//!
//! The first byte on standard output is a `+` and says that there is a connection; without one the reason is on standard
//! error. The end of standard input closes the connection's sending half, and the end of what it receives ends the relay.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use super::wrong_usage;
use crate::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BUFFER: usize = 32 << 10;
const REFUSED: u8 = 1;

pub(super) fn run(mut given: impl Iterator<Item = OsString>) -> Result<ExitCode, Failure> {
    let port = given.next().and_then(|port| port.to_str()?.parse::<u16>().ok());
    let port = port.ok_or_else(|| wrong_usage("the port is missing"))?;
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for address in given {
        let address = address.to_str().and_then(|address| address.parse().ok());
        addresses.push(address.ok_or_else(|| wrong_usage("an address is not one"))?);
    }
    let connection =
        connect(port, &addresses).map_err(|error| Failure { code: REFUSED, message: error.to_string() })?;
    // What fails from here on, both ends see as the end of the connection.
    let _ = carry(connection);
    Ok(ExitCode::SUCCESS)
}

/// The connection to the first address that takes one; the first refusal if none does.
fn connect(port: u16, addresses: &[IpAddr]) -> io::Result<TcpStream> {
    let mut refusal = None;
    for address in addresses {
        match TcpStream::connect_timeout(&SocketAddr::new(*address, port), CONNECT_TIMEOUT) {
            Ok(connection) => return Ok(connection),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()))
}

fn carry(mut connection: TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut sender = connection.try_clone()?;
    let mut output = io::stdout().lock();
    output.write_all(b"+")?;
    output.flush()?;
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        let ended_well = copy(&mut input, &mut sender).is_ok();
        let _ = sender.shutdown(if ended_well { Shutdown::Write } else { Shutdown::Both });
    });
    copy(&mut connection, &mut output)
}

/// Each piece is passed on as it comes.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
