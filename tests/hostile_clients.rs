//! Callers that nobody knows yet, and that want to hold on to the server: what they can take is bounded, they get rid of
//! nobody else, and everything comes back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use chassis_testkit::{Chassis, Server, eventually, expect, pause, process};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const PER_ADDRESS: usize = 300;
/// More than 300 connections with their buffers take, and far less than a server without bounds would.
const MOST_MEMORY_KIB: u64 = 64 << 10;
/// The server's own limits are 10 s.
const PATIENCE: Duration = Duration::from_secs(25);

/// A server on simulated instances, and where it listens.
struct Target {
    chassis: Chassis,
    server: Server,
    address: SocketAddr,
    before: process::Usage,
}

impl Target {
    fn new(tls: &str) -> Target {
        let chassis = Chassis::new(BINARY);
        let most = PER_ADDRESS.to_string();
        let listen = ["--runtime", "sim", "--listen", "127.0.0.1:0", "--tls", tls];
        let flags = [listen.as_slice(), &["--max-connections-per-address", &most]].concat();
        let server = chassis.serve_with(&flags, &[]);
        let address = chassis.network_address().rsplit('/').next().unwrap().parse().unwrap();
        let before = process::usage(server.pid()).unwrap();
        Target { chassis, server, address, before }
    }

    fn usage(&self) -> process::Usage {
        process::usage(self.server.pid()).unwrap()
    }

    /// A connection from one of the addresses of this machine.
    fn connect(&self, from: Ipv4Addr) -> io::Result<TcpStream> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddr::new(IpAddr::V4(from), 0))?;
        connect(&socket, &self.address)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// As many as there may be, and more; each having sent `begin`.
    fn besiege(&self, begin: &[u8]) -> Vec<TcpStream> {
        let streams = (0..PER_ADDRESS + 100).map(|_| self.connect(Ipv4Addr::LOCALHOST).unwrap());
        streams
            .map(|mut stream| {
                // One too many may be closed already.
                let _ = stream.write_all(begin);
                stream
            })
            .collect()
    }

    /// Others are served at once, from elsewhere and at the socket, and the server has not grown beyond its bounds.
    fn serves_others(&self, tls: bool) {
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{}/health", self.address);
        let begin = Instant::now();
        let curl =
            ["-sk", "--interface", "127.0.0.2", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}"];
        let answer = std::process::Command::new("curl").args(curl).arg(url).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "200", "another address is served");
        self.chassis.get::<serde_json::Value>("/api/v1/fleets").unwrap();
        assert!(begin.elapsed() < Duration::from_secs(1), "others waited {:?}", begin.elapsed());
        let usage = self.usage();
        assert!(usage.memory < self.before.memory + MOST_MEMORY_KIB, "{usage:?}, before {:?}", self.before);
        assert!(usage.files < self.before.files + PER_ADDRESS as u64 + 50, "{usage:?}");
    }

    fn gets_everything_back(&self) {
        eventually(PATIENCE, || {
            let files = self.usage().files;
            expect(files <= self.before.files + 8, || {
                format!("{files} files, and {} before", self.before.files)
            })
        });
    }

    /// Sends bytes, and reads the answer to its end.
    fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect(Ipv4Addr::LOCALHOST).unwrap();
        let mut other = stream.try_clone().unwrap();
        let bytes = bytes.to_vec();
        // The server may have had enough before it has read everything.
        let writing = std::thread::spawn(move || drop(other.write_all(&bytes)));
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            answer.extend_from_slice(&piece[..length]);
        }
        drop(stream);
        writing.join().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[test]
fn slow_heads_take_nothing_from_others() {
    let target = Target::new("off");
    let mut slow = target.besiege(b"GET /api/v1/fleets HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    target.serves_others(false);
    // One too many is told so; when a hundred are, most are only sent away.
    eventually(PATIENCE, || {
        let mut answer = String::new();
        let read = target.connect(Ipv4Addr::LOCALHOST).unwrap().read_to_string(&mut answer);
        let told = answer.starts_with("HTTP/1.1 503 ") && answer.contains("too_many_connections");
        expect(told, || format!("{read:?} {answer}"))
    });
    // A byte each second buys no time.
    let begin = Instant::now();
    while target.usage().files > target.before.files + 8 {
        assert!(begin.elapsed() < PATIENCE, "{:?}", target.usage());
        for stream in &mut slow {
            let _ = stream.write_all(b"a");
        }
        pause(Duration::from_secs(1));
    }
    target.serves_others(false);
}

#[test]
fn handshakes_that_never_end_take_nothing_from_others() {
    let target = Target::new("on");
    // The beginning of a ClientHello of 512 bytes.
    let _waiting = target.besiege(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    target.serves_others(true);
    // One too many is told so over TLS too, unless many are just then; all are counted, and the log says it once.
    let url = format!("https://{}/health", target.address);
    eventually(PATIENCE, || {
        let answer =
            std::process::Command::new("curl").args(["-ski", "--max-time", "5", &url]).output().unwrap();
        let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
        let told = answer.starts_with("HTTP/1.1 503 ")
            && answer.contains("retry-after: ")
            && answer.contains("too_many_connections");
        expect(told, || answer)
    });
    let (_, figures) = target.chassis.ask("GET", "/metrics");
    let figure =
        figures.lines().find_map(|line| line.strip_prefix("chassis_http_connections_refused_total "));
    let refused: f64 = figure.unwrap().parse().unwrap();
    assert!(refused >= 101.0, "{refused}");
    let log = target.server.log();
    assert_eq!(log.matches("too many connections").count(), 1, "{log}");
    target.gets_everything_back();
    target.serves_others(true);
}

#[test]
fn what_is_too_large_or_no_request_is_refused() {
    let target = Target::new("off");
    let token = std::fs::read_to_string(target.chassis.master_token()).unwrap();
    let head = |more: &str| {
        let token = token.trim();
        let kind = "Content-Type: application/json\r\nConnection: close";
        format!(
            "POST /api/v1/fleets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{kind}\r\n{more}\r\n\r\n"
        )
    };
    let status = |answer: &str| answer.get(9..12).unwrap_or("none").to_owned();

    let long = format!("GET /health HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "a".repeat(1 << 20));
    assert_eq!(status(&target.ask(long.as_bytes())), "431");
    let many = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: 1\r\n".repeat(200));
    assert_eq!(status(&target.ask(many.as_bytes())), "431");

    let body = vec![b' '; 8 << 20];
    let told = [head(&format!("Content-Length: {}", body.len())).as_bytes(), &body].concat();
    assert_eq!(status(&target.ask(&told)), "413");
    let mut untold = head("Transfer-Encoding: chunked").into_bytes();
    for _ in 0..8 {
        untold.extend(format!("{:x}\r\n", 1 << 20).bytes());
        untold.extend(&body[..1 << 20]);
        untold.extend(b"\r\n");
    }
    assert_eq!(status(&target.ask(&untold)), "413");
    // Nobody's body is not even read.
    let unknown =
        format!("POST /api/v1/fleets HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40);
    assert_eq!(status(&target.ask(&[unknown.as_bytes(), &body].concat())), "401");

    let deep = [vec![b'['; 1 << 20], vec![b']'; 1 << 20]].concat();
    let nested = [head(&format!("Content-Length: {}", deep.len())).as_bytes(), &deep].concat();
    let answer = target.ask(&nested);
    assert!(
        ["400", "422"].contains(&status(&answer).as_str()) && answer.contains("application/problem+json"),
        "{answer}"
    );

    let garbage = [b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(), &[0xff; 4096]].concat();
    let answer = target.ask(&garbage);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 400 "), "{answer}");

    // A request that ends in the middle, and a body that does not come.
    let mut half = target.connect(Ipv4Addr::LOCALHOST).unwrap();
    half.write_all(head("Content-Length: 100").as_bytes()).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let begin = Instant::now();
    let _ = half.read_to_end(&mut Vec::new());
    assert!(begin.elapsed() < Duration::from_secs(5), "half a request was waited for");
    let late = target.ask(head("Content-Length: 100").as_bytes());
    assert_eq!(status(&late), "408");
    assert!(late.contains("\r\nx-request-id: ") && late.contains("\"request_id\":\""), "{late}");

    target.serves_others(false);
    drop(half);
    target.gets_everything_back();
}
