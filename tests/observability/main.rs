//! What machines see of a server: its figures, whether it lives, whether it can work, and its traces.

mod collector;
mod figures;
mod traces;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use chassis_testkit::api::{Alive, Readiness};
use chassis_testkit::{Chassis, Image, SOON, eventually, expect, not_tested};

use figures::Figures;

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

#[test]
fn figures_tell_what_happens_on_docker() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("figures");
    let image = Image::busybox().build();
    let _server = chassis.serve();
    chassis.ok(&["create", "fleet", &fleet]);
    let agent = |name: &str, rest: &str| {
        let head = format!("name: {name}\nfleet: {fleet}\nimage: {image}\nstop: {{grace: 1s}}\n");
        let path = chassis.write(&format!("{name}.yaml"), &(head + rest));
        chassis.ok(&["deploy", "agent", "--no-wait", "-f", &path.display().to_string()]);
    };
    agent("crasher", "command: [sh, -c, 'sleep 0.3; exit 3']\n");
    agent(
        "worker",
        "command: [sleep, '1000']\nreplicas: 2\nhealthCheck: {exec: {command: ['true']}, interval: 1s}\n",
    );
    let (status, _) = chassis.ask("GET", "/no/such/path");
    assert_eq!(status, 404);
    let mut follower = chassis.spawn_unread(&["events", "--watch"]);

    let by_fleet = [("fleet", fleet.as_str())];
    let failed = [("reason", "failed")];
    let looks = [("check", "health"), ("result", "good")];
    let events = [("route", "/api/v1/events")];
    let figures = eventually(SOON, || {
        let figures = Figures::read(&chassis);
        let running = figures.value("chassis_instances", &[by_fleet[0], ("phase", "running")]);
        let (restarts, looks) = (
            figures.value("chassis_restarts_total", &failed),
            figures.value("chassis_probe_looks_total", &looks),
        );
        let streams = figures.value("chassis_http_open_streams", &events);
        let seen =
            format!("{running:?} running, {restarts:?} restarts, {looks:?} looks, {streams:?} streams");
        let all = running >= Some(2.0) && restarts >= Some(1.0) && looks >= Some(2.0) && streams == Some(1.0);
        expect(all, || seen).map(|()| figures)
    });
    assert_eq!(figures.value("chassis_instances_desired", &by_fleet), Some(3.0));
    assert_eq!(figures.value("chassis_runtime_up", &[]), Some(1.0));
    assert_eq!(figures.value("chassis_acting", &[]), Some(1.0));
    for step in ["image", "wait", "create", "start"] {
        let labels = [("step", step)];
        let count = figures.value("chassis_step_duration_seconds_count", &labels);
        assert!(count >= Some(3.0), "{step}: {count:?}");
        let seconds = figures.value("chassis_step_duration_seconds_sum", &labels);
        assert!(seconds > Some(0.0) && seconds < Some(600.0), "{step} took {seconds:?} seconds");
    }
    let applied = [("method", "POST"), ("route", "/api/v1/fleets/{fleet}/apply"), ("status", "2xx")];
    assert_eq!(figures.value("chassis_http_requests_total", &applied), Some(2.0));
    let nowhere = [("method", "other"), ("route", "none"), ("status", "4xx")];
    assert_eq!(figures.value("chassis_http_requests_total", &nowhere), Some(1.0));
    assert!(figures.value("chassis_reconcile_duration_seconds_count", &[]) >= Some(4.0));
    assert!(figures.value("chassis_reconcile_lag_seconds_count", &[]) >= Some(4.0));

    assert!(figures.value("chassis_store_commit_duration_seconds_count", &[]) >= Some(3.0));
    let operations = figures.value("chassis_store_commit_operations_sum", &[]);
    assert!(operations >= figures.value("chassis_store_commit_operations_count", &[]), "{operations:?}");

    let resident = figures.value("process_resident_memory_bytes", &[]).expect("memory");
    assert!((2e6..1e9).contains(&resident), "{resident} bytes");
    assert!(figures.value("process_open_fds", &[]) > Some(5.0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64();
    let started = figures.value("process_start_time_seconds", &[]).expect("a start");
    assert!((now - 300.0..now + 2.0).contains(&started), "started at {started}, it is {now}");

    figures.lint();
    promtool_check(figures.text());
    let container = chassis.instance(&format!("{fleet}/worker-1")).instance.container_id.expect("an id");
    for secret in [container.as_str(), "worker-1", "crasher"] {
        assert!(!figures.text().contains(secret), "{secret} is in a label");
    }

    follower.kill().expect("a follower");
    follower.wait().expect("a child");
    eventually(SOON, || {
        let streams = Figures::read(&chassis).value("chassis_http_open_streams", &events);
        expect(streams == Some(0.0), || format!("{streams:?} streams"))
    });
}

#[test]
fn a_server_without_docker_lives_and_says_that_it_is_not_ready() {
    let chassis = Chassis::new(BINARY);
    let gone = format!("unix://{}", chassis.home().join("no-docker").display());
    let _server = chassis.serve_with(&[], &[("DOCKER_HOST", &gone)]);
    let (status, body) = chassis.ask("GET", "/health");
    let alive: Alive = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (status, alive.status.as_str(), alive.version.as_str()),
        (200, "ok", env!("CARGO_PKG_VERSION"))
    );

    let (status, body) = chassis.ask("GET", "/ready");
    let readiness: Readiness = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, readiness.ready), (503, false), "{body}");
    let failing: Vec<&str> =
        readiness.checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect();
    assert_eq!(failing, ["runtime", "look"], "{body}");
    assert!(body.contains("chassis doctor"), "it says what to do: {body}");
    assert!(!body.contains("no-docker"), "anybody may ask, so it names no path: {body}");
    assert_eq!(Figures::read(&chassis).value("chassis_runtime_up", &[]), Some(0.0));
}

#[test]
fn a_server_is_ready_once_it_knows_what_runs() {
    let chassis = Chassis::new(BINARY);
    let _server = chassis.serve_with(&["--runtime", "sim"], &[]);
    let (status, body) = chassis.ask("GET", "/ready");
    let readiness: Readiness = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, readiness.ready), (200, true), "{body}");
    assert!(readiness.checks.iter().all(|check| check.ok && check.hint.is_none()), "{body}");
}

/// The linter of those who read it.
fn promtool_check(text: &str) {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/promtool");
    let promtool = if own.exists() { own } else { "promtool".into() };
    let child = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        not_tested(
            "the figures by promtool, which is missing (`scripts/test` gets it): `curl -s --unix-socket \
             DATA_DIR/.server/socket http://localhost/metrics | promtool check metrics`",
        );
        return;
    };
    let mut input = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("promtool reads");
    drop(input);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{text}", String::from_utf8_lossy(&said));
}
