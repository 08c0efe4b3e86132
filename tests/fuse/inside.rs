//! What happens in and to environments on real Docker: commands, limits, drains, events.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use chassis_testkit::{Namespace, SOON, eventually, expect};
use serde_json::{Value, json};

use crate::world::{World, error, parse};

fn exec(world: &World, id: &str, request: &Value) -> Value {
    let answer = world.post(&format!("/v1/environments/{id}?action=exec"), request);
    assert_eq!(answer.status, 200, "{}", answer.body);
    parse(&answer)
}

#[test]
fn a_command_is_bounded_in_time_and_output_and_loses_no_byte() {
    let world = World::docker(&[]);
    world.made("a", json!({}));
    let shell = |line: &str| exec(&world, "fuse-a", &json!({ "shell": line }));
    assert_eq!(shell("exit 255")["exit_code"], 255);
    assert_eq!(shell("printf '\\377'")["stdout_b64"], "/w==");
    assert_eq!(shell("printf text").get("stdout_b64"), None);
    let much = shell("head -c 6000000 /dev/zero | tr '\\0' x; echo end >&2");
    let kept = much["stdout"].as_str().map_or(0, str::len);
    assert_eq!(
        (kept, much["truncated"].as_bool(), much["stderr"].as_str()),
        (4 << 20, Some(true), Some("end\n"))
    );
    let slow = exec(&world, "fuse-a", &json!({ "cmd": ["sleep", "1000"], "timeout_ms": 300 }));
    assert_eq!((slow["exit_code"].as_i64(), slow["timed_out"].as_bool()), (Some(124), Some(true)));
    eventually(SOON, || {
        let left = shell("ps | grep -c '[s]leep 1000'");
        expect(left["stdout"] == "0\n", || format!("what took too long still runs: {left}"))
    });
    let act = |body: Value| world.post("/v1/environments/fuse-a?action=exec", &body);
    error(&act(json!({})), 400, "invalid_argument");
    error(&act(json!({ "cmd": ["true"], "shell": "true" })), 400, "invalid_argument");
    for action in ["", "?action=dance"] {
        error(&world.post(&format!("/v1/environments/fuse-a{action}"), &json!({})), 400, "invalid_argument");
    }
    error(&world.post("/v1/environments/fuse-b?action=exec", &json!({ "shell": "true" })), 404, "not_found");
    world.chassis.ok(&["stop", "fuse-a-1"]);
    error(&act(json!({ "cmd": ["true"] })), 409, "conflict");
}

/// What is sent along is there before anything runs, for its user alone, and nowhere to be seen.
#[test]
fn secrets_files_and_variables_are_inside_and_nowhere_else() {
    let world = World::docker(&[]);
    let manifest = r#"{"machine":{"env":{"KEY":{"secret":"KEY"},"PLAIN":{"value":"yes"}}}}"#;
    world.made(
        "a",
        json!({
            "secrets": { "KEY": "needle-1" },
            "manifest_inline": base64(manifest),
            "files": { "/workspace/deep/file": base64("needle-2") },
            "startup_script": "echo needle-3 > /workspace/prepared; echo $KEY > /workspace/key",
            "gateway_url": "http://gateway", "gateway_token": "needle-4",
        }),
    );
    let shell = |line: &str| exec(&world, "fuse-a", &json!({ "shell": line }))["stdout"].clone();
    assert_eq!(shell("cat /workspace/deep/file /workspace/prepared"), "needle-2needle-3\n");
    assert_eq!(shell("cat /fuse/secrets.json"), r#"{"KEY":"needle-1"}"#);
    assert_eq!(shell("cat /fuse/manifest.json"), manifest);
    assert_eq!(shell("cat /fuse/task-id"), "a");
    assert_eq!(shell("stat -c %a /fuse/auth-token /fuse/secrets.json"), "600\n600\n");
    // Of the startup script, and of every command.
    assert_eq!(shell("cat /workspace/key; echo $KEY $PLAIN"), "needle-1\nneedle-1 yes\n");
    let id = world.chassis.instance("environments/fuse-a-1").container_name;
    let inspected = world.chassis.docker().inspect(&id).map_or_else(String::new, |found| found.to_string());
    let described = world.chassis.ok(&["describe", "fuse-a-1"]).stdout;
    let shown = world.ask("GET", "/v1/environments/fuse-a").body;
    let events = world.chassis.ok(&["events", "environments"]).stdout;
    for text in [&inspected, &described, &shown, &events] {
        assert!(!text.contains("needle"), "{text}");
    }
}

/// One whose script fails or takes too long never counts as running, and nothing of it is left.
#[test]
fn a_startup_script_that_fails_fails_its_environment() {
    let world = World::docker(&[]);
    let failed = world.create("a", json!({ "startup_script": "exit 7" }));
    let message = error(&failed, 500, "internal");
    assert!(message.contains("exit code 7"), "{message}");
    let slow = json!({ "startup_script": "sleep 1000", "startup_script_timeout_seconds": 1 });
    let message = error(&world.create("a", slow), 400, "invalid_argument");
    assert!(message.contains("longer than 1 s"), "{message}");
    assert_eq!(world.ask("GET", "/v1/environments/fuse-a").status, 404);
    assert!(!world.chassis.ok(&["ps", "-o", "name"]).stdout.contains("fuse-a"));
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A check is told, and nothing more: what runs in an environment is not started again behind its maker's back.
#[test]
fn a_failing_check_is_told_and_restarts_nothing() {
    let world = World::docker(&[]);
    let check = json!({ "exec": ["test", "-e", "/workspace/well"], "interval_seconds": 1, "retries": 1 });
    let made = world.made("a", json!({ "healthcheck": check }));
    let health = |state: &str| {
        eventually(SOON, || {
            let found = parse(&world.ask("GET", "/v1/environments/fuse-a"));
            expect(found["health"]["state"] == state, || found.to_string())?;
            Ok::<_, String>(found)
        })
    };
    let failing = health("failing");
    assert!(failing["health"]["failures"].as_u64() >= Some(1), "{failing}");
    assert!(
        failing["health"]["message"].as_str().is_some_and(|said| said.contains("exit code 1")),
        "{failing}"
    );
    exec(&world, "fuse-a", &json!({ "cmd": ["touch", "/workspace/well"] }));
    let passing = health("passing");
    assert!(
        passing["health"].get("message").is_none() && passing["health"]["since"].is_string(),
        "{passing}"
    );
    assert_eq!((&passing["state"], &passing["url"]), (&made["state"], &made["url"]));
    assert_eq!(world.chassis.instance("environments/fuse-a-1").instance.restarts, 0);
}

/// The next frame: what it is, and what it holds.
fn frame(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut head = [0; 8];
    stream.read_exact(&mut head).expect("a frame in time");
    let mut content = vec![0; u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize];
    stream.read_exact(&mut content).expect("a whole frame");
    (head[0], content)
}

fn send_frame(stream: &mut UnixStream, kind: u8, content: &[u8]) {
    let length = u32::try_from(content.len()).expect("a short frame").to_be_bytes();
    stream.write_all(&[&[kind, 0, 0, 0], &length[..], content].concat()).expect("sent");
}

#[test]
fn a_terminal_is_attached_over_frames() {
    let world = World::docker(&[]);
    world.made("a", json!({}));
    let path = "/v1/environments/fuse-a/attach";
    error(&world.ask("GET", &format!("{path}?tty=1")), 400, "invalid_argument");
    let open = |query: &str| {
        let mut stream = UnixStream::connect(world.chassis.socket()).expect("the server");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
        let upgrade = "Connection: Upgrade\r\nUpgrade: Fuse-Attach/1";
        write!(stream, "GET {path}{query} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n\r\n").expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        (stream, String::from_utf8_lossy(&head).to_lowercase())
    };
    assert!(open("").1.starts_with("http/1.1 400"), "without a terminal there is `exec`");
    let (mut stream, head) = open("?tty=1&rows=31&cols=97&rows=x");
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: fuse-attach/1"), "{head}");
    send_frame(&mut stream, 9, b"what nobody knows");
    send_frame(&mut stream, 0, b"stty size\n");
    let mut seen = String::new();
    let mut until = |stream: &mut UnixStream, words: &str| {
        while !seen.contains(words) {
            let (kind, content) = frame(stream);
            assert_eq!(kind, 1, "{seen}");
            seen += &String::from_utf8_lossy(&content);
        }
    };
    until(&mut stream, "31 97");
    send_frame(&mut stream, 3, br#"{"rows":41,"cols":99}"#);
    send_frame(&mut stream, 0, b"stty size; echo e''nd; exit 5\n");
    until(&mut stream, "41 99");
    until(&mut stream, "end");
    let last = loop {
        match frame(&mut stream) {
            (1, _) => {}
            last => break last,
        }
    };
    assert_eq!((last.0, String::from_utf8_lossy(&last.1).as_ref()), (4, r#"{"exit_code":5}"#));
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    // Who goes takes the command along.
    let (stream, _) = open("?tty=true&cmd=sleep&cmd=4321");
    let runs = |count: &str| {
        let left = exec(&world, "fuse-a", &json!({ "shell": "ps | grep -c '[s]leep 4321'" }));
        expect(left["stdout"] == count, || left.to_string())
    };
    eventually(SOON, || runs("1\n"));
    drop(stream);
    eventually(SOON, || runs("0\n"));
}

/// Drain keeps its promise: what runs is asked to end and has ended, nothing new begins, and it stays to be looked at.
#[test]
fn a_drain_ends_what_runs_and_takes_nothing_new() {
    let world = World::docker(&[]);
    world.made("a", json!({}));
    error(&world.ask("POST", "/v1/environments/fuse-x?action=drain"), 404, "not_found");
    let drained = world.ask("POST", "/v1/environments/fuse-a?action=drain");
    assert_eq!(drained.status, 200, "{}", drained.body);
    assert_eq!(parse(&drained)["state"], "draining");
    let phase = world.chassis.instance("environments/fuse-a-1").instance.phase;
    assert_eq!(format!("{phase:?}"), "Stopped");
    let exec = world.post("/v1/environments/fuse-a?action=exec", &json!({ "shell": "true" }));
    error(&exec, 409, "conflict");
    error(&world.ask("POST", "/v1/environments/fuse-a?action=rotate-token"), 409, "conflict");
    assert_eq!(world.ask("DELETE", "/v1/environments/fuse-a").status, 204);
}

/// The lines of a stream of events, as they come.
fn follow(world: &World, id: &str, headers: &str) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(world.chassis.socket()).expect("the server");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    write!(stream, "GET /v1/environments/{id}/events HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n")
        .expect("sent");
    BufReader::new(stream)
}

/// The next event: its id and data.
fn next(lines: &mut BufReader<UnixStream>) -> Option<(String, Value)> {
    let mut id = String::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).expect("a line in time") == 0 {
            return None;
        }
        if let Some(found) = line.strip_prefix("id: ") {
            found.trim().clone_into(&mut id);
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return Some((id, serde_json::from_str(data).expect("JSON")));
        }
    }
}

/// Unlike Fuse's, whose followers lose what comes while they are away.
#[test]
fn events_are_replayed_to_whoever_comes_back() {
    let world = World::sim(&[]);
    error(&world.ask("GET", "/v1/environments/fuse-a/events"), 404, "not_found");
    world.made("a", json!({}));
    let mut lines = follow(&world, "fuse-a", "");
    let (first, event) = next(&mut lines).expect("the present state");
    assert_eq!((event["state"].as_str(), event["vm_id"].as_str()), (Some("running"), Some("fuse-a")));
    assert_eq!((event["event"].as_str(), event["id"].as_str()), (Some("state"), Some(first.as_str())));
    assert_eq!(first.len(), 32, "{first}");
    assert!(event.get("error").is_none() && event["updated_at"].is_string(), "{event}");
    drop(lines);
    world.ask("POST", "/v1/environments/fuse-a?action=drain");
    let mut lines = follow(&world, "fuse-a", &format!("Last-Event-ID: {first}\r\n"));
    assert_eq!(next(&mut lines).expect("what was missed").1["state"], "draining");
    assert_eq!(world.ask("DELETE", "/v1/environments/fuse-a").status, 204);
    let mut rest = Vec::new();
    while let Some((_, event)) = next(&mut lines) {
        rest.push(event["state"].to_string());
    }
    assert_eq!(rest, ["\"destroying\"", "\"destroyed\""]);
}

/// What is too old is destroyed, and leaves a letter for the operator.
#[test]
fn one_that_is_too_old_is_destroyed() {
    let world = World::sim(&[]);
    world.made("old", json!({ "spec": { "max_runtime_seconds": 1 } }));
    world.made("young", json!({}));
    eventually(SOON, || {
        let status = world.ask("GET", "/v1/environments/fuse-old").status;
        expect(status == 404, || format!("answered {status}"))
    });
    assert_eq!(world.ask("GET", "/v1/environments/fuse-young").status, 200);
    let letters = parse(&world.ask("GET", "/v1/dead-letters"));
    let letter = &letters["dead_letters"][0];
    assert_eq!(
        (letter["kind"].as_str(), letter["entity_id"].as_str()),
        (Some("stuck_task"), Some("fuse-old"))
    );
    assert_eq!(
        (letter["task_id"].as_str(), letter["retry_count"].as_i64()),
        (Some("old"), Some(0)),
        "{letter}"
    );
    assert_eq!(world.ask("DELETE", "/v1/dead-letters/stuck_task/fuse-old").status, 204);
    assert_eq!(parse(&world.ask("GET", "/v1/dead-letters"))["dead_letters"], json!([]));
    error(&world.ask("DELETE", "/v1/dead-letters/stuck_task/fuse-old"), 404, "not_found");
}

/// A server that was killed finds its environments again, as they are.
#[test]
fn environments_outlive_their_server() {
    let mut world = World::docker(&[]);
    let made = world.made("a", json!({}));
    world.kill_and_start();
    let found = eventually(SOON, || {
        let found = parse(&world.ask("GET", "/v1/environments/fuse-a"));
        expect(found["url"] == made["url"], || format!("{found}"))?;
        Ok::<_, String>(found)
    });
    assert_eq!(found["state"], "running");
    assert_eq!(exec(&world, "fuse-a", &json!({ "shell": "echo here" }))["stdout"], "here\n");
}

/// Each is somebody else's: no connection, also to one whose address is known.
#[test]
fn environments_do_not_reach_one_another() {
    let world = World::docker(&[]);
    for task in ["a", "b"] {
        world.made(task, json!({}));
    }
    let serve = "mkdir -p /tmp/www && echo page > /tmp/www/index.html && httpd -p 8000 -h /tmp/www";
    assert_eq!(exec(&world, "fuse-b", &json!({ "shell": serve }))["exit_code"], 0);
    let docker = world.chassis.docker();
    let container = |id: &str| world.chassis.instance(&format!("environments/{id}-1")).container_name;
    let found = docker.inspect(&container("fuse-b")).expect("a container");
    let networks = found["NetworkSettings"]["Networks"].as_object().expect("networks");
    let addresses: Vec<&str> =
        networks.values().filter_map(|network| network["IPAddress"].as_str()).collect();
    assert_eq!(addresses.len(), 1, "{networks:?}");
    let url = format!("http://{}:8000/", addresses[0]);
    let ask = |id: &str| {
        let inside = Namespace::of_container(docker, &container(id));
        inside.run(&["curl", "-sS", "--max-time", "3", &url]).stdout
    };
    eventually(SOON, || expect(ask("fuse-b") == "page\n", || "it does not serve".to_owned()));
    assert_eq!(ask("fuse-a"), "");
}

/// Only the machine where it comes to be knows whether a port is free there: one that somebody else has by then is not insisted on.
#[test]
fn a_port_that_somebody_else_has_by_then_gives_way_to_another() {
    let world = World::docker(&[]);
    for attempt in 0..20 {
        let (task, id) = (format!("p{attempt}"), format!("/v1/environments/fuse-p{attempt}"));
        let request = json!({ "expose": [{ "port": 8080 }] });
        let first_port = |body: &Value| body["endpoints"][0]["url"].as_str().map(str::to_owned);
        let (answer, taken) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| world.create(&task, request));
            // It is known as soon as it is chosen, before its container is.
            let chosen = eventually(SOON, || {
                let found = world.ask("GET", &id);
                first_port(&serde_json::from_str(&found.body).unwrap_or_default()).ok_or(found.body)
            });
            let taken = TcpListener::bind(&chosen).ok().map(|listener| (chosen, listener));
            (asked.join().expect("no panic"), taken)
        });
        assert_eq!(answer.status, 201, "{}", answer.body);
        if let Some((chosen, _listener)) = taken {
            let got = first_port(&parse(&answer)).expect("an endpoint");
            assert_ne!(got, chosen, "that one is ours");
            return;
        }
        // Docker was faster.
        assert_eq!(world.ask("DELETE", &id).status, 204);
    }
    panic!("Docker was faster every time");
}
