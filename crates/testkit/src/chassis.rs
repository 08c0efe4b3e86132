//! A throwaway chassis: the binary, a data directory of its own, names of its own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chassis_api::{Instance, InstanceDetail, Phase, ServerInfo};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::leftovers::{self, Claim};
use crate::{Answer, Docker, Namespace, Outcome, SOON, Server, eventually, expect, http};

/// Ends its servers and takes away its containers, networks and files when it is dropped.
#[derive(Debug)]
pub struct Chassis {
    binary: PathBuf,
    home: TempDir,
    data_dir: PathBuf,
    /// What its server alone uses.
    server_dir: PathBuf,
    /// It shares its data directory with another, which takes it away.
    is_guest: bool,
    /// Begins the names of its fleets.
    prefix: String,
    env: Vec<(String, String)>,
    docker: Docker,
    namespace: Option<Namespace>,
    id: OnceLock<String>,
    claim: Claim,
}

impl Chassis {
    /// On the machine's Engine. `binary` is `env!("CARGO_BIN_EXE_chassis")`, which only the tests of the CLI know.
    pub fn new(binary: &str) -> Chassis {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        leftovers::sweep_once();
        let (home, claim) = own_directory();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Chassis {
            binary: binary.into(),
            data_dir: home.path().join("data"),
            server_dir: home.path().join("data/.server"),
            is_guest: false,
            home,
            prefix: format!("t{}-{count}", std::process::id()),
            env: Vec::new(),
            docker: Docker::of_machine(),
            namespace: None,
            id: OnceLock::new(),
            claim,
        }
    }

    /// On another data directory.
    #[must_use]
    pub fn on_data_dir(mut self, data_dir: impl Into<PathBuf>) -> Chassis {
        self.data_dir = data_dir.into();
        self.server_dir = self.data_dir.join(".server");
        self
    }

    /// Another chassis with the same data directory, Engine, environment and names of fleets, and a server of its own, which
    /// is called by the machine's name and `name`. The two need one database; this one is to be dropped first.
    #[must_use]
    pub fn beside(&self, name: &str) -> Chassis {
        let (home, claim) = own_directory();
        Chassis {
            binary: self.binary.clone(),
            data_dir: self.data_dir.clone(),
            server_dir: home.path().join(name),
            is_guest: true,
            home,
            prefix: self.prefix.clone(),
            env: self.env.clone(),
            docker: self.docker.clone(),
            namespace: None,
            id: self.id.clone(),
            claim,
        }
    }

    /// On another Engine.
    #[must_use]
    pub fn on_docker(mut self, docker: &Docker) -> Chassis {
        self.docker = docker.clone();
        let host = format!("unix://{}", docker.socket().display());
        self.with_env("DOCKER_HOST", &host)
    }

    /// In another network, where its servers run too.
    #[must_use]
    pub fn in_namespace(mut self, namespace: Namespace) -> Chassis {
        self.namespace = Some(namespace);
        self
    }

    /// With a variable in the environment of every command, and so of the server.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Chassis {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The directory that commands run in.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A fleet's name that nobody else has.
    pub fn fleet(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// What is in an instance's volume.
    pub fn read(&self, fleet: &str, instance: &str, path: &str) -> String {
        fs::read_to_string(self.data_dir.join(fleet).join(instance).join(path)).unwrap_or_default()
    }

    /// Writes a file where commands run.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.home().join(name);
        fs::write(&path, content).expect("a file");
        path
    }

    // === commands ===

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.namespace {
            Some(namespace) => namespace.command(&self.binary.display().to_string()),
            None => Command::new(&self.binary),
        };
        command
            .args(args)
            .current_dir(self.home())
            .env("CHASSIS_DATA_DIR", &self.data_dir)
            .env("XDG_CONFIG_HOME", self.home().join("settings"))
            .env("CHASSIS_SERVER_DIR", &self.server_dir)
            .env_remove("CHASSIS_SERVER")
            .env_remove("CHASSIS_CONTEXT")
            .env_remove("CHASSIS_TOKEN")
            .env_remove("CHASSIS_LISTEN")
            .env_remove("CHASSIS_NO_AUTOSTART")
            .env_remove("TOKEN_ENCRYPTION_KEY")
            .env("NO_COLOR", "1")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Outcome {
        let output = self.command(args).output().expect("chassis runs");
        self.note_id();
        Outcome::new(format!("chassis {}", args.join(" ")), &output)
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Outcome {
        self.run(args).exits(0)
    }

    /// Starts a command whose output goes to the returned file, for those that follow.
    pub fn spawn(&self, args: &[&str]) -> (Child, PathBuf) {
        let path = self.home().join(format!("output-{}", args.join("-").replace('/', "_")));
        let output = File::create(&path).expect("a file");
        let child = self.command(args).stdout(output).stderr(Stdio::null()).spawn().expect("chassis runs");
        (child, path)
    }

    /// Starts a command whose output nobody ever reads.
    pub fn spawn_unread(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("chassis runs")
    }

    /// Starts a command whose output is thrown away as fast as it comes.
    pub fn spawn_discarding(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("chassis runs")
    }

    /// Deploys agents as `chassis deploy agent -f` does.
    pub fn deploy(&self, yaml: &str) -> Outcome {
        let path = self.write("agent.yaml", yaml);
        self.run(&["deploy", "agent", "-f", &path.display().to_string()])
    }

    // === servers ===

    /// Starts a server in the foreground, and waits until it knows what runs or has ended.
    pub fn serve(&self) -> Server {
        self.serve_with(&[], &[])
    }

    pub fn serve_with(&self, args: &[&str], env: &[(&str, &str)]) -> Server {
        let log = self.home().join("server.log");
        let output = File::options().create(true).append(true).open(&log).expect("a log file");
        let child = self
            .command(&["serve"])
            .args(args)
            .envs(env.iter().copied())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .expect("chassis runs");
        let mut server = Server::new(child, log);
        eventually(SOON, || {
            expect(server.has_ended() || self.is_ready(), || "the server is not ready".to_owned())
        });
        self.note_id();
        server
    }

    /// The process of a server in the background.
    pub fn background_pid(&self) -> Option<u32> {
        leftovers::background_pid(&self.server_dir)
    }

    /// The label that is on everything which is this chassis's.
    #[track_caller]
    pub fn label(&self) -> String {
        self.note_id();
        format!("chassis.server={}", self.id.get().expect("a server was there"))
    }

    /// The address over the network that its server listens on, the first of them.
    #[track_caller]
    pub fn network_address(&self) -> String {
        let info: ServerInfo = self.get("/api/v1/server").expect("the server answers");
        info.listening.get(1).expect("it listens on the network").address.clone()
    }

    /// The token that may do everything there.
    pub fn master_token(&self) -> PathBuf {
        self.data_dir.join(".server/master-token")
    }

    // === the API, for a quick look ===

    pub fn instances(&self) -> Vec<Instance> {
        self.get("/api/v1/instances").expect("the server answers")
    }

    /// One instance, named as `fleet/agent-number`.
    #[track_caller]
    pub fn instance(&self, name: &str) -> InstanceDetail {
        let (fleet, rest) = name.split_once('/').expect("fleet/agent-number");
        let (agent, number) = rest.rsplit_once('-').expect("agent-number");
        self.get(&format!("/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}"))
            .expect("the instance is there")
    }

    /// Waits until an instance is in a phase.
    #[track_caller]
    pub fn until(&self, name: &str, phase: Phase) -> InstanceDetail {
        eventually(SOON, || {
            let found = self.instance(name);
            let instance = &found.instance;
            if instance.phase == phase {
                return Ok(found);
            }
            Err(format!("{name} is {:?} ({:?}), not {phase:?}", instance.phase, instance.message))
        })
    }

    /// Asks the API, and returns the status and the body of its answer.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str) -> (u16, String) {
        let answer = http::request(&self.socket(), method, target, "application/json", b"");
        let answer = answer.expect("the server answers");
        (answer.status, answer.body)
    }

    /// Asks the API for a value.
    pub fn get<T: DeserializeOwned>(&self, target: &str) -> io::Result<T> {
        let answer = http::request(&self.socket(), "GET", target, "application/json", b"")?;
        if answer.status != 200 {
            return Err(io::Error::other(format!("{target}: {} {}", answer.status, answer.body)));
        }
        serde_json::from_str(&answer.body).map_err(io::Error::other)
    }

    /// Asks the API for anything, with a body in JSON or without. Without an answer in time it is an error.
    pub fn exchange(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
        patience: Duration,
    ) -> io::Result<Answer> {
        http::request_within(&self.socket(), method, target, "application/json", body, patience)
    }

    pub fn socket(&self) -> PathBuf {
        self.server_dir.join("socket")
    }

    /// Names of the secret files in memory, over all instances.
    #[track_caller]
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let id = self.id.get().expect("a server was there");
        let directories = leftovers::secret_dirs(id).into_iter().filter_map(|path| fs::read_dir(path).ok());
        directories.flatten().flatten().map(|entry| entry.path()).collect()
    }

    fn is_ready(&self) -> bool {
        // A runtime that does not answer is what some tests are about: its absence is an answer too.
        self.get::<ServerInfo>("/api/v1/server")
            .is_ok_and(|info| info.runtime_version.is_some() || info.runtime_error.is_some())
    }

    fn note_id(&self) {
        if self.id.get().is_none()
            && let Ok(info) = self.get::<ServerInfo>("/api/v1/server")
            && self.id.set(info.id.clone()).is_ok()
        {
            self.claim.note_server(&info.id).expect("a note");
        }
    }

    fn tell_log(&self) {
        for path in [self.home().join("server.log"), self.server_dir.join("log")] {
            let log = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            if !last.is_empty() {
                let _ = io::Write::write_all(
                    &mut io::stderr(),
                    format!("--- {}\n{last}\n", path.display()).as_bytes(),
                );
            }
        }
    }
}

/// A new directory, which another test takes away if this one is killed.
fn own_directory() -> (TempDir, Claim) {
    let home = tempfile::Builder::new().prefix(leftovers::PREFIX).tempdir().expect("a directory");
    let claim = Claim::new(home.path()).expect("a claim");
    (home, claim)
}

impl Drop for Chassis {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_log();
        }
        leftovers::end_server(&self.data_dir, &self.server_dir);
        if self.is_guest {
            return;
        }
        if let Some(id) = self.id.get() {
            leftovers::sweep_server(&self.docker, id);
        }
    }
}
