//! Streams that are open when whoever opened them may no more, or when the server ends: they end, and say why.

use std::fs::File;
use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use chassis_testkit::{Chassis, Image, SOON, Server, eventually, expect};

use crate::forward::{Forwarding, greeted};
use crate::{BINARY, Ground};

/// Greets who comes to port 7000, and then listens.
const SPEAKS: &str = "[sh, -c, 'echo started; exec nc -ll -p 7000 -e sh -c \"echo hi; cat > /dev/null\"']";

/// Everything that can be open, by commands of one key or of the server's own user.
struct Open {
    exec: Following,
    events: Following,
    logs: Following,
    forwarding: Forwarding,
    connection: TcpStream,
}

/// A command that goes on; what it prints is in the file.
struct Following {
    child: Child,
    output: PathBuf,
}

impl Following {
    fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }

    /// How it ended by itself, and what it said.
    fn ended(mut self) -> (Option<i32>, String) {
        let code = eventually(SOON, || self.child.try_wait().unwrap().ok_or("it goes on")).code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Open {
    fn new(ground: &Ground, key: Option<&str>) -> Open {
        let id = ground.id();
        let address = key.map(|_| ground.chassis.network_address());
        let follow = |args: &[&str]| {
            let mut command = ground.chassis.command(args);
            if let Some((key, address)) = key.zip(address.as_ref()) {
                command.env("CHASSIS_SERVER", address).env("CHASSIS_TOKEN", key);
            }
            command
        };
        let first = |args: &[&str]| {
            let output = ground.chassis.home().join(format!("{}-{}", args[0], key.unwrap_or_default()));
            let file = File::create(&output).unwrap();
            let child = follow(args).stdout(file).stderr(Stdio::piped()).spawn().unwrap();
            let following = Following { child, output };
            eventually(SOON, || expect(!following.output().is_empty(), || format!("{args:?} says nothing")));
            following
        };
        let exec = first(&["exec", &id, "--", "sh", "-c", "echo begun; sleep 7775"]);
        let events = first(&["events", "--watch"]);
        let logs = first(&["logs", "-f", &id]);
        let forwarding = Forwarding::of(follow(&["port", "forward", &id, "127.0.0.1::7000"]), 1);
        let connection = greeted(forwarding.ports[0]);
        Open { exec, events, logs, forwarding, connection }
    }

    /// The connection into the instance ends at once, and is no end of what it carried.
    fn connection_breaks(&mut self) {
        let mut rest = Vec::new();
        let read = self.connection.read_to_end(&mut rest);
        assert!(read.is_err(), "it ended as if it were complete");
    }
}

fn ground(name: &str, flags: &[&str]) -> (Ground, Server) {
    let chassis = Chassis::new(BINARY);
    let server = chassis.serve_with(flags, &[]);
    (Ground::on(chassis, name, &Image::busybox().build(), SPEAKS, ""), server)
}

fn the_command_is_gone(ground: &Ground) {
    eventually(SOON, || {
        let seen = ground.exec(&[], &["ps", "-o", "args"], b"").exits(0).stdout;
        expect(!seen.contains("sleep 7775"), || format!("it goes on: {seen}"))
    });
}

#[test]
fn what_a_key_has_opened_ends_with_it() {
    let (ground, _server) = ground("keys", &["--listen", "127.0.0.1:0", "--tls", "off"]);
    let chassis = &ground.chassis;
    for expires in [None, Some("12s")] {
        let mut line = vec!["api-key", "create", "bot", "--role", "operator"];
        line.extend(expires.into_iter().flat_map(|time| ["--expires", time]));
        let key = chassis.ok(&line).stdout;
        let mut open = Open::new(&ground, Some(key.trim()));
        if expires.is_none() {
            chassis.ok(&["api-key", "revoke", "bot"]);
        }
        open.connection_breaks();
        let (code, said) = open.exec.ended();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("the API key that opened it was revoked or has expired"), "{said}");
        for child in [open.events, open.logs] {
            let (code, said) = child.ended();
            assert!(code == Some(1) && said.contains("this API key was revoked or has expired"), "{said}");
        }
        let (code, said) = open.forwarding.ended();
        assert!(
            code == Some(1) && said.contains("nothing is forwarded any more: this API key was"),
            "{said}"
        );
        the_command_is_gone(&ground);
        if expires.is_some() {
            chassis.ok(&["api-key", "revoke", "bot"]);
        }
    }
}

#[test]
fn a_server_that_ends_tells_whom_it_serves() {
    let (ground, mut server) = ground("farewell", &[]);
    let mut open = Open::new(&ground, None);
    let begin = std::time::Instant::now();
    assert!(server.terminate().success());
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    open.connection_breaks();
    let (code, said) = open.exec.ended();
    assert!(code == Some(1) && said.contains("the server ends"), "{code:?} {said}");
    let _next = ground.chassis.serve();
    the_command_is_gone(&ground);
    // Who follows goes on with the next server, and misses nothing.
    let other = ground.chassis.fleet("other");
    ground.chassis.ok(&["create", "fleet", &other]);
    ground.chassis.ok(&["restart", &ground.id()]);
    for (mut following, word, times) in [(open.events, other.as_str(), 1), (open.logs, "started", 2)] {
        eventually(SOON, || expect(following.output().matches(word).count() >= times, || following.output()));
        assert!(following.child.try_wait().unwrap().is_none(), "it has ended");
        assert_eq!(following.output().matches(word).count(), times, "{}", following.output());
    }
}
