//! Where volumes keep their files: Docker's own volumes, NFS servers, directories with a quota.

use std::fs;
use std::path::Path;
use std::process::Command;

use chassis_testkit::api::Phase;
use chassis_testkit::{Chassis, Docker, Image, LoopMount, SOON, TmpfsMount, eventually, expect, not_tested};

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
        not_tested(
            "files on an NFS server, because this kernel has no NFS. With one: export a directory, deploy \
             `volumes: [{name: data, mountPath: /data, nfs: {server: HOST, path: /DIR}}]`, and look for the agent's \
             files on the server",
        );
    }
}

#[test]
fn a_limit_that_the_disk_cannot_keep_is_refused_before_anything_is_changed() {
    let disk = TmpfsMount::new(64);
    let chassis = Chassis::new(BINARY).on_data_dir(disk.path().join("data"));
    let fleet = chassis.fleet("nolimit");
    let image = Image::busybox().build();
    chassis.ok(&["create", "fleet", &fleet]);
    let volume = "{name: data, mountPath: /data}";
    chassis.deploy(&agent(&fleet, &image, "true", volume)).exits(0);
    let container = format!("chassis-{fleet}-a-1");
    let runs = chassis.docker().runs_since(&container);
    let limited = volume.replace("/data}", "/data, size: 8Mi}");
    let refused = chassis.deploy(&agent(&fleet, &image, "true", &limited));
    assert_ne!(refused.code, 0, "{refused}");
    refused.says(&[
        "cannot limit volume data to 8Mi",
        "(tmpfs) has no quotas for directories",
        "ext4, xfs or btrfs",
    ]);
    assert_eq!(chassis.docker().runs_since(&container), runs);
}

#[test]
fn a_quota_of_btrfs_holds() {
    let mkfs = ["mkfs.btrfs", "-q"];
    with_disk("btrfs-progs", LoopMount::new(320, &mkfs, "loop"), |disk| {
        let volume = |size| format!("{{name: data, mountPath: /data, size: {size}Mi}}");
        let chassis = Chassis::new(BINARY).on_data_dir(disk.path().join("data"));
        let fleet = chassis.fleet("limit");
        chassis.ok(&["create", "fleet", &fleet]);
        let refused = chassis.deploy(&agent(&fleet, &Image::busybox().build(), "true", &volume(8)));
        assert_ne!(refused.code, 0, "{refused}");
        refused.says(&["has no quotas", "btrfs quota enable"]);
        let enabled =
            Command::new("btrfs").args(["quota", "enable"]).arg(disk.path()).status().expect("btrfs");
        assert!(enabled.success());
        quota_holds(&chassis, &fleet);
    });
}

#[test]
fn a_quota_of_ext4_holds() {
    let mkfs = ["mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota"];
    with_disk(
        "a kernel with CONFIG_QFMT_V2, and the package quota",
        LoopMount::new(64, &mkfs, "loop,prjquota"),
        |disk| {
            let chassis = Chassis::new(BINARY).on_data_dir(disk.path().join("data"));
            quota_holds(&chassis, &chassis.fleet("limit"));
        },
    );
}

#[test]
fn a_quota_of_xfs_holds() {
    let mkfs = ["mkfs.xfs", "-q"];
    with_disk(
        "a kernel with CONFIG_XFS_QUOTA, and the package xfsprogs",
        LoopMount::new(320, &mkfs, "loop,prjquota"),
        |disk| {
            let chassis = Chassis::new(BINARY).on_data_dir(disk.path().join("data"));
            quota_holds(&chassis, &chassis.fleet("limit"));
        },
    );
}

fn with_disk(needs: &str, disk: Result<LoopMount, String>, test: impl FnOnce(&LoopMount)) {
    match disk {
        Ok(disk) => test(&disk),
        Err(problem) => not_tested(&format!(
            "a quota, because this machine has no such disk: {problem}. It needs {needs}; then `cargo nextest run -p \
             chassis-cli --test storage quota` checks it"
        )),
    }
}

/// An agent gets as much as its volume may hold, its neighbour on the same disk more, and a new limit holds at once.
fn quota_holds(chassis: &Chassis, fleet: &str) {
    let image = Image::busybox().build();
    let _ = chassis.run(&["create", "fleet", fleet]);
    let fill = "rm -f /data/x; dd if=/dev/urandom of=/data/x bs=64k count=320 2>/tmp/said; cat /tmp/said";
    let volume = |size: &str| format!("{{name: data, mountPath: /data{size}}}");
    chassis.deploy(&agent(fleet, &image, fill, &volume(", size: 8Mi"))).exits(0);
    let said = || chassis.run(&["logs", &format!("{fleet}/a-1")]).stdout;
    let holds = |instance: &str, mebibytes: std::ops::RangeInclusive<u64>| {
        eventually(SOON, || {
            let path = chassis.data_dir().join(fleet).join(instance).join("data/x");
            let size = fs::metadata(&path).map_or(0, |found| found.len() >> 10);
            let range = (mebibytes.start() << 10)..=(mebibytes.end() << 10);
            expect(range.contains(&size), || {
                format!("{instance} holds {size} KiB, not {range:?}: {}", said())
            })
        });
    };
    holds("a-1", 4..=8);
    eventually(SOON, || {
        let said = said();
        expect(said.contains("quota exceeded") || said.contains("No space left"), || said)
    });
    chassis.ok(&["describe", &format!("{fleet}/a-1")]).shows(&["at most 8Mi"]);
    chassis.deploy(&agent(fleet, &image, fill, &volume("")).replace("name: a\n", "name: b\n")).exits(0);
    holds("b-1", 20..=20);
    chassis.deploy(&agent(fleet, &image, fill, &volume(", size: 16Mi"))).exits(0);
    holds("a-1", 9..=16);
    chassis.deploy(&agent(fleet, &image, fill, &volume(""))).exits(0);
    holds("a-1", 20..=20);
    chassis.deploy(&agent(fleet, &image, fill, &volume(", size: 40Mi"))).exits(0);
    chassis.ok(&["delete", "fleet", fleet, "--cleanup", &format!("--confirm={fleet}")]);
    assert!(!chassis.data_dir().join(fleet).exists());
    let limits = fs::read_dir(chassis.data_dir().join(".server/limits")).expect("a directory").count();
    assert_eq!(limits, 0, "numbers are given back");
}
