//! A chassis of four machines, each in a network namespace of its own with a cable to the server's: cut off, slow, killed,
//! and back. Two of them run simulated instances, one real containers on an Engine of its own.
//!
//! What holds all the time: no instance is on two machines, none is lost, and a machine that is away delays no other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chassis_testkit::api::Phase;
use chassis_testkit::{
    Chassis, Dockerd, Image, Machine, Namespace, OwnNamespace, SOON, Server, eventually, expect,
};
use jiff::Timestamp;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
/// A silent machine is suspect after 15 s, and asked every 5 s.
const NOTICED: Duration = Duration::from_secs(40);
/// What needs no machine that is away takes no longer than usual.
const UNHINDERED: Duration = Duration::from_secs(10);

struct World {
    chassis: Chassis,
    server: Server,
    fleet: String,
    center: OwnNamespace,
    machines: BTreeMap<&'static str, Machine>,
    _apart: [OwnNamespace; 2],
    dockerd: Dockerd,
}

fn cable(center: Namespace, machine: Namespace, number: u8) {
    let pid = machine.path().display().to_string().split('/').nth(2).expect("/proc/<pid>/ns/net").to_owned();
    let ours = format!("m{number}");
    for line in [
        &["ip", "link", "add", &ours, "type", "veth", "peer", "name", "cable", "netns", &pid][..],
        &["ip", "addr", "add", &format!("10.124.{number}.1/24"), "dev", &ours],
        &["ip", "link", "set", &ours, "up"],
    ] {
        center.run(line).exits(0);
    }
    let theirs = format!("10.124.{number}.2/24");
    machine.run(&["ip", "addr", "add", &theirs, "dev", "cable"]).exits(0);
    machine.run(&["ip", "link", "set", "cable", "up"]).exits(0);
}

impl World {
    fn new() -> World {
        let dockerd = Dockerd::networked();
        let (center, apart) = (OwnNamespace::new(), [OwnNamespace::new(), OwnNamespace::new()]);
        let spaces = [apart[0].namespace(), apart[1].namespace(), dockerd.namespace()];
        for (space, number) in spaces.iter().zip(1..) {
            cable(center.namespace(), *space, number);
        }
        let chassis = Chassis::new(BINARY).in_namespace(center.namespace());
        let server = chassis.serve();
        let fleet = chassis.fleet("nodes");
        chassis.ok(&["create", "fleet", &fleet]);
        let at = |space: Namespace| Chassis::new(BINARY).in_namespace(space);
        let machine = |place: Chassis, number: u8, runtime: &str| {
            let (address, name) = (format!("10.124.{number}.2:7443"), format!("n{number}"));
            Machine::start(place, &["--listen", &address, "--name", &name, "--runtime", runtime])
        };
        let machines = BTreeMap::from([
            ("n1", machine(at(spaces[0]), 1, "sim")),
            ("n2", machine(at(spaces[1]), 2, "sim")),
            ("n3", machine(at(spaces[2]).on_docker(&dockerd.docker()), 3, "docker")),
        ]);
        for machine in machines.values() {
            machine.join(&chassis, &[]).exits(0);
        }
        World { chassis, server, fleet, center, machines, _apart: apart, dockerd }
    }

    fn machine(&mut self, name: &str) -> &mut Machine {
        self.machines.get_mut(name).expect("a machine")
    }

    fn deploy(&self, agent: &str, more: &str) {
        let yaml = format!("name: {agent}\nfleet: {}\nstop: {{grace: 1s}}\n{more}", self.fleet);
        self.chassis.deploy(&yaml).exits(0);
    }

    fn node(&self, name: &str) -> Value {
        let shown = self.chassis.ok(&["node", "describe", name, "-o", "json"]).stdout;
        serde_json::from_str(&shown).expect("JSON")
    }

    fn until_node_is(&self, name: &str, state: &str) {
        eventually(NOTICED, || {
            let node = self.node(name);
            expect(node["state"] == state, || format!("{name} is {}, not {state}", node["state"]))
        });
    }

    /// Which instance runs where since when, of those that a machine answers for.
    fn running(&self) -> BTreeMap<String, (String, Option<Timestamp>)> {
        let running =
            self.chassis.instances().into_iter().filter(|instance| instance.phase == Phase::Running);
        running.map(|one| (format!("{}-{}", one.agent, one.number), (one.node, one.started_at))).collect()
    }

    fn until_running(&self, count: usize) -> BTreeMap<String, (String, Option<Timestamp>)> {
        eventually(NOTICED, || {
            let running = self.running();
            expect(running.len() == count, || format!("{} run, not {count}: {running:?}", running.len()))?;
            Ok::<_, String>(running)
        })
    }

    /// What the machines themselves show: each instance once, and where the server says that it is.
    fn nothing_is_doubled(&self) {
        let containers = self.dockerd.docker().labelled(&format!("chassis.fleet={}", self.fleet)).len();
        let on_n3 = self.running().values().filter(|(node, _)| node == "n3").count();
        assert_eq!(containers, on_n3, "containers on n3's Engine, and instances that are there");
        let mut held: Vec<String> = ["n1", "n2", "n3"]
            .iter()
            .flat_map(|name| self.node(name)["held"].as_array().cloned().unwrap_or_default())
            .map(|one| format!("{}-{}", one["agent"], one["number"]))
            .collect();
        let all = held.len();
        held.sort();
        held.dedup();
        assert_eq!(held.len(), all, "an instance is on two machines: {held:?}");
    }

    /// 64 kbit/s, and every tenth packet is lost.
    fn spoil_cable(&self, number: u8) {
        let center = self.center.namespace();
        let slow = format!("tc qdisc add dev m{number} root tbf rate 64kbit burst 4kb latency 2s");
        let lossy =
            format!("iptables -A INPUT -i m{number} -m statistic --mode random --probability 0.1 -j DROP");
        for line in [slow, lossy] {
            center.run(&line.split(' ').collect::<Vec<_>>()).exits(0);
        }
    }

    fn mend_cable(&self, number: u8) {
        let center = self.center.namespace();
        for line in [format!("tc qdisc del dev m{number} root"), "iptables -F INPUT".to_owned()] {
            center.run(&line.split(' ').collect::<Vec<_>>()).exits(0);
        }
    }

    fn set_cable(&self, number: u8, state: &str) {
        self.center.namespace().run(&["ip", "link", "set", &format!("m{number}"), state]).exits(0);
    }
}

#[test]
fn machines_are_cut_off_slow_killed_and_back() {
    let mut world = World::new();
    for name in ["n1", "n2", "n3"] {
        world.until_node_is(name, "active");
    }
    let image = Image::busybox().build_on(&world.dockerd.docker());
    world.deploy("web", "image: any\nruntime: sim\nreplicas: 4\n");
    world.deploy(
        "real",
        &format!(
            "image: {image}\nreplicas: 2\nplacement: {{node: n3}}\ncommand: [/bin/sh, -c]\n\
             args: ['echo run >> /data/runs; exec sleep 99999']\nvolumes: [{{name: data, mountPath: /data}}]\n"
        ),
    );
    let before = world.until_running(6);
    let places: Vec<&str> = before.values().map(|(node, _)| node.as_str()).collect();
    for name in ["n1", "n2", "n3"] {
        assert_eq!(places.iter().filter(|node| **node == name).count(), 2, "{before:?}");
    }
    world.nothing_is_doubled();

    // Cut off: it is told, the others go on, and nothing is made twice.
    world.set_cable(1, "down");
    world.until_node_is("n1", "suspect");
    let away = world.until_running(4);
    assert!(away.values().all(|(node, _)| node != "n1"), "{away:?}");
    let began = Instant::now();
    world.deploy("late", "image: any\nruntime: sim\nreplicas: 2\n");
    assert!(began.elapsed() < UNHINDERED, "a machine that is away held up the others: {:?}", began.elapsed());
    let six = world.until_running(6);
    assert!(
        six.iter().filter(|(name, _)| name.starts_with("late")).all(|(_, (node, _))| node == "n2"),
        "{six:?}"
    );
    world.set_cable(1, "up");
    world.until_node_is("n1", "active");
    let back = world.until_running(8);
    for (name, run) in &before {
        assert_eq!(back.get(name), Some(run), "{name} was started again for a cable");
    }
    world.nothing_is_doubled();

    // Slow, and it loses packets: it takes longer, and that is all.
    world.spoil_cable(2);
    world.chassis.ok(&["scale", "agent", &format!("{}/web", world.fleet), "8"]);
    let twelve = world.until_running(12);
    assert!(twelve.values().filter(|(node, _)| node == "n2").count() > 4, "it gets its part: {twelve:?}");
    world.mend_cable(2);
    world.until_node_is("n2", "active");
    world.nothing_is_doubled();

    // Killed: containers outlive the node's process; what was only in its memory is made anew, where it was.
    let container = format!("chassis-{}-real-1", world.fleet);
    let since = world.dockerd.docker().runs_since(&container).expect("it runs");
    let docker_runs = |world: &World| world.dockerd.docker().runs_since(&container);
    world.machine("n3").kill();
    world.machine("n2").kill();
    eventually(NOTICED, || {
        let running = world.running();
        expect(running.values().all(|(node, _)| node == "n1"), || format!("{running:?}"))
    });
    assert_eq!(docker_runs(&world).as_ref(), Some(&since), "its container goes on without it");
    world.machine("n3").resume();
    world.machine("n2").resume();
    let again = world.until_running(12);
    assert_eq!(docker_runs(&world).as_ref(), Some(&since), "and is the same when it is back");
    for name in ["real-1", "real-2"] {
        assert_eq!(again.get(name), before.get(name), "{name} was started again");
    }
    world.nothing_is_doubled();

    // The server is killed: machines go on, and the next one finds everything where it is.
    world.server.kill();
    world.server = world.chassis.serve();
    let found = world.until_running(12);
    assert_eq!(found, again, "another server finds what there is");
    world.nothing_is_doubled();

    // Emptied, and gone for good.
    world.chassis.ok(&["node", "drain", "n1", "--wait"]);
    let moved = world.until_running(12);
    assert!(moved.values().all(|(node, _)| node != "n1"), "{moved:?}");
    world.chassis.ok(&["node", "remove", "n1"]);
    let confirm = format!("--confirm={}", world.fleet);
    world.chassis.ok(&["delete", "fleet", &world.fleet, "--cleanup", &confirm]);
    let left = world.dockerd.docker().labelled(&format!("chassis.fleet={}", world.fleet));
    assert!(left.is_empty(), "{left:?}");
    eventually(SOON, || {
        let node = world.node("n2");
        expect(node["held"] == serde_json::json!([]) && node["used"]["slots"] == 0, || node.to_string())
    });
}
