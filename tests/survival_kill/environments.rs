//! The same for environments: their server dies at each step of their lives, and what a program asked for is there once,
//! or gone, when the next one is there.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use chassis_testkit::{Answer, Chassis, Image, SOON, Turn, eventually, expect};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const PATIENCE: Duration = Duration::from_secs(70);
const ALL: &str = "/v1/environments";
const ONE: &str = "/v1/environments/fuse-t";

struct World<'a> {
    chassis: Chassis,
    image: String,
    hits: &'a Mutex<BTreeMap<String, u32>>,
}

pub(crate) fn killed_at_every_step(hits: &Mutex<BTreeMap<String, u32>>) {
    // Their fleet has one name.
    let _turn = Turn::take("environments");
    let chassis = Chassis::new(BINARY).with_env("CHASSIS_NO_AUTOSTART", "1");
    let world = World { chassis, image: Image::busybox().build(), hits };

    for point in ["environment_create:before", "environment_create:stored", "environment_run:before"] {
        world.die_at(point, "POST", ALL, &world.request(0));
        world.live(|| {
            world.made();
            assert_eq!(world.ask("DELETE", ONE, &Value::Null).status, 204);
            world.check_containers(0);
        });
    }

    world.live(|| world.made());
    let rotate = format!("{ONE}?action=rotate-token");
    for point in ["environment_token:before", "environment_token:stored"] {
        world.die_at(point, "POST", &rotate, &Value::Null);
        world.live(|| assert_eq!(world.ask("POST", &rotate, &Value::Null).status, 204));
    }
    let drain = format!("{ONE}?action=drain");
    for point in ["environment_drain:before", "environment_drain:stored"] {
        world.die_at(point, "POST", &drain, &Value::Null);
    }
    world.live(|| {
        let drained = world.ask("POST", &drain, &Value::Null);
        assert!(drained.status == 200 && drained.body.contains("draining"), "{drained:?}");
        world.check_containers(1);
    });
    for point in ["environment_destroy:before", "environment_destroy:stored"] {
        world.die_at(point, "DELETE", ONE, &Value::Null);
    }
    world.live(|| world.gone());

    world.die_at("environment_end:before", "POST", ALL, &world.request(1));
    world.live(|| {
        world.gone();
        let letters: Value = world.chassis.get("/v1/dead-letters").expect("the server answers");
        let letters = letters["dead_letters"].as_array().cloned().unwrap_or_default();
        assert_eq!(letters.len(), 1, "{letters:?}");
    });
}

impl World<'_> {
    /// For an environment that lives so many seconds; 0 for long enough.
    fn request(&self, seconds: u32) -> Value {
        json!({ "task_id": "t", "spec": { "image": self.image, "max_runtime_seconds": seconds } })
    }

    /// Asks a server that dies there.
    fn die_at(&self, point: &str, method: &str, path: &str, body: &Value) {
        let mut server = self.chassis.serve_with(&[], &[("CHASSIS_FAILPOINT", &format!("{point}@1"))]);
        let _ = self.chassis.exchange(method, path, &bytes(body), PATIENCE);
        eventually(SOON, || expect(server.has_ended(), || format!("it does not come by {point}")));
        *self.hits.lock().expect("no thread has panicked").entry(point.to_owned()).or_default() += 1;
    }

    /// Looks at what is there with a server that lives, and kills that too.
    fn live(&self, look: impl FnOnce()) {
        let mut server = self.chassis.serve();
        look();
        server.kill();
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.chassis.exchange(method, path, &bytes(body), PATIENCE).expect("the server answers")
    }

    /// Asks for it, perhaps again, and waits until it runs.
    fn made(&self) {
        let answer = self.ask("POST", ALL, &self.request(0));
        assert!(matches!(answer.status, 201 | 409), "{answer:?}");
        eventually(SOON, || {
            let found = self.ask("GET", ONE, &Value::Null);
            expect(found.body.contains(r#""state":"running""#), || format!("{found:?}"))
        });
        self.check_containers(1);
    }

    fn gone(&self) {
        eventually(SOON, || {
            let found = self.ask("GET", ONE, &Value::Null);
            expect(found.status == 404, || format!("{found:?}"))
        });
        self.check_containers(0);
    }

    fn check_containers(&self, count: usize) {
        let found = self.chassis.docker().labelled(&self.chassis.label());
        assert_eq!(found.len(), count, "{found:?}");
    }
}

fn bytes(body: &Value) -> Vec<u8> {
    if body.is_null() { Vec::new() } else { body.to_string().into_bytes() }
}
