//! The same for snapshots, on the simulation, which forgets everything with its server: whatever was begun is finished or gone
//! when the next one is there, and what the runtime has lost is said to be lost.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use chassis_testkit::{Answer, Chassis, SOON, Server, eventually, expect};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const PATIENCE: Duration = Duration::from_secs(70);
const OF: &str = "/v1/environments/fuse-t/snapshots";
const SIM: [&str; 2] = ["--runtime", "sim"];

struct World<'a> {
    chassis: Chassis,
    hits: &'a Mutex<BTreeMap<String, u32>>,
}

pub(crate) fn killed_at_every_step(hits: &Mutex<BTreeMap<String, u32>>) {
    let chassis = Chassis::new(BINARY).with_env("CHASSIS_NO_AUTOSTART", "1");
    let world = World { chassis, hits };
    world.live(|| assert_eq!(world.post("/v1/environments", &json!({ "task_id": "t" })).status, 201));

    for (point, left) in [
        ("snapshot_create:before", 0),
        ("snapshot_create:stored", 1),
        ("snapshot_take:before", 1),
        ("snapshot_take:after", 1),
    ] {
        world.die_at(point, |world| world.post(OF, &json!({})));
        world.live(|| {
            eventually(SOON, || {
                let found = world.snapshots();
                let ready = found.iter().filter(|found| found["state"] == "ready").count();
                expect((found.len(), ready) == (left, left), || format!("after {point}: {found:?}"))
            });
            world.clear();
        });
    }
    let acts = [
        ("snapshot_ask:before", "restore"),
        ("snapshot_ask:stored", "restore"),
        ("snapshot_restore:before", "restore"),
        ("snapshot_restore:after", "restore"),
        ("snapshot_delete:before", "delete"),
        ("snapshot_delete:stored", "delete"),
        ("snapshot_remove:before", "delete"),
        ("snapshot_remove:after", "delete"),
    ];
    for (point, act) in acts {
        world.die_at(point, |world| {
            let taken = world.post(OF, &json!({}));
            if taken.status != 201 {
                return taken;
            }
            let taken: Value = serde_json::from_str(&taken.body).expect("JSON");
            let one = format!("/v1/snapshots/{}", taken["id"].as_str().expect("an id"));
            match act {
                "restore" => world.post(&format!("{one}?action=restore"), &json!({})),
                _ => world.ask("DELETE", &one),
            }
        });
        world.live(|| {
            eventually(SOON, || {
                let found = world.snapshots();
                let gone = act == "delete" && point != "snapshot_delete:before";
                let lost = found.len() == 1 && found[0]["state"] == "error";
                expect(if gone { found.is_empty() } else { lost }, || format!("after {point}: {found:?}"))
            });
            world.clear();
        });
    }
}

impl World<'_> {
    /// Asks a server that dies there, once its environment runs again.
    fn die_at(&self, point: &str, ask: impl Fn(&Self) -> Answer) {
        let mut server = self.chassis.serve_with(&SIM, &[("CHASSIS_FAILPOINT", &format!("{point}@1"))]);
        eventually(SOON, || {
            let status = ask(self).status;
            expect(server.has_ended(), || format!("it does not come by {point}: {status}"))
        });
        *self.hits.lock().expect("no thread has panicked").entry(point.to_owned()).or_default() += 1;
    }

    fn live(&self, look: impl FnOnce()) {
        let mut server: Server = self.chassis.serve_with(&SIM, &[]);
        look();
        server.kill();
    }

    fn clear(&self) {
        for snapshot in self.snapshots() {
            let path = format!("/v1/snapshots/{}", snapshot["id"].as_str().expect("an id"));
            assert_eq!(self.ask("DELETE", &path).status, 204);
        }
        assert_eq!(self.snapshots(), Vec::<Value>::new());
    }

    fn snapshots(&self) -> Vec<Value> {
        let found: Value = self.chassis.get("/v1/snapshots").expect("the server answers");
        found["snapshots"].as_array().cloned().unwrap_or_default()
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, body.to_string().as_bytes())
    }

    fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, b"")
    }

    /// A server that died has answered nothing.
    fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let none = |_| Answer { status: 0, head: String::new(), body: String::new() };
        self.chassis.exchange(method, path, body, PATIENCE).unwrap_or_else(none)
    }
}
