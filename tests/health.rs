//! Agents are looked at as their checks say, whatever they run in; the unhealthy are restarted, within the fleet's budget,
//! and nobody is taken down before the others are ready.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chassis_testkit::api::{ExitReason, HealthReport, HealthState, InstanceDetail, Phase};
use chassis_testkit::{Chassis, Image, Outcome, SOON, eventually, expect, pause};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
/// Failures count from the first success on: what a test breaks has worked before.
const EAGER: &str = "interval: 1s, timeout: 1s, retries: 2, startPeriod: 5m";

struct Ground {
    chassis: Chassis,
    fleet: String,
    busybox: String,
}

impl Ground {
    fn new() -> Ground {
        let chassis = Chassis::new(BINARY);
        let fleet = chassis.fleet("health");
        chassis.ok(&["create", "fleet", &fleet]);
        Ground { chassis, fleet, busybox: Image::busybox().build() }
    }

    fn deploy(&self, name: &str, image: &str, yaml: &str) -> Outcome {
        let head = format!(
            "name: {name}\nfleet: {}\nimage: {image}\nstop: {{grace: 1s}}\n\
             volumes: [{{name: data, mountPath: /data}}]\n",
            self.fleet
        );
        let path = self.chassis.write(&format!("{name}.yaml"), &(head + yaml));
        self.chassis.run(&["deploy", "agent", "--no-wait", "-f", &path.display().to_string()])
    }

    fn name(&self, instance: &str) -> String {
        format!("{}/{instance}", self.fleet)
    }

    /// A file of the instance's own, which its check looks for.
    fn file(&self, instance: &str, name: &str) -> PathBuf {
        self.chassis.data_dir().join(&self.fleet).join(instance).join("data").join(name)
    }

    /// Makes it once the instance has its directory.
    fn make(&self, instance: &str, name: &str) {
        eventually(SOON, || fs::write(self.file(instance, name), "ok"));
    }

    fn remove(&self, instance: &str, name: &str) {
        fs::remove_file(self.file(instance, name)).expect("the file is there");
    }

    #[track_caller]
    fn until(&self, instance: &str, state: HealthState) -> InstanceDetail {
        eventually(SOON, || {
            let found = self.chassis.instance(&self.name(instance));
            let shown = format!("{:?}, {:?}", found.instance.health, found.instance.message);
            if found.instance.health == Some(state) {
                return Ok(found);
            }
            Err(format!("{instance} is {shown}, not {state:?}"))
        })
    }

    /// Waits for a restart, and returns what there is to say of it.
    #[track_caller]
    fn until_restarted(&self, instance: &str) -> InstanceDetail {
        eventually(SOON, || {
            let found = self.chassis.instance(&self.name(instance));
            let again = found.instance.restarts > 0 && found.instance.phase == Phase::Running;
            if again { Ok(found) } else { Err(format!("{instance} was not restarted: {:?}", found.instance)) }
        })
    }

    fn events(&self, instance: &str) -> String {
        self.chassis.ok(&["events", &self.name(instance)]).stdout
    }
}

/// One program, no shell, no network of its own: the look comes from outside.
#[test]
fn an_unhealthy_agent_is_restarted_and_says_why() {
    let ground = Ground::new();
    let image = Image::scratch().program("httpd").build();
    let yaml = format!(
        "command: [/httpd, -f, -p, '8080', -h, /data]\nnetwork: none\n\
         healthCheck: {{http: {{port: 8080, expectedStatus: 200}}, {EAGER}}}\n"
    );
    ground.deploy("web", &image, &yaml).exits(0);
    ground.until("web-1", HealthState::Starting);
    ground.make("web-1", "healthz");
    ground.until("web-1", HealthState::Healthy);
    let name = ground.name("web-1");
    ground.chassis.ok(&["health", &name]).shows(&["healthy", "GET :8080/healthz", "ok"]);
    ground.chassis.ok(&["ps"]).shows(&["healthy"]);

    ground.remove("web-1", "healthz");
    let looked = ground.chassis.run(&["health", &name, "--now", "-o", "json"]);
    let reports: Vec<HealthReport> = looked.json();
    let last = reports[0].checks[0].probes.last().and_then(|probe| probe.error.clone());
    assert!(last.as_ref().is_some_and(|error| error.contains("404")), "the look just now says {last:?}");

    let restarted = ground.until_restarted("web-1");
    let last_exit = restarted.instance.last_exit.expect("its run ended");
    assert!(last_exit.unhealthy, "{last_exit:?}");
    assert_eq!(restarted.exits[0].reason, ExitReason::Unhealthy);
    ground.make("web-1", "healthz");
    ground.until("web-1", HealthState::Healthy);
    let events = ground.events("web-1");
    for told in
        ["unhealthy: answered 404", "restarted because it is unhealthy", "stopped because it was unhealthy"]
    {
        assert!(events.contains(told), "`{told}` is not in {events}");
    }
    ground.chassis.ok(&["describe", &name]).shows(&["Health:", "unhealthy"]);
}

#[test]
fn connections_and_commands_are_checks_too() {
    let ground = Ground::new();
    let listens = "command: [/bin/sh, -c]\nargs: ['while [ -e /data/ok ] || [ ! -e /data/began ]; do \
                   nc -l -p 9000 </dev/null >/dev/null; done; sleep 99999']\n";
    let tcp = format!("{listens}healthCheck: {{tcp: {{port: 9000}}, {EAGER}}}\n");
    let fails = "exec: {command: [/bin/sh, -c, 'test -e /data/ok || { echo no file; exit 3; }']}";
    let exec = format!("command: [/bin/sleep, '99999']\nhealthCheck: {{{fails}, {EAGER}}}\n");
    ground.deploy("tcp", &ground.busybox, &tcp).exits(0);
    ground.deploy("exec", &ground.busybox, &exec).exits(0);
    for instance in ["tcp-1", "exec-1"] {
        ground.make(instance, "ok");
        ground.make(instance, "began");
        ground.until(instance, HealthState::Healthy);
    }
    for instance in ["tcp-1", "exec-1"] {
        ground.remove(instance, "ok");
        ground.until_restarted(instance);
    }
    let events = ground.events("exec-1");
    assert!(events.contains("exit code 3: no file"), "{events}");
}

#[test]
fn an_images_own_check_counts_unless_it_is_disabled() {
    let ground = Ground::new();
    let image = Image::busybox()
        .change("HEALTHCHECK --interval=1s --timeout=2s --retries=2 --start-period=300s CMD test -e /data/ok")
        .change("CMD [\"/bin/sleep\", \"99999\"]")
        .build();
    ground.deploy("image", &image, "").exits(0);
    ground.deploy("off", &image, "healthCheck: {disabled: true}\n").exits(0);
    ground.make("image-1", "ok");
    ground.until("image-1", HealthState::Healthy);
    ground.chassis.ok(&["health", &ground.name("image-1")]).shows(&["the image's HEALTHCHECK"]);
    ground.remove("image-1", "ok");
    ground.until_restarted("image-1");
    let off = ground.chassis.until(&ground.name("off-1"), Phase::Running);
    assert_eq!((off.instance.health, off.instance.restarts), (None, 0));
}

#[test]
fn what_is_never_restarted_is_shown_as_unhealthy() {
    let ground = Ground::new();
    let yaml = format!(
        "command: [/bin/sleep, '99999']\nrestart_policy: never\n\
         healthCheck: {{exec: {{command: [/bin/test, -e, /data/ok]}}, {EAGER}}}\n\
         readinessCheck: {{exec: {{command: [/bin/test, -e, /data/ready]}}, {EAGER}}}\n"
    );
    ground.deploy("once", &ground.busybox, &yaml).exits(0);
    ground.make("once-1", "ok");
    ground.make("once-1", "ready");
    ground.until("once-1", HealthState::Healthy);
    ground.remove("once-1", "ready");
    ground.until("once-1", HealthState::NotReady);
    ground.remove("once-1", "ok");
    ground.until("once-1", HealthState::Unhealthy);
    ground.chassis.run(&["health", &ground.name("once-1")]).exits(1).shows(&["unhealthy"]);
    ground.make("once-1", "ok");
    ground.make("once-1", "ready");
    let found = ground.until("once-1", HealthState::Healthy);
    assert_eq!(found.instance.restarts, 0, "it was restarted");
}

/// Each takes its time to get ready; a restart of all takes none of them down before the others are.
#[test]
fn a_restart_waits_until_each_is_ready() {
    let ground = Ground::new();
    let yaml = "replicas: 3\ncommand: [/bin/sh, -c]\n\
                args: ['rm -f /data/ready; sleep 1; touch /data/ready; exec sleep 99999']\n\
                readinessCheck: {exec: {command: [/bin/test, -e, /data/ready]}, interval: 1s}\n";
    ground.deploy("slow", &ground.busybox, yaml).exits(0);
    ground.chassis.ok(&["wait", &ground.name("slow")]);
    let before: BTreeSet<_> = ground.chassis.instances().iter().map(|one| one.started_at).collect();

    let over = AtomicBool::new(false);
    let fewest = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut fewest = 3;
            while !over.load(Ordering::Relaxed) {
                let instances = ground.chassis.instances();
                let ready = |one: &&chassis_testkit::api::Instance| {
                    one.phase == Phase::Running && one.health == Some(HealthState::Healthy)
                };
                fewest = fewest.min(instances.iter().filter(ready).count());
                pause(Duration::from_millis(20));
            }
            fewest
        });
        let restarted = ground.chassis.run(&["restart", &ground.name("slow")]);
        over.store(true, Ordering::Relaxed);
        restarted.exits(0);
        watching.join().expect("the watcher")
    });
    assert_eq!(fewest, 2, "so few were ready at once");
    let after: BTreeSet<_> = ground.chassis.instances().iter().map(|one| one.started_at).collect();
    assert!(before.is_disjoint(&after), "not all were restarted: {before:?}, {after:?}");
}

#[test]
fn an_agent_is_drained_before_its_signal() {
    let ground = Ground::new();
    let image = Image::busybox()
        .file(
            "www/cgi-bin/drain",
            "#!/bin/sh\necho $REQUEST_METHOD >> /data/log\nprintf 'Status: 200\\r\\n\\r\\n'\n",
        )
        .build();
    let told = |instance: &str| fs::read_to_string(ground.file(instance, "log")).unwrap_or_default();
    let web = "command: [/bin/sh, -c]\n\
               args: ['trap \"echo signal >> /data/log; exit 0\" TERM; httpd -p 8080 -h /www; while :; do sleep 0.1; done']\n\
               readinessCheck: {tcp: {port: 8080}, interval: 1s}\n\
               stop: {grace: 5s, drain: {http: {port: 8080, path: /cgi-bin/drain}, timeout: 10s}}\n";
    let yaml = format!(
        "name: web\nfleet: {}\nimage: {image}\nvolumes: [{{name: data, mountPath: /data}}]\n{web}",
        ground.fleet
    );
    ground.chassis.deploy(&yaml).exits(0);
    ground.chassis.ok(&["stop", &ground.name("web-1")]);
    assert_eq!(told("web-1"), "POST\nsignal\n");

    let stubborn = format!(
        "name: stubborn\nfleet: {}\nimage: {}\nvolumes: [{{name: data, mountPath: /data}}]\n\
         command: [/bin/sh, -c]\nargs: ['trap \"echo signal >> /data/log; exit 0\" TERM; while :; do sleep 0.1; done']\n\
         stop: {{grace: 5s, drain: {{exec: {{command: [/bin/sh, -c, 'echo drain >> /data/log; sleep 99']}}, timeout: 1s}}}}\n",
        ground.fleet, ground.busybox
    );
    ground.chassis.deploy(&stubborn).exits(0);
    ground.chassis.ok(&["restart", &ground.name("stubborn-1")]);
    assert_eq!(told("stubborn-1"), "drain\nsignal\n");
    let events = ground.events("stubborn-1");
    assert!(events.contains("not drained"), "{events}");
}

/// What fails everywhere at once has a common cause; those that are left alone recover with it.
#[test]
fn a_common_cause_does_not_restart_everything() {
    let ground = Ground::new();
    let yaml = format!(
        "replicas: 8\ncommand: [/bin/sleep, '99999']\n\
         healthCheck: {{exec: {{command: [/bin/test, -e, /data/ok]}}, {EAGER}}}\n"
    );
    ground.deploy("many", &ground.busybox, &yaml).exits(0);
    let all: Vec<String> = (1..=8).map(|number| format!("many-{number}")).collect();
    for instance in &all {
        ground.make(instance, "ok");
    }
    for instance in &all {
        ground.until(instance, HealthState::Healthy);
    }
    for instance in &all {
        ground.remove(instance, "ok");
    }
    let held = eventually(SOON, || {
        let instances = ground.chassis.instances();
        let held = instances.iter().filter(|one| {
            one.health == Some(HealthState::Unhealthy)
                && one.retry_at.is_some()
                && one.phase == Phase::Running
        });
        let held: Vec<u32> = held.map(|one| one.number).collect();
        expect(held.len() == 6, || format!("{} are held back", held.len())).map(|()| held)
    });
    ground.chassis.run(&["health", &ground.name(&format!("many-{}", held[0]))]).shows(&["budget"]);
    for instance in &all {
        ground.make(instance, "ok");
    }
    for instance in &all {
        ground.until(instance, HealthState::Healthy);
    }
    let restarts: u32 = ground.chassis.instances().iter().map(|one| one.restarts).sum();
    assert_eq!(restarts, 2, "a quarter of eight");
}
