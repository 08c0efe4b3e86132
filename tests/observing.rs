//! What is seen of a fleet and of the machine below it: stats, top, wait, doctor, and changes of several at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use chassis_testkit::api::Phase;
use chassis_testkit::{Chassis, Image, Outcome, Pty, SOON, TmpfsMount, eventually, expect};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

/// One agent that burns half a core and holds 20 MiB, and one that sleeps.
fn deploy_both(chassis: &Chassis, fleet: &str) {
    let image = Image::busybox().build();
    chassis.ok(&["create", "fleet", fleet]);
    let yaml = format!(
        "name: burn\nfleet: {fleet}\nimage: {image}\nreplicas: 2\nresources: {{cpu: 0.5, memory: 64Mi}}\n\
         command: [/bin/sh, -c, \"dd if=/dev/zero of=/tmp/x bs=1M count=20; while :; do :; done\"]\n---\n\
         name: idle\nfleet: {fleet}\nimage: {image}\ncommand: [/bin/sh, -c, \"trap 'exit 0' TERM; sleep 3600 & wait\"]\n"
    );
    chassis.deploy(&yaml).exits(0);
}

#[test]
fn stats_tell_who_uses_what() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("stats");
    deploy_both(&chassis, &fleet);
    let (burn, idle) = eventually(SOON, || {
        let rows: Vec<Value> = chassis.ok(&["stats", &fleet, "-o", "json"]).json();
        assert_eq!(rows.len(), 3);
        let (burn, idle) = (rows[0].clone(), rows[2].clone());
        assert_eq!((&burn["agent"], &idle["agent"]), (&"burn".into(), &"idle".into()));
        let memory = burn["usage"]["memoryBytes"].as_u64().unwrap_or_default();
        expect(memory > 20 << 20, || format!("dd has not ended: {burn}")).map(|()| (burn, idle))
    });
    assert_eq!(burn["usage"]["memoryLimitBytes"], 64 << 20);
    assert_eq!(burn["cpuLimitCores"], 0.5);
    assert!(idle["usage"]["memoryBytes"].as_u64().unwrap() < 10 << 20, "{idle}");
    let cores = |row: &Value| row["rates"]["cpuCores"].as_f64().expect("a rate");
    // The machine may be busy, so that it gets less than its half; it never gets more.
    assert!(cores(&burn) > 0.01 && cores(&burn) < 0.6, "{burn}");
    assert!(cores(&idle) < cores(&burn) / 2.0, "{idle}");
    assert!(burn["usage"]["cpuNanoseconds"].as_u64() > idle["usage"]["cpuNanoseconds"].as_u64());
    assert_eq!(burn["usage"]["processesLimit"], 512);

    // What does not run uses nothing, and hides no other.
    chassis.ok(&["stop", &format!("{fleet}/idle-1")]);
    let table = chassis.ok(&["stats", &fleet]);
    let lines: Vec<Vec<&str>> = table.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..5], ["NAME", "STATE", "CPU", "MEMORY", "LIMIT"]);
    assert_eq!((lines[1][0], lines[1][4]), ("burn-1", "64Mi"), "{table}");
    assert_eq!(lines[3][..5], ["idle-1", "Stopped", "-", "-", "-"], "{table}");
    let names = chassis.ok(&["stats", &format!("{fleet}/burn"), "-o", "name"]).stdout;
    assert_eq!(names, format!("{fleet}/burn-1\n{fleet}/burn-2\n"));
    chassis.run(&["stats", "nothing-of-this-name"]).exits(3);
}

#[test]
fn top_draws_and_leaves_the_terminal_as_it_was() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("top");
    deploy_both(&chassis, &fleet);

    let once =
        chassis.ok(&["top", &fleet, "--once"]).shows(&["burn-1", "idle-1", "3 running", "core", "RESTARTS"]);
    assert!(!once.stdout.contains('\x1b'), "{once}");
    // No terminal: the same.
    chassis.ok(&["top", &fleet]).shows(&["burn-2"]).hides("\x1b");

    let mut pty = Pty::spawn(&chassis.command(&["top", &fleet]), 100, 24);
    see(&pty, |frame| frame.contains("burn-1") && frame.contains("idle-1") && frame.contains("q quit"));
    assert!(pty.is_raw());
    pty.type_keys("/idle\r");
    see(&pty, |frame| frame.contains("only `idle`") && !frame.contains("burn-1"));
    pty.type_keys("\x1bn");
    see(&pty, |frame| frame.contains("by name") && frame.contains("burn-1"));
    pty.resize(60, 6);
    let frame = see(&pty, |frame| frame.lines().count() == 6);
    let widest = frame.lines().map(|line| line.chars().count()).max();
    assert!(!frame.contains("NET IN/OUT /S"), "it does not fit: {frame}");
    assert!(frame.contains("1-2 of 3") && widest < Some(110), "{frame}");
    pty.type_keys("\x1b[B");
    see(&pty, |frame| frame.contains("2-3 of 3"));
    pty.type_keys("q");
    assert_eq!(pty.wait(SOON).expect("an end").code(), Some(0));
    is_restored(&pty);

    let mut pty = Pty::spawn(&chassis.command(&["top", &fleet]), 80, 24);
    see(&pty, |frame| frame.contains("burn-1"));
    let pid = i32::try_from(pty.pid()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::TERM).expect("a signal");
    assert_eq!(pty.wait(SOON).expect("an end").code(), Some(130));
    is_restored(&pty);
}

/// Waits until the last whole picture is as it should be, and returns it without control sequences.
fn see(pty: &Pty, is_so: impl Fn(&str) -> bool) -> String {
    eventually(SOON, || {
        let output = pty.output();
        let (whole, _) = output.rsplit_once("\x1b[?2026l").unwrap_or_default();
        let frame = without_escapes(whole.rsplit("\x1b[?2026h").next().unwrap_or_default());
        if is_so(&frame) { Ok(frame) } else { Err(format!("the picture is {frame:?}")) }
    })
}

fn is_restored(pty: &Pty) {
    assert!(!pty.is_raw(), "keys are still taken one by one");
    eventually(SOON, || {
        let output = pty.output();
        let after = output.rsplit("\x1b[?2026l").next().unwrap_or_default().to_owned();
        expect(after == "\x1b[?7h\x1b[?25h\x1b[?1049l", || format!("the screen is left with {after:?}"))
    });
}

fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    plain
}

#[test]
fn wait_ends_as_the_instances_do() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("wait");
    deploy_both(&chassis, &fleet);
    let name = |name: &str| format!("{fleet}/{name}");
    let burn = name("burn");

    chassis.ok(&["wait", &fleet]).shows(&["ready: 3 instances"]);
    chassis
        .ok(&["wait", &burn, &name("idle-1"), "--for", "running"])
        .shows(&["burn, idle-1 running: 3 instances"]);
    let late = chassis.run(&["wait", &burn, "--for", "stopped", "--timeout", "300ms"]).exits(4);
    late.says(&["burn not stopped within 300ms: 2 missing", "burn-1 is Running", "burn-2 is Running"]);
    chassis.run(&["wait", &name("burnt")]).exits(3).says(&["there is nothing named", "burnt"]);
    chassis.ok(&["wait", &name("burnt"), "--for", "deleted"]);
    // Nobody is on the way to any of these.
    chassis.run(&["wait", &burn, "--for", "completed"]).exits(1).says(&["restartPolicy: always"]);
    chassis.ok(&["stop", &name("idle-1"), &name("burn-2")]).shows(&["stopped idle-1, burn-2: 2 stopped"]);
    chassis.ok(&["wait", &name("idle"), "--for", "stopped"]);
    chassis.run(&["wait", &fleet]).exits(1).says(&["idle-1 is stopped; `chassis start idle-1` starts it"]);

    let image = Image::busybox().build();
    chassis
        .deploy(&format!(
            "name: checked\nfleet: {fleet}\nimage: {image}\nhealthCheck: {{exec: {{command: [/bin/true]}}}}\n\
             command: [/bin/sh, -c, \"trap 'exit 0' TERM; sleep 3600 & wait\"]\n"
        ))
        .exits(0);
    chassis.ok(&["wait", &name("checked"), "--for", "healthy"]).shows(&["checked healthy: 1 instance"]);
    chassis
        .run(&["wait", &name("burn-1"), "--for", "healthy"])
        .exits(1)
        .says(&["burn-1 has no health check"]);

    // It sees what others do while it waits.
    let (mut waiting, output) = chassis.spawn(&["wait", &burn, "--for", "deleted"]);
    chassis.ok(&["delete", "agent", &burn]);
    let status = eventually(SOON, || {
        waiting.try_wait().expect("a child").ok_or_else(|| "still waits for what is gone".to_owned())
    });
    assert_eq!(status.code(), Some(0));
    assert_eq!(fs::read_to_string(output).expect("its output"), "burn deleted\n");

    let brief = |name: &str, code: u32| {
        format!(
            "name: {name}\nfleet: {fleet}\nimage: {image}\nrestartPolicy: never\ncommand: [/bin/sh, -c, \"sleep 1; exit {code}\"]\n"
        )
    };
    chassis.deploy(&brief("good", 0)).exits(0);
    chassis.ok(&["wait", &name("good"), "--for", "completed"]).shows(&["good completed: 1 instance"]);
    chassis.deploy(&brief("bad", 7));
    chassis.run(&["wait", &name("bad"), "--for", "completed"]).exits(1).says(&["bad-1", "7"]);
}

#[test]
fn a_name_that_is_nothing_leaves_all_others_alone() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("several");
    deploy_both(&chassis, &fleet);
    let name = |name: &str| format!("{fleet}/{name}");
    let stop =
        chassis.run(&["stop", &name("burn-1"), &name("nobody"), &name("idle"), &name("noone-9")]).exits(3);
    stop.says(&["nobody", "noone-9"]);
    assert!(chassis.instances().iter().all(|instance| instance.phase == Phase::Running));
    // What is named twice is changed once.
    chassis
        .ok(&["restart", &name("burn-1"), &name("burn"), &name("idle-1")])
        .shows(&["burn, idle-1: 3 running"]);
    chassis.ok(&["stop", "agent", &name("burn"), &name("idle")]).shows(&["stopped burn, idle: 3 stopped"]);
    chassis.ok(&["start", "fleet", &fleet]);
}

/// The finding of one check, which must be of this level.
#[track_caller]
fn finding(outcome: &Outcome, check: &str, level: &str) -> Value {
    let findings: Vec<Value> = outcome.json();
    let finding = findings.into_iter().find(|finding| finding["check"] == check).expect("the check is there");
    assert_eq!(finding["level"], level, "{finding}");
    assert_eq!(finding["fix"].is_string(), matches!(level, "problem" | "warning"), "{finding}");
    finding
}

#[test]
fn doctor_finds_nothing_wrong_with_this_machine() {
    let chassis = Chassis::new(BINARY);
    // Without a server, and without starting one.
    let early = chassis.ok(&["doctor", "-o", "json"]);
    finding(&early, "docker", "ok");
    finding(&early, "data-directory", "ok");
    finding(&early, "leftovers", "skipped");
    assert!(!chassis.data_dir().exists());

    let fleet = chassis.fleet("sound");
    deploy_both(&chassis, &fleet);
    let later = chassis.ok(&["doctor", "-o", "json"]);
    finding(&later, "server", "ok");
    finding(&later, "server-version", "ok");
    finding(&later, "leftovers", "ok");
    chassis.ok(&["server", "stop"]);
    let after = chassis.ok(&["doctor", "-o", "json"]);
    assert!(
        finding(&after, "database", "ok")["found"].as_str().is_some_and(|found| found.ends_with("is whole"))
    );
    chassis.ok(&["doctor"]).shows(&["docker-version", "ok"]).says(&["0 problems"]);
}

#[test]
fn doctor_says_what_is_wrong_and_how_to_mend_it() {
    // Another Docker, and one that is no Docker.
    let chassis = Chassis::new(BINARY).with_env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let lost = chassis.run(&["doctor", "-o", "json"]).exits(1);
    let docker = finding(&lost, "docker", "problem");
    assert!(
        docker["fix"].as_str().unwrap().starts_with("DOCKER_HOST is unix:///nowhere/docker.sock: unset it")
    );
    finding(&lost, "docker-version", "skipped");
    let text = chassis.run(&["doctor"]).exits(1);
    text.shows(&["PROBLEM  docker ", "\n         fix: DOCKER_HOST is"]).says(&["1 problem,"]);

    // A key that others can read.
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("keys");
    chassis.ok(&["create", "fleet", &fleet]);
    let value = chassis.write("value", "hush").display().to_string();
    chassis.ok(&["secret", "create", &format!("{fleet}/word"), "--from-file", &value]);
    let key = chassis.data_dir().join(".server/key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("a mode");
    let exposed = finding(&chassis.run(&["doctor", "-o", "json"]).exits(1), "key", "problem");
    assert!(
        exposed["fix"].as_str().unwrap().starts_with(&format!("`chmod 600 {}`", key.display())),
        "{exposed}"
    );
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a mode");
    finding(&chassis.ok(&["doctor", "-o", "json"]), "key", "ok");
    // Another key than the secrets', which only a database without a server shows.
    chassis.ok(&["server", "stop"]);
    let right = fs::read(&key).expect("the key");
    fs::write(&key, "ab".repeat(32)).expect("another");
    let other = finding(&chassis.run(&["doctor", "-o", "json"]).exits(1), "key", "problem");
    assert!(other["found"].as_str().unwrap().contains("the secrets were encrypted with key"), "{other}");
    fs::remove_file(&key).expect("no key");
    finding(&chassis.run(&["doctor", "-o", "json"]).exits(1), "key", "problem");
    fs::write(&key, right).expect("the key");
    // A database that is none.
    fs::write(chassis.data_dir().join(".server/chassis.db"), "scribbles").expect("a file");
    finding(&chassis.run(&["doctor", "-o", "json"]).exits(1), "database", "problem");

    // A full disk.
    let disk = TmpfsMount::new(64);
    let chassis = Chassis::new(BINARY).on_data_dir(disk.path());
    let ballast = disk.fill();
    let full = finding(&chassis.run(&["doctor", "-o", "json"]).exits(1), "data-disk", "problem");
    assert!(full["found"].as_str().unwrap().starts_with("the disk is full"), "{full}");
    fs::remove_file(ballast).expect("room");
    let roomy = chassis.run(&["doctor", "-o", "json"]);
    finding(&roomy, "data-disk", "ok");
    finding(&roomy, "data-file-system", "warning");
}
