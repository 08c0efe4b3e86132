//! Runs the real binary, with nothing of the machine's own settings.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What a command printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A directory of its own for a test, and commands that know no other.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// A command in this directory that starts no server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chassis"));
        command
            .args(args)
            .env_clear()
            .env("CHASSIS_DATA_DIR", self.data_dir())
            .env("CHASSIS_NO_AUTOSTART", "1")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Ran {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.ran(self.command(&args).output().unwrap())
    }

    pub(crate) fn run_with_input(&self, line: &str, input: &str) -> Ran {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut command = self.command(&args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that does not read its input closes it: no failure of the test.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        self.ran(child.wait_with_output().unwrap())
    }

    /// What a command did, with this directory's path written as `<dir>`.
    pub(crate) fn ran(&self, output: Output) -> Ran {
        let text = |bytes| {
            String::from_utf8(bytes).unwrap().replace(&self.dir.path().display().to_string(), "<dir>")
        };
        Ran { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn ok(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 0, "{line}: {}{}", ran.stdout, ran.stderr);
        ran.stdout
    }
}

impl Drop for Place {
    /// A test that fails leaves no server behind either.
    fn drop(&mut self) {
        if self.data_dir().join(".server/socket").exists() {
            self.run("server stop");
        }
    }
}

/// A server on simulated instances.
pub(crate) struct Server {
    child: Child,
    pub(crate) place: Place,
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::start_with(&[], &[])
    }

    pub(crate) fn start_with(args: &[&str], variables: &[(&str, &str)]) -> Server {
        let place = Place::new();
        let child = spawn(&place, args, variables, Stdio::null());
        Server { child, place }
    }

    /// One whose log is in [`Server::log`].
    pub(crate) fn start_logging(args: &[&str], variables: &[(&str, &str)]) -> Server {
        let place = Place::new();
        let log = std::fs::File::create(place.dir.path().join("log")).unwrap();
        let child = spawn(&place, args, variables, log.into());
        Server { child, place }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.place.dir.path().join("log")).unwrap()
    }

    /// `http://127.0.0.1:port`
    pub(crate) fn url(&self) -> String {
        let status = self.place.ok("server status -o json");
        let begin = status.find("http://127.0.0.1").unwrap_or_else(|| panic!("{status}"));
        status[begin..].chars().take_while(|c| *c != '"').collect()
    }

    pub(crate) fn master_token(&self) -> String {
        let path = self.place.data_dir().join(".server/master-token");
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Until it has died by itself.
    pub(crate) fn wait_for_end(&mut self) {
        self.child.wait().unwrap();
    }

    /// Asks it to end, and does not wait until it has.
    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.start_again_with(&[]);
    }

    pub(crate) fn start_again_with(&mut self, args: &[&str]) {
        self.child = spawn(&self.place, args, &[], Stdio::null());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(place: &Place, args: &[&str], variables: &[(&str, &str)], log: Stdio) -> Child {
    let args = [&["serve", "--runtime", "sim"], args].concat();
    let mut command = place.command(&args);
    let child = command.envs(variables.iter().copied()).stderr(log).spawn().unwrap();
    wait_until("the server answers", || place.run("server status").code == 0);
    child
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        pause(Duration::from_millis(20));
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no worker to block")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Whether a process is there that is not a zombie.
pub(crate) fn runs(pid: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
}
