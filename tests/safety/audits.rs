//! `chassis audit` tells what a container really is, and which line of YAML opened what.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chassis_testkit::api::{AuditVerdict, Finding, InstanceAudit};
use chassis_testkit::{Chassis, SOON, Turn, eventually, expect};
use serde_json::json;

use crate::{BINARY, Ground};

const SLEEP: &str = "exec sleep 99999";

/// The findings about one instance, by item.
fn findings(chassis: &Chassis, name: &str) -> BTreeMap<String, Finding> {
    let mut audits: Vec<InstanceAudit> = chassis.run(&["audit", name, "-o", "json"]).json();
    assert_eq!(audits.len(), 1, "{audits:?}");
    let audit = audits.remove(0);
    assert_eq!(audit.skipped, None);
    audit.findings.into_iter().map(|finding| (finding.item.clone(), finding)).collect()
}

#[test]
fn what_is_deployed_without_a_line_about_security_passes() {
    let _turn = Turn::take_documented_fleets();
    let chassis = Chassis::new(BINARY);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let images = std::process::Command::new(examples.join("images.sh"))
        .current_dir(examples.join(".."))
        .output()
        .expect("the script runs");
    assert!(images.status.success(), "{}", String::from_utf8_lossy(&images.stderr));
    chassis.run(&["audit"]).exits(0).says(&["nothing was audited"]);
    let mut agents = 0;
    for example in [
        "heartbeat.yaml",
        "web.yaml",
        "crash-loop.yaml",
        "secret-file.yaml",
        "collector/collector-agent.yaml",
        "fleet.yaml",
    ] {
        let path = examples.join(example).display().to_string();
        let text = fs::read_to_string(&path).expect("an example");
        for fleet in ["bots", "collector", "watch"] {
            chassis.run(&["create", "fleet", fleet]);
        }
        chassis.write("value.txt", "hush");
        for secret in text.match_indices("secret://").map(|(at, _)| &text[at + "secret://".len()..]) {
            let name = secret.split_whitespace().next().expect("a name");
            chassis.ok(&["secret", "create", name, "--from-file", "value.txt", "--replace"]);
        }
        if example.starts_with("fleet") {
            chassis.ok(&["apply", "-f", &path]);
        } else {
            let fleet = if text.contains("fleet: bots") { "bots" } else { "collector" };
            // One of them crashes on purpose, and has a container all the same.
            chassis.ok(&["deploy", "agent", "--fleet", fleet, "--replicas", "1", "--no-wait", "-f", &path]);
        }
    }
    eventually(SOON, || {
        let instances = chassis.instances();
        agents = instances.len();
        let waiting = instances.iter().find(|instance| instance.container_id.is_none());
        expect(waiting.is_none(), || format!("no container yet: {waiting:?}"))
    });
    chassis.ok(&["audit"]).says(&["every item that applies passes"]);
    let audits: Vec<InstanceAudit> = chassis.ok(&["audit", "-o", "json"]).json();
    assert!(agents >= 7 && audits.len() == agents, "{} of {agents}", audits.len());
    for audit in &audits {
        // 4.1, all of section 5, and one of our own.
        assert_eq!(audit.findings.len(), 34, "{audit:?}");
        for finding in &audit.findings {
            let reason = finding.verdict != AuditVerdict::NotApplicable || finding.why.is_some();
            assert!(!finding.verdict.is_open() && reason, "{finding:?}");
        }
        let passed = audit.findings.iter().filter(|finding| finding.verdict == AuditVerdict::Pass).count();
        assert!(passed >= 28, "{audit:?}");
    }
    chassis.ok(&["audit", "--all", "-o", "wide"]).shows(&["5.32", "Docker socket", "not applicable"]);
    assert_eq!(chassis.ok(&["audit", "-o", "name"]).stdout, "");
}

/// A line of YAML, the item that it opens, and how the audit names it.
const OPENED: [(&str, &str, &str); 14] = [
    ("user: root", "4.1", "user: root"),
    ("security: {writableRoot: true}", "5.13", "security.writableRoot: true"),
    ("security: {capabilities: [NET_RAW, CHOWN]}", "5.4", "security.capabilities: ["),
    ("security: {seccomp: unconfined}", "5.22", "security.seccomp: unconfined"),
    ("security: {hostNetwork: true}", "5.10", "security.hostNetwork: true"),
    ("security: {hostPid: true}", "5.16", "security.hostPid: true"),
    ("security: {hostIpc: true}", "5.17", "security.hostIpc: true"),
    ("security: {userns: host}", "5.31", "security.userns: host"),
    ("ports: [{containerPort: 80, hostPort: 28471, hostIp: 0.0.0.0}]", "5.14", "ports: hostPort 28471"),
    ("ports: [{containerPort: 80, hostPort: 947}]", "5.8", "ports: hostPort 947"),
    (
        "volumes: [{name: all, mountPath: /host, hostPath: /etc, readOnly: true}]",
        "5.6",
        "volumes.all.hostPath: /etc",
    ),
    (
        "volumes: [{name: way, mountPath: /sock, hostPath: /run/docker.sock, readOnly: true}]",
        "5.32",
        "volumes.way.hostPath: /run/docker.sock",
    ),
    ("volumes: [{name: out, mountPath: /out, hostPath: SHARED}]", "C.1", "volumes.out.hostPath: "),
    ("security: {privileged: true}", "5.5", "security.privileged: true"),
];

#[test]
fn the_line_that_opened_something_is_named() {
    let ground = Ground::new();
    let chassis = &ground.chassis;
    let shared = chassis.home().join("shared");
    fs::create_dir(&shared).expect("a directory");
    let shared = shared.display().to_string();
    let words = "privileged,host-network,host-pid,host-ipc,unconfined,all-capabilities,host-userns";
    let paths =
        ["--allow-host-path", "/etc", "--allow-host-path", "/run/docker.sock", "--allow-host-path", &shared];
    let _server = chassis.serve_with(&[&["--allow", words], &paths[..]].concat(), &[]);
    chassis.ok(&["create", "fleet", &ground.fleet]);
    for (index, (yaml, item, line)) in OPENED.into_iter().enumerate() {
        let agent = format!("agent-{index}");
        let name = format!("{}/{agent}-1", ground.fleet);
        let yaml = yaml.replace("SHARED", &shared) + "\n";
        let path = chassis.write("agent.yaml", &ground.yaml(&agent, SLEEP, &yaml)).display().to_string();
        if yaml.contains("privileged: true") {
            // Where the tests run, Docker may lack a capability and cannot start it: what is created is audited.
            chassis.ok(&["deploy", "agent", "--no-wait", "-f", &path]);
            eventually(SOON, || {
                let created = chassis.instance(&name).instance.container_id.is_some();
                expect(created, || "there is no container yet".to_owned())
            });
        } else {
            chassis.ok(&["deploy", "agent", "-f", &path]);
        }
        let outcome = chassis.run(&["audit", &name]).exits(1);
        outcome.shows(&[item, "opened by the YAML", line]);
        let findings = findings(chassis, &name);
        let found = &findings[item];
        assert_eq!(found.verdict, AuditVerdict::Opened, "{yaml}: {found:?}");
        for other in findings.values() {
            let differs = matches!(other.verdict, AuditVerdict::Differs | AuditVerdict::Fail);
            assert!(!differs, "{yaml}: {other:?}");
        }
        chassis.run(&["audit", &name, "-o", "name"]).exits(1).shows(&[&name]);
    }
}

#[test]
fn what_was_changed_by_hand_is_found() {
    let ground = Ground::new();
    let chassis = &ground.chassis;
    chassis.ok(&["create", "fleet", &ground.fleet]);
    ground.deploy("changed", SLEEP, "").exits(0);
    let (name, container) =
        (format!("{}/changed-1", ground.fleet), format!("chassis-{}-changed-1", ground.fleet));
    chassis.ok(&["audit", &name]);
    let docker = chassis.docker();
    docker.update(&container, &json!({ "RestartPolicy": { "Name": "always" }, "CpuShares": 7 }));
    docker.connect("bridge", &container);
    let outcome = chassis.run(&["audit", &name]).exits(1);
    outcome.shows(&["5.15", "differs from the YAML", "always", "5.12", "5.30", "bridge"]);
    let found = findings(chassis, &name);
    for item in ["5.12", "5.15", "5.30"] {
        assert_eq!(found[item].verdict, AuditVerdict::Differs, "{:?}", found[item]);
    }
    // What runs as root beside the agent, while it does.
    docker.exec_as(&container, "0:0", &["sleep", "99999"]);
    eventually(SOON, || {
        let verdict = findings(chassis, &name)["5.24"].verdict;
        expect(verdict == AuditVerdict::Differs, || format!("{verdict:?}"))
    });
    // Removed, it is made anew as its YAML says.
    docker.remove(&container);
    eventually(SOON, || {
        let outcome = chassis.run(&["audit", &name]);
        expect(outcome.code == 0 && outcome.stderr.contains("every item"), || outcome.stderr)
    });
}
