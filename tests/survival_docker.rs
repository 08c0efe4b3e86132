//! dockerd goes away under a running fleet and comes back: the state says so meanwhile, and it heals by itself.

use std::time::Duration;

use chassis_testkit::api::{Phase, Reason};
use chassis_testkit::{Chassis, Dockerd, Image, SOON, eventually, expect, process};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const REPLICAS: u32 = 3;

struct Ground {
    chassis: Chassis,
    fleet: String,
    dockerd: Dockerd,
}

impl Ground {
    fn new() -> Ground {
        let dockerd = Dockerd::new();
        let chassis = Chassis::new(BINARY).on_docker(&dockerd.docker());
        let fleet = chassis.fleet("engine");
        let image = Image::busybox().build_on(&dockerd.docker());
        chassis.ok(&["create", "fleet", &fleet]);
        let yaml = format!(
            "name: a\nfleet: {fleet}\nimage: {image}\nreplicas: {REPLICAS}\nstop: {{grace: 1s}}\n\
             command: [/bin/sh, -c]\nargs: ['echo run >> /data/runs; exec sleep 99999']\n\
             volumes: [{{name: data, mountPath: /data}}]\n"
        );
        chassis.deploy(&yaml).exits(0);
        let ground = Ground { chassis, fleet, dockerd };
        eventually(SOON, || {
            let runs: Vec<usize> = (1..=REPLICAS).map(|number| ground.runs(number)).collect();
            expect(runs.iter().all(|runs| *runs == 1), || format!("not all have noted their run: {runs:?}"))
        });
        ground.chassis.ok(&["stop", &format!("{}/a-3", ground.fleet)]);
        ground
    }

    fn runs(&self, number: u32) -> usize {
        self.chassis.read(&self.fleet, &format!("a-{number}"), "data/runs").lines().count()
    }

    fn until_nobody_knows(&self) {
        let name = format!("{}/a-1", self.fleet);
        let unknown = self.chassis.until(&name, Phase::Unknown).instance;
        assert_eq!(unknown.reason, Some(Reason::RuntimeUnavailable));
        self.chassis.ok(&["ps"]).shows(&["Unknown", "Docker does not answer"]);
        self.chassis.ok(&["describe", &name]).shows(&["Unknown", "Docker does not answer"]);
        self.chassis.ok(&["server", "status"]).shows(&["Docker does not answer"]);
        // A change is taken and kept; it is only told that it has to wait.
        self.chassis
            .run(&["restart", &format!("{}/a-2", self.fleet)])
            .exits(1)
            .says(&["Docker does not answer"]);
    }

    /// Those that are to run have run once more each, and the stopped one has not.
    fn until_healed(&self, runs: usize) {
        eventually(SOON, || {
            for number in 1..=REPLICAS {
                let noted = self.runs(number);
                let (wanted, phase) = if number == 3 { (1, Phase::Stopped) } else { (runs, Phase::Running) };
                let found = self.chassis.instance(&format!("{}/a-{number}", self.fleet)).instance;
                expect(found.phase == phase && noted == wanted, || {
                    format!("number {number}: {noted} runs, not {wanted}; {found:?}")
                })?;
            }
            Ok::<(), String>(())
        });
        let label = self.chassis.label();
        assert_eq!(self.dockerd.docker().labelled(&label).len(), REPLICAS as usize);
    }
}

#[test]
fn it_is_stopped_and_started() {
    let mut ground = Ground::new();
    ground.dockerd.stop();
    ground.until_nobody_knows();
    ground.dockerd.start();
    ground.until_healed(2);
    let last = ground.chassis.instance(&format!("{}/a-1", ground.fleet)).instance;
    assert!(last.last_exit.is_some(), "how its last run ended is not told: {last:?}");
}

#[test]
fn it_is_killed_and_started() {
    let mut ground = Ground::new();
    ground.dockerd.kill();
    ground.until_nobody_knows();
    ground.dockerd.start();
    ground.until_healed(2);
    // And again, with the server gone too.
    ground.dockerd.kill();
    ground.chassis.ok(&["server", "stop"]);
    let server = ground.chassis.serve();
    ground.until_nobody_knows();
    ground.dockerd.start();
    ground.until_healed(3);
    drop(server);
}

#[test]
fn it_is_killed_while_it_starts_a_container() {
    let mut ground = Ground::new();
    let begin = format!("{}/a-", ground.fleet);
    let ids: Vec<String> = (1..=2)
        .filter_map(|number| ground.dockerd.docker().inspect(&format!("chassis-{}-a-{number}", ground.fleet)))
        .map(|container| container["Id"].as_str().expect("an id").to_owned())
        .collect();
    let forgotten = process::inits(&begin);
    assert_eq!(forgotten.len(), 2);
    ground.dockerd.kill();
    for id in &ids {
        ground.dockerd.forget_run(id);
    }
    ground.dockerd.start();
    // The next run of one begins; the other's container is removed.
    ground.chassis.run(&["scale", "agent", &format!("{}/a", ground.fleet), "1"]);
    ground.chassis.until(&format!("{begin}1"), Phase::Running);
    eventually(Duration::from_secs(30), || {
        let inits = process::inits(&begin);
        expect(inits.len() == 1 && !forgotten.contains(&inits[0]), || {
            format!("{inits:?} run, and Docker had forgotten {forgotten:?}")
        })
    });
    eventually(SOON, || {
        let runs = ground.runs(1);
        expect(runs == 2, || format!("it has run {runs} times"))
    });
}

/// As long as its directory is in the way Docker refuses each start of this container, and another one is made.
#[test]
fn it_leaves_something_in_the_way_of_a_container() {
    let ground = Ground::new();
    let name = format!("{}/a-3", ground.fleet);
    let id = ground.chassis.instance(&name).instance.container_id.expect("a container");
    ground.dockerd.task_leave(&id);
    ground.chassis.run(&["start", &name]).exits(1).says(&["file exists", "keeps trying"]);
    let started = ground.chassis.until(&name, Phase::Running).instance;
    assert_ne!(started.container_id, Some(id));
    assert_eq!(ground.runs(3), 2);
    let label = ground.chassis.label();
    assert_eq!(ground.dockerd.docker().labelled(&label).len(), REPLICAS as usize);
}

#[test]
fn it_is_not_there_yet() {
    let mut dockerd = Dockerd::new();
    let docker = dockerd.docker();
    dockerd.stop();
    let chassis = Chassis::new(BINARY).on_docker(&docker);
    let fleet = chassis.fleet("early");
    chassis.ok(&["create", "fleet", &fleet]);
    let name = "late-image:1";
    let yaml = format!("name: a\nfleet: {fleet}\nimage: localhost:9/{fleet}:1\ncommand: [sleep, '99999']\n");
    chassis.deploy(&yaml).exits(1).says(&["Docker does not answer"]).hides(name);
    dockerd.start();
    let image = Image::busybox().build_on(&docker);
    let _tag = chassis_testkit::Tag::new(&docker, &image, &format!("localhost:9/{fleet}"));
    eventually(Duration::from_secs(20), || {
        let phase = chassis.instance(&format!("{fleet}/a-1")).instance.phase;
        expect(phase == Phase::Running, || format!("Docker is there, and it is {phase:?}"))
    });
    chassis.ok(&["delete", "fleet", &fleet, &format!("--confirm={fleet}")]);
}
