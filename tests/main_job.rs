//! What a person does, line by line as the documentation shows it, with the agent of `examples/collector`; after each
//! step it is looked at what a person would look at.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use chassis_testkit::api::{Instance, Phase};
use chassis_testkit::{Chassis, Dockerd, SOON, eventually, expect};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const KEY: &str = "sk-that-nobody-else-sees";

/// Readings that an instance has kept so far.
fn readings(chassis: &Chassis, number: u32) -> usize {
    chassis.read("collector", &format!("data-collector-{number}"), "data/readings.csv").lines().count()
}

fn until_it_reads_on(chassis: &Chassis, number: u32) {
    let before = readings(chassis, number);
    eventually(SOON, || {
        expect(readings(chassis, number) > before, || format!("instance {number} has written nothing since"))
    });
}

/// The numbers of the instances that run, as `ps -o json` tells.
fn running(chassis: &Chassis) -> Vec<u32> {
    let instances: Vec<Instance> = chassis.ok(&["ps", "-o", "json"]).json();
    assert!(instances.iter().all(|instance| instance.phase == Phase::Running), "{instances:#?}");
    instances.iter().map(|instance| instance.number).collect()
}

/// The names of the containers that run, as `docker ps` tells.
fn containers(chassis: &Chassis) -> Vec<String> {
    let label = chassis.label();
    let mut names: Vec<String> = chassis
        .docker()
        .labelled(&label)
        .iter()
        .filter(|container| container["State"] == "running")
        .map(|container| {
            container["Names"][0].as_str().unwrap_or_default().trim_start_matches('/').to_owned()
        })
        .collect();
    names.sort();
    names
}

fn names(numbers: &[u32]) -> Vec<String> {
    numbers.iter().map(|number| format!("chassis-collector-data-collector-{number}")).collect()
}

#[test]
fn the_main_job() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // The names are those that people type, and the machine may have a fleet called collector.
    let dockerd = Dockerd::new();
    dockerd.make_example_images(&repository);
    let chassis = Chassis::new(BINARY).on_docker(&dockerd.docker());
    chassis.write("key.txt", &format!("{KEY}\n"));
    fs::copy(
        repository.join("examples/collector/collector-agent.yaml"),
        chassis.home().join("collector-agent.yaml"),
    )
    .expect("the example");

    create_and_deploy(&chassis);
    scale_and_look(&chassis);
    read_logs(&chassis);
    watch_events(&chassis);
    stop_start_restart(&chassis);
    delete_and_find_again(&chassis);
    declare_a_fleet(&chassis);
    misspell(&chassis);
    end(&chassis);
}

fn create_and_deploy(chassis: &Chassis) {
    chassis
        .ok(&["create", "fleet", "collector"])
        .shows(&["collector"])
        .says(&["started a server in the background"]);
    chassis.run(&["create", "fleet", "collector"]).exits(1).says(&["exists"]);
    chassis.ok(&["secret", "create", "collector/api-key", "--from-file", "./key.txt"]).hides(KEY);
    chassis
        .ok(&["deploy", "agent", "-f", "collector-agent.yaml"])
        .shows(&["deployed data-collector revision 1 to fleet collector: 1 running"]);
    assert_eq!(containers(chassis), names(&[1]));
    let container = chassis.docker().inspect("chassis-collector-data-collector-1").expect("a container");
    let labels = &container["Config"]["Labels"];
    assert_eq!(labels["chassis.fleet"], "collector");
    assert_eq!(labels["chassis.agent"], "data-collector");
    assert_eq!(labels["chassis.instance"], "1");
    assert_eq!(labels["chassis.revision"], "1");
    assert_eq!(container["HostConfig"]["NanoCpus"], 500_000_000);
    assert_eq!(container["HostConfig"]["Memory"], 128 << 20);
    until_it_reads_on(chassis, 1);
}

fn scale_and_look(chassis: &Chassis) {
    chassis.ok(&["scale", "fleet", "collector", "5"]);
    assert_eq!(containers(chassis), names(&[1, 2, 3, 4, 5]));
    assert_eq!(running(chassis), [1, 2, 3, 4, 5]);
    chassis.ok(&["ps"]).shows(&[
        "NAME",
        "STATE",
        "HEALTH",
        "RESTARTS",
        "AGE",
        "NODE",
        "IMAGE",
        "collector",
        "data-collector-5",
        "Running",
        "myrepo/collector:1.0",
    ]);
    let listed = chassis.ok(&["ps", "-o", "name"]).stdout;
    assert_eq!(
        listed.lines().collect::<Vec<_>>()[..2],
        ["collector/data-collector-1", "collector/data-collector-2"]
    );
    chassis.ok(&["ps", "-o", "yaml"]).shows(&["fleet: collector", "phase: Running"]);
    chassis.ok(&["ps", "-o", "wide"]).shows(&["REVISION", "CONTAINER"]);
    let directory = chassis.data_dir().join("collector/data-collector-1/data");
    chassis.ok(&["describe", "data-collector-1"]).hides(KEY).shows(&[
        "chassis-collector-data-collector-1",
        "Running",
        "/data",
        "/tmpfs",
        "secret://collector/api-key",
        "128Mi",
        "started",
        &directory.display().to_string(),
    ]);
}

fn read_logs(chassis: &Chassis) {
    eventually(SOON, || expect(readings(chassis, 1) >= 4, || "too few readings".to_owned()));
    let all = chassis
        .ok(&["logs", "data-collector-1"])
        .shows(&["have an API key of 24 characters", "reading 1 is"]);
    assert!(all.stdout.lines().all(|line| line.starts_with("data-collector-1: ")), "{all}");
    let tail = chassis.ok(&["logs", "data-collector-1", "--tail", "2"]);
    assert_eq!(tail.stdout.lines().count(), 2, "{tail}");
    let stamped = chassis.ok(&["logs", "data-collector-1", "--tail", "1", "--timestamps"]).stdout;
    let time = stamped.split(' ').next().unwrap_or_default();
    assert!(time.len() > 20 && time.starts_with("20") && time.ends_with('Z'), "no time in front: {stamped}");
    // Since the last line's own time: that line at least, and not the first.
    let since = chassis.ok(&["logs", "data-collector-1", "--since", time]).shows(&["reading"]);
    assert!(!since.stdout.contains("API key"), "{since}");
    chassis.ok(&["logs", "collector", "--tail", "1"]).shows(&["data-collector-1", "data-collector-5"]);

    let (mut following, output) = chassis.spawn(&["logs", "data-collector-1", "-f", "--tail", "1"]);
    let before = readings(chassis, 1);
    eventually(SOON, || {
        let text = fs::read_to_string(&output).unwrap_or_default();
        expect(text.contains(&format!("reading {} is", before + 2)), || {
            format!("nothing new followed: {text}")
        })
    });
    let _ = following.kill();
    let _ = following.wait();
}

fn watch_events(chassis: &Chassis) {
    let (mut watching, output) = chassis.spawn(&["events", "--watch"]);
    let until_told = |words: &[&str]| {
        eventually(SOON, || {
            let text = fs::read_to_string(&output).unwrap_or_default();
            expect(words.iter().all(|word| text.contains(word)), || format!("not told while watched: {text}"))
        });
    };
    // It tells only what happens once it watches, and says nothing before.
    eventually(SOON, || {
        chassis.ok(&["secret", "create", "collector/probe", "--from-file", "key.txt", "--replace"]);
        expect(fs::metadata(&output).is_ok_and(|file| file.len() > 0), || "it does not watch".to_owned())
    });
    chassis.docker().kill("chassis-collector-data-collector-4");
    until_told(&["collector/data-collector-4", "killed by signal 9", "started"]);
    chassis.ok(&["secret", "delete", "collector/probe"]);
    until_told(&["secret probe deleted"]);
    chassis.until("collector/data-collector-4", Phase::Running);
    let _ = watching.kill();
    let _ = watching.wait();
    let restarts = chassis.instance("collector/data-collector-4").instance.restarts;
    assert_eq!(restarts, 1, "its death was not counted");
    chassis.ok(&["events", "data-collector-4"]).shows(&["killed by signal 9"]).hides(KEY);
    chassis.ok(&["events"]).shows(&["fleet created", "secret api-key written", "scaled from 1 to 5"]);
}

fn stop_start_restart(chassis: &Chassis) {
    chassis.ok(&["stop", "data-collector-2"]);
    assert_eq!(containers(chassis), names(&[1, 3, 4, 5]));
    chassis.ok(&["ps"]).shows(&["Stopped"]);
    let kept = readings(chassis, 2);
    chassis.ok(&["start", "data-collector-2"]);
    until_it_reads_on(chassis, 2);
    chassis.ok(&["logs", "data-collector-2"]).shows(&[&format!("found {kept} readings from before")]);

    let since = |number: u32| {
        let name = format!("chassis-collector-data-collector-{number}");
        chassis.docker().runs_since(&name).unwrap_or_else(|| panic!("{name} does not run"))
    };
    let before: Vec<String> = (1..=5).map(since).collect();
    chassis.ok(&["restart", "fleet", "collector"]);
    let after: Vec<String> = (1..=5).map(since).collect();
    assert!(before.iter().zip(&after).all(|(before, after)| before < after), "{before:?} {after:?}");
    assert_eq!(running(chassis), [1, 2, 3, 4, 5]);
}

/// Waits for what an agent prints at its start: it runs before it has.
fn until_it_says(chassis: &Chassis, number: u32, words: &str) {
    eventually(SOON, || {
        let said = chassis.ok(&["logs", &format!("data-collector-{number}")]).stdout;
        expect(said.contains(words), || format!("number {number} has not said `{words}`: {said}"))
    });
}

fn delete_and_find_again(chassis: &Chassis) {
    let directory = chassis.data_dir().join("collector/data-collector-5");
    chassis.ok(&["delete", "agent", "data-collector-5"]).shows(&["its data is kept"]);
    assert_eq!(containers(chassis), names(&[1, 2, 3, 4]));
    let kept = readings(chassis, 5);
    assert!(kept > 0, "the data went with the instance");
    chassis.ok(&["scale", "fleet", "collector", "5"]);
    until_it_says(chassis, 5, &format!("found {kept} readings from before"));

    // The lowest free numbers are filled.
    chassis.ok(&["delete", "agent", "data-collector-2", "--cleanup"]);
    assert!(!chassis.data_dir().join("collector/data-collector-2").exists(), "the data was to be deleted");
    assert_eq!(running(chassis), [1, 3, 4, 5]);
    chassis.ok(&["scale", "fleet", "collector", "5"]);
    assert_eq!(running(chassis), [1, 2, 3, 4, 5]);
    until_it_says(chassis, 2, "found 0 readings from before");
    chassis.ok(&["scale", "agent", "data-collector", "1"]);
    assert_eq!(containers(chassis), names(&[1]));
    assert!(directory.join("data/readings.csv").exists(), "scaling down keeps the data");
}

fn declare_a_fleet(chassis: &Chassis) {
    let agent = fs::read_to_string(chassis.home().join("collector-agent.yaml")).expect("the example");
    // The same agent, as the one item of a list.
    let agents = format!("  - {}\n", agent.trim_end().replace('\n', "\n    "));
    chassis.write("fleet.yaml", &format!("fleet: collector\nagents:\n{agents}"));
    chassis.ok(&["diff", "-f", "fleet.yaml"]);
    chassis.write(
        "fleet.yaml",
        &format!("fleet: collector\nagents:\n{agents}    replicas: 2\n    stop:\n      grace: 2s\n"),
    );
    chassis.run(&["diff", "-f", "fleet.yaml"]).exits(1).shows(&["grace", "10", "2"]);
    chassis.ok(&["apply", "-f", "fleet.yaml"]);
    assert_eq!(containers(chassis), names(&[1, 2]));
    let labels = &chassis.docker().inspect("chassis-collector-data-collector-1").expect("a container")["Config"]
        ["Labels"];
    assert_eq!(labels["chassis.revision"], "2");
    chassis.ok(&["diff", "-f", "fleet.yaml"]);
    chassis.ok(&["validate", "-f", "fleet.yaml"]);
    chassis.write("wrong.yaml", "name: x\nimag: y\n");
    chassis.run(&["validate", "-f", "wrong.yaml"]).exits(1).says(&["wrong.yaml:2:1", "imag: y", "image"]);
    let schema: serde_json::Value = chassis.ok(&["schema"]).json();
    assert!(schema["$schema"].is_string());
    chassis.ok(&["version"]).shows(&[env!("CARGO_PKG_VERSION")]);
    chassis.ok(&["completion", "bash"]).shows(&["_chassis"]);
}

fn misspell(chassis: &Chassis) {
    chassis.run(&["describe", "data-colector-1"]).exits(3).says(&["data-collector"]);
    chassis.run(&["scale", "fleet", "colector", "1"]).exits(3).says(&["collector"]);
    chassis.run(&["delpoy", "agent", "-f", "x"]).exits(2).says(&["deploy"]);
    chassis.run(&["logs", "data-collector-77"]).exits(3);
}

fn end(chassis: &Chassis) {
    chassis.ok(&["secret", "list"]).shows(&["collector/api-key", "data-collector"]).hides(KEY);
    chassis.ok(&["secret", "delete", "collector/api-key"]).says(&["data-collector"]);
    chassis.run(&["delete", "fleet", "collector"]).exits(2).says(&["--confirm=collector"]);
    chassis.run(&["delete", "fleet", "collector", "--confirm=collecto"]).exits(2);
    assert_eq!(containers(chassis).len(), 2, "nothing is deleted unconfirmed");
    chassis.ok(&["delete", "fleet", "collector", "--confirm=collector"]);
    let label = chassis.label();
    assert!(chassis.docker().labelled(&label).is_empty(), "containers are left");
    assert!(chassis.docker().networks_labelled(&label).is_empty(), "a network is left");
    assert!(readings(chassis, 1) > 0, "deleting a fleet keeps its data");
    chassis.ok(&["ps"]).says(&["chassis create fleet"]);
    chassis.ok(&["server", "stop"]);
    let status = chassis.command(&["ps"]).env("CHASSIS_NO_AUTOSTART", "1").stderr(Stdio::null()).status();
    assert_eq!(status.expect("chassis runs").code(), Some(1));
    eventually(Duration::from_secs(5), || {
        expect(!chassis.socket().exists(), || "the socket is left".to_owned())
    });
}
