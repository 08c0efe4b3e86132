//! Machines that go silent while containers run there: what may move runs elsewhere, and never in two places; what stays is
//! left alone. One machine is cut off with all that it has, of the other the node's process is killed and Docker goes on.
//!
//! Agents are their own witnesses: each run writes, again and again, who it is and when, by a clock that all share.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use chassis_testkit::api::Phase;
use chassis_testkit::{
    Chassis, Docker, Dockerd, Image, Machine, Namespace, OwnNamespace, SOON, Server, eventually, expect,
};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
/// The node is down after 99 s.
const DOWN: Duration = Duration::from_secs(130);
/// A lease, what its end may take, and what a loaded machine adds.
const ENDED: f64 = 60.0 + 30.0;
const BEATS: &str = "id=$(cat /proc/sys/kernel/random/uuid); while :; do read up rest < /proc/uptime; \
                     echo \"$id $up\" >> /witness/$CHASSIS_AGENT; sleep 0.2; done";

struct World {
    chassis: Chassis,
    _server: Server,
    fleet: String,
    own: String,
    image: String,
    witness: tempfile::TempDir,
    center: OwnNamespace,
    machines: BTreeMap<&'static str, Machine>,
    engines: BTreeMap<&'static str, Dockerd>,
}

/// The first and the last that was heard of a run, in seconds since the machine was booted.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    id: String,
    first: f64,
    last: f64,
}

fn cable(center: Namespace, machine: Namespace, number: u8) {
    let pid = machine.path().display().to_string().split('/').nth(2).expect("/proc/<pid>/ns/net").to_owned();
    let (ours, our_end) = (format!("m{number}"), format!("10.125.{number}.1/24"));
    let their_end = format!("10.125.{number}.2/24");
    center
        .run(&["ip", "link", "add", &ours, "type", "veth", "peer", "name", "cable", "netns", &pid])
        .exits(0);
    center.run(&["ip", "addr", "add", &our_end, "dev", &ours]).exits(0);
    center.run(&["ip", "link", "set", &ours, "up"]).exits(0);
    machine.run(&["ip", "addr", "add", &their_end, "dev", "cable"]).exits(0);
    machine.run(&["ip", "link", "set", "cable", "up"]).exits(0);
}

/// The same image, by its id.
fn image_copy(name: &str, from: &Docker, to: &Docker) {
    let at = |docker: &Docker| format!("docker -H unix://{}", docker.socket().display());
    let line = format!("{} save {name} | {} load", at(from), at(to));
    let output = Command::new("sh").args(["-c", &line]).output().expect("docker is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").expect("a clock");
    text.split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("seconds")
}

impl World {
    fn new() -> World {
        let witness = tempfile::tempdir().expect("a directory");
        fs::set_permissions(witness.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
        let seen = witness.path().to_str().expect("a path");
        let center = OwnNamespace::new();
        let engines = BTreeMap::from([("n1", Dockerd::networked()), ("n2", Dockerd::networked())]);
        let chassis = Chassis::new(BINARY).in_namespace(center.namespace());
        let image = Image::busybox().build();
        for engine in engines.values() {
            image_copy(&image, chassis.docker(), &engine.docker());
        }
        let server = chassis.serve_with(&["--allow-host-path", seen], &[]);
        let own = chassis.ok(&["node", "list", "-o", "name"]).stdout.trim().to_owned();
        let fleet = chassis.fleet("down");
        chassis.ok(&["create", "fleet", &fleet]);
        let mut machines = BTreeMap::new();
        for ((name, engine), number) in engines.iter().zip(1..) {
            cable(center.namespace(), engine.namespace(), number);
            let place = Chassis::new(BINARY).in_namespace(engine.namespace()).on_docker(&engine.docker());
            let address = format!("10.125.{number}.2:7443");
            let machine =
                Machine::start(place, &["--listen", &address, "--name", name, "--allow-host-path", seen]);
            machine.join(&chassis, &[]).exits(0);
            machines.insert(*name, machine);
        }
        World { chassis, _server: server, fleet, own, image, witness, center, machines, engines }
    }

    /// Deploys where nothing else is open.
    fn deploy_on(&self, node: &str, agent: &str, script: &str, more: &str) {
        for other in ["n1", "n2", &self.own] {
            self.chassis.ok(&["node", if other == node { "uncordon" } else { "cordon" }, other]);
        }
        let (fleet, image, seen) = (&self.fleet, &self.image, self.witness.path().display());
        let yaml = format!(
            "name: {agent}\nfleet: {fleet}\nimage: {image}\nnetwork: none\nstop: {{grace: 1s}}\ncommand: [/bin/sh, -c]\n\
             args: ['{script}']\nvolumes: [{{name: witness, hostPath: {seen}, mountPath: /witness}}]\n{more}"
        );
        self.chassis.deploy(&yaml).exits(0);
        let instance = self.until_runs(agent);
        assert_eq!(instance, node, "{agent}");
    }

    /// Where it does.
    fn until_runs(&self, agent: &str) -> String {
        eventually(DOWN, || {
            let all = self.chassis.instances();
            let one = all.iter().find(|one| one.fleet.as_str() == self.fleet && one.agent.as_str() == agent);
            let one = one.filter(|one| one.phase == Phase::Running);
            one.map(|one| one.node.clone()).ok_or_else(|| format!("{agent} does not run: {all:?}"))
        })
    }

    /// The runs of an agent so far, in their order.
    fn runs(&self, agent: &str) -> Vec<Run> {
        let text = fs::read_to_string(self.witness.path().join(agent)).unwrap_or_default();
        let mut runs: Vec<Run> = Vec::new();
        for (id, at) in text.lines().filter_map(|line| line.split_once(' ')) {
            let at: f64 = at.parse().expect("seconds");
            match runs.iter_mut().find(|run| run.id == id) {
                Some(run) => run.last = at,
                None => runs.push(Run { id: id.to_owned(), first: at, last: at }),
            }
        }
        runs
    }

    fn until_beats(&self, agent: &str, since: f64) -> Vec<Run> {
        eventually(SOON, || {
            let runs = self.runs(agent);
            expect(runs.last().is_some_and(|run| run.last > since), || format!("{agent}: {runs:?}"))?;
            Ok::<_, String>(runs)
        })
    }

    fn container(&self, node: &str, agent: &str) -> Option<serde_json::Value> {
        self.engines[node].docker().inspect(&format!("chassis-{}-{agent}-1", self.fleet))
    }

    fn machine(&mut self, name: &str) -> &mut Machine {
        self.machines.get_mut(name).expect("a machine")
    }

    fn set_cable(&self, number: u8, state: &str) {
        self.center.namespace().run(&["ip", "link", "set", &format!("m{number}"), state]).exits(0);
    }
}

#[test]
fn what_may_move_runs_elsewhere_and_never_twice() {
    let mut world = World::new();
    let moves = "placement: {whenNodeDown: move}\n";
    world.deploy_on("n1", "cut-moves", BEATS, moves);
    world.deploy_on("n1", "cut-stays", BEATS, "");
    // It is told later that it may move, and listens to nobody.
    let stubborn = format!("trap \"\" TERM; {BEATS}");
    world.deploy_on("n2", "killed-moves", &stubborn, "");
    let leased = |world: &World, node: &str, agent: &str| {
        let container = world.container(node, agent).expect("its container");
        !container["Config"]["Labels"]["chassis.leased"].is_null()
    };
    assert!(!leased(&world, "n2", "killed-moves"));
    world.deploy_on("n2", "killed-moves", &stubborn, moves);
    world.deploy_on("n2", "killed-stays", BEATS, "");
    for (node, agent, is) in [
        ("n1", "cut-moves", true),
        ("n1", "cut-stays", false),
        ("n2", "killed-moves", true),
        ("n2", "killed-stays", false),
    ] {
        assert_eq!(leased(&world, node, agent), is, "{agent}");
        world.until_beats(agent, 0.0);
    }
    let shown = world.chassis.ok(&["node", "describe", "n1"]);
    assert_eq!(shown.stdout.matches("runs elsewhere when this node is down").count(), 1, "{shown}");
    let before = world.runs("killed-moves").last().expect("a run").clone();

    // Nowhere to go at first.
    world.chassis.ok(&["node", "uncordon", "n1"]);
    let silent_since = uptime();
    world.set_cable(1, "down");
    world.machine("n2").kill();
    for agent in ["cut-moves", "killed-moves"] {
        let name = format!("{}/{agent}-1", world.fleet);
        eventually(DOWN, || {
            let shown = world.chassis.run(&["describe", &name]);
            let waits = shown.stdout.contains("Pending") && shown.stdout.contains("cordoned");
            expect(waits && shown.stdout.contains("no server answered for its node for 60 s"), || {
                format!("{shown}")
            })
        });
    }
    let waiting = uptime();
    world.chassis.ok(&["node", "uncordon", &world.own]);
    for (agent, from) in [("cut-moves", "n1"), ("killed-moves", "n2")] {
        assert_eq!(world.until_runs(agent), world.own, "{agent}");
        let runs = world.until_beats(agent, waiting);
        let [.., old, new] = &runs[..] else { panic!("{agent} ran once: {runs:?}") };
        assert!(old.last < new.first, "{agent} ran in two places: {runs:?}");
        let took = old.last - silent_since;
        assert!(took < ENDED, "{agent} ended {took} s after its machine went silent, and not by itself");
        let ended = world.container(from, agent).expect("its machine is away, and has it still");
        assert_eq!((&ended["State"]["Running"], &ended["State"]["ExitCode"]), (&false.into(), &80.into()));
    }
    assert_eq!(world.runs("killed-moves").iter().rev().nth(1).map(|run| &run.id), Some(&before.id));
    for agent in ["cut-stays", "killed-stays"] {
        let runs = world.until_beats(agent, waiting);
        assert_eq!(runs.len(), 1, "{agent} was started again: {runs:?}");
    }

    // They return: what ran there is taken away, and nothing runs twice.
    world.set_cable(1, "up");
    world.machine("n2").resume();
    for (agent, from) in [("cut-moves", "n1"), ("killed-moves", "n2")] {
        eventually(DOWN, || {
            expect(world.container(from, agent).is_none(), || format!("{from} still has {agent}"))
        });
        assert_eq!(world.until_runs(agent), world.own);
    }
    let back = uptime();
    for (agent, node, count) in [
        ("cut-moves", &*world.own, 2),
        ("killed-moves", &world.own, 3),
        ("cut-stays", "n1", 1),
        ("killed-stays", "n2", 1),
    ] {
        assert_eq!(world.until_runs(agent), node, "{agent}");
        let runs = world.until_beats(agent, back);
        assert_eq!(runs.len(), count, "{agent}: {runs:?}");
    }
    let events = world.chassis.ok(&["events", &world.fleet, "--limit", "200"]);
    for line in [
        "ended: no server answered for its node for 60 s, and it may run elsewhere",
        "taken from node n1, which does not answer, to run elsewhere",
        "taken from node n2, which does not answer, to run elsewhere",
        &format!("placed on node {}", world.own),
    ] {
        assert!(events.stdout.contains(line), "{line}: {events}");
    }
    let confirm = format!("--confirm={}", world.fleet);
    world.chassis.ok(&["delete", "fleet", &world.fleet, "--cleanup", &confirm]);
}
