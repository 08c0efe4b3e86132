//! The same for nodes: their server dies while it takes one off for good, and while data is removed from one that was away.

use std::collections::BTreeMap;
use std::sync::Mutex;

use chassis_testkit::{Chassis, Machine, SOON, Server, eventually, expect};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const SIM: [&str; 2] = ["--runtime", "sim"];

struct World<'a> {
    chassis: Chassis,
    fleet: String,
    hits: &'a Mutex<BTreeMap<String, u32>>,
}

pub(crate) fn killed_at_every_step(hits: &Mutex<BTreeMap<String, u32>>) {
    let chassis = Chassis::new(BINARY).with_env("CHASSIS_NO_AUTOSTART", "1");
    let fleet = chassis.fleet("nodes");
    let world = World { chassis, fleet, hits };
    let fleet = &world.fleet;
    let machine = Machine::start(Chassis::new(BINARY), &[&["--name", "n1"], &SIM[..]].concat());

    // Data of an instance that is no more, on the node.
    let mut server = world.live();
    world.chassis.ok(&["create", "fleet", fleet]);
    machine.join(&world.chassis, &[]).exits(0);
    let yaml = format!(
        "name: db\nfleet: {fleet}\nimage: any\nruntime: sim\nplacement: {{node: n1}}\n\
         volumes: [{{name: data, mountPath: /data}}]\n"
    );
    world.chassis.deploy(&yaml).exits(0);
    let agent = format!("{fleet}/db");
    world.chassis.ok(&["scale", "agent", &agent, "0"]);
    let key = json!([{ "fleet": fleet, "agent": "db", "number": 1 }]);
    assert_eq!(world.node()["dataOf"], key);

    // It goes with the agent, though the node is away, and the server that should see to it dies twice.
    machine.freeze();
    server.kill();
    let mut server = world.armed("owe:after");
    world.chassis.run(&["delete", "agent", &agent, "--cleanup", "--no-wait"]);
    world.dies_at(&mut server, "owe:after");
    let mut server = world.live();
    eventually(SOON, || {
        let (status, found) = world.chassis.ask("GET", &format!("/api/v1/fleets/{fleet}/agents/db"));
        expect(status == 404, || found.clone())
    });
    assert_eq!(world.node()["dataOf"], Value::Null);
    server.kill();
    let mut server = world.armed("pay:before");
    machine.thaw();
    world.dies_at(&mut server, "pay:before");
    let mut server = world.live();
    eventually(SOON, || expect(world.owed() == 0, || format!("{} are owed", world.owed())));

    // Gone for good: that is so from the moment that it is stored.
    machine.freeze();
    server.kill();
    let changed = world.database().execute("UPDATE nodes SET is_down = TRUE WHERE name = 'n1'", []);
    assert_eq!(changed.expect("a statement"), 1);
    let mut server = world.armed("node_abandon:after");
    world.chassis.run(&["node", "remove", "n1", "--force", "--yes"]).exits(1);
    world.dies_at(&mut server, "node_abandon:after");
    let mut server = world.live();
    world.chassis.run(&["node", "describe", "n1"]).exits(3);
    server.kill();
}

impl World<'_> {
    fn live(&self) -> Server {
        self.chassis.serve_with(&SIM, &[])
    }

    fn armed(&self, point: &str) -> Server {
        self.chassis.serve_with(&SIM, &[("CHASSIS_FAILPOINT", &format!("{point}@1"))])
    }

    fn dies_at(&self, server: &mut Server, point: &str) {
        eventually(SOON, || expect(server.has_ended(), || format!("it does not come by {point}")));
        *self.hits.lock().expect("no thread has panicked").entry(point.to_owned()).or_default() += 1;
    }

    fn node(&self) -> Value {
        let shown = self.chassis.ok(&["node", "describe", "n1", "-o", "json"]);
        serde_json::from_str(&shown.stdout).expect("JSON")
    }

    fn database(&self) -> rusqlite::Connection {
        let path = self.chassis.data_dir().join(".server/chassis.db");
        rusqlite::Connection::open(path).expect("a store")
    }

    /// What is still to be removed from nodes; read beside the server, which writes.
    fn owed(&self) -> u64 {
        self.database().query_row("SELECT count(*) FROM owed", [], |row| row.get(0)).expect("a count")
    }
}
