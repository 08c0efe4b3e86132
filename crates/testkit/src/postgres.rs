//! A Postgres of the test's own, which may be stopped and killed as it likes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Gid, Uid, chown};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::{SOON, Turn, eventually, expect, not_tested, pause};

/// The server, its files and its socket, in a directory of its own; it ends with the test. It listens on the socket
/// only, and whoever reaches that is let in as `chassis`.
#[derive(Debug)]
pub struct Postgres {
    home: TempDir,
    programs: PathBuf,
    child: Option<Child>,
    settings: Vec<String>,
}

impl Postgres {
    /// Started, and answering; without `fsync`, as no test loses its power. `None`, and a word about it, where Postgres
    /// is not installed.
    pub fn start() -> Option<Postgres> {
        Postgres::start_with(&["fsync=off", "full_page_writes=off"])
    }

    /// The same with other settings (`name=value`).
    pub fn start_with(settings: &[&str]) -> Option<Postgres> {
        let Some(programs) = programs() else {
            not_tested(
                "what needs Postgres, because there is no initdb; `apt-get install postgresql`, and run it again",
            );
            return None;
        };
        let template = template(&programs);
        let home = tempfile::Builder::new().prefix("postgres").tempdir().expect("a directory");
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"]).arg(template).arg(home.path().join("data"));
        assert!(copy.status().expect("cp runs").success(), "the database cannot be copied");
        give_away(home.path());
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut postgres = Postgres { home, programs, child: None, settings };
        postgres.begin();
        Some(postgres)
    }

    /// Makes an empty database, and returns its URL.
    pub fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
        self.url(&name)
    }

    /// The URL of a database by name.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres:///{database}?user=chassis&port={}&host={}",
            self.port(),
            self.home.path().display()
        )
    }

    /// 5432, which needs no other number in a directory of its own, unless a setting says otherwise.
    fn port(&self) -> &str {
        self.settings.iter().find_map(|setting| setting.strip_prefix("port=")).unwrap_or("5432")
    }

    /// Runs a statement, and returns what it says without ornaments.
    #[track_caller]
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let output = Command::new(self.programs.join("psql"))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement])
            .arg(self.url(database))
            .output()
            .expect("psql runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statement}: {said}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Its directory, where its socket is.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts it again.
    pub fn begin(&mut self) {
        let log = File::options().create(true).append(true).open(self.home.path().join("log"));
        let log = log.expect("a log file");
        let mut command = Command::new("setpriv");
        // It goes with the thread of the test, whatever becomes of that.
        command.args(["--pdeathsig", "KILL"]);
        if geteuid().is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        command.arg(self.programs.join("postgres")).arg("-D").arg(self.home.path().join("data"));
        let socket = format!("unix_socket_directories={}", self.home.path().display());
        for setting in ["listen_addresses=", &socket, "shared_buffers=16MB", "max_connections=100"] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let spawned =
            command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log).spawn();
        self.child = Some(spawned.expect("postgres runs"));
        eventually(SOON, || {
            expect(self.answers(), || {
                let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
                format!("Postgres does not answer: {log}")
            })
        });
    }

    fn answers(&self) -> bool {
        let mut command = Command::new(self.programs.join("pg_isready"));
        let asked = command.args(["-q", "-p", self.port(), "-h"]).arg(self.home.path()).status();
        asked.expect("pg_isready runs").success()
    }

    /// Ends it as a machine does that shuts down: who is connected is cut off.
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// Ends it at once, so that it has to recover from its log when it begins again.
    pub fn crash(&mut self) {
        self.end(Signal::QUIT);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        self.signal(child.id(), signal);
        let _ = child.wait();
    }

    /// Stops all its processes where they are: connections stay, and nothing answers.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        let Some(parent) = self.child.as_ref().map(Child::id) else { return };
        self.signal(parent, signal);
        for child in crate::process::children(parent) {
            self.signal(child, signal);
        }
        pause(std::time::Duration::from_millis(50));
    }

    #[expect(clippy::unused_self, reason = "only of its own processes")]
    fn signal(&self, pid: u32, signal: Signal) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.thaw();
        self.crash();
    }
}

/// Where the programs of the newest Postgres are.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, path)| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path)
}

/// A data directory that was made once, for all tests to copy.
fn template(programs: &Path) -> PathBuf {
    let _turn = Turn::take("postgres-template");
    let version = programs.parent().and_then(Path::file_name).unwrap_or_default().display().to_string();
    let home = std::env::temp_dir().join(format!("chassis-postgres-{version}-{}", geteuid().as_raw()));
    let (data, complete) = (home.join("data"), home.join("complete"));
    if complete.exists() {
        return data;
    }
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home).expect("a directory");
    give_away(&home);
    let mut command = Command::new("setpriv");
    if geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(programs.join("initdb"));
    command.args(["--auth=trust", "--username=chassis", "--no-sync", "--locale=C", "--encoding=UTF8"]);
    let output = command.arg("--wal-segsize=1").arg("-D").arg(&data).output().expect("initdb runs");
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(complete, "").expect("a file");
    data
}

/// Postgres refuses to be root: its files are those of its own user.
fn give_away(path: &Path) {
    if !geteuid().is_root() {
        return;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("the users");
    let line = passwd.lines().find(|line| line.starts_with("postgres:")).expect("the user postgres");
    let ids: Vec<u32> = line.split(':').skip(2).take(2).filter_map(|id| id.parse().ok()).collect();
    chown(path, Some(Uid::from_raw(ids[0])), Some(Gid::from_raw(ids[1]))).expect("root may do that");
}
