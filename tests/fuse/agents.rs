//! Agents of environments: chosen by a request, fetched from where nothing can be turned against the network, run, drained.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use chassis_testkit::{SOON, eventually, expect};
use serde_json::{Value, json};

use crate::artifacts::Artifacts;
use crate::world::{World, error, parse};

/// Tells what it was given at each start, and when it is asked to end.
const PROGRAM: &str = r#"#!/bin/sh
trap 'echo ended >> /workspace/log; exit 0' TERM
echo "started $(cat /fuse/auth-token) $FUSE_VM_ID $FUSE_GATEWAY $FUSE_GATEWAY_TOKEN $(cat /opt/agent/settings)" >> /workspace/log
while :; do sleep 1 & wait $!; done
"#;

/// In hex.
fn sha256(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in digest(&SHA256, bytes).as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn shell(world: &World, id: &str, line: &str) -> String {
    let answer = world.post(&format!("/v1/environments/{id}?action=exec"), &json!({ "shell": line }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    parse(&answer)["stdout"].as_str().unwrap_or_default().to_owned()
}

/// The lines of its log, once there are so many.
fn log(world: &World, id: &str, lines: usize) -> Vec<String> {
    eventually(SOON, || {
        let log = shell(world, id, "cat /workspace/log");
        expect(log.lines().count() >= lines, || log.clone())?;
        Ok::<_, String>(log.lines().map(str::to_owned).collect())
    })
}

#[test]
fn an_agent_is_fetched_and_run_with_credentials_of_its_own() {
    let artifacts = Artifacts::serve("127.0.0.1", PROGRAM.as_bytes(), "");
    let world = World::docker(&["--agent-download-allow", "127.0.0.1", "--agent-download-http"]);
    let profile = format!(
        "name: worker\ndownloadUrl: {}?key=needle-0\ndownloadSha256: {}\ncommand: exec /opt/agent/agent\n\
         gateway: http://gateway\ngatewayToken: needle-1\nfiles:\n- path: /opt/agent/settings\n  content: needle-2\n",
        artifacts.url("/hop"),
        sha256(PROGRAM.as_bytes())
    );
    let file = world.chassis.write("profile.yaml", &profile);
    let file = file.to_str().expect("a path");
    assert_eq!(
        world.chassis.ok(&["agent-profile", "apply", "-f", file]).stdout,
        "created agent profile worker\n"
    );
    let made = world.made("a", json!({ "agent": { "name": "worker" } }));
    assert_eq!(made["agent"], "worker", "{made}");
    let first = log(&world, "fuse-a", 1).remove(0);
    let token = shell(&world, "fuse-a", "cat /fuse/auth-token");
    assert_eq!(first, format!("started {token} fuse-a http://gateway needle-1 needle-2"));
    assert!(token.len() >= 43, "{token}");
    assert_eq!(shell(&world, "fuse-a", "stat -c %a /fuse/auth-token /fuse/tls/key.pem"), "600\n600\n");
    let certificate = shell(&world, "fuse-a", "cat /fuse/tls/cert.pem");
    assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"), "{certificate}");
    assert_eq!(artifacts.asked(), 2, "it is fetched once, behind one redirect");

    // Each has its own.
    world.made("b", json!({ "agent": { "name": "worker", "auth_token": "brought-along" } }));
    assert!(log(&world, "fuse-b", 1)[0].starts_with("started brought-along fuse-b "));
    assert_ne!(shell(&world, "fuse-b", "cat /fuse/tls/cert.pem"), certificate);
    assert_eq!(artifacts.asked(), 2, "it is kept by its checksum");

    // The agent lets nobody in with the token that it had: it is another run when the answer comes.
    let rotated = world.ask("POST", "/v1/environments/fuse-a?action=rotate-token");
    assert_eq!((rotated.status, rotated.body.as_str()), (204, ""));
    let lines = log(&world, "fuse-a", 3);
    let new = shell(&world, "fuse-a", "cat /fuse/auth-token");
    assert_ne!(new, token);
    assert_eq!(lines[1], "ended");
    assert!(lines[2].starts_with(&format!("started {new} ")), "{lines:?}");
    assert_ne!(shell(&world, "fuse-a", "cat /fuse/tls/cert.pem"), certificate);

    let container = world.chassis.instance("environments/fuse-a-1").container_name;
    let shown = [
        world.chassis.docker().inspect(&container).map_or_else(String::new, |found| found.to_string()),
        world.chassis.ok(&["describe", "fuse-a-1"]).stdout,
        world.chassis.ok(&["agent-profile", "describe", "worker", "-o", "json"]).stdout,
        world.ask("GET", "/v1/environments/fuse-a").body,
        world.chassis.ok(&["events", "environments"]).stdout,
    ];
    for text in &shown {
        assert!(!text.contains("needle") && !text.contains(&new), "{text}");
    }
    world.chassis.ok(&["agent-profile", "delete", "worker"]);
    error(&world.create("c", json!({ "agent": { "name": "worker" } })), 404, "not_found");
    world.chassis.ok(&["restart", "fuse-a-1"]);
    assert_eq!(log(&world, "fuse-a", 5).len(), 5, "what runs keeps the agent that it was made with");
}

/// What the agent cannot finish is told; it goes on, and the drain can be asked for again.
#[test]
fn a_drain_command_is_run_before_the_end_and_can_be_repeated() {
    let world = World::docker(&[]);
    let agent = json!({
        "command": format!("cat > /tmp/agent <<'END'\n{PROGRAM}END\nexec sh /tmp/agent"),
        "drainCommand": "echo drain >> /workspace/log; test -e /workspace/done",
    });
    world.made("a", json!({ "agent": agent }));
    log(&world, "fuse-a", 1);
    let message = error(&world.ask("POST", "/v1/environments/fuse-a?action=drain"), 500, "internal");
    assert!(message.contains("the drain command failed: exit code 1"), "{message}");
    let found = parse(&world.ask("GET", "/v1/environments/fuse-a"));
    assert_eq!(found["state"], "draining");
    assert!(found["error"].as_str().is_some_and(|error| error.contains("drain command failed")), "{found}");
    let inside = |line: &str| world.chassis.ok(&["exec", "fuse-a-1", "--", "sh", "-c", line]).stdout;
    assert!(!inside("cat /workspace/log").contains("ended"), "the agent goes on");
    error(&world.post("/v1/environments/fuse-a?action=exec", &json!({ "shell": "true" })), 409, "conflict");

    inside("touch /workspace/done");
    let drained = parse(&world.ask("POST", "/v1/environments/fuse-a?action=drain"));
    assert_eq!((drained["state"].as_str(), drained.get("error")), (Some("draining"), None), "{drained}");
    assert_eq!(format!("{:?}", world.chassis.instance("environments/fuse-a-1").instance.phase), "Stopped");
    let lines = world.chassis.read("environments", "fuse-a-1", "workspace/log");
    let words: Vec<&str> = lines.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(words, ["started", "drain", "drain", "ended"]);
    // A stop runs it too; to throw one away does not wait for it.
    let slow = json!({ "command": "exec sleep 1000", "drain_command": "sleep 1000", "drain_timeout": "10m" });
    world.made("b", json!({ "agent": slow }));
    assert_eq!(world.ask("DELETE", "/v1/environments/fuse-b").status, 204);
}

/// By default nothing in the network that the server is in can be asked for, however it is written.
#[test]
fn nothing_is_fetched_from_private_addresses() {
    let artifacts = Artifacts::serve("127.0.0.1", PROGRAM.as_bytes(), "");
    let world = World::sim(&["--agent-download-http"]);
    let port = artifacts.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::1]",
    ] {
        let message = refused(&world, &format!("http://{host}:{port}/agent"), PROGRAM);
        assert!(message.contains("has no public address"), "{host}: {message}");
    }
    for url in [
        "http://169.254.169.254/latest/",
        "http://10.0.0.1/",
        "https://[fd00:ec2::254]/",
        "https://192.168.1.1/",
        "http://100.64.0.1/",
    ] {
        assert!(refused(&world, url, PROGRAM).contains("has no public address"), "{url}");
    }
    let strict = World::sim(&["--agent-download-allow", "127.0.0.0/8"]);
    assert!(refused(&strict, &artifacts.url("/agent"), PROGRAM).contains("is not https"));
    assert_eq!(artifacts.asked(), 0, "no connection was made");
}

/// From one that the operator allows comes what was named, in time, from there, or nothing.
#[test]
fn a_server_of_programs_cannot_deceive() {
    let elsewhere = Artifacts::serve("127.0.0.2", PROGRAM.as_bytes(), "");
    let artifacts = Artifacts::serve("127.0.0.1", PROGRAM.as_bytes(), &elsewhere.url("/agent"));
    let world = World::sim(&[
        "--agent-download-allow",
        "127.0.0.1",
        "--agent-download-http",
        "--agent-download-max",
        "1Mi",
        "--agent-download-timeout",
        "1s",
    ]);
    for (path, part) in [
        ("/far", "169.254.169.254/latest/meta-data/ has no public address"),
        ("/near", "has no public address"),
        ("/round", "redirects more than 3 times"),
        ("/large", "more than 1048576 bytes"),
        ("/endless", "more than 1048576 bytes"),
        ("/over", "not what `downloadSha256` says"),
        ("/nothing", "answered 404"),
    ] {
        let message = refused(&world, &artifacts.url(path), PROGRAM);
        assert!(message.contains(part), "{path}: {message}");
    }
    assert_eq!(elsewhere.asked(), 0, "no connection was made to where a redirect leads");
    assert!(refused(&world, &artifacts.url("/agent"), "another").contains("not what `downloadSha256` says"));
    for (path, part) in [("/slow", "did not come within 1 s"), ("/cut", "cannot be fetched just now")] {
        let answer = ask_for(&world, &artifacts.url(path), PROGRAM);
        let message = error(&answer, 503, "unavailable");
        assert!(message.contains(part), "{path}: {message}");
    }
    assert_eq!(world.ask("GET", "/v1/environments/fuse-a").status, 404, "nothing was made");
    assert_eq!(ask_for(&world, &artifacts.url("/agent"), PROGRAM).status, 201);
}

fn ask_for(world: &World, url: &str, program: &str) -> chassis_testkit::Answer {
    let sha256 = sha256(program.as_bytes());
    world.create("a", json!({ "agent": { "command": "a", "downloadUrl": url, "downloadSha256": sha256 } }))
}

#[track_caller]
fn refused(world: &World, url: &str, program: &str) -> String {
    error(&ask_for(world, url, program), 400, "invalid_argument")
}

#[test]
fn an_agent_that_is_malformed_is_told_where() {
    let world = World::sim(&[]);
    for (agent, part) in [
        (json!({ "comand": "a" }), "comand"),
        (json!("fused"), "invalid type"),
        (json!({ "command": " " }), "command: there is nothing to run"),
        (json!({ "files": [{ "path": "/fuse/x", "content": "" }] }), "files[0].path"),
        (json!({ "downloadUrl": "https://host/agent" }), "downloadSha256"),
        (json!({ "gateway_token": "two words" }), "gatewayToken"),
    ] {
        let message = error(&world.create("a", json!({ "agent": agent })), 400, "invalid_argument");
        assert!(message.contains(part), "{message}");
    }
    error(&world.create("a", json!({ "agent": { "name": "nobody" } })), 404, "not_found");
    // Without one it is as ever, and clients that say nothing of it say null.
    assert_eq!(world.made("a", json!({ "agent": null })).get("agent"), None);
}

/// The operator's own program is what an agent gets that has a place for one and no address.
#[test]
fn the_servers_own_download_is_the_usual_one() {
    let artifacts = Artifacts::serve("127.0.0.1", PROGRAM.as_bytes(), "");
    let (url, sha256) = (artifacts.url("/agent"), sha256(PROGRAM.as_bytes()));
    let flags = ["--agent-download-url", &url, "--agent-download-sha256", &sha256];
    let allowed = ["--agent-download-allow", "localhost,127.0.0.0/8", "--agent-download-http"];
    let world = World::sim(&[&flags[..], &allowed].concat());
    world.made("a", json!({ "agent": { "command": "a" } }));
    assert_eq!(artifacts.asked(), 0, "it has no place for one");
    world.made("b", json!({ "agent": { "command": "a", "downloadPath": "/opt/agent/a" } }));
    assert_eq!(artifacts.asked(), 1);
}

#[test]
fn profiles_are_the_operators_to_keep() {
    let world = World::sim(&[]);
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/agent-profiles.yaml");
    let applied = world.chassis.ok(&["agent-profile", "apply", "-f", reference]).stdout;
    assert_eq!(applied, "created agent profile fused\ncreated agent profile surfd\n");
    assert_eq!(world.chassis.ok(&["agent-profile", "list", "-o", "name"]).stdout, "fused\nsurfd\n");
    let described = world.chassis.ok(&["agent-profile", "describe", "fused"]).stdout;
    assert!(described.contains("pkill -TERM -x fused"), "{described}");
    assert_eq!(world.made("a", json!({ "agent": { "name": "fused" } }))["agent"], "fused");
    let wrong = world.chassis.write("wrong.yaml", "name: a\ncomand: b\n");
    let failed = world.chassis.run(&["agent-profile", "apply", "-f", wrong.to_str().expect("a path")]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(
        failed.stderr.contains("wrong.yaml:2:1") && failed.stderr.contains("command"),
        "{}",
        failed.stderr
    );
    assert_eq!(world.chassis.run(&["agent-profile", "delete", "nobody"]).code, 3);
    let mismatch = world.send("PUT", "/api/v1/agent-profiles/a", br#"{"name":"b"}"#);
    assert_eq!(mismatch.status, 422, "{}", mismatch.body);
    let listed = parse(&world.ask("GET", "/api/v1/agent-profiles"));
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
}

/// What was given up is made again of what was asked for then, with credentials that are new.
#[test]
fn a_dead_letter_is_tried_again() {
    let world = World::sim(&[]);
    let short = json!({ "spec": { "max_runtime_seconds": 1 }, "secrets": { "KEY": "needle" } });
    world.made("old", short);
    let letter = |times: u64| {
        eventually(SOON, || {
            let letters = parse(&world.ask("GET", "/v1/dead-letters"));
            let letter = letters["dead_letters"][0].clone();
            let is_gone = world.ask("GET", "/v1/environments/fuse-old").status == 404;
            let is_next =
                letter["retry_count"].as_u64() == Some(times) && letter.get("redriven_at").is_none();
            expect(is_gone && is_next, || letters.to_string())?;
            Ok::<Value, String>(letter)
        })
    };
    assert!(!letter(0).to_string().contains("needle"));
    let listed = world.chassis.ok(&["dead-letter", "list", "-o", "name"]).stdout;
    assert_eq!(listed, "stuck_task/fuse-old\n");

    let redriven = world.ask("POST", "/v1/dead-letters/stuck_task/fuse-old?action=redrive");
    assert_eq!(redriven.status, 201, "{}", redriven.body);
    let made = parse(&redriven);
    assert_eq!((made["id"].as_str(), made["task_id"].as_str()), (Some("fuse-old"), Some("old")), "{made}");
    assert_eq!(made["spec"]["max_runtime_seconds"], 1);
    letter(1);
    let said = world.chassis.ok(&["dead-letter", "redrive", "fuse-old"]).stdout;
    assert_eq!(said, "environment fuse-old runs again\n");
    letter(2);
    let log = world.chassis.ok(&["audit-log", "-o", "json"]).stdout;
    assert!(log.contains("letter_redrive") && log.contains("redrive stuck_task old"), "{log}");

    // Its task is somebody's again.
    world.made("old", json!({}));
    error(&world.ask("POST", "/v1/dead-letters/stuck_task/fuse-old?action=redrive"), 409, "conflict");
    assert_eq!(world.chassis.run(&["dead-letter", "redrive", "stuck_task/fuse-old"]).code, 1);
    error(&world.ask("POST", "/v1/dead-letters/idle_timeout/fuse-old?action=redrive"), 404, "not_found");
    error(&world.ask("POST", "/v1/dead-letters/stuck_task/fuse-old"), 400, "invalid_argument");
    world.chassis.ok(&["dead-letter", "delete", "fuse-old"]);
    assert_eq!(world.chassis.run(&["dead-letter", "delete", "fuse-old"]).code, 3);
}

/// Whoever is being answered when the server is told to end gets as long as the operator says.
#[test]
fn requests_get_the_time_that_was_set_to_end() {
    for (timeout, is_answered) in [("30", true), ("1", false)] {
        let artifacts = Artifacts::serve("127.0.0.1", PROGRAM.as_bytes(), "");
        let allowed = ["--agent-download-allow", "127.0.0.1", "--agent-download-http"];
        let world = World::sim(&[&allowed[..], &["--shutdown-timeout", timeout]].concat());
        let agent = json!({ "command": "a", "downloadUrl": artifacts.url("/late"), "downloadSha256": sha256(PROGRAM.as_bytes()) });
        let body = world.request("a", json!({ "agent": agent })).to_string();
        let (world, body) = (&world, body.as_bytes());
        std::thread::scope(|scope| {
            let patience = std::time::Duration::from_mins(1);
            let asked =
                scope.spawn(move || world.chassis.exchange("POST", "/v1/environments", body, patience));
            eventually(SOON, || expect(artifacts.asked() == 1, || "it is not fetched yet".to_owned()));
            world.chassis.ok(&["server", "stop"]);
            let answer = asked.join().expect("no panic");
            assert_eq!(answer.is_ok_and(|answer| answer.status == 201), is_answered, "{timeout}");
        });
    }
}
