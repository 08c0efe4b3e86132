//! The soak's own Engine, chassis and fleets, and a person who types commands that must not fail or hang.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chassis_testkit::{Chassis, Docker, Dockerd, Image, Server, pause};
use serde_json::{Value, json};

use crate::agents::{Agent, Target, agents};
use crate::watch::Pids;

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
/// A command that takes longer hangs: none of them waits for anything but the server's answer.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct World {
    // Ended before its containers are taken away, or it would make them anew.
    server: Option<Server>,
    pub(crate) chassis: Chassis,
    pub(crate) docker: Docker,
    pub(crate) dockerd: Dockerd,
    pub(crate) agents: Vec<Agent>,
    image: String,
    pids: Arc<Pids>,
    commands: u32,
    /// What went wrong so far; each line makes the soak fail.
    pub(crate) violations: Vec<String>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) well: bool,
    pub(crate) output: String,
}

impl World {
    pub(crate) fn new(instances: u32, pids: Arc<Pids>) -> World {
        let dockerd = Dockerd::new();
        let docker = dockerd.docker();
        let chassis = Chassis::new(BINARY).on_docker(&docker).with_env("CHASSIS_NO_AUTOSTART", "1");
        let agents = agents(|name| chassis.fleet(name), instances);
        let image = Image::busybox().build_on(&docker);
        let mut world = World {
            chassis,
            docker,
            dockerd,
            agents,
            server: None,
            image,
            pids,
            commands: 0,
            violations: Vec::new(),
        };
        world.server_start();
        world
    }

    /// Deploys everything.
    pub(crate) fn deploy(&mut self) {
        self.chassis.write("key", "a-secret");
        for fleet in self.fleets() {
            self.must(&["create", "fleet", &fleet]);
            self.must(&["secret", "create", &format!("{fleet}/key"), "--from-file", "key"]);
        }
        for index in 0..self.agents.len() {
            self.agent_deploy(index);
        }
    }

    /// Deploys one agent as it is now.
    pub(crate) fn agent_deploy(&mut self, index: usize) {
        let file =
            self.chassis.write("agent.yaml", &self.agents[index].yaml(&self.image)).display().to_string();
        self.must(&["deploy", "agent", "-f", &file, "--no-wait"]);
    }

    pub(crate) fn fleets(&self) -> Vec<String> {
        let mut fleets: Vec<String> = self.agents.iter().map(|agent| agent.fleet.clone()).collect();
        fleets.dedup();
        fleets
    }

    /// Every instance that is to be there.
    pub(crate) fn targets(&self) -> Vec<Target> {
        self.agents.iter().flat_map(Agent::targets).collect()
    }

    pub(crate) fn tier1(&self, target: &Target) -> PathBuf {
        self.chassis.data_dir().join(target.directory())
    }

    // === the server ===

    pub(crate) fn server_start(&mut self) {
        let server = self.chassis.serve();
        self.pids.server.store(server.pid(), Ordering::Relaxed);
        self.server = Some(server);
    }

    pub(crate) fn server_kill(&mut self) {
        self.pids.server.store(0, Ordering::Relaxed);
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    pub(crate) fn server_pid(&self) -> u32 {
        self.server.as_ref().map_or(0, Server::pid)
    }

    /// Notes it if the server ended by itself, and starts another.
    pub(crate) fn server_check(&mut self) {
        if self.server.as_mut().is_some_and(Server::has_ended) {
            self.violations.push("the server ended by itself".to_owned());
            self.server_start();
        }
    }

    pub(crate) fn server_log(&self) -> String {
        self.server.as_ref().map(Server::log).unwrap_or_default()
    }

    // === the Engine ===

    pub(crate) fn engine_restart(&mut self, killed: bool) {
        self.pids.dockerd.store(0, Ordering::Relaxed);
        if killed {
            self.dockerd.kill();
        } else {
            self.dockerd.stop();
        }
        self.dockerd.start();
        self.note_engine();
    }

    pub(crate) fn note_engine(&self) {
        self.pids.dockerd.store(self.dockerd.pid().unwrap_or(0), Ordering::Relaxed);
    }

    /// Does something to an instance's container; false if there is none, or not in that state.
    pub(crate) fn container_do(&self, target: &Target, what: &str) -> bool {
        self.docker.attempt("POST", &format!("/containers/{}/{what}", target.container()), &Value::Null)
    }

    pub(crate) fn container_remove(&self, target: &Target) -> bool {
        self.docker.attempt(
            "DELETE",
            &format!("/containers/{}?force=1&v=1", target.container()),
            &Value::Null,
        )
    }

    pub(crate) fn container_disconnect(&self, target: &Target) -> bool {
        let network = format!("chassis-{}", target.fleet);
        let body = json!({ "Container": target.container(), "Force": true });
        self.docker.attempt("POST", &format!("/networks/{network}/disconnect"), &body)
    }

    /// The process of an instance's init; none if it does not run.
    pub(crate) fn init(&self, target: &Target) -> Option<u32> {
        let pid = self.docker.inspect(&target.container())?["State"]["Pid"].as_u64()?;
        u32::try_from(pid).ok().filter(|pid| *pid != 0)
    }

    // === a person ===

    /// Types a command that must succeed.
    pub(crate) fn must(&mut self, args: &[&str]) -> Answer {
        let answer = self.ask(args);
        if !answer.well {
            self.violations.push(format!("`chassis {}` failed: {}", args.join(" "), answer.output.trim()));
        }
        answer
    }

    /// Types a command that may fail, but must end.
    pub(crate) fn ask(&mut self, args: &[&str]) -> Answer {
        self.commands += 1;
        let path = self.chassis.home().join("answer");
        let output = File::create(&path).expect("a file");
        let mut child = self
            .chassis
            .command(args)
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .expect("chassis runs");
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break Some(status);
            }
            if began.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                self.violations.push(format!("`chassis {}` hangs for {PATIENCE:?}", args.join(" ")));
                break None;
            }
            pause(Duration::from_millis(5));
        };
        Answer {
            well: status.is_some_and(|status| status.success()),
            output: String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned(),
        }
    }

    /// Types a command that goes on, such as a follower.
    pub(crate) fn follow(&mut self, args: &[&str]) -> Child {
        self.commands += 1;
        self.chassis.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("chassis runs")
    }

    pub(crate) fn commands(&self) -> u32 {
        self.commands
    }
}

/// What a test's servers and Engine are now, for those who watch them.
pub(crate) fn pid(of: &AtomicU32) -> Option<u32> {
    Some(of.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
}
