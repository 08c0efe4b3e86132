//! How revisions take over from each other, through the binary on real Docker: what restarts nothing, what is replaced and
//! how many at once, what goes back by itself, and which image runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chassis_testkit::{Chassis, Docker, Image, SOON, Tag, eventually, expect, pause};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const SLEEPS: &str = "exec sleep 99999";

/// A fleet with one agent, `w`.
struct World {
    chassis: Chassis,
    fleet: String,
    image: String,
}

impl World {
    fn new(name: &str) -> World {
        let chassis = Chassis::new(BINARY);
        let fleet = chassis.fleet(name);
        let world = World { image: Image::busybox().build(), chassis, fleet };
        world.chassis.ok(&["create", "fleet", &world.fleet]);
        world
    }

    /// The agent's file: three instances that run this script, and more lines.
    fn yaml(&self, script: &str, more: &str) -> String {
        format!(
            "name: w\nfleet: {}\nimage: {}\ncommand: [/bin/sh, -c, '{script}']\nreplicas: 3\nstop: {{signal: SIGKILL}}\n\
             tmpfs: {{size: 1Mi}}\n{more}\n",
            self.fleet, self.image
        )
    }

    fn container(&self, number: u32) -> Value {
        self.docker().inspect(&self.name(number)).unwrap_or_else(|| panic!("no container of {number}"))
    }

    fn name(&self, number: u32) -> String {
        format!("chassis-{}-w-{number}", self.fleet)
    }

    /// The ids of the containers, and when each was started: what a restart would change.
    fn runs(&self, numbers: &[u32]) -> Vec<(String, String)> {
        let run = |number: &u32| {
            let container = self.container(*number);
            (container["Id"].to_string(), container["State"]["StartedAt"].to_string())
        };
        numbers.iter().map(run).collect()
    }

    fn docker(&self) -> &Docker {
        self.chassis.docker()
    }

    fn target(&self) -> String {
        format!("{}/w", self.fleet)
    }

    /// The least number of containers that ran at any time while `work` was done.
    fn fewest_running(&self, work: impl FnOnce()) -> usize {
        let label = self.chassis.label();
        let (fewest, done) = (AtomicUsize::new(usize::MAX), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let all = self.docker().labelled(&label);
                    let running = all.iter().filter(|container| container["State"] == "running").count();
                    fewest.fetch_min(running, Ordering::SeqCst);
                    pause(Duration::from_millis(15));
                }
            });
            work();
            done.store(true, Ordering::SeqCst);
        });
        fewest.load(Ordering::SeqCst)
    }
}

#[test]
fn what_needs_no_new_container_restarts_nothing_and_limits_change_in_place() {
    let world = World::new("same");
    world.chassis.deploy(&world.yaml(SLEEPS, "")).exits(0);
    let before = world.runs(&[1, 2, 3]);
    world
        .chassis
        .deploy(&world.yaml(
            SLEEPS,
            "labels: {team: data}\nrestartPolicy: on-failure\nrollout: {maxUnavailable: 2}\nlogs: {keep: 1d}",
        ))
        .exits(0)
        .shows(&["revision 2"]);
    world.chassis.deploy(&world.yaml(SLEEPS, "resources: {memory: 64Mi, cpu: 0.5, pids: 77}")).exits(0);
    let limits = |number| {
        let config = world.container(number)["HostConfig"].clone();
        ["Memory", "MemorySwap", "NanoCpus", "PidsLimit"].map(|field| config[field].as_i64().unwrap_or(0))
    };
    for number in 1..=3 {
        assert_eq!(limits(number), [64 << 20, 64 << 20, 500_000_000, 77]);
    }
    // What somebody changes by hand is put right, without a word and without a restart.
    world.docker().update(&world.name(2), &json!({ "NanoCpus": 250_000_000 }));
    eventually(SOON, || expect(limits(2)[2] == 500_000_000, || format!("{:?}", limits(2))));
    // No limit on cores again; on a stopped instance too.
    world.chassis.ok(&["stop", &format!("{}-3", world.target())]);
    world.chassis.deploy(&world.yaml(SLEEPS, "resources: {memory: 32Mi}")).exits(0).shows(&["revision 4"]);
    assert!(limits(1)[2] > 900_000_000 && limits(1)[0] == 32 << 20, "{:?}", limits(1));
    assert_eq!(world.runs(&[1, 2]), before[..2], "something was restarted");
    world.chassis.ok(&["start", &format!("{}-3", world.target())]);
    assert_eq!(limits(3)[0], 32 << 20);
    assert_eq!(world.runs(&[3])[0].0, before[2].0, "its container was made anew");
}

#[test]
fn a_fleet_is_restarted_one_instance_after_the_other() {
    let world = World::new("fleetwide");
    world.chassis.deploy(&world.yaml(SLEEPS, "")).exits(0);
    world.chassis.deploy(&world.yaml(SLEEPS, "").replace("name: w", "name: v")).exits(0);
    let begun = |agent: &str, number: u32| {
        let name = format!("chassis-{}-{agent}-{number}", world.fleet);
        world.docker().inspect(&name).expect("a container")["State"]["StartedAt"].to_string()
    };
    let runs = || ["v", "w"].map(|agent| [1, 2, 3].map(|number| begun(agent, number)));
    let before = runs();
    let fewest = world.fewest_running(|| {
        world.chassis.ok(&["restart", "fleet", &world.fleet]);
    });
    let after = runs();
    assert!(before.iter().flatten().zip(after.iter().flatten()).all(|(old, new)| old != new), "{after:?}");
    assert_eq!(fewest, 5, "of six, more than one was away at once");
}

#[test]
fn what_uses_more_memory_than_it_may_have_keeps_running_as_it_was() {
    let world = World::new("memory");
    let holds = "dd if=/dev/zero of=/tmpfs/x bs=1M count=40 2>/dev/null; exec sleep 99999";
    let yaml = |memory: &str| {
        let yaml = world.yaml(holds, &format!("resources: {{memory: {memory}}}"));
        yaml.replace("replicas: 3", "replicas: 1").replace("size: 1Mi", "size: 64Mi")
    };
    world.chassis.deploy(&yaml("96Mi")).exits(0);
    let usage = || world.docker().memory_used(&world.name(1));
    eventually(SOON, || expect(usage() > 35 << 20, || format!("uses {}", usage())));
    let before = world.runs(&[1]);
    let path = world.chassis.write("less.yaml", &yaml("16Mi"));
    world
        .chassis
        .run(&["deploy", "agent", "-f", &path.display().to_string(), "--timeout", "3s"])
        .says(&["of memory now, more than"]);
    assert_eq!(world.runs(&[1]), before);
    assert_eq!(world.container(1)["HostConfig"]["Memory"], 96 << 20);
}

#[test]
fn a_crashing_revision_goes_back_and_leaves_the_neighbours_alone() {
    let world = World::new("crash");
    world.chassis.deploy(&world.yaml(SLEEPS, "")).exits(0);
    let before = world.runs(&[2, 3]);
    let fewest = world.fewest_running(|| {
        world.chassis.deploy(&world.yaml("exit 7", "")).exits(1).says(&[
            "revision 2 failed and was rolled back to revision 1 (now revision 3)",
            "w-1 crashed 3 times in a row: exited with code 7",
        ]);
    });
    assert!(fewest >= 2, "only {fewest} of 3 ran");
    assert_eq!(world.runs(&[2, 3]), before, "a neighbour was touched");
    let status = world.chassis.ok(&["rollout", "status", &world.target(), "-o", "json"]).json::<Value>();
    assert_eq!(status["rollout"]["state"], "rolled-back", "{status}");
    world
        .chassis
        .ok(&["rollout", "history", &world.target()])
        .shows(&["rollback from 2", "complete, present"]);
    world.chassis.ok(&["events", &world.target()]).shows(&["rolled back from revision 2 to revision 1"]);
    // A first revision has nothing to go back to: it stays, and says so.
    let lone = world.yaml("exit 7", "").replace("name: w", "name: lone");
    world.chassis.deploy(&lone).exits(1).says(&["times in a row", "chassis keeps trying"]);
}

#[test]
fn an_image_that_cannot_be_had_takes_nothing_down() {
    let world = World::new("image");
    world.chassis.deploy(&world.yaml(SLEEPS, "")).exits(0);
    let before = world.runs(&[1, 2, 3]);
    world
        .chassis
        .run(&["upgrade", "agent", &world.target(), "--image", "127.0.0.1:1/nothing:1"])
        .exits(1)
        .says(&["rolled back to revision 1", "127.0.0.1:1/nothing:1 is not here and cannot be pulled"]);
    assert_eq!(world.runs(&[1, 2, 3]), before);
}

#[test]
fn an_unready_revision_misses_its_deadline_and_goes_back() {
    let world = World::new("unready");
    let check = "readinessCheck: {exec: {command: [test, -e, /tmp/ready]}, interval: 1s, retries: 1}";
    let rollout = "rollout: {deadline: 5s}";
    let ready = world.yaml("touch /tmp/ready; exec sleep 99999", &format!("{check}\n{rollout}"));
    world.chassis.deploy(&ready).exits(0);
    let before = world.runs(&[2, 3]);
    let fewest = world.fewest_running(|| {
        world
            .chassis
            .deploy(&world.yaml(SLEEPS, &format!("{check}\n{rollout}")))
            .exits(1)
            .says(&["rolled back to revision 1", "no further instance became ready within 5s"]);
    });
    assert!(fewest >= 2, "only {fewest} of 3 ran");
    assert_eq!(world.runs(&[2, 3]), before);
}

#[test]
fn people_pause_resume_undo_and_look_back() {
    let world = World::new("people");
    let target = world.target();
    world.chassis.run(&["rollout", "status", "no-such-agent"]).exits(3);
    world.chassis.deploy(&world.yaml(SLEEPS, "")).exits(0);
    world.chassis.run(&["rollout", "undo", &target]).exits(1).says(&["no other revision"]);
    world.chassis.ok(&["rollout", "pause", &target]);
    let before = world.runs(&[1, 2, 3]);
    world
        .chassis
        .deploy(&world.yaml("exec sleep 88888", ""))
        .exits(0)
        .says(&["paused", "chassis rollout resume w"]);
    world.chassis.ok(&["rollout", "status", &target]).shows(&["paused", "0 of 3 ready"]);
    assert_eq!(world.runs(&[1, 2, 3]), before);
    // A crash is mended meanwhile, with what was there.
    world.docker().kill(&world.name(2));
    eventually(SOON, || {
        let run = world.runs(&[2]).remove(0);
        let runs = world.container(2)["State"]["Running"] == true;
        expect(runs && run.0 == before[1].0 && run.1 != before[1].1, || format!("{run:?}"))
    });
    world.chassis.ok(&["rollout", "resume", "agent", &target]);
    assert_ne!(world.runs(&[1])[0].0, before[0].0);
    let dry = world.chassis.ok(&["rollout", "undo", &target, "--dry-run"]);
    dry.shows(&["sleep 88888 → exec sleep 99999"]);
    world.chassis.ok(&["rollout", "undo", &target]).shows(&["revision 3"]);
    let history: Vec<Value> = world.chassis.ok(&["rollout", "history", &target, "-o", "json"]).json();
    let causes: Vec<&str> = history.iter().filter_map(|one| one["cause"].as_str()).collect();
    assert_eq!(causes, ["deploy", "deploy", "undo of 2, back to 1"]);
    assert_eq!(history[0]["template"], history[2]["template"]);
    world.chassis.ok(&["rollout", "history", &target, "--revision", "2"]).shows(&["sleep 88888"]);
    world.chassis.run(&["rollout", "history", &target, "--revision", "9"]).exits(3);
    world.chassis.ok(&["rollout", "undo", &target, "--to-revision", "1"]).shows(&["unchanged"]);
}

#[test]
fn all_instances_run_the_image_that_was_meant_at_first() {
    let world = World::new("pin");
    let docker = Docker::of_machine();
    let repository = format!("{}-moving", world.fleet);
    let tag = Tag::new(&docker, &world.image, &repository);
    let other = Image::busybox().file("etc/other", "another image").build();
    let yaml = world.yaml(SLEEPS, "").replace(&world.image, &tag.name);
    world.chassis.deploy(&yaml).exits(0);
    let first = world.container(1)["Image"].clone();
    drop(Tag::new(&docker, &other, &format!("{repository}-other")));
    let moved = Tag::new(&docker, &other, &repository);
    world.chassis.ok(&["scale", "agent", &world.target(), "4"]);
    assert_eq!(world.container(4)["Image"], first, "a later instance runs another image");
    world.chassis.deploy(&yaml.replace("replicas: 3", "replicas: 4")).exits(0).shows(&["unchanged"]);
    world.chassis.ok(&["upgrade", "agent", &world.target(), "--refresh"]).shows(&["revision"]);
    for number in [1, 4] {
        assert_ne!(world.container(number)["Image"], first, "instance {number} runs the old image");
    }
    world.chassis.ok(&["upgrade", "agent", &world.target(), "--refresh"]).shows(&["already current"]);
    drop((tag, moved));
}

#[test]
fn extra_instances_keep_the_count_and_go() {
    let world = World::new("surge");
    let rollout = "rollout: {maxUnavailable: 0, maxSurge: 1}";
    world.chassis.deploy(&world.yaml(SLEEPS, rollout)).exits(0);
    let fewest = world.fewest_running(|| {
        world.chassis.deploy(&world.yaml("exec sleep 88888", rollout)).exits(0);
    });
    assert!(fewest >= 3, "only {fewest} of 3 ran");
    let all = world.docker().labelled(&world.chassis.label());
    assert_eq!(all.len(), 3, "{all:?}");
    let directory = world.chassis.data_dir().join(&world.fleet);
    let left: Vec<_> = directory.read_dir().expect("the fleet's directory").flatten().collect();
    assert_eq!(left.len(), 3, "{left:?}");
    let own = world.yaml(SLEEPS, &format!("{rollout}\nvolumes: [{{name: data, mountPath: /data}}]"));
    world.chassis.deploy(&own).exits(1).says(&["the volume `data` is each instance's own"]);
}

#[test]
fn a_server_that_is_killed_half_way_is_followed_by_one_that_goes_on() {
    let world = World::new("killed");
    world.chassis.ok(&["server", "stop"]);
    let mut server = world.chassis.serve();
    world.chassis.deploy(&world.yaml(SLEEPS, "")).exits(0);
    let before = world.runs(&[1, 2, 3]);
    let path = world.chassis.write("next.yaml", &world.yaml("exec sleep 88888", ""));
    world.chassis.ok(&["deploy", "agent", "-f", &path.display().to_string(), "--no-wait"]);
    eventually(SOON, || {
        let status = world.chassis.ok(&["rollout", "status", &world.target(), "--no-wait", "-o", "json"]);
        let status: Value = status.json();
        expect(status["updated"].as_u64() >= Some(1), || status.to_string())
    });
    server.kill();
    let fewest = world.fewest_running(|| {
        let _server = world.chassis.serve();
        world.chassis.ok(&["rollout", "status", &world.target()]).shows(&["complete", "3 of 3 ready"]);
    });
    assert!(fewest >= 2, "only {fewest} of 3 ran");
    let after = world.runs(&[1, 2, 3]);
    assert!(before.iter().zip(&after).all(|(before, after)| before.0 != after.0), "{before:?} {after:?}");
}
