//! What agents say outlives their runs, their containers and themselves, is found again, and never takes the disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use chassis_testkit::api::{ExitReason, ExitRecord, Phase};
use chassis_testkit::{Chassis, Dockerd, Image, SOON, TmpfsMount, eventually, expect, pause};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

struct Ground {
    chassis: Chassis,
    fleet: String,
    image: String,
}

impl Ground {
    fn new() -> Ground {
        Ground::on(Chassis::new(BINARY))
    }

    fn on(chassis: Chassis) -> Ground {
        let fleet = chassis.fleet("logs");
        let image = Image::busybox().build_on(chassis.docker());
        chassis.ok(&["create", "fleet", &fleet]);
        Ground { chassis, fleet, image }
    }

    /// An agent that runs a script; `more` is more YAML.
    fn agent(&self, name: &str, script: &str, more: &str) -> String {
        let script = serde_json::to_string(script).expect("JSON");
        format!(
            "name: {name}\nfleet: {}\nimage: {}\nstop: {{grace: 1s}}\ncommand: [/bin/sh, -c]\nargs: [{script}]\n{more}\n",
            self.fleet, self.image
        )
    }

    fn deploy(&self, name: &str, script: &str, more: &str) {
        self.chassis.deploy(&self.agent(name, script, more)).exits(0);
    }

    fn name(&self, instance: &str) -> String {
        format!("{}/{instance}", self.fleet)
    }

    fn logs(&self, instance: &str, flags: &[&str]) -> String {
        let name = self.name(instance);
        self.chassis.ok(&[&["logs", &name][..], flags].concat()).stdout
    }

    fn kept(&self, instance: &str) -> Vec<PathBuf> {
        let directory = self.chassis.data_dir().join(".server/logs").join(&self.fleet).join(instance);
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut kept: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        kept.sort();
        kept
    }

    fn until_it_said(&self, instance: &str, words: &str) {
        eventually(SOON, || {
            let said = self.chassis.ok(&["logs", &self.name(instance)]);
            let there = said.stdout.contains(words) || said.stderr.contains(words);
            expect(there, || format!("{instance} has not said `{words}`: {said}"))
        });
    }
}

#[test]
fn output_outlives_its_container() {
    let ground = Ground::new();
    let stay = "exec sleep 99999";
    ground.deploy("a", &format!("echo one; echo oops >&2; {stay}"), "replicas: 2");
    ground.until_it_said("a-1", "oops");
    ground.until_it_said("a-2", "oops");
    ground.deploy("a", &format!("echo two; {stay}"), "replicas: 2");
    ground.until_it_said("a-1", "two");
    ground.until_it_said("a-2", "two");
    assert_eq!(ground.logs("a-1", &[]), "two\n");
    let previous = ground.chassis.ok(&["logs", &ground.name("a-1"), "--previous"]);
    assert_eq!((previous.stdout.as_str(), previous.stderr.as_str()), ("one\n", "oops\n"));
    assert_eq!(ground.logs("a-1", &["--all"]), "one\ntwo\n");
    let kept = ground.kept("a-1");
    assert_eq!(kept.len(), 1, "{kept:?}");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&kept[0]), mode(kept[0].parent().expect("a directory"))), (0o600, 0o700));

    // Scaled away, deleted, and the whole fleet: found by the same names.
    ground.chassis.ok(&["scale", "agent", &ground.name("a"), "1"]);
    assert_eq!(ground.logs("a-2", &[]), "two\n");
    ground.chassis.ok(&["delete", "agent", &ground.name("a")]);
    assert_eq!(ground.logs("a-1", &[]), "two\n");
    assert_eq!(ground.logs("a-1", &["-f"]), "two\n");
    assert_eq!(ground.chassis.ok(&["logs", "a-1", "--all", "--grep", "^one"]).stdout, "one\n");
    assert_eq!(ground.logs("a", &[]), "a-1 | two\na-2 | two\n");
    ground.chassis.run(&["logs", &ground.name("a-3")]).exits(3).says(&["there is nothing named"]);
    ground.chassis.run(&["describe", &ground.name("a-1")]).exits(3);

    // What comes back under the same name knows what was before; and forgets it when it is told to.
    ground.deploy("a", &format!("echo three; {stay}"), "");
    ground.until_it_said("a-1", "three");
    assert_eq!(ground.logs("a-1", &["--previous"]), "two\n");
    ground.chassis.ok(&["delete", "agent", &ground.name("a"), "--cleanup"]);
    assert_eq!(ground.kept("a-1").len() + ground.kept("a-2").len(), 0);
    ground.chassis.run(&["logs", &ground.name("a-1")]).exits(3);

    ground.deploy("none", &format!("echo secret; {stay}"), "logs: {keep: 0}");
    ground.until_it_said("none-1", "secret");
    ground.chassis.ok(&["restart", &ground.name("none-1")]);
    ground.deploy("none", &format!("echo other; {stay}"), "logs: {keep: 0}");
    ground.chassis.run(&["logs", &ground.name("none-1"), "-p"]).exits(3).says(&["nothing is left of it"]);
    ground.chassis.ok(&["delete", "agent", &ground.name("none")]);
    assert_eq!(ground.kept("none-1").len(), 0);
}

#[test]
fn the_reason_of_the_last_exit_is_kept() {
    let ground = Ground::new();
    let script = "n=$(cat /data/n 2>/dev/null || echo 0); echo $((n+1)) > /data/n; echo run $n begins; \
                  for i in $(seq 60); do echo run $n line $i >&2; done; \
                  [ $n -lt 2 ] || exec sleep 99999; [ $n = 0 ] && exit 3; kill -SEGV $$; sleep 9";
    // Nobody waits for it, because it fails at first.
    let yaml = ground.agent("a", script, "volumes: [{name: data, mountPath: /data}]");
    let file = ground.chassis.write("fails.yaml", &yaml).display().to_string();
    ground.chassis.ok(&["deploy", "agent", "-f", &file, "--no-wait"]);
    let name = ground.name("a-1");
    eventually(SOON, || {
        let found = ground.chassis.instance(&name);
        expect(found.instance.restarts == 2 && found.instance.phase == Phase::Running, || {
            format!("{:?}", found.instance)
        })
    });
    // Docker may read its one line of standard output before or after others of standard error.
    let described = ground.chassis.ok(&["describe", &name]);
    let described =
        described.shows(&["SIGSEGV (exit code 139)", "exit code 3", "run 1 line 60", "run 1 line 12"]);
    assert!(
        !described.stdout.contains("run 1 line 10\n") && !described.stdout.contains("run 0"),
        "{described}"
    );
    ground.chassis.ok(&["describe", &name, "--no-log"]).shows(&["SIGSEGV"]).hides("line 60");
    let json: Value = ground.chassis.ok(&["describe", &name, "-o", "json"]).json();
    assert_eq!(json["exits"][0]["log"].as_array().map(Vec::len), Some(50), "{json}");

    let path = format!("/api/v1/fleets/{}/agents/a/instances/1/exits", ground.fleet);
    let exits: Vec<ExitRecord> = ground.chassis.get(&path).expect("the exits");
    let told: Vec<_> = exits.iter().map(|exit| (exit.code, exit.reason, exit.log.len())).collect();
    assert_eq!(told, [(Some(139), ExitReason::Signal, 50), (Some(3), ExitReason::Exited, 50)]);

    // All of it ran in one container: only the times tell the runs apart.
    let previous = ground.chassis.ok(&["logs", &name, "--previous"]);
    assert_eq!(previous.stdout, "run 1 begins\n");
    assert_eq!(previous.stderr.lines().count(), 60);
    assert!(previous.stderr.lines().all(|line| line.starts_with("run 1 ")), "{previous}");

    // Asked for, it is history too, but nobody has to read why.
    ground.chassis.ok(&["restart", &name]);
    let exits: Vec<ExitRecord> = ground.chassis.get(&path).expect("the exits");
    assert_eq!((exits.len(), exits[0].reason, exits[0].log.len()), (3, ExitReason::Asked, 0));
    let events = ground.chassis.ok(&["events", &name, "--kind", "exited", "--since", "1h", "-o", "name"]);
    assert_eq!(events.stdout.lines().count(), 2, "{events}");
    ground.chassis.ok(&["events", &name, "--since", "0s"]).says(&["no events"]);
}

#[test]
fn lines_are_found_by_what_they_say() {
    let ground = Ground::new();
    let long = "printf '{\"level\":\"error\",\"msg\":\"long\",\"pad\":\"'; head -c 50000 /dev/zero | tr '\\0' x; echo '\"}'";
    let script = format!(
        "echo 'starting up'; echo '{{\"level\":30,\"msg\":\"pino\"}}'; echo 'level=warn msg=logfmt'; \
         echo 'ERROR plain'; echo '  at one'; echo '  at two'; echo '[info] fine'; {long}; echo 'Done: 100%'; \
         exec sleep 99999"
    );
    ground.deploy("a", &script, "");
    ground.until_it_said("a-1", "Done");
    let errors = ground.logs("a-1", &["--level", "error", "--tail", "4"]);
    let errors: Vec<&str> = errors.lines().map(|line| &line[..line.len().min(30)]).collect();
    assert_eq!(errors, ["  at one", "  at two", "{\"level\":\"error\",\"msg\":\"long\",", "Done: 100%"]);
    assert_eq!(
        ground.logs("a-1", &["--level", "warning", "-g", "^[lE]"]),
        "level=warn msg=logfmt\nERROR plain\n"
    );
    assert_eq!(ground.logs("a-1", &["-ig", "DONE|PINO", "-n1"]), "Done: 100%\n");
    assert_eq!(ground.logs("a-1", &["-g", "nowhere"]), "");
    let json = ground.logs("a-1", &["-o", "json"]);
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 9);
    assert_eq!(
        (&lines[0]["text"], &lines[0]["instance"], lines[0].get("fields")),
        (&"starting up".into(), &"a-1".into(), None)
    );
    assert_eq!(lines[1]["fields"]["msg"], "pino");
    assert_eq!(lines[7]["fields"]["pad"].as_str().map(str::len), Some(50_000), "its pieces are one line");
    let until = lines[4]["time"].as_str().expect("a time");
    let past = ground.logs("a-1", &["--until", until, "--tail", "2"]);
    assert!(past.ends_with("  at one\n"), "{past}");
    ground
        .chassis
        .run(&["logs", &ground.name("a-1"), "-g", "a(b"])
        .exits(1)
        .says(&["unclosed group", "a(b\n"]);
    ground.chassis.run(&["logs", &ground.name("a-1"), "--level", "loud"]).exits(2).says(&["write trace"]);
    ground.chassis.run(&["logs", &ground.name("a-1"), "--previous"]).exits(3).says(&["no run before"]);
}

/// Numbers that go on from run to run, for as long as it runs.
const COUNT: &str = "n=$(cat /data/n 2>/dev/null || echo 0); trap end=1 TERM; \
                     while [ -z \"$end\" ]; do n=$((n+1)); echo $n > /data/n; echo line $n; sleep 0.02; done";

/// All lines up to the last that came, each once.
fn expect_all(path: &Path, at_least: usize) -> Result<(), String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let numbers: Vec<usize> =
        text.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    let gap = numbers.iter().zip(1..).find(|(number, wanted)| **number != *wanted);
    assert!(gap.is_none(), "after {gap:?} something is lost or doubled:\n{text}");
    expect(numbers.len() >= at_least, || format!("{} lines, not {at_least}", numbers.len()))
}

fn lines_of(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn following_goes_on_over_replacement_restart_and_another_server() {
    let ground = Ground::new();
    let volumes = "volumes: [{name: data, mountPath: /data}]";
    ground.deploy("a", COUNT, volumes);
    let (mut follower, path) = ground.chassis.spawn(&["logs", &ground.name("a-1"), "-f"]);
    eventually(SOON, || expect_all(&path, 20));
    ground.deploy(
        "a",
        COUNT,
        &format!("{volumes}\nlabels: {{version: '2'}}\nenv: [{{name: V, value: '2'}}]"),
    );
    eventually(SOON, || expect_all(&path, lines_of(&path).max(60)));
    ground.chassis.ok(&["restart", &ground.name("a-1")]);
    let before = lines_of(&path);
    eventually(SOON, || expect_all(&path, before + 40));
    ground.chassis.ok(&["server", "stop"]);
    ground.chassis.ok(&["ps"]);
    let before = lines_of(&path);
    eventually(SOON, || expect_all(&path, before + 100));
    ground.chassis.ok(&["delete", "agent", &ground.name("a")]);
    assert!(follower.wait().expect("it ends").success(), "it ends well when the instance is gone");
    let last = ground.chassis.read(&ground.fleet, "a-1", "data/n");
    expect_all(&path, last.trim().parse().expect("a number")).expect("every line that was written");
}

#[test]
fn following_goes_on_when_docker_comes_back() {
    let mut dockerd = Dockerd::new();
    let ground = Ground::on(Chassis::new(BINARY).on_docker(&dockerd.docker()));
    ground.deploy("a", COUNT, "volumes: [{name: data, mountPath: /data}]");
    let (mut follower, path) = ground.chassis.spawn(&["logs", &ground.name("a-1"), "-f"]);
    eventually(SOON, || expect_all(&path, 20));
    dockerd.stop();
    dockerd.start();
    let before = lines_of(&path);
    eventually(SOON, || expect_all(&path, before + 50));
    ground.chassis.ok(&["delete", "agent", &ground.name("a")]);
    assert!(follower.wait().expect("it ends").success());
}

#[test]
fn what_is_kept_is_bounded() {
    let ground = Ground::on(Chassis::new(BINARY));
    ground.chassis.ok(&["server", "stop"]);
    let _server = ground.chassis.serve_with(&["--kept-logs-max", "200Ki"], &[]);
    for number in 1..=4 {
        // Noise does not get any smaller.
        let script = format!("echo {number}; head -c 60000 /dev/urandom | base64; exec sleep 99999");
        ground.deploy("a", &script, "");
        eventually(SOON, || {
            let said = ground.logs("a-1", &[]);
            expect(said.len() > 60_000 && said.starts_with(&format!("{number}\n")), || said.len().to_string())
        });
    }
    ground.chassis.ok(&["delete", "agent", &ground.name("a")]);
    eventually(SOON, || {
        let sizes: Vec<u64> =
            ground.kept("a-1").iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).collect();
        let total: u64 = sizes.iter().sum();
        expect(total <= 200 << 10 && sizes.len() >= 2, || format!("{sizes:?} are too much"))
    });
    assert!(ground.logs("a-1", &["--all"]).contains("\n4\n"), "the oldest went, not the newest");
}

#[test]
fn a_full_disk_keeps_nothing_and_blocks_nothing() {
    let disk = TmpfsMount::new(64);
    let ground = Ground::on(Chassis::new(BINARY).on_data_dir(disk.path().join("data")));
    ground.deploy("a", "echo hello; exec sleep 99999", "");
    ground.until_it_said("a-1", "hello");
    // Room for the database, but less than a twentieth.
    fs::write(disk.path().join("ballast"), vec![b'x'; 1 << 20]).expect("there is room");
    let left = rustix::fs::statvfs(disk.path()).map(|found| found.f_bavail * found.f_frsize).expect("a size");
    let ballast = usize::try_from(left).expect("a size") - (2 << 20);
    fs::write(disk.path().join("more"), vec![b'x'; ballast]).expect("there is room");
    ground.chassis.ok(&["scale", "agent", &ground.name("a"), "0"]);
    assert_eq!(ground.kept("a-1").len(), 0);
    ground.chassis.ok(&["events", &ground.fleet, "--kind", "OutputLost"]).shows(&["a-1", "almost full"]);
}

#[test]
fn a_flood_is_nobody_elses_problem() {
    let ground = Ground::new();
    ground.deploy(
        "flood",
        "exec yes 'all work and no play'",
        "logs: {maxSize: 1Mi, maxFiles: 2}\nresources: {cpu: 0.5}",
    );
    ground.deploy("calm", COUNT, "volumes: [{name: data, mountPath: /data}]");
    let pid = ground.chassis.background_pid().expect("a server");
    let resident = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") >> 10
    };
    let before = resident();
    // One that reads nothing, one that throws away, and one that watches somebody else.
    let name = ground.name("flood-1");
    let stuck =
        ground.chassis.command(&["logs", &name, "-f"]).stdout(Stdio::piped()).spawn().expect("it runs");
    let hungry = ground
        .chassis
        .command(&["logs", &name, "-f", "-g", "jack"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let (calm, path) = ground.chassis.spawn(&["logs", &ground.name("calm-1"), "-f"]);
    let began = Instant::now();
    let mut most = before;
    while began.elapsed() < Duration::from_secs(8) {
        most = most.max(resident());
        pause(Duration::from_millis(100));
    }
    let lines = lines_of(&path);
    assert!(most < before + 24, "the server grew from {before} to {most} MiB");
    // 50 lines a second, less what the machine is late with.
    assert!(lines > 100, "only {lines} lines of the other agent came");
    let directory =
        ground.chassis.docker().inspect(&format!("chassis-{}-flood-1", ground.fleet)).expect("a container");
    let log = PathBuf::from(directory["LogPath"].as_str().expect("a path"));
    let files = fs::read_dir(log.parent().expect("a directory")).expect("a directory").flatten();
    let logs = files.filter(|file| file.file_name().to_string_lossy().contains("json.log"));
    let size: u64 = logs.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    assert!(size < 4 << 20, "its log takes {size} bytes");
    for mut child in [stuck, hungry, calm] {
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
}
