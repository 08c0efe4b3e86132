//! Network namespaces of the test's own: what is sent in them reaches nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::{Docker, Outcome};

/// The network of a process: a machine as its agents see it. It needs root.
#[derive(Debug, Clone, Copy)]
pub struct Namespace {
    pid: u32,
}

/// A namespace that nothing is in but one sleeping process; gone when it is dropped.
#[derive(Debug)]
pub struct OwnNamespace {
    child: Child,
}

/// A web server in a namespace, which serves one line; ended when it is dropped.
#[derive(Debug)]
pub struct Listener {
    child: Child,
    _files: TempDir,
}

impl Namespace {
    /// The one that a process is in.
    pub fn of_process(pid: u32) -> Namespace {
        Namespace { pid }
    }

    /// The one that a running container is in.
    #[track_caller]
    pub fn of_container(docker: &Docker, name: &str) -> Namespace {
        let found = docker.inspect(name).unwrap_or_else(|| panic!("there is no container {name}"));
        let pid = found["State"]["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        Namespace { pid: pid.filter(|pid| *pid > 0).unwrap_or_else(|| panic!("{name} does not run")) }
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join("ns/net")
    }

    /// A command that has this network, and the files of the machine.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a command in it to its end.
    pub fn run(&self, line: &[&str]) -> Outcome {
        let output =
            self.command(line[0]).args(&line[1..]).stdin(Stdio::null()).output().expect("nsenter runs");
        Outcome::new(line.join(" "), &output)
    }

    /// What a web server says to somebody who has the network of the process and resolves names as it does; an error says
    /// why nothing came.
    pub fn fetch(&self, address: &str) -> Result<String, String> {
        // The machine's own curl: images need not have one.
        let script = format!(
            "mount -t tmpfs tmpfs /mnt\n\
             for file in resolv.conf hosts; do\n\
             cat /proc/{}/root/etc/$file > /mnt/$file; mount --bind /mnt/$file /etc/$file; done\n\
             exec curl --silent --show-error --max-time 3 http://{address}/",
            self.pid
        );
        let output = self
            .command("unshare")
            .args(["--mount", "--", "/bin/sh", "-c", &script])
            .stdin(Stdio::null())
            .output()
            .expect("nsenter runs");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Serves a line at `address:port`.
    pub fn listen(&self, address: &str, says: &str) -> Listener {
        let files = tempfile::Builder::new().prefix("listener").tempdir().expect("a directory");
        fs::write(files.path().join("index.html"), says).expect("a file");
        let child = self
            .command("/bin/busybox")
            .args(["httpd", "-f", "-p", address, "-h"])
            .arg(files.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("nsenter runs");
        Listener { child, _files: files }
    }
}

impl OwnNamespace {
    pub fn new() -> OwnNamespace {
        let child = Command::new("unshare")
            .args(["--net", "--", "/bin/sh", "-c", "ip link set lo up; exec sleep infinity"])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare runs");
        let namespace = OwnNamespace { child };
        let own = fs::read_link("/proc/self/ns/net").expect("a namespace");
        crate::eventually(crate::SOON, || {
            let there = fs::read_link(namespace.namespace().path()).map_err(|error| error.to_string())?;
            crate::expect(there != own, || "it is still in ours".to_owned())
        });
        namespace
    }

    pub fn namespace(&self) -> Namespace {
        Namespace::of_process(self.child.id())
    }
}

/// Another machine: a namespace with a cable to ours.
#[derive(Debug)]
pub struct Neighbour {
    machine: OwnNamespace,
    our_address: String,
}

impl Neighbour {
    /// Addresses are of 198.18.0.0/15, which is for tests, and of this process alone.
    pub fn new() -> Neighbour {
        let machine = OwnNamespace::new();
        let id = std::process::id() % (1 << 15);
        let network = format!("198.{}.{}", 18 + (id >> 14), (id >> 6) % 256);
        let last = (id % 64) * 4;
        let (ours, theirs) = (format!("{network}.{}", last + 1), format!("{network}.{}", last + 2));
        let cable = format!("ct{}", std::process::id());
        let netns = machine.child.id().to_string();
        let ip = |line: &[&str]| {
            let done = Command::new("ip").args(line).status().expect("ip (iproute2) runs");
            assert!(done.success(), "ip {}", line.join(" "));
        };
        ip(&["link", "add", &cable, "type", "veth", "peer", "name", "cable", "netns", &netns]);
        ip(&["addr", "add", &format!("{ours}/30"), "dev", &cable]);
        ip(&["link", "set", &cable, "up"]);
        machine.namespace().run(&["ip", "addr", "add", &format!("{theirs}/30"), "dev", "cable"]).exits(0);
        machine.namespace().run(&["ip", "link", "set", "cable", "up"]).exits(0);
        Neighbour { machine, our_address: ours }
    }

    /// Where it finds this machine.
    pub fn our_address(&self) -> &str {
        &self.our_address
    }

    pub fn namespace(&self) -> Namespace {
        self.machine.namespace()
    }
}

impl Default for Neighbour {
    fn default() -> Self {
        Neighbour::new()
    }
}

impl Default for OwnNamespace {
    fn default() -> Self {
        OwnNamespace::new()
    }
}

impl Drop for OwnNamespace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
