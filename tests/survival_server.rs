//! The server's own troubles: another one on its data directory, its death and replacement, a full disk, leftovers.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use chassis_testkit::api::{Phase, ServerInfo};
use chassis_testkit::{Chassis, Image, SOON, TmpfsMount, eventually, expect};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

fn agent(fleet: &str, replicas: u32) -> String {
    format!(
        "name: a\nfleet: {fleet}\nimage: {}\nreplicas: {replicas}\nstop: {{grace: 1s}}\n\
         command: [/bin/sh, -c]\nargs: ['echo run >> /data/runs; exec sleep 99999']\n\
         volumes: [{{name: data, mountPath: /data}}]\n",
        Image::busybox().build()
    )
}

#[test]
fn a_second_server_refuses() {
    let chassis = Chassis::new(BINARY);
    let server = chassis.serve();
    chassis.run(&["serve"]).exits(1).says(&[&server.pid().to_string(), "another server"]);
    let info: ServerInfo = chassis.get("/api/v1/server").expect("the first one serves on");
    assert_eq!(info.pid, Some(server.pid()));
}

#[test]
fn agents_outlive_their_server() {
    let chassis = Chassis::new(BINARY);
    let mut server = chassis.serve();
    let fleet = chassis.fleet("outlive");
    chassis.ok(&["create", "fleet", &fleet]);
    chassis.deploy(&agent(&fleet, 2)).exits(0);
    let containers = [1, 2].map(|number| format!("chassis-{fleet}-a-{number}"));
    let since = || containers.clone().map(|name| chassis.docker().runs_since(&name));
    let begin = since();
    assert!(begin.iter().all(Option::is_some));

    assert!(server.terminate().success(), "told to end, it ends well");
    assert_eq!(since(), begin, "the agents do not end with their server");
    let mut server = chassis.serve();
    chassis.until(&format!("{fleet}/a-2"), Phase::Running);
    server.kill();
    assert_eq!(since(), begin);

    // One dies while nobody looks.
    chassis.docker().kill(&containers[0]);
    let _server = chassis.serve();
    let name = format!("{fleet}/a-1");
    let healed = eventually(SOON, || {
        let found = chassis.instance(&name).instance;
        if found.phase == Phase::Running && found.restarts == 1 {
            Ok(found)
        } else {
            Err(format!("{found:?}"))
        }
    });
    assert_eq!(healed.last_exit.map(|exit| exit.code), Some(137), "{healed:?}");
    assert_eq!(chassis.docker().runs_since(&containers[1]), begin[1], "the other one was left alone");
}

#[test]
fn many_commands_start_one_server() {
    let chassis = Chassis::new(BINARY);
    let commands: Vec<_> = (0..6)
        .map(|_| chassis.command(&["server", "status", "-o", "json"]))
        .chain((0..6).map(|_| chassis.command(&["ps"])))
        .map(|mut command| command.stderr(std::process::Stdio::null()).spawn().expect("chassis runs"))
        .collect();
    for mut command in commands {
        let _ = command.wait().expect("it ends");
    }
    for _ in 0..4 {
        chassis.ok(&["ps"]);
    }
    let serving = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains("serve") && line.contains(&chassis.data_dir().display().to_string()))
        .count();
    assert_eq!(serving, 1);
}

#[test]
fn the_one_in_the_background_is_looked_after() {
    let chassis = Chassis::new(BINARY);
    let forbidden = chassis.command(&["ps"]).env("CHASSIS_NO_AUTOSTART", "1").output().expect("chassis runs");
    let said = String::from_utf8_lossy(&forbidden.stderr);
    assert_eq!(forbidden.status.code(), Some(1), "{said}");
    assert!(said.contains("chassis serve"), "{said}");
    chassis.run(&["server", "status"]).exits(1);
    chassis.ok(&["ps"]).says(&["started a server in the background"]);
    let info: ServerInfo = chassis.ok(&["server", "status", "-o", "json"]).json();
    assert!(info.background && info.runtime == "docker" && info.runtime_version.is_some(), "{info:?}");
    assert_eq!(info.pid, chassis.background_pid());
    let pid = info.pid.expect("its own user is told");
    chassis.ok(&["server", "stop"]).shows(&[&pid.to_string()]);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists() || ended(pid), "it goes on");
    chassis.run(&["server", "stop"]);
    // What a killed server leaves behind is in nobody's way.
    fs::remove_file(chassis.socket()).ok();
    drop(UnixListener::bind(chassis.socket()).expect("a socket that nobody listens on"));
    chassis.ok(&["ps"]).says(&["started a server in the background"]);
}

/// Ended, though its parent has not asked yet how.
fn ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn a_newer_database_is_left_alone() {
    let chassis = Chassis::new(BINARY);
    let mut server = chassis.serve();
    chassis.ok(&["create", "fleet", &chassis.fleet("newer")]);
    server.terminate();
    let database = chassis.data_dir().join(".server/chassis.db");
    let mut bytes = fs::read(&database).expect("a database");
    // SQLite keeps `user_version` at offset 60, big-endian.
    bytes[60..64].copy_from_slice(&9999_u32.to_be_bytes());
    fs::write(&database, &bytes).expect("written");
    chassis.run(&["serve"]).exits(1).says(&["newer", "9999"]);
    chassis.run(&["ps"]).exits(1).says(&["newer"]);
    assert!(fs::read(&database).expect("a database") == bytes, "it was written to");

    bytes.truncate(2000);
    bytes[..16].copy_from_slice(b"not a database!!");
    fs::write(&database, &bytes).expect("written");
    chassis.run(&["serve"]).exits(1).says(&["chassis.db"]);
    assert!(fs::read(&database).expect("a database") == bytes, "it was written to");
}

#[test]
fn the_disk_is_full() {
    let disk = TmpfsMount::new(48);
    let chassis = Chassis::new(BINARY).on_data_dir(disk.path().join("data"));
    let mut server = chassis.serve();
    let fleet = chassis.fleet("full");
    chassis.ok(&["create", "fleet", &fleet]);
    chassis.deploy(&agent(&fleet, 1)).exits(0);

    let ballast = disk.fill();
    let refused = chassis.run(&["scale", "fleet", &fleet, "3"]).exits(1);
    assert!(refused.stderr.contains("full") || refused.stderr.contains("room"), "{refused}");
    let file = chassis.write("value", "hush").display().to_string();
    chassis.run(&["secret", "create", &format!("{fleet}/word"), "--from-file", &file]).exits(1);
    // It goes on looking after what runs, and telling.
    let container = format!("chassis-{fleet}-a-1");
    let before = chassis.docker().runs_since(&container);
    chassis.docker().kill(&container);
    eventually(SOON, || {
        let now = chassis.docker().runs_since(&container);
        expect(now.is_some() && now != before, || "it was not restarted".to_owned())
    });
    chassis.until(&format!("{fleet}/a-1"), Phase::Running);
    chassis.ok(&["ps"]).shows(&["Running"]);
    server.kill();
    let without_room = chassis.serve();
    drop(without_room);

    fs::remove_file(ballast).expect("room");
    let _server = chassis.serve();
    chassis.until(&format!("{fleet}/a-1"), Phase::Running);
    chassis.ok(&["scale", "fleet", &fleet, "3"]);
    chassis.ok(&["secret", "create", &format!("{fleet}/word"), "--from-file", &file]);
    assert_eq!(chassis.docker().labelled(&chassis.label()).len(), 3);
    eventually(Duration::from_secs(5), || {
        let runs = chassis.read(&fleet, "a-1", "data/runs");
        expect(runs.starts_with("run"), || "what it had written before is lost".to_owned())
    });
    chassis.ok(&["delete", "fleet", &fleet, "--cleanup", &format!("--confirm={fleet}")]);
}
