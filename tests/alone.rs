//! A machine that no server reaches: it keeps its instances running by itself, and tells of it when one is back.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis_core::{EventKind, ExitReason};
use chassis_testkit::api::{InstanceDetail, Phase};
use chassis_testkit::{Chassis, Dockerd, Image, Machine, SOON, Server, eventually, expect, pause};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const SECRET: &str = "hush-77aa10c4";
/// Without a server for this long the machine is alone.
const ALONE: &str = "10s";
/// Longer than that, and than what a restart is held back for.
const KEPT: Duration = Duration::from_secs(45);

struct World {
    chassis: Chassis,
    server: Server,
    fleet: String,
    machine: Machine,
    /// Of the machine.
    data: PathBuf,
    image: String,
    dockerd: Dockerd,
}

impl World {
    fn new() -> World {
        let dockerd = Dockerd::new();
        let image = Image::busybox().build_on(&dockerd.docker());
        let chassis = Chassis::new(BINARY);
        let server = chassis.serve();
        let fleet = chassis.fleet("alone");
        chassis.ok(&["create", "fleet", &fleet]);
        let place = Chassis::new(BINARY).on_docker(&dockerd.docker());
        let data = place.data_dir().to_owned();
        let machine = Machine::start(place, &["--name", "n1", "--alone-after", ALONE]);
        machine.join(&chassis, &[]).exits(0);
        World { chassis, server, fleet, machine, data, image, dockerd }
    }

    /// An agent that writes down that it was started, and ends as soon as somebody says how.
    fn deploy(&self, agent: &str, more: &str) {
        let World { fleet, image, .. } = self;
        let script = "rm -f /data/ill; echo \"run $TOKEN\" >> /data/runs; while [ ! -e /data/end ]; do sleep 0.1; done; \
                      code=$(cat /data/end); rm /data/end; exit $code";
        self.chassis
            .deploy(&format!(
                "name: {agent}\nfleet: {fleet}\nimage: {image}\nplacement: {{node: n1}}\nstop: {{grace: 1s}}\n\
                 command: [/bin/sh, -c]\nargs: ['{script}']\nvolumes: [{{name: data, mountPath: /data}}]\n{more}"
            ))
            .exits(0);
        eventually(SOON, || expect(self.runs(agent) == 1, || format!("{agent} has not begun")));
    }

    fn directory(&self, agent: &str) -> PathBuf {
        self.data.join(&self.fleet).join(format!("{agent}-1")).join("data")
    }

    fn written(&self, agent: &str) -> String {
        fs::read_to_string(self.directory(agent).join("runs")).unwrap_or_default()
    }

    fn runs(&self, agent: &str) -> usize {
        self.written(agent).lines().count()
    }

    fn end(&self, agent: &str, code: u8) {
        let directory = self.directory(agent);
        fs::write(directory.join("ending"), code.to_string()).expect("a file");
        fs::rename(directory.join("ending"), directory.join("end")).expect("it is there at once");
    }

    /// Ends it, and waits until it runs again.
    fn crash(&self, agent: &str, code: u8) {
        let before = self.runs(agent);
        self.end(agent, code);
        eventually(KEPT, || {
            expect(self.runs(agent) == before + 1, || {
                format!("{agent} was not started again after {before} runs")
            })
        });
    }

    fn runs_since(&self, agent: &str) -> Option<String> {
        self.dockerd.docker().runs_since(&format!("chassis-{}-{agent}-1", self.fleet))
    }

    fn shown(&self, agent: &str) -> InstanceDetail {
        self.chassis.instance(&format!("{}/{agent}-1", self.fleet))
    }

    /// Another server, which knows the instance to be as it should.
    fn server_again(&mut self) {
        self.server = self.chassis.serve();
    }
}

/// All files that have the word in them.
fn files_with(directory: &Path, word: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, word));
        } else if fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(word.len()).any(|part| part == word.as_bytes()))
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn what_crashes_without_a_server_is_started_again_and_told_once() {
    let mut world = World::new();
    let file = world.chassis.write("value", SECRET).display().to_string();
    world.chassis.ok(&["secret", "create", &format!("{}/token", world.fleet), "--from-file", &file]);
    let token = format!("env: [{{name: TOKEN, valueFrom: \"secret://{}/token\"}}]\n", world.fleet);
    world.deploy("steady", &token);
    world.deploy("once", "restartPolicy: on-failure\n");
    world.deploy("stopped", "");
    world.chassis.ok(&["stop", &format!("{}/stopped-1", world.fleet)]);
    world.chassis.until(&format!("{}/stopped-1", world.fleet), Phase::Stopped);
    let files = files_with(&world.data.join(".server"), SECRET);
    assert!(files.is_empty(), "the secret can be read in {files:?}");

    world.server.kill();
    for code in [3, 4, 5] {
        world.crash("steady", code);
    }
    world.end("once", 0);
    // The next process of the machine goes on with it.
    world.machine.kill();
    world.machine.resume();
    world.crash("steady", 6);
    assert_eq!(world.written("steady"), format!("run {SECRET}\n").repeat(5), "each start gets the secret");
    assert_eq!((world.runs("once"), world.runs("stopped")), (1, 1), "what is not to run again does not");

    let since = world.runs_since("steady").expect("it runs");
    world.server_again();
    let told = eventually(SOON, || {
        let shown = world.shown("steady");
        expect(shown.instance.phase == Phase::Running && shown.instance.restarts == 4, || {
            format!("{shown:?}")
        })?;
        Ok::<_, String>(shown)
    });
    let codes: Vec<_> = told.exits.iter().map(|exit| exit.code).collect();
    assert_eq!(codes, [Some(6), Some(5), Some(4), Some(3)], "the newest first");
    let kind = |shown: &InstanceDetail, matches: fn(&EventKind) -> bool| {
        shown.events.iter().filter(|event| matches(&event.kind)).map(|event| event.time).collect::<Vec<_>>()
    };
    let ended = |shown: &InstanceDetail| kind(shown, |kind| matches!(kind, EventKind::Exited(_)));
    let started = |shown: &InstanceDetail| kind(shown, |kind| *kind == EventKind::RestartedByNode);
    let (exits, starts) = (ended(&told), started(&told));
    assert_eq!((exits.len(), starts.len()), (4, 4), "{:?}", told.events);
    assert_eq!(exits.iter().collect::<BTreeSet<_>>().len(), 4, "each has its own time: {exits:?}");
    // A crash loop is held back as a server does it: at once, 1 s, 2 s, less a fifth at most.
    let held: Vec<_> =
        exits.iter().zip(&starts).map(|(end, start)| start.duration_since(*end).as_millis()).collect();
    assert!(held[1] >= 800 && held[2] >= 1600, "{held:?} ms between an exit and the next start");
    world.chassis.ok(&["events", &world.fleet]).shows(&["restarted by its node while no server was reached"]);
    world.chassis.until(&format!("{}/once-1", world.fleet), Phase::Completed);

    // It is told once, and a server that comes back takes nothing down.
    eventually(SOON, || {
        let journal = fs::read_to_string(world.data.join(".server/journal")).unwrap_or_default();
        expect(journal.is_empty(), || format!("not acknowledged: {journal}"))
    });
    world.server.kill();
    world.server_again();
    world.chassis.until(&format!("{}/steady-1", world.fleet), Phase::Running);
    pause(Duration::from_secs(1));
    let again = world.shown("steady");
    assert_eq!((again.instance.restarts, ended(&again), started(&again)), (4, exits, starts));
    assert_eq!(world.runs_since("steady"), Some(since), "nothing was started for a server");
    world.crash("steady", 7);
    eventually(SOON, || {
        let restarts = world.shown("steady").instance.restarts;
        expect(restarts == 5, || format!("{restarts} restarts"))
    });
}

#[test]
fn what_is_unhealthy_without_a_server_is_started_again_one_a_minute() {
    let mut world = World::new();
    let check = "healthCheck: {exec: {command: [/bin/sh, -c, 'test ! -e /data/ill']}, interval: 1s, timeout: 5s, retries: 2}\n";
    for agent in ["one", "other"] {
        world.deploy(agent, check);
    }
    world.server.kill();
    for agent in ["one", "other"] {
        fs::write(world.directory(agent).join("ill"), "").expect("a file");
    }
    let both = |world: &World| (world.runs("one"), world.runs("other"));
    let first = eventually(KEPT, || {
        let runs = both(&world);
        expect(runs == (2, 1) || runs == (1, 2), || format!("{runs:?} runs"))?;
        Ok::<_, String>(if runs.0 == 2 { "one" } else { "other" })
    });
    // Long enough to be unhealthy, and too soon for another one of the fleet.
    pause(Duration::from_secs(4));
    assert_eq!(
        both(&world).0 + both(&world).1,
        3,
        "a fleet is not taken down for what all of it has in common"
    );

    world.server_again();
    eventually(SOON, || {
        expect(both(&world) == (2, 2), || format!("{:?} runs, with a server that knows", both(&world)))
    });
    let shown = eventually(SOON, || {
        let shown = world.shown(first);
        expect(shown.instance.phase == Phase::Running && shown.instance.restarts == 1, || {
            format!("{shown:?}")
        })?;
        Ok::<_, String>(shown)
    });
    let [exit] = &shown.exits[..] else { panic!("one exit: {:?}", shown.exits) };
    assert_eq!(exit.reason, ExitReason::Unhealthy, "{exit:?}");
    let told: Vec<String> = shown.events.iter().map(|event| event.kind.to_string()).collect();
    let place = |word: &str| told.iter().position(|line| line.contains(word));
    let places =
        ["unhealthy: exit code 1", "restarted because it is unhealthy", "stopped because", "by its node"]
            .map(place);
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {told:#?}");
}
