//! Clients that change things through all servers all the time, one thing at a time each, and write down what they asked
//! and what they were told. Every client has objects of its own, so that it knows what they should be.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chassis_testkit::{Chassis, pause};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::world::World;

const CLIENTS: u32 = 4;
/// How long a client waits for an answer: a server that is stopped gives none.
const PATIENCE: Duration = Duration::from_secs(3);

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) server: usize,
    pub(crate) what: What,
    /// Since the load began.
    pub(crate) invoked: Duration,
    pub(crate) answered: Duration,
    pub(crate) outcome: Outcome,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    FleetCreate {
        fleet: String,
    },
    FleetDelete {
        fleet: String,
    },
    SecretWrite {
        fleet: String,
        name: String,
    },
    /// The token is in the definition, and in no other.
    Apply {
        fleet: String,
        agent: String,
        token: String,
        count: u32,
    },
    Scale {
        fleet: String,
        agent: String,
        count: u32,
    },
    AgentDelete {
        fleet: String,
        agent: String,
    },
}

/// What a client knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acknowledged,
    /// Nothing may have been changed: a problem's code, or that no server was there.
    Refused(String),
    /// It may have been done or not, or may yet be.
    Unknown(String),
}

pub(crate) struct Load {
    clients: Vec<JoinHandle<Vec<Operation>>>,
    ended: Arc<AtomicBool>,
}

struct Client {
    chassis: Arc<Vec<Chassis>>,
    taking_part: Arc<AtomicUsize>,
    chance: Chance,
    /// Its own fleet, with the agents `a`, which is scaled and revised, and `b`, which comes and goes.
    fleet: String,
    image: String,
    began: Instant,
    operations: Vec<Operation>,
    /// Counts what must be unique.
    unique: u32,
    empty_fleet: Option<String>,
    has_b: bool,
}

impl Load {
    pub(crate) fn start(world: &World, seed: u64) -> Load {
        let ended = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let clients = (0..CLIENTS)
            .map(|number| {
                let client = Client {
                    chassis: Arc::clone(&world.chassis),
                    taking_part: Arc::clone(&world.taking_part),
                    chance: Chance::new(seed ^ (u64::from(number) << 40)),
                    fleet: world.fleet(&format!("c{number}")),
                    image: world.image.clone(),
                    began,
                    operations: Vec::new(),
                    unique: 0,
                    empty_fleet: None,
                    has_b: false,
                };
                let ended = Arc::clone(&ended);
                thread::spawn(move || client.run(&ended))
            })
            .collect();
        Load { clients, ended }
    }

    pub(crate) fn stop(self) -> Vec<Operation> {
        self.ended.store(true, Ordering::Relaxed);
        let operations = self.clients.into_iter().map(|client| client.join().expect("a client"));
        operations.flatten().collect()
    }
}

impl Client {
    fn run(mut self, ended: &AtomicBool) -> Vec<Operation> {
        let fleet = self.fleet.clone();
        self.until_acknowledged(&What::FleetCreate { fleet }, ended);
        let apply = self.apply("a", 1);
        self.until_acknowledged(&apply, ended);
        while !ended.load(Ordering::Relaxed) {
            let what = self.choose();
            self.ask(what);
            pause(Duration::from_millis(self.chance.between(50, 250).into()));
        }
        self.operations
    }

    /// What everything else needs. Asked again as it is: what was done already is refused, and that is an answer too.
    fn until_acknowledged(&mut self, what: &What, ended: &AtomicBool) {
        while !ended.load(Ordering::Relaxed) {
            match self.ask(what.clone()) {
                Outcome::Acknowledged => return,
                Outcome::Refused(code) if code.ends_with("_exists") => return,
                _ => pause(Duration::from_millis(200)),
            }
        }
    }

    fn choose(&mut self) -> What {
        let fleet = self.fleet.clone();
        match self.chance.below(100) {
            0..45 => {
                let name = format!("s{}", self.chance.below(3));
                What::SecretWrite { fleet, name }
            }
            45..75 => {
                if let Some(fleet) = self.empty_fleet.take() {
                    What::FleetDelete { fleet }
                } else {
                    self.unique += 1;
                    let fleet = format!("{fleet}-{}", self.unique);
                    self.empty_fleet = Some(fleet.clone());
                    What::FleetCreate { fleet }
                }
            }
            75..88 => What::Scale { fleet, agent: "a".to_owned(), count: self.chance.between(1, 2) },
            88..93 => {
                let count = self.chance.between(1, 2);
                self.apply("a", count)
            }
            _ if self.has_b => {
                self.has_b = false;
                What::AgentDelete { fleet, agent: "b".to_owned() }
            }
            _ => {
                self.has_b = true;
                self.apply("b", 1)
            }
        }
    }

    fn apply(&mut self, agent: &str, count: u32) -> What {
        self.unique += 1;
        let fleet = self.fleet.clone();
        let token = format!("token-{}-{}", fleet, self.unique);
        What::Apply { fleet, agent: agent.to_owned(), token, count }
    }

    fn ask(&mut self, what: What) -> Outcome {
        let servers = u32::try_from(self.taking_part.load(Ordering::Relaxed)).unwrap_or(1);
        let server = self.chance.below(servers) as usize;
        let (method, target, body) = self.request(&what);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let invoked = self.began.elapsed();
        let answer = self.chassis[server].exchange(method, &target, body.as_bytes(), PATIENCE);
        let outcome = match answer {
            Ok(answer) => outcome(answer.status, &answer.body),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Outcome::Refused("unreachable".to_owned())
            }
            Err(error) => Outcome::Unknown(error.kind().to_string()),
        };
        let answered = self.began.elapsed();
        self.operations.push(Operation { server, what, invoked, answered, outcome: outcome.clone() });
        outcome
    }

    fn request(&self, what: &What) -> (&'static str, String, Value) {
        match what {
            What::FleetCreate { fleet } => {
                ("POST", "/api/v1/fleets".to_owned(), json!({ "name": fleet, "labels": {} }))
            }
            What::FleetDelete { fleet } => {
                ("DELETE", format!("/api/v1/fleets/{fleet}?cleanup=true"), Value::Null)
            }
            What::SecretWrite { fleet, name } => {
                ("PUT", format!("/api/v1/secrets/{fleet}/{name}?replace=true"), json!("a value"))
            }
            What::Apply { fleet, agent, token, count } => {
                let spec = json!({
                    "name": agent,
                    "fleet": fleet,
                    "image": self.image,
                    "replicas": count,
                    "command": ["sleep", "99999"],
                    "stop": { "grace": "1s" },
                    "env": [{ "name": "TOKEN", "value": token }],
                });
                ("POST", format!("/api/v1/fleets/{fleet}/apply"), json!({ "agents": [spec] }))
            }
            What::Scale { fleet, agent, count } => {
                ("POST", format!("/api/v1/fleets/{fleet}/scale"), json!({ "agent": agent, "count": count }))
            }
            What::AgentDelete { fleet, agent } => {
                ("DELETE", format!("/api/v1/fleets/{fleet}/agents/{agent}?cleanup=true"), Value::Null)
            }
        }
    }
}

fn outcome(status: u16, body: &str) -> Outcome {
    let problem: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let code = problem["code"].as_str().unwrap_or("no code").to_owned();
    match status {
        200..300 => Outcome::Acknowledged,
        // The server says itself that it does not know, or is out of its mind.
        _ if code == "outcome_unknown" || status == 500 => Outcome::Unknown(code),
        _ => Outcome::Refused(code),
    }
}
