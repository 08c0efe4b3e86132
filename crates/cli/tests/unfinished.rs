//! Requests that do not come to the end that was meant: a handler that panics or takes too long, a server that ends, a
//! connection that breaks. Each ends as it should, once, and its client is told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod http;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Server, pause, wait_until};
use http::ask_json;
use serde_json::{Value, json};

/// Between a client and its server: passes everything on, but cuts the first answers to changes once they are there.
struct Cutter {
    address: SocketAddr,
    posts: Arc<AtomicUsize>,
}

impl Cutter {
    /// Cuts so many answers, and cannot be reached for a while after each.
    fn before(server: &str, cuts: usize, away: Duration) -> Cutter {
        let mut listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let posts = Arc::new(AtomicUsize::new(0));
        let (server, seen) = (server.trim_start_matches("http://").to_owned(), Arc::clone(&posts));
        std::thread::spawn(move || {
            let mut cut = 0;
            loop {
                let Ok((client, _)) = listener.accept() else { return };
                let upstream = TcpStream::connect(&server).unwrap();
                if pass_on(&client, &upstream, &seen, cut < cuts) {
                    cut += 1;
                    drop(listener);
                    pause(away);
                    listener = TcpListener::bind(address).unwrap();
                }
            }
        });
        Cutter { address, posts }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// True if an answer was cut.
fn pass_on(client: &TcpStream, upstream: &TcpStream, posts: &AtomicUsize, may_cut: bool) -> bool {
    client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    upstream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (mut piece, mut has_change) = ([0; 16 << 10], false);
    let mut read = |mut from: &TcpStream| match from.read(&mut piece) {
        Ok(0) => None,
        Ok(count) => Some(piece[..count].to_vec()),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Some(Vec::new()),
        Err(_) => None,
    };
    loop {
        let (mut to_server, mut to_client) = (upstream, client);
        let Some(asked) = read(client) else { return false };
        if asked.starts_with(b"POST ") && !asked.starts_with(b"POST /api/v1/progress") {
            has_change = true;
            posts.fetch_add(1, Ordering::SeqCst);
        }
        if to_server.write_all(&asked).is_err() {
            return false;
        }
        let Some(answered) = read(upstream) else { return false };
        if may_cut && has_change && !answered.is_empty() {
            let _ = (client.shutdown(Shutdown::Both), upstream.shutdown(Shutdown::Both));
            return true;
        }
        if to_client.write_all(&answered).is_err() {
            return false;
        }
    }
}

fn listening(variables: &[(&str, &str)]) -> Server {
    Server::start_with(&["--listen", "127.0.0.1:0", "--tls", "off"], variables)
}

#[test]
fn a_change_whose_answer_is_lost_is_made_once_and_its_command_succeeds() {
    let server = listening(&[]);
    let token = server.master_token();
    server.place.write("agent.yaml", "name: worker\nimage: acme/worker\n");
    for (line, kind, away) in [
        ("create fleet web", "FleetCreated", Duration::ZERO),
        ("deploy agent -f agent.yaml --fleet web", "AgentDeployed", Duration::ZERO),
        ("stop web/worker-1", "StopRequested", Duration::from_millis(700)),
    ] {
        let cutter = Cutter::before(&server.url(), 1, away);
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut command = server.place.command(&args);
        let output =
            command.env("CHASSIS_SERVER", cutter.url()).env("CHASSIS_TOKEN", &token).output().unwrap();
        let ran = server.place.ran(output);
        assert_eq!(ran.code, 0, "{line}: {}{}", ran.stdout, ran.stderr);
        assert_eq!(cutter.posts.load(Ordering::SeqCst), 2, "{line}: sent, and once again");
        let events = ask_json(&server, "GET", &format!("/api/v1/events?kinds={kind}"), &Value::Null).json();
        assert_eq!(events.as_array().map(Vec::len), Some(1), "{line}: {events}");
    }
}

/// Sends a request that is to be answered later, on another thread.
#[cfg(feature = "failpoints")]
fn create_later(server: &Server, name: &str) -> std::thread::JoinHandle<http::Answer> {
    let headers = [("Content-Type", "application/json")];
    let body = json!({ "name": name }).to_string();
    let stream = http::send(server, "POST", "/api/v1/fleets", &headers, body.as_bytes());
    std::thread::spawn(move || http::Answer::read(stream))
}

#[cfg(feature = "failpoints")]
#[test]
fn a_panic_is_a_problem_and_the_server_goes_on() {
    let point = [("CHASSIS_FAILPOINT", "fleet_create:before@1=panic")];
    let server = Server::start_logging(&[], &point);
    let headers = [("Content-Type", "application/json"), ("X-Request-Id", "the-one")];
    let failed = http::ask(&server, "POST", "/api/v1/fleets", &headers, br#"{"name":"web"}"#);
    let problem = failed.json();
    assert_eq!((failed.status, problem["status"].as_u64()), (500, Some(500)), "{}", failed.body);
    assert_eq!(failed.header("content-type"), Some("application/problem+json"));
    assert_eq!(problem["request_id"], "the-one");
    assert!(!failed.body.contains("as asked for") && !failed.body.contains("task"), "{}", failed.body);
    let log = server.log();
    assert!(log.lines().any(|line| line.contains("the-one") && line.contains("500")), "{log}");
    assert!(log.contains("a panic at fleet_create:before"), "{log}");
    let rows: Value = serde_json::from_str(&server.place.ok("audit-log -o json")).unwrap();
    let result = rows.as_array().unwrap().iter().find(|row| row["step"] == "result").unwrap();
    assert_eq!((&result["requestId"], &result["status"]), (&json!("the-one"), &json!(500)));
    assert_eq!(ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": "web" })).status, 201);
}

#[cfg(feature = "failpoints")]
#[test]
fn what_takes_too_long_is_told_and_goes_on() {
    let server = Server::start_with(
        &[],
        &[("CHASSIS_FAILPOINT", "fleet_create:before@1=stall"), ("CHASSIS_FAILPOINT_LIMIT", "1")],
    );
    let late = ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": "web" }));
    assert_eq!((late.status, late.json()["code"].as_str()), (504, Some("timed_out")), "{}", late.body);
    let is_there = || http::ask(&server, "GET", "/api/v1/fleets/web", &[], b"").status == 200;
    assert!(!is_there(), "it was answered before it was done");
    wait_until("it is done all the same", is_there);
    let rows: Value = serde_json::from_str(&server.place.ok("audit-log -o json")).unwrap();
    let result = rows.as_array().unwrap().iter().find(|row| row["step"] == "result").unwrap();
    assert_eq!(result["status"], 201, "the audit log has how it ended: {rows}");
    // Who wants to wait longer may.
    let agents = json!({ "agents": [{ "name": "late", "image": "late:1" }] });
    let begin = Instant::now();
    let waited = ask_json(&server, "POST", "/api/v1/fleets/web/apply?wait=30s", &agents);
    assert!(matches!(waited.status, 200 | 202), "{:?} {}", begin.elapsed(), waited.body);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_server_that_ends_lets_requests_end() {
    let mut server = Server::start_with(&[], &[("CHASSIS_FAILPOINT", "fleet_create:before@1=stall")]);
    let asked = create_later(&server, "web");
    wait_until("it is being carried out", || {
        server.place.ok("audit-log -o json").contains("\"fleet_create\"")
    });
    let begin = Instant::now();
    server.terminate();
    let answer = asked.join().unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    server.wait_for_end();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn a_server_that_ends_says_goodbye() {
    let mut server = listening(&[]);
    let (address, token) = (server.url().trim_start_matches("http://").to_owned(), server.master_token());
    server.place.ok("create fleet web");
    let open = |method: &str, path: &str, body: &Value| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(http::PATIENCE)).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        (line, reader)
    };
    let (status, mut events) = open("GET", "/api/v1/events?follow=true", &Value::Null);
    assert!(status.contains(" 200 "), "{status}");
    // It gets an hour to become healthy, and cannot.
    let check = json!({ "exec": { "command": ["true"] }, "startPeriod": "1h" });
    let agents = json!({ "agents": [{ "name": "slow", "image": "slow:1", "healthCheck": check }] });
    let waiting = std::thread::spawn({
        let stream = http::send(
            &server,
            "POST",
            "/api/v1/fleets/web/apply?wait=60s",
            &[("Content-Type", "application/json")],
            agents.to_string().as_bytes(),
        );
        move || http::Answer::read(stream)
    });
    wait_until("it runs", || server.place.ok("ps").contains("slow-1"));
    let begin = Instant::now();
    server.terminate();
    let waited = waiting.join().unwrap();
    assert_eq!(waited.status, 202, "{}", waited.body);
    let mut told = String::new();
    events.read_to_string(&mut told).unwrap();
    assert!(told.ends_with("\r\n0\r\n\r\n"), "the stream ends as if there were no more: {told:?}");
    server.wait_for_end();
    assert!(begin.elapsed() < Duration::from_secs(3), "nobody is waited for in vain: {:?}", begin.elapsed());
}
