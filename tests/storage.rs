//! Where volumes keep their files: Docker's own volumes, NFS servers, directories with a quota.

use std::fs;
use std::path::Path;

use chassis_testkit::api::Phase;
use chassis_testkit::{Chassis, Docker, Image, SOON, eventually, expect};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

fn agent(fleet: &str, image: &str, command: &str, volume: &str) -> String {
    format!(
        "name: a\nfleet: {fleet}\nimage: {image}\nstop: {{grace: 1s}}\ncommand: [/bin/sh, -c]\n\
         args: ['{command}; exec sleep 99999']\nvolumes:\n  - {volume}\n"
    )
}

/// What a container's volume holds.
fn content(docker: &Docker, volume: &str, file: &str) -> String {
    let found = docker.inspect_volume(volume).unwrap_or_else(|| panic!("there is no volume {volume}"));
    let path = found["Mountpoint"].as_str().expect("a path").to_owned();
    fs::read_to_string(Path::new(&path).join(file)).unwrap_or_default()
}

#[test]
fn a_docker_volume_lives_as_long_as_tier_1() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("vol");
    let image = Image::busybox().build();
    chassis.ok(&["create", "fleet", &fleet]);
    let yaml =
        agent(&fleet, &image, "id -u >> /data/runs", "{name: data, mountPath: /data, dockerVolume: {}}");
    chassis.deploy(&yaml).exits(0);
    let volume = format!("chassis-{fleet}-a-1-data");
    let runs = |count: usize| {
        eventually(SOON, || {
            let text = content(chassis.docker(), &volume, "runs");
            expect(text == "64646\n".repeat(count), || format!("the volume holds {text:?}"))
        });
    };
    runs(1);
    let found = chassis.docker().inspect_volume(&volume).expect("a volume");
    assert_eq!(found["Labels"]["chassis.fleet"], fleet.as_str());
    chassis.ok(&["describe", &format!("{fleet}/a-1")]).shows(&[&format!("Docker volume {volume}")]);

    // A new container, then a new agent of the same name: the same files.
    chassis.deploy(&format!("{yaml}env: [{{name: RUN, value: two}}]\n")).exits(0);
    runs(2);
    chassis.ok(&["delete", "agent", &format!("{fleet}/a")]);
    chassis.deploy(&yaml).exits(0);
    runs(3);

    // Other options would mean other files.
    let other = yaml.replace("dockerVolume: {}", "dockerVolume: {options: {type: tmpfs, device: tmpfs}}");
    chassis
        .deploy(&other)
        .exits(1)
        .says(&["was made with another driver or other options", "docker volume rm"]);
    chassis.deploy(&yaml).exits(0);
    chassis.ok(&["delete", "agent", &format!("{fleet}/a"), "--cleanup"]);
    assert!(chassis.docker().inspect_volume(&volume).is_none());
}

#[test]
fn an_existing_docker_volume_is_only_used() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("shared");
    let image = Image::busybox().build();
    let models = format!("{fleet}-models");
    chassis.ok(&["create", "fleet", &fleet]);
    let volume = format!("{{name: m, mountPath: /m, readOnly: true, dockerVolume: {{name: {models}}}}}");
    let yaml = agent(&fleet, &image, "cat /m/model", &volume);
    chassis
        .deploy(&yaml)
        .exits(1)
        .says(&[&format!("there is no Docker volume {models}"), &format!("docker volume create {models}")]);
    chassis.docker().create_volume(&models);
    chassis.until(&format!("{fleet}/a-1"), Phase::Running);
    chassis.ok(&["delete", "fleet", &fleet, "--cleanup", &format!("--confirm={fleet}")]);
    assert!(chassis.docker().inspect_volume(&models).is_some(), "it is not chassis's to remove");
    chassis.docker().remove_volume(&models);
}

#[test]
fn somebody_else_s_volume_is_left_alone() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("taken");
    let image = Image::busybox().build();
    chassis.ok(&["create", "fleet", &fleet]);
    let volume = format!("chassis-{fleet}-a-1-data");
    chassis.docker().create_volume(&volume);
    let yaml = agent(&fleet, &image, "true", "{name: data, mountPath: /data, dockerVolume: {}}");
    chassis.deploy(&yaml).exits(1).says(&[&format!("{volume} was not made for this instance")]);
    chassis.ok(&["delete", "fleet", &fleet, "--cleanup", &format!("--confirm={fleet}")]);
    assert!(chassis.docker().inspect_volume(&volume).is_some());
    chassis.docker().remove_volume(&volume);
}

#[test]
fn an_nfs_volume_is_mounted_by_docker_and_a_failure_is_explained() {
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("nfs");
    let image = Image::busybox().build();
    chassis.ok(&["create", "fleet", &fleet]);
    // Nothing serves files on this machine's loopback.
    let nfs = |path: &str| {
        let nfs = format!(
            "nfs: {{server: 127.0.0.1, path: \"{path}\", options: \"nfsvers=4.2,soft,timeo=5,retrans=0\"}}"
        );
        agent(&fleet, &image, "true", &format!("{{name: data, mountPath: /data, {nfs}}}"))
    };
    chassis.deploy(&nfs("/x/{fleet}/{instance}")).exits(1).says(&["Docker cannot mount the volume"]);
    let volume = format!("chassis-{fleet}-a-1-data");
    let found = chassis.docker().inspect_volume(&volume).expect("a volume");
    assert_eq!(found["Options"]["type"], "nfs");
    assert_eq!(found["Options"]["o"], "addr=127.0.0.1,nfsvers=4.2,soft,timeo=5,retrans=0");
    assert_eq!(found["Options"]["device"], format!(":/x/{fleet}/a-1").as_str());
    // There is nothing in it on this side: a corrected path makes it anew.
    chassis.deploy(&nfs("/y/{number}")).exits(1);
    let found = chassis.docker().inspect_volume(&volume).expect("a volume");
    assert_eq!(found["Options"]["device"], ":/y/1");
    chassis.ok(&["delete", "fleet", &fleet, "--cleanup", &format!("--confirm={fleet}")]);
    assert!(chassis.docker().inspect_volume(&volume).is_none());
    let filesystems = fs::read_to_string("/proc/filesystems").expect("a list");
    if !filesystems.lines().any(|line| line.trim_start_matches("nodev").trim() == "nfs4") {
        println!(
            "!!! NOT TESTED: files on an NFS server, because this kernel has no NFS. With one: export a directory, \
             deploy `volumes: [{{name: data, mountPath: /data, nfs: {{server: HOST, path: /DIR}}}}]`, and look for the \
             agent's files on the server !!!"
        );
    }
}
