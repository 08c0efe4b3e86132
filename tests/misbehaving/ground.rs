//! A fleet with one misbehaving agent and its neighbours, and ways to look at it from outside.

use std::fs;
use std::path::{Path, PathBuf};

use chassis_testkit::api::Phase;
use chassis_testkit::{Chassis, Image, SOON, Server, eventually, expect, process};
use serde_json::Value;

use crate::FLAT;
use crate::neighbours::Neighbours;

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

pub(crate) struct Ground {
    // Ended before its containers are taken away, or it would make them anew.
    server: Server,
    pub(crate) chassis: Chassis,
    pub(crate) fleet: String,
    pub(crate) image: String,
    neighbours: Neighbours,
}

impl Ground {
    /// Deploys an example beside its neighbours, in a fleet of the test's own and as it is but for that.
    pub(crate) fn new(example: &str) -> Ground {
        Ground::adapted(example, |yaml| yaml)
    }

    pub(crate) fn adapted(example: &str, adapt: impl Fn(String) -> String) -> Ground {
        let chassis = Chassis::new(BINARY);
        let server = chassis.serve();
        let fleet = chassis.fleet("bad");
        let image = Image::busybox().build();
        chassis.ok(&["create", "fleet", &fleet]);
        let neighbours = Neighbours::deploy(&chassis, &fleet, &image);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/misbehaving").join(example);
        let yaml = fs::read_to_string(path).expect("an example");
        let yaml = yaml
            .replace("fleet: misbehaving", &format!("fleet: {fleet}"))
            .replace("chassis-examples/busybox:1", &image);
        let file = chassis.write("misbehaving.yaml", &adapt(yaml)).display().to_string();
        // Whether it ever gets ready is not what is to be waited for.
        chassis.ok(&["deploy", "agent", "-f", &file, "--no-wait"]);
        let name = example.trim_end_matches(".yaml");
        eventually(SOON, || {
            let found = chassis.instance(&format!("{fleet}/{name}-1")).instance;
            // One that crashes at once may never be seen running.
            expect(found.started_at.is_some() || found.restarts > 0, || {
                format!("it has not been started: {found:?}")
            })
        });
        Ground { server, chassis, fleet, image, neighbours }
    }

    /// `fleet/name`.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.fleet)
    }

    pub(crate) fn container(&self, name: &str) -> String {
        format!("chassis-{}-{name}", self.fleet)
    }

    fn inspect(&self, name: &str) -> Value {
        self.chassis.docker().inspect(&self.container(name)).expect("a container")
    }

    /// The process id of an instance's init.
    pub(crate) fn main_process(&self, name: &str) -> u32 {
        let pid = self.inspect(name)["State"]["Pid"].as_u64().expect("a process id");
        u32::try_from(pid).expect("a process id")
    }

    /// How many processes and threads an instance has, as the kernel counts them.
    pub(crate) fn processes(&self, name: &str) -> u32 {
        process::count_in_cgroup(self.main_process(name)).expect("its cgroup counts processes")
    }

    /// Waits for words on either stream.
    pub(crate) fn until_log_shows(&self, name: &str, words: &str) {
        eventually(SOON, || {
            let log = self.chassis.ok(&["logs", &self.name(name), "--tail", "100"]);
            let shown = log.stdout.contains(words) || log.stderr.contains(words);
            expect(shown, || format!("`{words}` is not in its log: {log}"))
        });
    }

    /// It runs, and was never restarted: misbehaving was all that it did.
    pub(crate) fn expect_untouched(&self, name: &str) {
        let found = self.chassis.instance(&self.name(name)).instance;
        assert_eq!((found.phase, found.restarts), (Phase::Running, 0), "{found:?}");
        self.chassis.ok(&["ps"]).shows(&[name, "Running"]);
    }

    /// The server's resident memory, in KiB.
    pub(crate) fn server_memory(&self) -> u64 {
        process::usage(self.server.pid()).expect("a server that runs").memory
    }

    pub(crate) fn expect_flat(&self, before: u64) {
        let now = self.server_memory();
        assert!(now <= before + FLAT, "the server's memory grew from {before} KiB to {now} KiB");
    }

    /// How many files hold an instance's output, and their bytes.
    pub(crate) fn log_files(&self, name: &str) -> (usize, u64) {
        let log = PathBuf::from(self.inspect(name)["LogPath"].as_str().expect("a path"));
        let begin = log.file_name().expect("a file").to_string_lossy().into_owned();
        let entries = fs::read_dir(log.parent().expect("a directory")).expect("these tests need root");
        // One that is rotated while we look is counted once at most.
        let sizes: Vec<u64> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&begin))
            .filter_map(|entry| Some(entry.metadata().ok()?.len()))
            .collect();
        (sizes.len(), sizes.iter().sum())
    }

    /// The most that Docker may keep of an instance's output, and a third more for a file that is being compressed.
    pub(crate) fn log_bound(&self, name: &str) -> u64 {
        let config = self.inspect(name)["HostConfig"]["LogConfig"]["Config"].clone();
        let number = |text: &Value| {
            let text = text.as_str().expect("a bound").to_ascii_lowercase();
            let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
            let unit = match &text[digits.len()..] {
                "" | "b" => 1,
                "k" | "kb" | "kib" => 1 << 10,
                "m" | "mb" | "mib" => 1 << 20,
                unit => panic!("a bound in {unit}"),
            };
            digits.parse::<u64>().expect("a number") * unit
        };
        number(&config["max-size"]) * number(&config["max-file"]) * 4 / 3
    }

    /// Bytes in the container's own layer and in tier 1, but for init, which is there once for all.
    pub(crate) fn written_to_disk(&self, name: &str) -> u64 {
        let layer = self.chassis.docker().layer_size(&self.container(name));
        layer + size_of_files(&self.chassis.data_dir().join(&self.fleet).join(name))
    }

    /// The neighbours noticed nothing, and nothing is left when the fleet is deleted.
    pub(crate) fn end(self) {
        self.neighbours.expect_well(&self.chassis);
        self.chassis.ok(&["delete", "fleet", &self.fleet, "--cleanup", &format!("--confirm={}", self.fleet)]);
        let label = self.chassis.label();
        assert!(self.chassis.docker().labelled(&label).is_empty(), "containers are left");
        assert!(self.chassis.docker().networks_labelled(&label).is_empty(), "a network is left");
        assert!(!self.chassis.data_dir().join(&self.fleet).exists(), "tier 1 is left");
        assert_eq!(process::inits(&format!("{}/", self.fleet)).len(), 0, "processes are left");
    }
}

/// Bytes in the files of an instance's directory, without what chassis put there.
fn size_of_files(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name() != ".chassis")
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of_files(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
