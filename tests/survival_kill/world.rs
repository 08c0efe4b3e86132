//! A chassis whose server is killed, a person who does not give up, and a look at what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chassis_testkit::api::{Agent, Event, EventKind, Fleet, Instance, Phase, Secret};
use chassis_testkit::{Chassis, Image, Outcome, SOON, Server, eventually, expect, pause};

use crate::scenario::{Step, Then};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
/// How long the server may take from a command to the point at which it is to die.
const PATIENCE: Duration = Duration::from_secs(10);
/// How init ends when no secrets arrive.
const NO_SECRETS: i32 = 78;
/// Some points come after everything looks done.
const AFTERMATH: Duration = Duration::from_millis(150);
/// When nothing was hit because there was nothing left to do.
pub(crate) const AT_REST: &str = "at rest";
const BY_CHANCE: &str = "by chance";

/// When the server dies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    /// At a failpoint, when it comes by for the n-th time.
    Point(&'static str, u32),
    /// So long after the command began.
    After(Duration),
}

pub(crate) struct World<'a> {
    chassis: Chassis,
    fleet: String,
    /// Whether commands wait until all is done.
    waits: bool,
    kills: u32,
    hits: &'a Mutex<BTreeMap<String, u32>>,
}

impl<'a> World<'a> {
    pub(crate) fn new(name: &str, hits: &'a Mutex<BTreeMap<String, u32>>) -> World<'a> {
        let chassis = Chassis::new(BINARY).with_env("CHASSIS_NO_AUTOSTART", "1");
        let fleet = chassis.fleet(name);
        let image = Image::busybox().build();
        for version in ["1", "2"] {
            chassis.write(&format!("version-{version}.yaml"), &agent(&fleet, &image, version));
        }
        let two = agent(&fleet, &image, "2");
        chassis.write("version-2-small.yaml", &two.replace("memory: 16Mi", "memory: 12Mi"));
        chassis.write("version-broken.yaml", &two.replace("name: a\n", "name: a\nuser: not-in-the-image\n"));
        chassis.write("key.txt", "a-secret");
        World { chassis, fleet, waits: true, kills: 0, hits }
    }

    pub(crate) fn without_waiting(mut self) -> World<'a> {
        self.waits = false;
        self
    }

    /// Asks for one step while the server dies at each of these moments, and then until it is done.
    pub(crate) fn carry_out(&mut self, step: &Step, moments: &[Moment]) {
        let mut asked = false;
        let mut answered = false;
        for moment in moments {
            self.die_once(step, *moment, &mut asked, &mut answered);
            self.check_nothing_doubled();
        }
        let mut server = self.chassis.serve();
        if !answered && let Err(outcome) = self.ask(step, asked) {
            panic!("{}: with a server that lives, {outcome}", self.name(step));
        }
        eventually(SOON, || {
            self.check(&step.then).map_err(|complaint| format!("{}: {complaint}", self.name(step)))
        });
        server.kill();
        self.note_kill(AT_REST);
    }

    fn die_once(&mut self, step: &Step, moment: Moment, asked: &mut bool, answered: &mut bool) {
        let mut server = match moment {
            Moment::Point(point, count) => {
                self.chassis.serve_with(&[], &[("CHASSIS_FAILPOINT", &format!("{point}@{count}"))])
            }
            Moment::After(_) => self.chassis.serve(),
        };
        if let Moment::After(delay) = moment {
            std::thread::scope(|scope| {
                let killing = scope.spawn(move || {
                    pause(delay);
                    server.kill();
                });
                if !*answered {
                    *answered = self.ask(step, *asked).is_ok();
                    *asked = true;
                }
                killing.join().expect("the kill");
            });
            self.note_kill(BY_CHANCE);
            return;
        }
        if !*answered && !server.has_ended() {
            *answered = self.ask(step, *asked).is_ok();
            *asked = true;
        }
        self.until_dead_or_done(&mut server, &step.then);
        let died_there = server.has_ended();
        server.kill();
        match moment {
            Moment::Point(point, _) if died_there => self.note_kill(point),
            _ => self.note_kill(AT_REST),
        }
    }

    fn until_dead_or_done(&self, server: &mut Server, then: &Then) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !server.has_ended() {
            if self.check(then).is_ok() {
                let _ = server.wait(AFTERMATH);
                return;
            }
            pause(Duration::from_millis(20));
        }
    }

    /// Types the command. A repetition may find that the one before was heard after all: that is an answer too.
    fn ask(&self, step: &Step, repeated: bool) -> Result<(), Outcome> {
        let mut command: Vec<String> =
            step.command.iter().map(|word| word.replace("FLEET", &self.fleet)).collect();
        let may_wait = !matches!(step.command[..2], ["create" | "secret", _] | ["rollout", "pause"]);
        if may_wait {
            command.push(if self.waits { "--timeout=20s" } else { "--no-wait" }.to_owned());
        }
        let outcome = self.chassis.run(&command.iter().map(String::as_str).collect::<Vec<_>>());
        let done_before = repeated
            && match step.command[0] {
                "create" => outcome.stderr.contains("exists"),
                "delete" => outcome.code == 3,
                _ => false,
            };
        let undone = step.command.contains(&"version-broken.yaml") && outcome.stderr.contains("rolled back");
        if outcome.code == 0 || done_before || undone { Ok(()) } else { Err(outcome) }
    }

    /// Whether everything is as it should be, and nothing else is there.
    fn check(&self, then: &Then) -> Result<(), String> {
        let ask = |error: std::io::Error| error.to_string();
        let fleets: Vec<Fleet> = self.chassis.get("/api/v1/fleets").map_err(ask)?;
        expect(fleets.len() == usize::from(then.fleet), || format!("fleets: {fleets:?}"))?;
        let secrets: Vec<Secret> = self.chassis.get("/api/v1/secrets").map_err(ask)?;
        expect(secrets.len() == usize::from(then.secret), || format!("secrets: {secrets:?}"))?;
        let agents: Vec<Agent> = self.chassis.get("/api/v1/agents").map_err(ask)?;
        let wanted = then.running.len() + then.stopped.len();
        expect(agents.len() == usize::from(wanted > 0), || format!("agents: {agents:?}"))?;
        let instances: Vec<Instance> = self.chassis.get("/api/v1/instances").map_err(ask)?;
        expect(instances.len() == wanted, || format!("instances: {instances:?}"))?;
        for instance in &instances {
            let phase = if then.running.contains(&instance.number) { Phase::Running } else { Phase::Stopped };
            let known = then.running.contains(&instance.number) || then.stopped.contains(&instance.number);
            expect(known && instance.phase == phase, || format!("{instance:?} is not {phase:?}"))?;
            self.check_runs(instance)?;
        }
        self.check_docker(then)?;
        self.check_files(then)
    }

    /// A kill between a start and the secrets that belong to it costs a run, which init ends. No other run ends unasked.
    fn check_runs(&self, instance: &Instance) -> Result<(), String> {
        let target =
            format!("/api/v1/events?fleet={}&agent=a&number={}&limit=10000", self.fleet, instance.number);
        let events: Vec<Event> = self.chassis.get(&target).map_err(|error| error.to_string())?;
        let exits: Vec<i32> = events
            .iter()
            .filter_map(
                |event| if let EventKind::Exited(exit) = &event.kind { Some(exit.code) } else { None },
            )
            .collect();
        let lost = events.iter().any(|event| event.kind == EventKind::Lost);
        let all_for_want_of_secrets = exits.iter().all(|code| *code == NO_SECRETS);
        expect(all_for_want_of_secrets && !lost && instance.restarts as usize <= exits.len(), || {
            format!("{instance:?} ended unasked, with {exits:?}; container lost: {lost}")
        })
    }

    fn check_docker(&self, then: &Then) -> Result<(), String> {
        let label = self.chassis.label();
        let containers = self.chassis.docker().labelled(&label);
        let found: BTreeSet<(u32, bool, String)> = containers
            .iter()
            .map(|container| {
                let label = |name: &str| container["Labels"][name].as_str().unwrap_or_default().to_owned();
                let number = label("chassis.instance").parse().unwrap_or(0);
                (number, container["State"] == "running", label("version"))
            })
            .collect();
        let wanted = |numbers: &[u32], runs: bool| {
            numbers.iter().map(move |number| (*number, runs, then.version.to_owned())).collect::<Vec<_>>()
        };
        let wanted: BTreeSet<_> =
            wanted(then.running, true).into_iter().chain(wanted(then.stopped, false)).collect();
        expect(found == wanted && containers.len() == wanted.len(), || {
            format!("containers {found:?} ({}), not {wanted:?}", containers.len())
        })?;
        let networks = self.chassis.docker().networks_labelled(&label).len();
        // That of an empty fleet may be made when its first instance is.
        let fewest = usize::from(!wanted.is_empty());
        expect((fewest..=usize::from(then.fleet)).contains(&networks), || format!("{networks} networks"))
    }

    fn check_files(&self, then: &Then) -> Result<(), String> {
        for number in then.data {
            let runs = self.chassis.read(&self.fleet, &format!("a-{number}"), "data/runs");
            expect(!runs.is_empty(), || format!("the data of {number} is lost"))?;
        }
        for number in then.no_data {
            let directory = self.chassis.data_dir().join(&self.fleet).join(format!("a-{number}"));
            expect(!directory.exists(), || format!("{} is left behind", directory.display()))?;
        }
        let fleet = self.chassis.data_dir().join(&self.fleet);
        expect(then.fleet || !fleet.exists(), || format!("{} is left behind", fleet.display()))?;
        let trash = self.chassis.data_dir().join(".server/trash");
        let trash: Vec<_> = trash.read_dir().into_iter().flatten().flatten().collect();
        expect(trash.is_empty(), || format!("left in the trash: {trash:?}"))?;
        let secret_files = self.chassis.secret_files();
        // A container has its files for as long as it is there, running or not.
        expect(secret_files.len() <= then.running.len() + then.stopped.len(), || {
            format!("secret files left: {secret_files:?}")
        })
    }

    /// Whatever the moment was, there is at most one container of a number.
    fn check_nothing_doubled(&self) {
        let containers = self.chassis.docker().labelled(&self.chassis.label());
        let numbers: BTreeSet<String> =
            containers.iter().map(|container| container["Labels"]["chassis.instance"].to_string()).collect();
        assert!(numbers.len() == containers.len(), "{}: two of a number in {containers:?}", self.fleet);
    }

    fn note_kill(&mut self, at: &str) {
        self.kills += 1;
        *self.hits.lock().expect("no thread has panicked").entry(at.to_owned()).or_default() += 1;
    }

    fn name(&self, step: &Step) -> String {
        format!("{} after {} kills: chassis {}", self.fleet, self.kills, step.command.join(" "))
    }
}

/// An agent that notes each of its runs, and has a secret in its environment and in a file.
fn agent(fleet: &str, image: &str, version: &str) -> String {
    format!(
        r#"
name: a
fleet: {fleet}
image: {image}
command: [/bin/sh, -c]
args: ['echo "{version} $KEY" >> /data/runs; exec sleep 99999']
stop: {{grace: 1s}}
labels: {{version: "{version}"}}
volumes:
  - {{name: data, mountPath: /data}}
  - {{name: key, mountPath: /run/key, secret: "secret://{fleet}/key"}}
env:
  - {{name: KEY, valueFrom: "secret://{fleet}/key"}}
resources: {{memory: 16Mi}}
tmpfs: {{size: 1Mi}}
"#
    )
}
