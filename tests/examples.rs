//! Every YAML of `examples/` is valid, and runs as it is.

use std::fs;
use std::path::{Path, PathBuf};

use chassis_testkit::api::{Fleet, Instance, Phase};
use chassis_testkit::{Chassis, Dockerd, SOON, eventually, expect};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

fn yaml_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("examples").flatten() {
        let path = entry.path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn every_example_runs() {
    let repository =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository");
    // The names of the fleets are fixed, and the machine may have such fleets.
    let dockerd = Dockerd::new();
    dockerd.make_example_images(&repository);
    let mut files = Vec::new();
    yaml_files(&repository.join("examples"), &mut files);
    files.sort();
    assert!(files.len() > 4, "{files:?}");

    let chassis = Chassis::new(BINARY).on_docker(&dockerd.docker());
    for fleet in ["collector", "bots", "misbehaving"] {
        chassis.ok(&["create", "fleet", fleet]);
    }
    // Every secret that an example names, as its comment says to make it.
    let secret = chassis.write("secret", "something-secret\n").display().to_string();
    for name in ["collector/api-key", "bots/token"] {
        chassis.ok(&["secret", "create", name, "--from-file", &secret]);
    }
    for path in &files {
        let text = fs::read_to_string(path).expect("an example");
        let path = path.display().to_string();
        if text.lines().any(|line| line.starts_with("profiles:")) {
            chassis.ok(&["agent-profile", "apply", "-f", &path]);
            continue;
        }
        chassis.ok(&["validate", "-f", &path]);
        let is_fleet = text.lines().any(|line| line.starts_with("agents:"));
        let command: &[&str] =
            if is_fleet { &["apply", "-f", &path] } else { &["deploy", "agent", "-f", &path] };
        // Whether one that misbehaves on purpose ever gets ready is not what is to be waited for.
        let misbehaves = path.contains("/misbehaving/");
        let names_fleet = text.lines().any(|line| line.starts_with("fleet:"));
        let fleet: &[&str] = if names_fleet { &[] } else { &["--fleet", "collector"] };
        let wait: &[&str] = if misbehaves { &["--no-wait"] } else { &[] };
        let outcome = chassis.run(&[command, fleet, wait].concat());
        // One of them fails on purpose, sooner or later.
        assert!(outcome.code == 0 || path.contains("crash-loop"), "{outcome}");
    }
    let wrong = |instance: &Instance| {
        if instance.fleet.as_str() == "misbehaving" {
            return instance.started_at.is_none() && instance.restarts == 0;
        }
        let fails = instance.agent.as_str() == "crash-loop";
        instance.phase != Phase::Running && !(fails && instance.phase == Phase::Backoff)
    };
    eventually(SOON, || {
        let instances = chassis.instances();
        let wrong: Vec<_> = instances.iter().filter(|instance| wrong(instance)).collect();
        let crashed =
            instances.iter().any(|instance| instance.agent.as_str() == "crash-loop" && instance.restarts > 0);
        expect(wrong.is_empty() && crashed, || format!("{wrong:#?}"))
    });
    let fleets: Vec<Fleet> = chassis.ok(&["ps", "--fleets", "-o", "json"]).json();
    for fleet in fleets {
        let name = fleet.name.as_str();
        chassis.ok(&["delete", "fleet", name, "--cleanup", &format!("--confirm={name}")]);
    }
    assert!(chassis.docker().labelled(&chassis.label()).is_empty());
}
