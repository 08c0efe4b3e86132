//! A server of programs for agents, which also does what no honest one does.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Serves until the test ends. By path:
/// `/agent` its program; `/hop` is elsewhere; `/far` at `169.254.169.254`, `/near` at the address of `near`; `/round` at itself;
/// `/large` says that it has too much, `/endless` has too much without saying so; `/cut` has less than it says, `/over` more;
/// `/slow` never answers, and `/late` after two seconds.
pub(crate) struct Artifacts {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Artifacts {
    pub(crate) fn serve(address: &str, program: &[u8], near: &str) -> Artifacts {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, program, near) = (Arc::clone(&asked), program.to_vec(), near.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let (program, near) = (program.clone(), near.clone());
                // Whoever asks goes away where it is refused.
                std::thread::spawn(move || drop(answer(stream, &program, &near)));
            }
        });
        Artifacts { address, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections that there were.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, program: &[u8], near: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    while reader.read_line(&mut line)? > 2 {}
    let whole = |stream: &mut TcpStream, length: usize| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
        stream.write_all(program)
    };
    let moved =
        |stream: &mut TcpStream, to: &str| write!(stream, "HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n");
    match path.split('?').next().unwrap_or_default() {
        "/agent" => whole(&mut stream, program.len()),
        "/hop" => moved(&mut stream, "/agent"),
        "/round" => moved(&mut stream, "/round"),
        "/far" => moved(&mut stream, "http://169.254.169.254/latest/meta-data/"),
        "/near" => moved(&mut stream, near),
        "/large" => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 70000000\r\n\r\n"),
        "/cut" => whole(&mut stream, program.len() + 1),
        "/over" => whole(&mut stream, program.len() - 1),
        "/endless" => {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                write!(stream, "10000\r\n")?;
                stream.write_all(&vec![b'x'; 0x10000])?;
                write!(stream, "\r\n")?;
            }
        }
        "/slow" => {
            // Until whoever asked goes away.
            reader.read_line(&mut line)?;
            Ok(())
        }
        "/late" => {
            // Whoever asks says no more: that is waited for in vain.
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            let _ = reader.read_line(&mut line);
            whole(&mut stream, program.len())
        }
        _ => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}
