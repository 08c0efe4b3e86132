//! `chassis port forward`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use chassis_testkit::{Chassis, Image, SOON, eventually, expect};

use crate::{BINARY, Ground};

/// Answers HTTP on port 8000 with the instance's name, and on port 7000 with a greeting and, once that is
/// at its end, what it was sent.
const SERVES: &str = "[sh, -c, 'echo $CHASSIS_INSTANCE > /tmp/name; httpd -p 8000 -h /tmp; exec nc -ll -p 7000 -e sh -c \"echo hi; cat > /tmp/all.\\$\\$; cat /tmp/all.\\$\\$\"']";

fn serving(name: &str) -> Ground {
    Ground::with(name, &Image::busybox().build(), SERVES, "")
}

/// A forwarding that runs, and the local ports that it told.
pub(crate) struct Forwarding {
    child: Child,
    pub(crate) ports: Vec<u16>,
    _stdout: BufReader<ChildStdout>,
}

impl Forwarding {
    fn start(chassis: &Chassis, args: &[&str], lines: usize) -> Forwarding {
        Forwarding::of(chassis.command(args), lines)
    }

    pub(crate) fn of(mut command: Command, lines: usize) -> Forwarding {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ports = Vec::new();
        for _ in 0..lines {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            if line.is_empty() {
                let mut said = String::new();
                child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                panic!("it does not forward: {said}");
            }
            let port = line.strip_prefix("Forwarding ").and_then(|rest| rest.split_once(" -> ")).unwrap().0;
            ports.push(port.rsplit_once(':').unwrap().1.parse().unwrap());
        }
        Forwarding { child, ports, _stdout: stdout }
    }

    /// What it said, once it has ended by itself.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let code = eventually(SOON, || self.child.try_wait().unwrap().ok_or("it goes on")).code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take().filter(|_| std::thread::panicking()) {
            let _ = stderr.read_to_string(&mut said);
            let _ = writeln!(std::io::stderr(), "--- the forwarding said\n{said}");
        }
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// A connection to port 7000 that was greeted: `nc` takes few at once that it has not greeted yet.
pub(crate) fn greeted(port: u16) -> TcpStream {
    eventually(SOON, || {
        let mut stream = connect(port);
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting)?;
        assert_eq!(&greeting, b"hi\n");
        Ok::<_, std::io::Error>(stream)
    })
}

/// Sends all, closes this half, and reads what comes after.
fn send_and_hear(mut stream: TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut writing = stream.try_clone()?;
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || {
        writing.write_all(&bytes)?;
        writing.shutdown(Shutdown::Write)
    });
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    writer.join().unwrap()?;
    Ok(heard)
}

fn get(port: u16) -> std::io::Result<String> {
    let heard = send_and_hear(connect(port), b"GET /name HTTP/1.0\r\n\r\n")?;
    let heard = String::from_utf8_lossy(&heard).into_owned();
    match heard.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(std::io::Error::other(format!("no answer: {heard:?}"))),
    }
}

#[test]
fn ports_are_forwarded() {
    let ground = serving("forward");
    let id = ground.id();
    let forwarding =
        Forwarding::start(&ground.chassis, &["port-forward", &id, "127.0.0.1::8000", "127.0.0.1::7000"], 2);
    let [http, echo] = forwarding.ports[..] else { panic!("two ports") };
    eventually(SOON, || get(http).map(|body| assert_eq!(body, "a-1\n")));
    // Its answer comes after the end of what it is sent: half of the connection is closed by then.
    assert_eq!(send_and_hear(greeted(echo), b"half").unwrap(), b"half");
    let much: Vec<u8> = (0..8_000_000_u32).map(|number| (number % 251) as u8).collect();
    assert!(send_and_hear(greeted(echo), &much).unwrap() == much, "8 MB came back as they went");
    let streams: Vec<_> = (0..20).map(|_| greeted(echo)).collect();
    std::thread::scope(|scope| {
        let talks: Vec<_> = (0..20_u8)
            .zip(streams)
            .map(|(number, stream)| {
                scope.spawn(move || {
                    let bytes = vec![number; 300_000];
                    assert!(send_and_hear(stream, &bytes).unwrap() == bytes, "connection {number}");
                })
            })
            .collect();
        for talk in talks {
            talk.join().unwrap();
        }
    });
}

#[test]
fn what_cannot_be_forwarded_is_told() {
    let ground = serving("told");
    let id = ground.id();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let line = format!("{port}:8000");
    ground
        .chassis
        .run(&["port", "forward", &id, &line])
        .exits(1)
        .says(&["cannot listen on 127.0.0.1", "another local port"]);
    ground.chassis.run(&["port", "forward", &id, "x"]).exits(2).says(&["8080:80"]);
    ground.chassis.run(&["port", "forward", "a-9", "8000"]).exits(3);

    // Nothing listens there: each connection is told, and the forwarding goes on.
    let forwarding = Forwarding::start(
        &ground.chassis,
        &["port", "forward", &id, "127.0.0.1::9999", "127.0.0.1::8000"],
        2,
    );
    let mut heard = Vec::new();
    let broken = connect(forwarding.ports[0]).read_to_end(&mut heard);
    assert_eq!(broken.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    eventually(SOON, || get(forwarding.ports[1]));
    // The agent is restarted, and reached again through the same port.
    ground.chassis.ok(&["restart", &id]);
    eventually(SOON, || get(forwarding.ports[1]));
    ground.chassis.ok(&["delete", "agent", &format!("{}/a", ground.fleet)]);
    let (code, said) = forwarding.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a connection to port 9999: nothing takes connections to port 9999"), "{said}");
    assert!(said.contains("nothing is forwarded any more"), "{said}");
}

#[test]
fn a_stopped_instance_ends_the_forwarding() {
    let ground = serving("stopped");
    let id = ground.id();
    let forwarding = Forwarding::start(&ground.chassis, &["port", "forward", &id, "127.0.0.1::8000"], 1);
    ground.chassis.ok(&["stop", &id]);
    let (code, said) = forwarding.ended();
    assert_eq!(code, Some(1));
    assert!(said.contains("a-1 does not run (Stopped)"), "{said}");
    ground.chassis.run(&["port", "forward", &id, ":8000"]).exits(1).says(&["chassis start a-1"]);
}

/// An Engine that may be on another machine: the server cannot enter the sandbox's network, and init relays.
#[test]
fn ports_are_forwarded_from_a_far_engine() {
    let engine = format!("tcp://127.0.0.1:{}", tcp_to("/var/run/docker.sock".into()));
    let chassis = Chassis::new(BINARY).with_env("DOCKER_HOST", &engine);
    let fleet = chassis.fleet("far");
    chassis.ok(&["create", "fleet", &fleet]);
    let image = Image::busybox().build();
    chassis
        .deploy(&format!("name: a\nfleet: {fleet}\nimage: {image}\ncommand: {SERVES}\nstop: {{grace: 1s}}\n"))
        .exits(0);
    let ground = Ground { chassis, fleet };
    let forwarding = Forwarding::start(
        &ground.chassis,
        &["port", "forward", &ground.id(), "127.0.0.1::7000", "127.0.0.1::8000"],
        2,
    );
    eventually(SOON, || get(forwarding.ports[1]));
    let much: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    assert!(
        send_and_hear(greeted(forwarding.ports[0]), &much).unwrap() == much,
        "3 MB came back as they went"
    );
    // One that nobody closes is ended with its client.
    let open = connect(forwarding.ports[0]);
    let relays =
        || ground.exec(&[], &["ps", "-o", "args"], b"").exits(0).stdout.matches("chassis-init relay").count();
    eventually(SOON, || expect(relays() == 1, || "it is not relayed".to_owned()));
    drop(forwarding);
    drop(open);
    eventually(Duration::from_secs(20), || expect(relays() == 0, || "the relay is left".to_owned()));
}

/// A port of this machine that leads to a unix socket.
pub(crate) fn tcp_to(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (mut near, mut far) = (near.unwrap(), UnixStream::connect(&socket).unwrap());
            let (mut near_back, mut far_back) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut near, &mut far);
                let _ = far.shutdown(Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut far_back, &mut near_back);
                let _ = near_back.shutdown(Shutdown::Write);
            });
        }
    });
    port
}
