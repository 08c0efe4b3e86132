//! What is put into a sandbox before its agent runs: files, and a script that must have ended well.

use std::time::Instant;

use chassis_testkit::api::Phase;
use chassis_testkit::{Chassis, Image, Outcome, SOON, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

struct Ground {
    chassis: Chassis,
    fleet: String,
    busybox: String,
}

impl Ground {
    fn new() -> Ground {
        let chassis = Chassis::new(BINARY);
        let fleet = chassis.fleet("startup");
        chassis.ok(&["create", "fleet", &fleet]);
        Ground { chassis, fleet, busybox: Image::busybox().build() }
    }

    fn deploy(&self, yaml: &str) -> Outcome {
        let head = format!("name: a\nfleet: {}\nimage: {}\nstop: {{grace: 1s}}\n", self.fleet, self.busybox);
        self.chassis.deploy(&(head + yaml))
    }

    fn exec(&self, script: &str) -> String {
        self.chassis.ok(&["exec", &format!("{}/a-1", self.fleet), "--", "sh", "-c", script]).stdout
    }

    fn name(&self) -> String {
        format!("{}/a-1", self.fleet)
    }

    /// What the instance has printed, once it contains the word.
    fn printed(&self, word: &str) -> String {
        eventually(SOON, || {
            let logs = self.chassis.run(&["logs", "--all", &self.name()]);
            let printed = logs.stdout + &logs.stderr;
            if printed.contains(word) { Ok(printed) } else { Err(format!("`{word}` is not in: {printed}")) }
        })
    }
}

#[test]
fn files_are_there_and_the_script_has_ended_before_the_agent_starts() {
    let ground = Ground::new();
    let secret = ground.chassis.write("value", "s3cr3t\0binary");
    let name = format!("{}/key", ground.fleet);
    ground.chassis.ok(&["secret", "create", &name, "--from-file", &secret.display().to_string()]);
    let yaml = format!(
        "env: [{{name: WORD, value: said}}]
volumes: [{{name: data, mountPath: /data}}]
files:
- {{path: /data/deep/settings.json, content: '{{\"depth\": 3}}'}}
- {{path: /tmpfs/key, secret: 'secret://{}/key'}}
- path: /data/prepare
  executable: true
  content: |
    #!/bin/sh
    cat /data/deep/settings.json; wc -c < /tmpfs/key; sleep 1; echo $WORD >> /data/runs
startup: {{script: 'echo in the script; /data/prepare', timeout: 20s}}
command: [sh, -c]
args: ['cat /data/runs; echo the agent runs; sleep 1000']
",
        ground.fleet
    );
    let began = Instant::now();
    ground.deploy(&yaml).exits(0);
    // Deployed means that the script has ended: it takes a second.
    assert!(began.elapsed().as_millis() >= 1000);
    assert_eq!(ground.exec("cat /data/runs"), "said\n");
    assert_eq!(ground.printed("the agent runs"), "in the script\n{\"depth\": 3}13\nsaid\nthe agent runs\n");
    let modes = ground.exec("stat -c '%a %u' /data/deep/settings.json /tmpfs/key /data/prepare");
    assert_eq!(modes, "600 64646\n600 64646\n700 64646\n");
    let health = ground.chassis.ok(&["health", &ground.name()]).stdout;
    assert!(
        health.contains("readiness: once its files are there and its startup script has ended: healthy"),
        "{health}"
    );

    // They are the agent's own to change, and anew at each start.
    ground.exec("echo changed > /data/deep/settings.json");
    ground.chassis.ok(&["restart", &ground.name()]);
    assert_eq!(ground.exec("cat /data/runs /data/deep/settings.json"), "said\nsaid\n{\"depth\": 3}");

    // Neither is in what Docker shows.
    let container = format!("chassis-{}-a-1", ground.fleet);
    let shown = ground.chassis.docker().inspect(&container).expect("a container").to_string();
    assert!(!shown.contains("s3cr3t") && !shown.contains("depth"), "{shown}");
}

#[test]
fn an_agent_whose_script_fails_is_not_started() {
    let ground = Ground::new();
    let agent = "command: [sh, -c, 'echo the agent runs; sleep 1000']\n";
    let refused = ground.deploy(&format!("startup: {{script: 'echo no such thing; exit 3'}}\n{agent}"));
    refused.exits(1).says(&["79"]);
    assert_eq!(ground.chassis.instance(&ground.name()).instance.phase, Phase::Backoff);
    let printed = ground.printed("exit code 3");
    assert!(printed.contains("no such thing"), "{printed}");
    assert!(!printed.contains("the agent runs"), "{printed}");

    // With all that it began.
    let slow = format!(
        "restart_policy: never\nstartup: {{script: 'sleep 86391 & sleep 86392', timeout: 1s}}\n{agent}"
    );
    ground.deploy(&slow).exits(1);
    ground.printed("the startup script took longer than 1 s");
    let running =
        std::process::Command::new("pgrep").args(["-f", "^sleep 8639[12]$"]).output().expect("pgrep");
    assert_eq!(String::from_utf8_lossy(&running.stdout), "");

    ground.deploy(&format!("startup: {{script: 'true'}}\n{agent}")).exits(0);
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is_changed() {
    let ground = Ground::new();
    let agent = "command: [sleep, '1000']\n";
    ground.deploy(&format!("files: [{{path: /etc/settings, content: x}}]\n{agent}")).exits(1).says(&[
        "agent.yaml:5:16",
        "read-only",
        "writableRoot",
    ]);
    ground
        .deploy(&format!("files: [{{path: /tmpfs/x, secret: 'secret://{}/none'}}]\n{agent}", ground.fleet))
        .exits(1)
        .says(&["none"]);
    assert!(ground.chassis.instances().is_empty());

    // A root that is open belongs to root.
    let yaml =
        format!("security: {{writableRoot: true}}\nfiles: [{{path: /etc/settings, content: x}}]\n{agent}");
    ground.deploy(&yaml).exits(1);
    ground.printed("cannot write the file /etc/settings as user 64646");
    ground.deploy(&format!("user: root\n{yaml}")).exits(0);
    assert_eq!(ground.exec("cat /etc/settings"), "x");
}

#[test]
fn an_agent_may_do_nothing_by_itself() {
    let ground = Ground::new();
    ground.deploy("command: [/.chassis/chassis-init, idle]\n").exits(0);
    assert_eq!(ground.exec("echo here"), "here\n");
    let began = Instant::now();
    ground.chassis.ok(&["stop", &ground.name()]);
    assert!(began.elapsed().as_secs() < 10, "it ends at once when it is asked to");
}
