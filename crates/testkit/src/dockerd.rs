//! An Engine of the test's own, which may be stopped and killed as it likes.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Docker, Namespace, SOON, eventually, expect, not_tested, pause, process};

/// A second dockerd beside the machine's: with its own containerd, files and socket. It lives in a network namespace of
/// its own, because two that share one remove each other's bridges. It needs root.
#[derive(Debug)]
pub struct Dockerd {
    home: TempDir,
    child: Option<Child>,
    /// It sets rules of iptables and publishes ports, as the machine's own does.
    networked: bool,
    maps_users: bool,
}

/// The first of the host's users and groups that those of a mapping Engine's containers are.
pub const MAPPED: u32 = 231_072;

impl Dockerd {
    /// Started, and answering.
    pub fn new() -> Dockerd {
        Dockerd::begin(false, false)
    }

    /// One whose containers reach beyond their network, as far as its namespace goes.
    pub fn networked() -> Dockerd {
        Dockerd::begin(true, false)
    }

    /// One that maps users (`userns-remap`). Whom it maps to stands in files that only it sees: those of the machine are
    /// left alone. `None`, and a word about it, where that cannot be.
    pub fn mapping_users() -> Option<Dockerd> {
        let files = ["/etc/subuid", "/etc/subgid"];
        if let Some(missing) = files.iter().find(|file| !Path::new(file).exists()) {
            not_tested(&format!(
                "an Engine that maps users, without {missing}; `touch {missing}` and run it again"
            ));
            return None;
        }
        Some(Dockerd::begin(false, true))
    }

    fn begin(networked: bool, maps_users: bool) -> Dockerd {
        let home = tempfile::Builder::new().prefix("dockerd").tempdir().expect("a directory");
        // What is mapped passes through to its own files.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).expect("a mode");
        let mut dockerd = Dockerd { home, child: None, networked, maps_users };
        dockerd.start();
        dockerd
    }

    /// The network that it and its bridges are in, while it runs.
    #[track_caller]
    pub fn namespace(&self) -> Namespace {
        Namespace::of_process(self.child.as_ref().expect("it runs").id())
    }

    pub fn docker(&self) -> Docker {
        Docker::at(self.path("sock"))
    }

    /// Its process; none while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Makes the images of the examples, by `examples/images.sh`.
    pub fn make_example_images(&self, repository: &Path) {
        let output = Command::new("examples/images.sh")
            .current_dir(repository)
            .env("DOCKER_HOST", format!("unix://{}", self.path("sock").display()))
            .output()
            .expect("the script runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the examples' images cannot be made: {said}");
    }

    pub fn start(&mut self) {
        self.launch();
        eventually(SOON, || {
            expect(self.docker().answers(), || {
                let log = fs::read_to_string(self.path("log")).unwrap_or_default();
                format!("dockerd does not answer: {log}")
            })
        });
    }

    fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).expect("a log file");
        if self.maps_users {
            let mapping = format!("nobody:{MAPPED}:65536\nnogroup:{MAPPED}:65536\n");
            fs::write(self.path("mapping"), mapping).expect("a file");
        }
        // One that was killed leaves these behind. Where nobody reaps orphans, they seem to name living processes.
        for stale in ["pid", "exec/containerd/containerd.pid"] {
            let _ = fs::remove_file(self.path(stale));
        }
        let child = Command::new("unshare")
            .args([
                "--net",
                if self.maps_users { "--mount" } else { "--net" },
                "--",
                "/bin/sh",
                "-c",
                "set -e; /bin/busybox ip link set lo up; cd \"$0\"
                 if [ -e mapping ]; then
                     mount --bind mapping /etc/subuid; mount --bind mapping /etc/subgid
                     set -- --userns-remap=nobody:nogroup \"$@\"
                 fi
                 exec dockerd \"$@\"",
            ])
            .arg(self.home.path())
            .args(if self.networked {
                [].as_slice()
            } else {
                &["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"]
            })
            .args(["--bridge=none", "--log-level=warn"])
            .arg(format!("--host=unix://{}", self.path("sock").display()))
            .arg(format!("--data-root={}", self.path("root").display()))
            .arg(format!("--exec-root={}", self.path("exec").display()))
            .arg(format!("--pidfile={}", self.path("pid").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("dockerd is installed");
        self.child = Some(child);
    }

    /// As the machine does when it shuts down: containers are stopped.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// SIGKILL; what ran under it goes with it.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Has one that was killed forget that a container runs: so it is left if that happens while it starts the container.
    pub fn forget_run(&self, container: &str) {
        assert!(self.child.is_none(), "an Engine writes its own files while it runs");
        let path = self.path("root/containers").join(container).join("config.v2.json");
        let text = fs::read_to_string(&path).expect("Docker's record of a container");
        let mut record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        record["State"]["Running"] = false.into();
        record["State"]["Pid"] = 0.into();
        fs::write(&path, record.to_string()).expect("a file");
    }

    /// Leaves behind of a container what an Engine does that is killed while it starts or ends a run: the directory of its task,
    /// in the way of each later start.
    pub fn task_leave(&self, container: &str) {
        let tasks = self.path("exec/containerd/daemon/io.containerd.runtime.v2.task/moby");
        fs::create_dir_all(tasks.join(container)).expect("a directory");
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
        let _ = child.wait();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Default for Dockerd {
    fn default() -> Self {
        Dockerd::new()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if self.child.is_none() {
            // Only it can end what runs under it.
            self.launch();
            let deadline = Instant::now() + SOON;
            while !self.docker().answers() && Instant::now() < deadline {
                pause(Duration::from_millis(50));
            }
        }
        self.end(Signal::TERM);
        // Those of an Engine that was killed may be nobody's any more.
        let home = self.home.path().display().to_string();
        process::end_all(|line| line.contains("containerd-shim") && line.contains(&home));
        for directory in ["root", "exec/netns"] {
            unmount_below(&self.path(directory));
        }
    }
}

/// What an Engine leaves mounted would keep its directory.
fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(path).starts_with(directory) {
            let _ = Command::new("umount").args(["--lazy", "--quiet", path]).status();
        }
    }
}
