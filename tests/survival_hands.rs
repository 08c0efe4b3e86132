//! Somebody works on the machine with `docker`, and knows nothing of chassis. What is chassis's is put back as it should
//! be, what stands in its way is told, and what is somebody else's is never touched.

use std::time::Duration;

use chassis_testkit::api::{Phase, Reason};
use chassis_testkit::{Chassis, Docker, Image, SOON, Tag, eventually, expect};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const SLEEP: &[&str] = &["/bin/sleep", "99999"];
/// From the moment the cause is gone; the next try by the clock could be later.
const WITHIN_SECONDS: Duration = Duration::from_secs(5);

/// Writes a line for each of its runs.
fn agent(fleet: &str, image: &str, replicas: u32) -> String {
    format!(
        "name: a\nfleet: {fleet}\nimage: {image}\nreplicas: {replicas}\nstop: {{grace: 1s}}\n\
         command: [/bin/sh, -c]\nargs: ['echo run >> /data/runs; exec sleep 99999']\n\
         volumes: [{{name: data, mountPath: /data}}]\n"
    )
}

struct Ground {
    chassis: Chassis,
    fleet: String,
    image: String,
}

impl Ground {
    fn new(replicas: u32) -> Ground {
        let chassis = Chassis::new(BINARY);
        let fleet = chassis.fleet("hands");
        let image = Image::busybox().build();
        chassis.ok(&["create", "fleet", &fleet]);
        let ground = Ground { chassis, fleet, image };
        if replicas > 0 {
            ground.chassis.deploy(&agent(&ground.fleet, &ground.image, replicas)).exits(0);
        }
        for number in 1..=replicas {
            ground.until_it_has_run(number, 1);
        }
        ground
    }

    fn docker(&self) -> &Docker {
        self.chassis.docker()
    }

    fn container(&self, number: u32) -> String {
        format!("chassis-{}-a-{number}", self.fleet)
    }

    fn instance(&self, number: u32) -> String {
        format!("{}/a-{number}", self.fleet)
    }

    /// Waits for a run of this number beyond those that are noted.
    fn until_it_runs_again(&self, number: u32, runs: usize) {
        eventually(SOON, || {
            let noted = self.runs(number);
            let up = self.docker().runs_since(&self.container(number)).is_some();
            expect(up && noted > runs, || format!("number {number} is not back; {noted} runs, up: {up}"))
        });
        self.chassis.until(&self.instance(number), Phase::Running);
    }

    /// An instance runs before its first command has: what that writes is to be waited for.
    fn until_it_has_run(&self, number: u32, runs: usize) {
        eventually(SOON, || {
            let noted = self.runs(number);
            expect(noted == runs, || format!("number {number} has run {noted} times, not {runs}"))
        });
    }

    fn runs(&self, number: u32) -> usize {
        self.chassis.read(&self.fleet, &format!("a-{number}"), "data/runs").lines().count()
    }
}

#[test]
fn what_hands_undo_is_done_again() {
    let ground = Ground::new(3);
    let docker = ground.docker();
    let bystander = docker.run(&format!("{}-bystander", ground.fleet), &ground.image, SLEEP);
    let bystander_since = docker.runs_since(&bystander.id);
    let third = docker.runs_since(&ground.container(3));

    docker.remove(&ground.container(1));
    ground.until_it_runs_again(1, 1);
    docker.stop(&ground.container(1));
    ground.until_it_runs_again(1, 2);
    docker.kill(&ground.container(1));
    ground.until_it_runs_again(1, 3);
    assert_eq!(ground.runs(1), 4, "its data was kept all the time, and it was started once each time");
    ground.chassis.ok(&["events", &ground.instance(1)]).shows(&["container is gone", "killed by signal 9"]);

    let id = docker.inspect(&ground.container(2)).expect("a container")["Id"].clone();
    let since = docker.runs_since(&ground.container(2));
    docker.rename(&ground.container(2), &format!("{}-renamed", ground.fleet));
    eventually(SOON, || {
        let back = docker.inspect(&ground.container(2)).map(|container| container["Id"].clone());
        expect(back.as_ref() == Some(&id), || "it has not got its name back".to_owned())
    });
    assert_eq!(docker.runs_since(&ground.container(2)), since, "a new name is no reason to restart it");

    assert_eq!(docker.runs_since(&ground.container(3)), third, "the third was left alone");
    assert_eq!(docker.runs_since(&bystander.id), bystander_since, "the bystander was left alone");
    assert_eq!(docker.labelled(&ground.chassis.label()).len(), 3);
}

#[test]
fn a_stopped_instance_stays_stopped() {
    let ground = Ground::new(1);
    ground.chassis.ok(&["stop", &ground.instance(1)]);
    ground.docker().remove(&ground.container(1));
    ground.chassis.until(&ground.instance(1), Phase::Stopped);
    ground.chassis.ok(&["start", &ground.instance(1)]);
    ground.until_it_has_run(1, 2);
}

#[test]
fn a_foreign_container_has_the_name() {
    let ground = Ground::new(0);
    let docker = ground.docker();
    let foreign = docker.run(&ground.container(1), &ground.image, SLEEP);
    let since = docker.runs_since(&foreign.id);
    let refused = ground.chassis.deploy(&agent(&ground.fleet, &ground.image, 1)).exits(1);
    refused.says(&[&ground.container(1), "docker r"]);
    let blocked = ground.chassis.until(&ground.instance(1), Phase::Blocked).instance;
    assert_eq!(blocked.reason, Some(Reason::NameTaken));
    ground.chassis.ok(&["ps"]).shows(&["Blocked: NameTaken"]);
    ground.chassis.ok(&["describe", &ground.instance(1)]).shows(&["NameTaken", &foreign.id[..12]]);
    assert_eq!(docker.runs_since(&foreign.id), since, "it is somebody else's");
    drop(foreign);
    eventually(WITHIN_SECONDS, || {
        let phase = ground.chassis.instance(&ground.instance(1)).instance.phase;
        expect(phase == Phase::Running, || format!("the name is free, and it is {phase:?}"))
    });
}

#[test]
fn an_image_comes_late() {
    let ground = Ground::new(0);
    // No registry listens there, so that it is told at once.
    let repository = format!("localhost:9/{}", ground.fleet);
    let refused = ground.chassis.deploy(&agent(&ground.fleet, &format!("{repository}:1"), 1)).exits(1);
    refused.says(&[&repository]);
    let blocked = ground.chassis.until(&ground.instance(1), Phase::Blocked).instance;
    assert_eq!(blocked.reason, Some(Reason::ImageUnavailable));
    ground.chassis.ok(&["ps"]).shows(&["Blocked: ImageUnavailable", "next try in"]);
    let _tag = Tag::new(ground.docker(), &ground.image, &repository);
    eventually(WITHIN_SECONDS, || {
        let phase = ground.chassis.instance(&ground.instance(1)).instance.phase;
        expect(phase == Phase::Running, || format!("the image is there, and it is {phase:?}"))
    });
    ground.chassis.ok(&["delete", "agent", &format!("{}/a", ground.fleet)]);
}

#[test]
fn the_network_goes() {
    let ground = Ground::new(2);
    let network = format!("chassis-{}", ground.fleet);
    // Docker does not remove a network that something runs in.
    ground.chassis.ok(&["stop", "fleet", &ground.fleet]);
    ground.docker().remove_network(&network);
    ground.chassis.ok(&["start", "fleet", &ground.fleet]);
    ground.chassis.ok(&["scale", "fleet", &ground.fleet, "3"]);
    for number in [1, 2, 3] {
        let container = ground.docker().inspect(&ground.container(number)).expect("a container");
        let address = container["NetworkSettings"]["Networks"][&network]["IPAddress"].to_string();
        assert!(address.contains('.'), "number {number} has no address: {address}");
    }
    assert_eq!(ground.docker().networks_labelled(&ground.chassis.label()).len(), 1);
}

#[test]
fn a_copy_with_all_labels_is_somebody_elses() {
    let ground = Ground::new(1);
    let docker = ground.docker();
    let copied = docker.commit(&ground.container(1));
    let copy = docker.run(&format!("{}-copy", ground.fleet), &copied, SLEEP);
    let labels = docker.inspect(&copy.id).expect("a container")["Config"]["Labels"].clone();
    assert_eq!(labels["chassis.instance"], "1", "the copy has no labels, and so proves nothing");
    let since = docker.runs_since(&copy.id);
    let original = docker.runs_since(&ground.container(1));

    // Whatever makes the server look around: an event of the copy's, a restart of its own, a deletion.
    docker.restart(&copy.id);
    assert_ne!(docker.runs_since(&copy.id), since);
    let since = docker.runs_since(&copy.id);
    ground.chassis.ok(&["server", "stop"]);
    ground.chassis.ok(&["ps"]);
    ground.chassis.until(&ground.instance(1), Phase::Running);
    assert_eq!(docker.runs_since(&ground.container(1)), original, "the original was left alone");
    ground.chassis.ok(&[
        "delete",
        "fleet",
        &ground.fleet,
        "--cleanup",
        &format!("--confirm={}", ground.fleet),
    ]);
    assert!(docker.inspect(&ground.container(1)).is_none());
    assert_eq!(docker.runs_since(&copy.id), since, "the copy was touched");
    drop(copy);
    docker.remove_image(&copied);
}
