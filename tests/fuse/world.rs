//! A server with environments, and requests as a program makes them.

use std::time::Duration;

use chassis_testkit::{Answer, Chassis, Image, Server, Turn};
use serde_json::{Value, json};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const PATIENCE: Duration = Duration::from_secs(70);

pub(crate) struct World {
    /// Ended first: it would make again what is taken away.
    server: Server,
    pub(crate) chassis: Chassis,
    /// What its environments run.
    pub(crate) image: String,
    /// Their fleet, and so its network on the Engine, has one name: one such server at a time.
    _turn: Option<Turn>,
}

impl World {
    /// Whose instances are in memory only.
    pub(crate) fn sim(args: &[&str]) -> World {
        let chassis = Chassis::new(BINARY);
        let server = chassis.serve_with(&[&["--runtime", "sim"], args].concat(), &[]);
        World { chassis, image: String::new(), server, _turn: None }
    }

    pub(crate) fn docker(args: &[&str]) -> World {
        let turn = Turn::take("environments");
        let chassis = Chassis::new(BINARY);
        let image = Image::busybox().build();
        let server = chassis.serve_with(args, &[]);
        World { chassis, image, server, _turn: Some(turn) }
    }

    /// As `kill -9`, of a server without flags.
    pub(crate) fn kill_and_start(&mut self) {
        self.server.kill();
        self.server = self.chassis.serve();
    }

    pub(crate) fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, body.to_string().as_bytes())
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.chassis.exchange(method, path, body, PATIENCE).expect("the server answers")
    }

    /// The body of a request for an environment of this world's image.
    pub(crate) fn request(&self, task: &str, more: Value) -> Value {
        let mut request = json!({ "task_id": task, "spec": { "image": self.image } });
        let Value::Object(more) = more else { panic!("{more} is no object") };
        for (name, value) in more {
            match (&mut request[&name], value) {
                (Value::Object(known), Value::Object(value)) => known.extend(value),
                (known, value) => *known = value,
            }
        }
        request
    }

    pub(crate) fn create(&self, task: &str, more: Value) -> Answer {
        self.post("/v1/environments", &self.request(task, more))
    }

    #[track_caller]
    pub(crate) fn made(&self, task: &str, more: Value) -> Value {
        let answer = self.create(task, more);
        assert_eq!(answer.status, 201, "{}", answer.body);
        parse(&answer)
    }
}

#[track_caller]
pub(crate) fn parse(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

/// What an error says, which is nothing but its envelope.
#[track_caller]
pub(crate) fn error(answer: &Answer, status: u16, code: &str) -> String {
    let body = parse(answer);
    assert_eq!((answer.status, body["error"]["code"].as_str()), (status, Some(code)), "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{}", answer.body);
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty(), "{}", answer.body);
    message.to_owned()
}
