//! Output as server-sent events: whoever is cut off, at any place and for whatever reason, and comes again with
//! `Last-Event-ID` gets exactly what follows, of every instance.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use chassis_testkit::{Chassis, Image, SOON, eventually, pause};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

/// Numbers that go on from run to run, on both streams; some lines are longer than what Docker keeps in one piece.
const COUNT: &str = "n=$(cat /data/n 2>/dev/null || echo 0); trap end=1 TERM; \
                     pad=$(head -c 40000 /dev/zero | tr '\\0' x); \
                     while [ -z \"$end\" ]; do n=$((n+1)); echo $n > /data/n; \
                     case $((n % 10)) in 3) echo line $n >&2;; 7) echo line $n $pad;; *) echo line $n;; esac; \
                     sleep 0.02; done";

fn agent(fleet: &str, image: &str, version: u32) -> String {
    let script = serde_json::to_string(COUNT).expect("JSON");
    format!(
        "name: a\nfleet: {fleet}\nimage: {image}\nreplicas: 2\nstop: {{grace: 1s}}\ncommand: [/bin/sh, -c]\n\
         args: [{script}]\nvolumes: [{{name: data, mountPath: /data}}]\nenv: [{{name: V, value: '{version}'}}]\n"
    )
}

/// A client that has nothing but a socket.
struct Reader<'a> {
    chassis: &'a Chassis,
    path: String,
    last_id: Option<String>,
    /// The numbers that came, by instance.
    seen: BTreeMap<String, Vec<u32>>,
    gone: Vec<String>,
}

impl Reader<'_> {
    fn connect(&self) -> (u16, BufReader<UnixStream>) {
        let mut stream = UnixStream::connect(self.chassis.socket()).expect("a server");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        let id = self.last_id.as_ref().map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let path = &self.path;
        let head = format!("GET {path} HTTP/1.0\r\nHost: x\r\nAccept: text/event-stream\r\n{id}\r\n");
        stream.write_all(head.as_bytes()).expect("it listens");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).expect("an answer");
        }
        (status, reader)
    }

    /// Reads so many lines of output at least, or to the end, and hangs up.
    fn read(&mut self, at_least: usize) {
        let (status, mut reader) = self.connect();
        assert_eq!(status, 200);
        let (mut id, mut name, mut data, mut line) = (None, None, String::new(), String::new());
        let mut came = 0;
        while came < at_least {
            line.clear();
            // What was cut off is no event.
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("event", value)) => name = Some(value.to_owned()),
                Some(("data", value)) => value.clone_into(&mut data),
                _ if line == "\n" => {
                    self.last_id = id.take().or_else(|| self.last_id.take());
                    let name = name.take();
                    if data.is_empty() {
                        continue;
                    }
                    let json: Value = serde_json::from_str(&std::mem::take(&mut data)).expect("JSON");
                    let instance = json["instance"].as_str().expect("an instance").to_owned();
                    if name.as_deref() == Some("gone") {
                        self.gone.push(instance);
                        continue;
                    }
                    let text = json["text"].as_str().expect("a text");
                    let number = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
                    self.seen.entry(instance).or_default().push(number.expect("a number"));
                    came += 1;
                }
                _ => {}
            }
        }
    }

    /// Everything from the first line on, each once; the two streams of an instance may overtake each other.
    #[track_caller]
    fn check(&self) {
        for (instance, numbers) in &self.seen {
            let mut sorted = numbers.clone();
            sorted.sort_unstable();
            let gap = sorted.iter().zip(1..).find(|(number, wanted)| **number != *wanted);
            assert!(gap.is_none(), "{instance}: after {gap:?} something is lost or doubled: {numbers:?}");
        }
    }

    fn until(&mut self, instance: &str, number: u32) {
        let deadline = Instant::now() + SOON;
        while self.seen.get(instance).is_none_or(|seen| seen.iter().max() < Some(&number)) {
            assert!(
                Instant::now() < deadline,
                "{instance} has not come to {number}: {:?}",
                self.seen.get(instance)
            );
            self.read(50);
        }
    }
}

#[test]
fn whoever_was_cut_off_gets_what_follows() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("resume");
    let image = Image::busybox().build_on(chassis.docker());
    chassis.ok(&["create", "fleet", &fleet]);
    chassis.deploy(&agent(&fleet, &image, 1)).exits(0);
    let path = format!("/api/v1/logs?fleet={fleet}&agent=a&follow=true&whole=true");
    let mut reader =
        Reader { chassis: &chassis, path, last_id: None, seen: BTreeMap::new(), gone: Vec::new() };
    // Cut off again and again, also before the first line.
    reader.read(0);
    for lines in [1, 1, 7, 30, 2] {
        reader.read(lines);
        reader.check();
    }
    // The agent is writing it: now and then there is nothing in it.
    let written = |instance: &str| -> u32 {
        eventually(SOON, || {
            let text = chassis.read(&fleet, instance, "data/n");
            text.trim().parse().map_err(|_| format!("`{text}` is no number"))
        })
    };

    // The agents are restarted, replaced by other containers, and the server ends, all while nobody reads.
    chassis.ok(&["restart", &format!("{fleet}/a")]);
    chassis.deploy(&agent(&fleet, &image, 2)).exits(0);
    chassis.deploy(&agent(&fleet, &image, 3)).exits(0);
    chassis.ok(&["server", "stop"]);
    chassis.ok(&["ps"]);
    let (one, two) = (written("a-1"), written("a-2"));
    assert!(one > 60 && two > 60, "{one} and {two} lines");
    reader.until("a-1", one);
    reader.until("a-2", two);
    reader.check();

    // The server ends while somebody reads.
    let stopped = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reader = reader;
            reader.read(usize::MAX);
            reader
        });
        pause(Duration::from_millis(500));
        chassis.ok(&["server", "stop"]);
        reading.join().expect("it ends")
    });
    let mut reader = stopped;
    chassis.ok(&["ps"]);
    let next = written("a-1") + 20;
    reader.until("a-1", next);
    reader.check();

    // One is scaled away and the other goes on; then all is deleted: the last lines come, and that is the end.
    chassis.ok(&["scale", "agent", &format!("{fleet}/a"), "1"]);
    let last = written("a-2");
    reader.until("a-2", last);
    chassis.ok(&["delete", "agent", &format!("{fleet}/a")]);
    reader.path = reader.path.replace("&follow=true", "");
    reader.read(usize::MAX);
    reader.check();
    let seen = |instance: &str| reader.seen[instance].iter().copied().max();
    assert_eq!((seen("a-1"), seen("a-2")), (Some(written("a-1")), Some(last)));
    assert_eq!(reader.gone, [] as [String; 0]);

    // Nothing is left of one, and nobody can go on; of one of two, and that is said.
    chassis.deploy(&agent(&fleet, &image, 4)).exits(0);
    reader.until("a-2", last + 5);
    fs_remove_kept(&chassis, &fleet, "a-1");
    chassis.ok(&["scale", "agent", &format!("{fleet}/a"), "0"]);
    fs_remove_kept(&chassis, &fleet, "a-1");
    reader.read(usize::MAX);
    assert_eq!(reader.gone, ["a-1"]);
    fs_remove_kept(&chassis, &fleet, "a-2");
    let (status, mut answer) = reader.connect();
    let mut problem = String::new();
    answer.read_line(&mut problem).expect("a problem");
    assert!(status == 410 && problem.contains("\"logs_gone\""), "{status} {problem}");
}

/// As if it had been swept away because it was too old.
fn fs_remove_kept(chassis: &Chassis, fleet: &str, instance: &str) {
    let _ = std::fs::remove_dir_all(chassis.data_dir().join(".server/logs").join(fleet).join(instance));
}
