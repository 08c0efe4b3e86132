//! What a command that waits shows and how it ends, with an agent that takes its time to stop.

use std::process::Stdio;
use std::time::Duration;

use chassis_testkit::api::Phase;
use chassis_testkit::{Chassis, Image, pause};
use rustix::process::{Pid, Signal, kill_process};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

/// Deaf to SIGTERM, so that it stops when its grace is over.
fn deploy_deaf_agent(chassis: &Chassis, fleet: &str, grace: u32) {
    let image = Image::busybox().build();
    chassis.ok(&["create", "fleet", fleet]);
    let yaml = format!(
        "name: deaf\nfleet: {fleet}\nimage: {image}\nreplicas: 2\nstop: {{grace: {grace}s}}\n\
         command: [/bin/sh, -c, \"trap '' TERM; while :; do sleep 0.1; done\"]\n"
    );
    let deployed = chassis.deploy(&yaml).exits(0);
    assert_eq!(deployed.stdout, format!("deployed deaf revision 1 to fleet {fleet}: 2 running\n"));
}

#[test]
fn a_wait_that_takes_too_long_exits_4_and_the_change_goes_on() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("deaf");
    deploy_deaf_agent(&chassis, &fleet, 4);
    let stop = chassis.run(&["stop", "fleet", &fleet, "--timeout", "500ms"]).exits(4);
    assert_eq!(
        (stop.stdout.as_str(), stop.stderr.as_str()),
        (
            "",
            format!(
                "error: fleet {fleet} did not get there within 500ms: 2 instances not stopped\n\
                 the change itself goes on; `chassis ps` shows how far it is\n"
            )
            .as_str()
        )
    );
    // In a pipe there is a line of progress, and the result.
    let stop = chassis.ok(&["stop", "fleet", &fleet]);
    assert_eq!(stop.stdout, format!("stopped fleet {fleet}: 2 stopped\n"));
    assert_eq!(stop.stderr, format!("fleet {fleet}: 0/2 stopped\n"));
    chassis.ok(&["start", "fleet", &fleet]);
    let delete = chassis.ok(&["delete", "agent", &format!("{fleet}/deaf")]);
    assert_eq!(delete.stdout, "deleted deaf; its data is kept\n");
    // How they end between two lines is their own affair.
    assert!(delete.stderr.starts_with("deaf: 2 instances left\n"), "{delete}");
}

#[test]
fn ctrl_c_ends_the_wait_and_not_the_change() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("deaf");
    deploy_deaf_agent(&chassis, &fleet, 2);
    let mut stop = chassis.command(&["stop", &format!("{fleet}/deaf-1")]);
    let stop = stop.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("chassis runs");
    pause(Duration::from_millis(500));
    let pid = i32::try_from(stop.id()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::INT).expect("a signal");
    let output = stop.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: not waiting any longer; the change itself goes on, and `chassis ps` shows how far it is\n"
    );
    chassis.until(&format!("{fleet}/deaf-1"), Phase::Stopped);
}

#[test]
fn an_image_that_cannot_be_had_is_said_with_what_to_do_next() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("stuck");
    chassis.ok(&["create", "fleet", &fleet]);
    // A registry of this machine that is not there.
    let image = "127.0.0.1:9/none:1";
    let deployed = chassis.deploy(&format!("name: stuck\nfleet: {fleet}\nimage: {image}\n")).exits(1);
    let lines: Vec<&str> = deployed.stderr.lines().collect();
    assert_eq!(lines[0], "error: stuck: 0/1 running");
    assert!(
        lines[1].starts_with(&format!("  stuck-1: image {image} is not here and cannot be pulled")),
        "{deployed}"
    );
    assert_eq!(
        lines[2..],
        ["    see `chassis describe stuck-1`", "chassis keeps trying; `chassis ps` shows when"]
    );
    let shown = chassis.ok(&["ps", &fleet]).stdout;
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[3].contains("Blocked: ImageUnavailable"), "{shown}");
    assert!(lines[4].contains("cannot be pulled") && lines[4].contains("; next try in "), "{shown}");
    // What is declared to be gone goes, stuck or not.
    chassis.ok(&["delete", "fleet", &fleet, &format!("--confirm={fleet}")]);
}
